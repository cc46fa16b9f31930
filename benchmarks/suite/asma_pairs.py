"""ASMA against the published loop: changes of images are compared, after steps that move the masks."""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from benchmarks.suite import published
from benchmarks.suite.pairs import Pair
from seg_mia.attacks.asma import asma
from seg_mia.metrics.overlap import foreground_iou
from seg_mia.models.heads import predicted

TAU, BETA = 2e-4, 2e-3
"""Steps that move the mask within a few iterations, and no pixel by the quarter that is left to it."""
EXACT = 1e-9
"""Allowed of `off_change` in float64, where 0 was seen."""
ROUNDED, HALF = 0.15, 0.3
"""Allowed of `off_direction` in float32 and bfloat16, where 0.07 and 0.02 to 0.16 was seen.

An activation within rounding of 0 passes its gradient through a ReLU or not, and one within rounding of its
neighbour through a maximum: one such gradient changes the rest of the run. In float32 both ways then end
equally far from the result of float64, as far as from each other.
"""
WHAT = "one image at a time, weights differentiated, a second pass for the IoU, by scikit-learn"


class Victim(NamedTuple):
    """A briefly trained network, images of others, and another one's mask for each."""

    model: nn.Module
    images: Tensor
    targets: Tensor


def has_bfloat16() -> bool:
    """Return whether the processor computes with bfloat16; others take minutes for a pass."""
    return torch.backends.cpu.get_cpu_capability().startswith(("AVX512", "SVE"))


def skipped() -> list[str]:
    """Return a reason if the pair in bfloat16 is not measured."""
    capability = torch.backends.cpu.get_cpu_capability()
    return (
        [] if has_bfloat16() else [f"ASMA, bfloat16: a processor with {capability} computes it in software"]
    )


def pairs(trained: Victim, steps: int) -> Iterator[Pair]:
    """Yield the pairs in float32, in float64 and, where the processor has it, in bfloat16."""
    trained = unclipped(trained)
    for pair in (pair_of_floats, pair_of_doubles, *([pair_of_halves] if has_bfloat16() else [])):
        yield pair(trained, steps)


def unclipped(trained: Victim) -> Victim:
    """Return the images at half their contrast: clipping, which the loop measures before, is inactive."""
    return trained._replace(images=0.25 + trained.images / 2)


def pair_of_floats(trained: Victim, steps: int) -> Pair:
    """Return the pair in float32, on images that are not clipped."""
    ours, loop = partial(attacked, trained, steps), partial(published_loop, trained, steps)
    off, count = partial(off_direction, trained), len(trained.images)
    return Pair("ASMA, float32", ours, loop, WHAT, 2.0, off, ROUNDED, images=count)


def pair_of_doubles(trained: Victim, steps: int) -> Pair:
    """Return the pair in float64, where both ways give the same images."""
    trained = trained._replace(model=deepcopy(trained.model).double(), images=trained.images.double())
    pair, off = pair_of_floats(trained, steps), partial(off_change, trained)
    return replace(pair, name="ASMA, float64", difference=off, allowed=EXACT)


def pair_of_halves(trained: Victim, steps: int) -> Pair:
    """Return the pair of ours in bfloat16 and the loop in float32, on images that are not clipped."""
    pair, ours = pair_of_floats(trained, steps), partial(attacked_in_half, trained, steps)
    return replace(
        pair, name="ASMA, bfloat16", ours=ours, what=f"{WHAT}, in float32", target=3.5, allowed=HALF
    )


def attacked(trained: Victim, steps: int) -> Tensor:
    """Return the last iterates of ours."""
    with ratios_of(trained.images.dtype):
        return asma(*trained, steps=steps, tau=TAU, beta=BETA, keep="last").images


@contextmanager
def ratios_of(dtype: torch.dtype) -> Iterator[None]:
    """Let an IoU, and with it the length of a step, have the images' precision, as the loop's has."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def attacked_in_half(trained: Victim, steps: int) -> Tensor:
    """Return those of ours in bfloat16."""
    with torch.autocast(trained.images.device.type, dtype=torch.bfloat16):
        return attacked(trained, steps)


def published_loop(trained: Victim, steps: int) -> Tensor:
    """Return those of the published loop."""
    return published.asma(*trained, steps=steps, tau=TAU, beta=BETA)


def off_change(trained: Victim, ours: Tensor, theirs: Tensor) -> float:
    """Return the largest norm of an image's difference, as a share of that of its change."""
    difference, change = ((way - theirs).flatten(1).norm(dim=1) for way in (ours, trained.images))
    return float((difference / change).max())


@torch.no_grad()
def off_direction(trained: Victim, ours: Tensor, theirs: Tensor) -> float:
    """Return how far the changes differ: the largest over the images and over three measures.

    These are 1 minus the cosine of the angle between both changes, the relative difference of their lengths,
    and the difference of the IoU with the target that both reach in the network's own precision.
    """
    model, images, targets = trained
    change, wanted = ((way - images).flatten(1) for way in (ours, theirs))
    reached = [foreground_iou(predicted(model(way)), targets, 2) for way in (ours, theirs)]
    measures = (
        1 - cosine_similarity(change, wanted),
        (change.norm(dim=1) / wanted.norm(dim=1) - 1).abs(),
        (reached[0] - reached[1]).abs(),
    )
    return float(torch.cat([values.double() for values in measures]).max())
