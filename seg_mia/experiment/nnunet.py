"""A folder of nnU-Net v2 as a config: network, weights, data and split of a training."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from seg_mia.config.files import Config
from seg_mia.config.spec import ClassSpec
from seg_mia.data.images.reading import list_files, read_image
from seg_mia.data.nnunet_cases import IMAGES, TEST, VOLUMES, NnUNetLabels, read_labels, region_table
from seg_mia.data.nnunet_folds import ALL, UNSEEN, VALIDATION, Unseen, validated
from seg_mia.data.progress import DecodingBar
from seg_mia.data.volumes.nnunet_source import NnUNetVolumeSource
from seg_mia.errors import InputError
from seg_mia.models.nnunet.folder import NnUNetFolder, numbered_folds, read_folder
from seg_mia.models.nnunet.specification import network_spec

FINAL = "checkpoint_final.pth"
RAW, PREPROCESSED = "nnUNet_raw", "nnUNet_preprocessed"
"""nnU-Net's environment variables, and the usual names of these folders."""
SPLITS = "splits_final.json"
_ROUNDED = 1e-6
"""Share of a range below which a value of a sample is 0: ten times the rounding of 32 bits."""


@dataclass(frozen=True)
class NnUNetTraining:
    """A training of nnU-Net v2 to audit.

    Args:
        nnunet: folder of the training, such as nnUNet_results/Dataset101_X/nnUNetTrainer__nnUNetPlans__2d.
        folds: folds whose networks are averaged: numbers, or `all` with a checkpoint.
        raw: folder of the raw data, with dataset.json and imagesTr; found below $nnUNet_raw or beside
            nnUNet_results if not given.
        splits: splits_final.json; found below $nnUNet_preprocessed or beside nnUNet_results, else read from
            the cases in fold_K/validation, if not given.
        checkpoint: file of the weights in each fold's folder.
        mirroring: average over mirror images as nnU-Net does unless told otherwise.
        step: distance of patches as a fraction of their sides.
        unseen: non-members: `validation` cases, labelled cases of `imagesTs`, or `both`; by default those
            that exist, without validation cases where these chose the checkpoint.
    """

    nnunet: str
    folds: str | int | list[int] = "all"
    raw: str | None = None
    splits: str | None = None
    checkpoint: str = FINAL
    mirroring: bool = True
    step: float = 0.5
    unseen: Unseen | None = None

    @property
    def words(self) -> list[str]:
        """Equivalent words of a command line."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        default = {field.name: field.default for field in fields(self)}
        words = list[str]()
        for name, value in values.items():
            if value != default[name]:
                text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
                words.append(f"--{name}={text.lower() if isinstance(value, bool) else text}")
        return words

    @property
    def name(self) -> str:
        """Name of its runs: data set, configuration and folds."""
        path = Path(self.nnunet)
        folds = "_".join(_folds(self.folds) or ["all"])
        return f"{path.resolve().parent.name}-{path.name.rpartition('__')[2]}-fold_{folds}"


def parsed_training(values: Mapping[str, str]) -> NnUNetTraining:
    """Return a training from command-line options; raise InputError for invalid values."""
    given: dict[str, Any] = dict(values)
    if "mirroring" in given:
        if given["mirroring"] not in {"true", "false"}:
            raise InputError(f"mirroring must be true or false, got {given['mirroring']!r}; correct it")
        given["mirroring"] = given["mirroring"] == "true"
    if "step" in given:
        try:
            given["step"] = float(given["step"])
        except ValueError:
            raise InputError(
                f"step must be a number above 0, at most 1, got {given['step']!r}; 0.5 is usual"
            ) from None
    if given.get("unseen") not in {None, *UNSEEN}:
        raise InputError(f"unseen must be one of {', '.join(UNSEEN)}, got {given['unseen']!r}; correct it")
    return NnUNetTraining(**given)


def config_of(training: NnUNetTraining) -> Config:
    """Return the config that adopts a training: task with network and weights, data with the folds' members.

    Raises:
        InputError: what is missing, inconsistent or not supported.
    """
    path = Path(training.nnunet)
    folder = read_folder(path)
    folds = fold_names(training)
    raw = _raw(training, folder)
    labels = read_labels(raw / "dataset.json", VOLUMES if folder.volumes else IMAGES)
    if (labels.channels, labels.classes, labels.ignored) != (folder.channels, folder.classes, folder.ignored):
        raise InputError(
            f"{raw} must hold the data of {folder.dataset}, got other channels or labels in its "
            "dataset.json; correct "
            "--raw"
        )
    _check_regions(raw, labels, folder)
    network = network_spec(
        folder, folds, checkpoint=training.checkpoint, mirroring=training.mirroring, step=training.step
    )
    task: dict[str, Any] = {"network": network, "weights": str(path), "gives": "logits", "resize": False}
    if folder.regions:
        task |= {"gives": "multilabel", "loss": "label_dice_bce"}
    if folder.volumes:
        kind, settings = _volumes(raw, network, reoriented=folder.reoriented)
    else:
        kind, settings = _images(raw, labels, network)
    data = {
        "root": str(raw),
        "splits": _splits(training, folder, folds),
        "folds": folds,
        "unseen": training.unseen or _unseen(training, raw),
        "subset": "members" if _all_members(folds, raw) else "nonmembers",
        **settings,
    }
    return {
        "model": {"class_path": "seg_mia.tasks.segmentation.Segmentation", "init_args": task},
        "data": {"class_path": f"seg_mia.data.sets.nnunet.{kind}", "init_args": data},
    }


def _images(raw: Path, labels: NnUNetLabels, network: ClassSpec) -> tuple[str, dict[str, Any]]:
    """Return data module and settings of images, and set the network's levels."""
    bits = _bits(raw, labels)
    network["init_args"]["levels"] = [[0.0, float(2**bits - 1)] for _ in range(labels.channels)]
    return "NnUNetRaw", {"bits": bits, "batch_size": 2}


