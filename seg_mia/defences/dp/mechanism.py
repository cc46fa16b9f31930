"""The arithmetic of a differentially private training: its mechanism, its noise, its steps."""

import hashlib
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
from seg_mia.defences.dp.accounting import Accountant, Mechanism, noise_for
from seg_mia.errors import InputError
from seg_mia.grad_sample.clipping import Mode, clipped_sum

Unit = Literal["image", "patient"]


def default_delta(units: int) -> float:
    """Return a tenth of one over a public number of units: at 1/n a promise may give a whole unit away."""
    return 1 / (10 * units)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What `DPSGD` was given."""

    epsilon: float | None
    noise: float | None
    delta: float | None
    clip: float
    unit: Unit
    accountant: Accountant
    physical_batch: int
    gradients: Literal["auto", "fused", "loop"]
    reproducible: bool
    population: int | None = None


class DPTraining:
    """A training, its mechanism, its population, and the steps it has taken; `begin` comes first.

    Attributes:
        settings: as the user gave them.
        steps: taken so far, over all sessions of a resumed training.
        planned: steps that the training is to take.
        allowed: steps after which epsilon would be exceeded.
    """

    drawn: PoissonData
    mechanism: Mechanism
    secret: bytes
    planned: int
    allowed: int

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.steps = 0

    def begin(self, data: SegmentationData, secret: bytes, planned: Callable[[int], int]) -> None:
        """Let the data be drawn by Poisson sampling and calibrate the noise.

        Args:
            data: after setup.
            secret: what noise and batches follow from.
            planned: from the batches of an epoch to the steps that training is planned to take.

        Raises:
            InputError: the promise cannot be kept within the planned steps.
        """
        settings = self.settings
        self.steps = 0
        self.drawn = PoissonData(data, grouped=settings.unit == "patient", size=settings.population)
        self.follow(secret)
        data.batches = self.drawn
        rate, steps = self.population.rate, planned(self.population.steps)
        delta = settings.delta or default_delta(self.drawn.size)
        noise = settings.noise
        if noise is None:
            assert settings.epsilon is not None
            noise = noise_for(
                settings.epsilon, delta=delta, rate=rate, steps=steps, accountant=settings.accountant
            )
        self.use(Mechanism(noise, rate, delta, settings.accountant), steps)

    def follow(self, secret: bytes) -> None:
        """Let all draws to come follow from a secret."""
        self.secret = secret
        self.drawn.key = number(secret, "batches")

    @property
    def population(self) -> Population:
        """Who is drawn from."""
        return self.drawn.population

    def use(self, mechanism: Mechanism, planned: int) -> None:
        """Take a mechanism, and find how far the budget lasts with it."""
        self.mechanism, self.planned = mechanism, planned
        epsilon = self.settings.epsilon
        self.allowed = planned if epsilon is None else mechanism.steps_within(epsilon, planned)
        if self.allowed < min(planned, 1):
            raise InputError(
                f"epsilon {epsilon:g} does not last for one step with noise {mechanism.noise:g} and delta "
                f"{mechanism.delta:.3g}; raise noise, or leave it out to have it calibrated"
            )

    def dp_guarantee(self) -> DPGuaranteeContent | None:
        """Return what is guaranteed and spent, in plain values; None before it began."""
        if not hasattr(self, "mechanism"):
            return None
        declared = self.settings.population is not None
        return {
            "epsilon": self.mechanism.spent(self.steps),
            "delta": self.mechanism.delta,
            "budget": self.settings.epsilon,
            "unit": self.settings.unit,
            "neighbours": "add or remove one" if declared else "blank one, the number of units being public",
            "units": self.drawn.size,
            "declared": declared,
            "batch": self.drawn.expected,
            "permitted": asdict(self.mechanism.permitted(self.steps)),
            "noise": self.mechanism.noise,
            "clip": self.settings.clip,
            "rate": self.population.rate,
            "steps": self.steps,
            "accountant": self.mechanism.accountant,
            "reproducible": self.settings.reproducible,
        }


class DPGradient(GradientComputer):
    """The noisy sum of clipped gradients, over the number of units that a batch is expected to have.

    That number is `batch_size`, which everybody may know, and not what the data make of it: if a unit changed
    the divisor, it would change the scale of the noise, which is seen in each of the weights.

    Attributes:
        mode: how gradients of single units are found.
        reduce: sums a tensor over processes, where there are several.
        norms: of the last batch's units of this process, before clipping.
    """

    def __init__(self, private: DPTraining) -> None:
        self.private = private
        self.mode: Mode = "loop"
        self.reduce: Callable[[Tensor], Tensor] | None = None
        self.norms = torch.zeros(0)
        self.sums: dict[str, Tensor] = {}

    def step(self, forward: Forward, batch: Batch, parameters: Mapping[str, nn.Parameter]) -> StepOutput:
        """Sum the clipped gradients of the batch's units."""
        assert self.private.steps < self.private.allowed, "the budget is spent"
        seen: list[tuple[Tensor, StepOutput]] = []

        def objective(rows: Tensor) -> Tensor:
            losses, output = forward(Batch(*(part[rows] for part in batch)))
            seen.append((rows, output))
            return losses

        units = self.private.drawn.unit_of[batch.index.cpu()].to(batch.image.device)
        clipped = clipped_sum(
            objective,
            parameters,
            units,
            clip=self.private.settings.clip,
            physical=self.private.settings.physical_batch,
            mode=self.mode,
        )
        if not bool(torch.isfinite(clipped.norms).all()):
            raise InputError(
                f"a gradient is not finite at step {self.private.steps}: the training has "
                "diverged; lower lr or "
                "lr_factor"
            )
        self.norms, self.sums = clipped.norms, clipped.sums
        return _joined(seen, batch)

    def write(self, parameters: Mapping[str, nn.Parameter]) -> None:
        """Add the noise, once for all processes, divide by a public number, and set `.grad`."""
        private = self.private
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
        self.sums = {}
        private.steps += 1


def _joined(seen: list[tuple[Tensor, StepOutput]], batch: Batch) -> StepOutput:
    """Return the outputs of parts of a batch in the batch's order; of an empty one, nothing of each."""
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
    """Return a number of 128 bits that follows from a secret, another one for each purpose."""
    return int.from_bytes(hashlib.sha256(secret + purpose.encode()).digest()[:16], "big")
