"""White-box scores of canaries: how well their gradients explain the noisy sums of a private training."""

import logging
from collections.abc import Mapping
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

    def forward_batch(self, batch: Batch) -> tuple[Tensor, StepOutput]: ...

    def cached_features(self) -> AbstractContextManager[None]: ...

    def trained_parameters(self) -> dict[str, nn.Parameter]: ...


class GradientScores(Callback):
    """Estimate from each step's noisy sum which canaries were inserted.

    The owner knows the clipped gradients g_i of all canaries and the sum M of the members'. The noisy sum
    without M is sum_i b_i g_i + noise, where b_i is the coin of canary i. The scores are the best linear
    estimate of all coins from all steps,

        (sum_t G G^T / s^2 + 4 I)^-1 sum_t G (noisy sum - M - sum_i g_i / 2) / s^2,

    with the canaries' gradients G (n, d) in step t and the standard deviation s of the noise. They depend on
    the coins through the released sums alone, as an audit of one training requires. This is the attacker that
    differential privacy assumes: black-box scores see the last weights only.

    Only for trainings with differential privacy that use all units in each step, whole and without
    augmentation, of at most `LARGEST` / canaries trained weights.

    Attributes:
        scores: float64 (n,), set by `finish`; None for other trainings.
    """

    def __init__(self, canaries: _Canaries) -> None:
        self.canaries = canaries
        self.scores: NDArray[np.float64] | None = None
        self._batch: Batch | None = None
        self._normal: Tensor | None = None
        self._right = torch.zeros(0)

    def _read(self, trainer: Trainer, pl_module: LightningModule) -> Batch:
        """Return the canaries' images."""
        data: SegmentationData = trainer.datamodule  # type: ignore[attr-defined]
        samples = self.canaries.samples(data)
        rows = [samples[0, row] for row in range(len(samples))]
        return Batch(*(torch.stack(part).to(pl_module.device) for part in zip(*rows, strict=True)))

    def on_before_optimizer_step(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        optimizer: torch.optim.Optimizer,  # noqa: ARG002
    ) -> None:
        """Add one step to the normal equations."""
        task = cast(_Task, pl_module)
        computer, parameters = task.gradient_computer, task.trained_parameters()
        if not self._applies(trainer, computer, parameters):
            return
        assert isinstance(computer, DPGradient)
        if self._batch is None:
            self._batch = self._read(trainer, pl_module)
        private, names = computer.private, list(parameters)
        gradients = self._gradients(self._batch, task, computer, parameters)
        noisy = torch.cat([cast(Tensor, parameters[name].grad).flatten() for name in names])
        exact = torch.cat([computer.sums[name].flatten() for name in names]).double()
        inserted = torch.from_numpy(self.canaries.inserted).to(gradients.device)
        members = exact - gradients[inserted].sum(0)
        residual = noisy.double() * private.drawn.expected - members - gradients.sum(0) / 2
        clip = private.settings.clip
        variance = max(private.mechanism.noise**2, LEAST_VARIANCE) * clip**2
        product = gradients @ gradients.T / variance
        self._normal = product.cpu() + (0 if self._normal is None else self._normal)
        self._right = (gradients @ residual / variance).cpu() + (self._right if len(self._right) else 0)

    def finish(self) -> NDArray[np.float64] | None:
        """Return the scores of the canaries, (n,), higher for inserted ones, or None."""
        if self._normal is not None:
            prior = 4 * torch.eye(len(self._right), dtype=torch.float64)  # a fair coin has variance 1/4
            self.scores = torch.linalg.solve(self._normal + prior, self._right).numpy()
        self._batch = None
        return self.scores

    def state_dict(self) -> dict[str, Tensor]:
        """Return the sums so far, for a resumed training."""
        return {} if self._normal is None else {"normal": self._normal, "right": self._right}

    def load_state_dict(self, state_dict: dict[str, Tensor]) -> None:
        """Restore the sums."""
        if state_dict:
            self._normal, self._right = state_dict["normal"], state_dict["right"]

    def _applies(self, trainer: Trainer, computer: object, parameters: Mapping[str, nn.Parameter]) -> bool:
        if (
            not isinstance(computer, DPGradient)
            or computer.private.population.rate < 1
            or trainer.world_size > 1
        ):
            return False
        data: SegmentationData = trainer.datamodule  # type: ignore[attr-defined]
        if data.patch is not None or data.augment != "none":
            if computer.private.steps == 1:
                log.info("canaries have no white-box score: training shows them as patches or augmented")
            return False
        size = sum(parameter.numel() for parameter in parameters.values()) * len(self.canaries.indices)
        if size > LARGEST and computer.private.steps == 1:
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
