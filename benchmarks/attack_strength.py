"""Dice that is left by attacks in one L-infinity ball with the same number of gradients, and minimal norms.

python benchmarks/attack_strength.py runs/phantom_victim/version_0 --images 16 --steps 60
"""

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from seg_mia.attacks.alma_prox import alma_prox
from seg_mia.attacks.best import mask_dice
from seg_mia.attacks.objectives import ObjectiveName
from seg_mia.attacks.pgd import pgd
from seg_mia.attacks.sea import MEMBERS, sea
from seg_mia.attacks.square import square
from seg_mia.checkpoint import load_victim, read_card
from seg_mia.config.spec import resolve
from seg_mia.data.base import SegmentationData
from seg_mia.errors import InputError
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


def samples(run: str, count: int) -> tuple[nn.Module, Tensor, Tensor]:
    """Return a victim, its first non-members and their masks."""
    file = checkpoint_file(run)
    card = read_card(file)
    assert card.data is not None
    data: SegmentationData = resolve(card.data["class_path"])(**card.data["init_args"])
    data.setup()
    chosen = data.indices("nonmembers")[:count]
    batch = [data.dataset(chosen)[0, row] for row in range(len(chosen))]
    x, masks = (torch.stack([row[part] for row in batch]) for part in (0, 1))
    return load_victim(file), x, masks


def left(victim: nn.Module, images: Tensor, masks: Tensor) -> float:
    """Return the mean foreground Dice."""
    with torch.no_grad():
        return float(mask_dice(victim(images), masks).mean())


def rows(victim: nn.Module, x: Tensor, masks: Tensor, epsilon: float, steps: int) -> Iterator[str]:
    """Yield the lines of the table."""
    yield f"| none | {left(victim, x, masks):.3f} | |"
    for loss in SINGLE:
        begun = time.perf_counter()
        images = pgd(
            victim, x, masks, epsilon=epsilon, step_size=0.01, steps=steps, loss=loss, keep="best"
        ).images
        took = time.perf_counter() - begun
        yield f"| PGD, `{loss}` | {left(victim, images, masks):.3f} | {took:.0f} s |"
    losses: tuple[ObjectiveName, ...] = (*MEMBERS, "cross_entropy")
    begun = time.perf_counter()
    result = sea(victim, x, masks, epsilon=epsilon, steps=steps, losses=losses)
    took = time.perf_counter() - begun
    for row in member_rows(result.notes, losses):
        yield f"| APGD, `{row.loss}` | {row.alone or 0:.3f} | {took / len(losses):.0f} s |"
    dice = torch.stack([result.notes[f"{name}.dice"] for name in MEMBERS])
    five, worst = {**result.notes, "member": dice.argmin(0)}, dice.amin(0).mean()
    members = ", ".join(f"{row.loss} {row.won:.2f} / {row.without:.3f}" for row in member_rows(five, MEMBERS))
    yield f"| `sea` (share won / Dice without it: {members}) | {worst:.3f} | |"


def main() -> None:
    """Attack and print."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("victim")
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--norm_steps", type=int, default=200)
    parser.add_argument("--epsilon", type=float, default=8 / 255)
    given = parser.parse_args()
    victim, x, masks = samples(given.victim, given.images)
    print(f"{tuple(x.shape)}, {given.steps} steps, epsilon {255 * given.epsilon:g}/255")
    print("| attack | Dice | time |\n| --- | --- | --- |")
    for line in rows(victim, x, masks, given.epsilon, given.steps):
        print(line, flush=True)
    for access in ("scores", "labels"):
        blind = square(victim, x, masks, access=access, epsilon=given.epsilon, queries=given.queries)
        print(
            f"| `square`, {access}, {given.queries} queries | {left(victim, blind.images, masks):.3f} | |",
            flush=True,
        )
    for pixels in ("foreground", "all"):
        least = alma_prox(victim, x, masks, pixels=pixels, steps=given.norm_steps, step_size=0.002)
        norms = minimal_norms(least.notes["minimal_linf"], len(x))
        assert norms is not None
        print(f"alma-prox, {pixels}: {minimal_in_words(norms)}", flush=True)


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"{Path(__file__).name}: error: {error}")
