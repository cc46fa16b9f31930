"""Evaluation of one adversarial attack on one victim model."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from seg_mia.attacks.base import Adversarial, Perturbation, attack_mode, usable
from seg_mia.attacks.gradients import input_gradient
from seg_mia.attacks.sanity import EPSILON, sanity_values, summarised
from seg_mia.attacks.transfer import Surrogates
from seg_mia.attacks.white_box import WhiteBox
from seg_mia.callbacks.folder import run_folder
from seg_mia.callbacks.outputs import AttackOutput
from seg_mia.checkpoint import load_victim
from seg_mia.data.base import SegmentationData
from seg_mia.data.halves import patient_halves
from seg_mia.data.samples import Batch
from seg_mia.errors import InputError
from seg_mia.metrics.distance import l2_norm, linf_norm, rounded
from seg_mia.metrics.label_sets import label_names
from seg_mia.metrics.labels import padding_of_images
from seg_mia.metrics.overlap import (
    foreground_dice,
    foreground_dice_per_class,
    foreground_iou,
    foreground_iou_per_class,
    foreground_names,
    mean_iou,
    pixel_accuracy,
)
from seg_mia.metrics.similarity import has_similarity, ssim
from seg_mia.models.answers import check_gradients, gives_gradients
from seg_mia.models.heads import class_count, final, measuring, predicted
from seg_mia.results.files import write_csv
from seg_mia.results.robustness import FittingSet, SanityCheck
from seg_mia.runs import surrogate_files
from seg_mia.tasks.halving import Halving
from seg_mia.tasks.sample_check import check_one_sample
from seg_mia.tasks.targets import TargetMasks


class PerturbationTest(LightningModule):
    """Perturb each test image and evaluate the victim's predictions.

    Args:
        victim: victim model, from images in [0, 1] to logits.
        attack: the attack.
        surrogate: the attacker's own network; each image is also attacked on it, and the result transferred
            to the victim.
        others: other victims by name, which are shown the same changed images.

    Attributes:
        other_names: names of the other victims, whose measures are `otherN.dice`, N from 1.
        source: network on which the images are crafted: the surrogate of an attack on surrogates, or if the
            attack needs gradients and the victim gives none, else the victim.

    Raises:
        InputError: an attack with gradients on a victim without, and no surrogate.
    """

    def __init__(
        self,
        victim: nn.Module,
        attack: Perturbation,
        *,
        surrogate: nn.Module | None = None,
        others: Mapping[str, nn.Module] | None = None,
    ) -> None:
        super().__init__()
        self.other_names, self.others = list(others or {}), nn.ModuleList((others or {}).values())
        self.victim = victim
        self.attack = attack
        self.surrogate = surrogate
        self.fitting: np.ndarray[tuple[int], np.dtype[np.int64]] | None = None
        self.fitted: FittingSet | None = None
        self.classes: int | None = None
        self._checks = list[dict[str, Tensor]]()
        self.source, self.halving = victim, Halving(victim, surrogate, *self.others)
        if attack.on_surrogate and surrogate is not None:
            self.source = surrogate
        elif isinstance(attack, WhiteBox) and not gives_gradients(victim):
            if surrogate is None:
                check_gradients(victim, type(attack).__name__.lower())
            else:
                self.source = surrogate

    @property
    def transfers_only(self) -> bool:
        """Whether the images are crafted on the surrogate, and shown to the victim afterwards."""
        return self.source is not self.victim

    def setup(self, stage: str) -> None:  # noqa: ARG002
        """Divide the patients for an attack that is fitted; raise InputError if there is no image to attack.

        Lightning would finish silently.
        """
        if self.trainer.limit_test_batches == 0:
            raise InputError(
                "an attack needs images, got none from --trainer.limit_test_batches 0; leave it out"
            )
        if self.attack.fits and self.fitting is None:
            data: SegmentationData = self.trainer.datamodule  # type: ignore[attr-defined]
            seed = self.attack.fitting_seed
            self.fitting, _ = patient_halves(data.attacked(), data.source.groups, seed)
            data.withheld = tuple(self.fitting.tolist())

    def on_test_start(self) -> None:
        """Choose the target masks; write their similarities if these determine the choice."""
        data: SegmentationData = self.trainer.datamodule  # type: ignore[attr-defined]
        for network in (self.victim, self.surrogate, *self.others):
            if network is not None:
                check_one_sample(network, data)
        self.attack.check(self.source)
        self.classes = data.source.classes
        if self.fitting is not None:
            with measuring(self.classes):
                self._fit(data, self.fitting.tolist())
        self.targets = TargetMasks(self.attack, data)
        if self.targets.similarity is not None and self.trainer.is_global_zero:
            self._write_similarity(data, self.targets.similarity)

    def _fit(self, data: SegmentationData, chosen: Sequence[int]) -> None:
        """Fit the attack to the chosen samples, for the source and the surrogate; write the former's."""
        samples = data.dataset(np.array(chosen, dtype=np.int64))
        batch = [samples[0, row] for row in range(len(samples))]
        images, masks = (torch.stack([sample[part] for sample in batch]) for part in (0, 1))
        first = self.source if self.surrogate is None else self.surrogate
        for network in dict.fromkeys((first, self.source)):
            files = self.attack.fit(network, images.to(self.device), masks.to(self.device))
        if self.trainer.is_global_zero:
            for name, values in files.items():
                np.save(run_folder(self.trainer) / f"{name}.npy", values.float().cpu().numpy())
        groups = {data.source.groups[index] for index in chosen}
        self.fitted = FittingSet(images=len(chosen), units=len(groups)) if files else None

    def _write_similarity(self, data: SegmentationData, similarity: Tensor) -> None:
        ids = [data.source.ids[index] for index in data.scored(data.subset)]
        rows = [
            [name, *("" if row == column else f"{value:.6g}" for column, value in enumerate(values))]
            for row, (name, values) in enumerate(zip(ids, similarity.tolist(), strict=True))
        ]
        write_csv(run_folder(self.trainer) / "similarity.csv", ["id", *ids], rows)

    def test_step(self, batch: Batch, batch_idx: int) -> AttackOutput:
        """Attack one batch; evaluate in full precision regardless of the attack's precision."""
        with measuring(self.classes):
            return self._attacked(batch, batch_idx)

    def _attacked(self, batch: Batch, batch_idx: int) -> AttackOutput:
        target = self.targets(batch)
        adversarial = self._crafted(self.source, batch, target)
        before, classes = self._predicted(self.victim, batch, batch.image)
        then, _ = self._predicted(self.victim, batch, adversarial.images)
        coarse, _ = self._predicted(self.victim, batch, rounded(adversarial.images))
        measures = {
            **against_truth(batch.mask, clean=before, prediction=then, classes=classes),
            **against_target(target, clean=before, prediction=then, coarse=coarse, classes=classes),
            **distortion(batch.image, adversarial.images, where=self._perturbed(batch)),
            **self._transferred(batch, target, classes, adversarial if self.transfers_only else None),
            **self._on_others(batch, adversarial.images),
            **self._stopped(batch, adversarial),
        }
        return {
            "target": target,
            "clean": before,
            "prediction": then,
            "adversarial": adversarial,
            "measures": measures,
            "sanity": self._checked(batch, batch_idx),
            "fitted": self.fitted if batch_idx == 0 else None,
        }

    def _predicted(self, model: nn.Module, batch: Batch, images: Tensor) -> tuple[Tensor, int]:
        """Return a network's class maps (N, *s) in full precision, and the number of classes.

        Args:
            model: the victim or the surrogate.
            batch: samples that the images show.
            images: (N, C, *S) in [0, 1].
        """

        @torch.no_grad()
        def answer(part: Batch, _: Tensor) -> tuple[Tensor, int]:
            with torch.autocast(self.device.type, enabled=False):
                logits = final(model(part.image))
            return predicted(logits), class_count(logits) if self.classes is None else self.classes

        parts = self.halving.parts(answer, batch._replace(image=images), batch.mask)
        return torch.cat([maps for maps, _ in parts]), parts[0][1]

    def _perturbed(self, batch: Batch) -> Tensor | None:
        """Return the voxels that the attack may change, bool (N, *S), or None for all."""
        if batch.mask.ndim != 4 or not self.attack.keeps_padding:
            return None
        return ~padding_of_images(batch.mask, batch.image.shape[2:])

    def _crafted(self, model: nn.Module, batch: Batch, target: Tensor) -> Adversarial:
        """Return the attack's result with the padding as it was."""

        def attack(part: Batch, wanted: Tensor) -> Adversarial:
            return self.attack.judged(model, part.image, wanted, part.mask)

        adversarial = self.halving(attack, batch, target)
        where = self._perturbed(batch)
        if where is None:
            return adversarial
        return replace(adversarial, images=torch.where(where.unsqueeze(1), adversarial.images, batch.image))

    def _stopped(self, batch: Batch, adversarial: Adversarial) -> dict[str, Tensor]:
        """Return images without gradient, for gradient-based attacks that do not report them."""
        if not isinstance(self.attack, WhiteBox) or "no_gradient" in adversarial.notes:
            return {}
        model = self.attack.differentiable(self.source)
        parts = self.halving.parts(lambda part, _: unreached(model, part.image), batch, batch.mask)
        return {"no_gradient": torch.cat(parts)}

    def _checked(self, batch: Batch, batch_idx: int) -> SanityCheck | None:
        """Return whether the victim's gradients can be followed, on the first images so far, if asked for.

        None for images that are crafted on a surrogate, whose gradients say nothing of the victim, and once
        enough images are checked.
        """
        if not isinstance(self.attack, WhiteBox) or self.transfers_only:
            return None
        if batch_idx == 0:
            self._checks = []
        missing = self.attack.sanity_images - sum(len(check["dice"]) for check in self._checks)
        if missing <= 0:
            return None
        first = Batch(*(values[:missing] for values in batch))
        model = self.attack.differentiable(self.source)
        self._checks += self.halving.parts(
            lambda part, mask: sanity_values(model, part.image, mask, epsilon=EPSILON), first, first.mask
        )
        values = {name: torch.cat([check[name] for check in self._checks]) for name in self._checks[0]}
        return summarised(values, epsilon=EPSILON)

    def _on_others(self, batch: Batch, images: Tensor) -> dict[str, Tensor]:
        """Return the Dice of other victims on the images before and after."""
        values = {}
        for number, network in enumerate(self.others, 1):
            for name, shown in (("dice_clean", batch.image), ("dice", images)):
                maps, classes = self._predicted(network, batch, shown)
                values[f"other{number}.{name}"] = foreground_dice(maps, batch.mask, classes)
        return values

    def _transferred(
        self, batch: Batch, target: Tensor, classes: int, crafted: Adversarial | None
    ) -> dict[str, Tensor]:
        """Return the effect on the victim of an attack on the surrogate, `crafted` if it was run before."""
        if self.surrogate is None or self.attack.on_surrogate:
            return {}
        crafted = crafted or self._crafted(self.surrogate, batch, target)
        surrogate_prediction, victim_prediction = (
            self._predicted(network, batch, crafted.images)[0] for network in (self.surrogate, self.victim)
        )
        reached = mean_iou(victim_prediction, target, classes)
        won = self.attack.succeeded(reached)
        return {
            "surrogate_iou": foreground_iou(surrogate_prediction, target, classes),
            "transfer_iou": foreground_iou(victim_prediction, target, classes),
            "transfer_mean_iou": reached,
            "transfer_dice": foreground_dice(victim_prediction, batch.mask, classes),
            "transfer_linf": linf_norm(crafted.images - batch.image),
            **({} if won is None else {"transfer_success": won}),
        }


