"""Complete audit of a recipe by a fleet and one attack."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from seg_mia.errors import InputError
from seg_mia.membership.fleet.arrays import (
    Inside,
    Numbers,
    Values,
    check_fleet,
    informative,
    pair_folds,
    prepared,
    standardised,
)
from seg_mia.membership.fleet.columns import patient_labels
from seg_mia.membership.fleet.controls import Controls, recipe_controls
from seg_mia.membership.fleet.decisions import FPRS, Rate
from seg_mia.membership.fleet.discriminant import weighed
from seg_mia.membership.fleet.recipe import (
    attacked,
    by_patient,
    calibrated_rates,
    pooled_auc,
    pooled_rates,
    pooled_roc,
    transferred_rates,
)
from seg_mia.membership.fleet.risk import PatientRisk, Subgroup, patient_auc, patient_risk, subgroups
from seg_mia.membership.fleet.scoring import FleetAttack
from seg_mia.membership.fleet.stability import Stability, network_halves, stability
from seg_mia.membership.intervals import Interval
from seg_mia.membership.roc import Roc, auc


@dataclass(frozen=True, kw_only=True)
class Decisions:
    """Decisions of an attack on patients, with each network of a fleet in turn as target.

    Attributes:
        networks: number of networks.
        references: number of the attacker's networks for each target, the smallest.
        members: number of decisions on patients inside the target.
        nonmembers: number of decisions on others.
        auc: over all decisions, clustered by patient.
        target_aucs: AUC of each network, (networks,).
        roc: over all decisions, thinned.
        pooled: rates at one threshold, chosen on the evaluated decisions.
        calibrated: rates at a threshold for each patient; empty where no patient has two references without.
        transferred: rates at thresholds from other networks.
    """

    networks: int
    references: int
    members: int
    nonmembers: int
    auc: Interval
    target_aucs: Values
    roc: Roc
    pooled: Sequence[Rate]
    calibrated: Sequence[Rate]
    transferred: Sequence[Rate]


@dataclass(frozen=True, kw_only=True)
class RecipeAudit(Decisions):
    """Results of an attack on a recipe: its decisions, and the risk of each patient.

    Attributes:
        patients: names of the patients, sorted.
        samples: number of samples.
        risk: risk of each patient, by the attack's signals.
        stability: stability of the patients' AUCs over two halves of the fleet; None with too few networks.
        subgroups: risk of the subgroups, by column.
        altered: the attack on altered samples alone, if there are any.
        controls: the attack where nothing is to be found.
    """

    patients: Sequence[str]
    samples: int
    risk: PatientRisk
    stability: Stability | None
    subgroups: Mapping[str, Sequence[Subgroup]]
    altered: "AlteredAudit | None" = None
    controls: Controls | None = None


@dataclass(frozen=True)
class AlteredAudit:
    """Results of an attack on altered samples, by the same scores.

    Attributes:
        samples: number of altered samples.
        auc: over all decisions on them, clustered by patient.
        pooled: rates at one threshold, chosen on these decisions.
    """

    samples: int
    auc: Interval
    pooled: Sequence[Rate]


def recipe_audit(
    signals: Numbers,
    inside: Inside,
    groups: Sequence[str] | NDArray[np.str_],
    attack: FleetAttack,
    *,
    standardise: bool = True,
    columns: Mapping[str, Sequence[str]] | None = None,
    altered: Inside | None = None,
    initial: Numbers | None = None,
    fprs: Sequence[float] = FPRS,
    resamples: int = 1000,
    permutations: int = 200,
    seed: int = 0,
) -> RecipeAudit:
    """Return the results of an attack by patient, with each network in turn as target.

    Signals are standardised per network and then averaged over a patient's samples. The risk of a patient is
    that of the attack's signal, not of its scores: standardised in any case, several as one (`weighed`).

    Args:
        signals: higher for members, (networks, n) or (networks, n, signals).
        inside: bool (networks, n).
        groups: patient of each sample, (n,).
        attack: function from a target, references and their members to scores, such as `lira_online`.
        standardise: whether to remove each network's level and scale (`standardised`); likelihoods (`base`,
            `rmia`) are used unchanged.
        columns: columns of the manifest that divide patients into subgroups, such as the site: value of each
            sample, (n,) each (`patient_labels`).
        altered: samples that are also evaluated alone, one by one instead of by patient, bool (n,).
        initial: signals of the networks before their first training step, of the same shape, for a negative
            control (`seg_mia.membership.fleet.controls.untrained_control`).
        fprs: nominal false positive rates, in [0, 1].
        resamples: number of bootstrap resamples.
        permutations: permutations for the null band of the survival curve.
        seed: seed of both.

    Raises:
        InputError: incompatible shapes, values that are not finite, a patient partly inside a network, too
            few networks.
    """
    varying = informative(check_fleet(signals, inside)) if signals.ndim == 3 else None
    values = prepared(signals, inside, standardise=standardise, varying=varying)
    units, members, names = by_patient(values, inside, groups)
    decisions = _decisions(units, members, attack, fprs=fprs, resamples=resamples, seed=seed)
    compared = _compared(
        units if standardise else by_patient(standardised(values), inside, groups)[0], members
    )
    risk = patient_risk(compared, members, permutations=permutations, seed=seed)
    untrained = None if initial is None else _untrained(initial, inside, groups, varying, standardise)
    return RecipeAudit(
        **vars(decisions),
        patients=names,
        samples=len(groups),
        risk=risk,
        stability=_stability(compared, members),
        subgroups=_subgroups(risk, columns or {}, groups, seed),
        altered=None if altered is None else _altered(values, inside, attack, altered, fprs),
        controls=recipe_controls(units, members, attack, initial=untrained, seed=seed),
    )


def _decisions(
    units: Values, members: Inside, attack: FleetAttack, *, fprs: Sequence[float], resamples: int, seed: int
) -> Decisions:
    """Return the decisions on patients, from their signals and memberships."""
    folds = pair_folds(members)
    scores = attacked(units, members, attack, folds)
    calibrates = all(((~members[folds != fold]).sum(axis=0) > 1).any() for fold in np.unique(folds))
    return Decisions(
        networks=len(members),
        references=len(members) - int(np.bincount(folds).max()),
        members=int(members.sum()),
        nonmembers=int((~members).sum()),
        auc=pooled_auc(scores, members),
        target_aucs=np.array([auc(row, inner) for row, inner in zip(scores, members, strict=True)]),
        roc=pooled_roc(scores, members),
        pooled=pooled_rates(scores, members, fprs=fprs, resamples=resamples, seed=seed),
        calibrated=calibrated_rates(scores, members, folds, fprs=fprs) if calibrates else [],
        transferred=transferred_rates(scores, members, folds, fprs=fprs),
    )


def _compared(standard: Values, members: Inside) -> Values:
    """Return the signal whose risk is a patient's, (networks, patients): several standardised ones as one.

    In simulated fleets it finds more exposed patients than out-of-sample scores of the attack, and no more
    others (benchmarks/patient_risk.py).
    """
    return weighed(standard, members) if standard.ndim == 3 else standard


def _subgroups(
    risk: PatientRisk,
    columns: Mapping[str, Sequence[str]],
    groups: Sequence[str] | NDArray[np.str_],
    seed: int,
) -> dict[str, Sequence[Subgroup]]:
    """Return the risk of the subgroups of each column."""
    return {
        name: subgroups(risk.auc, patient_labels(name, labels, groups), seed=seed)
        for name, labels in columns.items()
    }


def _untrained(
    initial: Numbers,
    inside: Inside,
    groups: Sequence[str] | NDArray[np.str_],
    varying: Inside | None,
    standardise: bool,
) -> Values | None:
    """Return the signals of untrained networks by patient, prepared as those of the fleet.

    None where an untrained network gives no finite signals, or gives all samples the same, as labels may be.
    """
    try:
        values = prepared(initial, inside, standardise=standardise, varying=varying)
        return by_patient(values, inside, groups)[0]
    except InputError:
        return None


def _altered(
    values: Values, inside: Inside, attack: FleetAttack, altered: Inside, fprs: Sequence[float]
) -> AlteredAudit | None:
    """Return the results on single altered samples; None with fewer than two."""
    if altered.sum() < 2:
        return None
    scores, members = attacked(values, inside, attack)[:, altered], inside[:, altered]
    return AlteredAudit(
        int(altered.sum()), pooled_auc(scores, members), pooled_rates(scores, members, fprs=fprs)
    )


def _stability(scores: Values, members: Inside) -> Stability | None:
    """Return the stability over two halves of a fleet; None if a half lacks networks with each patient."""
    parts = network_halves(members)
    if any(not (members[part].any(axis=0) & ~members[part].all(axis=0)).all() for part in parts):
        return None
    first, second = (patient_auc(scores[part], members[part])[0] for part in parts)
    return stability(first, second)
