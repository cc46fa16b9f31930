"""What a MONAI bundle does to an image before its network, with gradients."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from seg_mia.errors import InputError
from seg_mia.models.bundle.intensity import step_of
from seg_mia.models.heads import final
from seg_mia.models.output_form import resized
from seg_mia.models.prompts import check_unprompted
from seg_mia.models.wrapper import Wrapper


class BundleInput(Wrapper):
    """Show a network images as a bundle's preprocessing does, and return its logits on the image's grid.

    An image in [0, 1] is brought into the grey values of its file and the bundle's order of axes, and goes
    through the bundle's transforms; the logits go back, enlarged linearly where the image was resized.

    Args:
        network: maps (N, C, *s) to logits (N, K, *s), or to a tuple with the final head first.
        low: grey value of 0.
        high: grey value of 1.
        order: for each of the network's spatial axes, the image's; None keeps them. MONAI's readers give
            images as (W, H), and volumes as (W, H, D).
        flipped: the network's axes that run the other way.
        steps: transforms by MONAI's names and arguments (`seg_mia.models.bundle.intensity`), in order.
        left_out: transforms of the bundle without a counterpart here, for the report.

    Raises:
        InputError: settings out of range, or turned axes around a promptable network.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        low: float = 0.0,
        high: float = 1.0,
        order: list[int] | None = None,
        flipped: list[int] | None = None,
        steps: list[dict[str, Any]] | None = None,
        left_out: list[str] | None = None,
    ) -> None:
        super().__init__(network)
        if not high > low:
            raise InputError(f"high must be above low, got {high} and {low}; correct them")
        if order is not None or flipped:
            check_unprompted(network, "BundleInput")
        self.low, self.high = low, high
        self.order, self.flipped = order, list(flipped or [])
        axes = range(len(order)) if order is not None else range(3)
        if (order is not None and sorted(order) != list(axes)) or not set(self.flipped) <= set(axes):
            raise InputError(
                f"order must be a permutation of the axes, and flipped some of them, got {order} and "
                f"{self.flipped}; correct them"
            )
        self.steps = [step_of(settings) for settings in steps or []]
        self.left_out = list(left_out or [])

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, K, *S) of images `x` (N, C, *S) in [0, 1].

        Raises:
            InputError: images of another number of axes.
        """
        turned = self._turned(self.low + (self.high - self.low) * x)
        prepared = torch.stack([self._prepared(image) for image in turned])
        logits = final(self.network(prepared))
        if tuple(logits.shape[2:]) == tuple(prepared.shape[2:]):
            logits = resized(logits, tuple(turned.shape[2:]))
        return self._turned_back(logits)

    def _prepared(self, image: Tensor) -> Tensor:
        for step in self.steps:
            image = step(image)
        return image

    def _turned(self, x: Tensor) -> Tensor:
        if self.order is not None:
            if x.ndim != len(self.order) + 2:
                raise InputError(
                    f"this bundle takes images of {len(self.order)} spatial axes, got shape "
                    f"{tuple(x.shape)}; use a reader of such images"
                )
            x = x.permute(0, 1, *_shifted(self.order))
        return x.flip(_shifted(self.flipped)) if self.flipped else x

    def _turned_back(self, logits: Tensor) -> Tensor:
        logits = logits.flip(_shifted(self.flipped)) if self.flipped else logits
        if self.order is None:
            return logits
        back = [self.order.index(axis) for axis in range(len(self.order))]
        return logits.permute(0, 1, *_shifted(back))


def _shifted(axes: Sequence[int]) -> list[int]:
    return [axis + 2 for axis in axes]