def unreached(model: nn.Module, images: Tensor) -> Tensor:
    """Return 1 for images without a gradient of the network's output, else 0, (N,).

    Uses a fixed random combination of the logits: a loss may be flat for confident predictions, and a sum of
    probabilities is constant, even if gradients propagate.

    Args:
        model: network from images (N, C, H, W) in [0, 1] to logits, or a tuple of them, final head first.
        images: images in [0, 1].
    """
    with attack_mode(model):
        x = usable(images).clone().requires_grad_()
        logits = final(model(x))
        draw = torch.Generator().manual_seed(0)
        weights = torch.randn(logits.shape[1:], generator=draw).to(logits)
        gradient = input_gradient((logits * weights).sum(), x)
    return (gradient.flatten(1) == 0).all(1).to(images.dtype)


def load_surrogate(attack: Perturbation, *, trust: Collection[str]) -> nn.Module | None:
    """Return the surrogate network of an attack, or its networks as one, if any."""
    if attack.surrogate is None:
        return None
    files = surrogate_files(attack.surrogate)
    if len(files) > 1 and not attack.on_surrogate:
        raise InputError(
            f"this attack takes one surrogate, got {len(files)} in {attack.surrogate}; name one, or use "
            "--attack transfer"
        )
    networks = [load_victim(file, trust=trust) for file in files]
    return networks[0] if len(networks) == 1 else Surrogates(networks)


