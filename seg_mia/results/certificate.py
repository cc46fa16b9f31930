"""Results of certification by randomised smoothing."""

from typing import Literal

from seg_mia.results.base import AttackRecord, Average, Measure, Number, Result, Settings
from seg_mia.results.bounded_mean import over_images
from seg_mia.results.perturbation import AttackedData

SHOWN = ("dice_clean", "dice_smoothed", "dice_certified", "certified_correct", "abstained")
"""Measures in tables, each a mean over images of values in [0, 1]."""
UNTRAINED = 0.8
"""Share of the clean Dice below which the smoothed one shows a network that was not trained with noise."""


class CertificateSummary(Result):
    """What is certain of one victim's smoothed predictions: a certification's summary.json.

    Attributes:
        kind: of result.
        attack: settings of the certification.
        attacker_knowledge: of the attackers that it holds against.
        victim: the certified checkpoint.
        data: which images were certified.
        images: how many.
        units: of how many patients, images where each is a patient of its own.
        undefined: how many were left out, having no labelled pixel.
        sigma: standard deviation of the noise.
        radius: L2 norm below which no change of an image alters a certified class.
        alpha: probability that an image has a wrong certificate, at most.
        draws: draws that test a class.
        needed: how many of them must agree, for the first pixel of an image.
        passes: forward passes for each image.
        results: each measure's average over images.
    """

    kind: Literal["certificate"] = "certificate"
    attack: Settings
    attacker_knowledge: str
    victim: str
    data: AttackedData
    images: int
    units: int
    undefined: int
    sigma: float
    radius: float
    alpha: float
    draws: int
    needed: int
    passes: int
    results: dict[str, Average]

    def measure(self, name: str) -> Measure:
        """Return a mean over images with its 95 % interval over patients; no number where not measured."""
        return over_images(self.results[name], self.units) if name in self.results else Measure(None)

    @property
    def not_trained_with_noise(self) -> bool:
        """Whether the smoothed predictions are much worse than those without noise."""
        clean, smoothed = (self.mean(name) for name in ("dice_clean", "dice_smoothed"))
        return clean is not None and smoothed is not None and smoothed < UNTRAINED * clean

    def mean(self, name: str) -> Number:
        """Return a measure's mean, None where it was not taken."""
        return self.results[name].mean if name in self.results else None


class CertificateResult(CertificateSummary, AttackRecord):
    """The same within an audit."""
