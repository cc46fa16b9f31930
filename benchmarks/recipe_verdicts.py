"""How often the verdict on a recipe claims a leak where there is none, and where there is one.

python benchmarks/recipe_verdicts.py

Each world is a fleet of pairs of complementary networks and one sample for each patient: a signal with the
patient's difficulty, the network's level and unit noise, attacked by LiRA online and by difficulty
calibration. First nothing leaks; then all patients do, by half a standard deviation; then three alone, by
four.
"""

import argparse
import math

import numpy as np
from numpy.typing import NDArray

from seg_mia.membership.fleet import difficulty_calibrated, lira_online, recipe_audit
from seg_mia.report.rules.recipe_verdict import LEVEL, adjusted
from seg_mia.results.recipe import recipe_result

SHAPES = ((8, 60), (16, 60), (32, 60), (16, 200))
"""Networks, patients."""
LEAKS = {"nothing": (0, 0.0), "all by 0.5": (None, 0.5), "three by 4": (3, 4.0)}
"""Number of patients that leak, and the effect of membership on them."""


def world(
    rng: np.random.Generator, shape: tuple[int, int], exposed: int | None, effect: float
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return signals and members, (networks, patients)."""
    networks, patients = shape
    halves = [rng.permutation(patients) < patients // 2 for _ in range(networks // 2)]
    inside = np.stack([row for half in halves for row in (half, ~half)])
    leaking = effect * (np.arange(patients) < (patients if exposed is None else exposed))
    level = rng.normal(size=(networks, 1)) + rng.normal(0, 2, patients)
    return level + inside * leaking + rng.normal(size=inside.shape), inside


def claimed(shape: tuple[int, int], exposed: int | None, effect: float, worlds: int) -> float:
    """Return the share of worlds in which a leak of the recipe is claimed."""
    names = [f"p{number}" for number in range(shape[1])]
    ids = [f"hash of {name}" for name in names]
    claims = 0
    for seed in range(worlds):
        signals, inside = world(np.random.default_rng([seed, *shape]), shape, exposed, effect)
        results = [
            recipe_result(
                recipe_audit(signals, inside, names, attack, resamples=2, permutations=2),
                name="attack",
                sampling="online",
                attacker_knowledge="signals",
                ids=ids,
            )
            for attack in (lira_online, difficulty_calibrated)
        ]
        claims += any(adjusted(result, len(results)) <= LEVEL for result in results)
    return claims / worlds


def main() -> None:
    """Simulate and print."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--worlds", type=int, default=400)
    given = parser.parse_args()
    print(f"{given.worlds} worlds; standard error at 0.05: {math.sqrt(0.05 * 0.95 / given.worlds):.3f}")
    print("networks, patients | " + " | ".join(LEAKS))
    for shape in SHAPES:
        shares = [claimed(shape, *leak, given.worlds) for leak in LEAKS.values()]
        print(f"{shape[0]}, {shape[1]} | " + " | ".join(f"{share:.3f}" for share in shares), flush=True)


if __name__ == "__main__":
    main()
