"""Image and mask files in a folder, paired by name or by a CSV file."""

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from seg_mia.data.case_files import (
    channels_by_case,
    files_by_case,
    is_pattern,
    lengths_of_images,
    lengths_of_masks,
)
from seg_mia.data.csv_lines import csv_lines
from seg_mia.data.images.file_pairs import FilePairs, Sample
from seg_mia.data.images.label_ids import LabelTable
from seg_mia.data.images.reading import SUFFIXES, list_files, pairs
from seg_mia.data.label_files import LabelFiles
from seg_mia.data.patients import Patients
from seg_mia.data.resize import resized, resized_mask
from seg_mia.data.root import path_below, regular
from seg_mia.data.source import Image, Mask, Note
from seg_mia.errors import InputError, name_some, refuse_idle


class Row(NamedTuple):
    """One line of a manifest as text, and its name in error messages."""

    where: str
    image: str
    mask: str | None
    group: str | None
    columns: Mapping[str, str]


class FolderSource(FilePairs):
    """Image and mask files below one folder.

    Without a manifest every image needs a mask of the same name, and ids are paths below `images`, without
    suffix. With one, each line is a sample: with a mask column both paths are relative to `root`; without,
    the image column names the file below `images` and, whatever the suffix, below `masks`.

    Args:
        root: data set folder; all files must lie inside it.
        images: folder of the images below `root`, or a pattern of paths with `{case}`.
        masks: folder of the masks below `root`, or such a pattern; see `seg_mia.data.label_files`.
        channels: 1 for grey, 3 for RGB, other numbers for bands of TIFF files; grey is repeated for 3.
        classes: number of classes, background included, 2 to 255; ignored with a table.
        threshold: mask values above it are class 1 (two classes only); None interprets values as class ids.
        table: class of each mask value; None interprets values as class ids, or by the threshold.
        channel_endings: ends of the names of each channel's grey file, such as `_0000` and `_0001`; without
            them an image is one file. Not with a manifest or `image_ending`.
        label_files: labels whose masks are files of their own, instead of a table.
        value_range: image values that become 0 and 1; by the number of bits if None.
        image_ending: end of image names before the suffix, such as `_image`, not part of ids.
        mask_ending: end of mask names before the suffix, such as `_mask`; needed where images and masks are
            in one folder.
        size: side of the square to resize samples to; None keeps the original size.
        manifest: CSV file, relative to `root`.
        image_column: manifest column of image paths.
        mask_column: manifest column of mask paths; optional if left at its default.
        group_column: manifest column of groups (patient, video) that stay on one side of a split; None uses
            the column `group` if present, else every sample is independent.
        patient: regular expression matched against a sample's name; its first group is the split group. Only
            without a group column.

    Raises:
        InputError: files, manifest and arguments are incompatible.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        images: str = "images",
        masks: str = "masks",
        channels: int,
        classes: int,
        threshold: int | None = None,
        table: LabelTable | None = None,
        channel_endings: Sequence[str] = (),
        label_files: LabelFiles | None = None,
        value_range: tuple[float, float] | None = None,
        image_ending: str = "",
        mask_ending: str = "",
        size: int | None = None,
        manifest: str | None = None,
        image_column: str = "image",
        mask_column: str = "mask",
        group_column: str | None = None,
        patient: str | None = None,
    ) -> None:
        stated = classes if label_files is None else 2
        _check(len(channel_endings) or channels, stated, threshold, size)
        channels = len(channel_endings) or channels
        self.channels, self.threshold, self.size, self.table = channels, threshold, size, table
        self.value_range = value_range
        self.classes = classes if table is None else table.classes
        self.label_files = label_files
        if label_files is not None:
            self.classes = label_files.classes
        folder, endings = Path(root), (image_ending, mask_ending)
        if channel_endings or label_files is not None or is_pattern(images) or is_pattern(masks):
            if manifest is not None or image_ending or (label_files is not None and mask_ending):
                raise InputError(
                    "channel_endings, label_files and patterns exclude a manifest and endings of names, got "
                    "both; leave out one"
                )
            self.samples = _grouped(folder, (images, masks), channel_endings, mask_ending, label_files)
        elif manifest is None:
            if group_column is not None:
                raise InputError(
                    f"group_column={group_column} needs a manifest, got none; set manifest, or "
                    "group_column to null"
                )
            columns = {"image_column": (image_column, "image"), "mask_column": (mask_column, "mask")}
            refuse_idle("without a manifest", **columns)
            image_files, mask_files, left_out = _by_ending(folder, (images, masks), endings)
            self.samples = [Sample(*pair, group=pair[0]) for pair in pairs(image_files, mask_files)]
            text = f"{len(left_out)} files end neither in {image_ending!r} nor in {mask_ending!r}"
            self.notes = (Note(f"{text} and are left out", left_out),) if left_out else ()
        else:
            rows = _rows(path_below(folder, manifest), image_column, mask_column, group_column)
            self.samples = _listed(rows, folder, (images, masks), endings)
        if patient is not None:
            self.samples = _by_patient(self.samples, Patients(patient), root)
        self.ids = tuple(sample.name for sample in self.samples)
        self.groups = tuple(sample.group for sample in self.samples)
        names = self.samples[0].columns if self.samples else ()
        self.columns = {name: tuple(sample.columns[name] for sample in self.samples) for name in names}

    def decode(self, index: int) -> tuple[Image, Mask]:
        """Return image and mask at `size`: image by area or bilinear, mask by nearest neighbour."""
        image, mask = self.read(index)
        if self.size is None:
            return image, mask
        return resized(image, self.size, self.size), resized_mask(mask, self.size, self.size)

    @property
    def settings(self) -> Mapping[str, bool | int | float | str | None]:
        """Return all that decoded pixels depend on besides the files."""
        settings = {
            "channels": self.channels,
            "classes": int(self.classes),
            "threshold": self.threshold,
            "size": self.size,
            **({} if self.value_range is None else {"value_range": str(self.value_range)}),
        }
        if self.label_files is not None:
            return {**settings, "labels": self.label_files.text}
        return settings if self.table is None else {**settings, "labels": self.table.text}


def _listing(root: Path, folder: str) -> dict[str, Path]:
    return list_files(path_below(root, folder))


def _grouped(
    root: Path, places: tuple[str, str], channels: Sequence[str], mask_ending: str, labels: LabelFiles | None
) -> list[Sample]:
    """Return the samples of cases with several image or mask files each, or in the places of patterns."""
    lengths = (
        lengths_of_masks(root, places[1]) if labels is None else labels.lengths(root, places[1], SUFFIXES)
    )
    images = channels_by_case(root, places[0], channels, _listing, lengths)
    if labels is not None:
        parts = labels.of_cases(root, places[1], images, SUFFIXES)
        return [
            Sample(name, files[0], parts[name][0].path, name, further=files[1:], parts=parts[name])
            for name, files in images.items()
        ]
    others = lengths_of_images(root, places[0], channels)
    masks = {
        name.removesuffix(mask_ending): path
        for name, path in files_by_case(root, places[1], _listing, others).items()
        if name.endswith(mask_ending) and not (places[0] == places[1] and name.endswith(tuple(channels)))
    }
    first = {name: files[0] for name, files in images.items()}
    return [
        Sample(name, image, mask, group=name, further=images[name][1:])
        for name, image, mask in pairs(first, masks)
    ]


def _check(channels: int, classes: int, threshold: int | None, size: int | None) -> None:
    if channels < 1:
        raise InputError(f"channels must be 1 (grey), 3 (RGB) or a number of bands, got {channels}; set it")
    if not 2 <= classes <= 255:
        raise InputError(f"classes must be 2 to 255, background included, got {classes}; change it")
    if threshold is not None and (classes != 2 or threshold < 0):
        raise InputError(
            f"threshold must be 0 or more and makes 2 classes, got threshold={threshold}, classes={classes}; "
            "leave it out or set classes to 2"
        )
    if size is not None and size < 1:
        raise InputError(f"size must be at least 1 pixel, got {size}; change it or leave it out")


def _rows(manifest: Path, image_column: str, mask_column: str, group_column: str | None) -> list[Row]:
    """Return the lines of a manifest after checking that columns exist and are filled."""
    header, lines = csv_lines(manifest, "manifest")
    masks = None if mask_column == "mask" and "mask" not in header else mask_column
    groups = group_column or ("group" if "group" in header else None)
    for column in (name for name in (image_column, masks, groups) if name is not None):
        if column not in header:
            raise InputError(
                f"{manifest} must have a column {column!r}, got {', '.join(header) or 'none'}; "
                "set image_column, mask_column and group_column to its names"
            )
        if header.count(column) > 1:
            raise InputError(
                f"{manifest} must have one column {column!r}, got {header.count(column)}; rename the others"
            )
    further = [name for name in header if name not in {image_column, masks, groups}]
    if not lines:
        raise InputError(f"{manifest} must list samples, got none; add a line for each")
    return [
        Row(
            where,
            _cell(where, row, image_column),
            None if masks is None else _cell(where, row, masks),
            None if groups is None else _cell(where, row, groups),
            {name: row[name] for name in further},
        )
        for where, row in lines
    ]


def _cell(where: str, row: Mapping[str, str], column: str) -> str:
    if not (text := row[column]):
        raise InputError(f"{where} must have a value for {column!r}, got none; fill it in")
    return text


def _by_ending(
    root: Path, folders: tuple[str, str], endings: tuple[str, str]
) -> tuple[dict[str, Path], dict[str, Path], tuple[str, ...]]:
    """Return images and masks by name without their ending, and the names of other files."""
    parts, named = list[dict[str, Path]](), set[Path]()
    listings = [list_files(path_below(root, folder)) for folder in folders]
    for files, ending, other, kind in zip(listings, endings, endings[::-1], ("image", "mask"), strict=True):
        longer = (
            other if len(other) > len(ending) else None
        )  # a name with the longer ending is the other kind
        part = {
            name.removesuffix(ending): path
            for name, path in files.items()
            if name.endswith(ending) and not (longer and name.endswith(longer))
        }
        if not part:
            raise InputError(
                f"{root} must hold {kind} names that end in {ending!r}, got {name_some(list(files))}; "
                f"correct --data.{kind}_ending"
            )
        parts.append(part)
        named.update(part.values())
    left_out = tuple(
        sorted({str(path) for files in listings for path in files.values() if path not in named})
    )
    return parts[0], parts[1], left_out


def _listed(
    rows: Sequence[Row], root: Path, folders: tuple[str, str], endings: tuple[str, str]
) -> list[Sample]:
    """Return the samples of all manifest lines, in name order."""
    if rows[0].mask is not None:
        samples = [_by_path(row, root) for row in rows]
    else:
        image_files, mask_files, _ = _by_ending(root, folders, endings)
        samples = [_by_name(row, image_files, mask_files) for row in rows]
    by_name = dict[str, Sample]()
    for row, sample in zip(rows, samples, strict=True):
        if sample.name in by_name:
            raise InputError(f"{row.where} must list an image once, got {row.image} again; remove it")
        by_name[sample.name] = sample
    return [by_name[name] for name in sorted(by_name)]


def _by_patient(samples: Sequence[Sample], patients: Patients, root: str | Path) -> list[Sample]:
    """Return samples grouped by their names; a group column is an error."""
    grouped = [sample.name for sample in samples if sample.group != sample.name]
    if grouped:
        raise InputError(
            f"patient and a group column exclude each other, the manifest in {root} has a group for "
            f"{grouped[0]}; leave out patient, or the column"
        )
    return [sample._replace(group=patients.of(sample.name)) for sample in samples]


def _by_path(row: Row, root: Path) -> Sample:
    image, mask = (path_below(root, text) for text in (row.image, str(row.mask)))
    for path in (image, mask):
        if not path.is_file():
            raise InputError(f"{row.where} must name files below {root}, found no {path}; correct it")
        regular(path)
    name = image.relative_to(root.resolve()).with_suffix("").as_posix()
    return Sample(name, image, mask, row.group or name, row.columns)


def _by_name(row: Row, images: Mapping[str, Path], masks: Mapping[str, Path]) -> Sample:
    path = PurePosixPath(row.image)
    name = str(path.with_suffix("") if path.suffix.lower() in SUFFIXES else path)
    for kind, files in (("image", images), ("mask", masks)):
        if name not in files:
            raise InputError(f"{row.where} must name an image and a mask, found no {kind} {name}; correct it")
    return Sample(name, images[name], masks[name], row.group or name, row.columns)
