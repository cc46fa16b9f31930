"""The strongest iterate of each image."""

from copy import copy
from typing import Self

import torch
from torch import Tensor

from seg_mia.metrics.overlap import foreground_dice
from seg_mia.metrics.shapes import per_image
from seg_mia.models.heads import class_count, predicted


class Best:
    """The iterate of lowest foreground Dice with the truth, of highest loss among equals, for each image.

    With a target mask: of highest Dice with it, and of lowest loss. An image whose Dice is at its limit, 0 or
    1, is finished and keeps that iterate.

    Attributes:
        image: (N, C, *S).
        dice: (N,), 2 before the first iterate; an image without a labelled pixel counts as finished.
        loss: (N,).
        step: index of the iterate, int64 (N,).
    """

    def __init__(self, x: Tensor, *, targeted: bool = False) -> None:
        self.sign = -1 if targeted else 1
        self.image = x.clone()
        self.dice = x.new_full((len(x),), 2.0 * self.sign)
        self.loss = x.new_full((len(x),), -torch.inf * self.sign)
        self.step = torch.zeros(len(x), dtype=torch.int64, device=x.device)

    @property
    def finished(self) -> Tensor:
        """Which images cannot become worse, bool (N,)."""
        return self.dice == (0 if self.sign > 0 else 1)

    def keep(self, n: int, image: Tensor, logits: Tensor, target: Tensor, loss: Tensor) -> None:
        """Compare iterate n with the best so far; the logits fit the target (`check_output`)."""
        dice = mask_dice(logits, target, checked=True).nan_to_num(nan=0.5 - 0.5 * self.sign).to(self.dice)
        lower = self.sign * dice < self.sign * self.dice
        equal = (dice == self.dice) & (self.sign * loss > self.sign * self.loss)
        better = (lower | equal) & ~self.finished
        self.image = torch.where(per_image(better, image), image.detach(), self.image)
        self.dice = torch.where(better, dice, self.dice)
        self.loss = torch.where(better, loss.detach().to(self.loss), self.loss)
        self.step = torch.where(better, n, self.step)

    def part(self, rows: Tensor) -> Self:
        """Return the iterates of some images, by their indices (m,)."""
        part = copy(self)
        for name in ("image", "dice", "loss", "step"):
            setattr(part, name, getattr(self, name)[rows])
        return part

    def update(self, rows: Tensor, part: Self) -> None:
        """Take over the iterates of a `part`."""
        for name in ("image", "dice", "loss", "step"):
            setattr(self, name, getattr(self, name).index_copy(0, rows, getattr(part, name)))


def mask_dice(logits: Tensor, target: Tensor, *, checked: bool = False) -> Tensor:
    """Return the mean foreground Dice of the prediction with a mask, (N,); NaN without a labelled pixel.

    `checked` targets hold valid classes for certain (`seg_mia.metrics.overlap`).
    """
    return foreground_dice(predicted(logits.detach()), target, class_count(logits), checked=checked)
