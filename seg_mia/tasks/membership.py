"""Training of a classifier of members and non-members by their signals."""

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.nn import functional

from seg_mia.callbacks.outputs import MembershipOutput
from seg_mia.data.predictions import SignalBatch
from seg_mia.errors import InputError, reason_of
from seg_mia.membership.scorers import Classifier
from seg_mia.membership.signals import Signal, checked
from seg_mia.membership.views import cropped, patches, turned
from seg_mia.metrics.labels import padding
from seg_mia.models.membership_classifier import MembershipClassifier, load_classifier


class MembershipTask(LightningModule):
    """Membership classifier of one signal, computed from cached outputs without queries.

    Args:
        signal: input of the classifier.
        settings: training settings.
        mean: channel means over the training samples, for standardisation.
        std: channel standard deviations; negligible ones count as 1.
        members: fraction of members among training samples, in (0, 1), to balance both classes in the loss.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, signal: Signal, settings: Classifier, *, mean: Tensor, std: Tensor, members: float
    ) -> None:
        super().__init__()
        self.signal, self.settings = signal, settings
        self.network = MembershipClassifier(
            architecture=settings.architecture,
            channels=len(mean),
            adapter=settings.adapter,
            dropout=settings.dropout,
        ).to(memory_format=torch.channels_last)  # depthwise convolutions train 1.6 times as fast on a CPU
        if settings.weights is not None:
            load_classifier(self.network, settings.weights)
        self.register_buffer("mean", mean.view(1, -1, 1, 1).float())
        # A constant channel has no scale to divide by.
        self.register_buffer("std", torch.where(std > 1e-6, std, 1).view(1, -1, 1, 1).float())
        # Members and non-members have equal weight in the loss, whatever their numbers.
        self.weight = (0.5 / (1 - members), 0.5 / members)

    def maps(self, batch: SignalBatch) -> Tensor:
        """Return the standardised signal (N, C, *S) in the precision of the network, 0 in padding."""
        signal = checked(self.signal(batch.logits, batch.image, batch.mask), type(self.signal).__name__)
        mean, std = (moment.view(1, -1, *[1] * (signal.ndim - 2)) for moment in (self.mean, self.std))
        maps = ((signal - mean) / std).to(next(self.network.parameters()).dtype)
        if maps.ndim == 5:
            maps = maps.masked_fill(padding(batch.mask).unsqueeze(1), 0)
        return maps.contiguous(memory_format=torch.channels_last) if maps.ndim == 4 else maps

    def training_step(self, batch: SignalBatch, batch_idx: int) -> MembershipOutput:  # noqa: ARG002
        """Classify one view of each signal."""
        maps = self._with_real(batch)
        if self.settings.augment:
            maps = turned(maps)
        if self.settings.patch is not None:
            maps = cropped(maps, self.settings.patch, real=maps[:, -1] > 0 if maps.ndim == 5 else None)
        output = self._output(self.network(*_parted(maps)), batch)
        if not torch.isfinite(output["loss"]):
            raise InputError(
                "the membership classifier's loss must be finite, got NaN or infinity; lower "
                "--attack.scorer.lr"
            )
        return output

    def validation_step(self, batch: SignalBatch, batch_idx: int) -> MembershipOutput:  # noqa: ARG002
        """Score the held-out signals."""
        return self._output(self.scores(self._with_real(batch)), batch)

    def test_step(self, batch: SignalBatch, batch_idx: int) -> MembershipOutput:  # noqa: ARG002
        """Score without half precision, which would cause ties."""
        with torch.autocast(self.device.type, enabled=False):
            return self._output(self.scores(self._with_real(batch)), batch)

    def check_one_sample(self, batch: SignalBatch) -> None:
        """Raise InputError if the classifier does not accept such maps; its state does not change."""
        training = self.network.training
        try:
            with torch.no_grad():
                self.network.eval()
                self.scores(self._with_real(batch))
        except (RuntimeError, ValueError, AssertionError) as error:
            if isinstance(error, InputError):
                raise
            reason = reason_of(error)
            raise InputError(
                f"{self.settings.architecture} cannot take maps of {tuple(batch.mask.shape[1:])}: {reason}; "
                "name another --attack.scorer.architecture"
            ) from error
        finally:
            self.network.train(training)

    def _with_real(self, batch: SignalBatch) -> Tensor:
        """Return the maps, those of volumes with a last channel that is 1 but in padding."""
        maps = self.maps(batch)
        return maps if maps.ndim == 4 else torch.cat((maps, (~padding(batch.mask)).unsqueeze(1).to(maps)), 1)

    def scores(self, maps: Tensor) -> Tensor:
        """Return membership logits (N,) of slices that are not padding; with patches, the mean over patches.

        Args:
            maps: standardised signals (N, C, H, W), or (N, C + 1, D, H, W) with 0 in padding of the last
                channel.
        """
        if self.settings.patch is None:
            logits: Tensor = self.network(*_parted(maps))
            return logits
        squares = patches(maps, self.settings.patch)
        parts, counted = _parted(squares.flatten(0, 1))
        votes: Tensor = self.network(parts, counted).view(squares.shape[:2])
        if counted is None:
            return votes.mean(1)
        real = counted.any(1).view(votes.shape)
        real = real | ~real.any(1, keepdim=True)  # a volume of padding alone is refused elsewhere
        return (votes * real).sum(1) / real.sum(1)

    def _output(self, logits: Tensor, batch: SignalBatch) -> MembershipOutput:
        member = batch.member.to(logits.dtype)
        losses = functional.binary_cross_entropy_with_logits(logits, member, reduction="none")
        losses = losses * torch.where(batch.member, self.weight[1], self.weight[0])
        return {"loss": losses.mean(), "losses": losses.detach(), "scores": logits.detach()}

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return NAdam with cosine decay of the learning rate to 0."""
        settings = self.settings
        optimizer = torch.optim.NAdam(
            self.network.parameters(),
            lr=settings.lr,
            weight_decay=settings.weight_decay,
            decoupled_weight_decay=True,
        )
        steps = max(int(self.trainer.estimated_stepping_batches), 1)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def _parted(maps: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return signals, and which slices of volumes are not padding, bool (N, D), by their last channel."""
    if maps.ndim == 4:
        return maps, None
    return maps[:, :-1], (maps[:, -1] > 0).flatten(2).any(2)
