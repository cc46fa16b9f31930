"""The folder that a training of nnU-Net v2 leaves: plans, labels, folds and checkpoints, as plain values.

Nothing in these files is run or imported: names of classes select among known ones.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import cast

import torch

from seg_mia.config.spec import ClassSpec
from seg_mia.errors import InputError
from seg_mia.metrics.label_sets import LabelSets
from seg_mia.models.nnunet.plans import (
    ArchitectureArguments,
    ChannelNormalisation,
    Configuration,
    Labels,
    Plans,
    Stages,
    UNetPlan,
    label_number,
)
from seg_mia.models.nnunet.preprocessing import OF_CT, SCHEMES
from seg_mia.models.nnunet.unet import ACTIVATIONS, NORMS
from seg_mia.models.state_files import content_of

PREDICTIONS = "audit its saved predictions instead: audit --predictions"
NETWORKS = {"PlainConvUNet": "plain", "ResidualEncoderUNet": "residual"}
"""Class names of supported networks."""
READER = "NaturalImage2DIO"
PLANS, LABELS = "plans.json", "dataset.json"
RESAMPLING = "resample_data_or_seg_to_shape"
_FOLD = re.compile(r"fold_(\d+|all)")
_UNSUPPORTED = ("nonlin_first", "bottleneck_channels", "stem_channels", "block", "pool")
"""Arguments of networks that change them and are not supported, if set."""


@dataclass(frozen=True)
class NnUNetFolder:
    """A training of nnU-Net v2.

    Attributes:
        path: folder such as nnUNet_results/Dataset101_X/nnUNetTrainer__nnUNetPlans__2d.
        plans: content of plans.json.
        labels: content of dataset.json.
        configuration: its configuration in the plans, with inherited values.
        name: name of the configuration, such as 2d.
    """

    path: Path
    plans: Plans
    labels: Labels
    configuration: Configuration
    name: str

    @property
    def dataset(self) -> str:
        """Name of the data set, such as Dataset101_X."""
        return str(self.plans.get("dataset_name", self.path.parent.name))

    @property
    def channels(self) -> int:
        """Number of image channels."""
        return len(self.labels["channel_names"])

    @property
    def ending(self) -> str:
        """Ending of the image files."""
        return str(self.labels["file_ending"])

    @property
    def classes(self) -> int:
        """Number of classes, background included, without the label to ignore; `LabelSets` of regions."""
        return classes_of(self.labels["labels"])

    @property
    def regions(self) -> dict[str, list[int]]:
        """Label ids of each region, if labels are regions that may overlap."""
        return regions_of(self.labels["labels"])

    @property
    def ignored(self) -> int | None:
        """Label of pixels to ignore."""
        label = self.labels["labels"].get("ignore")
        return None if label is None else label_number(label)


def regions_of(labels: Mapping[str, int | list[int]]) -> dict[str, list[int]]:
    """Return the ids of each region of dataset.json's labels in their order, without background.

    Empty if no label has several ids: labels are exclusive classes then.
    """
    ids = {
        name: [int(i) for i in (label if isinstance(label, list) else [label])]
        for name, label in labels.items()
        if name != "ignore"
    }
    if all(len(members) == 1 for members in ids.values()):
        return {}
    return {name: members for name, members in ids.items() if set(members) != {0}}


def classes_of(labels: Mapping[str, int | list[int]]) -> int:
    """Return the number of classes of dataset.json's labels, background included; `LabelSets` of regions."""
    if regions := regions_of(labels):
        return LabelSets(tuple(regions))
    return len([name for name in labels if name != "ignore"])


def read_folder(path: Path) -> NnUNetFolder:
    """Return a training of nnU-Net v2 in 2-D.

    Raises:
        InputError: no such folder, unreadable or invalid files, and what is not supported: 3-D, cascades,
            other file readers.
    """
    plans, labels = cast(Plans, _json(path / PLANS)), cast(Labels, _json(path / LABELS))
    with _plain_errors(path):
        folder = _folder(path, plans, labels)
        _check(folder)
    return folder


