"""Training with Gaussian noise (Cohen, Rosenfeld, Kolter, ICML 2019), which randomised smoothing needs."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import nn

from seg_mia.data.samples import Batch
from seg_mia.defences.base import Defence
from seg_mia.defences.traits import Trait
from seg_mia.errors import InputError


class GaussianNoise(Defence):
    """Add independent Gaussian noise to every pixel of every training image, drawn anew at each step.

    The noisy images are not cut to [0, 1], as `seg_mia.models.smoothing` adds it. The deployed network is the
    trained one itself; `--release smoothed` and `--attack certify` query it on noisy images.

    Args:
        sigma: standard deviation, in grey levels of [0, 1]; that of the smoothing.

    Raises:
        InputError: sigma not above 0.
    """

    traits: ClassVar[Mapping[Trait, str]] = {
        Trait.ALTERS_SAMPLES: "noise changes every image",
        Trait.LEAVES_RANGE: "noise leads out of it",
    }

    def __init__(self, *, sigma: float = 0.25) -> None:
        if not 0 < sigma < float("inf"):
            raise InputError(f"sigma must be above 0 and finite, got {sigma}; 0.25 is usual")
        self.sigma = sigma

    def sample(self, batch: Batch, network: nn.Module) -> Batch:  # noqa: ARG002
        """Return the batch with noise on its images."""
        # Drawn on the CPU: a seed gives the same noise on every device.
        noise = torch.randn(batch.image.shape).to(batch.image)
        return batch._replace(image=batch.image + self.sigma * noise)
