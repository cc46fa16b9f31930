"""Members of ensembles, minimal norms, contradictions between attacks, and figures, by hand."""

import json
from typing import Any

import pytest
import torch
from scipy import stats

from seg_mia.results.averages import average
from seg_mia.results.base import Average, Measure
from seg_mia.results.bounded_mean import label_changes, over_images
from seg_mia.results.charts.png import pixels
from seg_mia.results.charts.robustness import curve_drawing, norms_drawing
from seg_mia.results.charts.svg import inline
from seg_mia.results.perturbation import PerturbationResult
from seg_mia.results.robustness import (
    FittingSet,
    MemberRow,
    RobustnessCurve,
    RobustnessPoint,
    member_rows,
    minimal_norms,
)
from seg_mia.results.sanity import ENSEMBLE, MEMBER, contradictions
from seg_mia.results.tables import curve_table
from seg_mia.results.text import minimal_in_words


def test_labels_before_and_after_are_of_the_same_images() -> None:
    nan = float("nan")
    values = {
        "dice_clean": torch.tensor([0.5, 0.5, 0.5]),
        "dice_clean_core": torch.tensor([0.8, nan, 0.6]),
        "dice_adversarial_core": torch.tensor([0.2, 0.0, 0.4]),  # the attack made a core in the second
        "truth_iou_clean_core": torch.tensor([0.6, nan, 0.4]),
        "truth_iou_adversarial_core": torch.tensor([0.1, 0.0, 0.3]),
        "dice_clean_rim": torch.tensor([nan, 0.5, nan]),
        "dice_adversarial_rim": torch.tensor([0.5, nan, nan]),
    }
    core, rim = label_changes(values, ["a", "b", "c"])
    assert (core.label, core.images) == ("core", 2)
    assert [core.before, core.after] == pytest.approx([0.7, 0.3])
    assert [core.iou_before, core.iou_after] == pytest.approx([0.5, 0.2])
    assert (rim.images, rim.before, rim.after) == (0, None, None)
    assert (rim.iou_before, rim.iou_after) == (None, None)
    # Two images of two patients; the most that an image may keep is the mean of before.
    expected = over_images(average(torch.tensor([0.2, 0.4])), 2, upper=0.7)
    assert core.units == 2
    assert [core.low, core.high] == pytest.approx([expected.low, expected.high])
    assert core.measure == Measure(core.after, core.low, core.high)
    assert (rim.units, rim.low, rim.high) == (0, None, None)
    (same, _) = label_changes(values, ["a", "b", "a"])
    assert (same.units, same.low, same.high) == (1, None, None), "of one patient alone there is none"


def test_members_by_hand() -> None:
    values = {
        "member": torch.tensor([0, 1, 1, 0]),
        "a.dice": torch.tensor([0.1, 0.8, 0.6, 0.3]),
        "b.dice": torch.tensor([0.5, 0.2, 0.4, 0.3]),
    }
    first, second = member_rows(values, ["a", "b"])
    assert (first.loss, first.won) == ("a", 0.5)
    assert first.alone == pytest.approx(0.45)
    assert first.without == pytest.approx(0.35)
    assert second.without == pytest.approx(0.45)
    (only,) = member_rows({"member": torch.zeros(2), "a.dice": torch.tensor([0.1, 0.3])}, ["a"])
    assert only.without is None


def test_minimal_norms_by_hand() -> None:
    values = torch.arange(1, 21).double() / 100
    values[18:] = torch.nan
    norms = minimal_norms(values.flip(0), 20)
    assert norms is not None
    assert (norms.images, norms.found, norms.quantiles["0.5"], norms.quantiles["0.9"]) == (20, 18, 0.11, None)
    # The interval of ranks 6 and 15 of 20 holds the median with probability 0.9586.
    assert (norms.low, norms.high) == (0.06, 0.15)
    assert stats.binom(20, 0.5).cdf(14) - stats.binom(20, 0.5).cdf(5) == pytest.approx(0.9586, abs=1e-3)
    assert "18 of 20 images, median 28.05/255 [15.30/255, 38.25/255]" in minimal_in_words(norms)
    few = minimal_norms(torch.tensor([0.1, 0.2]), 2)
    assert few is not None
    assert (few.low, few.high) == (0, None)
    assert minimal_norms(torch.zeros(0), 0) is None


def test_the_figure_states_its_numbers_and_is_drawn_in_both_formats() -> None:
    norms = minimal_norms(torch.tensor([0.01, 0.03, torch.nan]), 3)
    assert norms is not None
    drawing = norms_drawing({"alma-prox": norms})
    assert "median 7.65/255, 2 of 3 images fooled" in drawing.title
    assert "<svg" in inline(drawing, prefix="x")
    assert pixels(drawing).ndim == 3


def result(label: str, dice: float, *, l2: float | None = None, **settings: Any) -> PerturbationResult:
    def mean(value: float) -> dict[str, float]:
        return dict.fromkeys(Average.__dataclass_fields__, value)

    plain = {
        "kind": "perturbation",
        "attack": {"class_path": f"x.{label.split(',', maxsplit=1)[0]}", "init_args": settings},
        "attacker_knowledge": "weights",
        "is_targeted": False,
        "victim": "v",
        "data": {"fingerprint": "f", "subset": "nonmembers", "role": "victim"},
        "images": 4, "units": 4, "undefined": 0, "unchanged": 0, "no_gradient": 0,
        "results": {
            "dice_adversarial": mean(dice), "l2": mean(dice + 1 if l2 is None else l2),
            "linf": mean(0.1), "ssim": mean(0.9),
        },
        "success": [], "strengths": [],
        "seed": 0, "round": 0, "row": 0, "defence": "none",
        "name": label, "label": label, "victim_run": "v", "folder": "f", "headline": [],
    }  # fmt: skip
    return PerturbationResult.read(json.loads(json.dumps(plain)), "a result")


