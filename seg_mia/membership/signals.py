"""What an attacker sees of a network when it holds an image: a map for a classifier, or one number.

A signal is computed from the network's logits (N, K, *S), the images (N, C, *S) in [0, 1] and the true
masks (N, *S). Two classes give one channel, the foreground's, however many logits the network has, so that
shadow and victim need not agree in that. Pixels whose true mask says ignore are 0 in every signal that the
mask is part of.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal, assert_never

import torch
from torch import Tensor

from seg_mia.errors import InputError
from seg_mia.losses import LOSSES, LossName, per_pixel_cross_entropy
from seg_mia.metrics.labels import IGNORE
from seg_mia.metrics.shapes import axes
from seg_mia.models.heads import class_count, predicted, probabilities
from seg_mia.models.released import label_logits

Released = Literal["probabilities", "logits", "labels"]


class Signal(ABC):
    """A view of the victim.

    Attributes:
        maps: whether it is a map (N, C, *S) for a classifier; otherwise one number per image, (N,), that is
            the lower, the more the image looks like a member.
        queries_victim: whether the victim is asked at all.
    """

    maps: ClassVar[bool] = True
    queries_victim: ClassVar[bool] = True

    @property
    @abstractmethod
    def attacker_knowledge(self) -> str:
        """What the attacker must see, as every table of results says it."""

    @abstractmethod
    def __call__(self, logits: Tensor, image: Tensor, mask: Tensor) -> Tensor:
        """Return the signal of each sample, float32."""


class ReleasedSignal(Signal):
    """A view of what the victim gives out, its field `released`, alone or beside the true mask."""

    released: Released
    uses_mask: ClassVar[bool] = False

    @property
    def attacker_knowledge(self) -> str:
        """What is released, and whether the true mask is needed."""
        return f"released {self.released}{', true mask' if self.uses_mask else ''}"


@dataclass(frozen=True, kw_only=True)
class Posterior(ReleasedSignal):
    """Type-I of Chobola et al. 2022: the released map alone.

    Args:
        released: what the victim gives out. The published code takes raw logits.
        entropy: stack the entropy of each pixel, too: it says nothing new, but shows where the victim wavers.
    """

    released: Released = "probabilities"
    entropy: bool = False

    def __call__(self, logits: Tensor, image: Tensor, mask: Tensor) -> Tensor:  # noqa: ARG002
        """Return one channel for two classes, else one per class; then the entropy."""
        output = _output(logits, self.released)
        return torch.cat((output, _entropy(logits, self.released)), dim=1) if self.entropy else output


@dataclass(frozen=True, kw_only=True)
class PosteriorAndMask(ReleasedSignal):
    """Type-II of Chobola et al. 2022: the released map and the true mask, stacked.

    Args:
        released: what the victim gives out.
        difference: stack how far the map is from the mask, too: it says nothing new, but spares a small
            classifier that starts from nothing to learn the subtraction.
    """

    uses_mask: ClassVar[bool] = True
    released: Released = "probabilities"
    difference: bool = False

    def __call__(self, logits: Tensor, image: Tensor, mask: Tensor) -> Tensor:  # noqa: ARG002
        """Return the map's channels, then as many of the mask: the foreground, or one-hot; then of both."""
        output = _output(logits, self.released).masked_fill((mask == IGNORE).unsqueeze(1), 0)
        truth = one_hot(mask, class_count(logits))
        maps = (output, truth, (output - truth).abs()) if self.difference else (output, truth)
        return torch.cat(maps, dim=1)


@dataclass(frozen=True, kw_only=True)
class LossMap(ReleasedSignal):
    """The structured loss map of Segmentations-Leak (He et al., ECCV 2020): -log p of the true class.

    Args:
        released: what the victim gives out.
    """

    uses_mask: ClassVar[bool] = True
    released: Released = "probabilities"

    def __call__(self, logits: Tensor, image: Tensor, mask: Tensor) -> Tensor:  # noqa: ARG002
        """Return log(1 + cross-entropy), (N, 1, *S): a few huge losses would drown the others."""
        return per_pixel_cross_entropy(released(logits, self.released), mask).log1p().unsqueeze(1)