@contextmanager
def _plain_errors(path: Path) -> Iterator[None]:
    """Convert errors of values that plans and labels lack, or that are of other types, to InputErrors."""
    try:
        yield
    except InputError:
        raise
    except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError) as error:
        raise InputError(
            f"{path} must hold plans and labels of nnU-Net v2, got {error!r}; copy them again"
        ) from None


def _folder(path: Path, plans: Plans, labels: Labels) -> NnUNetFolder:
    """Return a training, of the configuration in its folder's name."""
    name, known = path.name.rpartition("__")[2], plans["configurations"]
    if name not in known:
        raise InputError(
            f"{path} must end in __CONFIGURATION, one of {', '.join(known) or 'none'} in its plans.json, got "
            f"{name!r}; name the folder TRAINER__PLANS__CONFIGURATION"
        )
    return NnUNetFolder(path, plans, labels, _configuration(plans, name, path), name)


def nnunet_files(path: Path) -> list[Path]:
    """Return the files of a training that its answers and their comparison depend on."""
    patterns = (PLANS, LABELS, "fold_*/*.pth", "fold_*/validation/*.[!pj]*", "fold_*/validation/*.png")
    return sorted({file for pattern in patterns for file in path.glob(pattern) if file.suffix != ".npz"})


def numbered_folds(path: Path, checkpoint: str) -> list[str]:
    """Return the folds with a checkpoint, those with numbers; `all` if it is the only one."""
    folds = sorted(
        match[1] for file in path.glob(f"fold_*/{checkpoint}") if (match := _FOLD.fullmatch(file.parent.name))
    )
    numbers = sorted((fold for fold in folds if fold != "all"), key=int)
    if not folds:
        raise InputError(
            f"{path} must hold fold_K/{checkpoint}, found none; correct --nnunet or --checkpoint"
        )
    return numbers or folds


def network_spec(
    folder: NnUNetFolder, folds: Sequence[str], *, checkpoint: str, mirroring: bool = True, step: float = 0.5
) -> ClassSpec:
    """Return class path and arguments of the deployed network, all plain values.

    Args:
        folder: the training.
        folds: names of the folds to average.
        checkpoint: file of the weights in each fold's folder.
        mirroring: average over the mirror images that the training allows.
        step: distance of patches as a fraction of their sides.

    Raises:
        InputError: a missing checkpoint, or one of another configuration; a network that is not supported.
    """
    axes = {tuple(_mirrored(folder, fold, checkpoint)) for fold in folds}
    if len(axes) > 1:
        raise InputError(
            f"folds of one training must allow the same mirroring, got {sorted(axes)}; name fewer --folds"
        )
    with _plain_errors(folder.path):
        arguments: dict[str, object] = {
            "architecture": _architecture(folder),
            "channels": folder.channels,
            "classes": len(folder.regions) or folder.classes,
            "patch": list(folder.configuration["patch_size"]),
            "normalisation": _normalisation(folder),
            "folds": list(folds),
            "checkpoint": checkpoint,
            "mirrored": list(axes.pop()) if mirroring else [],
            "step": step,
        }
        if folder.regions:
            arguments["regions"] = True
        spacing = folder.configuration.get("spacing", [1, 1])
        if list(spacing) != [1, 1]:  # files without spacing count as 1
            arguments["zoom"] = [1 / float(spacing[0]), 1 / float(spacing[1])]
    return {"class_path": "seg_mia.models.nnunet.network.NnUNet", "init_args": arguments}


def _json(file: Path) -> dict[str, object]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"{file} must be a JSON file of nnU-Net v2, got {type(error).__name__}; name the folder of a "
            "training, nnUNet_results/DATASET/TRAINER__PLANS__CONFIGURATION"
        ) from None
    if not isinstance(content, dict):
        raise InputError(f"{file} must hold a mapping, got {type(content).__name__}; copy it again")
    return content


