"""Statement on the networks of a cross-validation, by the rules in `statements`."""

from seg_mia.report.rules.folds_rules import adjusted, segment_nothing, strength
from seg_mia.report.rules.recipe_verdict import detectable_auc
from seg_mia.report.rules.statement_rules import RELEVANT_AUC
from seg_mia.report.rules.statements import Row, statement
from seg_mia.results.evidence import Statement
from seg_mia.results.folds import FoldsResult
from seg_mia.results.tables import interval


def folds(row: Row, result: FoldsResult) -> Statement:
    """Answer whether the networks of a cross-validation disclose the patients that they were trained on."""
    measured = ("AUC of the folds", result.auc)
    if segment_nothing(result):
        void = "The networks hardly segment, mean Dice below 0.1 on members."
        return statement(row, "folds", "F1", "void", void, measured=measured)
    p_value = adjusted(result)
    p_words = "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"
    why = (
        f"{result.lowest} of {result.patients} patients have the lowest confidence under the network that "
        f"left them out, {result.chance * result.patients:.1f} expected; {p_words} as the better of two "
        "tests."
    )
    if level := strength(result):
        why += f" A {'strong' if level == 2 else 'weak'} leak of the single networks."
        return statement(row, "folds", "F2", "evidence", why, measured=measured)
    area = detectable_auc(result.auc, result.patients, 1)
    why += "" if area is None else f" An AUC of {area:.2f} would be found with a chance of 80 %."
    if area is None or area > RELEVANT_AUC:
        return statement(row, "folds", "F3", "unresolvable", why, measured=measured)
    if result.auc.high is None or result.auc.high >= RELEVANT_AUC:
        why += f" The interval {interval(result.auc)} does not exclude {RELEVANT_AUC}."
        return statement(row, "folds", "F4", "unresolvable", why, measured=measured)
    return statement(row, "folds", "F5", "resistance", why, measured=measured)