@dataclass(frozen=True, kw_only=True)
class ImageLoss(ReleasedSignal):
    """The loss of the whole image: what the global loss attack of Chobola et al. 2022 compares.

    Args:
        loss: which one; that of the victim's training is the strongest guess.
        released: what the victim gives out.
    """

    maps: ClassVar[bool] = False
    uses_mask: ClassVar[bool] = True
    loss: LossName = "dice_cross_entropy"
    released: Released = "probabilities"

    def __call__(self, logits: Tensor, image: Tensor, mask: Tensor) -> Tensor:  # noqa: ARG002
        """Return each image's loss, (N,); computed in float64, so that equal answers are ties."""
        return LOSSES[self.loss](released(logits, self.released).double(), mask).float()


@dataclass(frozen=True, kw_only=True)
class ImageEntropy(ReleasedSignal):
    """The mean entropy of the released distribution over the pixels: confidence, without the true mask.

    Args:
        released: what the victim gives out.
    """

    maps: ClassVar[bool] = False
    released: Released = "probabilities"

    def __call__(self, logits: Tensor, image: Tensor, mask: Tensor) -> Tensor:  # noqa: ARG002
        """Return each image's mean entropy in nats, (N,); in float64, so that equal answers are ties."""
        entropy = _entropy(logits.double(), self.released)
        return entropy.mean(dim=axes(entropy, 1)).float()


@dataclass(frozen=True, kw_only=True)
class ImageAndMask(Signal):
    """The blind baseline: image and true mask, without the victim; a fair split gives an AUC of 0.5."""

    queries_victim: ClassVar[bool] = False

    @property
    def attacker_knowledge(self) -> str:
        """Nothing of the victim."""
        return "image and true mask, not the victim"

    def __call__(self, logits: Tensor, image: Tensor, mask: Tensor) -> Tensor:
        """Return the central part of the image that the mask covers, and the mask."""
        part = image
        for axis, length in enumerate(mask.shape[1:], 2):
            part = part.narrow(axis, (part.shape[axis] - length) // 2, length)
        return torch.cat((part.float(), one_hot(mask, class_count(logits))), dim=1)


def released(logits: Tensor, kind: Released) -> Tensor:
    """Return logits that say as much as what is released: for labels, those of an almost certain answer."""
    match kind:
        case "probabilities" | "logits":
            return logits.to(torch.promote_types(logits.dtype, torch.float32))
        case "labels":
            return label_logits(logits)
        case _:
            assert_never(kind)


def one_hot(mask: Tensor, classes: int) -> Tensor:
    """Return the mask as float channels, (N, 1, *S) of the foreground for two classes, else one per class.

    Ignored pixels are 0 in all of them.
    """
    channels = [mask == value for value in (range(1, 2) if classes == 2 else range(classes))]
    return torch.stack(channels, dim=1).float()


def _entropy(logits: Tensor, kind: Released) -> Tensor:
    """Return the entropy of each pixel's distribution in nats, (N, 1, *S)."""
    p = probabilities(released(logits, kind).to(torch.promote_types(logits.dtype, torch.float32)))
    entropy: Tensor = torch.special.entr(p)
    return entropy.sum(1, keepdim=True)


def _output(logits: Tensor, kind: Released) -> Tensor:
    logits = logits.float()
    two = class_count(logits) == 2
    match kind:
        case "probabilities":
            p = probabilities(logits)
            return p[:, 1:] if two else p
        case "logits":
            return logits[:, -1:] - logits[:, :1] if two and logits.shape[1] == 2 else logits
        case "labels":
            return one_hot(predicted(logits), class_count(logits))
        case _:
            assert_never(kind)


def checked(signal: Tensor, name: str) -> Tensor:
    """Return a signal; raise InputError if it holds anything but finite numbers."""
    if not torch.isfinite(signal).all():
        wrong = int((~torch.isfinite(signal)).sum())
        raise InputError(
            f"{name} must be finite, got {wrong} of {signal.numel()} values that are not; the network's "
            "output is broken: validate it first (seg_mia validate)"
        )
    return signal
