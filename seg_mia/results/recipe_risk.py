"""Risk of each patient of a recipe."""

from collections.abc import Sequence

from pydantic.dataclasses import dataclass

from seg_mia.membership.fleet.audit import RecipeAudit
from seg_mia.membership.fleet.risk import PatientRisk
from seg_mia.membership.intervals import Interval
from seg_mia.results.base import EXACT, Measure, Number, Result

SMALLEST = 5
"""Patients in the smallest subgroup that is reported: fewer could be recognised."""


class SurvivalCurve(Result):
    """Fraction of patients with at least a given AUC.

    Attributes:
        at: the AUCs.
        share: fraction of patients.
        low: lower end of the pointwise 95 % band of this fraction without leakage.
        high: upper end.
    """

    at: list[float]
    share: list[float]
    low: list[float]
    high: list[float]


@dataclass(frozen=True, config=EXACT)
class ExposedPatient:
    """A patient of the worst decile.

    Attributes:
        id: salted hash of the patient's name.
        rank: 1 for the highest AUC; ties share the mean.
        auc: probability that a network with the patient scores above one without; None with fewer than 16
            networks on either side.
        error: its standard error, None likewise.
    """

    id: str
    rank: float
    auc: Number
    error: Number


class RecipeStability(Result):
    """Agreement of two halves of the fleet.

    Attributes:
        spearman: rank correlation of the patients' AUCs.
        jaccard: Jaccard index of the most exposed twentieth of patients.
    """

    spearman: Number
    jaccard: float


class RecipeSubgroup(Result):
    """Risk of the patients with one value of a column.

    Attributes:
        column: the column, such as the site.
        value: its value.
        patients: number of patients.
        auc: mean AUC of these patients.
        difference: mean AUC minus that of all other patients.
    """

    column: str
    value: str
    patients: int
    auc: float
    difference: Measure


class RecipeRisk(Result):
    """Risk of each patient, by the signals of an attack: its scores are not comparable between networks.

    Attributes:
        numbered: number of patients with 16 networks or more on either side, enough for an AUC.
        significant: number of patients more exposed than by chance, Benjamini and Hochberg at 5 %.
        p_value: of no patient leaking, by Simes' test and by the mean AUC.
        survival: fractions of patients above each AUC, with their null band.
        worst_decile: mean AUC of the tenth of patients with the highest AUC, and what it is without leakage:
            the 95 % range is that of permuted memberships, not an interval of the value.
        worst_decile_null: the mean of that range.
        exposed: these patients; left out of a report without ids.
        stability: agreement of two halves of the fleet, None with too few networks.
        subgroups: subgroups of 5 patients or more.
    """

    numbered: int
    significant: int
    p_value: float
    survival: SurvivalCurve
    worst_decile: float
    worst_decile_null: Measure
    exposed: list[ExposedPatient]
    stability: RecipeStability | None
    subgroups: list[RecipeSubgroup]


def recipe_risk(audit: RecipeAudit, ids: Sequence[str]) -> RecipeRisk:
    """Return the risk of each patient in a recipe's audit; `ids` are hashes of `audit.patients`."""
    risk, steady = audit.risk, audit.stability
    return RecipeRisk(
        numbered=int(risk.numbered.sum()),
        significant=int(risk.significant.sum()),
        p_value=risk.leak_p_value,
        survival=SurvivalCurve(
            at=risk.survival.at.tolist(),
            share=risk.survival.share.tolist(),
            low=risk.survival.low.tolist(),
            high=risk.survival.high.tolist(),
        ),
        worst_decile=risk.worst_decile,
        worst_decile_null=measure_of(risk.worst_decile_null),
        exposed=_exposed(risk, ids),
        stability=None
        if steady is None
        else RecipeStability(spearman=steady.spearman, jaccard=steady.jaccard),
        subgroups=[
            RecipeSubgroup(
                column=column,
                value=group.value,
                patients=group.patients,
                auc=group.auc,
                difference=measure_of(group.difference),
            )
            for column, groups in audit.subgroups.items()
            for group in groups
            if group.patients >= SMALLEST
        ],
    )


def _exposed(risk: PatientRisk, ids: Sequence[str]) -> list[ExposedPatient]:
    """Return the patients of the worst decile, the most exposed first."""
    count = max(1, len(ids) // 10)
    chosen = sorted(range(len(ids)), key=lambda patient: (risk.rank[patient], ids[patient]))[:count]
    return [
        ExposedPatient(
            id=ids[patient],
            rank=float(risk.rank[patient]),
            auc=float(risk.auc[patient]) if risk.numbered[patient] else None,
            error=float(risk.error[patient]) if risk.numbered[patient] else None,
        )
        for patient in chosen
    ]


def measure_of(interval: Interval) -> Measure:
    """Return a value with its interval."""
    return Measure(interval.value, interval.low, interval.high)