def load_others(attack: Perturbation, *, trust: Collection[str]) -> dict[str, nn.Module]:
    """Return the other victims of an attack by their runs' names; raise InputError for one named twice."""
    files = [] if attack.others is None else surrogate_files(attack.others)
    if len(set(files)) < len(files):
        raise InputError(f"others must be different runs, got {attack.others}; name each once")
    names = ["/".join(file.parts[-4:-2]) or file.name for file in files]
    unique = names if len(set(names)) == len(names) else [f"{n}. {name}" for n, name in enumerate(names, 1)]
    return {name: load_victim(file, trust=trust) for name, file in zip(unique, files, strict=True)}


def against_truth(mask: Tensor, *, clean: Tensor, prediction: Tensor, classes: int) -> dict[str, Tensor]:
    """Return the foreground Dice before and after the attack; of several labels each one's Dice and IoU."""
    values = {
        "dice_clean": foreground_dice(clean, mask, classes),
        "dice_adversarial": foreground_dice(prediction, mask, classes),
    }
    for name, maps in (("clean", clean), ("adversarial", prediction)):
        if label_names(classes) or classes > 2:
            for measure, overlap in (
                ("dice", foreground_dice_per_class),
                ("truth_iou", foreground_iou_per_class),
            ):
                labels = zip(foreground_names(classes), overlap(maps, mask, classes).unbind(1), strict=True)
                values |= {f"{measure}_{name}_{label}": value for label, value in labels}
    return values


def against_target(
    target: Tensor, *, clean: Tensor, prediction: Tensor, coarse: Tensor, classes: int
) -> dict[str, Tensor]:
    """Return the overlap with the target mask: before, after, and after rounding the image to 8 bits."""
    return {
        "iou_before": foreground_iou(clean, target, classes),
        "iou": foreground_iou(prediction, target, classes),
        "iou_8bit": foreground_iou(coarse, target, classes),
        "mean_iou": mean_iou(prediction, target, classes),
        "pixel_accuracy": pixel_accuracy(prediction, target, classes),
    }


def distortion(image: Tensor, adversarial: Tensor, *, where: Tensor | None = None) -> dict[str, Tensor]:
    """Return distances between original and perturbed image; SSIM of the pixels `where` (N, *S), if given.

    SSIM is NaN for images smaller than its window: the attack and its other measures need none.
    """
    change = adversarial - image
    defined = has_similarity(image.shape)
    likeness = ssim(adversarial, image, where=where) if defined else image.new_full((len(image),), torch.nan)
    return {"l2": l2_norm(change), "linf": linf_norm(change), "ssim": likeness}
