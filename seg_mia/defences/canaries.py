"""Canaries: inserted samples that measure the leakage of a training's least typical data."""

import logging
from collections.abc import Mapping
from typing import ClassVar, Literal, Protocol, assert_never, cast

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from numpy.typing import NDArray
from torch import Tensor

from seg_mia.callbacks.folder import run_folder
from seg_mia.callbacks.outputs import StepOutput
from seg_mia.data.base import SegmentationData
from seg_mia.data.samples import Batch, Samples
from seg_mia.data.source import Image, Mask
from seg_mia.data.training_set import TrainingSet
from seg_mia.defences.base import Defence
from seg_mia.defences.canary_patterns import distinct_canaries
from seg_mia.defences.distil import require_reference
from seg_mia.defences.dp.canary_gradients import GradientScores
from seg_mia.defences.traits import Trait
from seg_mia.errors import InputError
from seg_mia.membership.arrays import Members, Scores
from seg_mia.membership.certify import Certified, epsilon_lower_bound, one_run_lower_bound
from seg_mia.membership.f_dp_one_run import f_dp_one_run_bound
from seg_mia.membership.gaussian_one_run import gaussian_one_run_bound
from seg_mia.membership.roc import auc
from seg_mia.metrics.labels import IGNORE
from seg_mia.results.files import write_csv, write_json
from seg_mia.results.privacy import CanaryResult, EpsilonLowerBound, WhiteBoxCanaries, guarantee
from seg_mia.results.text import canary_headline

log = logging.getLogger(__name__)

Kind = Literal["mislabelled", "distinct"]


class Canaries(Defence):
    """Train on canaries in place of reference images besides the members, and measure their exposure.

    Each of `2 * count` reference images, one per group, is inserted or left out by a fair coin. Image and
    mask are replaced by an outline and textures, or in the mask every pixel has the next class (with two
    classes, it is inverted); only a network that memorised the canary predicts it. After training, the loss
    on these masks is used to guess which images were inserted. This gives lower bounds on epsilon: by the two
    error rates of a threshold (Jagielski, Ullman, Oprea 2020, arXiv:2006.07709), and by the number of correct
    guesses, which is valid for dependent samples of one training (Steinke, Nasr, Jagielski 2023,
    arXiv:2305.08846), and far greater if each step uses all units with Gaussian noise (Xiang et al. 2025,
    arXiv:2509.08704; Mahloujifar et al. 2024, arXiv:2410.22235). Of a private training on whole, unaugmented
    images the noisy sums are evaluated, too (`seg_mia.defences.dp.canary_gradients`); where batches are
    sampled, by the number of correct guesses alone. This is a measurement, not a defence. It lowers Dice: use
    it on a copy of the deployed model.

    Args:
        count: expected number of inserted images; as many are left out.
        seed: seed of the selection and the coins.
        kind: `distinct` replaces image and mask, each by two textures on either side of an outline of its own
            (`seg_mia.defences.canary_patterns`); `mislabelled` keeps the images. The gradients of distinct
            ones differ more, so that noise hides fewer of them.

    Raises:
        InputError: fewer than 8; in `enter`, a reference of too few groups.
    """

    traits: ClassVar[Mapping[Trait, str]] = {
        Trait.USES_REFERENCE: "canaries are taken from them",
        Trait.TRAINS_ON_OTHERS: "canaries are trained on but are not members",
    }

    def __init__(self, *, count: int = 100, seed: int = 0, kind: Kind = "distinct") -> None:
        if count < 8:
            raise InputError(f"canaries must be at least 8, got {count}; 100 can certify an epsilon of 2.7")
        self.count, self.seed, self.kind = count, seed, kind
        self.masks: dict[int, Mask] = {}
        self.images: dict[int, Image] = {}
        self.indices: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self.inserted: NDArray[np.bool_] = np.zeros(0, dtype=np.bool_)

    def enter(self, data: SegmentationData) -> None:
        """Draw the canaries and add the inserted ones to the training data."""
        require_reference(data, "canaries are taken from them")
        if len(self.indices):
            return
        reference = data.scored("reference")
        _, first = np.unique([data.source.groups[i] for i in reference], return_index=True)
        if len(first) < 2 * self.count:
            raise InputError(
                f"{self.count} inserted and as many omitted canaries need {2 * self.count} groups in the "
                f"reference, got {len(first)}; lower --model.defences.count, or raise --data.reference"
            )
        generator = np.random.default_rng([self.seed, 2 * self.count])
        chosen = generator.permutation(reference[np.sort(first)])[: 2 * self.count]
        self.inserted = generator.random(len(chosen)) < 0.5
        if min(self.inserted.sum(), (~self.inserted).sum()) < 2:
            raise InputError(
                f"the coin flips of seed {self.seed} all have one outcome; choose another "
                "--model.defences.seed"
            )
        self.indices = chosen
        self._draw(data)
        inserted = chosen[self.inserted].tolist()
        data.insert(
            TrainingSet(
                chosen[self.inserted],
                {i: self.masks[i] for i in inserted},
                {i: self.images[i] for i in inserted if i in self.images},
            )
        )

    def _draw(self, data: SegmentationData) -> None:
        """Set mask, and image where it is another, of each canary, inserted or not."""
        cached, classes = data.cached, data.source.classes
        match self.kind:
            case "mislabelled":
                self.masks = {i: false_mask(cached.masks[i], classes) for i in self.indices.tolist()}
            case "distinct":
                images, masks = ([part[i] for i in self.indices] for part in (cached.images, cached.masks))
                drawn = distinct_canaries(images, masks, classes=classes, seed=self.seed)
                self.images = {i: image for i, (image, _) in zip(self.indices.tolist(), drawn, strict=True)}
                self.masks = {i: mask for i, (_, mask) in zip(self.indices.tolist(), drawn, strict=True)}
            case _:
                assert_never(self.kind)

    def callbacks(self) -> list[Callback]:
        """Evaluate the canaries during and after training."""
        gradients = GradientScores(self)
        return [gradients, CanaryScores(self, gradients)]

    def samples(self, data: SegmentationData) -> Samples:
        """Return all canaries, inserted or not, as training shows them."""
        return data.dataset(self.indices, labels=self.masks, images=self.images)


