"""Conditions of a differentially private training: checked before it, accounted for during it."""

import hashlib
import logging
import secrets
from typing import Any, NotRequired, TypedDict, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from seg_mia.atomic import written_whole
from seg_mia.callbacks.folder import run_folder
from seg_mia.data.base import SegmentationData
from seg_mia.data.poisson import PoissonBatches
from seg_mia.data.samples import run_seed
from seg_mia.defences.dp.accounting import Accountant, Mechanism
from seg_mia.defences.dp.checks import Trained, choose_mode, require_separable
from seg_mia.defences.dp.least_squares import begin_at_least_squares
from seg_mia.defences.dp.mechanism import DPGradient, DPTraining, number
from seg_mia.errors import InputError
from seg_mia.models.pretraining import PretrainedWeights
from seg_mia.runs import NOISE

log = logging.getLogger(__name__)

FAR_OFF = 1.1
"""Ratio of declared to true population beyond which a warning is given."""


class PublicNumbers(TypedDict):
    """Public constants of a private training, fixed until its end."""

    units: int
    batch: float
    rate: float
    delta: float


class DPState(PublicNumbers):
    """The accountant's state in a checkpoint; without release or pretrained in one of an earlier version."""

    steps: int
    noise: float
    release: NotRequired[float]
    accountant: Accountant
    pretrained: NotRequired[list[PretrainedWeights] | None]


