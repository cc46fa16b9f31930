"""Polyps in colonoscopy: the five-part benchmark in the layout of PraNet, and CVC-ClinicDB alone."""

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from seg_mia.data.base import SegmentationData
from seg_mia.data.images.file_pairs import Sample
from seg_mia.data.images.paired import Paired, first_folder
from seg_mia.data.images.reading import list_files, pairs
from seg_mia.data.root import find_root, path_below
from seg_mia.data.sets.kvasir import DUPLICATES
from seg_mia.data.source import Source, listed
from seg_mia.errors import InputError

Part = Literal["train", "CVC-300", "CVC-ClinicDB", "CVC-ColonDB", "ETIS-LaribPolypDB", "Kvasir"]
Frame = tuple[str, str]
"""Data set of video frames, and the name of a frame in it."""

CLINIC = "CVC-ClinicDB"
GET_CLINIC = "CVC-ClinicDB from polyp.grand-challenge.org/CVCClinicDB"
IMAGES, MASKS = ("images", "image"), ("masks", "mask")
THRESHOLD = 127


class Polyps(SegmentationData):
    """PraNet's `TrainDataset` (900 Kvasir-SEG images, 550 CVC-ClinicDB frames) and five `TestDataset` sets.

    Plain numbers as names denote video frames, and frames of one video must stay on one side of a split. The
    files do not state the video of a frame; a CSV file provided by the user does.

    Args:
        root: the folder with `TrainDataset` and `TestDataset`; if not given, `polyps` or `PraNet` under
            $SEG_MIA_DATA.
        sets: subsets to read: `train`, and folder names below `TestDataset`.
        sequences: CSV file below the root with the columns frame_id and sequence_id, and part (a name below
            `TestDataset`) for data other than CVC-ClinicDB, whose frames are also in `train`; null treats
            frames as independent, so members and non-members may be neighbouring frames.
        size: side in pixels after resizing.
        members: see `SegmentationData`, also for all further arguments.
        nonmembers: see `SegmentationData`.
        reference: see `SegmentationData`.
    """

    def __init__(
        self,
        *,
        root: str | None = None,
        sets: list[Part] | None = None,
        sequences: str | None = "sequences.csv",
        size: int = 256,
        members: int | None = 300,
        nonmembers: int | None = 200,
        reference: int | None = None,
        **split_and_loading: Any,
    ) -> None:
        super().__init__(members=members, nonmembers=nonmembers, reference=reference, **split_and_loading)
        self.save_hyperparameters(logger=False)
        chosen: list[Part] = ["train"]
        self.root, self.sets, self.sequences, self.size = root, sets or chosen, sequences, size

    def find(self) -> Path:
        """Return the given folder, or one found under a known name."""
        return find_root(
            self.root,
            ("polyps", "PraNet", "polyp_benchmark"),
            get="the polyp benchmark from github.com/DengPingFan/PraNet",
            layout="TrainDataset/{images,masks} and TestDataset/NAME/{images,masks}",
        )

    def read_source(self) -> Source:
        """Return the pairs of the selected subsets, named `part/file`."""
        root = self.find()
        ungrouped = [sample for part in dict.fromkeys(self.sets) for sample in _part(root, part)]
        frames = [_frame(sample.name) for sample in ungrouped]
        groups = sequences_of([frame for frame in frames if frame], root, self.sequences)
        samples = [
            sample._replace(group=groups[frame] if frame else sample.name)
            for sample, frame in zip(ungrouped, frames, strict=True)
        ]
        return _paired(samples, self.size)

    def known_duplicates(self) -> list[list[str]]:
        """Return the known Kvasir-SEG duplicates present in the data."""
        id_of_file = {name.rpartition("/")[2]: name for name in self.source.ids}
        return [[id_of_file[name] for name in pair] for pair in DUPLICATES if id_of_file.keys() >= set(pair)]