def false_mask(mask: NDArray[np.uint8], classes: int) -> NDArray[np.uint8]:
    """Return a mask (h, w) with every pixel's class increased by one, the last becoming background."""
    return np.where(mask == IGNORE, mask, (mask + 1) % classes).astype(np.uint8)


class _Rule(Protocol):
    def __call__(
        self, scores: Scores, members: Members, /, *, delta: float, confidence: float
    ) -> Certified: ...


def _bound(rule: _Rule, scores: Scores, inserted: Members, delta: float) -> EpsilonLowerBound:
    return EpsilonLowerBound.measured(
        lambda confidence: rule(scores, inserted, delta=delta, confidence=confidence), delta=delta
    )


def _white_box(scores: Scores, inserted: Members, delta: float, *, gaussian: bool) -> WhiteBoxCanaries:
    """Return what noisy sums prove: by mu only of a Gaussian mechanism, which sampled steps are not."""
    if not gaussian:
        one_run = _bound(one_run_lower_bound, scores, inserted, delta)
        return WhiteBoxCanaries(auc=auc(scores, inserted), one_run=one_run)
    return WhiteBoxCanaries(
        auc=auc(scores, inserted),
        gaussian=_bound(gaussian_one_run_bound, scores, inserted, delta),
        f_dp=_bound(f_dp_one_run_bound, scores, inserted, delta),
    )


class _Judged(Protocol):
    def forward_batch(self, batch: Batch) -> tuple[Tensor, StepOutput]: ...


class CanaryScores(Callback):
    """At the end of training, write `canaries.csv` and `canaries.json` and log the certified bounds."""

    def __init__(self, canaries: Canaries, gradients: GradientScores) -> None:
        self.canaries, self.gradients = canaries, gradients
        self.result: CanaryResult | None = None

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Score each canary by its negative loss."""
        data: SegmentationData = trainer.datamodule  # type: ignore[attr-defined]
        scores = self._scores(pl_module, data)
        if not trainer.is_global_zero:
            return
        inserted, folder = self.canaries.inserted, run_folder(trainer)
        privacy = guarantee(getattr(pl_module, "dp_guarantee", None), "privacy guarantee of the training")
        delta = None if privacy is None else privacy.delta
        if delta is None:
            delta = 1 / (10 * len(data.trained()))  # as DPSGD takes by default, so that bounds compare
        gaussian = privacy is not None and (privacy.rate or 0) >= 1
        white_box = self.gradients.finish()
        self.result = CanaryResult(
            inserted=int(inserted.sum()),
            left_out=int((~inserted).sum()),
            auc=auc(scores, inserted),
            delta=delta,
            certified=_bound(epsilon_lower_bound, scores, inserted, delta),
            one_run=_bound(one_run_lower_bound, scores, inserted, delta),
            gaussian=_bound(gaussian_one_run_bound, scores, inserted, delta) if gaussian else None,
            f_dp=_bound(f_dp_one_run_bound, scores, inserted, delta) if gaussian else None,
            white_box=None
            if white_box is None
            else _white_box(white_box, inserted, delta, gaussian=gaussian),
            privacy=privacy,
        )
        ids = [data.source.ids[i] for i in self.canaries.indices]
        rows = [
            (name, int(is_inserted), f"{score:.9g}")
            for name, is_inserted, score in zip(ids, inserted, scores, strict=True)
        ]
        write_csv(folder / "canaries.csv", ["id", "inserted", "score"], rows)
        write_json(folder / "canaries.json", self.result.plain())
        for logger in trainer.loggers:
            values = {"auc": self.result.auc, "epsilon_at_least": self.result.certified.epsilon}
            numbers = {f"canaries/{name}": value for name, value in values.items() if value is not None}
            logger.log_metrics(numbers, 0)
        log.info(canary_headline(self.result))

    @torch.no_grad()
    def _scores(self, pl_module: LightningModule, data: SegmentationData) -> NDArray[np.float64]:
        samples = self.canaries.samples(data)
        training, losses = pl_module.training, []
        pl_module.eval()
        for start in range(0, len(samples), data.query_batch):
            rows = [samples[0, row] for row in range(start, min(start + data.query_batch, len(samples)))]
            batch = Batch(*(torch.stack(part).to(pl_module.device) for part in zip(*rows, strict=True)))
            losses.append(cast(_Judged, pl_module).forward_batch(batch)[0])
        pl_module.train(training)
        return -torch.cat(losses).double().cpu().numpy()
