"""Results as aligned columns of text."""

from collections.abc import Sequence

from seg_mia.results.audit import AttackResult, Victim
from seg_mia.results.base import Measure
from seg_mia.results.certificate import CertificateSummary
from seg_mia.results.folds import FoldsResult
from seg_mia.results.membership import MembershipMeasures, MembershipResult, MembershipSummary
from seg_mia.results.perturbation import PerturbationSummary, SuccessRow
from seg_mia.results.rates import RecipeRate, RecipeRates, rate_at
from seg_mia.results.recipe import RecipeResult
from seg_mia.results.robustness import MemberRow, RobustnessCurve


def aligned(table: Sequence[Sequence[str]], indent: str = "") -> list[str]:
    """Return a table's lines, with columns as wide as needed."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        indent + "  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in table
    ]


def markdown(table: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown, with the first line as header."""
    lines = [table[0], ["---"] * len(table[0]), *table[1:]]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)


def interval(measure: Measure) -> str:
    """Return a value with its 95 % interval."""
    if measure.value is None:
        return "none"
    if measure.low is None or measure.high is None:
        return f"{measure.value:.3f}"
    return f"{measure.value:.3f} [{measure.low:.3f}, {measure.high:.3f}]"


def resolved(rate: Measure) -> str:
    """Return a rate with its 95 % interval, or that the decisions or the scores cannot resolve it."""
    return interval(rate) if rate.resolvable else "not resolvable"


def counted(count: int, noun: str) -> str:
    """Return a number of things, "1 network" or "2 networks"."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def outcomes(results: Sequence[AttackResult]) -> list[str]:
    """Return one line per attack: its name, the attacker knowledge, and the result."""
    rows = [("attack", "attacker knowledge", "outcome")]
    for result in results:
        if isinstance(result, MembershipResult):
            rows.append((result.label, result.attacker_knowledge, membership_outcome(result)))
        else:
            rows.append((result.label, result.attacker_knowledge, perturbation_outcome(result)))
    return aligned(rows)


def membership_outcome(result: MembershipSummary) -> str:
    """Return AUC and rates, over images and over groups."""
    groups = result.groups
    pooled = "" if groups is None else f"; over {groups.groups} groups AUC {interval(groups.auc)}"
    return f"AUC {interval(result.auc)}, TPR {low_fpr(result.results)}{pooled}"


def low_fpr(measures: MembershipMeasures) -> str:
    """Return the true positive rates at low false positive rates, marked if there are too few non-members."""
    rates = {f"{100 * float(fpr):g} %": rate for fpr, rate in measures.rates.items()}
    return ", ".join(
        f"{_number(rate.value, 3)}{'' if rate.resolvable else ' (below resolution)'} at FPR {fpr}"
        for fpr, rate in rates.items()
    )


def perturbation_outcome(result: PerturbationSummary) -> str:
    """Return an attack's effect on masks and images."""
    unchanged = f", {result.unchanged} unchanged" if result.unchanged else ""
    mean = {name: _number(average.mean, 3) for name, average in result.results.items()}
    dice = f"Dice to the truth {mean['dice_clean']} -> {mean['dice_adversarial']}"
    if "area_clean" in mean:
        lost = mask_lost(*(result.mean(name) or 0.0 for name in ("area_clean", "area", "success")))
        return f"{result.images} images{unchanged}: {lost}, {dice}"
    overlap = (
        f"IoU with the target {mean['iou_before']} -> {mean['iou']} ({mean['iou_8bit']} in 8 bits), "
        if result.is_targeted
        else ""
    )
    carried = (
        f"; crafted on the surrogate IoU {mean['transfer_iou']} ({mean['surrogate_iou']} there)"
        if "transfer_iou" in mean
        else ""
    )
    queries = f"; {mean['queries']} queries per image" if "queries" in mean else ""
    largest = result.mean("linf")
    likeness = mean["ssim"] or "undefined for images this small"
    return (
        f"{result.images} images{unchanged}: {overlap}{dice}, SSIM {likeness}, "
        f"L2 {_number(result.mean('l2'), 2)}, "
        f"L-infinity {_number(None if largest is None else 255 * largest, 1)}/255{carried}{queries}"
    )


def certificate_outcome(result: CertificateSummary) -> str:
    """Return what a certification found, and its cost."""
    dice = ", ".join(
        f"{words} {interval(result.measure(name))}"
        for words, name in (
            ("Dice", "dice_clean"),
            ("smoothed", "dice_smoothed"),
            ("certified", "dice_certified"),
            ("abstained pixels", "abstained"),
        )
    )
    return (
        f"{result.images} images: {dice}; L2 radius {result.radius:.3f} at sigma {result.sigma:g}, "
        f"{result.needed} of {result.draws} draws needed, {result.passes} passes per image"
    )


def mask_lost(clean: float, triggered: float, success: float) -> str:
    """Return a trigger's effect on the predicted foreground, given its mean fractions of the pixels."""
    part = f" ({triggered / clean:.1%} of it)" if clean else ""
    return (
        f"predicted area {clean:.4f} -> {triggered:.4f}{part} with the trigger, mask lost on {success:.0%} "
        "of images"
    )


