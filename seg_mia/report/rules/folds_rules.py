"""Verdict and caveats on the networks of a cross-validation."""

from collections.abc import Iterator, Sequence

from seg_mia.report.rules.leak_verdict import STRONG_AUC, WORDS
from seg_mia.report.rules.levels import LEVELS, Strength
from seg_mia.report.rules.recipe_verdict import LEVEL
from seg_mia.results.folds import FoldsResult
from seg_mia.results.report import Verdict

FEW_PATIENTS = 30
"""An interval over fewer patients than this is itself uncertain."""
TESTS = 2
"""p-values of one result, among which the smaller is chosen."""


def folds_verdict(results: Sequence[FoldsResult], *, least_dice: float) -> Verdict | None:
    """Return the verdict on a cross-validation, None without one.

    Args:
        results: those of one row, at most one.
        least_dice: mean Dice on members below which a leak is meaningless.
    """
    if not results:
        return None
    result = results[0]
    level, p_value = strength(result), adjusted(result)
    expected = result.chance * result.patients
    why = (
        f"{result.lowest} of {result.patients} patients have the lowest confidence under the network that "
        f"left them out, {expected:.1f} expected; p = {p_value:.2g} as the better of two tests."
    )
    if segment_nothing(result, least_dice):
        return Verdict("void", "Void", "AUC", result.auc, f"{why} The networks hardly segment.")
    if level == 0:
        why += " More networks or another attack may find what these did not."
    return Verdict(LEVELS[level], WORDS[level], "AUC", result.auc, why)


def strength(result: FoldsResult) -> Strength:
    """Return the strength of the evidence of leakage."""
    if adjusted(result) > LEVEL:
        return 0
    return 2 if (result.auc.low or 0.0) >= STRONG_AUC else 1


def segment_nothing(result: FoldsResult, least_dice: float = 0.1) -> bool:
    """Return whether the mean Dice of the networks on members is below a limit."""
    dice = [quality.members or 0.0 for quality in result.quality]
    return sum(dice) / len(dice) < least_dice


def adjusted(result: FoldsResult) -> float:
    """Return the smaller p-value, after Bonferroni for both."""
    return min(1.0, TESTS * min(result.p_value, result.auc_p_value))


def folds_caveats(results: Sequence[FoldsResult]) -> list[str]:
    """Return the caveats of cross-validations."""
    return [f"The folds: {caveat}" for result in results for caveat in _caveats(result)]


def _caveats(result: FoldsResult) -> Iterator[str]:
    yield (
        f"judged are {result.networks} networks, each on the patients that it left out. Their mean was "
        "trained on every one of these patients; only patients that none of them saw can show what it "
        "discloses."
    )
    yield (
        "the exact test holds if patients were divided among the folds at random, as nnU-Net does by default."
    )
    if result.patients < FEW_PATIENTS:
        yield f"judged on {result.patients} patients only; intervals are rough."
    if result.excluded:
        left_out = "left out by none or several of the networks"
        yield f"{result.excluded} samples were {left_out} and are not scored."
    if result.levelled_by == "all":
        yield (
            "the level of each network was taken from the same patients, as too few labelled cases of "
            "imagesTs exist; this hides part of a leak."
        )
