"""Attacks beside torchattacks 3.5.1 and adversarial-library 0.2.8: what they leave, and time per gradient.

python -m pip install --no-deps torchattacks==3.5.1 adv-lib==0.2.8 visdom
python benchmarks/attack_libraries.py runs/phantom_victim/version_0 --images 8
python benchmarks/attack_libraries.py --norm_steps 500 --shares 0.5 0.9 --contrast 0.04

Without a run only a network of three classes is attacked. All attacks of a table may take the same number of
gradients, which the losses of `sea` share; those that were taken per image are counted and listed, as an
attack may stop early. Times are per gradient taken, the least of several rounds in which the attacks take
turns. What stops with an error is listed with it. An attack that leaves the network otherwise than it was,
in another mode or with other statistics of its normalisation, ends the comparison.
"""

import argparse
import sys
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for the other benchmarks

from benchmarks.attack_strength import samples
from seg_mia.attacks.alma_prox import alma_prox
from seg_mia.attacks.apgd import apgd
from seg_mia.attacks.best import mask_dice
from seg_mia.attacks.pgd import cospgd, pgd, segpgd
from seg_mia.attacks.sea import MEMBERS, sea
from seg_mia.errors import InputError
from seg_mia.losses import dice_cross_entropy_loss
from seg_mia.metrics.distance import linf_norm
from seg_mia.models.heads import class_logits, predicted

EPSILON, STEP = 8 / 255, 2 / 255


class Pair(nn.Module):
    """A network with one logit map per class, as other libraries expect."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, K, H, W), K at least 2."""
        return class_logits(self.network(x))


class Counted(nn.Module):
    """A network that counts the images for which a gradient of its output is taken."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.gradients = network, 0
        self.train(network.training)  # libraries set all modules to the mode of the outermost

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (N, K, H, W)."""
        logits: Tensor = self.network(x)
        if logits.requires_grad:
            logits.register_hook(self._count)  # type: ignore[no-untyped-call]
        return logits

    def _count(self, gradient: Tensor) -> None:
        self.gradients += len(gradient)


def three_classes(count: int, seed: int, size: int = 24, contrast: float = 0.15) -> tuple[Tensor, Tensor]:
    """Return noisy images of a bright disc within a grey one, and their masks.

    Classes differ by `contrast` in grey levels of [0, 1], with noise of about half of that.
    """
    draw = torch.Generator().manual_seed(seed)
    axis = torch.arange(size, dtype=torch.float32)
    centre = size * (0.35 + 0.3 * torch.rand(count, 2, 1, 1, generator=draw))
    radius = size * (0.2 + 0.1 * torch.rand(count, 1, 1, generator=draw))
    far = (axis.view(1, -1, 1) - centre[:, 0]).square() + (axis.view(1, 1, -1) - centre[:, 1]).square()
    mask = (far < radius.square()).long() + (far < (radius / 2).square())
    noise = 0.08 * contrast / 0.15 * torch.randn(count, 1, size, size, generator=draw)
    return (0.3 + contrast * mask.unsqueeze(1) + noise).clamp(0, 1), mask


def small_network(contrast: float = 0.15) -> nn.Module:
    """Return a network trained on `three_classes`."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.BatchNorm2d(1), nn.Conv2d(1, 8, 5, padding=2), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(),
        nn.Conv2d(8, 3, 3, padding=1),
    )  # fmt: skip
    x, mask = three_classes(32, 1, contrast=contrast)
    optimiser = torch.optim.Adam(network.parameters(), 2e-2)
    for _ in range(80):
        optimiser.zero_grad()
        dice_cross_entropy_loss(network(x), mask).mean().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return network.eval().requires_grad_(False)


class Run(NamedTuple):
    """What an attack returns and costs.

    Attributes:
        images: (N, C, H, W); None if it stops with an error.
        seconds: of CPU per gradient, for all images.
        gradients: taken per image.
        error: the error.
    """

    images: Tensor | None
    seconds: float
    gradients: float = 0.0
    error: str = ""


def in_turns(attacks: Mapping[str, Callable[[], Tensor]], network: Counted, rounds: int) -> dict[str, Run]:
    """Run all attacks on a network in each round; keep the least time per gradient of each.

    Raises:
        RuntimeError: an attack changed the network.
    """
    runs: dict[str, Run] = {}
    before = _state(network)
    for _ in range(rounds):
        for name, attack in attacks.items():
            if name in runs and runs[name].images is None:
                continue
            run = _run(attack, network)
            seconds = min(run.seconds, runs[name].seconds) if name in runs else run.seconds
            runs[name] = run._replace(seconds=seconds)
            if not _equal(before, _state(network)):
                raise RuntimeError(f"{name} changed the network: what follows would be of another one")
    return runs


def _run(attack: Callable[[], Tensor], network: Counted) -> Run:
    """Run an attack once; errors are those of libraries written for classifiers."""
    begun, network.gradients = time.process_time(), 0
    try:
        images = attack()
    except (RuntimeError, IndexError) as error:
        line = str(error).strip().splitlines()[0]
        return Run(None, float("inf"), error=f"{type(error).__name__}: {line}")
    taken = network.gradients / len(images)
    return Run(images, (time.process_time() - begun) / max(taken, 1 / len(images)), taken)


def _state(network: nn.Module) -> tuple[dict[str, Tensor], list[bool]]:
    """Return copies of a network's weights and statistics, and the modes of its modules."""
    values = {name: value.clone() for name, value in network.state_dict().items()}
    return values, [module.training for module in network.modules()]


def _equal(one: tuple[dict[str, Tensor], list[bool]], other: tuple[dict[str, Tensor], list[bool]]) -> bool:
    return one[1] == other[1] and all(torch.equal(value, other[0][name]) for name, value in one[0].items())


