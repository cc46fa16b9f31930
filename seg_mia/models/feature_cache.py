"""Features of a frozen encoder, computed once for each image of a training."""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from seg_mia.errors import InputError

OFF = "or leave out --model.cache_features"


class FeatureCache:
    """Feature maps of a network's encoder in memory, by index of the image.

    Each index must always come with the same image. Memory: the feature maps that are read, of all images, on
    their device.

    Args:
        encoder: frozen and deterministic; maps images (N, C, H, W) to a sequence of feature maps
            (N, D, h, w), of which the first may be the images themselves, as in smp.

    Attributes:
        read: positions of the feature maps that the network declares to read; zeros in the shape of the
            others are served, which take no memory. None keeps all.

    Raises:
        InputError: the encoder is trained, or its answer to one image may change.
    """

    def __init__(self, encoder: nn.Module) -> None:
        trained = [name for name, weight in encoder.named_parameters() if weight.requires_grad]
        if trained:
            raise InputError(
                f"features can be cached if the encoder is frozen, got {trained[0]} in training; set "
                f"--model.frozen [encoder], {OFF}"
            )
        varying = [
            f"{name} ({type(layer).__name__})" for name, layer in encoder.named_modules() if _varies(layer)
        ]
        if varying:
            raise InputError(
                f"features can be cached if an image always has the same, got {varying[0]} in training mode; "
                f"for batch normalisation set --model.defences.batch_norm fixed, {OFF}"
            )
        self.encoder = encoder
        self.read: Collection[int] | None = None
        self._rows = torch.zeros(0, dtype=torch.int64)
        self._maps: dict[int, tuple[Tensor, ...]] = {}

    def select(self, index: Tensor) -> None:
        """Set the indices (N,) int64 of the images that the encoder receives next."""
        self._rows = index

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Let the encoder answer from memory in this context, once it has computed an image's features."""
        compute = self.encoder.forward

        def forward(x: Tensor) -> Sequence[Tensor]:
            return self._answer(x, compute)

        self.encoder.forward = forward
        try:
            yield
        finally:
            del self.encoder.forward  # the method of the class again

    def _answer(self, x: Tensor, compute: Callable[[Tensor], Sequence[Tensor]]) -> Sequence[Tensor]:
        rows = self._rows.tolist()
        if len(rows) != len(x):
            raise ValueError(f"select an index for each image, got {len(rows)} for {len(x)}")
        missing = [position for position, row in enumerate(rows) if row not in self._maps]
        if missing:
            images = x[missing]
            with torch.no_grad():
                computed = compute(images)
            first = int(computed[0] is images)
            kept = [
                level if self.read is None or number in self.read else level.new_zeros(()).expand_as(level)
                for number, level in enumerate(computed[first:], start=first)
            ]
            self._maps |= zip((rows[position] for position in missing), zip(*kept, strict=True), strict=True)
            self._image_first = first == 1
        maps = [torch.stack(level) for level in zip(*(self._maps[row] for row in rows), strict=True)]
        return [x, *maps] if self._image_first else maps


def _varies(layer: nn.Module) -> bool:
    """Return whether a layer's answer to an image depends on the batch or on chance."""
    if not layer.training:
        return False
    chance = max(getattr(layer, name, 0.0) or 0.0 for name in ("p", "drop_prob", "drop_rate"))
    return isinstance(layer, nn.modules.batchnorm._NormBase) or (
        "Drop" in type(layer).__name__ and chance > 0
    )
