"""The comparison of defences says beside each promise what it permits."""

from typing import Any

from seg_mia.audit.matrix import defence_table, side_by_side
from seg_mia.results.audit import Victim
from tests.report.audits import compared, promise


def test_the_comparison_says_what_each_promise_permits() -> None:
    permitted = {"auc": 0.9184, "tpr_at_10": 0.7521, "tpr_at_1": 0.368, "by": "prv"}
    kept: dict[str, Any] = promise(8.49, permitted=permitted)
    rows = [
        compared(),
        compared(1, "epsilon 8.5", privacy=kept),
        compared(2, "older", privacy=promise(1.0)),
    ]
    header, plain, private, older = defence_table(
        side_by_side([Victim.read(row, "a row") for row in rows], [])
    )
    assert "epsilon guaranteed" in header
    assert plain.endswith("none")
    assert private.endswith(
        "8.49 at delta 0.001 per image, permits AUC up to 0.919, TPR up to 0.368 at 1 % FPR"
    )
    assert older.endswith("1 at delta 0.001 per image")
