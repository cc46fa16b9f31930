"""Signals: an attacker's view of a network on an image, a map for a classifier or one number.

A signal is computed from the network's logits (N, K, *S), the images (N, C, *S) in [0, 1] and the ground
truth masks (N, *S). Two classes give one channel, the foreground's, for any number of logits, so that shadow
and victim may differ in it. Ignored pixels, such as padding, are 0 in every signal of the output.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal, assert_never

import torch
from torch import Tensor

from seg_mia.errors import InputError
from seg_mia.losses import LOSSES, LossName, per_pixel_cross_entropy
from seg_mia.metrics.labels import IGNORE, padding
from seg_mia.metrics.overlap import foreground_dice
from seg_mia.metrics.shapes import axes
from seg_mia.metrics.strips import summed
from seg_mia.models.heads import class_count, predicted, probabilities
from seg_mia.models.released import label_logits

Released = Literal["probabilities", "logits", "labels"]


class Signal(ABC):
    """A view of the victim.

    Attributes:
        maps: whether it is a map (N, C, *S) for a classifier; otherwise one number per image, (N,), lower for
            members.
        queries_victim: whether the victim is queried.
        mirrors: whether a number is averaged over the mirror images that the victim's training contained.
    """

    maps: ClassVar[bool] = True
    queries_victim: ClassVar[bool] = True
    mirrors: ClassVar[bool] = False

    @property
    @abstractmethod
    def attacker_knowledge(self) -> str:
        """Attacker knowledge, as shown in result tables."""

    @abstractmethod
    def __call__(self, logits: Tensor, image: Tensor, mask: Tensor) -> Tensor:
        """Return the signal of each sample, float32."""


class ReleasedSignal(Signal):
    """A view of the victim's output in the form `released`, alone or with the ground truth."""

    released: Released
    uses_mask: ClassVar[bool] = False

    @property
    def attacker_knowledge(self) -> str:
        """Form of the output, and whether the ground truth is needed."""
        return f"released {self.released}{', true mask' if self.uses_mask else ''}"


@dataclass(frozen=True, kw_only=True)
class Posterior(ReleasedSignal):
    """Type-I of Chobola et al. 2022: only the released map.

    Args:
        released: form of the victim's output. The published code uses raw logits.
        entropy: add a channel with the entropy of each pixel: redundant, but it highlights uncertainty.
    """

    released: Released = "probabilities"
    entropy: bool = False

    def __call__(self, logits: Tensor, image: Tensor, mask: Tensor) -> Tensor:  # noqa: ARG002
        """Return one channel for two classes, else one per class; then the entropy."""
        output = _output(logits, self.released)
        maps = torch.cat((output, _entropy(logits, self.released)), dim=1) if self.entropy else output
        return maps.masked_fill(padding(mask).unsqueeze(1), 0)


@dataclass(frozen=True, kw_only=True)
class PosteriorAndMask(ReleasedSignal):
    """Type-II of Chobola et al. 2022: the released map and the ground truth, stacked.

    Args:
        released: form of the victim's output.
        difference: add the difference of map and mask: redundant, but a small classifier trained from scratch
            need not learn the subtraction.
    """

    uses_mask: ClassVar[bool] = True
    released: Released = "probabilities"
    difference: bool = False

    def __call__(self, logits: Tensor, image: Tensor, mask: Tensor) -> Tensor:  # noqa: ARG002
        """Return the map's channels, then the mask's: foreground or one-hot; then their difference."""
        output = _output(logits, self.released).masked_fill((mask == IGNORE).unsqueeze(1), 0)
        truth = one_hot(mask, class_count(logits))
        maps = (output, truth, (output - truth).abs()) if self.difference else (output, truth)
        return torch.cat(maps, dim=1)