def _configuration(plans: Plans, name: str, path: Path) -> Configuration:
    """Return a configuration with the values that it inherits."""
    known, chain = plans["configurations"], list[str]()
    current: str | None = name
    while current is not None:
        if current in chain or not isinstance(known.get(current), dict):
            raise InputError(f"{path / PLANS} must define configuration {current!r} once; copy it again")
        chain.append(current)
        current = known[current].get("inherits_from")
    merged = Configuration()
    for parent in reversed(chain):
        merged.update(known[parent])
    return merged


def _check(folder: NnUNetFolder) -> None:
    """Raise InputError for what is not supported."""
    configuration, labels = folder.configuration, folder.labels["labels"]
    if len(configuration["patch_size"]) != 2:
        raise InputError(
            f"{folder.path}: {folder.name} is a configuration in 3-D, which is not supported; {PREDICTIONS}"
        )
    if configuration.get("previous_stage"):
        raise InputError(
            f"{folder.path}: {folder.name} is the stage of a cascade, which is not supported; {PREDICTIONS}"
        )
    if folder.plans.get("image_reader_writer") != READER:
        raise InputError(
            f"{folder.path} must read images by {READER} (PNG, TIFF, BMP), got "
            f"{folder.plans.get('image_reader_writer')!r}: volumes are cropped and normalised as a whole; "
            f"{PREDICTIONS}"
        )
    numbers = sorted(
        int(label[0] if isinstance(label, list) else label)
        for name, label in labels.items()
        if name != "ignore" and label != []
    )
    if not folder.regions and (numbers != list(range(len(numbers))) or len(numbers) < 2):
        raise InputError(
            f"{folder.path / 'dataset.json'} must have labels 0, 1, ..., got {numbers}; copy it again"
        )
    for kind in ("data", "probabilities"):
        function = configuration.get(f"resampling_fn_{kind}", RESAMPLING)
        if list(configuration.get("spacing", [1, 1])) != [1, 1] and function != RESAMPLING:
            raise InputError(
                f"{folder.path}: images are resampled by {function}, which is not supported; {PREDICTIONS}"
            )


def _mirrored(folder: NnUNetFolder, fold: str, checkpoint: str) -> list[int]:
    """Return the axes of mirroring that a fold's training allows, after checking its configuration."""
    file = folder.path / f"fold_{fold}" / checkpoint
    if not file.is_file():
        available = ", ".join(numbered_folds(folder.path, checkpoint))
        raise InputError(
            f"fold {fold} must have the checkpoint {file}, found none; there are folds {available}"
        )
    stamp = file.stat()
    name, axes = _facts(file, stamp.st_mtime_ns, stamp.st_size)
    if name != folder.name:
        raise InputError(f"{file} must be of configuration {folder.name}, got {name!r}; name its own folder")
    return list(axes)


@lru_cache(maxsize=64)
def _facts(file: Path, *_: int) -> tuple[object, tuple[int, ...]]:
    """Return a checkpoint's configuration and axes of mirroring; read once for each version of the file."""
    content = content_of(file)
    settings = content.get("init_args") if isinstance(content, dict) else None
    if not isinstance(settings, dict):
        raise InputError(f"{file} must be a checkpoint of nnU-Net v2, got another file; name its folder")
    axes = content.get("inference_allowed_mirroring_axes") or ()
    return settings.get("configuration"), tuple(int(axis) for axis in axes)


def _architecture(folder: NnUNetFolder) -> UNetPlan:
    """Return the plan of the U-Net, from new plans or those of the first releases of version 2."""
    configuration = folder.configuration
    if "architecture" in configuration:
        described = configuration["architecture"]
        return _planned(str(described["network_class_name"]), described["arch_kwargs"], folder)
    stages = len(configuration["n_conv_per_stage_encoder"])
    first, largest = configuration["UNet_base_num_features"], configuration["unet_max_num_features"]
    arguments: ArchitectureArguments = {
        "features_per_stage": [min(first * 2**stage, largest) for stage in range(stages)],
        "conv_op": "torch.nn.modules.conv.Conv2d",
        "kernel_sizes": configuration["conv_kernel_sizes"],
        "strides": configuration["pool_op_kernel_sizes"],
        "n_conv_per_stage": configuration["n_conv_per_stage_encoder"],
        "n_blocks_per_stage": configuration["n_conv_per_stage_encoder"],
        "n_conv_per_stage_decoder": configuration["n_conv_per_stage_decoder"],
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm2d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "nonlin": "torch.nn.LeakyReLU",
    }
    return _planned(str(configuration["UNet_class_name"]), arguments, folder)


