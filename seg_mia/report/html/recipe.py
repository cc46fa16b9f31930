"""The page's section on recipes: figures, tables, and what they show in words."""

from typing import NamedTuple

from seg_mia.report.html.figures import PageFigure, page_figure
from seg_mia.report.rules.recipe_verdict import limit_of_networks
from seg_mia.results.charts.drawing import Chart
from seg_mia.results.charts.recipe import network_drawing, recipe_roc_drawing, survival_drawing
from seg_mia.results.rates import RecipeRate, rate_at
from seg_mia.results.recipe import RecipeResult
from seg_mia.results.report import Level, Report
from seg_mia.results.tables import counted, interval

SHOWN_PATIENTS = 20
"""Rows of the table of the most exposed patients."""


class RateRow(NamedTuple):
    """Rates of one attack at thresholds of one origin."""

    result: RecipeResult
    origin: str
    rates: list[RecipeRate]

    @property
    def at_1(self) -> RecipeRate | None:
        """Rates at 1 % FPR."""
        return rate_at(self.rates, 0.01)


class RecipeSection(NamedTuple):
    """One recipe: its attacks, rates, figures, and the strongest attack in words."""

    defence: str
    results: list[RecipeResult]
    strongest: RecipeResult
    rates: list[RateRow]
    words: str
    roc: PageFigure
    survival: PageFigure
    networks: PageFigure | None


def recipe_sections(report: Report) -> list[RecipeSection]:
    """Return a section for each recipe, in the order of rows."""
    rows: dict[int, list[RecipeResult]] = {}
    for result in report.recipes:
        rows.setdefault(result.row, []).append(result)
    levels = {row.row: row.recipe.level for row in report.verdicts if row.recipe is not None}
    return [_section(row, results, levels.get(row, "none")) for row, results in sorted(rows.items())]


def _section(row: int, results: list[RecipeResult], level: Level) -> RecipeSection:
    strongest = max(results, key=lambda result: result.auc.value or 0.0)
    curves = [result for result in results if result.curve]
    return RecipeSection(
        defence=results[0].defence,
        results=results,
        strongest=strongest,
        rates=[
            RateRow(result, origin, rates)
            for result in results
            for origin, rates in _rates_by_origin(result)
            if rates
        ],
        words=f"{recipe_in_words(strongest, len(results))} {conclusion(strongest, level)}".strip(),
        roc=page_figure(Chart("ROC over all networks", recipe_roc_drawing(results)), f"recipe-roc{row}"),
        survival=page_figure(
            Chart("Patients by their own risk", survival_drawing(strongest)), f"recipe-patients{row}"
        ),
        networks=page_figure(Chart("With fewer networks", network_drawing(curves)), f"recipe-networks{row}")
        if curves
        else None,
    )


def _rates_by_origin(result: RecipeResult) -> list[tuple[str, list[RecipeRate]]]:
    """Return the rates with the origin of their threshold; no rates for patients with too few networks."""
    return [
        ("one, chosen on these decisions", result.rates.pooled),
        ("one, from other networks", result.rates.transferred),
        ("one per patient, from other networks", result.rates.calibrated),
    ]


def conclusion(result: RecipeResult, level: Level) -> str:
    """Return the meaning of a verdict on the recipe, empty without a verdict."""
    match level:
        case "bad":
            return (
                "A network of this recipe discloses its training patients to an attacker who sees "
                f"{result.attacker_knowledge}."
            )
        case "fair":
            return (
                "A network of this recipe gives some information on its training patients to an attacker who "
                f"sees {result.attacker_knowledge}."
            )
        case "good":
            return "No leak was shown, which is no proof that none exists."
        case "void":
            return "The networks hardly segment, so that these numbers are meaningless."
        case _:
            return ""


def recipe_in_words(result: RecipeResult, attacks: int) -> str:
    """Return what a recipe's strongest attack shows, for readers without statistics."""
    strongest = "" if attacks == 1 else f", the strongest of {attacks} attacks,"
    sentences = [
        f"{counted(result.networks, 'network')} were trained alike, each on a random half of "
        f"{counted(result.patients, 'patient')}. Each was attacked {_by_means_of(result)}: was this "
        "patient in the training?",
        f"Of two patients, one inside the training and one outside, {result.label}{strongest} picks the "
        f"right one in {_of_hundred(result.auc.value)} of 100 cases (AUC {interval(result.auc)}); "
        "guessing does in 50.",
    ]
    rate = rate_at(result.rates.transferred, 0.01)
    if rate is not None and rate.resolvable:
        sentences.append(_accusations(rate))
    return " ".join([*sentences, _patients(result)])


def _by_means_of(result: RecipeResult) -> str:
    """Return which networks of the attacker's own an attack compares with the victim."""
    if result.sampling is None:
        return "by its answers alone, without a comparison with others"
    return (
        f"by means of {result.references} of the others, which is within reach of an outsider with similar "
        "data"
    )


def _accusations(rate: RecipeRate) -> str:
    """Return the meaning of rates at a threshold of other networks, at 1 % FPR."""
    sentence = (
        "With a threshold set on other networks to one false accusation in a hundred, the attacker finds "
        f"{_of_hundred(rate.tpr.value)} of 100 patients in the training and accuses "
        f"{100 * (rate.achieved_fpr.value or 0.0):.1f} of 100 others."
    )
    share = rate.ppv.get("0.1")
    if share is None:
        return sentence
    return (
        f"{sentence} If one in ten of the patients asked about was in the training, {100 * share:.0f} of 100 "
        "accusations are right."
    )


def _patients(result: RecipeResult) -> str:
    """Return the number of exposed patients, with what would be found without leakage."""
    risk, null = result.risk, result.risk.worst_decile_null
    verb = "is" if risk.significant == 1 else "are"
    return (
        f"{risk.significant} of {counted(result.patients, 'patient')} {verb} more exposed than chance "
        f"explains{limit_of_networks(result)}. The most exposed tenth have a mean AUC of "
        f"{risk.worst_decile:.3f}, where chance alone gives {interval(null)}."
    )


def _of_hundred(share: float | None) -> str:
    return "none" if share is None else f"{100 * share:.0f}"
