"""Reading of listed predictions, one record at a time, as logits that a network would have given."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seg_mia.data.images.reading import digest
from seg_mia.data.prediction_files.arrays import Array, array_of
from seg_mia.data.prediction_files.content import (
    Fit,
    Order,
    Released,
    fits,
    kind_of,
    logits_of,
    mask_of,
    region_masks,
)
from seg_mia.data.prediction_files.table import SHADOW, VICTIM, Row, Table, read_table
from seg_mia.data.volumes.nifti_file import is_volume
from seg_mia.errors import InputError
from seg_mia.metrics.labels import IGNORE
from seg_mia.metrics.overlap import foreground_names


@dataclass(frozen=True)
class Predictions:
    """Predictions of a network, without the network.

    Args:
        table: CSV file with a line for each prediction: `prediction`, `mask`, `patient`, `part`, and
            optionally `image`, `case` and `network`.
        classes: number of classes, background included; with `regions` their number and 1, if not given.
        root: folder of the files in the table; the table's folder if not given.
        released: content of the prediction files: class probabilities, one map of foreground probabilities,
            sigmoid channels (one for each class but the background), or labels; detected if not given.
        key: name of the array in .npz files with several.
        channel_axis: axis of the class channels; the first or last that fits if not given.
        axes: order of spatial axes in .npy and .npz files beside NIfTI files: xyz (nibabel) or zyx
            (SimpleITK, nnU-Net); detected from the shapes if not given.
        threshold: mask values above it are foreground (two classes only); if not given, masks hold class ids,
            and 255 is ignored.
        regions: labels that may overlap, by name, with the ids of each in the masks:
            `{whole: [1, 2, 3], core: [2, 3]}`; predictions have a sigmoid channel for each, in this order.
    """

    table: str
    classes: int = 0
    root: str | None = None
    released: Released | None = None
    key: str | None = None
    channel_axis: int | None = None
    axes: Order | None = None
    threshold: int | None = None
    regions: dict[str, list[int]] | None = None

    def __post_init__(self) -> None:
        if self.regions is not None:
            self._check_regions(self.regions)
        if not 2 <= self.classes <= 255:
            raise InputError(
                f"classes must be 2 to 255, background included, got {self.classes}; correct --classes"
            )
        if self.threshold is not None and (self.classes != 2 or self.threshold < 0):
            raise InputError(
                f"threshold must be 0 or more and makes 2 classes, got {self.threshold} and classes "
                f"{self.classes}; leave it out, or set classes to 2"
            )

    def _check_regions(self, regions: dict[str, list[int]]) -> None:
        """Set classes and content by the labels; raise InputError for settings that contradict them."""
        classes, released = len(regions) + 1, self.released or "sigmoid"
        listed = [label for labels in regions.values() for label in labels]
        if not all(regions.values()) or not all(0 < label < IGNORE for label in listed):
            raise InputError(
                f"regions must name labels with ids of 1 to {IGNORE - 1} each, got {regions}; correct them"
            )
        if self.classes not in (0, classes) or released != "sigmoid" or self.threshold is not None:
            raise InputError(
                f"{len(regions)} regions make {classes} classes of sigmoid channels without a threshold, got "
                f"classes={self.classes}, released={released}, threshold={self.threshold}; leave these out"
            )
        object.__setattr__(self, "classes", classes)
        object.__setattr__(self, "released", "sigmoid")

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the foreground classes, or of the labels that may overlap."""
        return tuple(self.regions) if self.regions is not None else foreground_names(self.classes)


@dataclass(frozen=True)
class Layout:
    """What all prediction files hold.

    Attributes:
        released: content of the files.
        reverse: whether arrays beside NIfTI files have their spatial axes in the opposite order.
    """

    released: Released
    reverse: bool


@dataclass(frozen=True)
class Record:
    """One prediction and its truth; sigmoid channels are N binary maps, all others one map.

    Attributes:
        logits: (N, K, *S), equivalent to the released values.
        mask: class ids (N, *S), 255 where ignored.
        image: (C, *S) in the units of its file, None if not given.
    """

    logits: Tensor
    mask: Tensor
    image: NDArray[np.float32] | None


