"""Decisions about members at a threshold: their rates, with bounds, and what a positive is worth."""

from dataclasses import dataclass, replace

import numpy as np

from seg_mia.errors import InputError
from seg_mia.membership.fleet.arrays import Inside, Values
from seg_mia.membership.rates import ClusteredSample
from seg_mia.membership.roc import allowed_false_positives

PRIORS = (0.01, 0.1, 0.5)
FPRS = (0.1, 0.01, 0.001)


@dataclass(frozen=True)
class Rate:
    """A true positive rate at a nominal false positive rate.

    Attributes:
        fpr: nominal false positive rate.
        achieved_fpr: fraction of non-members called members.
        tpr: fraction of members called members.
        low: lower bound of the TPR, at 95 %; None if there is none.
        high: upper bound.
        achieved_low: lower bound of the achieved false positive rate, at 95 %; None at a threshold chosen on
            the evaluated decisions.
        achieved_high: upper bound.
        expected_false_positives: non-members times `fpr`.
        ppv: fraction of members among the positives, by prior; None without positives.
        chosen_on: number of the attacker's non-members that the threshold was chosen on, the fewest if there
            are several thresholds; None at one chosen on the evaluated decisions, or from a distribution.
    """

    fpr: float
    achieved_fpr: float
    tpr: float
    expected_false_positives: float
    ppv: dict[float, float | None]
    low: float | None = None
    high: float | None = None
    achieved_low: float | None = None
    achieved_high: float | None = None
    chosen_on: int | None = None

    @property
    def expected_choosing(self) -> float | None:
        """Expected false positives among the non-members that the threshold was chosen on."""
        return None if self.chosen_on is None else self.chosen_on * self.fpr

    @property
    def resolvable(self) -> bool:
        """Whether one false positive or more is expected where it is decided, and where that was chosen."""
        return self._fewest >= 1 - 1e-9

    @property
    def flagged(self) -> bool:
        """Whether fewer than five are expected in one of the two."""
        return self._fewest < 5 - 1e-9

    @property
    def _fewest(self) -> float:
        chosen = self.expected_choosing
        return self.expected_false_positives if chosen is None else min(self.expected_false_positives, chosen)


def threshold_at_fpr(scores: Values, inside: Inside, fpr: float) -> float:
    """Return the lowest threshold with FPR at most `fpr`, for the rule "score >= threshold".

    Args:
        scores: scores of networks with known members, any shape.
        inside: bool, the same shape.
        fpr: in [0, 1].

    Raises:
        InputError: no non-member, or fpr out of range.
    """
    descending = np.sort(scores[~inside])[::-1]
    if not len(descending) or not 0 <= fpr <= 1:
        raise InputError(
            f"a threshold needs non-members and an fpr in [0, 1], got {len(descending)} and {fpr}"
        )
    allowed = int(allowed_false_positives(len(descending), fpr))
    return float(np.nextafter(descending[allowed], np.inf)) if allowed < len(descending) else -np.inf


def ppv(tpr: float, fpr: float, prior: float) -> float | None:
    """Return the fraction of members among positives, pi TPR / (pi TPR + (1 - pi) FPR); None without any.

    Args:
        tpr: in [0, 1].
        fpr: achieved, in [0, 1].
        prior: pi, the fraction of members among the queried samples, in (0, 1).
    """
    positives = prior * tpr + (1 - prior) * fpr
    return prior * tpr / positives if positives > 0 else None


def rate(fpr: float, tpr: float, achieved: float, outside: int) -> Rate:
    """Return a `Rate` with its derived values; `outside` counts the decisions on non-members."""
    tpr, achieved = float(tpr), float(achieved)
    return Rate(
        fpr=fpr,
        achieved_fpr=achieved,
        tpr=tpr,
        expected_false_positives=outside * fpr,
        ppv={prior: ppv(tpr, achieved, prior) for prior in PRIORS},
    )


def decided_rate(fpr: float, called: Inside, inside: Inside) -> Rate:
    """Return the rates of decisions made at a nominal FPR, with bounds clustered by column.

    Args:
        fpr: nominal false positive rate.
        called: whether each target's sample is called a member, bool (networks, n).
        inside: bool (networks, n), with decisions on both sides.
    """
    column = np.broadcast_to(np.arange(inside.shape[1]), inside.shape)
    bounds = list[tuple[float, float]]()
    for side in (inside, ~inside):
        sample = ClusteredSample(np.zeros(int(side.sum())), column[side])
        bounds.append((sample.lower(called[side], 0.025), sample.upper(called[side], 0.025)))
    (low, high), (achieved_low, achieved_high) = bounds
    decided = rate(fpr, called[inside].mean(), called[~inside].mean(), int((~inside).sum()))
    return replace(decided, low=low, high=high, achieved_low=achieved_low, achieved_high=achieved_high)
