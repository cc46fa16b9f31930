"""Training curves and final scores of a membership classifier."""

from typing import Any

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from numpy.typing import NDArray
from torch import Tensor

from seg_mia.data.predictions import SignalBatch
from seg_mia.membership.roc import auc
from seg_mia.metrics.per_image import PerImage


class MembershipCurves(Callback):
    """Log loss and AUC on training and held-out signals of the shadow model; store scores.

    Args:
        last_epochs: number of final epochs with stored weights.

    Attributes:
        weights: copies of the state dicts of the last epochs, oldest first.
        table: indices (n,) and scores (n,) of the last test.
    """

    def __init__(self, last_epochs: int = 0) -> None:
        self.last_epochs = last_epochs
        self.weights: list[dict[str, Tensor]] = []
        self.table: tuple[NDArray[np.int64], NDArray[np.float64]] | None = None
        self.gathered = {"train": PerImage(), "val": PerImage(), "test": PerImage()}

    def _begin(self, stage: str, module: LightningModule) -> None:
        self.gathered[stage].reset()
        self.gathered[stage].to(module.device)

    def _keep(self, stage: str, outputs: Any, batch: SignalBatch) -> None:
        values = {"loss": outputs["losses"], "score": outputs["scores"], "member": batch.member}
        self.gathered[stage].update(batch.index, values)

    def _log(self, stage: str, module: LightningModule) -> None:
        _, values = self.gathered[stage].table()
        module.log(f"{stage}/loss", float(values["loss"].mean()), prog_bar=stage == "val", sync_dist=True)
        scores, members = values["score"].cpu().numpy(), values["member"].cpu().numpy() > 0
        if min(members.sum(), (~members).sum()) > 1:
            module.log(f"{stage}/auc", auc(scores, members), prog_bar=True, sync_dist=True)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Begin anew."""
        self._begin("train", pl_module)

    def on_train_batch_end(
        self,
        trainer: Trainer,  # noqa: ARG002
        pl_module: LightningModule,  # noqa: ARG002
        outputs: Any,
        batch: SignalBatch,
        batch_idx: int,  # noqa: ARG002
    ) -> None:
        """Store losses and scores of the training step."""
        self._keep("train", outputs, batch)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log, and store the weights of the last epochs."""
        self._log("train", pl_module)
        if trainer.max_epochs is not None and trainer.current_epoch >= trainer.max_epochs - self.last_epochs:
            state = pl_module.state_dict()
            self.weights.append({name: value.detach().cpu().clone() for name, value in state.items()})

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Begin anew."""
        self._begin("val", pl_module)

    def on_validation_batch_end(
        self,
        trainer: Trainer,  # noqa: ARG002
        pl_module: LightningModule,  # noqa: ARG002
        outputs: Any,
        batch: SignalBatch,
        batch_idx: int,  # noqa: ARG002
        dataloader_idx: int = 0,  # noqa: ARG002
    ) -> None:
        """Keep losses and scores."""
        self._keep("val", outputs, batch)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Log."""
        self._log("val", pl_module)

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Begin anew."""
        self._begin("test", pl_module)

    def on_test_batch_end(
        self,
        trainer: Trainer,  # noqa: ARG002
        pl_module: LightningModule,  # noqa: ARG002
        outputs: Any,
        batch: SignalBatch,
        batch_idx: int,  # noqa: ARG002
        dataloader_idx: int = 0,  # noqa: ARG002
    ) -> None:
        """Keep the scores."""
        self._keep("test", outputs, batch)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Gather the table."""
        index, values = self.gathered["test"].table()
        self.table = (index.cpu().numpy(), values["score"].cpu().numpy().astype(np.float64))
