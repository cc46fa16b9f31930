"""What a deployed victim gives out of what it knows: labels, the top class, coarse or noisy probabilities."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from torch import nn

from seg_mia.defences.base import Defence, Wrapping
from seg_mia.defences.traits import Trait
from seg_mia.models.released import Argmax, Noisy, Released, Rounded, TopClass


class Release(Defence, ABC):
    """A limit on what is given out; training does not know of it, so any victim can be put behind one.

    Attributes:
        shows: what is given out, as tables say it.
    """

    traits: ClassVar[Mapping[Trait, str]] = {Trait.LIMITS_OUTPUT: "it limits what is given out"}
    kind: type[Released]
    shows: str

    @abstractmethod
    def __init__(self, **arguments: Any) -> None:
        self.arguments = arguments
        self.kind(nn.Identity(), **arguments)  # refuses what is out of range

    def wrapping(self) -> Wrapping:
        """The network gives out what `kind` makes of its answer."""
        return Wrapping(self.kind, self.arguments)


def seen(sees: str, release: Release | None) -> str:
    """Return what an attacker who `sees` so much is left with by what the victim gives out."""
    if release is None:
        return sees
    told = sees.replace("released probabilities", f"released {release.shows}")
    return told if told != sees else f"{sees} (the victim releases {release.shows})"


class Labels(Release):
    """Hard labels alone: the argmax defence of Chobola, Usynin, Kaissis 2022."""

    kind, shows = Argmax, "labels"

    def __init__(self) -> None:
        super().__init__()


class Top(Release):
    """The most likely class of each pixel and its probability; of two classes that is everything."""

    kind, shows = TopClass, "top class and its probability"

    def __init__(self) -> None:
        super().__init__()


class Rounding(Release):
    """Rounded probabilities.

    Args:
        digits: decimal digits that are left, 0..6.
    """

    kind = Rounded

    def __init__(self, *, digits: int = 1) -> None:
        super().__init__(digits=digits)
        self.shows = f"probabilities rounded to {digits} digit{'' if digits == 1 else 's'}"


class Noise(Release):
    """Probabilities plus Gaussian noise that follows from the image.

    Args:
        sigma: standard deviation.
        seed: a secret of whoever deploys the victim.
    """

    kind = Noisy

    def __init__(self, *, sigma: float = 0.1, seed: int = 0) -> None:
        super().__init__(sigma=sigma, seed=seed)
        self.shows = f"probabilities with noise of {sigma:g}"
