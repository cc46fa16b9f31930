"""Training and evaluation of a segmentation network."""

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, Literal, assert_never

import torch
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from seg_mia.callbacks.outputs import StepOutput
from seg_mia.config.spec import ClassSpec
from seg_mia.data.base import SegmentationData
from seg_mia.data.samples import Batch
from seg_mia.defences.base import (
    Defence,
    DPGuaranteeContent,
    GradientComputer,
    check_data,
    check_together,
    wrapped,
    wrapped_spec,
)
from seg_mia.defences.release import Release
from seg_mia.errors import InputError
from seg_mia.losses import LOSSES, OF_LABEL_SETS, LossName
from seg_mia.metrics.label_sets import label_names
from seg_mia.metrics.labels import labelled
from seg_mia.models.feature_cache import FeatureCache
from seg_mia.models.heads import at_size, final, heads, predicted
from seg_mia.models.memory import recompute_features, to_channels_last
from seg_mia.models.one_head import OneHead, OutputSettings
from seg_mia.models.output_form import Gives
from seg_mia.models.pretraining import PretrainedWeights
from seg_mia.models.prompts import prompts_from
from seg_mia.models.weights import load_initial
from seg_mia.models.wrapper import around_bare, bare
from seg_mia.tasks.cached_features import feature_cache
from seg_mia.tasks.head_choice import choose_head
from seg_mia.tasks.output_choice import detected_gives, detected_resize
from seg_mia.tasks.sample_check import check_one_sample
from seg_mia.tasks.smallest_batch import check_batches

Optimizer = Literal["nadam", "adam", "adamw", "sgd"]
Schedule = Literal["constant", "cosine", "poly"]
WARM_UP, POWER = 0.1, 0.9
"""Of the schedule `poly`: share of the steps with a rising rate, and power of the decay."""


