"""Caveats of a recipe's audit: only those that apply to it."""

import math
from collections.abc import Iterator, Sequence

from seg_mia.membership.intervals import Interval
from seg_mia.report.rules.recipe_verdict import DISCOVERIES, fewest_found
from seg_mia.results.base import Measure
from seg_mia.results.many_runs import Contradicted, comparable, contradicted
from seg_mia.results.recipe import RecipeResult, auc_p_value
from seg_mia.results.tables import interval

FEW_NETWORKS = 8
"""Fewer networks are no sample of a recipe, and leave LiRA two or three references on either side."""
FEW_PATIENTS = 30
"""An interval over fewer patients than this is itself uncertain."""
SPREAD = 0.05
"""Difference of two networks' AUCs, beyond that of equal networks, that makes their mean describe neither."""
CONTROL = 0.001
"""Level at which a negative control is above chance."""
STABLE = 0.5
"""Rank correlation of two halves' AUCs from which the order of patients means something."""


def recipe_caveats(results: Sequence[RecipeResult]) -> list[str]:
    """Return the caveats of attacks on recipes, each once."""
    recipes: dict[str, dict[str, None]] = {}
    broken = {id(found.result): found for found in contradicted(results)}
    for result in results:
        for caveat in (*_guarantee_caveats(result, broken.get(id(result))), *_caveats(result)):
            recipes.setdefault(caveat, {})[result.defence] = None
    several = len({result.row for result in results}) > 1
    lines = [
        f"{_subject(list(names)) if several else 'The recipe'}: {caveat}" for caveat, names in recipes.items()
    ]
    if results:
        lines.append(
            "The interval of a recipe is by patient, for these networks: networks trained again, or on other "
            "data, may leak more or less. The attacker knows the recipe and holds data of the same pool."
        )
    return lines


def _subject(names: Sequence[str]) -> str:
    quoted = [f'"{name}"' for name in names]
    if len(quoted) == 1:
        return f"The recipe {quoted[0]}"
    return f"The recipes {', '.join(quoted[:-1])} and {quoted[-1]}"


def _caveats(result: RecipeResult) -> Iterator[str]:
    if result.networks < FEW_NETWORKS:
        yield (
            f"judged by {result.networks} networks only; attacks gain with more of them, so that the leak is "
            "understated."
        )
    if result.patients < FEW_PATIENTS:
        yield f"judged on {result.patients} patients only; its intervals are themselves rough."
    yield from _control_caveats(result)
    yield from _rate_caveats(result)
    withheld = result.patients - result.risk.numbered
    if withheld:
        yield (
            f"{withheld} of {result.patients} patients have fewer than 16 networks with or without "
            "them, so that they have a rank and no AUC of their own: its standard error would be above 0.1."
        )
    yield from _power_caveats(result)
    yield from _order_caveats(result)
    lowest, highest = min(result.network_aucs), max(result.network_aucs)
    if highest - lowest > SPREAD + 4 * _sampling_error(result):
        yield (
            f"networks differ by more than chance, {result.label} has an AUC of {lowest:.3f} on one "
            f"and {highest:.3f} on another. Audit a network that is to be released by itself."
        )
    if len(result.risk.subgroups) > 1:
        yield "by chance alone, the interval of one in twenty subgroups leaves out 0."


def _sampling_error(result: RecipeResult) -> float:
    """Return the standard error of one network's AUC (Hanley and McNeil 1982, Radiology 143:29)."""
    area = result.auc.value or 0.0
    members, nonmembers = (max(1, side // result.networks) for side in (result.members, result.nonmembers))
    spread = (members - 1) * (area / (2 - area) - area**2)
    spread += (nonmembers - 1) * (2 * area**2 / (1 + area) - area**2)
    return math.sqrt((area * (1 - area) + spread) / (members * nonmembers))


def _order_caveats(result: RecipeResult) -> Iterator[str]:
    stable = result.risk.stability
    if stable is None:
        yield "networks are too few to compare the order of patients between two halves of them."
    elif result.risk.significant and (stable.spearman is None or stable.spearman < STABLE):
        agreement = "cannot be compared" if stable.spearman is None else f"correlate at {stable.spearman:.2f}"
        yield (
            f"the orders of patients by two halves of the networks {agreement}. A patient's rank "
            "means little; the number of exposed patients stands."
        )


def _power_caveats(result: RecipeResult) -> Iterator[str]:
    needed = fewest_found(result, DISCOVERIES)
    if needed > 1:
        least = 1 / math.comb(result.networks, result.networks // 2)
        yield (
            f"no patient can have a p-value below {least:.2g} by {result.networks} networks, so that "
            f"fewer than {needed} of {result.patients} exposed patients are never found: none found is no "
            "evidence that there are none."
        )


def _guarantee_caveats(result: RecipeResult, broken: Contradicted | None) -> Iterator[str]:
    """Yield what many trainings prove of a guarantee under replacing one unit."""
    bound, privacy = result.many_runs, result.privacy
    if bound is None or privacy is None or privacy.replace_one is None or not comparable(bound, privacy):
        return
    promised = f"{privacy.replace_one:.3g} if one {privacy.unit} is replaced"
    if broken is not None:
        yield f"its guarantee of epsilon {promised} is broken: {broken.proof}."
    elif (bound.attainable or 0.0) <= privacy.replace_one:
        yield (
            f"{result.networks} trainings prove an epsilon of at most {bound.attainable or 0.0:.2f}, and "
            f"could not have contradicted the guarantee of {promised}."
        )


def _control_caveats(result: RecipeResult) -> Iterator[str]:
    controls = [] if result.controls is None else result.controls.given
    for measure in controls:
        if above_chance(measure, result.patients):
            yield (
                f"a negative control of {result.label} has an AUC of {interval(measure)} where nothing is to "
                "be found. Its numbers are inflated, or the patients are not exchangeable."
            )


def above_chance(control: Measure, patients: int) -> bool:
    """Return whether a control's AUC exceeds 0.5 at 0.1 %, since a recipe has three of each attack."""
    if control.value is None or control.low is None or control.high is None:
        return False
    return auc_p_value(Interval(control.value, control.low, control.high), patients) < CONTROL


def _rate_caveats(result: RecipeResult) -> Iterator[str]:
    unresolved = [rate for rate in result.rates.pooled if rate.expected < 1 - 1e-9]
    coarse = [rate for rate in result.rates.pooled if not rate.resolvable and rate.expected >= 1 - 1e-9]
    rough = [rate for rate in result.rates.pooled if rate.resolvable and rate.flagged]
    if unresolved:
        rates = " and ".join(f"{100 * rate.fpr:g} %" for rate in unresolved)
        yield (
            f"a false positive rate of {rates} is not resolvable by {result.nonmembers} decisions "
            "on non-members: fewer than one false positive is expected."
        )
    if coarse:
        rates = " and ".join(f"{100 * rate.fpr:g} %" for rate in coarse)
        yield (
            f"a false positive rate of {rates} is not resolvable by the scores of {result.label}, shares of "
            "a population of fewer samples than ten times one over the rate."
        )
    if rough:
        rates = " and ".join(f"{100 * rate.fpr:g} %" for rate in rough)
        yield (
            f"at a false positive rate of {rates} fewer than five false positives are expected; "
            "rates there are rough, and one at one threshold has no interval."
        )
