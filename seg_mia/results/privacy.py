"""Guarantee of a differentially private training, and empirical bounds from attacks and canaries."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Literal, Self

from pydantic import ConfigDict, Field, model_validator

from seg_mia.membership.certify import PROVED_BY_COINS, Certified
from seg_mia.membership.tradeoff import Permitted
from seg_mia.results.base import Number, Result

# A checkpoint or a canaries.json may be a stranger's: what these models do not name is not taken.
NAMED_ALONE = ConfigDict(frozen=True, extra="ignore", json_schema_extra={"additionalProperties": False})


class Pretrained(Result):
    """Weights that a training started from; what they were trained on is not known from them.

    Attributes:
        name: `imagenet`, the weights of the network's library, or the base name of a file.
        part: what they were loaded into.
        sha256: digest in hexadecimal.
        of: what the digest is of: the file, as by `sha256sum`, or the tensors
            (`seg_mia.models.pretraining.tensors_digest`).
    """

    model_config = NAMED_ALONE

    name: str = Field(max_length=255)
    part: Literal["encoder", "network"]
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    of: Literal["file", "tensors"]


class DPGuarantee(Result):
    """What a differentially private training promises.

    Attributes:
        epsilon: that was spent; None where it is infinite.
        replace_one: the same if one unit is replaced by another, at the same delta; None where it is
            infinite, or in a checkpoint of an earlier version.
        delta: of (epsilon, delta).
        budget: the epsilon that was asked for; None where noise was given.
        unit: whose presence is protected.
        neighbours: which data sets are told apart.
        units: how many there are, or how many are declared.
        declared: the number of units was declared; else it is taken as public, and so not protected.
        batch: units expected in a step; None where no step is taken.
        permitted: the most that attacks on one unit may reach.
        noise: standard deviation, as a multiple of the clip; None where no step is taken.
        clip: largest norm of a unit's gradient; None where no step is taken.
        rate: at which units are sampled; 1 where all take part in one release and no step is taken.
        steps: that were taken; 0 where the release is the whole training.
        release: mu of a Gaussian release before the first step, in which the initial weights were computed;
            0 for none, None where it is infinite (exact, without guarantee) or of an earlier version.
        accountant: that computed epsilon.
        reproducible: whoever knows the seed can draw the noise again.
        pretrained: weights that the training started from, which it promises nothing about; empty if no
            option gave any, None in a checkpoint of an earlier version.
    """

    model_config = NAMED_ALONE

    epsilon: Number
    replace_one: Number = None
    delta: Number = None
    budget: Number = None
    unit: Literal["image", "patient"] = "image"
    neighbours: str | None = None
    units: int | None = None
    declared: bool = False
    batch: Number = None
    permitted: Permitted | None = None
    noise: Number = None
    clip: Number = None
    rate: Number = None
    steps: int | None = None
    release: Number = None
    accountant: str | None = None
    reproducible: bool = False
    pretrained: list[Pretrained] | None = None

    @property
    def is_gaussian(self) -> bool:
        """Whether it is of a Gaussian mechanism: noise on all units in each step, or a release alone."""
        return (self.rate or 0.0) >= 1 and bool(self.noise or self.releases_alone)

    @property
    def releases_alone(self) -> bool:
        """Whether a noisy release is the whole training."""
        return self.steps == 0 and bool(self.release)


def guarantee(privacy: object, where: str) -> DPGuarantee | None:
    """Return the privacy guarantee in a checkpoint, None if there is none.

    Args:
        privacy: plain values of a checkpoint.
        where: their origin, for the InputError if they are invalid.
    """
    return DPGuarantee.read(privacy, where) if privacy else None


CONFIDENCE = 0.95
MOST_BOUNDS = 500
"""As many bounds hold together at the highest of `STRICTER`."""
STRICTER = (0.975, 0.99, 0.995, 0.999, 0.9999)
"""Confidences of the same bound that hold where several bounds are compared with one promise."""


class BoundAt(Result):
    """The bound at a further confidence.

    Attributes:
        confidence: the least chance that the bound does not exceed the truth.
        epsilon: the bound.
        attainable: what perfect guesses on as many samples would prove.
    """

    model_config = NAMED_ALONE

    confidence: float
    epsilon: float
    attainable: float


class EpsilonLowerBound(Result):
    """The least epsilon that right guesses show: fields of `seg_mia.membership.certify.Certified`.

    It is proved if our random draws decided who was inserted, by a coin for each canary or by halves for
    independent trainings (`is_proof`); otherwise it holds under the assumption that the samples of one
    training are independent.

    Attributes:
        unit: whose presence was guessed; None of canaries, each of which is an image and a patient.
        delta: at which epsilon is bounded.
        epsilon: the bound.
        attainable: what perfect guesses on as many samples would prove.
        confidence: the least chance that the bound does not exceed the truth.
        members: how many members it was computed from.
        nonmembers: how many non-members.
        rule: the inequality that gave it.
        threshold: on the scores.
        stricter: the bound at higher confidences, ascending; empty in results of an earlier version.
    """

    model_config = NAMED_ALONE

    unit: Literal["image", "patient"] | None = None
    delta: Number = None
    epsilon: Number
    attainable: Number
    confidence: Number
    members: int | None = None
    nonmembers: int | None = None
    rule: str | None = None
    threshold: Number = None
    stricter: list[BoundAt] = Field(default_factory=list)

    @classmethod
    def measured(
        cls,
        bound: Callable[[float], Certified],
        *,
        delta: float,
        unit: Literal["image", "patient"] | None = None,
    ) -> Self:
        """Return the bound at `CONFIDENCE` and the stricter ones, from a function of the confidence."""
        rows = [
            BoundAt(confidence=confidence, epsilon=proved.epsilon, attainable=proved.attainable)
            for confidence, proved in ((level, bound(level)) for level in STRICTER)
        ]
        return cls(unit=unit, delta=delta, **asdict(bound(CONFIDENCE)), stricter=rows)

    @property
    def is_proof(self) -> bool:
        """Whether it follows from our random draws; else it assumes independent samples."""
        return self.rule in PROVED_BY_COINS

    def jointly(self, count: int) -> "EpsilonLowerBound | None":
        """Return the bound that holds beside `count` - 1 others at `CONFIDENCE` together (Bonferroni).

        It is one of the recorded confidences, the lowest that suffices; None if none does, or none is stated.
        """
        needed = 1 - (1 - CONFIDENCE) / count - 1e-12
        if self.confidence is None:
            return None
        if self.confidence >= needed:
            return self
        row = next((row for row in self.stricter if row.confidence >= needed), None)
        return None if row is None else self.model_copy(update=row.plain())


class WhiteBoxCanaries(Result):
    """What the noisy sums of all steps prove of the same canaries.

    Attributes:
        auc: of telling inserted ones from those left out.
        gaussian: the bound of a Gaussian mechanism from the number of right guesses; None of sampled steps,
            which are none.
        f_dp: the same by its trade-off function; None of sampled steps, and in results of an earlier version.
        one_run: the bound of any mechanism from the number of right guesses, of sampled steps; None where
            each step uses all units.
    """

    model_config = NAMED_ALONE

    auc: float
    gaussian: EpsilonLowerBound | None = None
    f_dp: EpsilonLowerBound | None = None
    one_run: EpsilonLowerBound | None = None


class CanaryResult(Result):
    """What images, put into a training by random coins to be found again, show of it.

    Attributes:
        inserted: how many.
        left_out: how many were drawn, too, and not put in.
        auc: of telling inserted ones from those left out.
        delta: at which epsilon is bounded.
        certified: by the rates at a threshold, as if the samples of one training were independent.
        one_run: by the number of right guesses, however these samples hang together.
        gaussian: the same where each step uses all units with Gaussian noise, which permits a far greater
            bound; None for any other training.
        f_dp: of such a training, too, by the trade-off function of Gaussian noise; None for any other
            training, and in results of an earlier version.
        white_box: from the noisy sums of all steps, which differential privacy assumes known; None if not
            computed.
        privacy: what the training promises; None without a promise.
    """

    model_config = NAMED_ALONE

    inserted: int
    left_out: int
    auc: Number
    delta: Number
    certified: EpsilonLowerBound
    one_run: EpsilonLowerBound
    gaussian: EpsilonLowerBound | None = None
    f_dp: EpsilonLowerBound | None = None
    white_box: WhiteBoxCanaries | None = None
    privacy: DPGuarantee | None

    @property
    def bounds(self) -> dict[str, EpsilonLowerBound]:
        """All bounds, by their derivation."""
        bounds = {
            "by a threshold, if samples are independent": self.certified,
            "by the number of correct guesses": self.one_run,
        }
        if self.gaussian is not None:
            bounds["by the number of correct guesses, for Gaussian noise on all units"] = self.gaussian
        if self.f_dp is not None:
            bounds["by the trade-off function of Gaussian noise on all units"] = self.f_dp
        by_sums = WhiteBoxCanaries(auc=0.5) if self.white_box is None else self.white_box
        optional = {
            "from the noisy sums of all steps": by_sums.gaussian,
            "from the noisy sums, by the trade-off function": by_sums.f_dp,
            "from the noisy sums of sampled steps, by the number of correct guesses": by_sums.one_run,
        }
        return bounds | {name: bound for name, bound in optional.items() if bound is not None}

    @model_validator(mode="after")
    def _measured(self) -> Self:
        bounds = [
            value
            for bound in self.bounds.values()
            for value in (bound.epsilon, bound.attainable, bound.confidence)
        ]
        if any(value is None for value in (self.auc, self.delta, *bounds)):
            raise ValueError("numbers must be finite")
        return self
