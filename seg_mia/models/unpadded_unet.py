"""U-Net with unpadded convolutions, the victim of the published mask attack."""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F  # noqa: N812  (torch's own name for it)
from torch import Tensor, nn

from seg_mia.errors import InputError
from seg_mia.models.adapter import require_images, require_positive


class UnpaddedUNet(nn.Module):
    """Plain U-Net that segments the centre of the image: 572x572 input, 388x388 output.

    Ronneberger et al. (2015) with the narrower widths of Ozbulak et al. (2019). State dict names are the
    published ones, so published weights load strictly: `conv{k}_block` down, `up_{k}` and `conv_up_{k}` up
    from the deepest level, `conv_final`. Input images in [0, 1] are not normalised.

    Args:
        channels: image channels.
        classes: output maps; 1 for the single logit of a binary network.
        widths: feature channels of each level, from full resolution down; at least two.
    """

    def __init__(
        self, channels: int = 3, classes: int = 2, widths: Sequence[int] = (32, 64, 128, 256, 512)
    ) -> None:
        super().__init__()
        if len(widths) < 2:
            raise InputError(f"widths must name at least two levels, got {list(widths)}; add a level")
        require_positive(channels=channels, classes=classes, widths=min(widths))
        self.channels = channels
        self.levels = len(widths)
        for level, (before, width) in enumerate(zip([channels, *widths], widths, strict=False), start=1):
            setattr(self, f"conv{level}_block", _two_convolutions(before, width))
        upward = list(reversed(widths))
        for step, (before, width) in enumerate(pairwise(upward), start=1):
            setattr(self, f"up_{step}", nn.ConvTranspose2d(before, width, kernel_size=2, stride=2))
            setattr(self, f"conv_up_{step}", _two_convolutions(2 * width, width))
        self.conv_final = nn.Conv2d(widths[0], classes, kernel_size=1)
        self.apply(_he)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (N, K, h, w) of the centre of images `x` (N, C, H, W) in [0, 1].

        Raises:
            InputError: the channels differ, or `output_size` rejects the height or the width.
        """
        require_images(x, self.channels)
        for length in x.shape[-2:]:
            self.output_size(length)
        features: list[Tensor] = []
        for level in range(1, self.levels + 1):
            x = self.get_submodule(f"conv{level}_block")(F.max_pool2d(x, 2) if features else x)
            features.append(x)
        for step, skip in enumerate(reversed(features[:-1]), start=1):
            x = self.get_submodule(f"up_{step}")(x)
            x = self.get_submodule(f"conv_up_{step}")(torch.cat([x, _centre(skip, x)], dim=1))
        logits: Tensor = self.conv_final(x)
        return logits

    def output_size(self, size: int) -> int:
        """Return the output side for an image of side `size`; the margin is (size - side) / 2.

        Raises:
            InputError: the output would be empty, or a pooling layer would drop the last row of an odd side
                and silently misalign the skip connections.
        """
        output = self._output_size(size)
        if output is not None:
            return output
        step = 2 ** (self.levels - 1)
        larger = next(s for s in range(max(size, 1), max(size, 1) + 13 * step) if self._output_size(s))
        smaller = larger - step
        fitting = f"{smaller} or {larger}" if self._output_size(smaller) else f"{larger}"
        raise InputError(
            f"sides must be even at each of the {self.levels - 1} poolings of an unpadded U-Net, and large "
            f"enough, got {size}; pad or crop the images to {fitting}"
        )

    def _output_size(self, size: int) -> int | None:
        for _ in range(self.levels - 1):
            size -= 4
            if size <= 0 or size % 2:
                return None
            size //= 2
        size -= 4
        if size <= 0:
            return None
        for _ in range(self.levels - 1):
            size = 2 * size - 4
        return size if size > 0 else None


def _two_convolutions(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, kernel_size=3),
        nn.ReLU(),
        nn.Conv2d(after, after, kernel_size=3),
        nn.ReLU(),
    )


def _centre(skip: Tensor, like: Tensor) -> Tensor:
    height, width = like.shape[-2:]
    row, column = (skip.shape[-2] - height) // 2, (skip.shape[-1] - width) // 2
    return skip[..., row : row + height, column : column + width]


def _he(module: nn.Module) -> None:
    """Draw weights from N(0, 2 / fan_in) (Ronneberger et al.), which preserves scale over 18 layers."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
