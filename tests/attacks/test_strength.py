"""Every attack in a ball: worst cases known in closed form, balls, ranges, and one attack against another."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from seg_mia.attacks.apgd import apgd, checkpoints, random_start, stages
from seg_mia.attacks.asma import asma
from seg_mia.attacks.ball import Norm
from seg_mia.attacks.base import Adversarial
from seg_mia.attacks.best import Best, mask_dice
from seg_mia.attacks.medis import medis
from seg_mia.attacks.objectives import ObjectiveName
from seg_mia.attacks.pgd import cospgd, fgsm, pgd, segpgd
from seg_mia.attacks.robustness_curve import robustness_curve
from seg_mia.attacks.sea import MEMBERS, Sea, sea
from seg_mia.attacks.transfer import transfer
from seg_mia.config.files import find_config, known
from seg_mia.errors import InputError
from seg_mia.experiment.attack_classes import is_membership
from seg_mia.losses import cross_entropy_loss
from tests.attacks import test_alma_prox, test_certify, test_square, test_universal
from tests.attacks.networks import WEIGHTS, Linear, Quadratic, discs, linear_data, trained

Attack = Callable[..., Adversarial]


def with_loss(attack: Attack, loss: str, **options: Any) -> Attack:
    return lambda *data, **knobs: attack(*data, loss=loss, **options, **knobs)


IN_BALL: dict[str, Attack] = {
    "pgd": with_loss(pgd, "cross_entropy", step_size=0.02, keep="best"),
    "segpgd": segpgd,
    "cospgd": cospgd,
    "apgd dice": with_loss(apgd, "dice"),
    **{f"apgd {name}": with_loss(apgd, name) for name in (*MEMBERS, "margin", "cross_entropy")},
    "sea": sea,
}
every_attack = pytest.mark.parametrize("attack", IN_BALL.values(), ids=list(IN_BALL))


def least_dice(mask: Tensor, lowest: Tensor, highest: Tensor) -> Tensor:
    """Return the Dice of a pixel by pixel worst case: logits may take any value between two maps."""
    worst = torch.where(mask.unsqueeze(1) == 1, lowest, highest)
    return mask_dice(worst, mask)


@every_attack
@pytest.mark.parametrize("classes", [1, 2])
@pytest.mark.parametrize("epsilon", [0.01, 0.04])
def test_reaches_the_worst_case_of_a_linear_network(attack: Attack, classes: int, epsilon: float) -> None:
    # Within the ball the logit of a pixel moves by epsilon (3 + 4); no value comes near 0 or 1.
    x, mask = linear_data()
    logits, moved = Linear()(x), epsilon * sum(map(abs, WEIGHTS))
    expected = least_dice(mask, logits - moved, logits + moved)
    result = attack(Linear(classes), x, mask, epsilon=epsilon, steps=40)
    dice = mask_dice(Linear()(result.images), mask)
    assert (expected < 0.99).all()
    assert_close(dice, expected, atol=0.01, rtol=0)


OTHERS: dict[str, Attack] = {
    "fgsm": fgsm,
    "transfer": lambda *data, epsilon: transfer(*data, epsilon=epsilon, step_size=epsilon / 4, diverse=0.0),
    "medis": lambda *data, epsilon: medis(
        *data, targeted=False, step_size=epsilon / 10, stop=0.0, keep="last"
    ),
    "robustness-curve": lambda *data, epsilon: robustness_curve(*data, radii=(1, 255 * epsilon), steps=20),
}
every_other = pytest.mark.parametrize("attack", OTHERS.values(), ids=list(OTHERS))


@every_other
def test_others_reach_the_worst_case_of_a_linear_network(attack: Attack) -> None:
    x, mask = linear_data()
    logits, moved = Linear()(x), 0.04 * sum(map(abs, WEIGHTS))
    expected = least_dice(mask, logits - moved, logits + moved)
    result = attack(Linear(), x, mask, epsilon=0.04)
    assert (result.images - x).abs().max() <= 0.04 + 1e-9
    assert_close(mask_dice(Linear()(result.images), mask), expected, atol=0.01, rtol=0)


def quadratic_worst_case() -> tuple[Tensor, Tensor, float, Tensor]:
    """Return images, masks, a radius and the least Dice on `Quadratic`.

    Worst for foreground is the end farther from 0.4, for background 0.4 itself or the end nearer to it.
    """
    draw = torch.Generator().manual_seed(0)
    x = 0.3 + 0.4 * torch.rand(3, 1, 8, 8, generator=draw, dtype=torch.float64)
    mask, epsilon = (Quadratic()(x)[:, 0] > 0).long(), 0.03
    far, near = (x - 0.4).abs() + epsilon, ((x - 0.4).abs() - epsilon).clamp(min=0)
    expected = least_dice(mask, 1 - 50 * far.square(), 1 - 50 * near.square())
    assert (expected < 0.95).all()
    return x, mask, epsilon, expected


@every_attack
def test_reaches_the_worst_case_of_a_quadratic_network(attack: Attack) -> None:
    x, mask, epsilon, expected = quadratic_worst_case()
    result = attack(Quadratic(), x, mask, epsilon=epsilon, steps=40)
    assert_close(mask_dice(Quadratic()(result.images), mask), expected, atol=0.01, rtol=0)


@every_other
def test_others_reach_the_worst_case_of_a_quadratic_network(attack: Attack) -> None:
    x, mask, epsilon, expected = quadratic_worst_case()
    result = attack(Quadratic(), x, mask, epsilon=epsilon)
    assert_close(mask_dice(Quadratic()(result.images), mask), expected, atol=0.01, rtol=0)


def test_the_curve_reaches_the_worst_case_of_a_quadratic_network() -> None:
    x, mask, epsilon, expected = quadratic_worst_case()
    result = robustness_curve(Quadratic(), x, mask, radii=(1, 255 * epsilon), steps=20)
    assert_close(result.notes["dice"].float(), expected, atol=0.01, rtol=0)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("staged", [False, True])
def test_apgd_reaches_the_largest_loss_of_a_linear_network(norm: Norm, staged: bool) -> None:
    # All pixels alike, so the worst change is the same in each: the logit falls by epsilon |w|_1, or by
    # epsilon |w|_2 / sqrt(pixels).
    x, mask = torch.full((1, 2, 4, 4), 0.3).double(), torch.ones(1, 4, 4, dtype=torch.int64)
    x[:, 0] = 0.7
    epsilon, fall = (0.05, 0.05 * 7) if norm == "linf" else (0.4, 0.4 * 5 / 4)
    options: dict[str, Any] = {"norm": norm, "epsilon": epsilon, "staged": staged, "loss": "cross_entropy"}
    result = apgd(Linear(), x, mask, steps=60, **options)
    worst = math.log1p(math.exp(-(0.7 * 3 - 0.3 * 4 + 0.25 - fall)))
    assert cross_entropy_loss(Linear()(result.images), mask).item() == pytest.approx(worst, rel=0.01)


@pytest.mark.parametrize("classes", [1, 2])
@every_attack
def test_reaches_the_worst_case_of_a_linear_network_in_l2(attack: Attack, classes: int) -> None:
    # Every loss falls with every pixel's logit alike, 1.15 at first; in the ball it falls by 0.4 |w|_2 / 4.
    x, mask = torch.full((2, 2, 4, 4), 0.3).double(), torch.ones(2, 4, 4, dtype=torch.int64)
    x[:, 0] = 0.7
    result = attack(Linear(classes), x, mask, norm="l2", epsilon=0.4, steps=40)
    fallen = 1.15 - Linear()(result.images)
    assert_close(fallen, torch.full_like(fallen, 0.5), rtol=0.01, atol=0)


def least_dice_in_l2(x: Tensor, mask: Tensor, epsilon: float) -> Tensor:
    """Return the least Dice that any change of that length leaves on `Linear`, (N,).

    Turning a pixel of logit z takes a length of |z| / 5, so the i cheapest pixels of the foreground and the j
    cheapest of the background turn together if the sum of their squares fits.
    """
    lowest = []
    for logits, truth in zip(Linear()(x)[:, 0], mask, strict=True):
        costs = [(logits[truth == value] / 5).square().sort().values.cumsum(0) for value in (1, 0)]
        missed, false = (torch.cat([part.new_zeros(1), part]) for part in costs)
        possible = missed[:, None] + false <= epsilon**2
        i, j = torch.arange(len(missed))[:, None], torch.arange(len(false))
        kept = 2.0 * (len(missed) - 1 - i)
        lowest.append((kept / (kept + i + j)).masked_fill(~possible, 1).min())
    return torch.stack(lowest)


@every_attack
def test_no_attack_in_l2_goes_below_the_worst_case_of_pixels_that_differ(attack: Attack) -> None:
    # The cheapest pixels alone would have to be moved. Attacks that follow a mean over pixels share the
    # length among more of them, and stay above it: L2 balls are no evidence of resistance in reports.
    x, mask = linear_data()
    expected = least_dice_in_l2(x, mask, 0.1)
    result = attack(Linear(), x, mask, norm="l2", epsilon=0.1, steps=40)
    dice = mask_dice(Linear()(result.images), mask)
    assert (dice >= expected - 1e-6).all()
    assert (dice < mask_dice(Linear()(x), mask) - 0.15).all()


ELSEWHERE: dict[str, list[Callable[..., None]]] = {
    "alma-prox": [
        test_alma_prox.test_the_exact_distance_to_a_linear_boundary,
        test_alma_prox.test_the_exact_distance_to_a_quadratic_boundary,
    ],
    "square": [test_square.test_every_pixel_is_brought_to_its_worst_case],
    "universal": [
        test_universal.test_the_best_change_of_a_linear_network_is_known,
        test_universal.test_the_best_change_of_a_quadratic_network_is_known,
    ],
    "certify": [test_certify.test_no_attack_within_the_radius_changes_a_class_of_a_linear_network],
}
"""Attacks whose tests with a known answer are elsewhere."""
NO_WORST_CASE = {
    "adain": "moves an organ's statistics by a chosen strength: no worst case is searched",
    "frequency": "rounds coefficients of blocks: its set of changes is discrete and no ball",
    "trigger": "adds a fixed pattern",
}


def test_every_attack_is_held_to_a_known_worst_case_or_has_none() -> None:
    attacks = {name for name in known("attack") if not is_membership(str(find_config(name, "attack")))}
    here = {name.split()[0] for name in (*IN_BALL, *OTHERS)} | {"asma"}
    parts = (here, set(ELSEWHERE), set(NO_WORST_CASE))
    assert set().union(*parts) == attacks
    assert sum(map(len, parts)) == len(attacks), "each in one of them"


def test_asma_reaches_its_target_on_a_quadratic_network_by_the_least_change() -> None:
    # A pixel that is to turn moves to the boundary nearest to it, 0.4 + 0.02 ** 0.5, the others not at all.
    draw = torch.Generator().manual_seed(0)
    x = 0.46 + 0.16 * torch.rand(3, 1, 8, 8, generator=draw, dtype=torch.float64)
    target = ((torch.arange(8).view(8, 1) + torch.arange(8)) % 3 == 0).long().repeat(3, 1, 1)
    wrong = (Quadratic()(x)[:, 0] > 0) != (target == 1)
    result = asma(Quadratic(), x, target, steps=400, tau=1e-4, beta=0.0)
    assert ((Quadratic()(result.images)[:, 0] > 0) == (target == 1)).all()
    least = ((x[:, 0] - 0.4 - 0.02**0.5).square() * wrong).flatten(1).sum(1).sqrt()
    assert_close((result.images - x).flatten(1).norm(dim=1), least, rtol=0.01, atol=0)


@pytest.mark.parametrize("classes", [1, 2])
def test_asma_reaches_its_target_by_the_least_change(classes: int) -> None:
    # A pixel of logit z that is to turn moves by |z| / 5, the others not at all.
    x, mask = linear_data()
    pattern = (torch.arange(8).view(8, 1) + torch.arange(8)) % 3 == 0
    target = pattern.long().expand_as(mask).masked_fill(mask == 255, 255)
    result = asma(Linear(classes), x, target, steps=800, tau=2e-4, beta=0.0)
    logits, valid = Linear()(x)[:, 0], target != 255
    reached = (Linear()(result.images)[:, 0] > 0).long() == target
    assert (reached | ~valid).all()
    wrong = ((logits > 0).long() != target) & valid
    least = (logits.square() * wrong).flatten(1).sum(1).sqrt() / 5
    assert_close((result.images - x).flatten(1).norm(dim=1), least, rtol=0.01, atol=0)


@every_attack
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_ball_and_range_hold(attack: Attack, norm: Norm) -> None:
    x, mask = discs(3, 5)
    x = (1.6 * x - 0.3).clamp(0, 1)
    epsilon = 0.05 if norm == "linf" else 0.7
    result = attack(trained(), x, mask, norm=norm, epsilon=epsilon, steps=8)
    change = (result.images - x).flatten(1)
    size = change.abs().amax(1) if norm == "linf" else change.norm(dim=1)
    assert (size <= epsilon + 1e-6).all()
    assert (size > 0).all()
    assert result.images.min() >= 0
    assert result.images.max() <= 1


def test_an_image_without_a_labelled_pixel_stays() -> None:
    x, mask = discs(2, 5)
    mask[0] = 255
    for attack in IN_BALL.values():
        result = attack(trained(), x, mask, epsilon=0.03, steps=5)
        assert_close(result.images[0], x[0], rtol=0, atol=0)
        assert (result.images[1] != x[1]).any()


def test_adaptive_steps_are_not_weaker_than_fixed_ones() -> None:
    x, mask = discs(8, 9)

    def left(attack: Attack, **options: Any) -> float:
        images = attack(trained(), x, mask, epsilon=0.04, **options).images
        return mask_dice(trained()(images), mask).mean().item()

    fixed = min(left(pgd, steps=40, step_size=size) for size in (0.01, 0.02))
    adaptive = left(apgd, steps=40, loss="dice")
    assert adaptive <= fixed
    assert left(sea, steps=40) <= adaptive


def test_the_ensemble_is_its_members_worst() -> None:
    x, mask = discs(4, 5)
    names: tuple[ObjectiveName, ...] = ("dice", "jensen_shannon", "tsallis")
    alone = [apgd(trained(), x, mask, epsilon=0.04, steps=12, loss=name) for name in names]
    result = sea(trained(), x, mask, epsilon=0.04, steps=12, losses=names)
    dice = torch.stack([run.notes["dice"] for run in alone])
    assert_close(result.notes["dice"], dice.amin(0))
    assert_close(result.notes["dice"], mask_dice(trained()(result.images), mask))
    for name, row in zip(names, dice, strict=True):
        assert_close(result.notes[f"{name}.dice"], row)
    for n in range(4):
        assert_close(result.images[n], alone[int(result.notes["member"][n])].images[n], rtol=0, atol=0)
    assert Sea(losses=list(names)).members == names


def test_radii_shrink_and_steps_add_up() -> None:
    assert list(stages(300, staged=True)) == [(2.0, 90), (1.5, 90), (1.0, 120)]
    assert list(stages(4, staged=True)) == [(2.0, 1), (1.5, 1), (1.0, 2)]
    assert list(stages(7, staged=False)) == [(1.0, 7)]


def test_checkpoints_come_closer() -> None:
    # Of 100 steps: 0.22, then gaps of 0.19, 0.16, 0.13, 0.10, 0.07 and, the least, 0.06.
    assert checkpoints(100) == [22, 41, 57, 70, 80, 87, 93, 99, 105]


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_random_start_lies_on_the_ball_and_is_the_same_for_all(norm: Norm) -> None:
    x = torch.full((3, 2, 5, 5), 0.5)
    change = (random_start(x, norm, 0.1, 0) - x).flatten(1)
    size = change.abs().amax(1) if norm == "linf" else change.norm(dim=1)
    assert_close(size, torch.full((3,), 0.1))
    assert_close(change[0], change[2])
    assert (random_start(x, norm, 0.1, 1) != random_start(x, norm, 0.1, 0)).any()


def test_the_best_iterate_is_that_of_lowest_dice_then_of_highest_loss() -> None:
    mask = torch.tensor([[[1, 1, 0]]])
    dice_half, dice_none = torch.tensor([[[[1.0, -1.0, 1.0]]]]), torch.tensor([[[[-1.0, -1.0, -1.0]]]])
    best = Best(torch.zeros(1, 1, 1, 1))
    for n, (logits, loss) in enumerate([(dice_half, 1.0), (dice_half, 3.0), (dice_half, 2.0)]):
        best.keep(n, torch.full((1, 1, 1, 1), float(n)), logits, mask, torch.tensor([loss]))
    assert (best.dice.item(), best.step.item(), best.image.item()) == (0.5, 1, 1.0)
    best.keep(3, torch.full((1, 1, 1, 1), 3.0), dice_none, mask, torch.tensor([0.0]))
    best.keep(4, torch.full((1, 1, 1, 1), 4.0), dice_none, mask, torch.tensor([9.0]))
    assert (best.dice.item(), best.step.item(), bool(best.finished)) == (0, 3, True)


def test_with_a_target_the_best_iterate_is_that_of_highest_dice() -> None:
    x, mask = discs(2, 5)
    target = mask.flip(0)
    last, best = (
        pgd(trained(), x, target, targeted=True, epsilon=0.1, steps=15, step_size=0.03, keep=keep).images
        for keep in ("last", "best")
    )
    reached = [mask_dice(trained()(images), target) for images in (x, last, best)]
    assert (reached[2] >= torch.maximum(reached[0], reached[1])).all()


@pytest.mark.parametrize("knobs", [{"steps": 3, "staged": True}, {"steps": 0}, {"epsilon": 2.0}])
def test_knobs_outside_their_range_are_refused(knobs: dict[str, Any]) -> None:
    x, mask = discs(1, 5)
    with pytest.raises(InputError, match="at least|at most"):
        apgd(trained(), x, mask, **knobs)


@pytest.mark.parametrize("losses", [[], ["dice", "dice"], ["nosuch"]])
def test_an_ensemble_needs_different_losses(losses: list[Any]) -> None:
    x, mask = discs(1, 5)
    with pytest.raises(InputError, match="losses must be different names"):
        sea(trained(), x, mask, losses=losses)
    with pytest.raises(InputError, match="losses must be different names"):
        Sea(losses=losses)
