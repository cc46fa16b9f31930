import math
from typing import Any

import pytest

from seg_mia.errors import InputError
from seg_mia.report.build import build
from seg_mia.report.rules.gates import check, read_gate
from seg_mia.results.report import Report
from tests.report.audits import audit, compared, fool, full, guess, promise, source, success


def report(content: dict[str, Any] | None = None) -> Report:
    return build(source(full() if content is None else content), images=False)[0]


def failed(*gates: str) -> list[str]:
    return check([read_gate(gate) for gate in gates], report())


def test_a_gate_is_read() -> None:
    for text in ("mia.auc>0.6", " mia.auc  > 6e-1 "):
        gate = read_gate(text)
        assert (gate.metric, gate.row, gate.sign, gate.bound) == ("mia.auc", None, ">", 0.6)
    gate = read_gate("mia-type2.auc.low[mixup + rounded]<=.5")
    assert (gate.metric, gate.row, gate.sign, gate.bound) == (
        "mia-type2.auc.low",
        "mixup + rounded",
        "<=",
        0.5,
    )
    assert read_gate("epsilon[a[1]]>=8").row == "a[1]"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "mia.auc",
        "mia.auc=0.6",
        "mia.auc==0.6",
        ">0.6",
        "mia.auc>",
        "mia.auc>high",
        "mia.auc>nan",
        "mia.auc>inf",
        "a>1>2",
    ],
)
def test_what_is_no_gate_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="a gate"):
        read_gate(text)


@pytest.mark.parametrize(
    ("sign", "bound", "fails"),
    [
        (">", 0.75, False),
        (">", 0.74, True),
        (">=", 0.75, True),
        (">=", 0.76, False),
        ("<", 0.55, False),
        ("<=", 0.55, True),
    ],
)
def test_any_value_that_meets_a_gate_fails_it(sign: str, bound: float, fails: bool) -> None:
    assert bool(failed(f"mia.auc{sign}{bound}")) == fails


def test_a_line_says_which_gate_which_value_and_where() -> None:
    assert failed("mia.auc>0.7") == [
        "gate mia.auc>0.7: mia.auc is 0.75 (mia-type2 on none, seed 7)",
        "gate mia.auc>0.7: mia.auc is 0.75 (mia-type2 on none, seed 8)",
    ]


def test_a_gate_can_be_of_one_row() -> None:
    assert not failed("mia.auc[epsilon 8]>0.7")
    assert len(failed("mia.auc[epsilon 8]>0.5", "mia.auc[none]>0.7")) == 4


@pytest.mark.parametrize(
    ("gate", "least"),
    [
        ("mia.auc.low", 0.45),
        ("mia-type2.auc", 0.55),
        ("blind.auc.low", 0.4),
        ("mia-blind.auc", 0.5),
        ("control.auc.high", 0.6),
        ("asma.iou", 0.9),
        ("adain.dice_adversarial", 0.4),
        ("asma.dice_lost", 0.5),
        ("perturbation.ssim", 0.95),
        ("medis.success", 0.75),
        ("medis.success.low", 0.48),
        ("utility.dice", 0.8),
        ("utility.gap", 0.1),
        ("epsilon", 8.0),
        ("epsilon.proved", 0.0),
    ],
)
def test_each_metric_has_the_values_of_the_audit(gate: str, least: float) -> None:
    assert failed(f"{gate}<={least + 1e-9}")
    assert not failed(f"{gate}<{least - 1e-9}")


def test_baselines_are_no_attacks() -> None:
    content = audit(
        [guess(auc=(0.6, 0.5, 0.7)), guess("mia-blind", auc=(0.7, 0.5, 0.9), signal="ImageAndMask")]
    )
    assert not check([read_gate("mia.auc>0.6")], report(content))
    assert check([read_gate("blind.auc>0.6")], report(content))


def of(gate: str, *attacks: dict[str, Any], **more: Any) -> list[str]:
    return check([read_gate(gate)], report(audit(attacks, **more)))


