"""Peak memory of the audit of a recipe beside the size of its signals.

python benchmarks/recipe_memory.py --networks 64 --patients 40000

One signal of K networks on n patients of one sample each is an array of 8 K n bytes. The audit is that of
difficulty calibration, with few resamples, whose number costs time but no memory. It needs Linux, and prints
the highest resident memory before and after in a process of its own.
"""

import argparse
import resource

import numpy as np

from seg_mia.membership.fleet import difficulty_calibrated, recipe_audit


def highest() -> float:
    """Return the highest resident memory of this process in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Measure and print."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--networks", type=int, default=64, help="even")
    parser.add_argument("--patients", type=int, default=40_000)
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    halves = [rng.permutation(given.patients) < given.patients // 2 for _ in range(given.networks // 2)]
    inside = np.stack([row for half in halves for row in (half, ~half)])
    signals = rng.normal(size=inside.shape) + inside
    names = np.char.zfill(np.arange(given.patients).astype(str), 7)
    before = highest()
    recipe_audit(signals, inside, names, difficulty_calibrated, resamples=2, permutations=2)
    size = signals.nbytes / 2**20
    grown = highest() - before
    shape = f"{given.networks} networks, {given.patients} patients: signals {size:.0f} MiB"
    print(f"{shape}; {before:.0f} MiB before, {grown:.0f} MiB more, {grown / size:.1f} times the signals")


if __name__ == "__main__":
    main()
