"""Attacks on the networks of a fleet, by signal and number of references.

python benchmarks/fleet_attacks.py FLEET [--root FOLDER] [--references 4 8 16]

FLEET is a folder of `seg_mia fleet`. Each network is the target in turn; its complement is left out, and a
number of references is that of the others in groups of complementary pairs. Each cell is the mean AUC and
the mean TPR at 1 % FPR over all targets. Signals of parts of an image are attacked on the samples on which
all networks define them. The three of highest AUC on every other patient are attacked together with those of
`mia-lira` on the remaining ones. Where patients have several samples, a second table has the attacks on
patients: means of a patient's samples, and the largest image logit.
"""

import argparse
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seg_mia.checkpoint import without_machine
from seg_mia.config.spec import resolve
from seg_mia.data.base import SegmentationData
from seg_mia.data.predictions import finite_logits
from seg_mia.data.signal_values import signal_values
from seg_mia.data.trained_model import TrainedModel
from seg_mia.errors import InputError
from seg_mia.experiment.answers import pool_of, seen_by
from seg_mia.experiment.modules import DataModules
from seg_mia.experiment.plan import Shadow
from seg_mia.experiment.trained_networks import load_shadow
from seg_mia.membership import auc, tpr_at_fpr
from seg_mia.membership.fleet import (
    agreements,
    attacked,
    base,
    dense_lira,
    difficulty_calibrated,
    lira_offline,
    lira_online,
    lira_vector,
    margins,
    patient_signals,
    pooled_cells,
    regions,
    rmia,
    standardised,
)
from seg_mia.membership.fleet.agreement import AGREEMENTS
from seg_mia.membership.fleet.arrays import informative
from seg_mia.membership.fleet.confidences import NAMES, Confidences, CrossEntropy
from seg_mia.membership.fleet.ratios import Population
from seg_mia.membership.fleet.regions import REGIONS
from seg_mia.membership.fleet.scoring import FleetAttack
from seg_mia.membership.fleet.vectors import Density
from seg_mia.membership.signals import ImageDice, ImageLoss
from seg_mia.metrics.labels import IGNORE
from seg_mia.runs import read_run, shadow_files

Values = NDArray[np.float64]
Inside = NDArray[np.bool_]
CELLS = 8
FEW = 3
"""Signals of parts that are attacked together with those of `mia-lira`."""
LEAST_SAMPLES = 40
"""Samples on which a signal is defined under all networks, to be attacked by it."""


class Signals(NamedTuple):
    """Signals of a fleet, higher for members.

    Attributes:
        inside: bool (networks, n).
        loss: (networks, n).
        cross_entropy: (networks, n).
        plain: the signals `NAMES` of the image itself, (networks, n, 4).
        mirrored: their means over the mirror images of the training, (networks, n, 4).
        dice: (networks, n).
        cells: mean margins of 8 x 8 cells, (networks, n, 64).
        parts: the signals `REGIONS` and `AGREEMENTS`, NaN where undefined, (networks, n, 12).
        patients: patient of each sample, (n,).
    """

    inside: Inside
    loss: Values
    cross_entropy: Values
    plain: Values
    mirrored: Values
    dice: Values
    cells: Values
    parts: Values
    patients: NDArray[np.str_]


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
    parts = [parts_of(network, networks[0].data, pool, device) for network in networks]
    cells, regional = (np.stack(column) for column in zip(*parts, strict=True))
    patients = np.array(networks[0].data.source.groups)[pool]
    return Signals(inside, loss, entropy, confidence, turned, 1 + dice, cells, regional, patients)


@torch.no_grad()
def parts_of(
    network: TrainedModel, data: SegmentationData, pool: NDArray[np.int64], device: torch.device
) -> tuple[Values, Values]:
    """Return a network's margins of cells, (n, cells), and its `REGIONS` and `AGREEMENTS`, (n, 12)."""
    asked, samples = network.network.to(device).eval(), data.dataset(pool)
    columns: list[list[Values]] = [[], []]
    for start in range(0, len(pool), data.query_batch):
        drawn = [samples[0, row] for row in range(start, min(start + data.query_batch, len(pool)))]
        image, mask = (torch.stack([getattr(sample, part) for sample in drawn]) for part in ("image", "mask"))
        query = partial(answer, asked, device, data.source.ids[int(pool[start])])
        logits = query(image)
        columns[0].append(pooled_cells(*margins(logits, mask), cells=min(CELLS, *mask.shape[1:])))
        agreed = agreements(query, image, mask != IGNORE)
        columns[1].append(np.concatenate([regions(logits, mask), agreed], axis=1))
    cells, regional = (np.concatenate(column) for column in columns)
    return cells, regional


def answer(network: torch.nn.Module, device: torch.device, name: str, image: Tensor) -> Tensor:
    """Return a network's logits for images, checked, on the CPU."""
    return finite_logits(network, image.to(device), name).cpu()


def leveled(values: Values) -> Values:
    """Return standardised signals, NaN for samples that are undefined under some network."""
    known = defined(values)
    result = np.full(values.shape, np.nan)
    result[:, known] = standardised(values[:, known])
    return result


