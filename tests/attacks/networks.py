"""Networks whose worst case in a ball is known in closed form, and one that is trained in two seconds."""

from functools import cache

import torch
from torch import Tensor, nn

from seg_mia.losses import dice_cross_entropy_loss

WEIGHTS = (3.0, -4.0)
BIAS = 0.25


class Linear(nn.Module):
    """Per pixel 3 red - 4 green + 1/4: as one logit, or as the pair of it."""

    def __init__(self, classes: int = 1) -> None:
        super().__init__()
        self.classes = classes

    def forward(self, x: Tensor) -> Tensor:
        logit = (x.new_tensor(WEIGHTS).view(-1, *[1] * (x.ndim - 2)) * x).sum(1, keepdim=True) + BIAS
        return logit if self.classes == 1 else torch.cat((-logit / 2, logit / 2), 1)


class Quadratic(nn.Module):
    """Per pixel 1 - 50 (x - 0.4)^2, foreground within 0.141 of 0.4."""

    def forward(self, x: Tensor) -> Tensor:
        return 1 - 50 * (x - 0.4).square()


def linear_data(count: int = 3, size: int = 8) -> tuple[Tensor, Tensor]:
    """Return images whose values lie far from 0 and 1, and their masks by `Linear`, some pixels ignored."""
    draw = torch.Generator().manual_seed(0)
    x = 0.5 + 0.2 * (torch.rand(count, 2, size, size, generator=draw, dtype=torch.float64) - 0.5)
    mask = (Linear()(x)[:, 0] > 0).long()
    mask[:, 0] = 255
    return x, mask


def discs(count: int, seed: int, size: int = 24) -> tuple[Tensor, Tensor]:
    """Return noisy images of one bright disc each, and its mask."""
    draw = torch.Generator().manual_seed(seed)
    axis = torch.arange(size, dtype=torch.float32)
    centre = size * (0.3 + 0.4 * torch.rand(count, 2, 1, 1, generator=draw))
    radius = size * (0.12 + 0.12 * torch.rand(count, 1, 1, generator=draw))
    far = (axis.view(1, -1, 1) - centre[:, 0]).square() + (axis.view(1, 1, -1) - centre[:, 1]).square()
    mask = (far < radius.square()).long()
    noise = 0.08 * torch.randn(count, 1, size, size, generator=draw)
    return (0.4 + 0.12 * mask.unsqueeze(1) + noise).clamp(0, 1), mask


class Centred(nn.Module):
    """Grey levels as multiples of the discs' contrast, about its middle."""

    def forward(self, x: Tensor) -> Tensor:
        return (x - 0.46) / 0.06


@cache
def trained() -> nn.Module:
    """Return a small network that finds the discs."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(
            Centred(), nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.Conv2d(6, 6, 3, padding=1), nn.ReLU(),
            nn.Conv2d(6, 1, 3, padding=1),
        )  # fmt: skip
    x, mask = discs(16, 1)
    optimiser = torch.optim.Adam(network.parameters(), 2e-2)
    for _ in range(40):
        optimiser.zero_grad()
        dice_cross_entropy_loss(network(x), mask).mean().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return network.eval()
