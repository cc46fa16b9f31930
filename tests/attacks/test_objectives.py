"""Objectives by hand, by their definitions in other words, and by what they have in common."""

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from seg_mia.attacks.objectives import OBJECTIVES, ObjectiveName, comparable, pixel_margin
from seg_mia.losses import LOSSES, cross_entropy_loss

OWN: tuple[ObjectiveName, ...] = tuple(name for name in OBJECTIVES if name not in LOSSES)
PROBABILITIES = (0.9, 0.6, 0.2, 0.5)
"""Of the true class, of which the first two are correct; the last pixel is ignored."""


def by_hand(truth: int = 1) -> tuple[Tensor, Tensor]:
    """Return one row of four pixels of which the network gives the truth PROBABILITIES, and its mask."""
    p = torch.tensor(PROBABILITIES, dtype=torch.float64)
    logits = p.logit() if truth else -p.logit()
    mask = torch.full((1, 1, 4), truth)
    mask[..., 3] = 255
    return logits.view(1, 1, 1, 4), mask


def drawn(channels: int, count: int = 4) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(channels)
    logits = 3 * torch.randn(count, channels, 5, 6, generator=draw, dtype=torch.float64)
    mask = torch.randint(max(2, channels), (count, 5, 6), generator=draw)
    return logits, mask.masked_fill(torch.rand(mask.shape, generator=draw) < 0.2, 255)


def mean_of(weights: tuple[float, ...], terms: list[float]) -> float:
    return sum(weight * term for weight, term in zip(weights, terms, strict=True)) / len(terms)


CE = [-math.log(p) for p in PROBABILITIES[:3]]


@pytest.mark.parametrize("truth", [0, 1])
@pytest.mark.parametrize(
    ("name", "progress", "targeted", "expected"),
    [
        ("segpgd", 0.0, False, mean_of((1, 1, 0), CE)),
        ("segpgd", 0.5, False, mean_of((0.75, 0.75, 0.25), CE)),
        ("segpgd", 0.5, True, mean_of((0.25, 0.25, 0.75), CE)),
        ("cospgd", 0.3, False, mean_of(tuple(p / math.hypot(p, 1 - p) for p in PROBABILITIES[:3]), CE)),
        ("cospgd", 0.3, True, mean_of(tuple(1 - p / math.hypot(p, 1 - p) for p in PROBABILITIES[:3]), CE)),
        ("masked_cross_entropy", 0.5, False, mean_of((1, 1, 0), CE)),
        ("masked_cross_entropy", 0.5, True, mean_of((0, 0, 1), CE)),
        ("balanced_cross_entropy", 0.5, False, mean_of((1, 1, 0), CE)),
        ("tsallis", 1.0, False, mean_of((1, 1, 1), CE)),
        ("tsallis", 0.0, False, mean_of((1, 1, 1), [(1 - p**3) / 3 for p in PROBABILITIES[:3]])),
        ("margin", 0.5, False, mean_of((1, 1, 0), [-math.log(p / (1 - p)) for p in PROBABILITIES[:3]])),
        ("margin", 0.5, True, mean_of((0, 0, 1), [-math.log(p / (1 - p)) for p in PROBABILITIES[:3]])),
    ],
)
def test_values_by_hand(
    name: ObjectiveName, progress: float, targeted: bool, expected: float, truth: int
) -> None:
    value = OBJECTIVES[name](*by_hand(truth), progress, targeted)
    assert value.tolist() == pytest.approx([expected])


