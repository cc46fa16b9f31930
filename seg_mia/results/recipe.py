"""Result of a recipe's audit by one attack, with each network of a fleet in turn the victim."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

import numpy as np
from pydantic import Field
from scipy import stats

from seg_mia.errors import InputError
from seg_mia.membership.fleet.audit import AlteredAudit, RecipeAudit
from seg_mia.membership.fleet.controls import Controls
from seg_mia.membership.fleet.decisions import Rate
from seg_mia.membership.intervals import Interval
from seg_mia.results.base import Measure, Number, Result
from seg_mia.results.membership import Sampling
from seg_mia.results.privacy import DPGuarantee, EpsilonLowerBound
from seg_mia.results.rates import RecipeRate, RecipeRates, rate_at, rate_of
from seg_mia.results.recipe_risk import RecipeRisk, measure_of, recipe_risk


class FewerNetworks(Protocol):
    """An attack with fewer networks than the fleet has, such as a point of `network_curve`."""

    @property
    def references(self) -> int:
        """Number of the attacker's networks."""

    @property
    def auc(self) -> Interval:
        """AUC over all decisions."""

    @property
    def rate(self) -> Rate:
        """TPR at 1 % FPR."""


class RecipeRoc(Result):
    """Points of the ROC over all decisions, by rising rates; none is interpolated."""

    fpr: list[float]
    tpr: list[float]


class NetworkPoint(Result):
    """An attack with a number of the attacker's networks.

    Attributes:
        references: number of networks.
        auc: over all decisions.
        tpr: at 1 % FPR, one threshold.
    """

    references: int
    auc: Measure
    tpr: Measure


class AlteredSamples(Result):
    """An attack on a recipe, evaluated on altered samples alone (`seg_mia.data.altered`).

    Attributes:
        samples: number of altered samples.
        auc: over all decisions on them.
        rates: at one threshold, chosen on these decisions.
    """

    samples: int
    auc: Measure
    rates: list[RecipeRate]


class RecipeControls(Result):
    """An attack on a recipe where nothing is to be found: its AUC must be 0.5.

    Attributes:
        permuted: with the memberships exchanged between patients at random.
        members: on members of each network alone, divided by the membership in another one; None with too
            few networks.
        untrained: with an untrained network in place of each network; None in files of an earlier version,
            or where untrained networks cannot be built or answer all samples alike.
    """

    permuted: Measure
    members: Measure | None
    untrained: Measure | None = None

    @property
    def given(self) -> list[Measure]:
        """Those there are."""
        return [measure for measure in (self.permuted, self.members, self.untrained) if measure is not None]


class RecipeResult(Result):
    """One attack on a recipe: each network of a fleet in turn the victim, others the attacker's.

    Attributes:
        kind: of result.
        row: row of the comparison.
        defence: name of the recipe in tables.
        name: name of the attack.
        label: its name in tables.
        sampling: `online` if the attacker's networks may be trained on the evaluated patients, `offline` if
            only those without a patient count for it; None if they only give the threshold.
        attacker_knowledge: the victim's outputs that the attacker sees.
        networks: number of networks.
        references: number of the attacker's networks for each victim.
        patients: number of patients.
        samples: number of samples.
        members: number of decisions on patients in the victim's training.
        nonmembers: number of decisions on others.
        utility: mean measures of the networks on `members` and `nonmembers`, by name.
        auc: over all decisions; valid for these networks, by patient.
        p_value: of an AUC of 0.5 or less.
        network_aucs: AUC of each network.
        roc: over all decisions.
        rates: at low false positive rates.
        risk: by patient.
        curve: the same attack with fewer networks, by rising number.
        altered: the attack on altered samples alone, if there are any.
        controls: the attack where nothing is to be found; None in files of an earlier version.
        folder: folder of its files, empty without.
        privacy: what each training promises, the weakest of them; None without a promise.
        many_runs: the epsilon that the networks prove for the patient who is told apart best, under replacing
            one unit; None without a promise, and in files of an earlier version.
    """

    kind: Literal["recipe"] = "recipe"
    row: int = 0
    defence: str
    name: str
    label: str
    sampling: Sampling | None
    attacker_knowledge: str
    networks: int
    references: int
    patients: int
    samples: int
    members: int
    nonmembers: int
    utility: dict[str, dict[str, Number]]
    auc: Measure
    p_value: float
    network_aucs: list[float]
    roc: RecipeRoc
    rates: RecipeRates
    risk: RecipeRisk
    curve: list[NetworkPoint] = Field(default_factory=list)
    altered: AlteredSamples | None = None
    controls: RecipeControls | None = None
    folder: str = ""
    privacy: DPGuarantee | None = None
    many_runs: EpsilonLowerBound | None = None

    @property
    def tpr_at_1(self) -> Measure:
        """TPR at 1 % FPR, one threshold."""
        rate = rate_at(self.rates.pooled, 0.01)
        return Measure(None, resolvable=False) if rate is None else rate.tpr

    def dice(self, subset: str) -> float | None:
        """Return the mean Dice of the networks on `members` or `nonmembers`."""
        return self.utility.get(subset, {}).get("dice")


