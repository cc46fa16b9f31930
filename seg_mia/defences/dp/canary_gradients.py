"""White-box scores of canaries: how well their gradients explain the noisy sums of a private training."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Protocol, cast

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from numpy.typing import NDArray
from torch import Tensor, nn

from seg_mia.callbacks.outputs import StepOutput
from seg_mia.data.base import SegmentationData
from seg_mia.data.samples import Batch, Samples
from seg_mia.defences.base import Defence
from seg_mia.defences.dp.coin_estimates import CoinEstimate, begun, restored
from seg_mia.defences.dp.mechanism import DPGradient
from seg_mia.grad_sample.clipping import clipped_sum

log = logging.getLogger(__name__)

LARGEST = 50_000_000
"""Numbers in the canaries' gradients of a step, at most: 200 MB."""

LEAST_VARIANCE = 1e-6
"""Variance of the noise below which a training is taken as one with this noise, in squared clips."""


class _Canaries(Protocol):
    indices: NDArray[np.int64]
    inserted: NDArray[np.bool_]

    def samples(self, data: SegmentationData) -> Samples: ...


class _Task(Protocol):
    gradient_computer: object
    defences: list[Defence]

    def forward_batch(self, batch: Batch) -> tuple[Tensor, StepOutput]: ...

    def cached_features(self) -> AbstractContextManager[None]: ...

    def trained_parameters(self) -> dict[str, nn.Parameter]: ...


