"""Min-max training (Nasr et al. 2018; for masks Chobola, Usynin, Kaissis 2022): an adversary in the loss."""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.nn import functional

from seg_mia.data.base import SegmentationData
from seg_mia.data.samples import Batch
from seg_mia.defences.base import Defence, require_whole_training
from seg_mia.defences.distil import require_reference
from seg_mia.defences.traits import Trait
from seg_mia.errors import InputError
from seg_mia.membership.signals import PosteriorAndMask
from seg_mia.metrics.labels import real_slices
from seg_mia.models.heads import final
from seg_mia.models.membership_classifier import MembershipClassifier
from seg_mia.models.wrapper import bare

_SIGNAL = PosteriorAndMask()


class MinMax(Defence):
    """Train against a Type-II classifier that is trained in alternation with the network.

    Before each epoch the classifier is trained once on the network's probabilities and the ground truth masks
    of all members and all reference images, to separate the two. The network is then trained for one epoch
    with `weight` times the sum over the batch of the classifier's membership probabilities as a penalty. The
    published code uses the evaluated non-members instead of reference images.

    Args:
        weight: lambda of the paper: 0.05 for Kvasir, 0.005 for liver slices.
        architecture: architecture of the classifier, any timm model by name.
        lr: learning rate of the classifier's NAdam.
        batch_size: batch size of the classifier.

    Raises:
        InputError: a number out of range; in `check`, no reference images.
    """

    traits: ClassVar[Mapping[Trait, str]] = {
        Trait.COUPLES_SAMPLES: "the min-max classifier is trained on all members, without noise",
        Trait.NEEDS_WHOLE_SAMPLES: "the min-max classifier compares whole members with reference images",
        Trait.USES_REFERENCE: "the min-max classifier takes them for non-members",
    }

    def __init__(
        self, *, weight: float = 0.05, architecture: str = "resnet18", lr: float = 1e-4, batch_size: int = 8
    ) -> None:
        if not 0 < weight < float("inf") or not 0 < lr < float("inf") or batch_size < 2:
            raise InputError(
                f"weight and lr must be above 0 and finite, batch_size at least 2, got {weight}, {lr}, "
                f"{batch_size}"
            )
        self.weight, self.architecture, self.lr, self.batch_size = weight, architecture, lr, batch_size
        self.classifier: MembershipClassifier | None = None

    def check(self, data: SegmentationData) -> None:
        """Build the classifier; require reference images."""
        require_reference(data, "the min-max classifier takes them for non-members")
        require_whole_training(data, "min-max training", "its classifier compares whole samples")
        maps = 1 if data.source.classes == 2 else data.source.classes
        if self.classifier is None:
            self.classifier = MembershipClassifier(architecture=self.architecture, channels=2 * maps)

    def penalty(self, logits: Tensor, batch: Batch, network: nn.Module) -> Tensor:  # noqa: ARG002
        """Return `weight` times each image's membership probability."""
        assert self.classifier is not None
        self.classifier.eval().requires_grad_(False)
        maps = _SIGNAL(logits, batch.image, batch.mask)
        member: Tensor = self.classifier(maps, real_slices(batch.mask))
        return self.weight * member.sigmoid()

    def callbacks(self) -> list[Callback]:
        """Train the classifier before each epoch."""
        return [InferenceAdversary(self)]


class InferenceAdversary(Callback):
    """Train the classifier before each epoch of the network; its state is stored in checkpoints."""

    def __init__(self, defence: MinMax) -> None:
        self.defence = defence
        self.saved: dict[str, dict[str, object]] | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Move the classifier to the network's device."""
        classifier = self.defence.classifier
        assert classifier is not None
        self.classifier = classifier.to(pl_module.device)
        self.optimizer = torch.optim.NAdam(self.classifier.parameters(), lr=self.defence.lr)
        self._restore()

    def _restore(self) -> None:
        if self.saved is not None:
            self.classifier.load_state_dict(self.saved["classifier"])
            self.optimizer.load_state_dict(self.saved["optimizer"])

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Train the classifier on the first rank; all ranks continue with its weights."""
        data: SegmentationData = trainer.datamodule  # type: ignore[attr-defined]
        network = bare(pl_module.get_submodule("network"))  # a release is not known to training
        parts = [data.scored(part) for part in ("members", "reference")]
        member = np.arange(sum(map(len, parts))) < len(parts[0])
        samples, order = (
            data.dataset(np.concatenate(parts)),
            np.random.default_rng([0, trainer.current_epoch]),
        )
        # Members and reference weigh the same, however many of each there are.
        weight = torch.tensor([0.5 / (1 - member.mean()), 0.5 / member.mean()])
        rows, size = order.permutation(len(member)), self.defence.batch_size
        self.classifier.train().requires_grad_(True)
        network.eval()
        losses, right = [], 0
        for start in range(0, len(rows) - 1, size):
            chosen = rows[start : start + size]
            batch = Batch(*map(torch.stack, zip(*(samples[0, int(row)] for row in chosen), strict=True)))
            truth = torch.from_numpy(member[chosen])
            logits = self._membership_logits(network, batch, pl_module.device)
            loss = functional.binary_cross_entropy_with_logits(
                logits, truth.to(logits), weight=weight[truth.long()].to(logits)
            )
            self.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            losses.append(float(loss.detach()))
            right += int(((logits > 0).cpu() == truth).sum())
        network.train()
        if trainer.world_size > 1:  # batch statistics differ between ranks, so what was learnt does
            self.saved = trainer.strategy.broadcast(self.state_dict())
            self._restore()
        pl_module.log("minmax/classifier_loss", float(np.mean(losses)))
        pl_module.log("minmax/classifier_accuracy", right / len(rows))

    def _membership_logits(self, network: nn.Module, batch: Batch, device: torch.device) -> Tensor:
        image, mask = batch.image.to(device), batch.mask.to(device)
        with torch.no_grad():
            maps = _SIGNAL(final(network(image)), image, mask)
        logits: Tensor = self.classifier(maps, real_slices(mask))
        return logits

    def state_dict(self) -> dict[str, dict[str, object]]:
        """Return the state of the classifier and its optimiser."""
        return {"classifier": self.classifier.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state_dict: dict[str, dict[str, object]]) -> None:
        """Restore both when training starts."""
        self.saved = state_dict
