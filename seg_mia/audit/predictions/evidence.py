"""Signals, statistics and segmentation quality of predictions, read one record at a time."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from seg_mia.data.prediction_files.reader import PredictionFiles, Record
from seg_mia.data.prediction_files.table import SHADOW, VICTIM, Row
from seg_mia.data.progress import DecodingBar
from seg_mia.errors import InputError
from seg_mia.losses import LOSSES
from seg_mia.membership.answers import Answers
from seg_mia.membership.features import sample_statistics
from seg_mia.membership.signals import Signal, checked
from seg_mia.metrics.labels import IGNORE, labelled
from seg_mia.metrics.overlap import foreground_dice, foreground_dice_per_class, foreground_iou
from seg_mia.models.heads import class_count, predicted

Values = NDArray[np.float64]


@dataclass
class Evidence:
    """What is known of one network's predictions.

    Attributes:
        rows: rows with a labelled pixel, by case.
        unlabelled: number of rows without one.
        shapes: shape of each of the rows' masks.
        numbers: numbers of each signal, in the order of the rows.
        features: statistics of image and mask.
        quality: Dice, IoU and loss of each row.
        ignored: share of each row's pixels that are ignored.
        foreground: whether each row has a pixel of a class above 0.
    """

    rows: list[Row] = field(default_factory=list)
    unlabelled: int = 0
    shapes: list[tuple[int, ...]] = field(default_factory=list)
    numbers: list[list[Values]] = field(default_factory=list)
    features: list[Values] = field(default_factory=list)
    quality: list[dict[str, float]] = field(default_factory=list)
    ignored: list[float] = field(default_factory=list)
    foreground: list[bool] = field(default_factory=list)

    @property
    def members(self) -> NDArray[np.bool_]:
        """Return which rows are members of the network, (n,)."""
        return np.array([row.member for row in self.rows], dtype=np.bool_)

    @property
    def groups(self) -> NDArray[np.str_]:
        """Return the patient of each row, (n,)."""
        return np.array([row.patient for row in self.rows])

    def answers(self, signal: int) -> Answers:
        """Return the numbers of a signal as input of a scorer."""
        return Answers(
            ids=np.array([row.case for row in self.rows]),
            groups=self.groups,
            members=self.members,
            judged=np.ones(len(self.rows), dtype=np.bool_),
            signal=np.stack([numbers[signal] for numbers in self.numbers]),
        )

    def utility(self) -> dict[str, dict[str, float | None]]:
        """Return mean Dice, IoU and loss on non-members and members."""
        return {
            part: {
                name: _defined_mean([self.quality[i][name] for i in np.flatnonzero(self.members == side)])
                for name in self.quality[0]
            }
            for part, side in (("nonmembers", False), ("members", True))
        }


def gathered(files: PredictionFiles, signals: Sequence[Signal]) -> dict[str, Evidence]:
    """Return the evidence of each network; only the victim's has features and quality.

    Rows without a labelled pixel are counted and left out.

    Args:
        files: the predictions.
        signals: signals that are numbers.

    Raises:
        InputError: an invalid row, a signal that is not finite, too few patients with a labelled pixel.
    """
    networks = [network for network in (VICTIM, SHADOW, *files.table.references) if files.rows(network)]
    total, done = sum(len(files.rows(network)) for network in networks), 0
    evidence = {network: Evidence() for network in networks}
    with DecodingBar("reading predictions", "prediction") as bar:
        for network in networks:
            for row in files.rows(network):
                _add(evidence[network], row, files, signals, describes=network == VICTIM)
                done += 1
                bar(done, total)
    for network in (VICTIM, SHADOW):
        if network in evidence:
            _check_enough(network, evidence[network])
    return evidence


@torch.no_grad()
def _add(
    evidence: Evidence, row: Row, files: PredictionFiles, signals: Sequence[Signal], *, describes: bool
) -> None:
    record = files.record(row)
    if not bool(labelled(record.mask).any()):
        evidence.unlabelled += 1
        return
    evidence.rows.append(row)
    evidence.shapes.append(tuple(record.mask.shape[1:]))
    ignored = record.mask == IGNORE
    evidence.ignored.append(float(ignored.float().mean()))
    evidence.foreground.append(bool(((record.mask > 0) & ~ignored).any()))
    try:
        evidence.numbers.append([_number(signal, record) for signal in signals])
    except InputError as error:
        raise InputError(f"{row.where}: {error}") from None
    if describes:
        evidence.features.append(_features(record, files.settings.classes))
        evidence.quality.append(_quality(record, files.settings.labels))


def _number(signal: Signal, record: Record) -> Values:
    """Return a signal's number, or numbers; of sigmoid channels the mean over those with a labelled pixel."""
    known = labelled(record.mask)
    logits, mask = record.logits[known], record.mask[known]
    values = checked(signal(logits, logits, mask), type(signal).__name__)
    return np.asarray(values.double().mean(dim=0).numpy(), dtype=np.float64)


def _features(record: Record, classes: int) -> Values:
    """Return statistics of image and mask, and the log of the sides; without an image those of the mask."""
    shape = record.mask.shape[1:]
    image = np.zeros((1, *shape), np.float32) if record.image is None else record.image
    several = len(record.mask) > 1
    parts = [sample_statistics(image, mask, 2 if several else classes) for mask in record.mask.numpy()]
    return np.concatenate([*parts, np.log(np.array(shape, dtype=np.float64))])


def _quality(record: Record, labels: Sequence[str]) -> dict[str, float]:
    """Return Dice, IoU and loss; of sigmoid channels the means over those with a labelled pixel.

    Of several labels also the Dice of each, NaN where it is neither in the mask nor predicted.
    """
    known = labelled(record.mask)
    logits, mask = record.logits[known], record.mask[known]
    prediction, classes = predicted(logits), class_count(logits)
    whole = predicted(record.logits)
    per_label = foreground_dice_per_class(whole, record.mask, classes).flatten().tolist()
    return {
        "dice": float(foreground_dice(prediction, mask, classes).mean()),
        "iou": float(foreground_iou(prediction, mask, classes).mean()),
        "loss": float(LOSSES["dice_cross_entropy"](logits, mask).mean()),
        **(
            {f"dice_{name}": dice for name, dice in zip(labels, per_label, strict=True)} if labels[1:] else {}
        ),
    }


def _defined_mean(values: Sequence[float]) -> float | None:
    """Return the mean of the values that are not NaN; None if there is none."""
    defined = [value for value in values if not math.isnan(value)]
    return float(np.mean(defined)) if defined else None


def _check_enough(network: str, evidence: Evidence) -> None:
    sides = [len({row.patient for row in evidence.rows if row.member is side}) for side in (True, False)]
    if min(sides) < 2:
        raise InputError(
            f"the {network} needs at least 2 patients it was trained on and 2 others with a labelled pixel, "
            f"got {sides[0]} and {sides[1]}, {evidence.unlabelled} masks are of 255 alone; add cases"
        )
    if not any(evidence.foreground):
        raise InputError(
            f"the masks of the {network} hold no pixel of a class above 0, and 255 on "
            f"{np.mean(evidence.ignored):.1%} of the pixels, which is ignored; where 255 is foreground, set "
            "threshold 127"
        )