def _volumes(raw: Path, network: ClassSpec, *, reoriented: bool) -> tuple[str, dict[str, Any]]:
    """Return data module and settings of volumes, and set the network's levels and spacing.

    Levels of a channel are those between which its values matter: of CT the limits of its normalisation,
    else the range of all files. 0 lies inside, so that what is zero remains it.
    """
    source, arguments = NnUNetVolumeSource(raw, reoriented=reoriented), network["init_args"]
    limits = {
        channel: (float(values["low"]), float(values["high"]))
        for channel, values in enumerate(arguments["normalisation"])
        if values["scheme"] == "CTNormalization"
    }
    levels = {
        channel: (low if low < 0 else -1.0, high if high > 0 else 1.0)
        for channel, (low, high) in limits.items()
    }
    further = [channel for channel in range(source.channels) if channel not in limits]
    if further:
        with DecodingBar("reading the range of values", "volume") as bar:
            ranges = source.ranges(further, bar)
        for channel, (low, high) in ranges.items():
            levels[channel] = (min(low, 0.0), max(high, 0.0) or min(low, 0.0) + 1)
    ordered = [list(levels[channel]) for channel in range(source.channels)]
    arguments["levels"] = ordered
    if not source.whole:
        arguments["zero"] = _ROUNDED * max(high - low for low, high in ordered)
    if not source.varied:
        arguments["grid"]["spacing"] = list(source.geometries[0].spacing)
    settings: dict[str, Any] = {"levels": ordered, "batch_size": 1}
    return "NnUNetVolumes", settings | ({"reoriented": True} if reoriented else {})


