"""How near attacks by reference networks come to the best attack, in a Gaussian world.

python benchmarks/fleet_toy.py

A signal is the sample's difficulty, plus an effect where the network was trained on it, plus noise whose
deviation differs from sample to sample; networks also differ in level. The best attack knows both normal
densities of each sample. Networks come in complementary pairs, each in turn the target of the other pairs.
"""

import argparse
from collections.abc import Iterator
from functools import partial

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
from seg_mia.membership.fleet.recipe import FleetAttack

Values = NDArray[np.float64]

EFFECT = 1.5
"""Of membership, in deviations of a sample's noise."""


def threshold(target: Values, references: Values, inside: NDArray[np.bool_]) -> Values:  # noqa: ARG001
    return target


ATTACKS: dict[str, FleetAttack] = {
    "threshold": threshold,
    "calibrated": difficulty_calibrated,
    "BASE": base,
    "LiRA offline": lira_offline,
    "LiRA per sample": partial(lira_online, variance="per_sample"),
    "LiRA fixed": partial(lira_online, variance="fixed"),
    "LiRA Bayesian": lira_online,
}


def world(rng: np.random.Generator, networks: int, samples: int) -> tuple[Values, NDArray[np.bool_], Values]:
    """Return signals, members, and the scores of the best attack, each (networks, samples)."""
    pairs = [rng.permuted(np.arange(samples) < samples // 2) for _ in range(networks // 2)]
    inside = np.stack([row for pair in pairs for row in (pair, ~pair)])
    spread = np.sqrt(1 / rng.gamma(3.0, 0.5, samples))
    noise = rng.normal(size=inside.shape)
    easy = rng.normal(0, 3, samples)
    level = rng.normal(0, 2, (networks, 1))
    signals = easy + level + spread * (EFFECT * inside + noise)
    return signals, inside, EFFECT * inside + noise


def rows(rng: np.random.Generator, networks: int, samples: int) -> Iterator[tuple[str, float, float]]:
    """Yield each attack's name, AUC and TPR at 1 % FPR, means over targets."""
    signals, inside, best = world(rng, networks, samples)
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
    print(f"best attack in closed form: AUC {known[0]:.3f}, TPR at 1 % FPR {known[1]:.3f}")
    print("| references | attack | AUC | TPR at 1 % FPR |\n| --- | --- | --- | --- |")
    for networks in arguments.networks:
        for name, area, tpr in rows(np.random.default_rng(networks), networks, arguments.samples):
            print(f"| {networks - 2} | {name} | {area:.3f} | {tpr:.3f} |")


if __name__ == "__main__":
    main()
