"""Lower bound on epsilon from many trainings of one recipe, for the patient who is told apart best.

Each network of a fleet was trained with a patient or without, by a random draw of ours, and networks of
different pairs are independent trainings. The rates at which one fixed rule finds one fixed patient are thus
binomial: unlike in audits of one training nothing is assumed of the samples (Jagielski, Ullman, Oprea 2020;
Nasr et al. 2021). Patient and threshold are chosen on a third of the pairs and judged on the others.

Where all networks have equally many members of one size (`exchangeable`), one without the patient has another
one instead: the bound is on epsilon under replacing one unit, not under adding or removing one.
"""

import math
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy import special

from seg_mia.errors import InputError
from seg_mia.membership.certify import Certified, clopper_pearson
from seg_mia.membership.fleet.arrays import Inside, Numbers, Values, check_fleet, pair_folds
from seg_mia.membership.tradeoff import gaussian_epsilon

CHOOSING = 3
"""One pair of networks in this many chooses patient and threshold."""


def many_runs_bound(
    signals: Numbers,
    inside: Inside,
    *,
    delta: float,
    gaussian: bool,
    confidence: float = 0.95,
    seed: int = 0,
) -> Certified:
    """Return the epsilon at `delta` that the networks of a fleet prove for its most exposed patient.

    Of a third of the pairs of networks, at least one, the patient is taken whose signal differs most between
    networks with and without, and the threshold in the middle. On the other pairs both rates have
    Clopper-Pearson bounds that hold together. They give log((TPR - delta) / FPR), or the same of the errors,
    or for a Gaussian mechanism mu = Phi^-1(TPR) - Phi^-1(FPR), and epsilon by mu.

    Args:
        signals: one per network and patient, higher for members, (networks, patients); each a function of its
            network alone, such as from `standardised`.
        inside: bool (networks, patients), drawn at random in pairs of complements.
        delta: at which epsilon is bounded, in (0, 1).
        gaussian: whether every step uses all units with Gaussian noise.
        confidence: in (0, 1).
        seed: of the draw of the choosing pairs; choosing it by the result is invalid.

    Raises:
        InputError: errors of `check_fleet` and `pair_folds`, delta or confidence out of range, no network
            with or without the chosen patient.
    """
    values = check_fleet(signals, inside)
    if values.ndim != 2 or not (0 < delta < 1 and 0 < confidence < 1):
        raise InputError(
            "signals must be (networks, patients), delta and confidence between 0 and 1, got "
            f"{values.shape}, {delta} and {confidence}; 1e-5 and 0.95 are usual"
        )
    pair = pair_folds(inside)
    order = np.random.default_rng(seed).permutation(int(pair.max()) + 1)
    chooses = np.isin(pair, order[: max(1, len(order) // CHOOSING)])
    patient, threshold = _most_exposed(values[chooses], inside[chooses])
    called, member = values[~chooses, patient] >= threshold, inside[~chooses, patient]
    counts = int((called & member).sum()), int((called & ~member).sum())
    within, without = int(member.sum()), int((~member).sum())
    if min(within, without) < 1:
        raise InputError(
            f"the bound needs networks with and without the patient, got {within} and {without}; train more"
        )
    proved = partial(
        _proved, within=within, without=without, delta=delta, gaussian=gaussian, confidence=confidence
    )
    return Certified(
        epsilon=proved(*counts),
        attainable=proved(within, 0),
        confidence=confidence,
        members=within,
        nonmembers=without,
        rule="gaussian_many_runs" if gaussian else "many_runs",
        threshold=threshold,
    )


def exchangeable(inside: Inside, groups: NDArray[np.str_]) -> bool:
    """Return whether networks with a patient differ from those without by an exchange of two patients.

    Halves are drawn until they have half of the samples: with patients of unequal size a half with a large
    one has fewer patients, and an odd number of patients gives halves of two sizes. Such networks differ by
    more than one patient, and nothing follows for the promise under replacing one.

    Args:
        inside: bool (networks, n).
        groups: patient of each sample, (n,).
    """
    _, first, sizes = np.unique(groups, return_index=True, return_counts=True)
    members = inside[:, first].sum(axis=1)
    return len(set(sizes.tolist())) == 1 and len(set(members.tolist())) == 1


def _most_exposed(values: Values, inside: Inside) -> tuple[int, float]:
    """Return the patient whose signals differ most by membership, over their spread, and the middle."""
    means, spreads = list[Values](), list[Values]()
    for side in (inside, ~inside):
        count = np.maximum(side.sum(axis=0), 1)
        mean = np.where(side, values, 0.0).sum(axis=0) / count
        means.append(np.where(side.any(axis=0), mean, np.nan))
        spreads.append(np.where(side, (values - mean) ** 2, 0.0).sum(axis=0) / count)
    spread = spreads[0] + spreads[1]
    effect = (means[0] - means[1]) / np.sqrt(spread + float(spread.mean()) + 1e-12)
    if np.isnan(effect).all():
        raise InputError("no patient is inside one and outside another of the choosing networks; train more")
    patient = int(np.nanargmax(effect))
    return patient, float((means[0][patient] + means[1][patient]) / 2)


def _proved(
    true: int, false: int, *, within: int, without: int, delta: float, gaussian: bool, confidence: float
) -> float:
    """Return the epsilon that true and false positives prove, of so many networks with and without."""
    level = (1 - confidence) / 2
    low = clopper_pearson(true, within, level=level)[0]
    high = clopper_pearson(false, without, level=level)[1]
    return _epsilon(low, high, delta, gaussian=gaussian)


def _epsilon(tpr: float, fpr: float, delta: float, *, gaussian: bool) -> float:
    """Return the epsilon that a TPR of at least and an FPR of at most these values prove, at least 0."""
    pairs: NDArray[np.float64] = np.array([[tpr - delta, fpr], [1 - fpr - delta, 1 - tpr]])
    known = [math.log(rate / other) for rate, other in pairs.tolist() if rate > 0 and other > 0]
    best = max(0.0, *known) if known else 0.0
    if gaussian and tpr > fpr:
        best = max(best, gaussian_epsilon(float(special.ndtri(tpr) - special.ndtri(fpr)), delta))
    return best
