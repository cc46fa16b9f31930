"""2-D slices of labelled volumes as samples, and the base data module of volume data sets."""

import hashlib
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seg_mia.data.base import SegmentationData
from seg_mia.data.cache import default_folder
from seg_mia.data.digests import persistent_digests
from seg_mia.data.images.label_ids import mapped, proposed_for
from seg_mia.data.progress import DecodingBar
from seg_mia.data.resize import resized, resized_mask
from seg_mia.data.source import Image, Mask, Note, Source, listed
from seg_mia.data.unknown_labels import UnknownLabelsError, counted
from seg_mia.data.volumes.geometry import Axis, Scan, VolumeCache, check_same, remarks_on
from seg_mia.data.volumes.label_classes import classes_in
from seg_mia.data.volumes.slice_index import SliceIndex, counted_labels
from seg_mia.data.volumes.windows import USUAL, WindowCache, Windows, WindowSetting, in_window, windows_of
from seg_mia.errors import InputError
from seg_mia.metrics.label_sets import LabelSets, label_names
from seg_mia.metrics.labels import IGNORE

Unlisted = Literal["refuse", "background"]
ORGANS = "assign them a class (organs, labels), make them background (unlisted) or correct the file"
"""Remedy for label ids without a class, for data sets with these options."""


class Case(NamedTuple):
    """One labelled volume and its patient.

    Attributes:
        further: volumes of further channels, on the same grid.
    """

    name: str
    image: Scan
    label: Scan
    group: str
    further: tuple[Scan, ...] = ()

    @property
    def images(self) -> tuple[Scan, ...]:
        """The volume of each channel."""
        return (self.image, *self.further)

    @property
    def scans(self) -> tuple[Scan, ...]:
        """All volumes, the label last."""
        return (*self.images, self.label)


@dataclass(frozen=True, kw_only=True)
class Slicing:
    """Selection and display window of slices.

    Attributes:
        windows: grey window of each channel.
        axis: slice direction; axial slices count from the feet, coronal the back, sagittal the left.
        minimum: least number of foreground pixels per slice, at the original size.
        every: keep every n-th labelled slice of a volume, starting with the first.
        size: side of the square to resize slices to; None keeps the original size.
    """

    windows: Windows = field(default_factory=Windows)
    axis: Axis = "axial"
    minimum: int = 1
    every: int = 1
    size: int | None = None

    def __post_init__(self) -> None:
        if self.minimum < 0 or self.every < 1 or (self.size is not None and self.size < 1):
            raise InputError(
                "minimum must be at least 0, every and size at least 1, "
                f"got {self.minimum}, {self.every} and {self.size}"
            )