@dataclass(frozen=True, kw_only=True)
class LossMap(ReleasedSignal):
    """The structured loss map of Segmentations-Leak (He et al., ECCV 2020): -log p of the true class.

    Args:
        released: form of the victim's output.
    """

    uses_mask: ClassVar[bool] = True
    released: Released = "probabilities"

    def __call__(self, logits: Tensor, image: Tensor, mask: Tensor) -> Tensor:  # noqa: ARG002
        """Return log(1 + cross-entropy), (N, 1, *S): the log limits the influence of a few huge losses."""
        return per_pixel_cross_entropy(released(logits, self.released), mask).log1p().unsqueeze(1)


@dataclass(frozen=True, kw_only=True)
class ImageLoss(ReleasedSignal):
    """The loss of the whole image, as in the global loss attack of Chobola et al. 2022.

    Args:
        loss: name of the loss; the victim's training loss is the most effective.
        released: form of the victim's output.
    """

    maps: ClassVar[bool] = False
    uses_mask: ClassVar[bool] = True
    loss: LossName = "dice_cross_entropy"
    released: Released = "probabilities"

    def __call__(self, logits: Tensor, image: Tensor, mask: Tensor) -> Tensor:  # noqa: ARG002
        """Return each image's loss, (N,); computed in float64, so that equal outputs are ties."""
        return LOSSES[self.loss](released(logits, self.released).double(), mask).float()


@dataclass(frozen=True, kw_only=True)
class ImageDice(ReleasedSignal):
    """One minus the foreground Dice of the predicted mask; only labels are needed.

    Args:
        released: form of the victim's output.
    """

    maps: ClassVar[bool] = False
    uses_mask: ClassVar[bool] = True
    released: Released = "labels"

    def __call__(self, logits: Tensor, image: Tensor, mask: Tensor) -> Tensor:  # noqa: ARG002
        """Return each image's number, (N,), in [0, 1]."""
        return 1 - foreground_dice(predicted(logits), mask, class_count(logits))


@dataclass(frozen=True, kw_only=True)
class ImageEntropy(ReleasedSignal):
    """The mean entropy of the released distribution over pixels: confidence, without ground truth.

    Args:
        released: form of the victim's output.
    """

    maps: ClassVar[bool] = False
    released: Released = "probabilities"

    def __call__(self, logits: Tensor, image: Tensor, mask: Tensor) -> Tensor:  # noqa: ARG002
        """Return each image's mean entropy in nats, (N,); in float64, so that equal outputs are ties.

        The padding of volumes does not count.
        """
        counted = (~padding(mask)).expand(len(logits), *logits.shape[2:])
        (total,) = summed(self._total, logits, counted)
        return (total / counted.sum(axes(counted, 1)).clamp(min=1)).float()

    def _total(self, logits: Tensor, counted: Tensor) -> tuple[Tensor]:
        """Return the sum of the entropy over the pixels that count, (N,)."""
        entropy = _entropy(logits.double(), self.released)[:, 0] * counted
        return (entropy.sum(axes(entropy, 1)),)


@dataclass(frozen=True, kw_only=True)
class ImageAndMask(Signal):
    """The blind baseline: image and ground truth, without the victim; AUC is 0.5 for a fair split."""

    queries_victim: ClassVar[bool] = False

    @property
    def attacker_knowledge(self) -> str:
        """Nothing of the victim."""
        return "image and true mask, without the victim"

    def __call__(self, logits: Tensor, image: Tensor, mask: Tensor) -> Tensor:
        """Return the central part of the image covered by the mask, and the mask."""
        part = image
        for axis, length in enumerate(mask.shape[1:], 2):
            part = part.narrow(axis, (part.shape[axis] - length) // 2, length)
        return torch.cat((part.float(), one_hot(mask, class_count(logits))), dim=1)


def released(logits: Tensor, kind: Released) -> Tensor:
    """Return logits equivalent to the released output: for labels, those of a nearly certain prediction."""
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
    """Return a signal; raise InputError if it is not finite."""
    if not torch.isfinite(signal).all():
        wrong = int((~torch.isfinite(signal)).sum())
        raise InputError(
            f"{name} must be finite, {wrong} of {signal.numel()} values are not; check the network first "
            "(seg_mia validate)"
        )
    return signal
