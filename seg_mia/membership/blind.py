"""A baseline without the victim: membership predicted from statistics of image and mask."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from seg_mia.errors import InputError
from seg_mia.membership.arrays import Members, Values

FOLDS = 5
REPEATS = 10


def blind_scores(
    features: Values,
    members: Members,
    groups: Sequence[str] | NDArray[np.str_],
    *,
    ridge: float = 1.0,
    folds: int = FOLDS,
    repeats: int = REPEATS,
    seed: int = 0,
) -> Values:
    """Return out-of-fold scores of a ridge regression of membership on features, (n,), higher for members.

    Whole groups are held out, members and non-members in proportion, and scores are averaged over several
    draws of the folds. Features are scaled to variance 1 on each fold's training part; both sides have equal
    weight. For a fair split the AUC is 0.5 or, as in any cross-validation, slightly below. After the blind
    baselines of Das, Zhang, Tramèr 2024 (arXiv 2406.16201).

    Args:
        features: statistics of each sample, (n, features), such as
            `seg_mia.membership.features.sample_statistics`.
        members: bool (n,).
        groups: patient of each sample, (n,); a group has one membership.
        ridge: penalty on the squared weights, above 0.
        folds: parts of the groups, each held out once; at most the groups of the smaller side.
        repeats: number of draws of the folds.
        seed: seed of the draws.

    Raises:
        InputError: incompatible shapes, features that are not finite, fewer than two groups on a side.
    """
    names = np.asarray(groups, dtype=np.str_)
    if features.ndim != 2 or members.shape != (len(features),) or names.shape != members.shape:
        raise InputError(
            f"features must be (n, features), members and groups (n,), got {features.shape}, {members.shape} "
            f"and {names.shape}; give one row for each sample"
        )
    if not np.isfinite(features).all() or not ridge > 0:
        raise InputError("features must be finite and ridge above 0; leave samples without statistics out")
    sides = [np.unique(names[members == side]) for side in (True, False)]
    count = min(folds, *map(len, sides))
    if count < 2:
        raise InputError(
            f"a baseline needs 2 groups of members and of non-members, got {len(sides[0])} and "
            f"{len(sides[1])}; add samples"
        )
    rng = np.random.default_rng(seed)
    total = np.zeros(len(features))
    for _ in range(repeats):
        fold = {
            name: number % count
            for side in sides
            for number, name in enumerate(rng.permutation(side).tolist())
        }
        numbers = np.array([fold[name] for name in names.tolist()])
        for number in range(count):
            held = numbers == number
            total[held] += _predicted(features[~held], members[~held], features[held], ridge)
    return np.asarray(total / repeats, dtype=np.float64)


def _predicted(known: Values, members: Members, asked: Values, ridge: float) -> Values:
    """Return predictions of a weighted ridge regression of +1 for members and -1 for others."""
    mean, std = known.mean(axis=0), known.std(axis=0)
    varying = std > 1e-9 * (1 + np.abs(mean))
    scaled, scaled_asked = ((part[:, varying] - mean[varying]) / std[varying] for part in (known, asked))
    weight = np.where(members, 0.5 / members.sum(), 0.5 / (~members).sum())
    target = np.where(members, 1.0, -1.0)
    centre = weight @ scaled
    centred = scaled - centre
    penalty = ridge / len(known) * np.eye(centred.shape[1])
    slopes = np.linalg.solve((centred * weight[:, None]).T @ centred + penalty, centred.T @ (weight * target))
    return np.asarray((scaled_asked - centre) @ slopes, dtype=np.float64)