class SliceSource(Source):
    """Slices of volumes as grey 8-bit images; ids are `VOLUME/AXIS_NUMBER`, groups are patients.

    Values are windowed, then resized as floats and finally rounded to 8 bits.

    Args:
        cases: the volumes, with unique names.
        labels: class of each label id; 0 is background by default.
        regions: names of labels that may overlap; classes are then their sets.
        unlisted: treatment of other ids: an error, or background.
        remedy: advice for such an error, in terms of the data set's options.
        slicing: selection and display window.
        index: label counts from earlier runs.
        progress: called after each volume with the number scanned and the total.

    Raises:
        InputError: image and label do not match, an id is unknown, or no slice is left.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        *,
        labels: Mapping[int, int],
        regions: Sequence[str] = (),
        unlisted: Unlisted = "refuse",
        remedy: str = ORGANS,
        slicing: Slicing | None = None,
        index: SliceIndex | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self.classes_of = {0: 0, **labels}
        highest = max(kind for kind in self.classes_of.values() if kind != IGNORE)
        self.classes = LabelSets(regions) if regions else highest + 1
        if not labels or min(labels) < 0 or min(labels.values()) < 0 or not 2 <= self.classes <= 255:
            raise InputError(f"labels must map label ids to classes from 0 to 254, got {dict(labels)}")
        names = [case.name for case in cases]
        if len(set(names)) < len(names):
            raise InputError(f"volumes must have unique names, got {max(names, key=names.count)} twice")
        self.cases, self.unlisted = sorted(cases, key=lambda case: case.name), unlisted
        self.remedy = remedy
        self.slicing, self.index = slicing or Slicing(), index or SliceIndex()
        self.channels = max((len(case.images) for case in self.cases), default=1)
        self.slicing.windows.check(self.channels)
        self.windows = WindowCache(self.slicing.windows)
        self.volumes = VolumeCache(keep=2 * (self.channels + 1))
        self.samples = list[tuple[Case, int]]()
        self._foreign, self._bare = dict[str, set[int]](), list[str]()
        self._digests = dict[str, tuple[str, str]]()
        self._counts, self._unknown = Counter[int](), dict[str, Counter[int]]()
        try:
            for done, case in enumerate(self.cases, start=1):
                self.samples += [(case, number) for number in self._chosen(case)]
                for scan in case.scans:
                    self.index.remarks(scan)  # digests of its files are taken here, one volume at a time
                if progress is not None and self.index.changed:
                    progress(done, len(self.cases))
            scans = (scan for case in self.cases for scan in case.scans)
            self._remarks = remarks_on(scans, self.index.remarks)
        finally:
            self.release()
            self.index.save()
        if self._unknown:
            self._refuse_unknown()
        if not self.samples:
            details = "".join(f"; {note.line}" for note in self._notes())
            count = len(self.cases)
            raise InputError(
                f"at least one slice must have {self.slicing.minimum} pixels of the label ids "
                f"{self._label_ids}, got none in {count} volumes; lower minimum or correct the ids{details}"
            )
        self.notes = tuple(self._notes())
        axis = self.slicing.axis
        self.ids = tuple(f"{case.name}/{axis}_{number:03d}" for case, number in self.samples)
        self.groups = tuple(case.group for case, _ in self.samples)
        self.empty_cases = tuple(sorted({*names} - {case.name for case, _ in self.samples}))

    @property
    def case_names(self) -> tuple[str, ...]:
        """Return the volume of each slice."""
        return tuple(case.name for case, _ in self.samples)

    def digest(self, index: int) -> str:
        """Return a SHA-256 of volume bytes, label bytes, slice axis and slice number."""
        case, number = self.samples[index]
        return self._of_slice("".join(self._digests_of(case)), number)

    def image_digest(self, index: int) -> str:
        """Return a SHA-256 of volume bytes, slice axis and slice number."""
        case, number = self.samples[index]
        return self._of_slice(self._digests_of(case)[0], number)

    def _digests_of(self, case: Case) -> tuple[str, str]:
        """Return the digests of a case's volumes and of its label, looked up once for all slices."""
        if case.name not in self._digests:
            images = "".join(self.index.digest(scan.files) for scan in case.images)
            label = self.index.digest(case.label.files) + case.label.arrangement
            self._digests[case.name] = images, label
        return self._digests[case.name]

    def decode(self, index: int) -> tuple[Image, Mask]:
        """Return a slice in radiological view, image resized by area or bilinearly, mask by nearest."""
        case, number = self.samples[index]
        slicing = self.slicing
        label = self.volumes.volume(case.label).labels(slicing.axis, number)
        parts = [self._grey(scan, number, channel) for channel, scan in enumerate(case.images)]
        image: Image = np.stack(parts, axis=2)
        mask = self._classes(label, case)
        if slicing.size is not None:
            image, mask = (
                resized(image, slicing.size, slicing.size),
                resized_mask(mask, slicing.size, slicing.size),
            )
        return np.rint(image * 255).astype(np.uint8), mask

    def _grey(self, scan: Scan, number: int, channel: int) -> NDArray[np.float32]:
        """Return a slice (H, W) of one channel in its grey window, in [0, 1]."""
        volume = self.volumes.volume(scan)
        return in_window(volume.plane(self.slicing.axis, number), self.windows.of(channel, scan, volume))

    def reference(self, ids: NDArray[np.integer[Any]]) -> Mask:
        """Return the sets of regions of label ids."""
        return mapped(ids, self.classes_of)

    @property
    def window(self) -> str:
        """Return the window as a clause, that of the first channel if each has one."""
        return self.slicing.windows.clause

    def window_option(self, low: float, high: float) -> str:
        """Return the options that show these values."""
        return self.slicing.windows.option(low, high)

    def limits(self, index: int) -> tuple[float, float]:
        """Return the smallest and the largest value of a slice, in the unit of the volume."""
        case, number = self.samples[index]
        grey = case.image.read().plane(self.slicing.axis, number)
        return float(grey.min()), float(grey.max())

    def release(self) -> None:
        """Free the cached volumes."""
        self.volumes.clear()

    @property
    def settings(self) -> Mapping[str, bool | int | float | str | None]:
        """Return window, size and classes; the slice is part of the digest."""
        return {
            **self.slicing.windows.settings,
            "size": self.slicing.size,
            "labels": _joined(f"{label}:{kind}" for label, kind in sorted(self.classes_of.items())),
            **({"regions": _joined(label_names(self.classes))} if label_names(self.classes) else {}),
            "unlisted": self.unlisted,
            "cache_key": _joined(sorted({scan.cache_key for case in self.cases for scan in case.scans})),
        }

    def _of_slice(self, files: str, number: int) -> str:
        return hashlib.sha256(f"{files} {self.slicing.axis} {number}".encode()).hexdigest()

    def _chosen(self, case: Case) -> list[int]:
        """Check a volume's grid and label ids and return the numbers of its selected slices."""
        axis = self.slicing.axis
        files = self.index.digest(case.image.files), self.index.digest(case.label.files)
        for scan in case.further:
            check_same(scan, case.label)
        key = " ".join((*files, case.image.cache_key, case.label.cache_key, axis))
        length, counts = self.index.labels(key, lambda: counted_labels(case.image, case.label, axis))
        for count in counts:
            self._counts[count.label] += count.pixels
            if count.label not in self.classes_of and self.unlisted == "refuse":
                self._unknown.setdefault(str(case.label.files[0]), Counter())[count.label] += count.pixels
        pixels = np.zeros(length, dtype=np.int64)
        for count in counts:
            if self.classes_of.get(count.label, 0) not in (0, IGNORE):
                pixels[count.slice] += count.pixels
        chosen: list[int] = np.flatnonzero(pixels >= self.slicing.minimum).tolist()
        if not pixels.any():
            self._foreign[case.name] = {count.label for count in counts} - {0}
        elif not chosen:
            self._bare.append(case.name)
        return chosen[:: self.slicing.every]

    def _refuse_unknown(self) -> None:
        files, known = list(self._unknown), _joined(sorted(self.classes_of))
        unknown = sum(self._unknown.values(), Counter[int]())
        asks = self.remedy == ORGANS and not label_names(self.classes)
        fitting = proposed_for({0: 1, **self._counts}) if asks else ""
        raise UnknownLabelsError(
            f"{files[0]} must hold only the label ids {known}, got {counted(unknown)} as well, in "
            f"{len(files)} of {len(self.cases)} volumes; {self.remedy}"
            + (f"; all ids: {fitting}" if fitting else "")
        )

    @property
    def _label_ids(self) -> str:
        return _joined(label for label, kind in sorted(self.classes_of.items()) if kind)

    def _notes(self) -> list[Note]:
        """Return notes on volumes without samples or without foreground, with their label ids."""
        count, notes = len(self.cases), list[Note]()
        result = "give no sample" if self.slicing.minimum else "give only empty masks"
        foreign = tuple(name for name, held in self._foreign.items() if held)
        if foreign:
            held = sorted(set[int]().union(*self._foreign.values()))
            some = listed([str(label) for label in held], 8)
            notes.append(
                Note(
                    f"{len(foreign)} of {count} volumes {result}: their labels have none of the ids "
                    f"{self._label_ids}, but {some}; correct if the organ is absent, wrong if it has another "
                    "code",
                    foreign,
                )
            )
        if empty := tuple(name for name, held in self._foreign.items() if not held):
            notes.append(Note(f"{len(empty)} of {count} volumes {result}: their labels are empty", empty))
        if bare := tuple(self._bare):
            text = f"{len(bare)} of {count} volumes give no sample: none of their slices has"
            notes.append(Note(f"{text} {self.slicing.minimum} pixels of the ids {self._label_ids}", bare))
        return [*notes, *self._remarks]

    def _classes(self, ids: NDArray[np.uint16], case: Case) -> Mask:
        """Return the class of each label id."""
        known = np.unique(ids).tolist()
        if self.unlisted == "refuse" and not self.classes_of.keys() >= set(known):
            raise InputError(f"{case.label.files[0]} must not change during reading; start again")
        return classes_in(ids, self.classes_of)


