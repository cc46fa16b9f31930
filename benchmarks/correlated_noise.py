"""What correlated noise would change in a private training that uses all units in each step.

python benchmarks/correlated_noise.py --steps 60

A step's noise is a row of C^-1 Z, for a lower triangular C with ones on its diagonal and independent rows of
Z. As each unit is in every step, the noise grows with the norm of C times the vector of ones (entries of C of
0 or more; Choquette-Choo et al. 2022, arXiv:2211.06530). Compared is the noise of the weights, which are sums
of all gradients so far with SGD's momentum: for square-root factors (Fichtenberger, Henzinger, Upadhyay 2022,
arXiv:2202.11205), their bands, and banded inverses (BISR, Kalinin et al. 2025), over that of independent
noise at the same privacy, of the last weights and in the root mean square over all steps. The last line is
what the sums themselves would need, each released alone: additive Gaussian noise cannot be less.
"""

import argparse
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import inv, toeplitz

Matrix = NDArray[np.float64]
BANDS = (2, 4, 8, 16)


def lower(column: NDArray[np.float64]) -> Matrix:
    """Return the lower triangular Toeplitz matrix with a first column."""
    return np.tril(toeplitz(column))


def cut(column: NDArray[np.float64], band: int) -> Matrix:
    """Return the matrix of the first entries of a column."""
    return lower(np.where(np.arange(len(column)) < band, column, 0.0))


def factors(steps: int, momentum: float) -> Iterator[tuple[str, Matrix]]:
    """Yield names and matrices C."""
    root = np.ones(steps)
    for k in range(1, steps):
        root[k] = root[k - 1] * (2 * k - 1) / (2 * k)
    root = np.convolve(root, root * momentum ** np.arange(steps))[:steps] if momentum else root
    yield "independent", np.eye(steps)
    yield "square root", lower(root)
    inverse = inv(lower(root))[:, 0]
    for band in BANDS:
        yield f"square root, {band} bands", cut(root, band)
        yield f"inverse of {band} bands", inv(cut(inverse, band))


def noise(workload: Matrix, c: Matrix) -> NDArray[np.float64]:
    """Return the standard deviation of the weights after each step, at noise 1 for one unit in one step."""
    assert (c > -1e-9).all(), "the sensitivity is that of the vector of ones only for entries of 0 or more"
    return np.asarray(np.linalg.norm(workload @ np.linalg.inv(c), axis=1) * np.linalg.norm(c.sum(axis=1)))


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=60)
    given = parser.parse_args()
    print("| momentum | noise | last weights | all steps |\n| --- | --- | --- | --- |")
    for momentum in (0.0, 0.9):
        workload = lower(np.cumsum(momentum ** np.arange(given.steps)))
        plain = noise(workload, np.eye(given.steps))
        rows = [(name, noise(workload, c)) for name, c in factors(given.steps, momentum)]
        for name, values in [*rows, ("the least possible", workload.sum(axis=1))]:
            share = np.sqrt((values**2).mean() / (plain**2).mean())
            print(f"| {momentum:g} | {name} | {values[-1] / plain[-1]:.3f} | {share:.3f} |")


if __name__ == "__main__":
    main()
