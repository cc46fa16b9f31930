"""The surrogate losses against their formulas, written out in numpy for one image, one class, one pixel."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter
from torch import Tensor
from torch.nn import functional
from torch.testing import assert_close

from seg_mia.losses import (
    SURROGATES,
    SurrogateName,
    bce_dice_loss,
    combined_loss,
    log_cosh_dice_loss,
    lovasz_hinge_loss,
    structure_loss,
)
from seg_mia.metrics.labels import IGNORE
from tests.losses.helpers import draw, every_channels, every_loss

Map = NDArray[np.float64]
WEIGHTS: dict[SurrogateName, float] = {
    "structure": 0.21,
    "log_cosh_dice": 0.18,
    "bce_dice": 0.20,
    "exponential_logarithmic": 0.15,
    "lovasz_hinge": 0.26,
}


def softmax(logits: Map) -> Map:
    """Class probabilities (K, h, w), K at least 2; a single logit z is the pair (-z/2, z/2)."""
    pair = np.concatenate([-logits / 2, logits / 2]) if len(logits) == 1 else logits
    weights = np.exp(pair - pair.max(0))
    result: Map = weights / weights.sum(0)
    return result


def dice(p: Map, t: Map) -> float:
    return float((2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1))


def mean_bce(p: Map, t: Map, power: int = 1) -> float:
    return float(np.mean([-(math.log(q if y else 1 - q) ** power) for q, y in zip(p, t, strict=True)]))


def log_cosh_dice(p: Map, t: Map) -> float:
    return math.log(math.cosh(1 - dice(p, t)))


def bce_dice(p: Map, t: Map) -> float:
    return mean_bce(p, t) + 1 - dice(p, t)


def exponential_logarithmic(p: Map, t: Map) -> float:
    surprises = [-math.log(q if y else 1 - q) for q, y in zip(p, t, strict=True)]
    return 0.5 * math.log(dice(p, t)) ** 2 + 0.5 * sum(s**2 for s in surprises) / len(surprises)


def lovasz_hinge(p: Map, t: Map) -> float:
    """Each pixel's hinge error times what adding it to the worse ones adds to |wrong| / |true or wrong|."""
    errors = 1 - np.log(p / (1 - p)) * (2 * t - 1)
    worst_first = sorted(range(len(t)), key=lambda pixel: -errors[pixel])
    true = {pixel for pixel in range(len(t)) if t[pixel]}
    wrong = [set(worst_first[:count]) for count in range(len(t) + 1)]
    lost = [len(some) / max(len(true | some), 1) for some in wrong]
    steps = zip(worst_first, pairwise(lost), strict=True)
    return sum(max(float(errors[pixel]), 0) * (after - before) for pixel, (before, after) in steps)


OF_PIXELS: dict[SurrogateName, Callable[[Map, Map], float]] = {
    "log_cosh_dice": log_cosh_dice,
    "bce_dice": bce_dice,
    "exponential_logarithmic": exponential_logarithmic,
    "lovasz_hinge": lovasz_hinge,
}


def structure(p: Map, t: Map, counts: NDArray[np.bool_]) -> float:
    weight = 1 + 5 * np.abs(uniform_filter(t, 31, mode="constant") - t)
    w, p, t = weight[counts], p[counts], t[counts]
    bce = sum(w * np.where(t == 1, -np.log(p), -np.log(1 - p))) / sum(w)
    both = sum(w * p * t)
    return float(bce + 1 - (both + 1) / (sum(w * (p + t)) - both + 1))


def by_hand(name: SurrogateName, heads: Sequence[Map], mask: NDArray[np.int64]) -> float:
    """One image's loss: `heads` are logits (K, h, w), the mask is (h, w)."""
    if name == "combined":
        return sum(weight * by_hand(part, heads, mask) for part, weight in WEIGHTS.items())
    if name == "structure" and len(heads) > 1:
        return sum(by_hand(name, [head], mask) for head in heads)
    probabilities, counts = np.mean([softmax(head) for head in heads], axis=0), mask != IGNORE
    judged = {1}
    if len(probabilities) > 2:
        judged = set(mask[counts]) | set(probabilities.argmax(0)[counts])
    costs = []
    for kind in judged:
        p, t = probabilities[kind], (mask == kind).astype(np.float64)
        costs.append(
            structure(p, t, counts) if name == "structure" else OF_PIXELS[name](p[counts], t[counts])
        )
    return float(np.mean(costs))


