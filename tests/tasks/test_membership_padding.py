"""Membership classifiers of volumes: neither their scale nor their votes depend on padding."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.testing import assert_close

from seg_mia.data.predictions import SignalBatch, SignalMaps
from seg_mia.experiment.classifier import _statistics
from seg_mia.membership.scorers import Classifier
from seg_mia.membership.signals import Posterior
from seg_mia.metrics.labels import IGNORE
from seg_mia.tasks.membership import MembershipTask


class Volumes(SignalMaps):
    """Volumes of one channel, the same box of real voxels in padding of a width of its own."""

    def __init__(self, padding: int) -> None:
        self.padding, self.workers = padding, 0
        self.indices = np.arange(4)
        self.members = np.array([True, False, True, False])
        self.groups = self.indices.astype(str)

    def __getitem__(self, draw: tuple[int, int]) -> SignalBatch:
        generator = torch.Generator().manual_seed(draw[1])
        logits = torch.randn(1, 4, 8, 8, generator=generator) + 2
        mask = (logits[0] > 2).long()
        wide = [self.padding] * 6
        return SignalBatch(
            torch.nn.functional.pad(logits, wide, value=-9.0),
            torch.nn.functional.pad(torch.rand(1, 4, 8, 8, generator=generator), wide),
            torch.nn.functional.pad(mask, wide, value=IGNORE),
            torch.tensor(bool(self.members[draw[1]])),
            torch.tensor(draw[1]),
        )

    def part(self, positions: NDArray[np.int64]) -> Any:
        raise NotImplementedError


def scored(padding: int, **settings: Any) -> tuple[MembershipTask, Tensor, Tensor]:
    """Return a task, its scale, and the standardised maps of the first volume."""
    samples = Volumes(padding)
    mean, std = _statistics(Posterior(), samples)
    torch.manual_seed(0)
    task = MembershipTask(
        Posterior(), Classifier(architecture="test_resnet", **settings), mean=mean, std=std, members=0.5
    ).eval()
    batch = SignalBatch(*(part.unsqueeze(0) for part in samples[0, 0]))
    return task, torch.stack((mean, std)), task._with_real(batch)


def test_mean_and_standard_deviation_are_those_of_real_voxels() -> None:
    (_, alone, maps), (_, padded, framed) = scored(0), scored(3)
    assert_close(padded, alone)
    assert_close(framed[:, :, 3:-3, 3:-3, 3:-3], maps)
    outside = framed.clone()
    outside[:, :, 3:-3, 3:-3, 3:-3] = 0
    assert not outside.any()  # the mean, and not a real voxel
    voxels = torch.cat([Volumes(0)[0, number].logits.sigmoid() for number in range(4)]).double()
    assert_close(alone[:, 0], torch.stack((voxels.mean(), voxels.std(correction=0))))


def test_squares_of_padding_have_no_vote() -> None:
    task, _, maps = scored(8, patch=8)
    real = maps[:, :, 8:-8, 8:-8, 8:-8]
    with torch.no_grad():
        votes = [
            task.network(maps[:, :-1, 8:-8, top : top + 8, left : left + 8], None)
            for top in (4, 8, 12)
            for left in (4, 8, 12)
        ]
        assert_close(task.scores(maps), torch.stack(votes).mean(0))
        assert_close(task.scores(real), votes[4])