class DPCallback(Callback):
    """Calibrate the noise, check the conditions of the guarantee, count steps and stop within the budget.

    Steps and mechanism are stored in checkpoints: a resumed training continues with its original noise. The
    secret behind batches and noise is drawn anew for each training and stored beside it: two trainings with
    the same noise would reveal the difference of their data.
    """

    def __init__(self, private: DPTraining, gradient_computer: DPGradient) -> None:
        self.private, self.gradient_computer = private, gradient_computer
        self.settings = private.settings
        self.saved: DPState | None = None
        self.stored_secret: bytes | None = None
        self.before = 0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse trainer settings that invalidate the accounting, and enable Poisson sampling."""
        if stage != "fit":
            return
        _refuse(trainer)
        data: SegmentationData = trainer.datamodule  # type: ignore[attr-defined]
        cast(Trained, pl_module).check(data)  # all that is trained on must be known before batches are drawn
        self.saved, self.before = None, self.private.steps
        file = run_folder(trainer) / NOISE
        stored = file.read_bytes() if file.is_file() else None
        self.stored_secret, fresh = trainer.strategy.broadcast((stored, secrets.token_bytes(32)))
        secret = str(run_seed()).encode() if self.settings.reproducible else fresh
        cached = cast(Trained, pl_module).cache_features
        self.private.begin(data, secret, lambda epoch: _planned(trainer, epoch), cached=cached)
        if self.settings.releases_alone:
            _one_empty_epoch(trainer)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Store the secret of the noise; restore the mechanism of a resumed training."""
        if self.saved is None and (self.before or self.private.released):
            self.private.steps = self.before
            raise InputError(
                f"these weights are those of a private training of {self.before} steps, which a new "
                "training would not count; resume from a checkpoint, or rebuild the network"
            )
        if not self.settings.reproducible and trainer.is_global_zero:
            with written_whole(run_folder(trainer) / NOISE, mode=0o600) as file:
                file.write(self.private.secret)
        if self.saved is None:
            self.private.pretrained = cast(Trained, pl_module).pretrained
            return
        begun = self.saved
        self.private.pretrained = begun.get("pretrained")
        self.private.steps = begun["steps"]
        mechanism = Mechanism(
            begun["noise"], begun["rate"], begun["delta"], begun["accountant"], begun.get("release", 0.0)
        )
        _require_same(begun, self._public())
        planned = 0 if self.settings.releases_alone else _planned(trainer, self.private.population.steps)
        self.private.use(mechanism, max(planned, self.private.steps))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check the actual sampler and network mode, and that samples are independent.

        Each sample's loss and gradient must be its own.
        """
        _require_poisson(trainer, self.private.drawn.key)
        if isinstance(trainer.strategy.model, DistributedDataParallel):
            trainer.strategy.model.require_backward_grad_sync = False  # sums are reduced after clipping
        if trainer.world_size > 1:
            self.gradient_computer.reduce = lambda tensor: _summed(trainer, tensor)
        data: SegmentationData = trainer.datamodule  # type: ignore[attr-defined]
        task = cast(Trained, pl_module)
        require_separable(task, data)
        at_once = self.settings.copies <= self.settings.physical_batch
        if self.settings.gradients != "loop" and self.settings.unit == "image" and at_once:
            self.gradient_computer.mode = choose_mode(task, data, self.settings.copies)
        if self.settings.gradients == "fused" != self.gradient_computer.mode:
            raise InputError(
                "fused gradients are not exact for this network; leave --model.defences.gradients on auto"
            )
        if self.settings.least_squares is not None and self.saved is None:
            begin_at_least_squares(task, data, self.private)
            self.private.released = True
        if trainer.is_global_zero:
            self._announce(data)
            _note_pretraining(task)
        if self.private.steps >= self.private.allowed and not self.settings.releases_alone:
            trainer.should_stop = True

    def _public(self) -> PublicNumbers:
        """Return the public constants of a training, fixed until its end."""
        drawn, delta = self.private.drawn, self.private.mechanism.delta
        return {
            "units": drawn.size,
            "batch": drawn.expected,
            "rate": self.private.mechanism.rate,
            "delta": delta,
        }

    def _announce(self, data: SegmentationData) -> None:
        private, mechanism = self.private, self.private.mechanism
        steps = min(private.planned, private.allowed)
        how = (
            f"one release of mu {mechanism.release:.3g} and no step (epochs, learning rate and clip have no "
            "effect) spends"
            if self.settings.releases_alone
            else f"noise {mechanism.noise:.3g}, clip {self.settings.clip:g}, sampling rate "
            f"{mechanism.rate:.4g}; {steps} steps will spend"
        )
        log.info(
            "%s over %d units (%s, %s): %s epsilon %.3g at delta %.3g",
            "least squares" if self.settings.releases_alone else "DP-SGD",
            private.drawn.size,
            self.settings.unit,
            "as declared" if self.settings.population else "as counted",
            how,
            mechanism.spent(steps),
            mechanism.delta,
        )
        self._warn_of_population()
        names = [data.source.groups[i] for i in data.trained()]
        if self.settings.unit == "image" and len(set(names)) < len(names):
            largest = max(names.count(name) for name in set(names))
            log.warning(
                "the guarantee is per image, but groups (patients) have up to %d images; set "
                "--model.defences.unit patient for a guarantee per group",
                largest,
            )

    def _warn_of_population(self) -> None:
        """Warn if the number of units is taken as public, or differs from the declared one."""
        declared, count, unit = self.settings.population, self.private.population.count, self.settings.unit
        if declared is None:
            log.warning(
                "the number of %ss, %d, is assumed public: sampling rate, steps and delta follow from it, so "
                "the guarantee holds only if it is; declare a public number with --model.defences.population",
                unit,
                count,
            )
        elif max(declared, count) > FAR_OFF * min(declared, count):
            log.warning(
                "the declared population is %d %ss, the training set has %d: the guarantee holds, but "
                "sampling rate, steps and delta follow from the declared number; declare a closer one",
                declared,
                unit,
                count,
            )

    def on_train_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,  # noqa: ARG002
        batch: Any,  # noqa: ARG002
        batch_idx: int,  # noqa: ARG002
    ) -> None:
        """Seed the step's other draws (dropout, defences) from the secret and no earlier state.

        With the run's seed, which may be public, one unit in a batch would change the draws of all later
        batches, and a sample's position in a batch those of its successors.
        """
        purpose = f"draws {self.private.steps} {trainer.global_rank}"
        torch.manual_seed(number(self.private.secret, purpose) % 2**63)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ARG002
        batch: Any,  # noqa: ARG002
        batch_idx: int,  # noqa: ARG002
    ) -> None:
        """Stop if the next step would exceed the budget."""
        private = self.private
        if len(self.gradient_computer.norms):
            clipped = (self.gradient_computer.norms > self.settings.clip).float().mean()
            pl_module.log("train/clipped", clipped, batch_size=1)
            pl_module.log("train/median_norm", self.gradient_computer.norms.median(), batch_size=1)
        spent = private.steps >= private.allowed
        if spent and private.allowed < private.planned:
            log.warning("the privacy budget is spent after %d steps; training stops", private.steps)
            trainer.should_stop = True
        if trainer.is_last_batch or spent:
            self._show(pl_module)

    def _show(self, pl_module: LightningModule) -> None:
        mechanism = self.private.mechanism
        values = {
            "epsilon": mechanism.spent(self.private.steps),
            "delta": mechanism.delta,
            "noise": mechanism.noise,
            "sampling_rate": mechanism.rate,
            "steps": float(self.private.steps),
        }
        if self.settings.releases_alone:
            values = {name: values[name] for name in ("epsilon", "delta")}
        for name, value in values.items():
            pl_module.log(
                f"privacy/{name}",
                value,
                prog_bar=name == "epsilon",
                on_step=False,
                on_epoch=True,
                batch_size=1,
                rank_zero_only=True,
            )

    def state_dict(self) -> dict[str, object]:
        """Return the accountant's state."""
        mechanism = self.private.mechanism
        return {
            "steps": self.private.steps,
            "noise": mechanism.noise,
            "release": mechanism.release,
            "accountant": mechanism.accountant,
            "pretrained": self.private.pretrained,
            **self._public(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state when training starts, with its original secret."""
        self.saved = cast(DPState, state_dict)
        if self.stored_secret is not None and not self.settings.reproducible:
            self.private.follow(self.stored_secret)
        if state_dict["steps"] % self.private.population.steps:
            # Saved within an epoch, which Lightning may begin again: its coins must not be used twice.
            number = str(state_dict["steps"]).encode()
            self.private.follow(hashlib.sha256(self.private.secret + number).digest())


def _note_pretraining(task: Trained) -> None:
    """Log which files the training starts from: what they were trained on is not covered."""
    for file in (task.encoder_weights, task.weights):
        if file not in {None, "imagenet"}:
            log.info(
                "the guarantee begins after the pre-training of %s: it must not have seen these images "
                "(published polyp networks and HyperKvasir contain Kvasir-SEG)",
                file,
            )


def _require_same(begun: DPState, now: PublicNumbers) -> None:
    """Raise InputError if a resumed training would continue with other public constants."""
    if "batch" not in begun:
        raise InputError(
            "this training began with an earlier version, which divided the noisy sum by a number that "
            "depends on the data; train again"
        )
    first, second = (
        (numbers["units"], numbers["batch"], numbers["rate"], numbers["delta"]) for numbers in (begun, now)
    )
    if first != second:
        descriptions = [
            f"population {units}, batch_size {batch}, sampling rate {rate:.4g} and delta {delta:.3g}"
            for units, batch, rate, delta in (first, second)
        ]
        raise InputError(
            f"a resumed training must keep its settings, {descriptions[0]}, got {descriptions[1]}; resume it "
            "with the original settings"
        )


def _refuse(trainer: Trainer) -> None:
    """Raise InputError for settings that the accounting does not cover."""
    if trainer.gradient_clip_val is not None:
        raise InputError(
            "gradient_clip_val would clip the noisy sum, not each unit's gradient, got "
            f"{trainer.gradient_clip_val}; leave it out, and set --model.defences.clip"
        )
    if trainer.accumulate_grad_batches != 1:
        raise InputError(
            f"accumulate_grad_batches must be 1 under DP-SGD, got {trainer.accumulate_grad_batches}: each "
            "batch is a step of the accounting; raise batch_size, physical_batch limits memory"
        )
    if trainer.precision not in {"32-true", "64-true"}:
        raise InputError(
            f"DP-SGD needs precision 32-true, got {trainer.precision}: norms and noise are inexact in half "
            "precision"
        )
    if trainer.fit_loop.min_epochs or trainer.fit_loop.min_steps:
        raise InputError(
            "min_epochs and min_steps contradict a privacy budget, which may end the training earlier; leave "
            "them out"
        )
    if getattr(trainer, "overfit_batches", 0):
        raise InputError("overfit_batches repeats one batch, which is not Poisson sampling; leave it out")


def _one_empty_epoch(trainer: Trainer) -> None:
    """Let a training without steps have one epoch of one empty batch, with validation and checkpoints."""
    trainer.fit_loop.max_epochs = 1
    trainer.limit_train_batches = 1.0
    trainer.check_val_every_n_epoch, trainer.val_check_interval = 1, 1.0


def _planned(trainer: Trainer, epoch: int) -> int:
    """Return the total number of steps of a training, given the batches per epoch.

    Lightning's own estimate builds the loader, too early for a loader that depends on the resumed position.
    """
    limit = trainer.limit_train_batches
    batches = int(epoch * limit) if isinstance(limit, float) else min(epoch, int(limit or epoch))
    ends = [batches * trainer.max_epochs] if trainer.max_epochs not in {None, -1} else []
    ends += [trainer.max_steps] if trainer.max_steps != -1 else []
    if not ends:
        raise InputError(
            "the noise depends on the planned number of steps, got no limit; set --trainer.max_epochs or "
            "--trainer.max_steps"
        )
    return min(ends)


def _require_poisson(trainer: Trainer, key: int) -> None:
    sampler = getattr(trainer.train_dataloader, "batch_sampler", None)
    expected = (key, trainer.global_rank, trainer.world_size)
    if not isinstance(sampler, PoissonBatches) or (sampler.key, sampler.rank, sampler.ranks) != expected:
        raise InputError(
            f"DP-SGD needs batches drawn by Poisson sampling, got a loader with {type(sampler).__name__}; "
            "return the loader of seg_mia.data.base from train_dataloader of the data module"
        )


def _summed(trainer: Trainer, tensor: Tensor) -> Tensor:
    total = trainer.strategy.reduce(tensor.clone(), reduce_op="sum")
    assert isinstance(total, torch.Tensor)
    return total
