"""Whole-image inference with a network trained on crops."""

import itertools

import torch
from torch import Tensor, nn

from seg_mia.errors import InputError
from seg_mia.models.heads import final
from seg_mia.models.prompts import check_unprompted
from seg_mia.models.wrapper import Wrapper


class Stitched(Wrapper):
    """Predict a grid of crops, square or boxes, and assemble the logits; in training pass the input on.

    Crops adjoin each other, the last of a row or column aligned with the image's edge; in overlaps
    the later crop, further right or down, takes precedence. All crops form one batch. In training mode the
    input goes to the network unchanged (Chobola, Usynin, Kaissis 2022, arXiv:2212.01082).

    Args:
        network: network from crops to logits of the same size.
        size: side of the crops; if not given, half the shorter side of an image, half of each axis of a
            volume.

    Raises:
        InputError: size below 1, or a promptable network.
    """

    def __init__(self, network: nn.Module, *, size: int | None = None) -> None:
        super().__init__(network)
        check_unprompted(network, "Stitched")
        if size is not None and size < 1:
            raise InputError(
                f"crops must be at least 1 pixel wide, got {size}; leave it out for half the image"
            )
        self.size = size

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return logits (N, K, *S) of images `x` (N, C, *S); in training the network's raw output.

        Raises:
            InputError: logits and input of the network differ in size.
        """
        if self.training:
            seen: Tensor | tuple[Tensor, ...] = self.network(x)
            return seen
        sides = crop_sides(self.size, x.shape[2:])
        starts = (_starts(length, side) for length, side in zip(x.shape[2:], sides, strict=True))
        places = list(itertools.product(*starts))
        lead = (slice(None), slice(None))
        parts = [
            (*lead, *(slice(start, start + side) for start, side in zip(place, sides, strict=True)))
            for place in places
        ]
        crops = torch.cat([x[part] for part in parts])
        answers = final(self.network(crops))
        if answers.shape[2:] != crops.shape[2:]:
            raise InputError(
                f"a network that predicts crops must return logits of their size {tuple(crops.shape[2:])}, "
                f"got {tuple(answers.shape[2:])}; unpadded convolutions cannot be stitched"
            )
        stitched = answers.new_zeros(len(x), answers.shape[1], *x.shape[2:])
        for part, answer in zip(parts, answers.view(-1, len(x), *answers.shape[1:]), strict=True):
            stitched[part] = answer
        return stitched


def crop_sides(size: int | None, image: torch.Size | tuple[int, ...]) -> tuple[int, ...]:
    """Return the sides of a crop: `size`, or half an image's shorter side, half of each axis of a volume.

    Slices of volumes are often few: half of them would be a small part of the other axes.
    """
    if size is None and len(image) == 3:
        return tuple(max(length // 2, 1) for length in image)
    return (min(size or max(min(image) // 2, 1), *image),) * len(image)


def _starts(length: int, side: int) -> list[int]:
    # The last crop is shifted into the image, so the network never receives padding.
    return [min(start, length - side) for start in range(0, length, side)]