BALL: dict[str, Any] = {"norm": "linf", "epsilon": 0.03}


@pytest.mark.parametrize(
    ("results", "words"),
    [
        ([result("pgd", 0.5, **BALL, steps=10), result("pgd, more", 0.6, **BALL, steps=20)], "more steps"),
        ([result("pgd", 0.5, epsilon=0.03), result("pgd, wide", 0.6, epsilon=0.1)], "more radius"),
        ([result("square", 0.3, epsilon=0.03, queries=9), result("pgd", 0.5, **BALL)], "uses no gradients"),
        ([result("pgd", 0.3, norm="linf", epsilon=1.0)], "has no bound"),
        ([result("pgd", 0.5, l2=1.0, **BALL), result("apgd", 0.5, l2=1.0, **BALL)], "share all digits"),
    ],
)
def test_what_cannot_be_is_told(results: list[PerturbationResult], words: str) -> None:
    (line,) = contradictions(results)
    assert words in line


def ensemble(won: float, **settings: Any) -> PerturbationResult:
    rows = [
        MemberRow(loss=loss, won=share, alone=0.5, without=0.5)
        for loss, share in (("dice", won), ("tsallis", 1 - won))
    ]
    losses = ["dice", "tsallis"]
    whole = result("sea", 0.5, l2=1.0, losses=losses, **{**BALL, "steps": 10, "seed": 0} | settings)
    return by(ENSEMBLE, whole.model_copy(update={"members": rows}))


def by(class_path: str, found: PerturbationResult) -> PerturbationResult:
    return found.model_copy(update={"attack": {**found.attack, "class_path": class_path}})


def test_an_ensemble_may_share_all_digits_with_the_member_it_kept_throughout() -> None:
    own = result("apgd", 0.5, l2=1.0, loss="dice", sanity_images=4, **{**BALL, "steps": 10, "seed": 0})
    alone = by(MEMBER, own)
    assert contradictions([ensemble(1.0, sanity_images=0), alone]) == []
    assert contradictions([alone, ensemble(1.0)]) == []
    # It kept another for some image, ran otherwise, or the other attack is no member.
    other = by(MEMBER, result("apgd", 0.5, l2=1.0, loss="margin", **{**BALL, "steps": 10, "seed": 0}))
    wrong = [ensemble(0.5), alone], [ensemble(1.0, seed=1), alone], [ensemble(1.0), other]
    for pair in (*wrong, [ensemble(1.0), by("seg_mia.attacks.pgd.Pgd", own)]):
        (line,) = contradictions(pair)
        assert "share all digits" in line


def with_curve(*dice: float) -> PerturbationResult:
    points = [
        RobustnessPoint(radius=radius, dice=value, low=None, high=None, fooled=0.0)
        for radius, value in zip((0, 4, 8), dice, strict=True)
    ]
    curve = RobustnessCurve(fooled=0.5, points=points)
    return result("robustness-curve", dice[-1], radii=[4, 8]).model_copy(update={"curve": curve})


def seeing(knowledge: str, *results: PerturbationResult) -> list[PerturbationResult]:
    first, *others = results
    return [first.model_copy(update={"attacker_knowledge": knowledge}), *others]


def test_a_curve_is_compared_in_each_of_its_balls() -> None:
    square = result("square", 0.5, epsilon=4 / 255, queries=9)
    (line,) = contradictions([square, with_curve(0.9, 0.7, 0.3)])
    assert "lower Dice than robustness-curve (0.500 to 0.700)" in line
    assert contradictions([square, with_curve(0.9, 0.5, 0.3)]) == []
    wide = result("square", 0.1, epsilon=6 / 255, queries=9)
    assert contradictions([wide, with_curve(0.9, 0.7, 0.3)]) == []


def test_transfer_may_not_be_stronger_than_gradients_and_a_universal_change_proves_nothing() -> None:
    pgd = result("pgd", 0.6, **BALL)
    (line,) = contradictions(seeing("none of the victim", result("transfer", 0.4, **BALL), pgd))
    assert "uses no gradients of the victim" in line
    square = result("square", 0.3, epsilon=0.03, queries=9)
    universal = result("universal", 0.6, **BALL)
    fitted = universal.model_copy(update={"fitted": FittingSet(images=4, units=4)})
    assert contradictions([square, fitted]) == []


def test_the_curve_states_its_numbers_and_is_drawn_in_both_formats() -> None:
    curve = with_curve(0.9, 0.7, 0.3).curve
    assert curve is not None
    drawing = curve_drawing({"victim": curve, "defended": curve})
    assert "victim: 0.900 at 0/255, 0.700 at 4/255, 0.300 at 8/255; defended" in drawing.title
    assert "<svg" in inline(drawing, prefix="x")
    assert pixels(drawing).ndim == 3
    assert curve_table(curve)[2] == ["4", "0.700", "0.000"]


def test_what_may_be_is_not_told() -> None:
    results = [
        result("pgd", 0.5, **BALL, steps=10), result("pgd, more", 0.51, **BALL, steps=20),
        result("pgd, wide", 0.2, norm="linf", epsilon=0.1, steps=10),
        result("square", 0.6, epsilon=0.03, queries=9),
        result("pgd, free", 0.0, norm="linf", epsilon=1.0, steps=10),
        result("pgd, l2", 0.8, norm="l2", epsilon=1.0),
    ]  # fmt: skip
    assert contradictions(results) == []
