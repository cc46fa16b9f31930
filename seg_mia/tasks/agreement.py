"""Agreement of an adopted network with the predictions of the deployed system."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from torch import nn

from seg_mia.data.base import SegmentationData
from seg_mia.data.reference_masks import reference_files, reference_ids, reference_mask
from seg_mia.errors import InputError, name_some
from seg_mia.metrics.label_sets import label_names
from seg_mia.metrics.overlap import foreground_dice
from seg_mia.models.heads import final, predicted
from seg_mia.models.prompts import prompts_from
from seg_mia.tasks.head_choice import as_classes
from seg_mia.tasks.sample_check import answered

LEAST = 0.99
"""Agreement below which a network is not the deployed one."""
MOST = 200
"""Most predictions that are compared, evenly spaced."""
CAUSES = (
    "usual causes: crop, window or normalisation, spacing or size, order of channels or classes, missing "
    "mirroring or "
    "post-processing, another fold or checkpoint"
)


@dataclass(frozen=True)
class Agreement:
    """Comparison of masks with those of the deployed system.

    Attributes:
        samples: number of compared samples with foreground in either mask.
        available: number of samples with a prediction of the deployed system.
        dice: mean Dice of the two masks.
        lowest: lowest Dice.
        below: number of samples below `least`.
        least: lowest accepted mean.
    """

    samples: int
    available: int
    dice: float
    lowest: float
    below: int
    least: float

    def plain(self) -> dict[str, float]:
        """Return plain values for a checkpoint's metadata."""
        return asdict(self)


class Reference(NamedTuple):
    """A folder of predictions, and the network that gave them."""

    folder: Path
    network: nn.Module


@runtime_checkable
class HasReferences(Protocol):
    """Network whose framework stores predictions beside the weights."""

    def references(self, weights: Path) -> list[tuple[Path, nn.Module]]:
        """Return folders of predictions, and the network of each."""


def compared(references: Sequence[Reference], data: SegmentationData, least: float) -> Agreement:
    """Compare the masks of networks with those of the deployed system.

    Args:
        references: folders of predictions with their networks, which give logits.
        data: after setup.
        least: lowest accepted mean Dice, in [0, 1].

    Raises:
        InputError: masks that agree less, with the worst samples and usual causes; masks without any
            foreground; missing or invalid predictions.
    """
    if not 0 <= least <= 1:
        raise InputError(f"agreement must lie in [0, 1], got {least:g}; 0.99 is usual")
    dice, available = dict[str, float](), 0
    for reference in references:
        files = reference_files(reference.folder, data)
        available += len(files)
        chosen = np.unique(np.linspace(0, len(files) - 1, min(MOST, len(files))).astype(np.int64))
        for index in np.array(sorted(files))[chosen].tolist():
            dice[data.source.ids[index]] = _dice(reference.network, data, index, files[index])
    values = [value for value in dice.values() if not math.isnan(value)]
    if not values:
        raise InputError(
            f"reference predictions must show foreground, {len(dice)} masks of both are empty, which proves "
            "nothing; give predictions of other samples"
        )
    agreement = Agreement(
        samples=len(values),
        available=available,
        dice=float(np.mean(values)),
        lowest=min(values),
        below=sum(value < least for value in values),
        least=least,
    )
    if agreement.dice < least:
        worst = sorted((name for name in dice if not math.isnan(dice[name])), key=lambda name: dice[name])[:3]
        raise InputError(
            f"{agreement.samples} masks must agree with the deployed system's at {least:g} (mean Dice), got "
            f"{agreement.dice:.3f}, {agreement.below} below, lowest "
            f"{name_some([f'{name} {dice[name]:.3f}' for name in worst])}: this is not the deployed "
            f"network; {CAUSES}"
        )
    return agreement


def _dice(network: nn.Module, data: SegmentationData, index: int, file: Path) -> float:
    """Return the Dice of a network's mask of one sample with the deployed system's; NaN if both are empty."""
    sample = data.dataset(np.array([index]))[0, 0]
    with prompts_from(sample.mask[None]):
        logits = final(answered(network, sample.image[None])).cpu()  # type: ignore[arg-type]
    shape = data.source.unpadded(index) or tuple(sample.mask.shape)
    classes = data.source.classes
    mask = predicted(as_classes(logits, classes))[(slice(None), *(slice(length) for length in shape))]
    if label_names(classes):  # a deployed system writes ids, of which regions are made
        reference = torch.from_numpy(data.source.reference(reference_ids(file, shape, data.source))).long()
    else:
        reference = reference_mask(file, shape, data.source)
    if not bool((mask > 0).any()) and not bool((reference > 0).any()):
        return math.nan
    return float(foreground_dice(mask, reference[None], classes)[0])