def in_ball(network: Counted, x: Tensor, mask: Tensor, steps: int, rounds: int) -> None:
    """Print a table of attacks in one ball with at most the same number of gradients."""
    torchattacks: Any = import_module("torchattacks")
    library: Any = import_module("adv_lib.attacks")
    other = torchattacks.PGD(network, eps=EPSILON, alpha=STEP, steps=steps, random_start=False)
    ball: Any = {"epsilon": EPSILON, "steps": steps}
    attacks: dict[str, Callable[[], Tensor]] = {
        "torchattacks PGD": lambda: other(x, mask),
        "`pgd`": lambda: pgd(network, x, mask, step_size=STEP, **ball).images,
        "`pgd`, `balanced_cross_entropy`, best": lambda: (
            pgd(network, x, mask, step_size=STEP, loss="balanced_cross_entropy", keep="best", **ball).images
        ),
        "`segpgd`": lambda: segpgd(network, x, mask, step_size=STEP, **ball).images,
        "`cospgd`": lambda: cospgd(network, x, mask, step_size=STEP, **ball).images,
        "`apgd`, `cross_entropy`": lambda: apgd(network, x, mask, loss="cross_entropy", **ball).images,
        "`apgd`, `balanced_cross_entropy`": lambda: (
            apgd(network, x, mask, loss="balanced_cross_entropy", **ball).images
        ),
        "`apgd`, `dice`": lambda: apgd(network, x, mask, loss="dice", **ball).images,
    }
    each = max(steps // len(MEMBERS), 1)
    attacks[f"`sea`, {each} on each loss"] = lambda: sea(network, x, mask, epsilon=EPSILON, steps=each).images
    for loss in ("ce", "dlr"):
        attacks[f"adversarial-library APGD, {loss}"] = lambda loss=loss: library.apgd(  # type: ignore[misc]
            network, x, mask, EPSILON, float("inf"), n_iter=steps, loss_function=loss, best_loss=True
        )
    print("| attack | gradients | Dice | time per gradient, of the first |\n| --- | --- | --- | --- |")
    runs = in_turns(attacks, network, rounds)
    first = next(iter(runs.values())).seconds
    for name, run in runs.items():
        if run.images is None:
            print(f"| {name} | | {run.error} | |")
            continue
        with torch.no_grad():
            dice = float(mask_dice(network(run.images), mask).mean())
        print(f"| {name} | {run.gradients:g} | {dice:.3f} | {run.seconds / first:.2f} |", flush=True)


def smallest(network: Counted, x: Tensor, mask: Tensor, steps: int, rounds: int, share: float = 0.99) -> None:
    """Print a table of the smallest changes with which a share of the pixels is wrong."""
    library: Any = import_module("adv_lib.attacks.segmentation")
    attacks: dict[str, Callable[[], Tensor]] = {
        "adversarial-library `alma_prox`": lambda: library.alma_prox(
            network, x, mask, num_steps=steps, adv_threshold=share
        ),
        "`alma-prox`": lambda: alma_prox(network, x, mask, steps=steps, share=share).images,
    }
    runs = in_turns(attacks, network, rounds)
    print("| attack | gradients | found | median, of 255 | time per gradient, of the first |")
    print("| --- | --- | --- | --- | --- |")
    first = next(iter(runs.values())).seconds
    for name, run in runs.items():
        if run.images is None:
            print(f"| {name} | | {run.error} | | |")
            continue
        with torch.no_grad():
            wrong = (predicted(network(run.images)) != mask).flatten(1).double().mean(1)
        found = wrong >= share
        norms = linf_norm(run.images - x).masked_fill(~found, torch.inf)
        ratio = run.seconds / first if first < float("inf") else float("nan")
        print(
            f"| {name} | {run.gradients:g} | {int(found.sum())} of {len(x)} | "
            f"{255 * float(norms.median()):.1f} | {ratio:.2f} |",
            flush=True,
        )


def main() -> None:
    """Attack and print."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument(
        "victim", nargs="?", help="run of a victim; without, the network of three classes alone"
    )
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--norm_steps", type=int, default=200, help="of the smallest changes")
    parser.add_argument(
        "--shares",
        type=float,
        nargs="+",
        default=[0.5, 0.8, 0.9, 0.95, 0.99],
        help="of pixels that must be wrong",
    )
    parser.add_argument("--contrast", type=float, default=0.15, help="between three classes, in [0, 1]")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    compared: dict[str, tuple[nn.Module, tuple[Tensor, Tensor]]] = {}
    if given.victim is not None:
        victim, pair, _ = samples(given.victim, given.images)
        compared["victim"] = Pair(victim), pair
    toy = three_classes(12, 7, contrast=given.contrast)
    compared["three classes"] = small_network(given.contrast), toy
    for name, (network, pair) in compared.items():
        with torch.no_grad():
            clean = float(mask_dice(network(pair[0]), pair[1]).mean())
        print(f"{name}, {tuple(pair[0].shape)}, Dice {clean:.3f}, {given.steps} gradients")
        frozen = Counted(network.eval().requires_grad_(False))
        in_ball(frozen, *pair, given.steps, given.rounds)
        for share in given.shares:
            wrong = f"{100 * share:g} % of the pixels wrong"
            print(f"\n{name}, smallest changes, {wrong}, {given.norm_steps} gradients")
            smallest(frozen, *pair, given.norm_steps, min(given.rounds, 2), share)
        print()


if __name__ == "__main__":
    try:
        main()
    except ImportError as error:
        sys.exit(f"{Path(__file__).name}: error: {error}; install the libraries as above")
    except InputError as error:
        sys.exit(f"{Path(__file__).name}: error: {error}")
