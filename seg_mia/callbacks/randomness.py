"""Random numbers of an epoch, independent of previous computations."""

import random

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer


class EpochSeed(Callback):
    """Reseed all generators at each epoch from (seed, epoch, rank).

    Lightning's checkpoint holds no random state. With this, a run that was killed in mid-epoch and resumed
    from the
    last finished one draws what it would have drawn: dropout here, order and augmentation in the data module.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Seed Python, NumPy and torch on every device."""
        draw = np.random.SeedSequence([self.seed, trainer.current_epoch, trainer.global_rank])
        python, array, tensor = (int(word) for word in draw.generate_state(3))
        random.seed(python)
        np.random.seed(array)  # noqa: NPY002  # libraries still draw from the global generator
        torch.manual_seed(tensor)
