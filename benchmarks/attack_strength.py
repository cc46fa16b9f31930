"""Dice that is left by attacks in one L-infinity ball, over the radius, and minimal norms.

python benchmarks/attack_strength.py runs/phantom_victim/version_0 --images 16 --steps 60
python benchmarks/attack_strength.py RUN --images 16 --rows weak,curve,square --surrogates SHADOW SHADOW
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from seg_mia.attacks.alma_prox import alma_prox
from seg_mia.attacks.apgd import apgd
from seg_mia.attacks.asma import asma
from seg_mia.attacks.best import mask_dice
from seg_mia.attacks.frequency import frequency
from seg_mia.attacks.medis import medis
from seg_mia.attacks.objectives import ObjectiveName
from seg_mia.attacks.pgd import pgd
from seg_mia.attacks.robustness_curve import robustness_curve
from seg_mia.attacks.sea import MEMBERS, sea
from seg_mia.attacks.square import square
from seg_mia.attacks.targets import random_other
from seg_mia.attacks.transfer import Surrogates, transfer
from seg_mia.attacks.universal import apply_universal, fit_universal
from seg_mia.checkpoint import load_victim, read_card
from seg_mia.config.spec import resolve
from seg_mia.data.base import SegmentationData
from seg_mia.data.halves import patient_halves
from seg_mia.errors import InputError
from seg_mia.metrics.distance import linf_norm
from seg_mia.results.dice_curve import at_radius
from seg_mia.results.robustness import member_rows, minimal_norms
from seg_mia.results.text import minimal_in_words
from seg_mia.runs import checkpoint_file

SINGLE: tuple[ObjectiveName, ...] = (
    "cross_entropy",
    "dice",
    "segpgd",
    "cospgd",
    "masked_cross_entropy",
    "balanced_cross_entropy",
)
KINDS = ("weak", "universal", "single", "staged", "ensemble", "curve", "square", "norms")
RADII = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
Pair = tuple[Tensor, Tensor]


def samples(run: str, count: int) -> tuple[nn.Module, Pair, Pair]:
    """Return a victim, non-members with their masks, and as many of other patients."""
    file = checkpoint_file(run)
    card = read_card(file)
    assert card.data is not None
    data: SegmentationData = resolve(card.data["class_path"])(**card.data["init_args"])
    data.setup()
    fitting, chosen = patient_halves(data.scored("nonmembers"), data.source.groups, 0)

    def opened(indices: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Pair:
        rows = data.dataset(indices[:count])
        batch = [rows[0, row] for row in range(len(rows))]
        return torch.stack([row.image for row in batch]), torch.stack([row.mask for row in batch])

    return load_victim(file), opened(chosen), opened(fitting)


class Table:
    """Prints one line per attack on the same images."""

    def __init__(self, victim: nn.Module, x: Tensor, masks: Tensor) -> None:
        self.victim, self.x, self.masks = victim, x, masks

    def left(self, images: Tensor) -> float:
        """Return the mean foreground Dice."""
        with torch.no_grad():
            return float(mask_dice(self.victim(images), self.masks).mean())

    def line(self, name: str, attack: Callable[[], Tensor]) -> None:
        """Print the Dice that an attack leaves, its largest change and its time."""
        begun = time.perf_counter()
        images = attack()
        took = time.perf_counter() - begun
        largest = float(linf_norm(images - self.x).mean())
        print(f"| {name} | {self.left(images):.3f} | {255 * largest:.1f} | {took:.0f} s |", flush=True)


def weak(table: Table, epsilon: float, surrogates: list[str]) -> None:
    """Attacks as their papers or configs have them, and those that see less than the weights."""
    victim, x, masks = table.victim, table.x, table.masks
    targets = masks[random_other(len(masks), 0)]
    table.line("PGD, cross-entropy, 10 steps of 2/255, last", lambda: pgd(victim, x, masks).images)
    table.line("MedIS away from the truth, 10 steps of 1/255", lambda: _medis(victim, x, masks))
    table.line(
        "ASMA to another mask, 100 steps of the config",
        lambda: asma(victim, x, targets, steps=100, tau=1e-6, beta=1e-5).images,
    )
    table.line("frequency", lambda: frequency(victim, x, masks).images)
    table.line("frequency, a table per block", lambda: frequency(victim, x, masks, tables="block").images)
    networks = [load_victim(checkpoint_file(run)) for run in surrogates]
    for count in sorted({1, len(networks)} if networks else ()):
        several = Surrogates(networks[:count])
        table.line(f"transfer from {count}", lambda net=several: transfer(net, x, masks).images)  # type: ignore[misc]
    if networks:
        plain = lambda: pgd(networks[0], x, masks, epsilon=epsilon, steps=20, step_size=1 / 255).images  # noqa: E731
        table.line("PGD on 1, 20 steps of 1/255, last", plain)


def fitted(table: Table, epsilon: float, others: Pair) -> None:
    """One change for all images, and one of random signs."""
    victim, x, masks = table.victim, table.x, table.masks
    table.line(
        "universal, fitted to others",
        lambda: apply_universal(victim, x, masks, fit_universal(victim, *others, epsilon=epsilon)).images,
    )
    noise = epsilon * (2 * torch.randint(2, x.shape[1:], generator=torch.Generator().manual_seed(0)) - 1)
    table.line("random signs, the same for all", lambda: (x + noise).clamp(0, 1))


def _medis(victim: nn.Module, x: Tensor, masks: Tensor) -> Tensor:
    return medis(victim, x, masks, targeted=False).images


def single(table: Table, epsilon: float, steps: int) -> None:
    """PGD with each objective."""
    for loss in SINGLE:
        table.line(
            f"PGD, `{loss}`",
            lambda loss=loss: pgd(  # type: ignore[misc]
                table.victim, table.x, table.masks, epsilon=epsilon, step_size=0.01, steps=steps, loss=loss,
                keep="best",
            ).images,
        )  # fmt: skip


def staged(table: Table, epsilon: float, steps: int) -> None:
    """APGD with and without larger balls first."""
    for loss in ("balanced_cross_entropy", "dice"):
        for larger in (False, True):
            table.line(
                f"APGD, `{loss}`{', larger balls first' if larger else ''}",
                lambda loss=loss, larger=larger: (
                    apgd(  # type: ignore[misc]
                        table.victim,
                        table.x,
                        table.masks,
                        epsilon=epsilon,
                        steps=steps,
                        loss=loss,
                        staged=larger,
                    ).images
                ),
            )


def queries(table: Table, epsilon: float, count: int) -> None:
    """The attack without gradients."""
    for access in ("scores", "labels"):
        table.line(
            f"`square`, {access}, {count} queries",
            lambda access=access: (
                square(  # type: ignore[misc]
                    table.victim, table.x, table.masks, access=access, epsilon=epsilon, queries=count
                ).images
            ),
        )


def ensemble(table: Table, epsilon: float, steps: int) -> None:
    """Print the lines of `sea` and of its members."""
    losses: tuple[ObjectiveName, ...] = (*MEMBERS, "cross_entropy")
    begun = time.perf_counter()
    result = sea(table.victim, table.x, table.masks, epsilon=epsilon, steps=steps, losses=losses)
    took = time.perf_counter() - begun
    for row in member_rows(result.notes, losses):
        print(f"| APGD, `{row.loss}` | {row.alone or 0:.3f} | | {took / len(losses):.0f} s |")
    dice = torch.stack([result.notes[f"{name}.dice"] for name in MEMBERS])
    five, worst = {**result.notes, "member": dice.argmin(0)}, dice.amin(0).mean()
    members = ", ".join(f"{row.loss} {row.won:.2f} / {row.without:.3f}" for row in member_rows(five, MEMBERS))
    print(f"| `sea` (share won / Dice without it: {members}) | {worst:.3f} | | |", flush=True)


def curve(table: Table, steps: int) -> None:
    """Print Dice over the radius and smallest changes."""
    begun = time.perf_counter()
    notes = robustness_curve(table.victim, table.x, table.masks, radii=RADII, steps=steps).notes
    took = time.perf_counter() - begun
    points = ", ".join(f"{float(notes[at_radius(radius)].mean()):.3f} at {radius:g}" for radius in RADII)
    found = minimal_norms(notes["minimal_linf"], len(table.x))
    assert found is not None
    print(f"robustness-curve, {steps} steps, {took:.0f} s: {points}; {minimal_in_words(found)}", flush=True)


def norms(table: Table, steps: int) -> None:
    """Print smallest changes of `alma-prox`."""
    for pixels in ("foreground", "all"):
        least = alma_prox(table.victim, table.x, table.masks, pixels=pixels, steps=steps, step_size=0.002)
        found = minimal_norms(least.notes["minimal_linf"], len(table.x))
        assert found is not None
        print(f"alma-prox, {pixels}: {minimal_in_words(found)}", flush=True)


def main() -> None:
    """Attack and print."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("victim")
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--curve_steps", type=int, default=20)
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--norm_steps", type=int, default=200)
    parser.add_argument("--epsilon", type=float, default=8 / 255)
    parser.add_argument("--rows", default=",".join(KINDS), help=f"of {', '.join(KINDS)}")
    parser.add_argument("--surrogates", nargs="*", default=[], help="runs to transfer from")
    given = parser.parse_args()
    kinds = given.rows.split(",")
    if unknown := set(kinds) - set(KINDS):
        raise InputError(f"rows must be of {', '.join(KINDS)}, got {', '.join(sorted(unknown))}; correct it")
    victim, (x, masks), others = samples(given.victim, given.images)
    table = Table(victim, x, masks)
    print(f"{tuple(x.shape)}, {given.steps} steps, epsilon {255 * given.epsilon:g}/255")
    print("| attack | Dice | L-infinity x 255 | time |\n| --- | --- | --- | --- |")
    print(f"| none | {table.left(x):.3f} | | |")
    parts: dict[str, Callable[[], object]] = {
        "weak": lambda: weak(table, given.epsilon, given.surrogates),
        "universal": lambda: fitted(table, given.epsilon, others),
        "single": lambda: single(table, given.epsilon, given.steps),
        "staged": lambda: staged(table, given.epsilon, given.steps),
        "ensemble": lambda: ensemble(table, given.epsilon, given.steps),
        "square": lambda: queries(table, given.epsilon, given.queries),
        "curve": lambda: curve(table, given.curve_steps),
        "norms": lambda: norms(table, given.norm_steps),
    }
    for kind in kinds:
        parts[kind]()


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"{Path(__file__).name}: error: {error}")
