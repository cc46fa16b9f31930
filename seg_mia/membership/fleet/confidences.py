"""Signals of a dense output, in float64, each higher for members.

Computed from raw logits: half or single precision rounds the probabilities of confident pixels to ties, which
matter at low false positive rates. There is no published set for dense outputs; image logit and margin extend
Carlini et al. 2022 (equation 2, log p / (1 - p)) to the image and to the pixel.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from seg_mia.errors import InputError
from seg_mia.losses.basic import check_fit, log_probabilities, overlap_sums, soft_dice_loss
from seg_mia.membership.fleet.arrays import Values
from seg_mia.membership.signals import Released, Signal, released
from seg_mia.metrics.labels import IGNORE
from seg_mia.metrics.strips import summed
from seg_mia.models.heads import class_logits, probabilities

Array = NDArray[Any] | Tensor

NAMES: Final = ("log_cross_entropy", "logit_dice", "mean_margin", "log_entropy")
MOST_MARGIN = 20.0
"""Limit of margins: beyond it, one pixel would dominate an image."""
_LEAST = 1e-300
_LEAST_DICE = 1e-6


@torch.no_grad()
def confidences(logits: Array, masks: Array, flipped: Array | None = None) -> Values:
    """Return the signals of each image, float64 (N, 4), or (N, 8) with a flip.

    In the order of `NAMES`: minus the log of the mean cross-entropy; the logit of soft Dice, clipped to 1e-6
    and 1 - 1e-6; the mean margin, z of the true class minus logsumexp of the others, clipped to -20 and 20;
    minus the log of the mean entropy in nats, which needs no mask. Ignored pixels are excluded from all of
    them.

    Args:
        logits: floats (N, K, *S), K = 1 for a single foreground class.
        masks: class ids (N, *S), 255 where ignored.
        flipped: logits for the mirrored images, mirrored back; only if the target was trained with flips.

    Raises:
        InputError: incompatible shapes, an image without a valid pixel, logits that are not finite.
    """
    parts = [logits] if flipped is None else [logits, flipped]
    truth = torch.as_tensor(masks).long()
    vectors = [_vector(_checked(torch.as_tensor(part), truth), truth) for part in parts]
    return np.asarray(torch.cat(vectors, dim=1).cpu().numpy(), dtype=np.float64)


@torch.no_grad()
def margins(logits: Array, masks: Array) -> tuple[Values, NDArray[np.bool_]]:
    """Return the margin of each pixel, float64 (N, *S) in [-20, 20], and which pixels are valid.

    Args:
        logits: as in `confidences`.
        masks: as in `confidences`.

    Raises:
        InputError: errors of `confidences`.
    """
    truth = torch.as_tensor(masks).long()
    maps = _margins(_checked(torch.as_tensor(logits), truth).double(), truth)
    maps = maps.clamp(-MOST_MARGIN, MOST_MARGIN)
    return np.asarray(maps.cpu().numpy(), dtype=np.float64), (truth != IGNORE).cpu().numpy()


def image_logit(cross_entropy: NDArray[np.floating[Any]]) -> Values:
    """Return log p - log(1 - p) with p = exp(-L), the image's probability, any shape.

    Args:
        cross_entropy: mean cross-entropy L of each image, above 0.

    Raises:
        InputError: losses that are not above 0.
    """
    losses = cross_entropy.astype(np.float64)
    if not (losses > 0).all():
        raise InputError(
            f"cross-entropies must be above 0, got {losses.min():.3g}; compute them in float64 from logits"
        )
    return np.asarray(-losses - np.log(-np.expm1(-losses)), dtype=np.float64)


@dataclass(frozen=True, kw_only=True)
class LogCrossEntropy(Signal):
    """Log of the image's mean cross-entropy, close to normal over networks.

    Args:
        released: form of the victim's output.
    """

    maps: ClassVar[bool] = False
    mirrors: ClassVar[bool] = True
    released: Released = "probabilities"

    @property
    def attacker_knowledge(self) -> str:
        """The released output and the mask."""
        return f"released {self.released}, true mask"

    def __call__(self, logits: Tensor, image: Tensor, mask: Tensor) -> Tensor:  # noqa: ARG002
        """Return each image's number, float64 (N,)."""
        return -_vector(_checked(released(logits, self.released), mask), mask)[:, 0]


