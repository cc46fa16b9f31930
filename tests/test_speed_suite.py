"""Paired measurements: ratios are right, a result that differs is told, and baselines give the same."""

import time
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from benchmarks.run import line
from benchmarks.suite import asma_pairs, published
from benchmarks.suite.asma_pairs import Victim, pair_of_doubles, pair_of_floats, pair_of_halves
from benchmarks.suite.pairs import Pair, measure
from benchmarks.suite.published import Iterates
from seg_mia.attacks.feature_statistics import Texture, retextured
from seg_mia.attacks.medis import medis
from seg_mia.models.style_autoencoder import TextureAutoEncoders
from tests.attacks.networks import discs, trained


def slept(duration: float, result: float) -> float:
    time.sleep(duration)
    return result


def pair(theirs: float, *, target: float = 2.0) -> Pair:
    return Pair(
        name="sleep",
        ours=lambda: slept(0.1, 1.0),
        baseline=lambda: slept(0.4, theirs),
        what="four times the pause",
        target=target,
        difference=lambda ours, baseline: abs(ours - baseline),
        allowed=0.1,
    )


def test_a_ratio_is_that_of_the_baseline_to_ours() -> None:
    measured = measure(pair(1.0), 2)
    assert measured.lowest <= measured.ratio <= measured.highest
    assert measured.ratio == pytest.approx(4, rel=0.5)
    assert measured.met
    assert "2, met" in line(measured)
    assert "**missed**" in line(measure(pair(1.0, target=40.0), 1))


def test_results_that_differ_meet_no_target() -> None:
    measured = measure(pair(1.2), 1)
    assert measured.difference == pytest.approx(0.2)
    assert not measured.equal
    assert not measured.met
    assert "**results differ**" in line(measured)


PAIRS = pytest.mark.parametrize("maker", [pair_of_floats, pair_of_doubles, pair_of_halves])
Maker = Callable[[Victim, int], Pair]
STEPS = 8


@pytest.fixture
def attacked() -> Victim:
    """A trained network, images whose greatest change stays within [0, 1], and masks elsewhere."""
    x, mask = discs(3, 3)
    return Victim(trained(), 0.25 + x / 2, mask.roll(8, 2))


@PAIRS
def test_a_loop_of_asma_changes_images_alike(maker: Maker, attacked: Victim) -> None:
    assert measure(maker(attacked, STEPS), 1).equal


def test_the_pair_in_bfloat16_is_rounded(attacked: Victim) -> None:
    pair = pair_of_halves(attacked, STEPS)
    assert 1e-4 < pair.difference(pair.ours(), pair.baseline()) < asma_pairs.HALF


def test_steps_of_the_pairs_move_the_mask(attacked: Victim) -> None:
    _, labels = asma_pairs.published_loop(attacked, STEPS)
    agreeing = (labels == attacked.targets).flatten(2).double().mean(2)
    assert (agreeing[-1] > agreeing[0] + 0.01).all()


def unchanged(images: Tensor) -> Tensor:
    return images


def turned(images: Tensor) -> Tensor:
    """Change an image into a direction that has nothing to do with the attack."""
    return images + 0.05 * torch.sin(torch.arange(images.numel()).view_as(images) * 12.9898).to(images)


@PAIRS
@pytest.mark.parametrize("other", [unchanged, turned])
def test_a_way_that_does_not_attack_fails(
    maker: Maker, other: Callable[[Tensor], Tensor], attacked: Victim
) -> None:
    pair = maker(attacked, STEPS)
    labels = pair.baseline().labels
    assert not measure(replace(pair, ours=lambda: Iterates(other(attacked.images), labels)), 1).equal


def test_a_change_of_half_the_length_fails(attacked: Victim) -> None:
    pair = pair_of_halves(attacked, STEPS)
    images, labels = pair.baseline()
    shorter = Iterates((images + attacked.images) / 2, labels)
    assert not measure(replace(pair, ours=lambda: shorter), 1).equal


def test_a_pixel_within_rounding_leaves_its_image_out(attacked: Victim) -> None:
    ours = asma_pairs.attacked(attacked, STEPS)
    theirs = Iterates(ours.images.clone(), ours.labels.clone())
    theirs.images[0] += 0.1
    assert asma_pairs.off_change(attacked, ours, theirs) > 0.1
    theirs.labels[2, 0, 5, 5] ^= 1
    assert asma_pairs.off_change(attacked, ours, theirs) == 0
    theirs.labels[2, 1, 5, 5] ^= 1
    assert asma_pairs.off_change(attacked, ours, theirs) == float("inf")


def test_the_loop_of_medis_needs_the_same_steps() -> None:
    x, mask = discs(3, 3)
    target = torch.ones_like(mask)
    ours = medis(trained(), x, target, history=True).notes
    theirs = published.medis(trained(), x, target, losses=["bce_dice", "lovasz_hinge"])
    for name, counts in theirs.items():
        steps = torch.where(ours[f"{name}.success"] > 0, ours[f"{name}.steps"], 11)
        assert steps.long().tolist() == counts


@torch.no_grad()
def test_the_loop_of_the_texture_attack_gives_the_same_images() -> None:
    torch.manual_seed(0)
    autoencoders = TextureAutoEncoders(widths=(4, 6, 8, 10, 12)).eval()
    images = torch.rand(2, 1, 48, 64)
    labels = (images[:, 0] > 0.6).long() * 6
    ours = next(iter(retextured(autoencoders, images, labels, Texture())))
    difference = (ours - published.texture(autoencoders, images, labels)).abs()
    assert (difference > 1.5 / 255).double().mean() <= 0.001
