"""Training with differential privacy: DP-SGD (Abadi et al. 2016, arXiv:1607.00133)."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from lightning.pytorch import Callback

from seg_mia.data.base import SegmentationData
from seg_mia.defences.base import Defence, DPGuaranteeContent, Wrapping
from seg_mia.defences.dp.accounting import Accountant
from seg_mia.defences.dp.average import WeightAverage
from seg_mia.defences.dp.callback import DPCallback
from seg_mia.defences.dp.mechanism import DPGradient, DPTraining, Settings, Unit
from seg_mia.defences.traits import Trait
from seg_mia.errors import InputError
from seg_mia.grad_sample.clipping import Clipping
from seg_mia.models.group_norm import PerSampleNorm


class DPSGD(Defence):
    """Clip each unit's gradient, add Gaussian noise, and account for the privacy spent.

    The guarantee is (epsilon, delta)-differential privacy of the trained weights under adding or removing one
    unit: an image, or a patient with all slices. It holds against an attacker with the weights but without
    the run's folder, whose curves and pictures of members are not private. BatchNorm2d layers of the network
    no longer use batch statistics. Batches are drawn by Poisson sampling with `batch_size` as the expected
    number of units over all processes; an epoch has population / batch_size of them, and the noisy sum is
    divided by `batch_size`. All of these are public constants.

    Args:
        population: declared public number of training units; it determines sampling rate, steps and delta,
            and the true number is then protected as well. If not given, the true number is used, and epsilon
            holds only if that number is public.
        epsilon: privacy budget. Without `noise`, the noise is calibrated to spend it over the planned epochs,
            whatever their number; with `noise`, training stops before the budget is exceeded. None or .inf
            requires `noise` and sets no limit.
        noise: standard deviation of the noise, as a multiple of the clip. 0 only clips and gives no
            guarantee.
        delta: delta of the guarantee; a tenth of 1/population if not given; never more than 1/population.
        clip: maximum L2 norm of a unit's gradient.
        clipping: `bound` scales larger gradients down to the clip; `normalise` scales every gradient to about
            the clip, so that it needs no tuning and images learnt already count as much (AUTO-S).
        unit: the protected unit. A patient is a group of the data.
        accountant: `prv` (tight) or `rdp`, both Opacus'.
        physical_batch: maximum number of images per pass through the network, limited by memory.
        batch_norm: replacement of BatchNorm2d, which mixes samples: `group` replaces each by GroupNorm;
            `fixed` does so outside the encoder, and freezes the encoder's at the statistics and weights of
            its pre-training, which preserves pre-trained features better.
        lr_factor: factor on the learning rate.
        copies: augmented copies of each image in a step (augmentation multiplicity, De et al. 2022,
            arXiv:2204.13650): a unit's gradient is the mean over its copies, and that mean is clipped, so
            that the guarantee does not change. The copies follow from the data's augmentation and patches;
            with cached features they are the same in every step. More copies than `physical_batch` are
            processed by `loop`.
        ema: decay in (0, 1) of an exponential average of the weights after each step, which is evaluated and
            deployed in place of the last weights. No averaging if not given.
        tail: share in (0, 1] of the last steps whose weights are averaged with equal shares instead.
        least_squares: share in (0, 1] of the budget, of mu squared, for initial weights of a linear pixel
            classifier by one private release of second moments
            (`seg_mia.defences.dp.least_squares`); the accountant composes it with the steps. With 1 the
            release is the whole training: no step is taken, and epochs, learning rate and clip have no
            effect. Not given for random initial weights.
        gradients: `fused` processes images together and is fastest; `loop` processes single units and
            supports layers of any kind; `auto` selects `fused` if it is exact.
        reproducible: draw batches and noise from the run's seed instead of a secret beside the run. The seed
            then suffices to remove the noise: only for tests and studies.

    Raises:
        InputError: a number out of range; in `check`, data that does not permit the guarantee.
    """

    traits: ClassVar[Mapping[Trait, str]] = {
        Trait.IS_PRIVATE: "each unit's gradient must not depend on other units"
    }

    def __init__(
        self,
        *,
        population: int | None = None,
        epsilon: float | None = 8.5,
        noise: float | None = None,
        delta: float | None = None,
        clip: float = 1.0,
        clipping: Clipping = "bound",
        unit: Unit = "image",
        accountant: Accountant = "prv",
        physical_batch: int = 64,
        batch_norm: Literal["group", "fixed"] = "group",
        lr_factor: float = 1.0,
        copies: int = 1,
        ema: float | None = None,
        tail: float | None = None,
        least_squares: float | None = None,
        gradients: Literal["auto", "fused", "loop"] = "auto",
        reproducible: bool = False,
    ) -> None:
        epsilon = None if epsilon == float("inf") else epsilon
        _require_positive(epsilon=epsilon, delta=delta, clip=clip, lr_factor=lr_factor)
        _check_budget(epsilon, noise, delta)
        _check_share(least_squares, epsilon, noise)
        _check_alone(least_squares, noise=noise, copies=copies, ema=ema, tail=tail)
        _check_counts(population, physical_batch, copies, gradients)
        _check_average(ema, tail)
        if gradients == "fused" and unit == "patient":
            raise InputError("fused gradients are per image; for patients leave gradients on auto")
        self.unit, self.delta, self.lr_factor, self.batch_norm = unit, delta, lr_factor, batch_norm
        self.population = population
        self.private = DPTraining(
            Settings(
                epsilon=epsilon,
                noise=noise,
                delta=delta,
                clip=clip,
                clipping=clipping,
                unit=unit,
                accountant=accountant,
                physical_batch=physical_batch,
                gradients=gradients,
                reproducible=reproducible,
                population=population,
                copies=copies,
                ema=ema,
                tail=tail,
                least_squares=least_squares,
            )
        )
        self._gradient_computer = self.gradient_computer = DPGradient(self.private)

    def wrapping(self) -> Wrapping:
        """Replace layers that mix samples."""
        return Wrapping(PerSampleNorm, {"fixed": self.batch_norm == "fixed"})

    def check(self, data: SegmentationData) -> None:
        """Require groups for patient-level guarantees, and a delta that protects every unit."""
        groups = {data.source.groups[i] for i in data.trained()}
        images = len(data.trained())
        if self.unit == "patient" and len(groups) == images:
            raise InputError(
                f"unit patient needs data with several images to a group, got {images} images in as many "
                "groups; name the patients (--data.group_column), or set unit to image"
            )
        copies = self.private.settings.copies
        if copies > 1 and data.augment == "none" and data.patch is None:
            raise InputError(
                f"{copies} copies of each image need augmentation, got none, which makes them equal; set "
                "--data.augment flip or standard, or leave copies out"
            )
        units = self.population or (len(groups) if self.unit == "patient" else images)
        if self.delta is not None and self.delta > 1 / units:
            raise InputError(
                f"delta must be at most 1/n = {1 / units:.3g} for {units} units, got {self.delta:g}: a "
                "larger delta would permit the release of a whole unit; leave it out for a tenth of that"
            )
        if data.batch_size > units:
            article = "the declared population of" if self.population else "the"
            raise InputError(
                f"batch_size must be at most {article} {units} {self.unit}s trained on, got "
                f"{data.batch_size}; lower it: under differential privacy it counts units"
            )

    def callbacks(self) -> list[Callback]:
        """Set up before training, account during it, average weights."""
        settings = self.private.settings
        averaged = settings.ema is not None or settings.tail is not None
        average = [WeightAverage(self.private)] if averaged else []
        return [DPCallback(self.private, self._gradient_computer), *average]

    def dp_guarantee(self) -> DPGuaranteeContent | None:
        """Return the guarantee and the privacy spent, once training has begun."""
        return self.private.dp_guarantee()


def _check_budget(epsilon: float | None, noise: float | None, delta: float | None) -> None:
    """Raise InputError for a budget without noise, or noise without a budget."""
    if epsilon is None and noise is None:
        raise InputError("DP-SGD needs epsilon or noise, got neither; set epsilon, such as 8")
    if noise is not None and not 0 <= noise < float("inf"):
        raise InputError(f"noise must be 0 or more and finite, got {noise}; leave it out to calibrate it")
    if noise == 0 and epsilon is not None:
        raise InputError(f"noise 0 gives no guarantee, got epsilon {epsilon:g} with it; set epsilon to .inf")
    if delta is not None and delta >= 1:
        raise InputError(f"delta must be below 1, got {delta}; leave it out for a tenth of 1/n")


def _check_share(share: float | None, epsilon: float | None, noise: float | None) -> None:
    """Raise InputError for a share of the budget out of range, or of none."""
    if share is not None and not 0 < share <= 1:
        raise InputError(
            f"least_squares must lie above 0 and be at most 1, got {share:g}: it is a share of the budget; "
            "leave it out for none"
        )
    if share is not None and epsilon is None and noise != 0:
        raise InputError(
            f"least_squares takes a share of epsilon, got noise {noise:g} without epsilon; set epsilon, or "
            "noise 0 for a training without guarantee"
        )


def _check_alone(
    share: float | None, *, noise: float | None, copies: int, ema: float | None, tail: float | None
) -> None:
    """Raise InputError for settings of steps where the release takes the whole budget."""
    values = {"noise": noise, "copies": None if copies == 1 else copies, "ema": ema, "tail": tail}
    given = {name: value for name, value in values.items() if value}  # noise 0 asks for an exact release
    if share == 1 and given:
        name, value = next(iter(given.items()))
        raise InputError(
            f"least_squares 1 leaves no budget for steps, and {name} belongs to steps, got {value:g}; leave "
            f"{name} out, or choose a share below 1"
        )


def _check_counts(population: int | None, physical_batch: int, copies: int, gradients: str) -> None:
    """Raise InputError for a population, images or copies below 1, or more copies than `fused` may take."""
    if population is not None and population < 1:
        raise InputError(
            f"population must be at least 1, got {population}; declare how many units are trained on"
        )
    if physical_batch < 1:
        raise InputError(f"physical_batch must be at least 1, got {physical_batch}")
    if copies < 1:
        raise InputError(f"copies must be at least 1, got {copies}; leave it out for one")
    if copies > physical_batch and gradients == "fused":
        raise InputError(
            f"fused gradients take all copies of an image at once, at most physical_batch, {physical_batch}, "
            f"got {copies}; raise physical_batch, or leave gradients on auto"
        )


def _check_average(ema: float | None, tail: float | None) -> None:
    """Raise InputError for a decay or a share out of range, or both."""
    if ema is not None and tail is not None:
        raise InputError(f"weights have one average, got ema {ema:g} and tail {tail:g}; leave one out")
    if ema is not None and not 0 < ema < 1:
        raise InputError(f"ema must lie between 0 and 1, got {ema:g}; leave it out for no average")
    if tail is not None and not 0 < tail <= 1:
        raise InputError(f"tail must lie above 0 and be at most 1, got {tail:g}; leave it out for no average")


def _require_positive(**values: float | None) -> None:
    for name, value in values.items():
        if value is not None and not 0 < value < float("inf"):
            raise InputError(f"{name} must be above 0 and finite, got {value}")
