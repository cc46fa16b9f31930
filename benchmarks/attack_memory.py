"""Peak memory of every attack for each further image of a batch.

python benchmarks/attack_memory.py
python benchmarks/attack_memory.py --side 32 --few 2 --many 4

Each attack runs on two batches, in a process of its own (`cost_model.py`); the difference is that of the
images, without network and imports, and errs by some MiB. Every step of an attack takes the same memory, so
that few are run. `certify` is left out: it asks about one image at a time.
"""

import argparse
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor, nn

from benchmarks.cost_model import measured, network
from seg_mia.attacks.adain import adain
from seg_mia.attacks.alma_prox import alma_prox
from seg_mia.attacks.apgd import apgd
from seg_mia.attacks.asma import asma
from seg_mia.attacks.frequency import frequency
from seg_mia.attacks.medis import medis
from seg_mia.attacks.pgd import cospgd, fgsm, pgd, segpgd
from seg_mia.attacks.robustness_curve import robustness_curve
from seg_mia.attacks.sea import sea
from seg_mia.attacks.square import square
from seg_mia.attacks.transfer import transfer
from seg_mia.attacks.universal import universal
from seg_mia.models.style_autoencoder import TextureAutoEncoders

COMPRESSED = (16, 32, 64, 128, 128)
"""Channels of the compressed texture auto-encoders (Wang et al. 2020)."""
STEPS = 3
Attack = Callable[[nn.Module, Tensor, Tensor], object]


@torch.no_grad()
def answered(model: nn.Module, x: Tensor, target: Tensor) -> None:  # noqa: ARG001
    """Query the network."""
    model(x)


def textured(model: nn.Module, x: Tensor, target: Tensor) -> None:
    """Run `adain` with compressed auto-encoders of random weights."""
    adain(model, x, target, pairs=TextureAutoEncoders(widths=COMPRESSED).eval())


ATTACKS: Mapping[str, Attack] = {
    "a query, for comparison": answered,
    "fgsm": fgsm,
    "pgd": partial(pgd, steps=STEPS),
    "segpgd": partial(segpgd, steps=STEPS),
    "cospgd": partial(cospgd, steps=STEPS),
    "apgd": partial(apgd, steps=STEPS),
    "sea": partial(sea, steps=STEPS),
    "alma-prox": partial(alma_prox, steps=STEPS),
    "asma": partial(asma, steps=STEPS),
    "medis, six losses": partial(medis, steps=STEPS),
    "frequency": partial(frequency, steps=STEPS),
    "universal": partial(universal, epochs=1, tiles=(16,)),
    "transfer": partial(transfer, steps=STEPS),
    "robustness-curve": partial(robustness_curve, steps=1, radii=(1.0, 8.0)),
    "square": partial(square, queries=STEPS),
    "adain": textured,
}


def attacked(attack: Attack, side: int, count: int) -> None:
    """Run an attack on images of noise, whose masks are a square."""
    draw = torch.Generator().manual_seed(0)
    target = torch.zeros(count, side, side, dtype=torch.int64)
    target[:, side // 4 : side // 2, side // 4 : side // 2] = 1
    attack(network(), torch.rand(count, 1, side, side, generator=draw), target)


def main() -> None:
    """Measure and print."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--few", type=int, default=4, help="images of the smaller batch")
    parser.add_argument("--many", type=int, default=12, help="images of the larger batch")
    given = parser.parse_args()
    print("| attack | MiB for each image |\n| --- | --- |")
    for name, attack in ATTACKS.items():
        work = partial(attacked, attack, given.side)
        few, many = (measured(work, count).megabytes for count in (given.few, given.many))
        each = (many - few) / (given.many - given.few)
        print(f"| {name} | {each:.0f} |", flush=True)


if __name__ == "__main__":
    main()
