"""Conversion of a network's maps to logits: what their values are, and their size."""

from typing import Literal, assert_never

import torch
import torch.nn.functional as F  # noqa: N812  (torch's own name for it)
from torch import Tensor

from seg_mia.models.label_logits import set_logits

Gives = Literal["logits", "probabilities", "sigmoid", "multilabel", "multilabel_sigmoid"]
_LEAST = 1e-30
"""Floor of probabilities: their logarithm and its gradient 1 / p stay finite in single precision."""


def as_logits(values: Tensor, gives: Gives) -> Tensor:
    """Return logits with the class probabilities that `values` (N, K, *S) state.

    Probabilities p that sum to 1 over K > 1 channels become log p; sigmoid outputs, and a single channel of
    probabilities, become log p - log(1 - p) in each channel. Logits or probabilities of labels that may
    overlap (L channels) become the logits of their 2^L sets. Half precision is converted to single.

    Args:
        values: logits, or probabilities in [0, 1]; of classes, or of labels that may overlap.
        gives: what they are.
    """
    if gives == "logits":
        return values
    p = values.to(torch.promote_types(values.dtype, torch.float32))
    match gives:
        case "probabilities" if p.shape[1] > 1:
            return p.clamp(min=_LEAST).log()
        case "probabilities" | "sigmoid":
            p = p.clamp(_LEAST, 1 - torch.finfo(p.dtype).eps)
            return p.log() - (-p).log1p()
        case "multilabel":
            return set_logits(p)
        case "multilabel_sigmoid":
            return set_logits(as_logits(p, "sigmoid"))
        case _:
            assert_never(gives)


def resized(values: Tensor, size: tuple[int, ...]) -> Tensor:
    """Return maps (N, K, *s) of the given spatial size, bilinearly or trilinearly interpolated."""
    if tuple(values.shape[2:]) == size:
        return values
    mode = "bilinear" if len(size) == 2 else "trilinear"
    return F.interpolate(values, size=size, mode=mode, align_corners=False, antialias=False)
