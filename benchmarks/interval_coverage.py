"""How often the 95 % intervals of membership attacks hold the true value, on simulated scores.

python benchmarks/interval_coverage.py

Scores are normal with variance 1, so that the true values are known; the threshold lies where the true FPR
is 30 %. Patients are groups of five samples that share 60 % of their variance; the difference is that to a
second attack, half as far from chance, correlated with the first.
"""

import argparse
import math
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

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


def main() -> None:
    """Simulate and print."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--simulations", type=int, default=2000)
    parser.add_argument(
        "--sides", type=int, nargs="+", default=[20, 50, 200], help=f"multiples of {PATIENT}, 10 or more"
    )
    parser.add_argument("--areas", type=float, nargs="+", default=[0.5, 0.75, 0.95])
    given = parser.parse_args()
    error = math.sqrt(0.95 * 0.05 / given.simulations)
    print(f"{given.simulations} simulations; standard error at 0.95: {error:.3f}")
    print(" | ".join(COLUMNS))
    for side in given.sides:
        for area in given.areas:
            held = [simulated(seed, side, area) for seed in range(given.simulations)]
            cells = [str(side), f"{area:g}", *(f"{share:.3f}" for share in np.mean(held, axis=0))]
            print(
                " | ".join(f"{cell:>{len(head)}}" for cell, head in zip(cells, COLUMNS, strict=True)),
                flush=True,
            )


if __name__ == "__main__":
    main()
