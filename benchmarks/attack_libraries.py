"""Attacks against PGD of torchattacks 3.5.1: Dice and time per gradient.

python -m pip install --no-deps torchattacks==3.5.1
python benchmarks/attack_libraries.py runs/phantom_victim/version_0 --images 8
"""

import argparse
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from attack_strength import samples  # type: ignore[import-not-found]  # beside this file
from torch import Tensor, nn

from seg_mia.attacks.apgd import apgd
from seg_mia.attacks.best import mask_dice
from seg_mia.attacks.pgd import pgd
from seg_mia.errors import InputError
from seg_mia.losses import dice_cross_entropy_loss
from seg_mia.models.heads import class_logits

EPSILON, STEP = 8 / 255, 2 / 255


class Pair(nn.Module):
    """A network with one logit map per class, as other libraries expect."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, K, H, W), K at least 2."""
        return class_logits(self.network(x))


def three_classes(count: int, seed: int, size: int = 24) -> tuple[Tensor, Tensor]:
    """Return noisy images of a bright disc within a grey one, and their masks."""
    draw = torch.Generator().manual_seed(seed)
    axis = torch.arange(size, dtype=torch.float32)
    centre = size * (0.35 + 0.3 * torch.rand(count, 2, 1, 1, generator=draw))
    radius = size * (0.2 + 0.1 * torch.rand(count, 1, 1, generator=draw))
    far = (axis.view(1, -1, 1) - centre[:, 0]).square() + (axis.view(1, 1, -1) - centre[:, 1]).square()
    mask = (far < radius.square()).long() + (far < (radius / 2).square())
    noise = 0.08 * torch.randn(count, 1, size, size, generator=draw)
    return (0.3 + 0.15 * mask.unsqueeze(1) + noise).clamp(0, 1), mask


def small_network() -> nn.Module:
    """Return a network trained on `three_classes`."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.BatchNorm2d(1), nn.Conv2d(1, 8, 5, padding=2), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(),
        nn.Conv2d(8, 3, 3, padding=1),
    )  # fmt: skip
    x, mask = three_classes(32, 1)
    optimiser = torch.optim.Adam(network.parameters(), 2e-2)
    for _ in range(80):
        optimiser.zero_grad()
        dice_cross_entropy_loss(network(x), mask).mean().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return network.eval().requires_grad_(False)


def timed(attack: Callable[[], Tensor], gradients: int) -> tuple[Tensor, float]:
    """Return an attack's images and its seconds of CPU per gradient, the lesser of two runs."""
    seconds = []
    for _ in range(2):
        begun = time.process_time()
        images = attack()
        seconds.append((time.process_time() - begun) / gradients)
    return images, min(seconds)


def in_ball(network: nn.Module, x: Tensor, mask: Tensor, steps: int) -> None:
    """Print a table of attacks in one ball with the same number of gradients."""
    torchattacks: Any = import_module("torchattacks")
    other = torchattacks.PGD(network, eps=EPSILON, alpha=STEP, steps=steps, random_start=False)
    ball: Any = {"epsilon": EPSILON, "steps": steps}
    attacks: dict[str, Callable[[], Tensor]] = {
        "torchattacks PGD": lambda: other(x, mask),
        "`pgd`": lambda: pgd(network, x, mask, step_size=STEP, **ball).images,
        "`pgd`, `balanced_cross_entropy`, best": lambda: (
            pgd(network, x, mask, step_size=STEP, loss="balanced_cross_entropy", keep="best", **ball).images
        ),
        "`apgd`, `balanced_cross_entropy`": lambda: (
            apgd(network, x, mask, loss="balanced_cross_entropy", **ball).images
        ),
    }
    first = None
    for name, attack in attacks.items():
        images, seconds = timed(attack, steps)
        first = first or seconds
        with torch.no_grad():
            dice = float(mask_dice(network(images), mask).mean())
        print(f"| {name} | {dice:.3f} | {seconds / first:.2f} |", flush=True)


def main() -> None:
    """Attack and print."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("victim")
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--steps", type=int, default=40)
    given = parser.parse_args()
    victim, (x, masks), _ = samples(given.victim, given.images)
    small = small_network()
    toy = three_classes(12, 7)
    for name, network, pair in (("victim", Pair(victim), (x, masks)), ("three classes", small, toy)):
        with torch.no_grad():
            clean = float(mask_dice(network(pair[0]), pair[1]).mean())
        print(f"{name}, {tuple(pair[0].shape)}, Dice {clean:.3f}, {given.steps} gradients")
        print("| attack | Dice | time per gradient, of the first |\n| --- | --- | --- |")
        in_ball(network.eval().requires_grad_(False), pair[0], pair[1], given.steps)


if __name__ == "__main__":
    try:
        main()
    except ImportError as error:
        sys.exit(f"{Path(__file__).name}: error: {error}; install torchattacks as above")
    except InputError as error:
        sys.exit(f"{Path(__file__).name}: error: {error}")
