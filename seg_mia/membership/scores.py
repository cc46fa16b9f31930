"""Membership scores from numbers: the victim's losses, compared with those of shadows.

Lower numbers, and higher scores, indicate members.
"""

from dataclasses import dataclass, field
from typing import Any, Literal, assert_never

import numpy as np
from numpy.typing import NDArray

from seg_mia.errors import InputError
from seg_mia.membership.answers import check_matrix
from seg_mia.membership.arrays import Members, Values
from seg_mia.membership.fleet.quantile import QuantileScores
from seg_mia.membership.fleet.victim import Thresholds, in_turn, turn_threshold
from seg_mia.membership.roc import best_threshold, check_scores

Rule = Literal["shadow_mean", "shadow_roc"]
Numbers = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Guesses:
    """Scores of the victim's samples, and the decision threshold.

    Attributes:
        scores: float64 (n,), higher for members.
        threshold: lowest score called a member; NaN where no shadow decides it.
        seeds: scores and threshold of each seed, if several were trained.
        last: scores after each of the last epochs of the first seed, if requested.
        regression: fit to known non-members, if the attack is one.
        thresholds: further decisions, by thresholds of the attacker's networks.
        resolution: lowest false positive rate that the values of the scores resolve.
    """

    scores: Values
    threshold: float
    seeds: list[tuple[Values, float]] = field(default_factory=list)
    last: list[Values] = field(default_factory=list)
    regression: QuantileScores | None = None
    thresholds: Thresholds | None = None
    resolution: float = 0.0


def loss_threshold(
    victim: Numbers, shadow: Numbers, shadow_members: Members, *, rule: Rule = "shadow_mean"
) -> Guesses:
    """Return negative losses as scores, and a threshold from one shadow.

    Yeom et al. 2018 (CSF); for masks Chobola, Usynin and Kaissis 2022, in evaluation mode and per image.

    Args:
        victim: losses of the victim's samples, (n,).
        shadow: losses of the shadow's own members and non-members under the shadow, (m,).
        shadow_members: members among these, bool (m,).
        rule: `shadow_mean`, at most the shadow's mean loss over its members; `shadow_roc`, at the shadow's
            highest balanced accuracy.

    Raises:
        InputError: losses that are not finite, fewer than two members or non-members in the shadow.
    """
    return Guesses(-victim.astype(np.float64), shadow_threshold(shadow, shadow_members, rule=rule))


def shadow_threshold(shadow: Numbers, members: Members, *, rule: Rule = "shadow_mean") -> float:
    """Return the threshold of `loss_threshold`, from one shadow's losses (m,) and its members, bool (m,)."""
    known = -shadow.astype(np.float64)
    check_scores(known, members)
    match rule:
        case "shadow_mean":
            return float(known[members].mean())
        case "shadow_roc":
            return best_threshold(known, members)
        case _:
            assert_never(rule)


def calibrated(victim: Numbers, shadows: Numbers, seen: Members) -> Values:
    """Return the mean loss under shadows not trained on a sample, minus the victim's loss, (n,).

    Difficulty calibration (Watson, Guo, Cormode and Sablayrolles, ICLR 2022, equation 4): a sample that is
    easy for all networks is not classified as a member.

    Args:
        victim: losses of the victim's samples, (n,).
        shadows: losses of the same samples under each shadow, (shadows, n).
        seen: training sets of the shadows, bool (shadows, n).

    Raises:
        InputError: shapes that differ, numbers that are not finite, a sample that every shadow was trained
            on.
    """
    check_matrix(shadows, seen)
    if victim.shape != shadows.shape[1:]:
        raise InputError(
            f"victim must be (n,) and shadows (shadows, n), got {victim.shape} and {shadows.shape}; give the "
            "losses of the same samples"
        )
    unseen_count = (~seen).sum(axis=0)
    if not unseen_count.all():
        raise InputError(
            f"each sample needs a shadow trained without it, {int((unseen_count == 0).sum())} of "
            f"{len(victim)} have none; train more shadows"
        )
    difficulty = np.where(seen, 0.0, shadows.astype(np.float64)).sum(axis=0) / unseen_count
    return np.asarray(difficulty - victim.astype(np.float64), dtype=np.float64)


def calibrated_threshold(shadows: Numbers, seen: Members, judged: Members | None = None) -> float:
    """Return the threshold of highest balanced accuracy for `calibrated`, each shadow in turn the victim.

    Neither the victim's membership is used, nor a shadow's complement against it (`in_turn`). The threshold
    is 0, the expected loss, if shadows cannot determine one: with fewer than two members and two non-members
    that another shadow was not trained on.

    Args:
        shadows: losses of samples under each shadow, (shadows, n).
        seen: training sets of the shadows, bool (shadows, n).
        judged: samples on which each shadow is attacked, bool (shadows, n); all if not given.

    Raises:
        InputError: shapes that differ or numbers that are not finite.
    """
    check_matrix(shadows, seen)
    scores = in_turn(
        -shadows.astype(np.float64),
        seen,
        lambda _, target, references, inside: calibrated(-target, -references, inside),
        lambda inside: np.asarray(~inside.all(axis=0), dtype=np.bool_),
        judged,
    )
    return turn_threshold(scores, seen)
