"""Quantised frequencies: VAFA of Hanif, Naseer, Khan, Shah, Khan, MICCAI 2023, on images and volumes."""

import math
from collections.abc import Callable, Sequence
from typing import Literal, assert_never

import torch
import torch.nn.functional as F  # noqa: N812  (torch's own name for it)
from torch import Tensor, nn

from seg_mia.attacks.base import (
    Adversarial,
    attack_mode,
    check_inputs,
    check_output,
    steps_bar,
    usable,
)
from seg_mia.attacks.best import Best
from seg_mia.attacks.gradients import input_gradient
from seg_mia.attacks.objectives import OBJECTIVES, ObjectiveName, comparable
from seg_mia.attacks.white_box import WhiteBox
from seg_mia.errors import InputError
from seg_mia.metrics.shapes import per_image
from seg_mia.metrics.similarity import has_similarity, ssim
from seg_mia.models.heads import final

Tables = Literal["image", "block"]
LEVELS = 255


def frequency(
    model: nn.Module,
    x: Tensor,
    target: Tensor,
    *,
    strongest: float = 20.0,
    block: int = 8,
    tables: Tables = "image",
    steps: int = 20,
    similarity: float = 1.0,
    loss: ObjectiveName = "dice",
    on_step: Callable[[int], None] | None = None,
) -> Adversarial:
    """Round an image's frequencies to multiples that mislead the network.

    The discrete cosine transform of each block, in grey levels of 8 bits, is divided by a table q of steps,
    rounded and multiplied by it, as in JPEG. Signed steps on q in [1, strongest] maximise the loss less
    `similarity` times 1 - SSIM. Rounding v to r has the gradient of r + (v - r)^3.

    Args:
        model: maps images in [0, 1] to logits (N, K, *s), or to a tuple of them with the final head first.
        x: images (N, C, *S) in [0, 1].
        target: ground truth masks (N, *s), 255 where ignored.
        strongest: largest step of a frequency, in grey levels of 8 bits, above 1; a change is at most half.
        block: side of a block, in pixels; images are continued to whole blocks by their border.
        tables: one table for all blocks and channels of an "image" as published, or one for each "block".
        steps: iterations, at least 1; a table moves by strongest / steps.
        similarity: weight of 1 - SSIM, of volumes the mean over slices; ignored for images below 11 pixels.
        loss: a name in `seg_mia.attacks.objectives.OBJECTIVES`.
        on_step: callback on_step(n) before iteration n.

    Returns:
        each image's iterate of lowest foreground Dice, of highest loss among equals, with notes `dice` and
        `step`, the mean of its table.

    Raises:
        InputError: invalid inputs, or options out of range.
    """
    check_inputs(x, target)
    check_frequency(strongest, block, steps, similarity)
    measure, size = comparable(loss), (strongest - 1) / steps
    with attack_mode(model):
        x, target = usable(x), usable(target)
        blocks, best = Blocks(x, block), Best(x)
        table = best_table = blocks.table(tables)
        for n in range(steps + 1):
            if on_step is not None and n < steps:
                on_step(n)
            table = table.detach().requires_grad_()
            image = blocks.rounded(table)
            logits = final(model(image))
            if n == 0:
                check_output(logits, target)
            best.keep(n, image, logits, target, measure(logits.detach(), target))
            best_table = torch.where(per_image(best.step == n, table), table.detach(), best_table)
            if n < steps:
                gain = OBJECTIVES[loss](logits, target, n / steps, False)
                gradient = input_gradient(_penalised(gain, image, x, similarity).sum(), table)
                table = (table.detach() + size * gradient.sign()).clamp(1, strongest)
    return Adversarial(best.image, {"dice": best.dice, "step": best_table.flatten(1).mean(1)})


