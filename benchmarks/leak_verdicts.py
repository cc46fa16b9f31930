"""How often an audit claims a leak where there is none, and where there is one, on simulated scores.

python benchmarks/leak_verdicts.py

Each world is an audit of one victim: as many membership attacks as are shipped, with independent normal
scores, over one or several training seeds. Patients share 60 % of the variance of their samples. First
nothing leaks; then one of the attacks has the AUC of the column's head over single images, for every seed.
"""

import argparse
import math
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from seg_mia.membership.compare import Scored
from seg_mia.membership.leakage import leak_test

SHAPES = (
    (64, 64, 1, 1),
    (100, 100, 1, 1),
    (300, 200, 1, 1),
    (150, 100, 1, 1),
    (150, 100, 5, 1),
    (200, 150, 1, 3),
    (150, 100, 5, 3),
)
"""Members, non-members, samples per patient, seeds."""
ATTACKS = 5
SHARED = 0.6


def world(rng: np.random.Generator, shape: tuple[int, int, int, int], area: float) -> list[Scored]:
    """Return the scores of all attacks on all seeds; the first attack's have the given AUC."""
    member_count, nonmember_count, per_patient, seeds = shape
    members = np.arange(member_count + nonmember_count) < member_count
    names = np.char.mod("p%05d", np.arange(len(members)) // per_patient)
    ids = np.char.mod("i%05d", np.arange(len(members)))
    shift = math.sqrt(2) * NormalDist().inv_cdf(area)
    attacks = []
    for number in range(ATTACKS * seeds):
        scores = _scores(rng, len(members), per_patient) + shift * members * (number % ATTACKS == 0)
        attacks.append(Scored(ids, names, members, scores))
    return attacks


def _scores(rng: np.random.Generator, count: int, per_patient: int) -> NDArray[np.float64]:
    of_sample = rng.normal(size=count)
    if per_patient == 1:
        return of_sample
    of_patient = np.repeat(rng.normal(size=-(-count // per_patient)), per_patient)[:count]
    return math.sqrt(SHARED) * of_patient + math.sqrt(1 - SHARED) * of_sample


def claimed(shape: tuple[int, int, int, int], area: float, worlds: int, permutations: int) -> float:
    """Return the share of worlds in which a leak is claimed."""
    claims = 0
    for seed in range(worlds):
        attacks = world(np.random.default_rng([seed, *shape]), shape, area)
        test = leak_test(attacks, permutations=permutations, seed=seed)
        claims += min(tested.adjusted for tested in test.tested) <= 1 - test.confidence
    return claims / worlds


def main() -> None:
    """Simulate and print."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--worlds", type=int, default=1000)
    parser.add_argument("--permutations", type=int, default=1999)
    parser.add_argument("--areas", type=float, nargs="+", default=[0.5, 0.6, 0.7])
    given = parser.parse_args()
    error = math.sqrt(0.05 * 0.95 / given.worlds)
    print(f"{given.worlds} worlds of {given.permutations} permutations; standard error at 0.05: {error:.3f}")
    print("members, others, per patient, seeds | " + " | ".join(f"AUC {area:g}" for area in given.areas))
    for shape in SHAPES:
        shares = [claimed(shape, area, given.worlds, given.permutations) for area in given.areas]
        print(f"{', '.join(map(str, shape))} | " + " | ".join(f"{share:.3f}" for share in shares), flush=True)


if __name__ == "__main__":
    main()
