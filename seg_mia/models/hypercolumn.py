"""Classifier of pixels on the feature maps of an encoder (Hariharan et al. 2015, arXiv:1411.5752)."""

from collections.abc import Sequence

import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F  # noqa: N812  (torch's own name for it)
from torch import Tensor, nn


class Hypercolumn(nn.Module):
    """Classifier of each pixel from the encoder's feature maps at its place: a few hundred weights.

    Each chosen feature map is standardised over its channels at each position, without weights of its own,
    and mapped by a 1x1 convolution to the classes, or to `hidden` maps, a GELU and a second 1x1 convolution.
    The maps are enlarged bilinearly and added, from the deepest level to the finest.

    Args:
        encoder_name: encoder of segmentation-models-pytorch, such as resnet34 or tu-NAME.
        encoder_depth: number of downsampling stages.
        encoder_weights: None; pre-trained weights are loaded later.
        in_channels: image channels.
        classes: output maps.
        levels: feature maps, by their number of downsamplings; all from the second if not given.
        hidden: width of a hidden layer; 0 for a linear classifier.
        kwargs: further arguments of the encoder.

    Raises:
        ValueError: a level that the encoder does not have, a negative width.
    """

    def __init__(
        self,
        encoder_name: str = "resnet34",
        encoder_depth: int = 5,
        encoder_weights: str | None = None,
        in_channels: int = 3,
        classes: int = 1,
        levels: Sequence[int] | None = None,
        hidden: int = 0,
        **kwargs: object,
    ) -> None:
        super().__init__()
        self.encoder = smp.encoders.get_encoder(
            encoder_name, in_channels=in_channels, depth=encoder_depth, weights=encoder_weights, **kwargs
        )
        widths = self.encoder.out_channels
        possible = range(1, len(widths))
        self.levels = sorted(set(levels)) if levels else [level for level in possible if level > 1]
        if not set(self.levels) <= set(possible) or not self.levels:
            raise ValueError(
                f"levels must lie between 1 and {len(widths) - 1}, the encoder's depth, got {levels}"
            )
        if hidden < 0:
            raise ValueError(f"hidden must be 0, for a linear classifier, or a width, got {hidden}")
        self.classifiers = nn.ModuleDict(
            {
                str(level): nn.Conv2d(widths[level], hidden or classes, 1, bias=level == self.levels[-1])
                for level in self.levels
            }
        )
        self.output = nn.Sequential(nn.GELU(), nn.Conv2d(hidden, classes, 1)) if hidden else nn.Identity()
        self.maps, self.linear = classes, not hidden

    @property
    def read_levels(self) -> list[int] | None:
        """The feature maps whose values are ever read; None where a subclass may read others."""
        return self.levels if type(self) is Hypercolumn else None

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, classes, H, W) of images (N, C, H, W)."""
        return self.classified(self.encoder(x), x.shape[-2:])

    def classified(self, features: Sequence[Tensor], size: Sequence[int]) -> Tensor:
        """Return logits (N, classes, *size) from the encoder's feature maps, level 0 first."""
        total: Tensor | None = None
        for level in reversed(self.levels):
            scores = self.classifiers[str(level)](_standardised(features[level]))
            total = scores if total is None else scores + _enlarged(total, scores.shape[-2:])
        assert total is not None
        logits: Tensor = self.output(total)
        return _enlarged(logits, size)

    def columns(self, features: Sequence[Tensor]) -> Tensor:
        """Return the classifier's inputs (N, D, h, w) at the finest level, deepest level first.

        A linear classifier of them is this network before its last enlargement.
        """
        total: Tensor | None = None
        for level in reversed(self.levels):
            maps = _standardised(features[level])
            total = maps if total is None else torch.cat([_enlarged(total, maps.shape[-2:]), maps], 1)
        assert total is not None
        return total

    @torch.no_grad()
    def assign(self, weights: Tensor, bias: Tensor) -> None:
        """Set the weights (K, D), in the order of `columns`, and the bias (K,) of a linear classifier."""
        start = 0
        for level in reversed(self.levels):
            layer = self.classifiers[str(level)]
            assert isinstance(layer, nn.Conv2d)
            layer.weight.copy_(weights[:, start : start + layer.in_channels, None, None])
            start += layer.in_channels
            if layer.bias is not None:
                layer.bias.copy_(bias)


def _standardised(features: Tensor) -> Tensor:
    """Return features (N, D, h, w) with mean 0 and variance 1 over the channels of each position."""
    return F.layer_norm(features.movedim(1, -1), features.shape[1:2]).movedim(-1, 1)


def _enlarged(maps: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(maps, size=tuple(size), mode="bilinear", align_corners=False)
