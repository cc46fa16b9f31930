"""The statistics of smoothing, against enumeration, simulation and the tables of the method."""

from functools import partial
from itertools import product

import pytest
import torch
from scipy import stats
from torch import Tensor
from torch.testing import assert_close

from seg_mia.metrics.certificates import (
    abstained,
    certified_correct,
    certified_dice,
    certified_dice_per_class,
    holm,
    information,
    needed,
    p_values,
    radius,
)
from seg_mia.metrics.labels import IGNORE
from seg_mia.metrics.overlap import foreground_dice

TAU = 0.75


@pytest.mark.parametrize(
    ("draws", "small", "large"),
    [(100, 95, 97), (300, 261, 266), (1000, 818, 827)],
    ids=["100", "300", "1000"],
)
def test_needed_counts_on_images_of_two_sizes(draws: int, small: int, large: int) -> None:
    assert needed(draws, TAU, 1e-3, 64**2) == small
    assert needed(draws, TAU, 1e-3, 512**2) == large


def test_too_few_draws_certify_nothing() -> None:
    assert needed(10, TAU, 1e-3, 4096) == 11


def test_the_radius_is_that_of_the_normal_quantile() -> None:
    assert round(radius(0.25, TAU), 3) == 0.169
    assert round(radius(0.5, TAU), 3) == 0.337
    assert radius(1.0, 0.5) == 0


def test_p_values_are_sums_of_binomial_probabilities() -> None:
    mass = torch.from_numpy(stats.binom.pmf(range(21), 20, TAU))
    assert_close(p_values(20, TAU), mass.flip(0).cumsum(0).flip(0), rtol=1e-12, atol=0)


def step_down(p: list[float], alpha: float) -> list[bool]:
    """Holm's method as its paper puts it: the smallest p-value first, until one is too large."""
    order = sorted(range(len(p)), key=lambda i: p[i])
    rejected = [False] * len(p)
    for rank, i in enumerate(order):
        if p[i] > alpha / (len(p) - rank):
            break
        rejected[i] = True
    return rejected


def test_holm_rejects_what_the_step_down_method_rejects() -> None:
    draw = torch.Generator().manual_seed(0)
    table, differs = p_values(30, 0.6), 0
    for _ in range(50):
        counts = torch.randint(22, 31, (1, 4, 5), generator=draw)
        valid = torch.rand(1, 4, 5, generator=draw) < 0.8
        expected = torch.zeros(1, 4, 5, dtype=torch.bool)
        expected[valid] = torch.tensor(step_down(table[counts[valid]].tolist(), 0.05))
        assert torch.equal(holm(counts, valid, draws=30, tau=0.6, alpha=0.05), expected)
        bonferroni = valid & (table[counts] <= 0.05 / int(valid.sum()))
        differs += not torch.equal(expected, bonferroni)
    assert differs > 5


def test_an_image_of_a_batch_is_tested_as_alone() -> None:
    counts = torch.randint(70, 101, (6, 3, 3), generator=torch.Generator().manual_seed(1))
    valid = torch.ones_like(counts, dtype=torch.bool)
    valid[2] = False
    test = partial(holm, draws=100, tau=TAU, alpha=0.05)
    together = test(counts, valid)
    alone = [test(counts[n : n + 1], valid[n : n + 1]) for n in range(6)]
    assert torch.equal(together, torch.cat(alone))
    assert not together[2].any()
    assert together.any()


@pytest.mark.parametrize("alike", [False, True], ids=["independent pixels", "equal pixels"])
def test_false_certificates_are_in_at_most_alpha_of_the_images(alike: bool) -> None:
    # The worst case: all classes have exactly the probability tau, so that every certificate is false.
    images, pixels, draws, alpha = 4000, 16, 200, 0.05
    generator = torch.Generator().manual_seed(2)
    columns = 1 if alike else pixels
    hits = torch.rand(images, draws, columns, generator=generator) < TAU
    counts = hits.sum(1).expand(images, pixels).reshape(images, 4, 4)
    valid = torch.ones_like(counts, dtype=torch.bool)
    false = holm(counts, valid, draws=draws, tau=TAU, alpha=alpha).flatten(1).any(1)
    assert stats.binom.sf(int(false.sum()) - 1, images, alpha) > 0.01
    if not alike:  # and the bound is not far from what happens
        assert false.double().mean() > alpha / 3