def recipe_table(results: Sequence[RecipeResult]) -> list[list[str]]:
    """Return the cells of a table of attacks on recipes, its header first."""
    several = len({result.row for result in results}) > 1
    header = ["attack", "attacker", "networks", "AUC", "of single networks"]
    header += ["TPR at 1 % FPR", "with a threshold per patient", "with a threshold of other networks"]
    table = [[*header, "exposed patients"]]
    for result in results:
        aucs = result.network_aucs
        cells = [
            f"{result.label} on {result.defence}" if several else result.label,
            result.sampling or "alone",
        ]
        cells += [str(result.networks), interval(result.auc), f"{min(aucs):.3f} to {max(aucs):.3f}"]
        rates = (result.rates.pooled, result.rates.calibrated, result.rates.transferred)
        cells += [recipe_rate(rate_at(column, 0.01)) for column in rates]
        table.append([*cells, f"{result.risk.significant} of {result.patients}"])
    return table


def folds_table(results: Sequence[FoldsResult]) -> list[list[str]]:
    """Return the cells of a table of cross-validations, its header first."""
    header = ["victim", "networks", "patients", "lowest where left out", "p, exact", "AUC"]
    return [header, *(
        [
            result.defence,
            str(result.networks),
            str(result.patients),
            f"{result.lowest} ({result.chance * result.patients:.1f} expected)",
            f"{result.p_value:.2g}",
            interval(result.auc),
        ]
        for result in results
    )]  # fmt: skip


def recipe_rate(rate: RecipeRate | None) -> str:
    """Return a true positive rate with its interval and the expected number of false positives.

    Or that it is not resolvable; rough ones are marked. Where a threshold was chosen on few non-members, the
    number expected among those is added.
    """
    if rate is None:
        return "none"
    expected = f"{rate.expected:.3g} expected"
    if rate.limited_by_choice:
        expected += f", {rate.expected_choosing:.3g} where chosen"
    if not rate.resolvable:
        return f"not resolvable ({expected})"
    achieved = rate.achieved_fpr.value
    # A threshold chosen elsewhere may give another false positive rate than the nominal one.
    differs = achieved is not None and achieved > rate.fpr
    words = [f"at FPR {achieved:.3f}"] if differs else []
    words += [expected, *(["rough"] if rate.flagged else [])]
    return f"{interval(rate.tpr)} ({', '.join(words)})"


ORIGINS = {
    "pooled": "chosen on these decisions",
    "transferred": "from other networks",
    "calibrated": "per patient, from other networks",
}
"""Origin of a threshold, by the field of `RecipeRates`."""


def threshold_table(rates: RecipeRates) -> list[list[str]]:
    """Return the cells of a table of rates by the origin of the threshold, its header first.

    "expected" is the expected number of false positives; the last column has the shares of right accusations
    if 1 %, 10 % and 50 % of those in question are members.
    """
    table = [
        ["threshold", *(f"TPR at {100 * rate.fpr:g} % FPR" for rate in rates.pooled), "right at 1 % FPR"]
    ]
    for origin, words in ORIGINS.items():
        column: Sequence[RecipeRate] = getattr(rates, origin)
        if column:
            table.append([words, *map(recipe_rate, column), right_accusations(rate_at(column, 0.01))])
    return table


def right_accusations(rate: RecipeRate | None) -> str:
    """Return the shares of right accusations at three priors, from the false positive rate reached."""
    if rate is None or not rate.resolvable:
        return "not resolvable"
    shares = list(rate.ppv.values())
    return ", ".join("unknown" if share is None else f"{100 * share:.2g} %" for share in shares)


def success_table(rows: Sequence[SuccessRow], attacks: Sequence[str] = ()) -> list[list[str]]:
    """Return the cells of a table of success rates, its header first.

    Args:
        rows: rows of one attack, or of several.
        attacks: attack of each row, if there are several.
    """
    carried = any(row.transferred is not None for row in rows)
    header = ["target", "loss", "images", "skipped", "clean", "no gradient", "counted", "success rate"]
    header += [
        "distortion, steps",
        "mean IoU",
        *(["rate on the victim from the surrogate"] if carried else []),
    ]
    table = [["attack", *header] if attacks else header]
    for number, row in enumerate(rows):
        counts = (row.images, row.skipped, row.clean_success, row.no_gradient, row.counted)
        cells = [row.target_kind, row.loss, *map(str, counts), interval(row.measure)]
        cells += [_number(row.distortion, 2), _number(row.mean_iou, 3)]
        cells += [_number(row.transferred, 3)] if carried else []
        table.append([attacks[number], *cells] if attacks else cells)
    return table


def member_table(rows: Sequence[MemberRow]) -> list[list[str]]:
    """Return the cells of a table of an ensemble's members, its header first."""
    header = ["loss", "images won", "Dice alone", "Dice without it"]
    return [header] + [
        [row.loss, _number(row.won, 3), _number(row.alone, 3), _number(row.without, 3)] for row in rows
    ]


def curve_table(curve: RobustnessCurve) -> list[list[str]]:
    """Return the cells of a table of Dice over the radius, its header first."""
    header = ["radius, of 255", "Dice, worst case", f"images at {curve.fooled:g} of their Dice or below"]
    return [header] + [
        [f"{point.radius:g}", interval(point.measure), _number(point.fooled, 3)] for point in curve.points
    ]


def utility(victim: Victim) -> str:
    """Return a victim's segmentation quality."""
    nonmembers, members = (_number(victim.dice(subset), 3) for subset in ("nonmembers", "members"))
    return f"Dice {nonmembers} on non-members, {members} on members"


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"