def expected(name: SurrogateName, heads: Sequence[Tensor], mask: Tensor) -> Tensor:
    images = [by_hand(name, [head[n].numpy() for head in heads], mask[n].numpy()) for n in range(len(mask))]
    return torch.tensor(images, dtype=torch.float64)


@every_loss
@every_channels
def test_agrees_with_the_formula(name: SurrogateName, channels: int) -> None:
    for seed, size in enumerate([(9, 7), (40, 37), (1, 12)]):
        logits, mask = draw(channels, seed=seed, size=size)
        found = SURROGATES[name](logits, mask)
        assert_close(found, expected(name, [logits], mask), atol=1e-6, rtol=1e-6)


@every_loss
@every_channels
def test_several_heads_agree_with_the_formula(name: SurrogateName, channels: int) -> None:
    heads = [draw(channels, seed=seed)[0] for seed in range(4)]
    mask = draw(channels)[1]
    found = SURROGATES[name](tuple(heads), mask)
    assert_close(found, expected(name, heads, mask), atol=1e-6, rtol=1e-6)
    if name != "combined":  # four equal heads are one, but where losses are summed
        once = SURROGATES[name](heads[0], mask) * (4 if name == "structure" else 1)
        assert_close(SURROGATES[name](heads[:1] * 4, mask), once, atol=1e-9, rtol=1e-9)


@every_loss
def test_only_classes_in_mask_or_prediction_are_averaged(name: SurrogateName) -> None:
    logits, mask = draw(4, ignored=0)
    mask, logits[:, 3] = mask.clamp(max=1), -50  # class 2 is predicted somewhere, class 3 is nowhere
    assert (logits.argmax(1) == 2).any(2).any(1).all()
    three = SURROGATES[name](logits, mask)
    assert_close(three, expected(name, [logits], mask), atol=1e-6, rtol=1e-6)
    mask[logits.argmax(1) == 2] = IGNORE  # and where it is, nobody looks
    two = SURROGATES[name](logits, mask)
    assert_close(two, expected(name, [logits], mask), atol=1e-6, rtol=1e-6)


@every_loss
def test_two_classes_are_one_logit_their_difference(name: SurrogateName) -> None:
    logits, mask = draw(2)
    difference = logits[:, 1:] - logits[:, :1]
    assert_close(SURROGATES[name](logits, mask), SURROGATES[name](difference, mask), rtol=1e-12, atol=1e-12)


def test_by_hand_on_two_pixels() -> None:
    # p = 3/4 on a pixel of the class and 1/4 on one that is not: z = +-log 3, both right
    logits = torch.tensor([[[[math.log(3), -math.log(3)]]]], dtype=torch.float64)
    mask = torch.tensor([[[1, 0]]])
    overlap, surprise = (2 * 0.75 + 1) / (1 + 1 + 1), -math.log(0.75)
    # 31 x 31 pixels around either hold one of the class: w = 1 + 5 (1 - 1/961) and 1 + 5/961
    first, second = 6 - 5 / 961, 1 + 5 / 961
    both, either = 0.75 * first, 1.75 * first + 0.25 * second
    values: dict[SurrogateName, float] = {
        "log_cosh_dice": math.log(math.cosh(1 - overlap)),
        "bce_dice": surprise + 1 - overlap,
        "exponential_logarithmic": 0.5 * math.log(overlap) ** 2 + 0.5 * surprise**2,
        "structure": surprise + 1 - (both + 1) / (either - both + 1),
        "lovasz_hinge": 0.0,  # both margins are above 1
    }
    for name, value in values.items():
        assert SURROGATES[name](logits, mask).item() == pytest.approx(value), name
    total = sum(WEIGHTS[name] * value for name, value in values.items())
    assert combined_loss(logits, mask).item() == pytest.approx(total)
    # half as confident, both errors are 1 - log(3)/2: either wrong pixel alone makes |wrong|/|true or wrong|
    # 1 or 1/2, and all of them 1, so the weights sum to 1
    assert lovasz_hinge_loss(logits / 2, mask).item() == pytest.approx(1 - math.log(3) / 2)