def _check_regions(raw: Path, labels: NnUNetLabels, folder: NnUNetFolder) -> None:
    """Raise InputError for raw data whose regions differ in name, order or ids from the training's."""
    trained = region_table(folder.labels["labels"], folder.ignored)
    if labels.table == trained:
        return
    asked, got = (
        "labels that exclude each other" if table is None else f"the sets {table.text}"
        for table in (trained, labels.table)
    )
    raise InputError(
        f"{raw} must have the regions of the training in its dataset.json, {asked}, got {got}; correct --raw"
    )


def fold_names(training: NnUNetTraining) -> list[str]:
    """Return the names of a training's folds; raise InputError if there are none."""
    return _folds(training.folds) or numbered_folds(Path(training.nnunet), training.checkpoint)


def _folds(folds: str | int | list[int]) -> list[str]:
    """Return the names of folds; none for all of them."""
    if isinstance(folds, int):
        return [str(folds)]
    if isinstance(folds, list):
        names = [str(fold) for fold in folds]
    else:
        names = [name.strip() for name in folds.strip("[]").split(",")]
    if names == [ALL]:
        return []
    if not all(name.isdecimal() for name in names) or len(set(names)) < len(names):
        raise InputError(f"folds must be numbers, 0 or 0,1,2, or all, got {folds!r}; correct --folds")
    return names


def _raw(training: NnUNetTraining, folder: NnUNetFolder) -> Path:
    """Return the folder of the raw data."""
    if training.raw is not None:
        return Path(training.raw)
    places = _places(training, folder, RAW)
    for candidate in places:
        if (candidate / "dataset.json").is_file():
            return candidate
    raise InputError(
        f"the raw data of {folder.dataset} is not at {' or '.join(map(str, places))}; name it: --raw "
        f"nnUNet_raw/{folder.dataset}"
    )


def _places(training: NnUNetTraining, folder: NnUNetFolder, kind: str) -> list[Path]:
    """Return the usual places of a data set in one of nnU-Net's folders."""
    base = os.environ.get(kind)
    beside = Path(training.nnunet).resolve().parents[2] / kind / folder.dataset
    return [*([Path(base) / folder.dataset] if base else []), beside]


def _splits(training: NnUNetTraining, folder: NnUNetFolder, folds: list[str]) -> str | None:
    """Return splits_final.json, else the training's folder where each fold has validation predictions."""
    if folds == [ALL]:
        return None
    if training.splits is not None:
        return training.splits
    places = [candidate / SPLITS for candidate in _places(training, folder, PREPROCESSED)]
    for file in (folder.path / SPLITS, *places):
        if file.is_file():
            return str(file)
    if all(validated(folder.path / f"fold_{fold}" / VALIDATION) for fold in folds):
        return str(folder.path)
    raise InputError(
        f"{SPLITS} of {folder.dataset} is not at {' or '.join(map(str, places))}; name it: --splits FILE"
    )


def _unseen(training: NnUNetTraining, raw: Path) -> Unseen:
    """Return the non-members: all that exist, but no validation cases that may have chosen the checkpoint."""
    if training.checkpoint == FINAL:
        return "both"
    if (raw / f"labels{TEST}").is_dir():
        return "imagesTs"
    raise InputError(
        f"{training.checkpoint} was chosen on the validation cases, which are no non-members then, and "
        f"{raw} has no "
        f"labels{TEST}; use {FINAL}, or state --unseen validation"
    )


def _all_members(folds: list[str], raw: Path) -> bool:
    """Return whether some fold was trained on each labelled case."""
    return len(folds) > 1 and not (raw / f"labels{TEST}").is_dir()


def _bits(raw: Path, labels: NnUNetLabels) -> int:
    """Return the grey levels of the first image."""
    files = list_files(raw / "imagesTr", (labels.ending,))
    first = files[next(iter(files))]
    several = sum(name.rpartition("_")[0] == first.stem.rpartition("_")[0] for name in files) > 1
    grey = several or labels.channels == 1
    return 8 if read_image(first, 1 if grey else 3).itemsize == 1 else 16
