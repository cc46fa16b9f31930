"""How often the 95 % intervals of membership attacks hold the true value, on simulated scores.

python benchmarks/interval_coverage.py

Scores are normal with variance 1, so that the true values are known; the threshold lies where the true FPR
is 30 %. Patients are groups of five samples that share 60 % of their variance; the difference is that to a
second attack, half as far from chance, correlated with the first.

A second table has the AUC of recipes: fleets of complementary networks, each in turn the target of difficulty
calibration by the others but its complement. A patient has a difficulty for all networks, and an effect of
membership, normal with a deviation equal to its mean; so each patient's decisions are alike. The true AUC is
that of infinitely many patients.
"""

import argparse
import itertools
import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from seg_mia.membership.fleet import attacked, difficulty_calibrated, pooled_auc
from seg_mia.membership.intervals import Interval, intervals, paired_difference

COLUMNS = (
    "a side",
    "true AUC",
    "AUC",
    "by patient",
    "patients ignored",
    "difference",
    "balanced accuracy",
    "by patient",
    "F1",
    "by patient",
)
FLEET_COLUMNS = ("networks", "patients", "mean effect", "true AUC", "by patient", "patients ignored")
PATIENT = 5
SHARED = 0.6
CORRELATION = 0.7
FPR = 0.3
NORMAL = NormalDist()


def shift(area: float) -> float:
    """Return how far apart two normal distributions of variance 1 lie that have this AUC."""
    return math.sqrt(2) * NORMAL.inv_cdf(area)


def simulated(seed: int, side: int, area: float) -> NDArray[np.bool_]:
    """Return whether the interval of each column holds the truth, (8,), on one set of scores."""
    rng = np.random.default_rng(seed)
    members = np.arange(2 * side) < side
    groups = [str(i // PATIENT) for i in range(2 * side)]
    shared, independent, of_sample = (rng.normal(size=2 * side) for _ in range(3))
    of_patient = np.repeat(rng.normal(size=2 * side // PATIENT), PATIENT)
    first = shared + shift(area) * members
    weaker = (area + 0.5) / 2
    second = CORRELATION * shared + math.sqrt(1 - CORRELATION**2) * independent + shift(weaker) * members
    correlated = math.sqrt(SHARED) * of_patient + math.sqrt(1 - SHARED) * of_sample + shift(area) * members
    threshold = NORMAL.inv_cdf(1 - FPR)
    tpr = 1 - NORMAL.cdf(threshold - shift(area))
    balanced, f1 = (tpr + 1 - FPR) / 2, 2 * tpr / (tpr + FPR + 1)

    def measured(scores: NDArray[np.float64], known: list[str] | None) -> dict[str, Interval]:
        return intervals(scores, members, known, threshold=threshold, fprs=())

    alone, by_patient, ignored = (
        measured(first, None),
        measured(correlated, groups),
        measured(correlated, None),
    )
    cases = (
        (alone["auc"], area),
        (by_patient["auc"], area),
        (ignored["auc"], area),
        (paired_difference(first, second, members), area - weaker),
        (alone["balanced_accuracy"], balanced),
        (by_patient["balanced_accuracy"], balanced),
        (alone["f1"], f1),
        (by_patient["f1"], f1),
    )
    return np.array([interval.low <= truth <= interval.high for interval, truth in cases])


def simulated_fleet(seed: int, networks: int, patients: int, effect: float) -> NDArray[np.bool_]:
    """Return whether the interval of a recipe's AUC holds the truth, by patient and with patients ignored."""
    rng = np.random.default_rng(seed)
    halves = [rng.permutation(patients) < patients // 2 for _ in range(networks // 2)]
    inside = np.stack([row for half in halves for row in (half, ~half)])
    effects = rng.normal(effect, effect, patients)
    signals = rng.normal(size=patients) + effects * inside + rng.normal(size=inside.shape)
    scores = attacked(signals, inside, difficulty_calibrated)
    truth = fleet_area(networks, effect)
    results = (pooled_auc(scores, inside), pooled_auc(scores.reshape(1, -1), inside.reshape(1, -1)))
    return np.array([interval.low <= truth <= interval.high for interval in results])


def fleet_area(networks: int, effect: float) -> float:
    """Return the true AUC: a score is a signal less the mean of K / 2 - 1 networks without the patient."""
    noise = 1 + 1 / (networks // 2 - 1)
    return NORMAL.cdf(effect / math.sqrt(2 * noise + effect**2))


def main() -> None:
    """Simulate and print."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--simulations", type=int, default=2000)
    parser.add_argument(
        "--sides", type=int, nargs="+", default=[20, 50, 200], help=f"multiples of {PATIENT}, 10 or more"
    )
    parser.add_argument("--areas", type=float, nargs="+", default=[0.5, 0.75, 0.95])
    parser.add_argument(
        "--networks", type=int, nargs="+", default=[8, 16], help="of a fleet, even, 4 or more"
    )
    parser.add_argument("--patients", type=int, nargs="+", default=[20, 100], help="of a fleet, even")
    parser.add_argument("--effects", type=float, nargs="+", default=[0, 0.5, 2])
    given = parser.parse_args()
    error = math.sqrt(0.95 * 0.05 / given.simulations)
    print(f"{given.simulations} simulations; standard error at 0.95: {error:.3f}")
    print(" | ".join(COLUMNS))
    for side, area in itertools.product(given.sides, given.areas):
        held = [simulated(seed, side, area) for seed in range(given.simulations)]
        row(COLUMNS, [str(side), f"{area:g}"], held)
    print(" | ".join(FLEET_COLUMNS))
    for networks, patients, effect in itertools.product(given.networks, given.patients, given.effects):
        held = [simulated_fleet(seed, networks, patients, effect) for seed in range(given.simulations)]
        truth = fleet_area(networks, effect)
        row(FLEET_COLUMNS, [str(networks), str(patients), f"{effect:g}", f"{truth:.3f}"], held)


def row(columns: Sequence[str], names: list[str], held: list[NDArray[np.bool_]]) -> None:
    """Print a row of a table: its names, and the share of intervals of each kind that held the truth."""
    cells = [*names, *(f"{share:.3f}" for share in np.mean(held, axis=0))]
    print(" | ".join(f"{cell:>{len(head)}}" for cell, head in zip(cells, columns, strict=True)), flush=True)


if __name__ == "__main__":
    main()
