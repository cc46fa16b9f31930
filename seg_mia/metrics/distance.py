"""Size of a perturbation, one value per image; all functions raise InputError for integers."""

import torch
from torch import Tensor

from seg_mia.errors import InputError


def l2_norm(difference: Tensor) -> Tensor:
    """Return the Euclidean norm over all values of each image, (N, ...) to (N,), in the input's dtype."""
    _check(difference)
    wide = difference.to(torch.promote_types(difference.dtype, torch.float32))
    # sum adds pairwise; vector_norm in float32 is off by up to 2e-5 for a 512 x 512 image on the CPU
    return wide.flatten(1).square().sum(dim=1).sqrt().to(difference.dtype)


def linf_norm(difference: Tensor) -> Tensor:
    """Return the largest absolute value of each image, (N, ...) to (N,)."""
    _check(difference)
    return difference.flatten(1).abs().amax(dim=1)


def rounded(image: Tensor) -> Tensor:
    """Return the image in [0, 1] rounded to the 256 levels of an 8-bit file, as floating point."""
    _check(image)
    return (image * 255).round() / 255


def _check(images: Tensor) -> None:
    if images.ndim < 2 or not images.is_floating_point():
        raise InputError(
            f"images must be floats with a batch axis, got {images.dtype} of shape {tuple(images.shape)}; "
            "divide bytes by 255, before taking differences"
        )
