"""What an audit says before everything else, and what is said of a promise."""

import math
from typing import Any

import pytest

from seg_mia.results.text import (
    attack_headline,
    canary_headline,
    certified_headline,
    low_fpr,
    privacy_headline,
    spread,
    table,
    utility_headline,
    warnings,
)

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


@pytest.mark.parametrize(("above", "told"), [(0.0, "2 of 2"), (0.5, "1 of 2"), (1.0, None)])
def test_a_floor_that_no_strength_met_is_told(above: float, told: str | None) -> None:
    names = ("iou_before", "iou", "iou_8bit", "dice_clean", "dice_adversarial", "ssim", "l2", "linf")
    textured = {
        "name": "adain",
        "sees": "true mask",
        "images": 2,
        "unchanged": 0,
        "attack": {"init_args": {"ssim_floor": 0.5}},
        "results": {name: {"mean": 0.0} for name in names} | {"above_floor": {"mean": above}},
    }
    lines = warnings(textured)
    assert attack_headline("adain", textured)[1:] == lines
    if told is None:
        assert lines == []
    else:
        (line,) = lines
        assert line.startswith(f"WARNING: adain: no strength met the SSIM floor of 0.5 on {told} images")


@pytest.mark.parametrize(
    ("signal", "control", "proves"),
    [("ImageLoss", False, True), ("ImageAndMask", False, False), ("ImageLoss", True, False)],
)
def test_who_never_asks_the_victim_proves_nothing_of_it(signal: str, control: bool, proves: bool) -> None:
    found = result(0.4, 0.6, signal=signal, control=control)
    found["results"]["balanced_accuracy"] = found["results"]["auc"]
    said = attack_headline("mia", {**found, "certified": CERTIFIED | {"unit": "image"}, "same_seed": False})
    assert any("proves epsilon" in line for line in said) == proves


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


PROMISE: dict[str, Any] = {
    "epsilon": 2.0,
    "delta": 0.01,
    "budget": 2.5,
    "unit": "image",
    "units": 100,
    "noise": 0.75,
    "clip": 1.0,
    "rate": 0.125,
    "steps": 80,
    "accountant": "prv",
    "reproducible": False,
    "declared": True,
    "permitted": {"auc": 0.9004, "tpr_at_10": 0.7, "tpr_at_1": 0.25, "by": "prv"},
}
CERTIFIED = {"epsilon": 2.25, "most": 3.31, "confidence": 0.95}


def test_a_promise_that_is_kept_and_one_that_is_broken() -> None:
    line = certified_headline(CERTIFIED, PROMISE)
    assert line == (
        "proves epsilon >= 2.25 (95% confidence; perfect guesses on as many would prove 3.31); 2 was "
        "promised, WHICH IS BROKEN"
    )
    for epsilon in (0.0, 1.9, 2.0):
        assert "BROKEN" not in certified_headline(CERTIFIED | {"epsilon": epsilon}, PROMISE)
    assert certified_headline(CERTIFIED | {"epsilon": 1.9}, PROMISE).endswith("; 2 was promised")
    assert "BROKEN" in certified_headline(CERTIFIED, PROMISE, unit="image")


def test_nothing_is_broken_where_nothing_was_promised() -> None:
    for promise in (None, PROMISE | {"epsilon": math.inf}):
        line = certified_headline(CERTIFIED, promise)
        assert line.endswith("; none was promised")
        assert "BROKEN" not in line


def test_what_is_proved_of_patients_breaks_no_promise_for_images() -> None:
    line = certified_headline(CERTIFIED, PROMISE, unit="patient")
    assert line.endswith(" per patient; 2 was promised per image, not comparable")
    assert "BROKEN" not in line
    assert "BROKEN" in certified_headline(CERTIFIED, PROMISE | {"unit": "patient"}, unit="patient")


def test_canaries_that_are_found_again_say_that_a_promise_is_broken() -> None:
    found = {
        "inserted": 97,
        "left_out": 103,
        "auc": 0.9314,
        "certified": CERTIFIED,
        "one_run": CERTIFIED | {"epsilon": 1.5, "most": 4.0},
        "privacy": PROMISE,
    }
    line = canary_headline(found)
    assert line.startswith("canaries: 97 inserted, 103 left out, AUC 0.931, proves epsilon >= 2.25")
    assert "WHICH IS BROKEN" in line
    assert ">= 1.50 (of 4.00)" in line
    assert "BROKEN" not in canary_headline(found | {"certified": CERTIFIED | {"epsilon": 1.0}})


def test_the_other_bound_breaks_a_promise_too() -> None:
    """What holds without supposing independence is the stronger proof of the two."""
    found = {
        "inserted": 97,
        "left_out": 103,
        "auc": 0.9,
        "certified": CERTIFIED | {"epsilon": 0.0},
        "one_run": CERTIFIED | {"epsilon": 3.0},
        "privacy": PROMISE,
    }
    assert "BROKEN" in canary_headline(found)


def test_a_promise_in_words() -> None:
    assert privacy_headline(PROMISE) == (
        "privacy spent: epsilon 2 of 2.5 at delta 0.01 per image (100 units as declared, noise 0.75, clip 1, "
        "sampling rate 0.125, 80 steps, accountant prv); permits AUC up to 0.901, TPR up to 0.250 at 1 % FPR "
        "and 0.700 at 10 % (by the accountant's curve, prv)"
    )
    older = {name: value for name, value in PROMISE.items() if name not in {"declared", "permitted"}}
    assert "(100 units, their number taken as public, noise 0.75" in privacy_headline(older)
    assert "permits" not in privacy_headline(older)
    assert "epsilon 2 at delta" in privacy_headline(PROMISE | {"budget": None})
    assert "epsilon infinite (no noise) at" in privacy_headline(
        PROMISE | {"epsilon": math.inf, "budget": None}
    )
    assert privacy_headline(PROMISE | {"reproducible": True}).endswith(
        "; void against whoever knows the seed"
    )


def test_a_training_that_diverged_says_so() -> None:
    told = utility_headline({"val/dice": 0.0, "val/loss": float("nan")})
    assert told[1] == "WARNING: the loss is no number, the network has diverged; lower --model.lr"
    assert len(utility_headline({"val/dice": 0.5, "val/loss": 1.0})) == 1