def defined(values: Values) -> Inside:
    """Return the samples whose signals are defined under all networks, bool (n,)."""
    axes = tuple(axis for axis in range(values.ndim) if axis != 1)
    return np.asarray(np.isfinite(values).all(axis=axes), dtype=np.bool_)


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
    yield from parts(signals)
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


def parts(signals: Signals) -> Iterator[tuple[str, Values, FleetAttack]]:
    """Yield the attacks on maps of cells, on parts of the image, and on labels alone."""
    cells = leveled(signals.cells[:, :, informative(signals.cells)])
    yield f"dense LiRA, {cells.shape[2]} cells", cells, dense_lira
    yield f"{cells.shape[2]} cells, LiRA, separate", cells, lira_vector
    rows = dict(zip((*REGIONS, *AGREEMENTS), np.moveaxis(signals.parts, 2, 0), strict=True))
    yield from single(rows)
    yield from best_few(rows, signals)


def single(rows: Mapping[str, Values]) -> Iterator[tuple[str, Values, FleetAttack]]:
    """Yield the attacks on each of some signals (networks, n) alone."""
    for name, values in rows.items():
        known = int(defined(values).sum())
        part = "" if known == values.shape[1] else f" ({known} of {values.shape[1]})"
        if known < LEAST_SAMPLES:
            continue
        level = level_or_none(values)
        if level is None:
            yield f"{name}{part}, threshold", values, threshold
            continue
        yield f"{name}{part}, threshold", level, threshold
        yield f"{name}{part}, LiRA", level, lira_online


def best_few(rows: Mapping[str, Values], signals: Signals) -> Iterator[tuple[str, Values, FleetAttack]]:
    """Yield `mia-lira`'s signals alone and with the best of others, on patients that did not choose them."""
    choosing = np.unique(signals.patients, return_inverse=True)[1] % 2 == 0
    areas = dict[str, float]()
    for name, values in rows.items():
        level = level_or_none(np.where(choosing, values, np.nan))
        if level is None or defined(level).sum() < LEAST_SAMPLES:
            continue
        known = defined(level)
        inside = signals.inside[:, known]
        scores = attacked(level[:, known], inside, lira_online)
        areas[name] = float(np.mean([auc(row, members) for row, members in zip(scores, inside, strict=True)]))
    chosen = sorted(areas, key=lambda name: -areas[name])[:FEW]
    columns = [signals.plain[..., [0, 1, 3]], *(rows[name][..., None] for name in chosen)]
    values = np.where(choosing[:, None], np.nan, np.concatenate(columns, axis=2))
    if not chosen or defined(values).sum() < LEAST_SAMPLES:
        return
    level = leveled(np.where(defined(values)[:, None], values, np.nan))
    yield f"mia-lira, on {int(defined(level).sum())} remaining", level[..., :3], lira_vector
    yield f"mia-lira + {' + '.join(chosen)}, on the same", level, lira_vector


def level_or_none(values: Values) -> Values | None:
    """Return `leveled`; None if half of the samples have one value, such as the Dice of right labels."""
    try:
        return leveled(values)
    except InputError:
        return None


def of_patients(signals: Signals) -> Iterator[tuple[str, Values, FleetAttack]]:
    """Yield attacks on patients: signals (networks, patients, ...), means over samples, or the largest."""
    everything = np.concatenate([signals.parts, signals.plain], axis=2)
    values, _, _ = patient_signals(everything, signals.inside, signals.patients, largest=[0])
    names = (*REGIONS, *AGREEMENTS, *NAMES, "largest image_logit")
    rows = dict(zip(names, np.moveaxis(values, 2, 0), strict=True))
    yield from single(rows)
    vector = [rows[name] for name in ("log_cross_entropy", "logit_dice", "log_entropy")]
    for name, columns in (
        ("mia-lira's signals", vector),
        ("mia-lira's + largest image_logit", [*vector, rows["largest image_logit"]]),
    ):
        yield f"{name}, LiRA", leveled(np.stack(columns, axis=2)), lira_vector


def cell(values: Values, inside: Inside, attack: FleetAttack, references: int) -> str:
    """Return mean AUC and TPR at 1 % FPR over targets, in consecutive groups of `references` + 2 networks."""
    size, known = references + 2, defined(values)
    values, inside = values[:, known], inside[:, known]
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
    show(attacks(signals), signals.inside, counts)
    if len(set(signals.patients)) < len(signals.patients):
        by_patient = patient_signals(signals.plain, signals.inside, signals.patients)[1]
        print(f"\nby patient, {by_patient.shape[1]}:")
        show(of_patients(signals), by_patient, counts)


def show(rows: Iterable[tuple[str, Values, FleetAttack]], inside: Inside, counts: list[int]) -> None:
    """Print a table of attacks over numbers of references."""
    print(f"| attack |{''.join(f' {count} references |' for count in counts)}")
    print(f"| --- |{' --- |' * len(counts)}")
    for name, values, attack in rows:
        cells = [cell(values, inside, attack, count) for count in counts]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
