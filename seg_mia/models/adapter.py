"""Adapter from images in [0, 1] of any size to a network that expects other input."""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  (torch's own name for it)
from torch import Tensor, nn

from seg_mia.errors import InputError
from seg_mia.models.one_head import maps, named
from seg_mia.models.output_form import Gives, as_logits, resized


class InputAdapter(nn.Module):
    """Normalise, resize and pad inside the network; return logits at the size of the image.

    Perturbations are thus measured in [0, 1] at the original size, and gradients pass through every step.
    Without `size`, `multiple` and `resize` sizes do not change: the only valid setting for unpadded
    convolutions, whose smaller output covers a smaller field of view.

    Args:
        network: maps (N, C, *S) to logits (N, K, *s), or several in a tuple, mapping or object.
        mean: subtracted from the image; one number for all channels or one per channel.
        std: divisor after subtraction; one number for all channels or one per channel.
        size: side of the square or cubic network input; None keeps the image size.
        multiple: every side is padded to a multiple of this at its end, such as the bottom and right, by
            edge replication.
        channels: image channels; None takes the length of `mean` or `std`, if any.
        output: the one map that is returned, by key, field or position (-1 is the last); None returns all.
        gives: values of the network's maps: logits, probabilities that sum to 1 over the channels, or sigmoid
            outputs, `multilabel` and `multilabel_sigmoid` logits and sigmoid outputs of labels that may
            overlap. They are enlarged first and converted to logits then.
        resize: enlarge maps of any size, such as a quarter, to the size of the image.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        *,
        mean: float | Sequence[float] = 0.0,
        std: float | Sequence[float] = 1.0,
        size: int | None = None,
        multiple: int = 1,
        channels: int | None = None,
        output: int | str | None = None,
        gives: Gives = "logits",
        resize: bool = False,
    ) -> None:
        super().__init__()
        require_positive(size=size, multiple=multiple, channels=channels)
        self.network = network
        self.size = size
        self.multiple = multiple
        self.output, self.gives, self.resize = output, gives, resize
        self.channels = _channels(mean, std, channels)
        self.register_buffer("mean", _per_channel(mean), persistent=False)
        self.register_buffer("std", _per_channel(std), persistent=False)
        if not bool((self.std > 0).all()):
            raise InputError(f"std must be above 0, got {std}; use 1 for no scaling")

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...] | dict[str, Tensor]:
        """Return the logits of images `x` (N, C, *S) in [0, 1]: (N, K, *S), unless sizes are unchanged.

        Several maps in a tuple or list are returned as a tuple, otherwise as a dict with their names.

        Raises:
            InputError: `x` is not a batch of images of the right channels, or the network gives no logits.
        """
        require_images(x, self.channels)
        inner, padded = self._sizes(x)
        normal = (x - _broadcast(self.mean, x)) / _broadcast(self.std, x)
        seen = _pad(resized(normal, inner), padded)
        logits = self.network(seen)
        if self.output is not None:
            maps_by_path = maps(logits, x.ndim)
            chosen = named(maps_by_path, self.output, "output")
            return self._restore(maps_by_path[chosen], inner, padded, x)
        match logits:
            case Tensor() if logits.ndim == x.ndim:
                return self._restore(logits, inner, padded, x)
            case tuple() | list() if logits and all(
                isinstance(tensor, Tensor) and tensor.ndim == x.ndim for tensor in logits
            ):
                return tuple(self._restore(tensor, inner, padded, x) for tensor in logits)
        if maps_by_path := maps(logits, x.ndim):
            return {name: self._restore(tensor, inner, padded, x) for name, tensor in maps_by_path.items()}
        raise InputError(
            f"a network must return logits or a tuple of logits, got {type(logits).__name__}; "
            "wrap it in a module that returns them"
        )

    def _sizes(self, x: Tensor) -> tuple[tuple[int, ...], tuple[int, ...]]:
        inner = tuple(self.size or length for length in x.shape[2:])
        return inner, tuple(map(self._round_up, inner))

    def _round_up(self, length: int) -> int:
        return math.ceil(length / self.multiple) * self.multiple

    def _restore(self, values: Tensor, inner: tuple[int, ...], padded: tuple[int, ...], x: Tensor) -> Tensor:
        if self.size is not None or self.multiple > 1 or self.resize:
            if not self.resize:
                _require_whole_view(values, padded)
            whole = resized(values, padded)
            cropped = whole[(slice(None), slice(None), *(slice(length) for length in inner))]
            values = resized(cropped, tuple(x.shape[2:]))
        return as_logits(values, self.gives)


def require_images(x: Tensor, channels: int | None) -> None:
    """Raise InputError unless `x` is a batch (N, C, *S) of `channels` channels; None allows any."""
    if x.ndim not in (4, 5):
        raise InputError(
            f"images must have shape (N, C, H, W), got {tuple(x.shape)}, or (N, C, D, H, W) of volumes; "
            "add the missing dimension"
        )
    if channels is not None and x.shape[1] != channels:
        raise InputError(
            f"network takes {channels} channel{'s'[: channels != 1]}, got images of {x.shape[1]}; "
            f"set --model.network.channels {x.shape[1]} or convert the images"
        )


def require_positive(**settings: int | None) -> None:
    """Raise InputError with the name of a setting below 1; None is unset."""
    for name, value in settings.items():
        if value is not None and value < 1:
            raise InputError(f"{name} must be at least 1, got {value}; set another {name}")


def _channels(
    mean: float | Sequence[float], std: float | Sequence[float], channels: int | None
) -> int | None:
    counts = {
        len(statistic) for statistic in (mean, std) if isinstance(statistic, Sequence) and len(statistic) != 1
    }
    if channels is not None:
        counts.add(channels)
    if len(counts) > 1:
        raise InputError(
            f"mean, std and channels must agree in the number of channels, got mean {mean}, std {std}, "
            f"channels {channels}; give one number for each channel or one for all"
        )
    return next(iter(counts), None)


def _per_channel(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.get_default_dtype()).reshape(1, -1, 1, 1)


def _broadcast(statistic: Tensor, x: Tensor) -> Tensor:
    return statistic.view(1, -1, *[1] * (x.ndim - 2))


def _pad(x: Tensor, size: tuple[int, ...]) -> Tensor:
    lacking = [whole - length for whole, length in zip(size, x.shape[2:], strict=True)]
    # Edge replication allows any width of padding; reflection requires a larger image.
    padding = [count for after in reversed(lacking) for count in (0, after)]
    return F.pad(x, padding, mode="replicate") if any(lacking) else x


def _require_whole_view(logits: Tensor, padded: tuple[int, ...]) -> None:
    if any(whole % length for whole, length in zip(padded, logits.shape[2:], strict=True)):
        raise InputError(
            f"maps must have the size of the network's input {'x'.join(map(str, padded))} or a whole "
            f"fraction of it, got {'x'.join(map(str, logits.shape[2:]))}; a "
            "network with unpadded convolutions needs size=None and multiple=1, "
            "for any other set resize=True"
        )
