"""Attacks on a device: batches against the loop of one image, precision, format, and how often it waits."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from benchmarks.suite import asma_pairs, attacks, fleet
from benchmarks.suite.asma_pairs import HALF, ROUNDED, Victim, attacked, attacked_in_half, has_bfloat16
from benchmarks.suite.pairs import Figure, Pair
from benchmarks.suite.sizes import Sizes
from seg_mia.attacks.asma import asma
from seg_mia.attacks.medis import medis
from seg_mia.attacks.sea import sea
from seg_mia.models.memory import to_channels_last

WAITING = {
    "cuda": ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize"),
    "cpu": ("aten::_local_scalar_dense", "aten::nonzero", "aten::bincount"),
}
"""Events of the profiler in which the processor waits for the device; on a CPU, what would wait for one.

A GPU's `bincount` reads the least and the largest value before it counts.
"""
SEA_RADIUS = 1 / 255
"""Of the ball in which SEA is compared: in the usual ones neither way leaves anything, which shows little."""
OFF_DICE = 0.02
"""Allowed difference of the Dice that SEA leaves an image: rounding turns signs of small gradients."""


def skipped(device: str) -> list[str]:
    """Return a reason if the group is not measured."""
    if device == "cuda" and not torch.cuda.is_available():
        return ["device: this machine has no GPU (--device cpu runs the same code)"]
    return []


def pairs(sizes: Sizes) -> Iterator[Pair]:
    """Yield the pairs of all attacks in batches, and of ASMA in bfloat16 and with channels last."""
    if skipped(sizes.device):
        return
    with full_precision():
        trained = victim(sizes)
        halved = asma_pairs.unclipped(trained)
        found = [
            asma_pairs.pair_of_floats(halved, sizes.steps),
            *attacks.medis_pairs(attacks.medis_victim(_sizes(sizes), sizes.device)),
            _sea_pair(trained, sizes.steps),
            *attacks.texture_pairs(sizes.device_side, sizes.device_images, sizes.device),
            *_other_forms(halved, sizes.steps),
        ]
        for pair in found:
            yield replace(pair, name=f"{pair.name}, {sizes.device_images} images on {sizes.device}")


def figures(sizes: Sizes, repeats: int) -> Iterator[Figure]:
    """Yield how often an iteration waits for the device, and on a GPU what trainings side by side take."""
    if skipped(sizes.device):
        return
    model, images, targets = victim(sizes)
    works: dict[str, Callable[[int], object]] = {
        "ASMA": lambda steps: asma(model, images, targets, steps=steps),
        "MedIS, six losses": lambda steps: medis(model, images, targets, steps=steps, history=True),
        "SEA, five losses": lambda steps: sea(model, images, targets, steps=steps),
    }
    for name, work in works.items():
        found = waits(work, sizes.device, steps=min(4, sizes.steps))
        yield Figure(f"waits in an iteration, {name}, on {sizes.device}", "", [found])
    if sizes.device != "cpu":
        yield from fleet.figures(sizes, repeats, accelerator="gpu")


def victim(sizes: Sizes) -> Victim:
    """Return the victim of the group, on its device."""
    return attacks.victim(_sizes(sizes), sizes.device)


def _sizes(sizes: Sizes) -> Sizes:
    return replace(sizes, side=sizes.device_side, images=sizes.device_images)


@contextmanager
def full_precision() -> Iterator[None]:
    """Let float32 be float32, whose results can be compared, not TF32."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def waits(work: Callable[[int], object], device: str, steps: int = 4) -> float:
    """Return how often one iteration waits: the difference of two numbers of iterations, by the profiler.

    Args:
        work: an attack of so many iterations.
        device: `cuda`, or `cpu` for what would wait.
        steps: iterations of the shorter run.
    """
    counts = list[int]()
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device == "cuda" else [])]
    for number in (steps, 2 * steps):
        with profile(activities=activities) as profiled:
            work(number)
        counts.append(
            sum(int(event.count) for event in profiled.key_averages() if event.key in WAITING[device])
        )
    return (counts[1] - counts[0]) / steps


def _sea_pair(trained: Victim, steps: int) -> Pair:
    """Return SEA on a batch and on one image at a time; its published code has batches, too."""
    model, images, targets = trained

    def dice(count: int) -> Tensor:
        parts = [slice(start, start + count) for start in range(0, len(images), count)]
        return torch.cat(
            [
                sea(model, images[part], targets[part], epsilon=SEA_RADIUS, steps=steps).notes["dice"]
                for part in parts
            ]
        )

    def off_dice(ours: Tensor, theirs: Tensor) -> float:
        return float((ours - theirs).abs().max())

    whole, each = partial(dice, len(images)), partial(dice, 1)
    return Pair("SEA", whole, each, "ours, one image at a time", 2.0, off_dice, OFF_DICE, images=len(images))


def _other_forms(trained: Victim, steps: int) -> Iterator[Pair]:
    """Yield ASMA with channels last and in bfloat16, both against ours in float32."""
    model = deepcopy(trained.model)
    to_channels_last(model)
    plain, last = partial(attacked, trained, steps), partial(attacked, trained._replace(model=model), steps)
    off, count = partial(asma_pairs.off_direction, trained), len(trained.images)
    pair = Pair("ASMA, channels last", last, plain, "ours, channels first", 1.0, off, ROUNDED, images=count)
    yield pair
    if trained.images.device.type != "cpu" or has_bfloat16():
        half = partial(attacked_in_half, trained, steps)
        yield replace(pair, name="ASMA, bfloat16", ours=half, what="ours in float32", allowed=HALF)