def test_classes_of_a_balanced_loss_weigh_the_same() -> None:
    # Three pixels of class 0 and one of class 1, all right with probability 1/2 (ties are class 0).
    logits = torch.zeros(1, 2, 1, 5, dtype=torch.float64)
    logits[:, 1, :, 3] = 1e-9
    mask = torch.tensor([[[0, 0, 0, 1, 255]]])
    value = OBJECTIVES["balanced_cross_entropy"](logits, mask, 0, False)
    assert value.item() == pytest.approx(math.log(2))
    (gradient,) = torch.autograd.grad(
        OBJECTIVES["balanced_cross_entropy"](logits.requires_grad_(), mask, 0, False).sum(), logits
    )
    assert gradient[0, 0, 0, 3].item() == pytest.approx(3 * -gradient[0, 0, 0, 0].item())


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_the_jensen_shannon_divergence_is_that_of_two_distributions(channels: int) -> None:
    logits, mask = drawn(channels)
    pair = torch.cat((-logits, logits), 1) / 2 if channels == 1 else logits
    p = pair.softmax(1)
    valid = mask != 255
    truth = torch.nn.functional.one_hot(mask * valid, pair.shape[1]).movedim(-1, 1).double()
    middle = (p + truth) / 2
    parts = torch.special.xlogy(p, p / middle) + torch.special.xlogy(truth, truth / middle)
    expected = (parts.sum(1) / 2 * valid).sum((1, 2)) / valid.sum((1, 2))
    assert_close(OBJECTIVES["jensen_shannon"](logits, mask, 0, False), expected)


@pytest.mark.parametrize("progress", [0.0, 0.4])
def test_the_gradient_of_tsallis_is_that_of_the_cross_entropy_times_a_power(progress: float) -> None:
    logits, mask = drawn(3)
    logits.requires_grad_()
    (gradient,) = torch.autograd.grad(OBJECTIVES["tsallis"](logits, mask, progress, False).sum(), logits)
    (plain,) = torch.autograd.grad(cross_entropy_loss(logits, mask).sum(), logits)
    p = logits.softmax(1).gather(1, mask.masked_fill(mask == 255, 0).unsqueeze(1))
    assert_close(gradient, plain * p ** (3 * (1 - progress)))


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("channels", [1, 2, 4])
def test_ignored_pixels_and_neighbours_in_a_batch_do_not_matter(name: ObjectiveName, channels: int) -> None:
    logits, mask = drawn(channels)
    values = OBJECTIVES[name](logits, mask, 0.3, False)
    other = torch.where((mask == 255).unsqueeze(1), 7.0, logits)
    assert_close(OBJECTIVES[name](other, mask, 0.3, False), values)
    for n in range(len(mask)):
        alone = OBJECTIVES[name](logits[n : n + 1], mask[n : n + 1], 0.3, False)
        assert_close(alone, values[n : n + 1])
    assert_close(comparable(name)(other, mask), comparable(name)(logits, mask))


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("name", OWN)
def test_one_logit_is_its_pair_and_nothing_counts_where_all_is_ignored(
    name: ObjectiveName, targeted: bool
) -> None:
    logits, mask = drawn(1)
    pair = torch.cat((-logits / 2, logits / 2), 1)
    assert_close(OBJECTIVES[name](logits, mask, 0.3, targeted), OBJECTIVES[name](pair, mask, 0.3, targeted))
    logits.requires_grad_()
    value = OBJECTIVES[name](logits, torch.full_like(mask, 255), 0.3, targeted)
    (gradient,) = torch.autograd.grad(value.sum(), logits)
    assert value.tolist() == [0, 0, 0, 0]
    assert not gradient.any()


@pytest.mark.parametrize("name", ["cross_entropy", "dice", *OWN])
def test_a_sure_and_right_prediction_has_a_finite_gradient(name: ObjectiveName) -> None:
    logits = torch.tensor([[[[60.0, -60.0, 20.0]]]], requires_grad=True)
    mask = torch.tensor([[[1, 0, 1]]])
    (gradient,) = torch.autograd.grad(OBJECTIVES[name](logits, mask, 0, False).sum(), logits)
    assert gradient.isfinite().all()
    assert gradient[0, 0, 0, 2] < 0


def test_margins_by_hand() -> None:
    logits = torch.tensor([[3.0, 1.0], [2.0, 5.0], [0.0, 4.0]]).view(1, 3, 1, 2)
    assert pixel_margin(logits, torch.tensor([[[0, 2]]])).tolist() == [[[1, -1]]]
    assert pixel_margin(logits, torch.tensor([[[255, 1]]])).tolist() == [[[0, 1]]]
    assert pixel_margin(logits[:, :1], torch.tensor([[[0, 1]]])).tolist() == [[[-3, 1]]]
