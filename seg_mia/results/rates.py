"""True positive rates at low false positive rates, by the origin of the threshold."""

from collections.abc import Sequence

from pydantic.dataclasses import dataclass

from seg_mia.membership.fleet.decisions import Rate
from seg_mia.membership.fleet.victim import VictimRates
from seg_mia.results.base import EXACT, Measure, Number, Result


@dataclass(frozen=True, config=EXACT)
class RecipeRate:
    """Rates at a nominal false positive rate, over all decisions.

    Attributes:
        fpr: nominal false positive rate.
        expected: expected number of false positives, decisions on non-members times `fpr`.
        resolvable: whether `expected` and `expected_choosing` are 1 or more, and the scores have values
            enough for such a rate.
        flagged: whether `expected` or `expected_choosing` is below 5, so that the rates are rough.
        achieved_fpr: fraction of non-members called members.
        tpr: fraction of members called members.
        ppv: fraction of members among those called members, by the fraction of members among the queried;
            None without a false positive, whose frequency is then unknown.
        expected_choosing: expected number among the attacker's non-members that the threshold was chosen on,
            the fewest if there are several thresholds; None at one chosen on these decisions, or from a
            distribution, and in files of an earlier version.
    """

    fpr: float
    expected: float
    resolvable: bool
    flagged: bool
    achieved_fpr: Measure
    tpr: Measure
    ppv: dict[str, Number]
    expected_choosing: Number = None

    @property
    def limited_by_choice(self) -> bool:
        """Whether the non-members that the threshold was chosen on make the rate rough, or not resolvable."""
        chosen = self.expected_choosing
        return chosen is not None and chosen < min(self.expected, 5 - 1e-9)


class RecipeRates(Result):
    """Rates by the origin of the threshold, each list by falling false positive rate.

    Attributes:
        pooled: one threshold, chosen on the evaluated decisions, as in the literature.
        calibrated: a threshold for each patient, from other networks.
        transferred: one threshold, from other networks.
    """

    pooled: list[RecipeRate]
    calibrated: list[RecipeRate]
    transferred: list[RecipeRate]


class ThresholdRates(RecipeRates):
    """Rates of an attack on one victim, over patients where there are patients.

    Attributes:
        members: number of patients, or samples, in the victim's training.
        nonmembers: number of others.
    """

    members: int
    nonmembers: int


def rate_at(rates: Sequence[RecipeRate], fpr: float) -> RecipeRate | None:
    """Return the rates at a nominal false positive rate, None without."""
    return next((rate for rate in rates if rate.fpr == fpr), None)


def reaches(fpr: float, resolution: float) -> bool:
    """Return whether scores of a resolution resolve a false positive rate."""
    return fpr >= resolution - 1e-9


def rate_of(rate: Rate, resolution: float = 0.0) -> RecipeRate:
    """Return rates at a nominal false positive rate as a result; `resolution` is that of the scores."""
    resolvable = rate.resolvable and reaches(rate.fpr, resolution)
    return RecipeRate(
        fpr=rate.fpr,
        expected=rate.expected_false_positives,
        resolvable=resolvable,
        flagged=rate.flagged,
        achieved_fpr=Measure(rate.achieved_fpr, rate.achieved_low, rate.achieved_high, resolvable),
        tpr=Measure(rate.tpr, rate.low, rate.high, resolvable),
        ppv={f"{prior:g}": share if rate.achieved_fpr else None for prior, share in rate.ppv.items()},
        expected_choosing=rate.expected_choosing,
    )


def threshold_rates(rates: VictimRates, resolution: float = 0.0) -> ThresholdRates:
    """Return the rates of an attack on one victim as a result; `resolution` is that of the scores."""
    return ThresholdRates(
        members=rates.members,
        nonmembers=rates.nonmembers,
        pooled=[rate_of(rate, resolution) for rate in rates.pooled],
        calibrated=[rate_of(rate, resolution) for rate in rates.calibrated],
        transferred=[rate_of(rate, resolution) for rate in rates.transferred],
    )
