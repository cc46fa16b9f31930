"""What tests of losses share: random outputs, and outputs that are right."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from seg_mia.losses import SURROGATES
from seg_mia.metrics.labels import IGNORE

every_loss = pytest.mark.parametrize("name", list(SURROGATES))
every_channels = pytest.mark.parametrize("channels", [1, 2, 4])


def draw(
    channels: int,
    *,
    seed: int = 0,
    n: int = 3,
    size: tuple[int, int] = (9, 7),
    ignored: float = 0.2,
    dtype: torch.dtype = torch.float64,
) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(n, channels, *size, generator=generator, dtype=dtype)
    mask = torch.randint(max(2, channels), (n, *size), generator=generator)
    return logits, mask.masked_fill(torch.rand(n, *size, generator=generator) < ignored, IGNORE)


def confident(mask: Tensor, channels: int, size: float) -> Tensor:
    """Logits that are right everywhere by a margin of `size`, as if ignored pixels were background."""
    known = mask.masked_fill(mask == IGNORE, 0)
    if channels == 1:
        return (size * (2.0 * known - 1)).unsqueeze(1)
    one_hot = functional.one_hot(known, channels).permute(0, 3, 1, 2)
    return size * (one_hot.double() - 0.5)
