"""Attacks on the networks of a fleet, by signal and number of references.

python benchmarks/fleet_attacks.py FLEET [--root FOLDER] [--references 4 8 16]

FLEET is a folder of `seg_mia fleet`. Each network is the target in turn; its complement is left out, and a
number of references is that of the others in groups of complementary pairs. Each cell is the mean AUC and
the mean TPR at 1 % FPR over all targets.
"""

import argparse
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from seg_mia.checkpoint import without_machine
from seg_mia.config.spec import resolve
from seg_mia.data.base import SegmentationData
from seg_mia.data.signal_values import signal_values
from seg_mia.data.trained_model import TrainedModel
from seg_mia.errors import InputError
from seg_mia.experiment.answers import pool_of, seen_by
from seg_mia.experiment.modules import DataModules
from seg_mia.experiment.plan import Shadow
from seg_mia.experiment.trained_networks import load_shadow
from seg_mia.membership import auc, tpr_at_fpr
from seg_mia.membership.fleet import (
    attacked,
    base,
    difficulty_calibrated,
    lira_offline,
    lira_online,
    lira_vector,
    rmia,
    standardised,
)
from seg_mia.membership.fleet.confidences import NAMES, Confidences, CrossEntropy
from seg_mia.membership.fleet.ratios import Population
from seg_mia.membership.fleet.scoring import FleetAttack
from seg_mia.membership.fleet.vectors import Density
from seg_mia.membership.signals import ImageDice, ImageLoss
from seg_mia.runs import read_run, shadow_files

Values = NDArray[np.float64]
Inside = NDArray[np.bool_]


class Signals(NamedTuple):
    """Signals of a fleet, higher for members.

    Attributes:
        inside: bool (networks, n).
        loss: (networks, n).
        cross_entropy: (networks, n).
        plain: the signals `NAMES` of the image itself, (networks, n, 4).
        mirrored: their means over the mirror images of the training, (networks, n, 4).
        dice: (networks, n).
    """

    inside: Inside
    loss: Values
    cross_entropy: Values
    plain: Values
    mirrored: Values
    dice: Values


def read_fleet(folder: Path, root: str | None) -> list[TrainedModel]:
    """Return the networks of a fleet, loaded on demand."""
    files = shadow_files(folder)
    cards = [read_run(file, ())[1] for file in files]
    if cards[0].data is None:
        raise SystemExit(f"{files[0]} must name its data, it was exported")
    spec = without_machine(cards[0].data)
    kind = resolve(spec["class_path"])
    if not issubclass(kind, SegmentationData):
        raise SystemExit(f"{files[0]} must name seg_mia's data, got {spec['class_path']}")
    data = kind(**(spec["init_args"] | ({} if root is None else {"root": root})))
    data.prepare_data()
    data.setup()
    modules = DataModules()
    shadows = (Shadow(file, card) for file, card in zip(files, cards, strict=True))
    return [load_shadow(shadow, data, modules, victim={}, trust=()) for shadow in shadows]


def signals_of(networks: list[TrainedModel]) -> Signals:
    """Return the signals of all networks on their common pool."""
    pool, device = pool_of(networks[0]), torch.device("cuda" if torch.cuda.is_available() else "cpu")
    numbers = [ImageLoss(), CrossEntropy(), Confidences(names=NAMES), ImageDice()]
    columns: list[list[Values]] = [[] for _ in range(len(numbers) + 1)]
    for network in networks:
        data = networks[0].data
        plain = signal_values(network, numbers, data, pool, device)
        mirrored = signal_values(network, numbers[2:3], data, pool, device, augment=network.data.augment)
        for column, values in zip(columns, [*plain, *mirrored], strict=True):
            column.append(-values)
    loss, entropy, confidence, dice, turned = (np.stack(column) for column in columns)
    inside = np.stack([seen_by(network)[pool] for network in networks])
    return Signals(inside, loss, entropy, confidence, turned, 1 + dice)


def threshold(target: Values, references: Values, inside: Inside) -> Values:  # noqa: ARG001
    return target


def online_rmia(target: Values, references: Values, inside: Inside) -> Values:
    return rmia(target, references, inside, Population(target, references, inside), offline_a=None)


def attacks(signals: Signals) -> Iterator[tuple[str, Values, FleetAttack]]:
    """Yield name, signals (networks, n) or (networks, n, signals), and attack."""
    yield "loss threshold", signals.loss, threshold
    yield "loss, calibrated", signals.loss, difficulty_calibrated
    level: Callable[[Values], Values] = standardised
    yield "loss, calibrated, standardised", level(signals.loss), difficulty_calibrated
    yield "RMIA online, cross-entropy", signals.cross_entropy, online_rmia
    yield "BASE, cross-entropy", signals.cross_entropy, base
    views = {"": signals.plain, " and mirror images": signals.mirrored}
    for view, values in views.items():
        if view and np.array_equal(values, signals.plain):
            continue
        leveled = level(values)
        yield f"log CE{view}, calibrated", leveled[..., 0], difficulty_calibrated
        yield f"log CE{view}, LiRA offline", leveled[..., 0], lira_offline
        for number, name in enumerate(NAMES):
            yield f"{name}{view}, LiRA", leveled[..., number], lira_online
        yield (
            f"{NAMES[0]}{view}, LiRA, fixed variance",
            leveled[..., 0],
            partial(lira_online, variance="fixed"),
        )
        yield f"{NAMES[0]}{view}, LiRA, levels left in", values[..., 0], lira_online
        for columns in ([0, 1], [0, 1, 3], [0, 1, 2, 3]):
            names = " + ".join(NAMES[column] for column in columns)
            for density in get_args(Density):
                attack = partial(lira_vector, density=density)
                yield f"{names}{view}, LiRA, {density}", leveled[..., columns], attack


def cell(values: Values, inside: Inside, attack: FleetAttack, references: int) -> str:
    """Return mean AUC and TPR at 1 % FPR over targets, in consecutive groups of `references` + 2 networks."""
    size = references + 2
    areas, rates = list[float](), list[float]()
    for start in range(0, len(values) - size + 1, size):
        part = slice(start, start + size)
        try:
            table = attacked(values[part], inside[part], attack)
        except InputError:  # too few references for this attack
            return "-"
        for scores, members in zip(table, inside[part], strict=True):
            areas.append(auc(scores, members))
            rates.append(tpr_at_fpr(scores, members, 0.01))
    return f"{np.mean(areas):.3f}, {np.mean(rates):.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("fleet", type=Path)
    parser.add_argument("--root", help="folder of the data")
    parser.add_argument("--references", type=int, nargs="+", default=[4, 8, 16])
    arguments = parser.parse_args()
    signals = signals_of(read_fleet(arguments.fleet, arguments.root))
    networks = len(signals.inside)
    counts = [count for count in arguments.references if count % 2 == 0 and count + 2 <= networks]
    members, others = (float(signals.dice[side].mean()) for side in (signals.inside, ~signals.inside))
    print(
        f"{networks} networks, {signals.inside.shape[1]} samples: Dice {members:.3f} on members, {others:.3f}"
    )
    print(f"| attack |{''.join(f' {count} references |' for count in counts)}")
    print(f"| --- |{' --- |' * len(counts)}")
    for name, values, attack in attacks(signals):
        cells = [cell(values, signals.inside, attack, count) for count in counts]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