def test_lovasz_and_dice_are_those_of_segmentation_models_pytorch() -> None:
    logits, mask = draw(1, dtype=torch.float32)  # their Lovasz knows float32 only
    lovasz = smp.losses.LovaszLoss("binary", per_image=True, ignore_index=IGNORE)
    # it smooths half the fraction: (I + s) / ((P + T) / 2 + s)
    soft = smp.losses.DiceLoss("binary", smooth=0.5, ignore_index=IGNORE)
    for n in range(3):
        one, its = logits[n : n + 1], mask[n : n + 1]
        assert_close(lovasz_hinge_loss(one, its)[0], lovasz(one[:, 0], its), atol=1e-5, rtol=1e-5)
        assert_close(log_cosh_dice_loss(one, its)[0], soft(one, its).cosh().log(), atol=1e-5, rtol=1e-5)
        known = its != IGNORE
        bce = functional.binary_cross_entropy_with_logits(one[:, 0][known], its[known].float())
        assert_close(bce_dice_loss(one, its)[0], bce + soft(one, its), atol=1e-5, rtol=1e-5)


@every_loss
@every_channels
def test_ignored_pixels_are_as_good_as_cut_off(name: SurrogateName, channels: int) -> None:
    logits, mask = draw(channels, size=(20, 18), ignored=0)
    mask[:, 15:], mask[:, :, 11:] = IGNORE, IGNORE
    cut = SURROGATES[name](logits[:, :, :15, :11], mask[:, :15, :11])
    assert_close(SURROGATES[name](logits, mask), cut, rtol=1e-12, atol=1e-12)


@every_loss
@every_channels
def test_no_loss_of_wherever_pixels_lie_sees_ignored_ones(name: SurrogateName, channels: int) -> None:
    logits, mask = draw(channels, n=1, ignored=0.4)
    known = mask[0] != IGNORE
    left, its = logits[:, :, known].unsqueeze(2), mask[:, known].unsqueeze(1)
    if name in {"structure", "combined"}:  # these see who lies beside whom
        left, its = logits.clone(), mask.clone()
        left[:, :, ~known] = 100.0
    assert_close(SURROGATES[name](logits, mask), SURROGATES[name](left, its), rtol=1e-12, atol=1e-12)


@every_loss
@every_channels
def test_an_image_costs_what_it_costs_alone(name: SurrogateName, channels: int) -> None:
    heads = [draw(channels, seed=seed, n=4)[0] for seed in range(2)]
    mask = draw(channels, n=4)[1]
    mask[2] = IGNORE
    together = SURROGATES[name](heads, mask)
    assert together.shape == (4,)
    for n in range(4):
        alone = SURROGATES[name]([head[n : n + 1] for head in heads], mask[n : n + 1])
        assert_close(together[n : n + 1], alone, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("output", [torch.zeros(2, 1, 4, 4), (torch.zeros(2, 1, 4, 4),) * 2])
def test_an_empty_mask_met_by_an_undecided_map_by_hand(output: Any) -> None:
    # p = 1/2 on 16 pixels, none of the class: Dice = 1 / (8 + 1)
    mask = torch.zeros(2, 4, 4, dtype=torch.int64)
    heads = 1 if isinstance(output, Tensor) else 2
    lost, surprise = 1 - 1 / 9, math.log(2)
    assert_close(log_cosh_dice_loss(output, mask), torch.full((2,), math.log(math.cosh(lost))))
    assert_close(bce_dice_loss(output, mask), torch.full((2,), surprise + lost))
    assert_close(structure_loss(output, mask), torch.full((2,), heads * (surprise + lost)))
    assert_close(lovasz_hinge_loss(output, mask), torch.ones(2))
