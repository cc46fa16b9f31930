"""All that a fleet shows of its recipe with one attack."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from seg_mia.membership.fleet.arrays import Inside, Numbers, Values, check_fleet, pair_folds, standardised
from seg_mia.membership.fleet.recipe import (
    FPRS,
    FleetAttack,
    Rate,
    attacked,
    by_patient,
    calibrated_rates,
    pooled_auc,
    pooled_rates,
    transferred_rates,
)
from seg_mia.membership.fleet.risk import (
    PatientRisk,
    Stability,
    network_halves,
    patient_auc,
    patient_risk,
    stability,
)
from seg_mia.membership.intervals import Interval
from seg_mia.membership.roc import auc

RISK_FOLDS = 2
"""Folds of an attack whose scores are compared by patient: half of the networks attack the others."""


@dataclass(frozen=True)
class RecipeAudit:
    """What an attack finds, each network of a fleet in turn the target; units are patients.

    Attributes:
        networks: how many there are.
        patients: their names, sorted.
        auc: over all decisions, by whole patients.
        target_aucs: of each network, (networks,).
        pooled: rates with one threshold, chosen on the decisions themselves.
        calibrated: rates with a threshold for each patient.
        transferred: rates with thresholds from other networks.
        risk: of each patient.
        stability: of the patients' AUCs over two halves of the fleet; None with too few networks.
    """

    networks: int
    patients: Sequence[str]
    auc: Interval
    target_aucs: Values
    pooled: Sequence[Rate]
    calibrated: Sequence[Rate]
    transferred: Sequence[Rate]
    risk: PatientRisk
    stability: Stability | None


def recipe_audit(
    signals: Numbers,
    inside: Inside,
    groups: Sequence[str] | NDArray[np.str_],
    attack: FleetAttack,
    *,
    standardise: bool = True,
    fprs: Sequence[float] = FPRS,
    resamples: int = 1000,
    permutations: int = 200,
    seed: int = 0,
) -> RecipeAudit:
    """Return what an attack finds by patient, each network in turn the target.

    Signals are standardised per network and then averaged over a patient's samples. A single signal is
    compared by patient as it is; several are by the attack's scores, fitted on the other half of the fleet.

    Args:
        signals: higher for members, (networks, n) or (networks, n, signals).
        inside: bool (networks, n).
        groups: the patient of each sample, (n,).
        attack: from a target, references and their members to scores, such as `lira_online`.
        standardise: whether to take each network's level and scale out (`standardised`); likelihoods
            (`base`, `rmia`) are taken as they are.
        fprs: nominal false positive rates, in [0, 1].
        resamples: of the bootstrap.
        permutations: for the null band of the survival curve.
        seed: of both.

    Raises:
        InputError: shapes that do not fit, values that are not finite, a patient partly inside a network, too
            few networks.
    """
    values = standardised(signals) if standardise else check_fleet(signals, inside)
    units, members, names = by_patient(values, inside, groups)
    folds = pair_folds(members)
    scores = attacked(units, members, attack, folds)
    compared, halves = units, None
    if units.ndim == 3:
        halves = pair_folds(members, RISK_FOLDS)
        compared = attacked(units, members, attack, halves)
    return RecipeAudit(
        networks=len(values),
        patients=names,
        auc=pooled_auc(scores, members),
        target_aucs=np.array([auc(row, inner) for row, inner in zip(scores, members, strict=True)]),
        pooled=pooled_rates(scores, members, fprs=fprs, resamples=resamples, seed=seed),
        calibrated=calibrated_rates(scores, members, folds, fprs=fprs),
        transferred=transferred_rates(scores, members, folds, fprs=fprs),
        risk=patient_risk(compared, members, halves, permutations=permutations, seed=seed),
        stability=_stability(compared, members),
    )


def _stability(scores: Values, members: Inside) -> Stability | None:
    """Return the stability over two halves of a fleet; None where a half lacks networks with each patient."""
    parts = network_halves(members)
    if any(not (members[part].any(axis=0) & ~members[part].all(axis=0)).all() for part in parts):
        return None
    first, second = (patient_auc(scores[part], members[part])[0] for part in parts)
    return stability(first, second)
