"""A plain 3-D U-Net (Çiçek et al., MICCAI 2016) for volumes of any size."""

import math
from collections.abc import Sequence
from typing import Literal, assert_never

import torch
import torch.nn.functional as F  # noqa: N812  (torch's own name for it)
from torch import Tensor, nn

from seg_mia.errors import InputError
from seg_mia.models.adapter import require_positive

Norm = Literal["group", "instance", "batch", "none"]
_GROUPS = 8
_SLOPE = 0.01


class UNet3d(nn.Module):
    """U-Net of two 3x3x3 convolutions at each level, with padding, strided pooling and skip connections.

    A level has twice the features of the one above. Volumes whose sides are no multiples of the product of
    all strides are padded with zeros at their ends, and the logits cropped.

    Args:
        channels: image channels.
        classes: output channels; 1 means binary.
        width: features at full size.
        levels: resolutions, the full one included.
        strides: of each pooling, [d, h, w], one less than there are levels; 2 along every axis if not given.
            Volumes of few slices need 1 along the first axis.
        norm: normalisation after each convolution; `group` and `instance` use each sample alone, as private
            training requires.

    Raises:
        InputError: a setting out of range.
    """

    def __init__(
        self,
        *,
        channels: int = 1,
        classes: int = 1,
        width: int = 16,
        levels: int = 4,
        strides: Sequence[Sequence[int]] | None = None,
        norm: Norm = "group",
    ) -> None:
        super().__init__()
        require_positive(channels=channels, classes=classes, width=width, levels=levels)
        self.channels = channels
        self.strides = _strides(strides, levels)
        widths = [width * 2**level for level in range(levels)]
        before = [channels, *widths[:-1]]
        self.down = nn.ModuleList(_block(*pair, norm) for pair in zip(before, widths, strict=True))
        self.enlarge = nn.ModuleList(
            nn.ConvTranspose3d(2 * side, side, stride, stride)
            for side, stride in zip(widths[:-1], self.strides, strict=True)
        )
        self.up = nn.ModuleList(_block(2 * side, side, norm) for side in widths[:-1])
        self.head = nn.Conv3d(width, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, K, D, H, W) of volumes `x` (N, C, D, H, W).

        Raises:
            InputError: another number of axes or channels.
        """
        if x.ndim != 5 or x.shape[1] != self.channels:
            raise InputError(
                f"volumes must have shape (N, {self.channels}, D, H, W), got {tuple(x.shape)}; set the "
                "network's channels, or give a data set of volumes"
            )
        size = x.shape[2:]
        x = self._padded(x)
        skips = list[Tensor]()
        for number, block in enumerate(self.down):
            x = block(F.max_pool3d(x, self.strides[number - 1]) if number else x)
            skips.append(x)
        for number in reversed(range(len(self.up))):
            x = self.up[number](torch.cat([skips[number], self.enlarge[number](x)], dim=1))
        logits: Tensor = self.head(x)
        return logits[..., : size[0], : size[1], : size[2]]

    def _padded(self, x: Tensor) -> Tensor:
        factors = [math.prod(axis) for axis in zip(*self.strides, strict=True)] or [1, 1, 1]
        lacking = [-length % factor for length, factor in zip(x.shape[2:], factors, strict=True)]
        padding = [count for after in reversed(lacking) for count in (0, after)]
        return F.pad(x, padding) if any(lacking) else x


def _strides(strides: Sequence[Sequence[int]] | None, levels: int) -> list[tuple[int, int, int]]:
    if strides is None:
        return [(2, 2, 2)] * (levels - 1)
    chosen = [tuple(stride) for stride in strides]
    if len(chosen) != levels - 1 or any(len(stride) != 3 or min(stride) < 1 for stride in chosen):
        raise InputError(
            f"strides must be {levels - 1} lists of three factors of at least 1, one for each pooling of "
            f"{levels} levels, got {[list(stride) for stride in chosen]}"
        )
    return [(stride[0], stride[1], stride[2]) for stride in chosen]


def _block(before: int, after: int, norm: Norm) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(before, after, 3, padding=1),
        _norm(norm, after),
        nn.LeakyReLU(_SLOPE),
        nn.Conv3d(after, after, 3, padding=1),
        _norm(norm, after),
        nn.LeakyReLU(_SLOPE),
    )


def _norm(norm: Norm, features: int) -> nn.Module:
    match norm:
        case "group":
            return nn.GroupNorm(math.gcd(_GROUPS, features), features)
        case "instance":
            return nn.InstanceNorm3d(features)
        case "batch":
            return nn.BatchNorm3d(features)
        case "none":
            return nn.Identity()
        case _:
            assert_never(norm)
