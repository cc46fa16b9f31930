"""Mechanism, noise and steps of a differentially private training."""

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from seg_mia.callbacks.outputs import StepOutput
from seg_mia.data.base import SegmentationData
from seg_mia.data.poisson import PoissonData, Population
from seg_mia.data.samples import Batch
from seg_mia.defences.base import DPGuaranteeContent, Forward, GradientComputer
from seg_mia.defences.dp.accounting import Accountant, Mechanism, noise_for, share_of_mu
from seg_mia.errors import InputError
from seg_mia.grad_sample.clipping import Clipping, Mode, clipped_sum
from seg_mia.models.pretraining import PretrainedWeights

Unit = Literal["image", "patient"]


def default_delta(units: int) -> float:
    """Return a tenth of one over a public number of units: delta = 1/n may reveal a whole unit."""
    return 1 / (10 * units)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of `DPSGD`."""

    epsilon: float | None
    noise: float | None
    delta: float | None
    clip: float
    clipping: Clipping = "bound"
    unit: Unit
    accountant: Accountant
    physical_batch: int
    gradients: Literal["auto", "fused", "loop"]
    reproducible: bool
    population: int | None = None
    copies: int = 1
    ema: float | None = None
    tail: float | None = None
    least_squares: float | None = None

    @property
    def releases_alone(self) -> bool:
        """Whether one release of second moments takes the whole budget, so that no step is taken."""
        return self.least_squares == 1


class DPTraining:
    """A training with its mechanism, population and completed steps; call `begin` first.

    Attributes:
        settings: settings given by the user.
        steps: completed steps, over all sessions of a resumed training.
        planned: planned steps of the training.
        allowed: number of steps within epsilon.
        released: whether second moments were released in this process.
        pretrained: the weights that the training started from; None if not recorded.
    """

    drawn: PoissonData
    mechanism: Mechanism
    secret: bytes
    planned: int
    allowed: int

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.steps = 0
        self.released = False
        self.pretrained: list[PretrainedWeights] | None = None

    def begin(
        self,
        data: SegmentationData,
        secret: bytes,
        planned: Callable[[int], int],
        *,
        cached: bool = False,
    ) -> None:
        """Enable Poisson sampling of the data and calibrate the noise.

        Args:
            data: data module after setup.
            secret: source of noise and batches.
            planned: function from the batches per epoch to the planned number of steps.
            cached: features are computed once, so that copies of a sample must be the same in every step.

        Raises:
            InputError: the guarantee cannot hold within the planned steps.
        """
        settings = self.settings
        self.steps = 0
        self.drawn = PoissonData(
            data,
            grouped=settings.unit == "patient",
            size=settings.population,
            copies=settings.copies,
            repeats=cached and settings.copies > 1,
            draws=not settings.releases_alone,
        )
        self.follow(secret)
        data.batches = self.drawn
        delta = settings.delta or default_delta(self.drawn.size)
        noise, release = settings.noise, 0.0
        if settings.least_squares is not None and settings.epsilon is not None:
            release = share_of_mu(settings.epsilon, delta=delta, share=settings.least_squares)
        elif settings.least_squares is not None:
            release = math.inf  # a training without guarantee begins at the exact moments
        if settings.releases_alone:
            self.use(Mechanism(math.inf, 1.0, delta, settings.accountant, release), 0)
            return
        rate, steps = self.population.rate, planned(self.population.steps)
        if noise is None:
            assert settings.epsilon is not None
            noise = noise_for(
                settings.epsilon,
                delta=delta,
                rate=rate,
                steps=steps,
                accountant=settings.accountant,
                release=release,
            )
        self.use(Mechanism(noise, rate, delta, settings.accountant, release), steps)

    def follow(self, secret: bytes) -> None:
        """Derive all later draws from a secret."""
        self.secret = secret
        self.drawn.key = number(secret, "batches")

    @property
    def population(self) -> Population:
        """Number of units in the sampling population."""
        return self.drawn.population

    def use(self, mechanism: Mechanism, planned: int) -> None:
        """Set a mechanism, and compute how many steps the budget allows."""
        self.mechanism, self.planned = mechanism, planned
        epsilon = self.settings.epsilon
        self.allowed = planned if epsilon is None else mechanism.steps_within(epsilon, planned)
        if self.allowed < min(planned, 1):
            raise InputError(
                f"epsilon {epsilon:g} does not suffice for one step with noise {mechanism.noise:g} and delta "
                f"{mechanism.delta:.3g}; raise noise, or leave it out for calibration"
            )

    def dp_guarantee(self) -> DPGuaranteeContent | None:
        """Return guarantee and privacy spent in plain values; None before training."""
        if not hasattr(self, "mechanism"):
            return None
        declared, steps_taken = self.settings.population is not None, not self.settings.releases_alone
        return {
            "epsilon": self.mechanism.spent(self.steps),
            "replace_one": self.mechanism.replaced(self.steps),
            "delta": self.mechanism.delta,
            "budget": self.settings.epsilon,
            "unit": self.settings.unit,
            "neighbours": "add or remove one" if declared else "blank one, the number of units being public",
            "units": self.drawn.size,
            "declared": declared,
            "batch": self.drawn.expected if steps_taken else None,
            "permitted": asdict(self.mechanism.permitted(self.steps)),
            "noise": self.mechanism.noise if steps_taken else None,
            "clip": self.settings.clip if steps_taken else None,
            "rate": self.mechanism.rate,
            "steps": self.steps,
            "release": self.mechanism.release,
            "accountant": self.mechanism.accountant,
            "reproducible": self.settings.reproducible,
            "pretrained": self.pretrained,
        }


class DPGradient(GradientComputer):
    """The noisy sum of clipped gradients over the expected number of units per batch.

    That number is the public `batch_size`, independent of the data: if a unit changed the divisor, it would
    change the scale of the noise, which is visible in each of the weights.

    Attributes:
        mode: method for gradients of single units.
        reduce: sums a tensor over processes, if there are several.
        norms: norms of the last batch's units on this process, before clipping.
        sums: sum of the clipped gradients of the last batch on this process, by parameter, without noise.
    """

    def __init__(self, private: DPTraining) -> None:
        self.private = private
        self.mode: Mode = "loop"
        self.reduce: Callable[[Tensor], Tensor] | None = None
        self.norms = torch.zeros(0)
        self.sums: dict[str, Tensor] = {}

    def step(self, forward: Forward, batch: Batch, parameters: Mapping[str, nn.Parameter]) -> StepOutput:
        """Sum the clipped gradients of the batch's units; of none where a release takes the budget."""
        alone = self.private.settings.releases_alone
        assert self.private.steps < self.private.allowed or (alone and not len(batch.image)), (
            "the budget is spent"
        )
        seen: list[tuple[Tensor, StepOutput]] = []

        def objective(rows: Tensor) -> Tensor:
            losses, output = forward(Batch(*(part[rows] for part in batch)))
            seen.append((rows, output))
            return losses

        drawn = self.private.drawn
        units = drawn.unit_of[batch.index.cpu()].to(batch.image.device)
        if drawn.repeats:
            batch = batch._replace(index=drawn.copy_keys(batch.index))
        clipped = clipped_sum(
            objective,
            parameters,
            units,
            clip=self.private.settings.clip,
            physical=self.private.settings.physical_batch,
            mode=self.mode,
            clipping=self.private.settings.clipping,
        )
        if not bool(torch.isfinite(clipped.norms).all()):
            raise InputError(
                f"gradients must be finite, got another one at step {self.private.steps}: the training has "
                "diverged; lower lr or lr_factor, and count the epsilon of this training, too"
            )
        self.norms, self.sums = clipped.norms, clipped.sums
        return _joined(seen, batch)

    def write(self, parameters: Mapping[str, nn.Parameter]) -> None:
        """Add the noise, once for all processes, divide by a public number, and set `.grad`.

        Where a release takes the budget no step is taken: gradients stay None, and weights as they are.
        """
        private = self.private
        if private.settings.releases_alone:
            return
        deviation = private.mechanism.noise * private.settings.clip
        # Noise follows from the secret and the step's number, so that no two steps share any.
        seed = np.random.SeedSequence(number(private.secret, f"noise {private.steps}"))
        streams = seed.spawn(len(parameters))
        for stream, (name, parameter) in zip(streams, parameters.items(), strict=True):
            total = self.sums[name] if self.reduce is None else self.reduce(self.sums[name])
            if deviation:
                noise = np.random.default_rng(stream).standard_normal(
                    tuple(parameter.shape), dtype=np.float32
                )
                total = total + deviation * torch.from_numpy(noise).to(total)
            parameter.grad = total / private.drawn.expected
        private.steps += 1


def _joined(seen: list[tuple[Tensor, StepOutput]], batch: Batch) -> StepOutput:
    """Return the outputs of parts of a batch in the batch's order; empty outputs for an empty batch."""
    if not seen:
        nothing = batch.image.new_zeros(0)
        return {
            "loss": batch.image.new_zeros(()),
            "losses": nothing,
            "prediction": batch.mask,
            "mask": batch.mask,
        }
    order = torch.cat([rows for rows, _ in seen]).argsort()
    losses, predictions = (
        torch.cat([part[name] for _, part in seen])[order] for name in ("losses", "prediction")
    )
    return {"loss": losses.nanmean(), "losses": losses, "prediction": predictions, "mask": batch.mask}


def number(secret: bytes, purpose: str) -> int:
    """Return a 128-bit number derived from a secret, different for each purpose."""
    return int.from_bytes(hashlib.sha256(secret + purpose.encode()).digest()[:16], "big")