@dataclass(frozen=True, kw_only=True)
class CrossEntropy(LogCrossEntropy):
    """Mean cross-entropy of the image, minus the log of its probability, for likelihood ratios."""

    def __call__(self, logits: Tensor, image: Tensor, mask: Tensor) -> Tensor:
        """Return each image's number, float64 (N,)."""
        return super().__call__(logits, image, mask).exp()


@dataclass(frozen=True, kw_only=True)
class Confidences(LogCrossEntropy):
    """Several signals jointly (`confidences`), with signs reversed: lower for members.

    Args:
        released: form of the victim's output.
        names: selection from `NAMES`.
    """

    names: Sequence[str] = ("log_cross_entropy", "logit_dice", "log_entropy")

    def __post_init__(self) -> None:
        if not self.names or set(self.names) - set(NAMES):
            raise InputError(f"names must be among {', '.join(NAMES)}, got {list(self.names)}")

    def __call__(self, logits: Tensor, image: Tensor, mask: Tensor) -> Tensor:  # noqa: ARG002
        """Return each image's numbers, float64 (N, names)."""
        vector = _vector(_checked(released(logits, self.released), mask), mask)
        return -vector[:, [NAMES.index(name) for name in self.names]]


def _vector(logits: Tensor, mask: Tensor) -> Tensor:
    """Return the signals of checked logits, float64 (N, 4)."""
    surprise, margin, entropy, count, *overlaps = summed(_sums, logits, mask)
    dice = (1 - soft_dice_loss(*overlaps)).clamp(_LEAST_DICE, 1 - _LEAST_DICE)
    return torch.stack(
        (
            -(surprise / count).clamp(min=_LEAST).log(),
            dice.logit(),
            margin / count,
            -(entropy / count).clamp(min=_LEAST).log(),
        ),
        dim=1,
    )


def _sums(logits: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
    """Return sums (N,) over valid pixels: cross-entropy, margin, entropy, their number; `overlap_sums`."""
    logits, valid = logits.double(), mask != IGNORE
    margin = _margins(logits, mask)
    entropy = torch.special.entr(probabilities(logits)).sum(dim=1)
    maps = (-functional.logsigmoid(margin), margin.clamp(-MOST_MARGIN, MOST_MARGIN), entropy)
    counted = [values.masked_fill(~valid, 0).flatten(1).sum(dim=1) for values in maps]
    return *counted, valid.flatten(1).sum(dim=1), *overlap_sums(log_probabilities(logits), mask)


def _margins(logits: Tensor, mask: Tensor) -> Tensor:
    """Return z of the true class minus logsumexp of the others, (N, *S)."""
    maps = class_logits(logits)
    true_class = mask.masked_fill(mask == IGNORE, 0).unsqueeze(1)
    rivals = maps.scatter(1, true_class, -torch.inf)
    return (maps.gather(1, true_class) - rivals.logsumexp(dim=1, keepdim=True)).squeeze(1)


def _checked(logits: Tensor, mask: Tensor) -> Tensor:
    """Return logits as they are; raise InputError if they are invalid."""
    check_fit(logits, mask)
    if not torch.isfinite(logits).all():
        raise InputError(
            "logits must be finite, got NaN or infinity; check the network first (seg_mia validate)"
        )
    empty = int((~(mask != IGNORE).flatten(1).any(dim=1)).sum())
    if empty:
        raise InputError(
            f"each image needs a valid pixel, {empty} of {len(mask)} have none; leave these samples out"
        )
    return logits