class GradientScores(Callback):
    """Estimate from each step's noisy sum which canaries were inserted.

    The auditor knows the noisy sum of each step, which the updated weights give away, the clipped gradients
    of all canaries at the weights before it, whether inserted or drawn or not, and the members' part of the
    sum, members drawn in this step included. Coins and draws of canaries are unknown; what is known of
    members is independent of them. This is the attacker that differential privacy assumes, so that the
    scores depend on the coins through a private mechanism alone, as an audit of one training requires;
    black-box scores see the last weights only.

    If each step has all units, the scores are the best linear estimate of the coins (`AllUnits`); of sampled
    batches they are sums over steps of log-likelihood ratios (`SampledUnits`).

    Only for trainings with differential privacy on whole samples without augmentation, in one process,
    whose gradients are the same when they are computed again (no dropout), of at most `LARGEST` / canaries
    trained weights. A canary is a unit with a single sample, also where units are patients.

    Attributes:
        scores: float64 (n,), set by `finish`; None for other trainings.
    """

    def __init__(self, canaries: _Canaries) -> None:
        self.canaries = canaries
        self.scores: NDArray[np.float64] | None = None
        self._batch: Batch | None = None
        self._drawn: NDArray[np.bool_] = np.zeros(0, dtype=np.bool_)
        self._estimate: CoinEstimate | None = None
        self._applies: bool | None = None

    def on_train_batch_start(
        self,
        trainer: Trainer,  # noqa: ARG002
        pl_module: LightningModule,  # noqa: ARG002
        batch: Batch,
        batch_idx: int,  # noqa: ARG002
    ) -> None:
        """Note which canaries are in the batch, to take the members' part from its sum."""
        self._drawn = np.isin(self.canaries.indices, batch.index.cpu().numpy())

    def on_before_optimizer_step(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        optimizer: torch.optim.Optimizer,  # noqa: ARG002
    ) -> None:
        """Add one step to the estimate."""
        task = cast(_Task, pl_module)
        computer, parameters = task.gradient_computer, task.trained_parameters()
        if not isinstance(computer, DPGradient):
            return
        if self._applies is None:
            self._applies = self._may_apply(trainer, task, computer) and self._begin(trainer, task, computer)
        if not self._applies:
            self._estimate = None  # of the part of this training before it was resumed
            return
        assert self._batch is not None
        assert self._estimate is not None
        private, names = computer.private, list(parameters)
        gradients = self._gradients(self._batch, task, computer, parameters)
        noisy = torch.cat([cast(Tensor, parameters[name].grad).flatten() for name in names])
        exact = torch.cat([computer.sums[name].flatten() for name in names]).double()
        present = torch.from_numpy(self.canaries.inserted & self._drawn).to(gradients.device)
        members = exact - gradients[present].sum(0)
        others = noisy.double() * private.drawn.expected - members
        variance = max(private.mechanism.noise**2, LEAST_VARIANCE) * private.settings.clip**2
        self._estimate.add((gradients @ gradients.T).cpu(), (gradients @ others).cpu(), variance)

    def finish(self) -> NDArray[np.float64] | None:
        """Return the scores of the canaries, (n,), higher for inserted ones, or None."""
        if self._estimate is not None:
            self.scores = self._estimate.scores()
        self._batch = None
        return self.scores

    def state_dict(self) -> dict[str, Tensor]:
        """Return the sums so far, for a resumed training."""
        return {} if self._estimate is None else self._estimate.state()

    def load_state_dict(self, state_dict: dict[str, Tensor]) -> None:
        """Restore the sums."""
        if state_dict:
            self._estimate = restored(state_dict)

    def _begin(self, trainer: Trainer, task: _Task, computer: DPGradient) -> bool:
        """Read the canaries and start the estimate; return whether their gradients can be computed again."""
        data: SegmentationData = trainer.datamodule  # type: ignore[attr-defined]
        samples = self.canaries.samples(data)
        rows = [samples[0, row] for row in range(len(samples))]
        device = next(iter(task.trained_parameters().values())).device
        self._batch = Batch(*(torch.stack(part).to(device) for part in zip(*rows, strict=True)))
        first = Batch(*(part[:1] for part in self._batch))
        once, again = (self._gradients(first, task, computer, task.trained_parameters()) for _ in range(2))
        if not torch.allclose(once, again, rtol=1e-4, atol=1e-6 * computer.private.settings.clip):
            log.info("canaries have no white-box score: their gradients are random, as with dropout")
            return False
        if self._estimate is None:
            self._estimate = begun(len(self.canaries.indices), computer.private.mechanism.rate)
        return True

    def _may_apply(self, trainer: Trainer, task: _Task, computer: DPGradient) -> bool:
        """Return whether the training shows whole canaries as they are, and has few weights; log if not."""
        if computer.private.settings.releases_alone or trainer.world_size > 1:
            return False
        data: SegmentationData = trainer.datamodule  # type: ignore[attr-defined]
        if data.patch is not None or data.augment != "none" or _changed(task.defences):
            log.info("canaries have no white-box score: training shows them as patches or changed")
            return False
        size = sum(parameter.numel() for parameter in task.trained_parameters().values())
        size *= len(self.canaries.indices)
        if size > LARGEST:
            log.info(
                "canaries have no white-box score: their gradients would be %.2g numbers in each step, more "
                "than %.2g",
                size,
                LARGEST,
            )
        return size <= LARGEST

    def _gradients(
        self, images: Batch, task: _Task, computer: DPGradient, parameters: Mapping[str, nn.Parameter]
    ) -> Tensor:
        """Return the clipped gradient of each canary at the current weights, float64 (n, d)."""
        settings, rows = computer.private.settings, []
        for row in range(len(images.index)):
            batch = Batch(*(part[row : row + 1] for part in images))
            with torch.enable_grad(), task.cached_features():
                alone = clipped_sum(
                    partial(_losses, task, batch),
                    parameters,
                    torch.zeros(1, dtype=torch.int64, device=batch.image.device),
                    clip=settings.clip,
                    physical=1,
                    mode=computer.mode,
                    clipping=settings.clipping,
                )
            rows.append(torch.cat([alone.sums[name].flatten() for name in parameters]).double())
        return torch.stack(rows)


def _losses(task: _Task, batch: Batch, rows: Tensor) -> Tensor:
    return task.forward_batch(Batch(*(part[rows] for part in batch)))[0]


def _changed(defences: Sequence[Defence]) -> bool:
    """Return whether a defence changes samples before they are trained on."""
    hooks = ("sample", "batch", "perturb")
    return any(
        getattr(type(defence), hook) is not getattr(Defence, hook) for defence in defences for hook in hooks
    )