class Blocks:
    """Cosine transforms of the blocks of images; attributes: `values` (N, C, blocks, values of a block).

    An axis of one slice has no frequencies, and blocks of one.
    """

    def __init__(self, x: Tensor, side: int) -> None:
        self.x = x
        self.space = x.shape[2:]
        self.sides = [side if size > 1 else 1 for size in self.space]
        pads = [(-size) % side for size, side in zip(self.space, self.sides, strict=True)]
        padded = F.pad(x, [part for pad in reversed(pads) for part in (0, pad)], mode="replicate")
        self.counts = [size // side for size, side in zip(padded.shape[2:], self.sides, strict=True)]
        self.matrices = [cosines(side, x) for side in self.sides]
        self.values = LEVELS * self._turned(self._split(padded), self.matrices)

    def table(self, tables: Tables) -> Tensor:
        """Return steps of 1, one per frequency of an image or of a block."""
        ones = torch.ones_like(self.values)
        match tables:
            case "image":
                return ones[:, :1, :1]
            case "block":
                return ones
            case _:
                assert_never(tables)

    def rounded(self, table: Tensor) -> Tensor:
        """Return the images with frequencies rounded to multiples of a table, in [0, 1]."""
        scaled = self.values / table
        nearest = scaled.detach().round()
        smooth = nearest + (scaled - nearest) ** 3
        value = nearest + smooth - smooth.detach()  # the value of rounding, the gradient of the cubic
        return self._joined(
            self._turned(value * table / LEVELS, [matrix.T for matrix in self.matrices])
        ).clamp(0, 1)

    def _turned(self, parts: Tensor, matrices: Sequence[Tensor]) -> Tensor:
        """Apply a matrix along each axis of the blocks."""
        cubes = parts.reshape(*parts.shape[:-1], *self.sides)
        for axis, matrix in enumerate(reversed(matrices)):
            cubes = (cubes.movedim(-1 - axis, -1) @ matrix.T).movedim(-1, -1 - axis)
        return cubes.flatten(-len(self.space))

    def _split(self, whole: Tensor) -> Tensor:
        """Return the blocks of whole images, (N, C, blocks, values)."""
        parts = whole.reshape(
            *whole.shape[:2], *(part for pair in zip(self.counts, self.sides, strict=True) for part in pair)
        )
        axes = len(self.counts)
        order = [0, 1, *range(2, 2 + 2 * axes, 2), *range(3, 3 + 2 * axes, 2)]
        return parts.permute(order).flatten(2 + axes).flatten(2, 1 + axes)

    def _joined(self, parts: Tensor) -> Tensor:
        """Return the images of blocks, without what was added to whole blocks."""
        axes = len(self.counts)
        cubes = parts.reshape(*parts.shape[:2], *self.counts, *self.sides)
        order = [0, 1, *(part for axis in range(axes) for part in (2 + axis, 2 + axes + axis))]
        cubes = cubes.permute(order)
        for axis in range(axes):
            cubes = cubes.flatten(2 + axis, 3 + axis)
        return cubes[(slice(None), slice(None), *(slice(size) for size in self.space))]


def cosines(side: int, like: Tensor) -> Tensor:
    """Return the orthonormal matrix of the discrete cosine transform II, (side, side)."""
    index = torch.arange(side, dtype=torch.float64)
    matrix = torch.cos(math.pi / side * (index + 0.5) * index[:, None]) * math.sqrt(2 / side)
    matrix[0] /= math.sqrt(2)
    return matrix.to(like)


def _penalised(gain: Tensor, image: Tensor, x: Tensor, weight: float) -> Tensor:
    """Return gains less weight times 1 - SSIM, (N,): of volumes its mean over slices, of small images 1."""
    similarity = ssim(image, x) if has_similarity(x.shape) else x.new_ones(len(x))
    return gain - weight * (1 - similarity).to(gain)


def check_frequency(strongest: float, block: int, steps: int, similarity: float) -> None:
    """Raise InputError for options out of range."""
    if not (1 < strongest < math.inf and 0 <= similarity < math.inf) or block < 2 or steps < 1:
        raise InputError(
            "strongest must be above 1, block at least 2, steps at least 1, similarity at least 0, got "
            f"{strongest}, {block}, {steps} and {similarity}; try 20, 8, 20 and 1"
        )


class Frequency(WhiteBox):
    """Configurable form of `frequency`."""

    attacker_knowledge = "weights"
    function = staticmethod(frequency)
    checks = (check_frequency,)

    def run(self, model: nn.Module, x: Tensor, target: Tensor) -> Adversarial:
        """Run `frequency` with a progress bar."""
        with steps_bar("frequency", self.settings["steps"]) as show:
            return frequency(self.differentiable(model), x, target, on_step=show, **self.knobs)
