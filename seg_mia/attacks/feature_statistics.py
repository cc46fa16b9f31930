"""Feature statistics transformation: re-texturing through five auto-encoders, on arrays only.

Lee et al., Applied Sciences 14(6):2576, 2024, based on the Texture Reformer of Wang et al., AAAI 2022.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from seg_mia.attacks.warping import moments, warped
from seg_mia.errors import InputError
from seg_mia.models.style_autoencoder import LEVELS, TextureAutoEncoders

ORGANS = 14
"""Highest organ id; background takes this value in the semantic map."""

MULTIPLE = 16
"""Height and width are padded to multiples of this: four poolings."""


@dataclass(frozen=True, kw_only=True)
class Levels:
    """Strength of change at each level: options of the published script except the two factors.

    Its two of level 5 are left out: content and style are the same there, so that they have no effect.

    Attributes:
        fine_alpha: warped fraction of level 4; the rest is kept.
        concat_weight: weight of the semantic map in patch comparison.
        fine_psize: side of a patch at level 4.
        enhance_alpha: distorted fraction of levels 3, 2, 1.
    """

    fine_alpha: float = 1.0
    concat_weight: float = 50.0
    fine_psize: int = 3
    enhance_alpha: float = 1.0

    def __post_init__(self) -> None:
        for name in ("fine_alpha", "enhance_alpha"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} must lie in [0, 1], got {getattr(self, name)}")
        check_factors(concat_weight=self.concat_weight)
        if self.fine_psize < 1:
            raise InputError(f"fine_psize must be at least 1, got {self.fine_psize}")


@dataclass(frozen=True, kw_only=True)
class Texture(Levels):
    """All options of the published script, under their original names.

    Attributes:
        noise_mu: factor on the channel means at levels 3, 2, 1.
        noise_sigma: factor on the channel standard deviations.
    """

    noise_mu: float = 0.3
    noise_sigma: float = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        check_factors(noise_mu=self.noise_mu, noise_sigma=self.noise_sigma)


def check_factors(**factors: float) -> None:
    """Raise InputError, with its name, for a factor that is negative or not finite."""
    for name, value in factors.items():
        if not 0 <= value < float("inf"):
            raise InputError(f"{name} must be finite and at least 0, got {value}")


def retextured(
    pairs: TextureAutoEncoders,
    images: Tensor,
    labels: Tensor,
    knobs: Texture,
    *,
    strengths: Sequence[tuple[float, float]] | None = None,
) -> Iterator[Tensor]:
    """Yield the re-textured images once per strength; levels 5 and 4 are shared.

    Args:
        pairs: the auto-encoders, on the images' device.
        images: (N, 1 or 3, H, W) in [0, 1], quantised to 8 bits.
        labels: organ ids (N, H, W), 0 to 14, int64; 0 is background.
        knobs: settings.
        strengths: pairs of noise_mu and noise_sigma; the pair in `knobs` if None.

    Yields:
        (N, C, H, W) in [0, 1] at 8 bits.

    Raises:
        InputError: invalid labels or sizes.
    """
    check_texture(images, labels)
    for stages in levels(pairs, images, labels, knobs, strengths=strengths):
        yield finished(stages[1], images)


def levels(
    pairs: TextureAutoEncoders,
    images: Tensor,
    labels: Tensor,
    knobs: Texture,
    *,
    strengths: Sequence[tuple[float, float]] | None = None,
) -> Iterator[dict[int, Tensor]]:
    """Yield for each strength the decoded images of every level, (N, 3, H, W) padded to multiples of 16."""
    # With their channels last, all features that follow are, and the auto-encoders are faster.
    style, semantic = (
        padded(grey.expand(-1, 3, -1, -1)).contiguous(memory_format=torch.channels_last)
        for grey in (quantised(images), semantic_map(labels, images))
    )
    known = pairs.encode_all(style)
    styles = {level: moments(known.pop(level)) for level in LEVELS[2:]}
    shorter = min(known[4].shape[2:])
    if knobs.fine_psize > shorter:
        raise InputError(
            f"a patch of {knobs.fine_psize} must fit the features of level 4, {tuple(known[4].shape[2:])}; "
            "choose a smaller one or larger images"
        )
    # At level 5 the content is the style: by Cauchy and Schwarz each patch is nearest to itself, up to
    # rounding.
    coarse = {5: pairs.decode(5, known[5])}
    features, labelled = pairs.encode(4, coarse[5]), pairs.encode(4, semantic)
    swapped = warped(features, known[4], labelled, weight=knobs.concat_weight, patch=knobs.fine_psize)
    coarse[4] = content = pairs.decode(4, knobs.fine_alpha * swapped + (1 - knobs.fine_alpha) * features)
    del known, features, labelled, swapped
    for mu, sigma in strengths or [(knobs.noise_mu, knobs.noise_sigma)]:
        yield coarse | _distorted(pairs, content, styles, knobs.enhance_alpha, mu, sigma)


def _distorted(
    pairs: TextureAutoEncoders,
    content: Tensor,
    styles: Mapping[int, tuple[Tensor, Tensor]],
    alpha: float,
    mu: float,
    sigma: float,
) -> dict[int, Tensor]:
    """Return the decoded images of levels 3, 2, 1, with distorted adaptive instance normalisation."""
    stages = {}
    for level in LEVELS[2:]:
        features = pairs.encode(level, content)
        (mean, std), (style_mean, style_std) = moments(features), styles[level]
        changed = (features - mean) / std * (style_std * sigma) + style_mean * mu
        content = pairs.decode(level, alpha * changed + (1 - alpha) * features)
        stages[level] = content
    return stages


def finished(decoded: Tensor, images: Tensor) -> Tensor:
    """Return the last level's images (N, 3, H', W') in the published output format, in [0, 1] at 8 bits.

    Each image is divided by its maximum; the result is the difference to its top left pixel. For grey images
    it is the luma of the three channels, for colour images each channel separately.
    """
    height, width = images.shape[2:]
    decoded = decoded[..., :height, :width]
    bytes_ = (decoded / (decoded.amax((1, 2, 3), keepdim=True) + 1e-5) * 255).clamp(0, 255).to(torch.int64)
    if images.shape[1] == 1:
        red, green, blue = bytes_.unbind(1)
        # Pillow's fixed-point 299 R + 587 G + 114 B
        bytes_ = ((red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16).unsqueeze(1)
    return (bytes_ - bytes_[..., :1, :1]).abs().to(images.dtype) / 255


def quantised(images: Tensor) -> Tensor:
    """Return images in [0, 1] at 8 bits, by truncation."""
    return (images * 255).floor() / 255


def semantic_map(labels: Tensor, images: Tensor) -> Tensor:
    """Return organ ids (N, H, W) as grey values (N, 1, H, W); background is 1, but 0 on black pixels."""
    ids = labels.unsqueeze(1)
    dark = (images == 0).all(1, keepdim=True)
    ids = torch.where(ids == 0, torch.where(dark, 0, ORGANS), ids)
    return (ids.to(images.dtype) / ORGANS * 255).floor() / 255


def padded(images: Tensor) -> Tensor:
    """Return images padded by edge replication at bottom and right to multiples of 16."""
    height, width = images.shape[2:]
    bottom, right = -height % MULTIPLE, -width % MULTIPLE
    return functional.pad(images, (0, right, 0, bottom), mode="replicate") if bottom or right else images


def check_texture(images: Tensor, labels: Tensor) -> None:
    """Raise InputError for images and organ ids that cannot be re-textured."""
    if images.ndim != 4 or images.shape[1] not in {1, 3} or not images.is_floating_point():
        raise InputError(
            f"images must be floats (N, 1 or 3, H, W) in [0, 1], got {images.dtype} {tuple(images.shape)}"
        )
    if labels.dtype != torch.int64 or labels.shape != (len(images), *images.shape[2:]):
        raise InputError(
            f"organ ids must be int64 of the images' (N, H, W), got {labels.dtype} {tuple(labels.shape)} for "
            f"images {tuple(images.shape)}"
        )
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high > ORGANS:
        raise InputError(f"organ ids must lie in 0 .. {ORGANS}, got {low} .. {high}; map them first")
    if min(images.shape[2:]) < 2 * MULTIPLE:
        raise InputError(
            f"images must be at least {2 * MULTIPLE} pixels wide and high, for features at a sixteenth, got "
            f"{tuple(images.shape[2:])}"
        )