class ClinicDB(SegmentationData):
    """CVC-ClinicDB in its own layout: `Original` and `Ground Truth` with 612 frames of 29 videos.

    Args:
        root: folder that contains both, directly or within `PNG` or `TIF`; if not given, `CVC-ClinicDB` or
            `clinicdb` under $SEG_MIA_DATA.
        sequences: CSV file below the root with the columns frame_id and sequence_id; null treats frames as
            independent, so members and non-members may be neighbouring frames.
        size: side in pixels after resizing.
        members: see `SegmentationData`, also for all further arguments.
        nonmembers: see `SegmentationData`.
        reference: see `SegmentationData`.
    """

    def __init__(
        self,
        *,
        root: str | None = None,
        sequences: str | None = "metadata.csv",
        size: int = 256,
        members: int | None = 150,
        nonmembers: int | None = 100,
        reference: int | None = None,
        **split_and_loading: Any,
    ) -> None:
        super().__init__(members=members, nonmembers=nonmembers, reference=reference, **split_and_loading)
        self.save_hyperparameters(logger=False)
        self.root, self.sequences, self.size = root, sequences, size

    def find(self) -> Path:
        """Return the given folder, or one found under a known name."""
        return find_root(
            self.root,
            ("CVC-ClinicDB", "clinicdb"),
            get=GET_CLINIC,
            layout="Original/NUMBER.tif and 'Ground Truth'/NUMBER.tif (or .png)",
        )

    def read_source(self) -> Source:
        """Return the frames in numerical order."""
        root = self.find()
        images = first_folder(root, ("Original", "PNG/Original", "TIF/Original"), content="the frames")
        masks = path_below(root, str(images.parent / "Ground Truth"))
        triples = pairs(list_files(images), list_files(masks))
        groups = sequences_of([(CLINIC, name) for name, _, _ in triples], root, self.sequences)
        samples = [Sample(*pair, group=groups[CLINIC, pair[0]]) for pair in triples]
        return _paired(samples, self.size)


def sequences_of(frames: Iterable[Frame], root: Path, file: str | None) -> dict[Frame, str]:
    """Return the video of each frame from a CSV file below the root; for None, each frame is its own group.

    Raises:
        InputError: the file does not exist, lacks a column or a frame, or lists a frame twice.
    """
    all_frames = list(frames)
    if file is None or not all_frames:
        return {frame: "/".join(frame) for frame in all_frames}
    known = _read_sequences(root, file)
    missing = [name for part, name in all_frames if (part, name) not in known]
    if missing:
        raise InputError(
            f"{root / file} must give the sequence of every frame, {len(missing)} of {len(all_frames)} are "
            f"missing ({listed(missing, 3)}); add them, or pass --data.sequences null to count frames as "
            "independent"
        )
    return {frame: known[frame] for frame in all_frames}


def _read_sequences(root: Path, file: str) -> dict[Frame, str]:
    path = path_below(root, file)
    if not path.is_file():
        raise InputError(
            f"frames of one video must stay on one side, so {root / file} must give the sequence of each "
            "frame, found none; write it with the columns frame_id and sequence_id (the table is at "
            "polyp.grand-challenge.org/CVCClinicDB), or pass --data.sequences null to count frames as "
            "independent"
        )
    try:
        with path.open(newline="", encoding="utf-8-sig") as lines:
            rows = list(csv.DictReader(lines, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} must be a CSV file in UTF-8, got: {error}; correct it") from error
    known = dict[Frame, str]()
    for number, row in enumerate(rows, start=2):
        frame, group = _row(row, f"{path} line {number}")
        if known.setdefault(frame, group) != group:
            raise InputError(f"{path} line {number} must not give frame {frame[1]} another sequence")
    return known


def _row(row: Mapping[Any, Any], where: str) -> tuple[Frame, str]:
    name, sequence = (str(row.get(column) or "").strip() for column in ("frame_id", "sequence_id"))
    if not name or not sequence:
        raise InputError(f"{where} must have values for frame_id and sequence_id; fill them in")
    part = str(row.get("part") or "").strip() or CLINIC
    return (part, name), f"{part}/sequence {sequence}"


def _part(root: Path, part: Part) -> list[Sample]:
    """Return the samples of one subset, each as its own group."""
    folder = "TrainDataset" if part == "train" else f"TestDataset/{part}"
    images, masks = (
        first_folder(root, [f"{folder}/{name}" for name in names], content=f"the {names[0]}")
        for names in (IMAGES, MASKS)
    )
    triples = pairs(list_files(images), list_files(masks))
    return [Sample(f"{part}/{name}", image, mask, name) for name, image, mask in triples]


def _frame(name: str) -> Frame | None:
    """Return a frame's video data set and name; None for Kvasir-SEG, whose names are not plain numbers."""
    part, _, file = name.partition("/")
    if not file.isdecimal():
        return None
    return (CLINIC if part == "train" else part), file


def _paired(samples: list[Sample], size: int) -> Paired:
    return Paired(samples, channels=3, classes=2, threshold=THRESHOLD, width=size, height=size)
