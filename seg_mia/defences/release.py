"""Output perturbation of a deployed victim: labels, the top class, rounded or noisy probabilities."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from torch import nn

from seg_mia.defences.base import Defence, Wrapping
from seg_mia.defences.traits import Trait
from seg_mia.models.released import ArgmaxNetwork, NoisyNetwork, Released, RoundedNetwork, TopNetwork
from seg_mia.models.smoothing import Output, SmoothedNetwork


class Release(Defence, ABC):
    """An output perturbation, applicable to any trained victim.

    Attributes:
        shows: description of the released output, for tables.
    """

    traits: ClassVar[Mapping[Trait, str]] = {Trait.LIMITS_OUTPUT: "it limits the released output"}
    kind: type[Released]
    shows: str

    @abstractmethod
    def __init__(self, **arguments: Any) -> None:
        self.arguments = arguments
        self.kind(nn.Identity(), **arguments)  # refuses what is out of range

    def wrapping(self) -> Wrapping:
        """Apply `kind` to the network's output."""
        return Wrapping(self.kind, self.arguments)


def seen(sees: str, release: Release | None) -> str:
    """Return the attacker knowledge that remains of `sees` after the output perturbation."""
    if release is None:
        return sees
    described = sees.replace("released probabilities", f"released {release.shows}")
    return described if described != sees else f"{sees} (the victim releases {release.shows})"


class ArgmaxRelease(Release):
    """Hard labels only: the argmax defence of Chobola, Usynin, Kaissis 2022."""

    kind, shows = ArgmaxNetwork, "labels"

    def __init__(self) -> None:
        super().__init__()


class TopRelease(Release):
    """Most likely class of each pixel and its probability; with two classes, the full output."""

    kind, shows = TopNetwork, "top class and its probability"

    def __init__(self) -> None:
        super().__init__()


class RoundedRelease(Release):
    """Rounded probabilities.

    Args:
        digits: number of decimal digits kept, 0..6.
    """

    kind = RoundedNetwork

    def __init__(self, *, digits: int = 1) -> None:
        super().__init__(digits=digits)
        self.shows = f"probabilities rounded to {digits} digit{'' if digits == 1 else 's'}"


class NoisyRelease(Release):
    """Probabilities plus Gaussian noise derived from the image.

    Args:
        sigma: standard deviation.
        seed: secret seed of the deployer.
    """

    kind = NoisyNetwork

    def __init__(self, *, sigma: float = 0.1, seed: int = 0) -> None:
        super().__init__(sigma=sigma, seed=seed)
        self.shows = f"probabilities with noise of {sigma:g}"


class SmoothedRelease(Release):
    """Classes certified by the predictions on noisy copies of the image: randomised smoothing.

    For a network trained with the same noise, `--defence noise`. Each query costs `first` + `draws` forward
    passes.

    Args:
        sigma: standard deviation of the noise, in grey levels of [0, 1].
        tau: probability that a certified class has at least under noise.
        alpha: probability that an image has a wrong certificate, at most.
        first: draws that choose the class of a pixel.
        draws: draws that test it.
        output: `certified` withholds what is not certified, `votes` gives out all shares.
        gradient_draws: draws behind an attacker's gradient, common to all images and iterates.
        seed: secret seed of the deployer.
        batch: noisy images at once.
    """

    kind = SmoothedNetwork

    def __init__(
        self,
        *,
        sigma: float = 0.25,
        tau: float = 0.75,
        alpha: float = 1e-3,
        first: int = 10,
        draws: int = 100,
        output: Output = "certified",
        gradient_draws: int = 16,
        seed: int = 0,
        batch: int = 32,
    ) -> None:
        super().__init__(
            sigma=sigma, tau=tau, alpha=alpha, first=first, draws=draws, output=output,
            gradient_draws=gradient_draws, seed=seed, batch=batch,
        )  # fmt: skip
        subject = "classes certified by" if output == "certified" else "votes of"
        self.shows = f"{subject} {draws} draws of noise of {sigma:g}"
