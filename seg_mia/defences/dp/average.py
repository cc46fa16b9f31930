"""Averages of the weights over the steps of a private training, which are evaluated in place of the last."""

from typing import Any, TypedDict, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from seg_mia.defences.dp.checks import Trained
from seg_mia.defences.dp.mechanism import DPTraining


class AverageState(TypedDict):
    """The state in a checkpoint, whose weights are the averages."""

    current: dict[str, Tensor]
    count: int


def share_of_newest(count: int, ema: float | None) -> float:
    """Return the weight of the newest of `count` weights in their average.

    Uniform without `ema`. With it, the weights w_1, ..., w_t have the average sum_i ema^(t - i) w_i /
    sum_i ema^(t - i), in which the initial weights have no part.
    """
    return 1 / count if ema is None else (1 - ema) / (1 - ema**count)


class WeightAverage(Callback):
    """Keep an average of the trained weights, and let the network have it outside of training steps.

    Validation, checkpoints and everything after the training see the average; each step starts from the
    current weights, as without averaging. The average is computed from the weights of the noisy steps alone,
    which their guarantee covers (post-processing).

    Args:
        private: the private training, whose settings give decay (`ema`) or share of the steps (`tail`).
    """

    def __init__(self, private: DPTraining) -> None:
        self.private = private
        self._current: dict[str, Tensor] = {}
        self._average: dict[str, Tensor] = {}
        self._count = 0
        self._resumed = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Begin with the initial weights, which `DPCallback` may set before, unless a training is resumed."""
        if not self._resumed:
            self._current, self._count = _copies(pl_module), 0
        self._resumed = False

    def on_train_batch_start(
        self,
        trainer: Trainer,  # noqa: ARG002
        pl_module: LightningModule,
        batch: Any,  # noqa: ARG002
        batch_idx: int,  # noqa: ARG002
    ) -> None:
        """Give the network its current weights for a step."""
        self._average = _copies(pl_module)
        _write(pl_module, self._current)

    def on_train_batch_end(
        self,
        trainer: Trainer,  # noqa: ARG002
        pl_module: LightningModule,
        outputs: Any,  # noqa: ARG002
        batch: Any,  # noqa: ARG002
        batch_idx: int,  # noqa: ARG002
    ) -> None:
        """Take the new weights into the average, and give the network that."""
        self._current = _copies(pl_module)
        if not (self._count or self._begins()):
            return
        self._count += 1
        share = share_of_newest(self._count, self.private.settings.ema)
        if self._count == 1:
            self._average = self._current
        averages = {name: torch.lerp(self._average[name], new, share) for name, new in self._current.items()}
        self._average = averages
        _write(pl_module, averages)

    def _begins(self) -> bool:
        """Return whether the step just taken is the first one to be averaged."""
        private, tail = self.private, self.private.settings.tail
        if tail is None:
            return True
        last = min(private.planned, private.allowed)
        return private.steps > last - max(round(tail * last), 1)

    def state_dict(self) -> dict[str, Any]:
        """Return the current weights and how many are averaged."""
        return {"current": self._current, "count": self._count}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state of a training that is resumed."""
        state = cast(AverageState, state_dict)
        self._current, self._count, self._resumed = state["current"], state["count"], True


def _copies(task: LightningModule) -> dict[str, Tensor]:
    trained = cast(Trained, task).trained_parameters()
    return {name: parameter.detach().clone() for name, parameter in trained.items()}


def _write(task: LightningModule, weights: dict[str, Tensor]) -> None:
    with torch.no_grad():
        for name, parameter in cast(Trained, task).trained_parameters().items():
            parameter.copy_(weights[name])