def _planned(path: str, arguments: ArchitectureArguments, folder: NnUNetFolder) -> UNetPlan:
    kind = NETWORKS.get(path.rpartition(".")[2])
    if kind is None or not (path.startswith("dynamic_network_architectures.") or "." not in path):
        raise InputError(
            f"{folder.path}: the network must be one of {', '.join(NETWORKS)}, got {path!r}; {PREDICTIONS}"
        )
    if set_ := [name for name in _UNSUPPORTED if arguments.get(name)]:
        raise InputError(f"{folder.path}: {path} with {set_[0]} is not supported; {PREDICTIONS}")
    stages = len(arguments["features_per_stage"])
    blocks = arguments["n_conv_per_stage"] if kind == "plain" else arguments["n_blocks_per_stage"]
    _layer(arguments.get("conv_op"), {"Conv2d": torch.nn.Conv2d}, folder)
    return {
        "kind": kind,
        "features": list(arguments["features_per_stage"]),
        "kernels": _each(arguments["kernel_sizes"], stages),
        "strides": _each(arguments["strides"], stages),
        "blocks": _each(blocks, stages),
        "decoder": _each(arguments["n_conv_per_stage_decoder"], stages - 1),
        "bias": bool(arguments.get("conv_bias", False)),
        "norm": _layer(arguments.get("norm_op"), NORMS, folder),
        "norm_settings": dict(arguments.get("norm_op_kwargs") or {}),
        "activation": _layer(arguments.get("nonlin"), ACTIVATIONS, folder),
        "activation_settings": dict(arguments.get("nonlin_kwargs") or {}),
    }


def _each(value: Stages, count: int) -> list[int | Sequence[int]]:
    return [value] * count if isinstance(value, int) else list(value)


def _layer(path: str | None, known: Mapping[str, type], folder: NnUNetFolder) -> str:
    """Return the name of a layer of torch among known ones; the identity for none."""
    if path is None and "Identity" in known:
        return "Identity"
    name = str(path).rpartition(".")[2]
    if name not in known or not str(path).startswith("torch.nn."):
        raise InputError(
            f"{folder.path}: layers must be {', '.join(known)} of torch.nn, got {path!r}; {PREDICTIONS}"
        )
    return name


def _normalisation(folder: NnUNetFolder) -> list[ChannelNormalisation]:
    """Return the normalisation of each channel."""
    configuration = folder.configuration
    schemes = configuration["normalization_schemes"]
    masked = configuration.get("use_mask_for_norm", [False] * len(schemes))
    measured = folder.plans.get("foreground_intensity_properties_per_channel") or folder.plans.get(
        "foreground_intensity_properties_by_modality", {}
    )
    if unknown := [scheme for scheme in schemes if scheme not in SCHEMES]:
        raise InputError(
            f"{folder.path}: normalisation must be one of {', '.join(SCHEMES)}, got {unknown[0]!r}; "
            f"{PREDICTIONS}"
        )
    result = list[ChannelNormalisation]()
    for number, scheme in enumerate(schemes):
        values: ChannelNormalisation = {"scheme": scheme}
        if scheme == "CTNormalization":
            mean, std, low, high = (float(measured[str(number)][key]) for key in OF_CT)
            values = {"scheme": scheme, "mean": mean, "std": std, "low": low, "high": high}
        elif scheme == "ZScoreNormalization" and masked[number]:
            values["masked"] = True
        result.append(values)
    return result
