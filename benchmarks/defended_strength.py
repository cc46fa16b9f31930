"""Dice left by attacks in L-infinity balls, the worst case of each image, and smallest changes.

python benchmarks/defended_strength.py RUN RUN --images 16 --gradients 60 --radii 1 2 4 8

All attacks on gradients have the same number of them; the losses of `sea` share it. Brackets: 95 % intervals
over patients. RUN is a run folder or a checkpoint.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from seg_mia.attacks.alma_prox import alma_prox
from seg_mia.attacks.apgd import apgd
from seg_mia.attacks.best import mask_dice
from seg_mia.attacks.pgd import pgd
from seg_mia.attacks.sea import MEMBERS, sea
from seg_mia.attacks.square import square
from seg_mia.checkpoint import load_victim, read_card
from seg_mia.config.spec import resolve
from seg_mia.data.base import SegmentationData
from seg_mia.errors import InputError
from seg_mia.models.heads import final
from seg_mia.results.averages import average
from seg_mia.results.bounded_mean import over_images
from seg_mia.results.robustness import minimal_norms
from seg_mia.results.tables import interval
from seg_mia.results.text import minimal_in_words
from seg_mia.runs import checkpoint_file

WORST = "lowest per image"
EQUAL = "PGD, as many gradients"


class Attacked(NamedTuple):
    """A victim and the images it is attacked on.

    Attributes:
        victim: network in evaluation mode.
        images: (N, C, *S) in [0, 1].
        masks: (N, *S) class ids.
        patients: number of patients shown.
    """

    victim: nn.Module
    images: Tensor
    masks: Tensor
    patients: int

    def dice(self, images: Tensor) -> Tensor:
        """Return the foreground Dice of each image, (N,)."""
        with torch.no_grad():
            return mask_dice(final(self.victim(images)), self.masks)

    def mean(self, dice: Tensor) -> str:
        """Return the mean with its interval."""
        return interval(over_images(average(dice), self.patients))


def samples(run: str, count: int) -> Attacked:
    """Return a victim and non-members of as many patients as possible."""
    file = checkpoint_file(run)
    card = read_card(file)
    assert card.data is not None
    settings = {**card.data["init_args"], "subset": "nonmembers", "limit": count}
    data: SegmentationData = resolve(card.data["class_path"])(**settings)
    data.setup()
    chosen = data.attacked()
    rows = data.dataset(chosen)
    batch = [rows[0, row] for row in range(len(rows))]
    x, masks = (torch.stack([row[part] for row in batch]) for part in (0, 1))
    return Attacked(load_victim(file), x, masks, len({data.source.groups[index] for index in chosen}))


def attacks(attacked: Attacked, epsilon: float, gradients: int, queries: int) -> Iterator[tuple[str, Tensor]]:
    """Yield name and images (N, C, *S) of each attack within `epsilon`, in units of the image's range."""
    victim, x, masks, _ = attacked
    yield "PGD as shipped", pgd(victim, x, masks, epsilon=epsilon, step_size=epsilon / 4).images
    step = 2.5 * epsilon / gradients
    yield (
        EQUAL,
        pgd(victim, x, masks, epsilon=epsilon, step_size=step, steps=gradients, keep="best").images,
    )
    for loss in ("balanced_cross_entropy", "dice"):
        found = apgd(victim, x, masks, epsilon=epsilon, steps=gradients, loss=loss)
        yield f"APGD, `{loss}`", found.images
    each = max(gradients // len(MEMBERS), 1)
    yield f"`sea`, {each} on each loss", sea(victim, x, masks, epsilon=epsilon, steps=each).images
    if queries:
        yield (
            f"`square`, {queries} queries",
            square(victim, x, masks, epsilon=epsilon, queries=queries).images,
        )


def table(attacked: Attacked, radii: list[float], gradients: int, queries: int) -> Iterator[str]:
    """Yield the rows of a victim: attacks by radii, the lowest Dice of each image, its share of PGD's."""
    cells: dict[str, list[str]] = {}
    for radius in radii:
        dice = {}
        for name, images in attacks(attacked, radius / 255, gradients, queries):
            dice[name] = attacked.dice(images)
            cells.setdefault(name, []).append(attacked.mean(dice[name]))
            print(f"  {radius:g}/255 {name}: {cells[name][-1]}", file=sys.stderr, flush=True)
        lowest = torch.stack(list(dice.values())).amin(0)
        cells.setdefault(WORST, []).append(attacked.mean(lowest))
        share = float(lowest.mean() / dice[EQUAL].mean())
        cells.setdefault(f"its share of {EQUAL}", []).append(f"{share:.2f}")
    yield "| attack | " + " | ".join(f"{radius:g}/255" for radius in radii) + " |"
    yield "| --- |" + " --- |" * len(radii)
    for name, row in cells.items():
        yield f"| {name} | {' | '.join(row)} |"


def smallest(attacked: Attacked, steps: int, step_size: float) -> Iterator[str]:
    """Yield the smallest changes of `alma-prox`, of the foreground's pixels and of all."""
    for pixels in ("foreground", "all"):
        least = alma_prox(
            attacked.victim, attacked.images, attacked.masks, pixels=pixels, steps=steps, step_size=step_size
        )
        found = minimal_norms(least.notes["minimal_linf"], len(attacked.images))
        assert found is not None
        yield f"alma-prox, {pixels}, {steps} steps: {minimal_in_words(found)}"


def main() -> None:
    """Attack and print."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("victims", nargs="+", metavar="RUN")
    parser.add_argument("--images", type=int, default=16, help="of as many patients as possible")
    parser.add_argument("--radii", type=float, nargs="+", default=[1.0, 2.0, 4.0, 8.0], help="of 255")
    parser.add_argument("--gradients", type=int, default=60, help="of each attack and image")
    parser.add_argument("--queries", type=int, default=300, help="of square; 0 leaves it out")
    parser.add_argument("--norm_steps", type=int, default=200, help="of alma-prox; 0 leaves it out")
    parser.add_argument("--norm_step_size", type=float, default=0.001, help="of alma-prox")
    given = parser.parse_args()
    for run in given.victims:
        attacked = samples(run, given.images)
        clean = attacked.mean(attacked.dice(attacked.images))
        print(f"{run}: {len(attacked.images)} images of {attacked.patients} patients, clean {clean}")
        for line in table(attacked, given.radii, given.gradients, given.queries):
            print(line)
        for line in smallest(attacked, given.norm_steps, given.norm_step_size) if given.norm_steps else ():
            print(line, flush=True)


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"{Path(__file__).name}: error: {error}")
