"""Victim and shadow models with their data, and the samples evaluated by membership inference."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from lightning.pytorch.utilities import rank_zero_only
from numpy.typing import NDArray
from torch import nn

from seg_mia.data.base import SegmentationData, Subset

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainedModel:
    """One half of the split and the network trained on its members.

    Attributes:
        load: returns the network with its weights; a fleet's networks are loaded one at a time.
        data: after setup.
        file: the checkpoint.
        built: class and arguments of the network as plain values.
        unseen: members not used in its training, as data-set indices.
        privacy: plain values of its guarantee of differential privacy; None without.
        initial: the same network before its first training step; None if it is unknown.
    """

    load: Callable[[], nn.Module]
    data: SegmentationData
    file: Path
    built: Any = None
    unseen: tuple[int, ...] = ()
    privacy: Any = None
    initial: "TrainedModel | None" = None

    @property
    def network(self) -> nn.Module:
        """The network with its weights."""
        return self.load()

    def judged(self, part: Subset, *, limited: bool = False) -> NDArray[np.int64]:
        """Return the samples of a subset evaluated by membership inference, ascending.

        Excluded are samples without a labelled pixel, which have no loss, and members never used in training,
        which are neither members nor non-members.

        Args:
            part: members or non-members, as a rule.
            limited: apply the `limit` of the data.
        """
        chosen = self.data.scored(part)
        chosen = chosen[~np.isin(chosen, self.unseen)]
        return self.data.limited(chosen) if limited else chosen

    @property
    def left_out(self) -> dict[str, int]:
        """Return the numbers of excluded members and non-members by reason."""
        all_samples = [self.data.indices(part) for part in ("members", "nonmembers")]
        labelled = [self.data.scored(part) for part in ("members", "nonmembers")]
        return {
            "unlabelled": sum(map(len, all_samples)) - sum(map(len, labelled)),
            "untrained": len(labelled[0]) - len(self.judged("members")),
        }


class JudgedData(TypedDict):
    """Plain values of a `seg_mia.results.membership.ScoredData`."""

    fingerprint: str
    split_seed: int
    limit: int | None
    left_out: dict[str, dict[str, int]]
    notes: list[str]


def judged_data(victim: TrainedModel, shadows: Sequence[TrainedModel]) -> JudgedData:
    """Return the evaluated data, and the numbers of excluded samples, as plain values."""
    data = victim.data
    without = [shadow.left_out for shadow in shadows]
    return {
        "fingerprint": data.fingerprint,
        "split_seed": data.split_seed,
        "limit": data.limit,
        "left_out": {
            "victim": victim.left_out,
            "shadow": {why: sum(counts[why] for counts in without) for why in victim.left_out},
        },
        "notes": [note.text for note in data.notes],
    }


@rank_zero_only
def log_left_out(victim: TrainedModel, shadows: Sequence[TrainedModel]) -> None:
    """Log the numbers of excluded members and non-members."""
    for role, side in (("victim", victim), *(("shadow", shadow) for shadow in shadows)):
        excluded = side.left_out
        if excluded["untrained"]:
            log.warning(
                "%d of the %s's %d members were never trained on: they count neither as members nor as "
                "non-members",
                excluded["untrained"],
                role,
                len(side.data.splits.members),
            )
        if excluded["unlabelled"]:
            log.warning(
                "%d of the %s's members and non-members have no labelled pixel and are not scored",
                excluded["unlabelled"],
                role,
            )
