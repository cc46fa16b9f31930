"""What an audit says before everything else."""

from typing import Any

import pytest

from seg_mia.headlines import low_fpr, spread, table, warnings

SIGNALS = "seg_mia.membership.signals."


def result(
    low: float, high: float, *, signal: str = "ImageLoss", control: bool = False, name: str = "mia"
) -> dict[str, Any]:
    auc = {"value": (low + high) / 2, "low": low, "high": high}
    rates = {
        f"tpr_at_fpr_{fpr}": {"value": 0.5, "resolvable": fpr != "0.001"} for fpr in ("0.1", "0.01", "0.001")
    }
    return {
        "name": name,
        "sees": "released probabilities",
        "control": control,
        "attack": {"init_args": {"signal": {"class_path": SIGNALS + signal}}},
        "results": {"auc": auc, "members": 4, "nonmembers": 4, **rates},
    }


@pytest.mark.parametrize(("low", "high", "warns"), [(0.4, 0.6, False), (0.51, 0.7, True), (0.3, 0.49, False)])
def test_a_baseline_or_control_that_does_better_than_chance_comes_first(
    low: float, high: float, warns: bool
) -> None:
    assert bool(warnings(result(low, high, signal="ImageAndMask"))) == warns
    assert bool(warnings(result(low, high, control=True))) == warns
    assert not warnings(result(low, high))
    if warns:
        assert "the split itself leaks" in warnings(result(low, high, signal="ImageAndMask"))[0]


def test_rates_that_cannot_be_resolved_are_marked() -> None:
    text = low_fpr(result(0.4, 0.6)["results"])
    assert text == "0.500 at FPR 10 %, 0.500 at FPR 1 %, 0.500 (unresolvable) at FPR 0.1 %"


def test_a_table_says_what_each_attacker_sees() -> None:
    lines = table([result(0.4, 0.6), result(0.8, 1.0, name="mia-long")])
    assert lines[0].split() == ["attack", "the", "attacker", "sees", "outcome"]
    assert "AUC 0.500 [0.400, 0.600]" in lines[1]
    assert lines[2].startswith("mia-long  released probabilities  AUC 0.900")


def test_attacks_of_one_name_and_other_settings_are_told_apart() -> None:
    both = [result(0.4, 0.6), result(0.8, 1.0, signal="ImageEntropy")] * 2
    assert spread(both) == ["mia: AUC 0.500 +- 0.000 over 2 seeds", "mia: AUC 0.900 +- 0.000 over 2 seeds"]
