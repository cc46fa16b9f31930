"""The network of a training of nnU-Net v2, as a class path with plain values.

Nothing in the files is run or imported: names of classes select among known ones.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from torch import nn

from seg_mia.config.spec import ClassSpec
from seg_mia.errors import InputError
from seg_mia.models.nnunet.folder import PREDICTIONS, NnUNetFolder, numbered_folds, plain_errors
from seg_mia.models.nnunet.plans import (
    ArchitectureArguments,
    ChannelNormalisation,
    Resampling,
    Stages,
    UNetPlan,
)
from seg_mia.models.nnunet.preprocessing import OF_CT, SCHEMES
from seg_mia.models.nnunet.unet import ACTIVATIONS, LAYERS
from seg_mia.models.state_files import content_of

NETWORKS = {"PlainConvUNet": "plain", "ResidualEncoderUNet": "residual"}
"""Class names of supported networks."""
_UNSUPPORTED = ("nonlin_first", "bottleneck_channels", "stem_channels", "block", "pool")
"""Arguments of networks that change them and are not supported, if set."""


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
    with plain_errors(folder.path):
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
        if grid := _grid(folder):
            arguments["grid"] = grid
        if folder.volumes:
            arguments["volumes"] = True
    return {"class_path": "seg_mia.models.nnunet.network.NnUNet", "init_args": arguments}


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
        "conv_op": f"torch.nn.modules.conv.Conv{folder.dimensions}d",
        "kernel_sizes": configuration["conv_kernel_sizes"],
        "strides": configuration["pool_op_kernel_sizes"],
        "n_conv_per_stage": configuration["n_conv_per_stage_encoder"],
        "n_blocks_per_stage": configuration["n_conv_per_stage_encoder"],
        "n_conv_per_stage_decoder": configuration["n_conv_per_stage_decoder"],
        "conv_bias": True,
        "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{folder.dimensions}d",
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
    layers = LAYERS[folder.dimensions]
    _layer(arguments.get("conv_op"), {layers.convolution.__name__: layers.convolution}, folder)
    plan: UNetPlan = {
        "kind": kind,
        "features": list(arguments["features_per_stage"]),
        "kernels": _each(arguments["kernel_sizes"], stages),
        "strides": _each(arguments["strides"], stages),
        "blocks": _each(blocks, stages),
        "decoder": _each(arguments["n_conv_per_stage_decoder"], stages - 1),
        "bias": bool(arguments.get("conv_bias", False)),
        "norm": _layer(arguments.get("norm_op"), layers.norms, folder),
        "norm_settings": dict(arguments.get("norm_op_kwargs") or {}),
        "activation": _layer(arguments.get("nonlin"), ACTIVATIONS, folder),
        "activation_settings": dict(arguments.get("nonlin_kwargs") or {}),
    }
    if folder.dimensions != 2:
        plan["dimensions"] = folder.dimensions
    return plan


def _grid(folder: NnUNetFolder) -> dict[str, object]:
    """Return the arguments of the network's grid; none if network and files have pixels of 1.

    Without `spacing`, which is that of the files, as volumes state it.
    """
    configuration = folder.configuration
    target = [float(step) for step in configuration.get("spacing", [1.0] * folder.dimensions)]
    if not folder.volumes:  # files without spacing count as 1
        return {} if target == [1, 1] else {"target": target, "spacing": [1.0, 1.0]}
    grid: dict[str, object] = {"target": target}
    transpose = folder.plans.get("transpose_forward", [0, 1, 2])
    if list(transpose) != [0, 1, 2]:
        grid["transpose"] = list(transpose)
    images = configuration.get("resampling_fn_data_kwargs", Resampling())
    logits = configuration.get("resampling_fn_probabilities_kwargs", Resampling())
    shared = [
        (
            kwargs.get("force_separate_z"),
            kwargs.get("separate_z_anisotropy_threshold", 3),
            kwargs.get("order_z", 0),
        )
        for kwargs in (images, logits)
    ]
    if shared[0] != shared[1] or shared[0][2] != 0:
        raise InputError(
            f"{folder.path}: images and probabilities must be resampled alike, and between slices by the "
            f"nearest, got {images} and {logits}; {PREDICTIONS}"
        )
    values = {
        "image_order": (images.get("order", 3), 3),
        "logit_order": (logits.get("order", 1), 1),
        "separate": (shared[0][0], None),
        "threshold": (shared[0][1], 3),
    }
    return grid | {name: value for name, (value, default) in values.items() if value != default}


def _each(value: Stages, count: int) -> list[int | Sequence[int]]:
    return [value] * count if isinstance(value, int) else list(value)


def _layer(path: str | None, known: Mapping[str, type[nn.Module]], folder: NnUNetFolder) -> str:
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
