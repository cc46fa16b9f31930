"""Inference in overlapping windows, as nnU-Net and MONAI deploy their networks, with gradients."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  (torch's own name for it)
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from seg_mia.errors import InputError
from seg_mia.models.heads import final
from seg_mia.models.prompts import check_unprompted
from seg_mia.models.windows import Layout, WindowWeights, window_starts, window_weights
from seg_mia.models.wrapper import Wrapper


class Tiled(Wrapper):
    """Predict overlapping windows and return the weighted mean of the answers; in training pass the input on.

    The mean is that of what the network returns, logits for nnU-Net. Images smaller than a window are padded
    with zeros on both sides, the odd position at the end; normalisation therefore belongs around this module
    if the deployed network normalises before it pads. Gradients are exact, and memory does not grow with the
    number of windows: where gradients are asked for, the network runs again in the backward pass.

    With `layout` "nnunet" the answers are those of nnU-Net v2, with "monai" those of MONAI's
    SlidingWindowInferer. `seg_mia.models.stitched.Stitched` has no overlap to average, and belongs to the
    defence `crop`.

    Args:
        network: maps (N, C, *patch) to logits (N, K, *patch), or to a tuple with the final head first.
        patch: lengths of a window, one for each spatial axis; two for images, three for volumes.
        overlap: of neighbouring windows, as a fraction of the patch, in [0, 1).
        weights: of an answer's positions, "gaussian" or "constant".
        mirror: spatial axes along which every window is also predicted mirrored, in all combinations.
        batch: windows in one call of the network; bounds memory.
        layout: rule of positions and Gaussian weights, "nnunet" or "monai".

    Raises:
        InputError: patch, overlap, mirror or batch out of range, or a promptable network.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        patch: Sequence[int],
        overlap: float = 0.5,
        weights: WindowWeights = "gaussian",
        mirror: Sequence[int] = (),
        batch: int = 4,
        layout: Layout = "nnunet",
    ) -> None:
        super().__init__(network)
        check_unprompted(network, "Tiled")
        _check_settings(patch, overlap, mirror, batch)
        self.patch, self.overlap, self.batch, self.layout = tuple(patch), overlap, batch, layout
        self.flips = [
            tuple(axis + 2 for axis in axes)
            for count in range(len(mirror) + 1)
            for axes in itertools.combinations(mirror, count)
        ]
        self.window_weights: Tensor
        self.register_buffer("window_weights", window_weights(patch, weights, layout), persistent=False)

    def forward(self, x: Tensor) -> Any:
        """Return logits (N, K, *S) of images `x` (N, C, *S); in training the network's raw output.

        Raises:
            InputError: another number of spatial axes than the patch, or logits of another size than their
                window.
        """
        if self.training:
            return self.network(x)
        if x.ndim != len(self.patch) + 2:
            raise InputError(
                f"images must have {len(self.patch)} spatial axes, as many as patch {list(self.patch)}, got "
                f"shape {tuple(x.shape)}; give patch one length for each axis"
            )
        before, padding = self._padding(x.shape[2:])
        padded = F.pad(x, padding) if any(padding) else x
        mean = self._mean(padded)
        return mean[(slice(None), slice(None), *_slices(before, x.shape[2:]))]

    def _padding(self, image: Sequence[int]) -> tuple[list[int], list[int]]:
        """Return the zeros before each axis, and the padding in torch's order, last axis first."""
        lacking = [max(side - length, 0) for side, length in zip(self.patch, image, strict=True)]
        before = [count // 2 for count in lacking]
        pairs = [(count // 2, count - count // 2) for count in reversed(lacking)]
        return before, [count for pair in pairs for count in pair]

    def _mean(self, x: Tensor) -> Tensor:
        """Return the weighted mean of all answers for images at least as large as a window."""
        total: Tensor | None = None
        starts = window_starts(x.shape[2:], self.patch, self.overlap, self.layout)
        weight = self.window_weights[None]
        for places in _chunks([(n, start) for n in range(len(x)) for start in starts], self.batch):
            windows = [(n, slice(None), *_slices(start, self.patch)) for n, start in places]
            for axes in self.flips:
                x, answers = self._answers(x, windows, axes)
                if total is None:
                    kind = torch.promote_types(answers.dtype, torch.float32)
                    total = answers.new_zeros((len(x), answers.shape[1], *x.shape[2:]), dtype=kind)
                for window, answer in zip(windows, answers, strict=True):
                    total = _WeightedSum.apply(total, answer, weight, window)
        assert total is not None  # at least one image, and one window
        return total.div_(self._weight_sums(starts, x).mul_(len(self.flips)))

    def _answers(self, x: Tensor, windows: list[Any], axes: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Return the images, and the network's answers for windows mirrored along `axes`, mirrored back.

        Later windows are to be taken from the returned images: all share one gradient.
        """

        def ask(images: Tensor) -> tuple[Tensor, Tensor]:
            images, crops = _Crops.apply(images, windows)
            answers = final(self.network(crops.flip(axes)))
            if answers.shape[2:] != crops.shape[2:]:
                raise InputError(
                    f"a network that predicts windows must return logits of their size {self.patch}, got "
                    f"{tuple(answers.shape[2:])}; enlarge them inside, or crop nothing"
                )
            return images, answers.flip(axes)

        if not torch.is_grad_enabled():
            return ask(x)
        images, answers = checkpoint(ask, x, use_reentrant=False)
        return images, answers

    def _weight_sums(self, starts: Sequence[Sequence[int]], x: Tensor) -> Tensor:
        """Return the sum of weights (*S) that every position received."""
        sums = self.window_weights.new_zeros(x.shape[2:])
        for start in starts:
            sums[_slices(start, self.patch)] += self.window_weights
        return sums


class _Crops(torch.autograd.Function):
    """Cut windows out of images, and pass the images on to the next cut.

    The gradient of a chain of cuts is one array of the images' size, to which every window's is added in
    place; the built-in indexing would make such an array for every window.
    """

    @staticmethod
    def forward(ctx: Any, images: Tensor, windows: Sequence[Any]) -> tuple[Tensor, Tensor]:
        ctx.windows, ctx.shape = windows, images.shape
        ctx.set_materialize_grads(False)
        return images, torch.stack([images[window] for window in windows])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, None]:
        passed, crops = gradients
        if crops is None:
            return passed, None
        total = crops.new_zeros(ctx.shape) if passed is None else passed
        if passed is not None and torch.is_grad_enabled():  # the gradient's own graph needs what it was
            total = passed.clone()
        for window, crop in zip(reversed(ctx.windows), reversed(crops), strict=True):
            total[window] += crop
        return total, None


class _WeightedSum(torch.autograd.Function):
    """Add a weighted answer to a part of the sum in place.

    The built-in indexed addition would copy the gradient of the whole sum for every window.
    """

    @staticmethod
    def forward(ctx: Any, total: Tensor, answer: Tensor, weight: Tensor, part: Any) -> Tensor:
        total[part] += weight * answer
        ctx.mark_dirty(total)
        ctx.save_for_backward(weight)
        ctx.part, ctx.dtype = part, answer.dtype
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        (weight,) = ctx.saved_tensors
        return gradients[0], (weight * gradients[0][ctx.part]).to(ctx.dtype), None, None


def _chunks(places: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(places), size):
        yield places[start : start + size]


def _slices(start: Sequence[int], patch: Sequence[int]) -> tuple[slice, ...]:
    return tuple(slice(first, first + length) for first, length in zip(start, patch, strict=True))


def _check_settings(patch: Sequence[int], overlap: float, mirror: Sequence[int], batch: int) -> None:
    if not patch or min(patch) < 1:
        raise InputError(f"patch must be lengths of at least 1, one for each axis, got {list(patch)}")
    if not 0 <= overlap < 1:
        raise InputError(f"overlap must lie in [0, 1), got {overlap}; nnU-Net uses 0.5, MONAI 0.25")
    if len(set(mirror)) < len(mirror) or not set(mirror) <= set(range(len(patch))):
        raise InputError(
            f"mirror must list different axes from 0 to {len(patch) - 1}, got {list(mirror)}; 0 is the first "
            "spatial axis"
        )
    if batch < 1:
        raise InputError(f"batch must be at least 1 window, got {batch}; lower values take less memory")
