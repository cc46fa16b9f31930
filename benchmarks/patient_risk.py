"""Which score tells best whether a single patient is exposed: power and false alarms on simulated fleets.

python benchmarks/patient_risk.py

Each world is a fleet of pairs of complementary networks and one sample for each patient: three signals with
the patient's difficulty, the network's level and noise that correlates at 0.5. Membership moves the first
signal of an exposed patient by an effect, the second by half of it, the third not at all. Scores of a network
on a patient:

mean of signals     each standardised in its network; all networks are compared
weighed signals     the same, with weights of a discriminant fitted to the other patients
attack, 5 folds     LiRA's log ratio of three signals, fitted to the networks of the other four folds; all
                    networks are compared
attack, in folds    the same; networks of one fold are compared
attack, halves      the same with two folds
"""

import argparse
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from seg_mia.membership.fleet import (
    attacked,
    benjamini_hochberg,
    lira_vector,
    pair_folds,
    patient_auc,
    patient_p_values,
    standardised,
)
from seg_mia.membership.fleet.discriminant import weighed

Values = NDArray[np.float64]
Inside = NDArray[np.bool_]
Folds = NDArray[np.int64]

PATIENTS = 100
SHARES = np.array([1.0, 0.5, 0.0])


class Leak(NamedTuple):
    """Number of exposed patients, and the effect of membership on them in standard deviations."""

    exposed: int
    effect: float


LEAKS = {
    "nothing": Leak(0, 0.0),
    "3 by 4": Leak(3, 4.0),
    "10 by 2": Leak(10, 2.0),
    "10 by 4": Leak(10, 4.0),
    "100 by 1": Leak(100, 1.0),
}
METHODS: dict[str, Callable[[Values, Inside], tuple[Values, Folds | None]]] = {
    "mean of signals": lambda signals, _: (signals.mean(axis=2), None),
    "weighed signals": lambda signals, inside: (weighed(signals, inside), None),
    "attack, 5 folds": lambda signals, inside: (
        attacked(signals, inside, lira_vector, pair_folds(inside, 5)),
        None,
    ),
    "attack, in folds": lambda signals, inside: (
        attacked(signals, inside, lira_vector, pair_folds(inside, 5)),
        pair_folds(inside, 5),
    ),
    "attack, halves": lambda signals, inside: (
        attacked(signals, inside, lira_vector, pair_folds(inside, 2)),
        pair_folds(inside, 2),
    ),
}


def world(rng: np.random.Generator, networks: int, leak: Leak) -> tuple[Values, Inside]:
    """Return standardised signals (networks, patients, 3) and members; the first patients are exposed."""
    halves = [rng.permutation(PATIENTS) < PATIENTS // 2 for _ in range(networks // 2)]
    inside = np.stack([row for half in halves for row in (half, ~half)])
    noise = math.sqrt(0.5) * (rng.normal(size=(*inside.shape, 1)) + rng.normal(size=(*inside.shape, 3)))
    moved = leak.effect * (inside & (np.arange(PATIENTS) < leak.exposed))[..., None] * SHARES
    level = rng.normal(size=(networks, 1, 3)) + rng.normal(0, 2, (PATIENTS, 3))
    return standardised(level + moved + noise), inside


def judged(method: str, networks: int, leak: Leak, worlds: int) -> str:
    """Return mean AUC without and with exposure, small p-values of the former, patients found of either."""
    areas = np.empty((worlds, PATIENTS))
    chances, found = np.empty_like(areas), np.empty(areas.shape, dtype=np.bool_)
    for seed in range(worlds):
        signals, inside = world(np.random.default_rng([seed, networks, *map(int, leak)]), networks, leak)
        scores, folds = METHODS[method](signals, inside)
        areas[seed] = patient_auc(scores, inside, folds)[0]
        chances[seed] = patient_p_values(areas[seed], inside, folds)
        found[seed] = benjamini_hochberg(chances[seed])
    exposed, others = slice(leak.exposed), slice(leak.exposed, None)
    cells = ["-", "-", "-", "-"]
    if leak.exposed < PATIENTS:
        cells[0] = f"{areas[:, others].mean():.3f}"
        cells[1] = f"{(chances[:, others] <= 0.05).mean():.3f}"
    if leak.exposed:
        cells[2], cells[3] = f"{areas[:, exposed].mean():.3f}", f"{found[:, exposed].mean():.2f}"
    false = found[:, others].sum(axis=1) / np.maximum(found.sum(axis=1), 1)
    return " | ".join([*cells, f"{false.mean():.3f}"])


def main() -> None:
    """Simulate and print."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--worlds", type=int, default=100)
    parser.add_argument("--networks", type=int, nargs="+", default=[16, 32, 64])
    given = parser.parse_args()
    print(f"{given.worlds} worlds of {PATIENTS} patients")
    print(
        "| networks | exposed | score | AUC of others | p <= 0.05 of them | AUC of exposed | found | false |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for networks in given.networks:
        for name, leak in LEAKS.items():
            for method in METHODS:
                print(
                    f"| {networks} | {name} | {method} | {judged(method, networks, leak, given.worlds)} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