def test_probable_classes_are_certified_and_others_are_not() -> None:
    generator = torch.Generator().manual_seed(3)
    chance = torch.tensor([0.999, 0.5]).repeat_interleave(8)
    counts = (torch.rand(200, 300, 16, generator=generator) < chance).sum(1).view(200, 4, 4)
    found = holm(counts, torch.ones_like(counts, dtype=torch.bool), draws=300, tau=TAU, alpha=1e-3).flatten(1)
    assert found[:, :8].all()
    assert not found[:, 8:].any()


def allowed(possible: Tensor) -> Tensor:
    """Every prediction that a certificate of one image (K, *S) allows, (M, *S)."""
    classes = [torch.nonzero(column).flatten().tolist() for column in possible.flatten(1).T]
    return torch.tensor(list(product(*classes))).view(-1, *possible.shape[1:])


@pytest.mark.parametrize("classes", [2, 3])
def test_no_allowed_prediction_has_a_lower_dice(classes: int) -> None:
    generator = torch.Generator().manual_seed(classes)
    for _ in range(60):
        mask = torch.randint(0, classes, (1, 1, 5), generator=generator)
        mask[torch.rand(1, 1, 5, generator=generator) < 0.1] = IGNORE
        label = torch.randint(0, classes, (1, 1, 5), generator=generator)
        open_ = torch.rand(1, classes, 1, 5, generator=generator) < 0.3
        possible = open_.scatter(1, label.unsqueeze(1), True)
        predictions = allowed(possible[0])
        dice = foreground_dice(predictions, mask.expand(len(predictions), 1, 5), classes)
        bound = certified_dice(possible, mask)
        if dice.isnan().any():
            assert bound.isnan().all()
        elif classes == 2:
            assert_close(bound, dice.amin().view(1))
        else:
            assert bound <= dice.amin() + 1e-6


def test_abstained_pixels_count_as_missed_and_as_false_alarms() -> None:
    # Foreground: 3 certified right, 1 wrong, 2 abstained. Background: 4 right, 1 wrong, 3 abstained.
    mask = torch.tensor([[[1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0]]])
    label = torch.tensor([[[1, 1, 1, 0, 1, 1, 0, 0, 0, 0, 1, 0, 0, 0]]])
    unsure = torch.tensor([[[0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 1, 1, 1]]]).bool()
    possible = torch.zeros(1, 2, 1, 14, dtype=torch.bool).scatter(1, label.unsqueeze(1), True)
    possible |= unsure.unsqueeze(1)
    assert_close(certified_dice(possible, mask), torch.tensor([2 * 3 / (2 * 3 + 1 + 1 + 2 + 3)]))
    assert_close(certified_dice_per_class(possible, mask)[:, 1], torch.tensor([6 / 13]))
    assert torch.equal(abstained(possible), unsure)
    assert certified_correct(possible, mask).tolist() == [7 / 14]
    assert information(possible, mask).tolist() == [7 / 14]


def test_a_group_of_classes_tells_more_than_nothing() -> None:
    mask = torch.tensor([[[1, 1, 3, 0]]])
    sets = torch.zeros(1, 4, 1, 4, dtype=torch.bool)
    for pixel, classes in enumerate([[1, 2], [1, 2], [1, 2], [0, 1, 2, 3]]):
        sets[0, classes, 0, pixel] = True
    assert_close(information(sets, mask), torch.tensor([(0.5 + 0.5) / 4], dtype=torch.float64))
    assert certified_correct(sets, mask).item() == 0
