"""Gaussian worlds: signals of a fleet whose best attack is known."""

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Inside = NDArray[np.bool_]


def members_of(generator: np.random.Generator, networks: int, samples: int) -> Inside:
    """Return members of pairs of complementary networks, each half of the samples."""
    pairs = [generator.permuted(np.arange(samples) < samples // 2) for _ in range(networks // 2)]
    return np.stack([row for pair in pairs for row in (pair, ~pair)])


def coins(generator: np.random.Generator, networks: int, samples: int) -> Inside:
    """Return members by independent fair coins."""
    return generator.random((networks, samples)) < 0.5


def signals_of(
    generator: np.random.Generator,
    inside: Inside,
    *,
    effect: float = 1.0,
    difficulty: float = 2.0,
    noise: float = 1.0,
    level: float = 0.0,
) -> Values:
    """Return signals: a sample's difficulty, the network's level, the effect of membership, and noise."""
    networks, samples = inside.shape
    easy = generator.normal(0, difficulty, samples)
    levels = generator.normal(0, 1, (networks, 1)) * level
    return easy + levels + effect * inside + generator.normal(0, 1, inside.shape) * noise
