"""Semantic texture warping: each feature patch is replaced by the most similar style patch.

Wang et al., Texture Reformer, AAAI 2022, after the style swap of Chen and Schmidt 2016.
"""

import torch
from torch import Tensor

LARGEST = 2**22
"""Floats in a block of similarities; three are held at a time: 48 MiB, or the size of one row of patches."""


def warped(
    content: Tensor, style: Tensor, semantic: Tensor, *, weight: float, patch: int, largest: int = LARGEST
) -> Tensor:
    """Return the content's features rebuilt from style patches, with overlaps averaged.

    Patches are compared on standardised features concatenated with `weight` times the semantic ones, by inner
    products with the style's patches of unit length.

    Args:
        content: features (N, C, h, w).
        style: features (N, C, h, w).
        semantic: features of the semantic map, shared by content and style, (N, S, h, w).
        weight: weight of the semantic map.
        patch: side in pixels, at most min(h, w).
        largest: maximum number of floats in a block of similarities.
    """
    fused = [torch.cat((standardised(features), weight * semantic), 1) for features in (content, style)]
    outputs = [
        _pasted(style_features, nearest_patches(content_keys, style_keys, patch, largest=largest), patch)
        for style_features, content_keys, style_keys in zip(style, *fused, strict=True)
    ]
    return torch.stack(outputs)


def standardised(features: Tensor) -> Tensor:
    """Return features (N, C, h, w) with mean 0 and variance 1 in each channel."""
    mean, std = moments(features)
    return (features - mean) / std


def moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Return each channel's mean, and standard deviation (unbiased variance + 1e-5), (N, C, 1, 1)."""
    flat = features.flatten(2)
    variance = flat.var(2) + 1e-5
    return flat.mean(2)[..., None, None], variance.sqrt()[..., None, None]


def nearest_patches(content: Tensor, style: Tensor, patch: int, *, largest: int = LARGEST) -> Tensor:
    """Return the index (y, x) of the most similar `style` patch for each patch of `content` (C, h, w).

    All patches, stride 1. Similarity is the inner product with the style's patch over its length (+ 1e-7).
    The inner product of two patches is the sum of their pixels' inner products, so one matrix product over
    pixels serves all overlapping patches. At most `largest` floats, or the rows of one row of patches, are
    held at a time.
    """
    channels, height, width = content.shape
    rows, columns = height - patch + 1, width - patch + 1
    flat_style = style.flatten(1)
    lengths = _box(style.square().sum(0), patch).sqrt().flatten() + 1e-7
    step = max(1, largest // (width * flat_style.shape[1]) - patch + 1)
    nearest = []
    for top in range(0, rows, step):
        count = min(step, rows - top)
        strip = content[:, top : top + count + patch - 1].reshape(channels, -1)
        pixels = (strip.T @ flat_style).view(count + patch - 1, width, *style.shape[1:])
        scores = _diagonal_sums(pixels, patch).flatten(2).div_(lengths)
        nearest.append(scores.argmax(2))
        del pixels, scores  # before the next block is made: two at once would double the memory
    return torch.cat(nearest).view(rows, columns)


def _diagonal_sums(pixels: Tensor, patch: int) -> Tensor:
    """Sum (a, b, c, d) over offsets (u, v) of a patch, added to both positions: rows, then columns."""
    tall = _shifted_sum(pixels, 0, 2, patch)
    return _shifted_sum(tall, 1, 3, patch)


def _shifted_sum(values: Tensor, first_axis: int, second_axis: int, patch: int) -> Tensor:
    sizes = values.shape[first_axis] - patch + 1, values.shape[second_axis] - patch + 1
    total = values.narrow(first_axis, 0, sizes[0]).narrow(second_axis, 0, sizes[1]).clone()
    for offset in range(1, patch):
        total += values.narrow(first_axis, offset, sizes[0]).narrow(second_axis, offset, sizes[1])
    return total


def _box(values: Tensor, patch: int) -> Tensor:
    """Sum (h, w) over each patch, (h - p + 1, w - p + 1)."""
    return values.unfold(0, patch, 1).unfold(1, patch, 1).sum((-1, -2))


def _pasted(style: Tensor, nearest: Tensor, patch: int) -> Tensor:
    """Return (C, h, w) with the style's patch `nearest` (y, x) at each position, overlaps averaged."""
    channels, height, width = style.shape
    rows, columns = nearest.shape
    flat = style.flatten(1)
    origin = (nearest // columns) * width + nearest % columns
    total, times = torch.zeros_like(style), style.new_zeros(height, width)
    for down in range(patch):
        for across in range(patch):
            window = (slice(down, down + rows), slice(across, across + columns))
            total[(slice(None), *window)] += flat[:, (origin + down * width + across).flatten()].view(
                channels, rows, columns
            )
            times[window] += 1
    return total / times