def recipe_result(
    audit: RecipeAudit,
    *,
    name: str,
    sampling: Sampling | None,
    attacker_knowledge: str,
    ids: Sequence[str],
    label: str = "",
    row: int = 0,
    defence: str = "none",
    utility: Mapping[str, Mapping[str, float]] | None = None,
    curve: Sequence[FewerNetworks] = (),
    folder: str = "",
    resolution: float = 0.0,
    privacy: DPGuarantee | None = None,
    many_runs: EpsilonLowerBound | None = None,
) -> RecipeResult:
    """Return the result of an audit of a recipe.

    Args:
        audit: the audit.
        name: name of the attack, such as `mia-lira`.
        sampling: whether the attacker's networks may be trained on the evaluated patients; None if they only
            give the threshold.
        attacker_knowledge: the outputs that the attacker sees, such as "probabilities and true mask".
        ids: salted hash of each of `audit.patients`, such as of `seg_mia.data.fingerprint.hashed`.
        label: name in tables, `name` if empty.
        row: row of the comparison.
        defence: name of the recipe in tables.
        utility: mean measures of the networks on `members` and `nonmembers`, by name, such as `dice`.
        curve: the same attack with fewer networks, of `network_curve`.
        folder: folder of its files.
        resolution: lowest false positive rate that the values of the scores resolve.
        privacy: what each training promises.
        many_runs: the epsilon that the networks prove.

    Raises:
        InputError: a number of ids other than of patients, or an id that is a patient's name.
    """
    return RecipeResult(
        row=row,
        defence=defence,
        name=name,
        label=label or name,
        sampling=sampling,
        attacker_knowledge=attacker_knowledge,
        utility={subset: dict(measures) for subset, measures in (utility or {}).items()},
        curve=[_point(point, resolution) for point in curve],
        folder=folder,
        privacy=privacy,
        many_runs=many_runs,
        **_findings(audit, ids, resolution),
    )


def _findings(audit: RecipeAudit, ids: Sequence[str], resolution: float) -> dict[str, Any]:
    """Return the fields of a `RecipeResult` that its audit gives."""
    if len(ids) != len(audit.patients) or set(ids) & set(audit.patients):
        raise InputError(
            f"ids must be a salted hash of each of {len(audit.patients)} patients, got {len(ids)}, of which "
            f"{len(set(ids) & set(audit.patients))} are patients' names; take seg_mia.data.fingerprint.hashed"
        )
    return {
        "networks": audit.networks,
        "references": audit.references,
        "patients": len(audit.patients),
        "samples": audit.samples,
        "members": audit.members,
        "nonmembers": audit.nonmembers,
        "auc": measure_of(audit.auc),
        "p_value": auc_p_value(audit.auc, len(audit.patients)),
        "network_aucs": audit.target_aucs.tolist(),
        "roc": RecipeRoc(fpr=audit.roc.fpr.tolist(), tpr=audit.roc.tpr.tolist()),
        "rates": RecipeRates(
            pooled=[rate_of(rate, resolution) for rate in audit.pooled],
            calibrated=[rate_of(rate, resolution) for rate in audit.calibrated],
            transferred=[rate_of(rate, resolution) for rate in audit.transferred],
        ),
        "risk": recipe_risk(audit, ids),
        "altered": None if audit.altered is None else _altered(audit.altered, resolution),
        "controls": None if audit.controls is None else _controls(audit.controls),
    }


def without_ids(result: RecipeResult) -> RecipeResult:
    """Return a result without the most exposed patients."""
    return result.model_copy(update={"risk": result.risk.model_copy(update={"exposed": []})})


def auc_p_value(auc: Interval, patients: int) -> float:
    """Return the one-sided p-value of an AUC of 0.5 or less, from the 95 % interval of `pooled_auc`.

    The interval is one of Student's t on the logit scale, and so is the test. A perfect AUC, whose interval
    is that of Clopper and Pearson, has 0.5 to the power of the number of patients.

    Args:
        auc: the AUC and its 95 % interval.
        patients: number of patients, 2 or more.
    """
    if auc.value in {0.0, 1.0} or auc.low == auc.high:
        return 0.5**patients if auc.value == 1 else 1.0
    middle, low, high = (np.log(value / (1 - value)) for value in (auc.value, auc.low, auc.high))
    error = (high - low) / (2 * stats.t.isf(0.025, patients - 1))
    return float(stats.t.sf(middle / error, patients - 1))


def _altered(audit: AlteredAudit, resolution: float) -> AlteredSamples:
    rates = [rate_of(rate, resolution) for rate in audit.pooled]
    return AlteredSamples(samples=audit.samples, auc=measure_of(audit.auc), rates=rates)


def _controls(controls: Controls) -> RecipeControls:
    members, untrained = (
        None if found is None else measure_of(found) for found in (controls.members, controls.untrained)
    )
    return RecipeControls(permuted=measure_of(controls.permuted), members=members, untrained=untrained)


def _point(point: FewerNetworks, resolution: float) -> NetworkPoint:
    rate = rate_of(point.rate, resolution)
    return NetworkPoint(
        references=point.references,
        auc=measure_of(point.auc),
        tpr=rate.tpr,
    )