class Slices(SegmentationData):
    """Base class of data sets of labelled volumes: slice selection and display window.

    Args:
        root: data set folder; all files must lie inside it.
        level: centre of the grey window, in Hounsfield units for CT; 40 if not given.
        width: width of the window, 400 if not given; with level 40, -160 is black and 240 is white, the usual
            abdominal soft-tissue window.
        axis: slice direction: axial, coronal or sagittal.
        minimum: least number of foreground pixels per slice, at the original size; 0 includes empty slices.
        every: keep every n-th labelled slice of a volume, starting with the first.
        size: side in pixels of the square to resize slices to; original size if not given.
        windows: level and width of each channel, `[[40, 400], [300, 1500]]`, instead of one for all; null for
            a channel takes `percentiles`.
        percentiles: two percentiles of a volume's voxels other than 0 that are black and white, such as
            `[0.5, 99.5]`, instead of level and width, for MR, whose values have no unit.
        members: see `SegmentationData`, also for all further arguments; patients stay on one side of a split.
        nonmembers: see `SegmentationData`.
    """

    unlisted: Unlisted = "refuse"
    """Treatment of label ids without a class."""
    regions: tuple[str, ...] = ()
    """Names of labels that may overlap, whose sets are the classes."""
    usual_window = USUAL
    """Level and width where none are given."""

    def __init__(
        self,
        *,
        members: int | None,
        nonmembers: int | None,
        root: str | None = None,
        level: float | None = None,
        width: float | None = None,
        axis: Axis = "axial",
        minimum: int = 1,
        every: int = 1,
        size: int | None = 256,
        windows: WindowSetting | None = None,
        percentiles: list[float] | None = None,
        **split_and_loading: Any,
    ) -> None:
        super().__init__(members=members, nonmembers=nonmembers, **split_and_loading)
        self.root = root
        self.slicing = Slicing(
            windows=windows_of(level, width, windows, percentiles, usual=self.usual_window),
            axis=axis,
            minimum=minimum,
            every=every,
            size=size,
        )

    @abstractmethod
    def find(self) -> Path:
        """Return the data set folder; raise InputError if it does not exist."""

    @abstractmethod
    def cases(self, root: Path) -> list[Case]:
        """Return the volumes below the data set folder."""

    @abstractmethod
    def classes_of(self) -> Mapping[int, int]:
        """Return the class of each label id."""

    def read_source(self) -> Source:
        """Scan new labels and return the slices."""
        root = self.find()
        name = hashlib.sha256(str(root.resolve()).encode("utf-8", "surrogateescape")).hexdigest()
        cache = Path(self.cache) if self.cache else default_folder()
        bar = DecodingBar("reading all volumes", "volume")
        with persistent_digests(cache / "digests.json"), bar:
            return SliceSource(
                self.cases(root),
                labels=self.classes_of(),
                regions=self.regions,
                unlisted=self.unlisted,
                remedy=ORGANS if "organs" in self.hparams else "correct the file",
                slicing=self.slicing,
                index=SliceIndex(cache / "slices" / f"{name}.json"),
                progress=bar,
            )


def _joined(items: Iterable[object]) -> str:
    return ", ".join(map(str, items))
