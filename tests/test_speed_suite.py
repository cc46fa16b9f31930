"""Paired measurements: ratios are right, a result that differs is told, and baselines give the same."""

import time

import pytest
import torch

from benchmarks.run import line
from benchmarks.suite import published
from benchmarks.suite.pairs import Pair, measure
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