def test_a_rate_that_samples_do_not_resolve_fails_whatever_it_is() -> None:
    """One false alarm among 50 is 2 %: what is true at 1 % cannot be read off."""
    few, many = (guess() for _ in range(2))
    for name, result in (("few", few), ("many", many)):
        rate = {"value": 0.0, "low": 0.0, "high": 0.05, "resolvable": name == "many"}
        result["results"]["tpr_at_fpr_0.01"] = rate
    for end in ("", ".low", ".high"):
        assert "non-members are too few" in of(f"mia.tpr_at_fpr_0.01{end}>0.5", few)[0]
        assert not of(f"mia.tpr_at_fpr_0.01{end}>0.5", many)


def test_membership_numbers_that_are_void_fail() -> None:
    split = guess("mia-blind", auc=(0.99, 0.9, 1.0), signal="ImageAndMask")
    assert "the split itself separates members" in of("mia.auc>0.99", guess(), split)[0]
    assert not of("blind.auc>0.99", guess(), split)
    blank = compared() | {"utility": {"members": {"dice": 0.05}, "nonmembers": {"dice": 0.04}}}
    for gate, one in (("mia.auc>0.99", guess()), ("asma.dice_lost>0.99", fool())):
        assert "hardly segments" in of(gate, one, defences=[blank])[0]
        assert not of(gate, one, defences=[compared()])


@pytest.mark.parametrize(
    ("attack", "why"),
    [
        (fool("pgd", no_gradient=51), "no gradient reached 51 of 101 images"),
        (fool("pgd", unchanged=101), "none of 101 images was changed"),
        (fool("pgd", images=0), "no image was attacked"),
        (fool("pgd", success=[success(counted=0, successes=0, rate=None, low=None, high=None)]),
         "no image counts"),
    ],
)  # fmt: skip
def test_robustness_that_was_not_tried_fails_every_gate_on_it(attack: dict[str, Any], why: str) -> None:
    for gate in ("pgd.dice_lost>0.99", "perturbation.dice_adversarial<0.01", "pgd.iou>0.99"):
        assert why in of(gate, attack)[0]


def test_robustness_that_was_tried_on_most_images_is_held_against_the_gate() -> None:
    assert not of("pgd.dice_lost>0.99", fool("pgd", no_gradient=50, unchanged=100))


def test_a_share_of_no_dice_is_no_number() -> None:
    attack = fool("pgd")
    attack["results"]["dice_clean"]["mean"] = 0.0
    assert "not a number" in of("perturbation.dice_lost>0.99", attack, fool())[0]


def test_success_is_the_fused_rate() -> None:
    content = audit([fool("medis", success=[success("dice", rate=1.0), success(rate=0.5)])])
    assert not check([read_gate("medis.success>0.5")], report(content))
    alone = audit([fool("medis", success=[success("dice", rate=1.0)])])
    assert check([read_gate("medis.success>0.5")], report(alone))


def test_a_gate_that_cannot_fail_is_refused_with_what_is_known() -> None:
    for gate in ("mia-type3.auc>0.5", "mia.acu>0.5", "mia.auc[crop]>0.5", "epsilon[none]>1"):
        with pytest.raises(InputError, match="matches nothing"):
            failed(gate)
    with pytest.raises(InputError, match=r"mia\.auc, mia\.auc\.high, mia\.auc\.low"):
        failed("auc>0.5")
    with pytest.raises(InputError, match="measured on epsilon 8, none"):
        failed("mia.auc[crop]>0.5")
    with pytest.raises(InputError, match="metrics here are none"):
        check([read_gate("mia.auc>0.5")], report(audit([])))


def test_what_is_no_number_fails() -> None:
    attack = guess()
    attack["results"]["auc"]["value"] = math.nan
    assert "not a number" in check([read_gate("mia.auc>0.99")], report(audit([attack])))[0]
    uncounted = success(counted=0, rate=None, low=None, high=None)
    content = audit([fool("medis", success=[uncounted])])
    assert check([read_gate("medis.success>0.99")], report(content))


def test_a_promise_without_noise_is_infinite() -> None:
    content = audit([guess()], defences=[compared(privacy=promise(None))])
    assert check([read_gate("epsilon>1000")], report(content)) == [
        "gate epsilon>1000: epsilon is inf (guaranteed per image on none, seed 7)"
    ]