class PredictionFiles:
    """All predictions of a table.

    Args:
        settings: the table and the content of its files.

    Attributes:
        table: the rows.
        layout: what the files hold, as stated or detected.

    Raises:
        InputError: an invalid table, or files whose content must be stated.
    """

    def __init__(self, settings: Predictions) -> None:
        self.settings = settings
        file = Path(settings.table)
        self.root = file.parent if settings.root is None else Path(settings.root)
        if not self.root.is_dir():
            raise InputError(f"root must be a folder, got {str(self.root)!r}; correct --root")
        self.table: Table = read_table(file, self.root)
        self.layout = self._detected()

    def rows(self, network: str) -> list[Row]:
        """Return the rows of a network, by case."""
        return sorted(self.table.rows.get(network, ()), key=lambda row: row.case)

    def record(self, row: Row) -> Record:
        """Read one prediction with its mask and image.

        Raises:
            InputError: an invalid file, with file and line of the table.
        """
        try:
            return self._record(row)
        except InputError as error:
            raise InputError(f"{row.where}: {error}") from None

    def fingerprint(self) -> str:
        """Return a digest of the victim's cases: names, patients, parts, masks and images.

        Predictions are not part of it, so that two releases on the same cases can be compared.
        """
        content: list[Any] = [self.settings.classes, self.settings.threshold]
        content += [] if self.settings.regions is None else [self.settings.regions]
        for row in self.rows(VICTIM):
            files = [row.mask] if row.image is None else [row.mask, row.image]
            content.append([row.case, row.patient, row.member, digest(*files)])
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def description(self) -> str:
        """Return counts and content in one line."""
        table, stated = self.table, self.settings.released is not None
        parts = [f"{table.file}: {self.layout.released} ({'as stated' if stated else 'detected'})"]
        parts.append(f"{self.settings.classes} classes")
        for network in (VICTIM, SHADOW):
            if rows := table.rows.get(network):
                trained = sum(row.member for row in rows)
                patients = len({row.patient for row in rows})
                parts.append(
                    f"{network} {trained} train and {len(rows) - trained} test of {patients} patients"
                )
        parts.append(f"{len(table.references)} reference networks")
        if self.layout.reverse:
            parts.append("arrays in the order zyx of NIfTI axes")
        parts.append("with images" if table.has_images else "without images")
        if table.ignored:
            parts.append(f"not read: {', '.join(table.ignored)}")
        return "; ".join(parts)

    def _record(self, row: Row) -> Record:
        settings, released = self.settings, self.layout.released
        values, mask = self._arrays(row)
        reverse = self.layout.reverse and _mixed(row.prediction, row.mask)
        ids = settings.classes if settings.regions is None else IGNORE
        truth = mask_of(mask, ids, settings.threshold, str(row.mask))
        fit = self._fit(values, truth.shape, reverse, row)
        if fit is None and released == "sigmoid":
            truth = self._channel_masks(mask, row)
            fit = self._fit(values, truth.shape[1:], reverse, row)
        if fit is None:
            raise InputError(
                f"{row.prediction} must hold {released} in the shape of {row.mask}, "
                f"{'x'.join(map(str, truth.shape))}, got {'x'.join(map(str, values.shape))}; correct "
                "the file, or state released and channel_axis"
            )
        if truth.ndim - (truth.ndim == fit.values.ndim and released == "sigmoid") > 3:
            raise InputError(f"{row.mask} must have 2 or 3 axes, got {truth.ndim}; correct it")
        logits = logits_of(fit, released, settings.classes, str(row.prediction))
        image = None if row.image is None else self._image(row.image, row, fit)
        if released != "sigmoid":
            return Record(torch.from_numpy(logits)[None], torch.from_numpy(truth)[None], image)
        if truth.ndim == fit.values.ndim - 1:
            regions = settings.regions or {name: [k] for k, name in enumerate(settings.labels, start=1)}
            truth = region_masks(truth, list(regions.values()), str(row.mask))
        return Record(torch.from_numpy(logits)[:, None], torch.from_numpy(truth), image)

    def _arrays(self, row: Row) -> tuple[Array, Array]:
        """Return prediction and mask; two NIfTI files are both turned to RAS, others are as stored."""
        turned = is_volume(row.prediction) and is_volume(row.mask)
        return (
            array_of(row.prediction, key=self.settings.key, turned=turned),
            array_of(row.mask, turned=turned),
        )

    def _fit(self, values: Array, shape: tuple[int, ...], reverse: bool, row: Row) -> Fit | None:
        released = self.layout.released
        channels = released in ("probabilities", "sigmoid")
        count = self.settings.classes - (released == "sigmoid")
        axis = self.settings.channel_axis if channels else None
        if not channels and self.settings.channel_axis is not None:
            raise InputError(f"channel_axis applies to class channels, {released} have none; leave it out")
        readings = fits(values, shape, channel_axis=axis, reverse=reverse)
        if released == "sigmoid" and count == 1:
            readings = [
                Fit(fit.values[None], True, fit.reversed) for fit in readings if not fit.channels
            ] or readings
        readings = [
            fit for fit in readings if fit.channels == channels and (not channels or len(fit.values) == count)
        ]
        if len(readings) > 1:
            raise InputError(
                f"{row.prediction} fits with its channels first and last, got "
                f"{'x'.join(map(str, values.shape))}; state channel_axis"
            )
        return readings[0] if readings else None

    def _channel_masks(self, mask: Array, row: Row) -> NDArray[np.int64]:
        """Return one binary mask for each sigmoid channel, (C, *S)."""
        count, plain = self.settings.classes - 1, np.squeeze(mask)
        if plain.shape[0] != count and plain.shape[-1] == count:
            plain = np.moveaxis(plain, -1, 0)
        return mask_of(plain, 2, self.settings.threshold, str(row.mask))

    def _image(self, path: Path, row: Row, fit: Fit) -> NDArray[np.float32]:
        turned = is_volume(row.prediction) and is_volume(row.mask)
        if turned and not is_volume(path):
            raise InputError(f"{path} must be NIfTI, as its prediction and mask are; convert it")
        values = array_of(path, turned=turned)
        shape = fit.values.shape[1:] if fit.channels else fit.values.shape
        reverse = self.layout.reverse and _mixed(path, row.mask)
        readings = fits(values, shape, channel_axis=None, reverse=reverse)
        if not readings:
            raise InputError(
                f"{path} must have the shape of {row.mask}, {'x'.join(map(str, shape))}, got "
                f"{'x'.join(map(str, values.shape))}; correct the file"
            )
        image = readings[0].values.astype(np.float32)
        if not np.isfinite(image).all():
            raise InputError(f"{path} must hold finite values, got NaN or infinity; replace them first")
        return image if readings[0].channels else image[None]

    def _detected(self) -> Layout:
        """Return what the files hold: as stated, or by the first files that leave no choice."""
        released = self.settings.released
        reverse = None if self.settings.axes is None else self.settings.axes == "zyx"
        mixed = any(_mixed(row.prediction, row.mask) for row in self._every())
        reverse = reverse if mixed else False
        for row in self._every():
            if released is not None and reverse is not None:
                break
            try:
                readings = self._readings(row, reverse)
            except InputError as error:
                raise InputError(f"{row.where}: {error}") from None
            kinds = {kind_of(fit, self.settings.classes) for fit in readings}
            if released is None and len(kinds) == 1:
                (released,) = kinds
            orders = {fit.reversed for fit in readings}
            if reverse is None and len(orders) == 1 and _mixed(row.prediction, row.mask):
                (reverse,) = orders
        if reverse is None:
            raise InputError(
                f"{self.table.file}: the shapes do not tell the order of axes of .npy and .npz beside NIfTI "
                "files; state axes: zyx as SimpleITK and nnU-Net write them, xyz as nibabel reads them"
            )
        # Only 0 and 1 in every file: labels, or a map without any doubt, which says the same.
        return Layout(released or "labels", reverse)

    def _readings(self, row: Row, reverse: bool | None) -> list[Fit]:
        values, mask = self._arrays(row)
        shape = tuple(length for length in mask.shape if length != 1)
        if not _mixed(row.prediction, row.mask):
            reverse = False
        axis = self.settings.channel_axis
        readings = fits(values, shape, channel_axis=axis, reverse=reverse)
        if not readings:
            raise InputError(
                f"{row.prediction} must have the shape of {row.mask}, {'x'.join(map(str, shape))}, with or "
                f"without a class axis, got {'x'.join(map(str, values.shape))}; correct the file, or state "
                "released (sigmoid, where masks have a channel for each label)"
            )
        expected = {self.settings.classes, self.settings.classes - 1}
        fitting = [fit for fit in readings if not fit.channels or len(fit.values) in expected]
        if not fitting:
            raise InputError(
                f"{row.prediction} must have {self.settings.classes} class channels, got "
                f"{'x'.join(map(str, values.shape))}; correct classes"
            )
        return fitting

    def _every(self) -> Iterator[Row]:
        for network in sorted(self.table.rows, key=lambda name: (name != VICTIM, name)):
            yield from self.rows(network)


def _mixed(first: Path, second: Path) -> bool:
    """Return whether one of two files is NIfTI and the other is not."""
    return is_volume(first) != is_volume(second)
