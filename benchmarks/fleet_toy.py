"""How near attacks by reference networks come to the best attack, in Gaussian worlds.

python benchmarks/fleet_toy.py

A signal is the sample's difficulty, plus an effect where the network was trained on it, plus noise whose
deviation differs from sample to sample; networks also differ in level. The best attack knows both normal
densities of each sample. Networks come in complementary pairs, each in turn the target of the other pairs.

Worlds: `one`, an effect of 1.5 deviations for every sample; `varying`, effects that are exponential with this
mean; `heavy`, an effect of 1.5 for every sample and variances without a mean of their squares; `difficult`,
effects that grow with the difficulty.
"""

import argparse
from collections.abc import Iterator
from functools import partial
from typing import Literal, assert_never, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from seg_mia.membership import auc, tpr_at_fpr
from seg_mia.membership.fleet import (
    attacked,
    base,
    difficulty_calibrated,
    lira_offline,
    lira_online,
    standardised,
)
from seg_mia.membership.fleet.posterior import fitted_prior, predictive
from seg_mia.membership.fleet.scoring import FleetAttack

Values = NDArray[np.float64]
World = Literal["one", "varying", "heavy", "difficult"]

EFFECT = 1.5
"""Of membership, in deviations of a sample's noise."""


def threshold(target: Values, references: Values, inside: NDArray[np.bool_]) -> Values:  # noqa: ARG001
    return target


def sides_apart(target: Values, references: Values, inside: NDArray[np.bool_]) -> Values:
    """Return the ratio of two Bayesian densities, each fitted to its own side."""
    sides = (predictive(references, side, fitted_prior(references, side)) for side in (inside, ~inside))
    within, outside = (density.logpdf(target) for density in sides)
    return within - outside


ATTACKS: dict[str, FleetAttack] = {
    "threshold": threshold,
    "calibrated": difficulty_calibrated,
    "BASE": base,
    "LiRA offline": lira_offline,
    "LiRA per sample": partial(lira_online, variance="per_sample"),
    "LiRA fixed": partial(lira_online, variance="fixed"),
    "LiRA Bayesian, sides apart": sides_apart,
    "LiRA Bayesian": lira_online,
}


def world(
    rng: np.random.Generator, networks: int, samples: int, kind: World
) -> tuple[Values, NDArray[np.bool_], Values]:
    """Return signals, members, and the scores of the best attack, each (networks, samples)."""
    pairs = [rng.permuted(np.arange(samples) < samples // 2) for _ in range(networks // 2)]
    inside = np.stack([row for pair in pairs for row in (pair, ~pair)])
    shape, rate = (1.5, 2.0) if kind == "heavy" else (3.0, 0.5)
    spread = np.sqrt(1 / rng.gamma(shape, rate, samples))
    noise = spread * rng.normal(size=inside.shape)
    easy = rng.normal(0, 3, samples)
    level = rng.normal(0, 2, (networks, 1))
    match kind:
        case "one":
            effect = EFFECT * spread
        case "varying":
            effect = rng.exponential(EFFECT, samples) * spread
        case "heavy":
            effect = np.full(samples, EFFECT)
        case "difficult":
            effect = np.exp(rng.normal(0, 0.3, samples) - 0.3 * easy)
        case _:
            assert_never(kind)
    best = effect * (effect * inside + noise - effect / 2) / spread**2
    return easy + level + effect * inside + noise, inside, best


def rows(
    rng: np.random.Generator, networks: int, samples: int, kind: World
) -> Iterator[tuple[str, float, float]]:
    """Yield each attack's name, AUC and TPR at 1 % FPR, means over targets."""
    signals, inside, best = world(rng, networks, samples, kind)
    levels = standardised(signals)
    tables = {"LiRA fixed, levels left in": attacked(signals, inside, ATTACKS["LiRA fixed"])}
    scores = {name: attacked(levels, inside, attack) for name, attack in ATTACKS.items()}
    for name, table in {**tables, **scores, "best": best}.items():
        targets = list(zip(table, inside, strict=True))
        yield (
            name,
            float(np.mean([auc(*target) for target in targets])),
            float(np.mean([tpr_at_fpr(*target, 0.01) for target in targets])),
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--networks", type=int, nargs="+", default=[6, 10, 18, 34], help="even numbers, 6 or more"
    )
    parser.add_argument("--samples", type=int, default=2000)
    arguments = parser.parse_args()
    if min(arguments.networks) < 6 or any(number % 2 for number in arguments.networks):
        parser.error(f"networks must be even and 6 or more, got {arguments.networks}; try 10")
    known = stats.norm.cdf(EFFECT / np.sqrt(2)), stats.norm.cdf(EFFECT + stats.norm.ppf(0.01))
    print(f"one: best attack in closed form: AUC {known[0]:.3f}, TPR at 1 % FPR {known[1]:.3f}")
    print(f"| world | attack |{''.join(f' {networks - 2} |' for networks in arguments.networks)}")
    print(f"| --- | --- |{' --- |' * len(arguments.networks)}")
    for kind in get_args(World):
        cells = dict[str, list[str]]()
        for networks in arguments.networks:
            for name, area, tpr in rows(np.random.default_rng(networks), networks, arguments.samples, kind):
                cells.setdefault(name, []).append(f"{area:.3f}, {tpr:.3f}")
        for name, row in cells.items():
            print(f"| {kind} | {name} | {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
