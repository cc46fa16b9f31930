"""Dice that is left of several victims by PGD, APGD and SEA in balls of 2, 4 and 8 of 255 in L-infinity.

python benchmarks/defended_strength.py runs/phantom_victim/version_0 runs/phantom_victim-adversarial/version_0
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from seg_mia.attacks.apgd import apgd
from seg_mia.attacks.best import mask_dice
from seg_mia.attacks.pgd import pgd
from seg_mia.attacks.sea import sea
from seg_mia.checkpoint import load_victim, read_card
from seg_mia.config.spec import resolve
from seg_mia.data.base import SegmentationData
from seg_mia.errors import InputError
from seg_mia.models.heads import final
from seg_mia.results.averages import average
from seg_mia.results.bounded_mean import over_images
from seg_mia.results.tables import interval
from seg_mia.runs import checkpoint_file

RADII = (2, 4, 8)


def samples(run: str, count: int) -> tuple[nn.Module, Tensor, Tensor, int]:
    """Return a victim, its first labelled non-members, their masks, and how many patients they are of."""
    file = checkpoint_file(run)
    card = read_card(file)
    assert card.data is not None
    data: SegmentationData = resolve(card.data["class_path"])(**card.data["init_args"])
    data.setup()
    chosen = data.scored("nonmembers")[:count]
    batch = [data.dataset(chosen)[0, row] for row in range(len(chosen))]
    x, masks = (torch.stack([row[part] for row in batch]) for part in (0, 1))
    return load_victim(file), x, masks, len({data.source.groups[i] for i in chosen})


def left(victim: nn.Module, images: Tensor, masks: Tensor, patients: int) -> str:
    """Return the mean foreground Dice with its 95 % interval."""
    with torch.no_grad():
        dice = mask_dice(final(victim(images)), masks)
    return interval(over_images(average(dice), patients))


def row(run: str, given: argparse.Namespace) -> Iterator[str]:
    """Yield the cells of a victim."""
    victim, x, masks, patients = samples(run, given.images)
    yield f"{len(x)} images, clean {left(victim, x, masks, patients)}"
    for radius in RADII:
        epsilon = radius / 255
        for name, images in (
            ("pgd", pgd(victim, x, masks, epsilon=epsilon, step_size=epsilon / 4, keep="best").images),
            ("apgd", apgd(victim, x, masks, epsilon=epsilon, steps=given.steps).images),
            ("sea", sea(victim, x, masks, epsilon=epsilon, steps=given.sea_steps).images),
        ):
            yield f"{name} {radius}/255: {left(victim, images, masks, patients)}"


def main() -> None:
    """Attack and print."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("victims", nargs="+")
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--steps", type=int, default=40, help="of apgd")
    parser.add_argument("--sea_steps", type=int, default=20, help="of each loss of sea")
    given = parser.parse_args()
    for run in given.victims:
        print(run)
        for cell in row(run, given):
            print(f"  {cell}", flush=True)


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"{Path(__file__).name}: error: {error}")