class Segmentation(LightningModule):
    """Segmentation task: network, loss, optimiser and defences.

    Args:
        network: network from images in [0, 1] to logits; any `nn.Module`, given by class path.
        loss: per-image loss; the batch loss is its mean over images with a labelled pixel, and over all
            heads of a network with several.
        optimizer: optimiser with its own defaults, except for the two settings below; sgd has momentum 0.9.
        lr: learning rate.
        weight_decay: weight decay as defined by the optimiser.
        schedule: learning rate schedule: `constant`, `cosine` decays to 0 over the whole training, `poly`
            rises linearly over the first tenth of the steps, then decays to 0 as (1 - t)^0.9.
        encoder_weights: initial weights of the encoder: `imagenet` (downloads), a local file, or none.
        weights: local state dict with initial weights of the whole network.
        weights_key: its location in the file, where several differ, such as `ema` or `state.model`.
        frozen: prefixes of parameters, such as `encoder.conv1`, that keep their initial values.
        cache_features: compute the features of a frozen encoder once for each image of a training, and keep
            them in memory. Needs unchanged images: no augmentation, no defence that alters samples.
        head: deployed output map of a network with several, by key, field or position (-1 is the last);
            detected automatically if only one matches size and classes of the masks.
        gives: values of the output: logits, probabilities that sum to 1 over the channels, or sigmoid
            outputs; `multilabel` and `multilabel_sigmoid` are logits and sigmoid outputs of labels that may
            overlap; detected if not given.
        resize: enlarge an output smaller than the image to its size; detected if not given.
        channels_last: store weights and features of convolutions with their channels last, which is faster on
            many machines and changes results by rounding.
        checkpointing: keep only the inputs of the network's blocks for the backward pass, which computes the
            rest again: less memory, a third more time, the same gradients.
        defences: defences on samples, batches, loss or network, applied in this order.

    Attributes:
        network: the deployed network, with the wrappers of the defences.
        resumed: weights will come from a checkpoint; Lightning reports this only after `setup`.
        adopted: whether the network was trained elsewhere.
        agreement: comparison with the deployed system's predictions, as plain values, if there was one.
        pretrained: identities of the weights that the training started from; None if none has started here.
    """

    resumed = False
    adopted = False
    agreement: dict[str, float] | None = None
    pretrained: list[PretrainedWeights] | None = None
    _feature_cache: FeatureCache | None

    def __init__(
        self,
        network: nn.Module,
        *,
        loss: LossName = "dice_cross_entropy",
        optimizer: Optimizer = "nadam",
        lr: float = 1e-4,
        weight_decay: float = 0.0,
        schedule: Schedule = "constant",
        encoder_weights: str | None = None,
        weights: str | None = None,
        weights_key: str | None = None,
        frozen: list[str] | None = None,
        cache_features: bool = False,
        head: int | str | None = None,
        gives: Gives | None = None,
        resize: bool | None = None,
        channels_last: bool = False,
        checkpointing: bool = False,
        defences: list[Defence] | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        if not lr > 0 or weight_decay < 0:
            raise InputError(f"lr must be above 0 and weight_decay not below, got {lr} and {weight_decay}")
        self.defences = list(defences or [])
        check_together(self.defences)
        if any(isinstance(defence, Release) for defence in self.defences):
            raise InputError(
                "a limit on the released output is set at test time, test --release NAME; leave it out"
            )
        self.network = wrapped(network, self.defences)
        self.head, self.gives, self.resize = head, gives, resize
        self._wrap_output()
        if channels_last:
            to_channels_last(self.network)
        if checkpointing:
            recompute_features(bare(self.network))
        _freeze(bare(self.network), frozen or [])
        self.loss: LossName = loss
        self.loss_per_image = LOSSES[loss]
        self.optimizer, self.lr, self.weight_decay, self.schedule = optimizer, lr, weight_decay, schedule
        self.cache_features, self._feature_cache = cache_features, None
        self.encoder_weights, self.weights, self.weights_key = encoder_weights, weights, weights_key

    def setup(self, stage: str) -> None:
        """Load the initial weights, unless a checkpoint provides them; test one sample."""
        if stage == "fit" and not self.resumed:
            sources = self.encoder_weights, self.weights, self.weights_key
            self.pretrained = load_initial(bare(self.network), *sources)
        data = getattr(self.trainer, "datamodule", None)
        if isinstance(data, SegmentationData):
            if stage == "fit":
                self.check(data)
                if not self.resumed:
                    self.choose_output(data, trained=self.weights is not None)
            check_one_sample(self.network, data)
            if stage == "fit":
                check_batches(self.network, data, self.trainer, changed=self._defended)

    def check(self, data: SegmentationData) -> None:
        """Let defences modify the training samples; raise InputError if the data does not allow one."""
        check_data(self.defences, data)
        self._check_loss(data)

    def _check_loss(self, data: SegmentationData) -> None:
        """Raise InputError for a loss that does not fit the kind of classes."""
        names = label_names(data.source.classes)
        if names and self.loss not in OF_LABEL_SETS:
            raise InputError(
                f"labels of the data may overlap ({', '.join(names)}), and loss {self.loss} compares sets of "
                f"them as classes; set --model.loss {OF_LABEL_SETS[0]}, or {' or '.join(OF_LABEL_SETS[1:])}"
            )
        if not names and self.loss.startswith("label_"):
            raise InputError(
                f"loss {self.loss} is for labels that may overlap, classes of this data exclude each other; "
                "set --model.loss dice_cross_entropy"
            )

    def choose_output(self, data: SegmentationData, *, trained: bool) -> None:
        """Detect the deployed output map among several, its values and size, unless configured."""
        network = bare(self.network)
        if self.head is None:
            self.head = choose_head(network, data, trained=trained)
        output = OneHead(network, head=self.head)
        if self.gives is None:
            self.gives = detected_gives(output, data, trained=trained)
        if self.resize is None:
            self.resize = detected_resize(output, data)
        self._wrap_output()

    def resume_output(self, settings: Mapping[str, object]) -> None:
        """Restore what the resumed training, of these settings, read of the network's output."""
        for name in ("head", "gives", "resize"):
            if getattr(self, name) is None:
                setattr(self, name, settings.get(name))
        self._wrap_output()

    def _wrap_output(self) -> None:
        """Convert the network's output, inside all defence wrappers and in checkpoints, where needed."""
        self.hparams.update(head=self.head, gives=self.gives, resize=self.resize)
        settings = self._output_settings()
        wrapper = next((module for module in self.network.modules() if isinstance(module, OneHead)), None)
        if wrapper is not None:
            wrapper.head, wrapper.gives, wrapper.resize = self.head, self.gives or "logits", bool(self.resize)
        elif settings:
            self.network = around_bare(self.network, lambda network: OneHead(network, **settings))

    def _output_settings(self) -> OutputSettings:
        """Return the settings of the wrapper of the output; empty if it is taken as it is."""
        settings: OutputSettings = {}
        if self.head is not None:
            settings["head"] = self.head
        if self.gives is not None and self.gives != "logits":
            settings["gives"] = self.gives
        if self.resize:
            settings["resize"] = True
        return settings

    def deployed_spec(self, network: ClassSpec) -> ClassSpec:
        """Return class path and arguments of `self.network`, given those of the inner network."""
        if settings := self._output_settings():
            path = f"{OneHead.__module__}.{OneHead.__qualname__}"
            network = {"class_path": path, "init_args": {"network": dict(network), **settings}}
        return wrapped_spec(network, self.defences)

    def configure_callbacks(self) -> list[Callback]:
        """Return the callbacks of the defences."""
        return [callback for defence in self.defences for callback in defence.callbacks()]

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (N, K, *s) of the final head."""
        return final(self.network(x))

    def on_train_start(self) -> None:
        """Start the cache of features, or raise InputError if they would change."""
        if self.cache_features:
            self._feature_cache = feature_cache(self.network, self.defences, self.trainer.datamodule)  # type: ignore[attr-defined]

    def on_train_end(self) -> None:
        """Release the features."""
        self._feature_cache = None

    def training_step(self, batch: Batch, batch_idx: int) -> StepOutput:  # noqa: ARG002
        """Return the mean loss with penalties of defences, and the per-image losses."""
        if len(batch.image):  # Poisson sampling draws empty batches
            with prompts_from(batch.mask):
                batch = self._defended(batch)
        with self.cached_features():
            gradient_computer = self.gradient_computer
            if gradient_computer is None:
                return self._step(batch, self.defences)
            return gradient_computer.step(self.forward_batch, batch, self.trained_parameters())

    def _defended(self, batch: Batch) -> Batch:
        """Return the batch after all defences."""
        for defence in self.defences:
            batch = defence.sample(batch, self.network)
        for defence in self.defences:
            batch = defence.batch(batch, self.network)
        for defence in self.defences:
            batch = defence.perturb(batch, self.network)
        return batch

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Compute the gradients by backpropagation, or by a defence."""
        gradient_computer = self.gradient_computer
        if gradient_computer is None:
            super().backward(loss, *args, **kwargs)
        else:
            gradient_computer.write(self.trained_parameters())

    @property
    def gradient_computer(self) -> GradientComputer | None:
        """Gradient computation that replaces backpropagation, if any."""
        return next(
            (defence.gradient_computer for defence in self.defences if defence.gradient_computer is not None),
            None,
        )

    def trained_parameters(self) -> dict[str, nn.Parameter]:
        """Return the parameters that are not frozen, by name."""
        return {
            name: parameter for name, parameter in self.network.named_parameters() if parameter.requires_grad
        }

    @property
    def dp_guarantee(self) -> DPGuaranteeContent | None:
        """Differential privacy guarantee of the training so far, if any."""
        guarantees = [defence.dp_guarantee() for defence in self.defences]
        return next((guarantee for guarantee in guarantees if guarantee is not None), None)

    def validation_step(self, batch: Batch, batch_idx: int) -> StepOutput:  # noqa: ARG002
        """Return loss and prediction of each image."""
        with self.cached_features():
            return self._step(batch)

    def cached_features(self) -> AbstractContextManager[None]:
        """Return the context in which the encoder answers from memory, if features are cached."""
        return nullcontext() if self._feature_cache is None else self._feature_cache.serving()

    def predict_step(self, batch: Batch, batch_idx: int) -> StepOutput:  # noqa: ARG002
        """Return loss and prediction of each image."""
        return self._step(batch)

    def forward_batch(self, batch: Batch) -> tuple[Tensor, StepOutput]:
        """Return per-image losses (N,), differentiable, and the step output without penalties."""
        losses, _, output = self._forward(batch)
        return losses, output

    def _forward(self, batch: Batch) -> tuple[Tensor, Tensor, StepOutput]:
        if self._feature_cache is not None:
            self._feature_cache.select(batch.index)
        with prompts_from(batch.mask):
            answer = self.network(batch.image)
        if isinstance(answer, Tensor) and answer.ndim > batch.image.ndim:  # a stack, the final head first
            answer = answer.unbind(1)
        first, *auxiliary = heads(answer)
        sized = [first, *(at_size(logits, first) for logits in auxiliary)]
        losses = torch.stack([self.loss_per_image(logits, batch.mask) for logits in sized]).mean(0)
        counted = labelled(batch.mask)
        output: StepOutput = {
            "loss": losses.sum() / counted.sum().clamp(min=1),  # images without a labelled pixel cost 0
            "losses": losses.detach().masked_fill(~counted, torch.nan),
            "prediction": predicted(final(answer).detach()),
            "mask": batch.mask,
        }
        return losses, final(answer), output

    def _step(self, batch: Batch, defences: Sequence[Defence] = ()) -> StepOutput:
        _, logits, output = self._forward(batch)
        for defence in defences:
            penalty = defence.penalty(logits, batch, self.network)
            if penalty is not None:
                output["loss"] = output["loss"] + penalty.sum()
        return output

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return the optimiser, with a schedule over all steps if configured."""
        if not self.trained_parameters():
            raise InputError(
                f"{type(bare(self.network)).__name__} has no weights to train; use adopt, and train a shadow "
                "of a class with weights"
            )
        lr = self.lr * math.prod(defence.lr_factor for defence in self.defences)
        optimizer = _optimizer(
            self.optimizer, self.trained_parameters().values(), lr=lr, weight_decay=self.weight_decay
        )
        match self.schedule:
            case "constant":
                return optimizer
            case "cosine":
                steps = int(self.trainer.estimated_stepping_batches)
                scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=max(steps, 1))
                return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
            case "poly":
                factor = partial(_poly, steps=max(int(self.trainer.estimated_stepping_batches), 1))
                decay = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
                return {"optimizer": optimizer, "lr_scheduler": {"scheduler": decay, "interval": "step"}}
            case _:
                assert_never(self.schedule)


def _poly(step: int, *, steps: int) -> float:
    """Return the factor on the learning rate of step 0, 1, ... under the schedule `poly`."""
    rising = max(1, round(WARM_UP * steps))
    if step < rising:
        return (step + 1) / rising
    return float((1 - (step - rising) / max(steps - rising, 1)) ** POWER) if step < steps else 0.0


def _freeze(network: nn.Module, beginnings: Sequence[str]) -> None:
    named = {name.removeprefix("network."): parameter for name, parameter in network.named_parameters()}
    for beginning in beginnings:
        frozen = [name for name in named if name.startswith(beginning)]
        if not frozen or len(frozen) == len(named):
            parts = sorted({".".join(name.split(".")[:2]) for name in named})
            raise InputError(
                f"frozen must name some parts of the network, but not all, got {beginning!r}; its parts: "
                f"{', '.join(parts[:30])}"
            )
        for name in frozen:
            named[name].requires_grad_(False)


def _optimizer(
    name: Optimizer, parameters: Iterable[nn.Parameter], *, lr: float, weight_decay: float
) -> torch.optim.Optimizer:
    match name:
        case "nadam":
            return torch.optim.NAdam(parameters, lr=lr, weight_decay=weight_decay)
        case "adam":
            return torch.optim.Adam(parameters, lr=lr, weight_decay=weight_decay)
        case "adamw":
            return torch.optim.AdamW(parameters, lr=lr, weight_decay=weight_decay)
        case "sgd":
            return torch.optim.SGD(parameters, lr=lr, momentum=0.9, weight_decay=weight_decay)
        case _:
            assert_never(name)
