"""Folders in the layout of nnU-Net v2, with small networks."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from seg_mia.models.nnunet.unet import Architecture, UNet

NAME = "Dataset901_Drawn"
TRAINING = f"nnUNet_results/{NAME}/nnUNetTrainer__nnUNetPlans__2d"
SIDE = 40


def plan(**changes: Any) -> dict[str, Any]:
    """Return plans.json of a small plain network on grey images."""
    arguments = {
        "n_stages": 2,
        "features_per_stage": [3, 4],
        "conv_op": "torch.nn.modules.conv.Conv2d",
        "kernel_sizes": [[3, 3], [3, 3]],
        "strides": [[1, 1], [2, 2]],
        "n_conv_per_stage": [1, 1],
        "n_conv_per_stage_decoder": [1],
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm2d",
        "norm_op_kwargs": {"eps": 1e-05, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
    network = "dynamic_network_architectures.architectures.unet.PlainConvUNet"
    configuration = {
        "patch_size": [32, 32],
        "spacing": [1.0, 1.0],
        "normalization_schemes": ["ZScoreNormalization"],
        "use_mask_for_norm": [False],
        "architecture": {
            "network_class_name": network,
            "arch_kwargs": arguments,
            "_kw_requires_import": ["conv_op"],
        },
    } | changes
    return {
        "dataset_name": NAME,
        "image_reader_writer": "NaturalImage2DIO",
        "configurations": {"2d": configuration, "3d_fullres": {**configuration, "patch_size": [8, 8, 8]}},
        "foreground_intensity_properties_per_channel": {"0": {}},
    }


def labels(**changes: Any) -> dict[str, Any]:
    """Return dataset.json of one foreground class."""
    content = {"channel_names": {"0": "MR"}, "labels": {"background": 0, "square": 1}, "file_ending": ".png"}
    return content | changes


def architecture() -> Architecture:
    """Return the architecture in `plan`."""
    values = {"kind": "plain", "features": [3, 4], "kernels": [3, 3], "strides": [1, 2], "blocks": [1, 1]}
    return Architecture.read({**values, "decoder": [1], "norm_settings": {"eps": 1e-5, "affine": True}})


def weights(seed: int) -> dict[str, Tensor]:
    """Return weights that segment bright squares, moved by a column for each seed of three."""
    generator = torch.Generator().manual_seed(seed)
    state = UNet(architecture(), 1, 2).state_dict()
    drawn = {name: 0.03 * torch.randn(value.shape, generator=generator) for name, value in state.items()}
    drawn |= {name: value + 1 for name, value in drawn.items() if name.endswith("norm.weight")}
    drawn["encoder.stages.0.0.convs.0.conv.weight"][0, 0, 1, seed % 3] = 1
    drawn["decoder.stages.0.convs.0.conv.weight"][0, 3, 1, 1] = 1  # the encoder's first channel
    drawn["decoder.seg_layers.0.weight"][:, 0, 0, 0] = torch.tensor([-2.0, 2.0])
    drawn["decoder.seg_layers.0.bias"][:] = torch.tensor([2.4, -2.4])
    return drawn


def stored(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return weights under all names that nnU-Net stores them by."""
    doubled = state | {name.replace(".conv.", ".all_modules.0."): value for name, value in state.items()}
    encoder = {f"decoder.{name}": value for name, value in doubled.items() if name.startswith("encoder.")}
    return doubled | encoder


def save_checkpoint(
    file: Path,
    state: dict[str, Tensor],
    *,
    axes: Sequence[int] | None = (0, 1),
    configuration: str = "2d",
) -> None:
    """Write a checkpoint with NumPy numbers beside the weights, as nnU-Net does."""
    file.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "network_weights": stored(state),
        "logging": {"mean_fg_dice": [np.float32(0.5)]},
        "_best_ema": np.float64(0.5),
        "current_epoch": 1,
        "init_args": {"configuration": configuration, "fold": 0, "device": "cpu"},
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": None if axes is None else tuple(axes),
    }
    torch.save(content, file)


def training(place: Path, *, folds: int = 3, **changes: Any) -> Path:
    """Write the folder of a training, and return it."""
    path = place / TRAINING
    path.mkdir(parents=True)
    (path / "plans.json").write_text(json.dumps(plan(**changes)))
    (path / "dataset.json").write_text(json.dumps(labels()))
    for fold in range(folds):
        save_checkpoint(path / f"fold_{fold}" / "checkpoint_final.pth", weights(fold))
    return path


def picture(number: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return a grey image of a bright square inside a margin of zeros, and its mask."""
    rng = np.random.default_rng(number)
    image = rng.integers(40, 80, (SIDE, SIDE))
    mask = np.zeros((SIDE, SIDE), np.uint8)
    row, column = rng.integers(8, 20, 2)
    mask[row : row + 10, column : column + 12] = 1
    image[mask > 0] += 100
    image[:4] = image[:, -3:] = 0
    mask[image == 0] = 0
    return image.astype(np.uint8), mask


def raw(place: Path, *, cases: int = 8, tests: int = 4, **changes: Any) -> Path:
    """Write raw data and splits_final.json, two cases of a patient together, and return the data's folder."""
    path = place / "nnUNet_raw" / NAME
    names = [f"p{number // 2}_{number}" for number in range(cases + tests)]
    for number, name in enumerate(names):
        part = "Tr" if number < cases else "Ts"
        image, mask = picture(number)
        for folder, file, values in (("images", f"{name}_0000.png", image), ("labels", f"{name}.png", mask)):
            (path / f"{folder}{part}").mkdir(parents=True, exist_ok=True)
            Image.fromarray(values).save(path / f"{folder}{part}" / file)
    (path / "dataset.json").write_text(json.dumps(labels(**changes)))
    patients = [number // 2 for number in range(cases)]
    folds = [
        {
            "train": [name for name, patient in zip(names, patients, strict=False) if patient % 3 != fold],
            "val": [name for name, patient in zip(names, patients, strict=False) if patient % 3 == fold],
        }
        for fold in range(3)
    ]
    splits = place / "nnUNet_preprocessed" / NAME / "splits_final.json"
    splits.parent.mkdir(parents=True)
    splits.write_text(json.dumps(folds))
    return path


VOLUME_NAME = "Dataset902_Volumes"
SPACINGS = ((2.0, 1.0, 1.0), (3.0, 1.0, 1.5))
"""Distances of voxels [D, H, W] of even and odd cases."""


def volume(number: int) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """Return a volume (D, H, W) of a bright box inside a margin of zeros, and its mask; sizes differ."""
    rng = np.random.default_rng(number)
    image = rng.integers(-60, -20, (6 + number % 2, 16, 18 - number % 3))
    mask = np.zeros(image.shape, np.uint8)
    row, column = rng.integers(3, 7, 2)
    mask[1:5, row : row + 6, column : column + 6] = 1
    image[mask > 0] += 110
    image[:, :2] = image[..., -2:] = 0
    mask[image == 0] = 0
    return image.astype(np.int16), mask


def save_volume(file: Path, values: NDArray[Any], spacing: Sequence[float]) -> None:
    """Write values (D, H, W) in the order of the file, its axes to the left, the back and the head."""
    file.parent.mkdir(parents=True, exist_ok=True)
    affine = np.diag([-spacing[2], -spacing[1], spacing[0], 1])
    nifti: Any = nibabel
    nifti.save(nifti.Nifti1Image(np.ascontiguousarray(values.transpose()), affine), file)


def raw_volumes(place: Path, *, cases: int = 6, tests: int = 2, varied: bool = True, **changes: Any) -> Path:
    """Write raw volumes and splits_final.json of three folds, and return the data's folder."""
    path = place / "nnUNet_raw" / VOLUME_NAME
    names = [f"v{number}" for number in range(cases + tests)]
    for number, name in enumerate(names):
        part = "Tr" if number < cases else "Ts"
        image, mask = volume(number if varied else 6 * number)
        spacing = SPACINGS[number % 2 if varied else 0]
        save_volume(path / f"images{part}" / f"{name}_0000.nii.gz", image, spacing)
        save_volume(path / f"labels{part}" / f"{name}.nii.gz", mask, spacing)
    content = labels(**{"channel_names": {"0": "CT"}, "file_ending": ".nii.gz"} | changes)
    (path / "dataset.json").write_text(json.dumps(content))
    folds = [
        {"train": [name for number, name in enumerate(names[:cases]) if number % 3 != fold],
         "val": [name for number, name in enumerate(names[:cases]) if number % 3 == fold]}
        for fold in range(3)
    ]  # fmt: skip
    splits = place / "nnUNet_preprocessed" / VOLUME_NAME / "splits_final.json"
    splits.parent.mkdir(parents=True)
    splits.write_text(json.dumps(folds))
    return path


def volume_architecture() -> Architecture:
    """Return the architecture in `volume_training`."""
    values = {"kind": "plain", "features": [3, 4], "kernels": [3, 3], "strides": [1, [1, 2, 2]]}
    further = {"blocks": [1, 1], "decoder": [1], "norm_settings": {"eps": 1e-5, "affine": True}}
    return Architecture.read({**values, **further, "dimensions": 3})


def volume_weights(seed: int) -> dict[str, Tensor]:
    """Return weights that segment bright boxes, moved by a column for each seed of three."""
    generator = torch.Generator().manual_seed(seed)
    state = UNet(volume_architecture(), 1, 2).state_dict()
    drawn = {name: 0.03 * torch.randn(value.shape, generator=generator) for name, value in state.items()}
    drawn |= {name: value + 1 for name, value in drawn.items() if name.endswith("norm.weight")}
    drawn["encoder.stages.0.0.convs.0.conv.weight"][0, 0, 1, 1, seed % 3] = 1
    drawn["decoder.stages.0.convs.0.conv.weight"][0, 3, 1, 1, 1] = 1  # the encoder's first channel
    drawn["decoder.seg_layers.0.weight"][:, 0, 0, 0, 0] = torch.tensor([-2.0, 2.0])
    drawn["decoder.seg_layers.0.bias"][:] = torch.tensor([2.4, -2.4])
    return drawn


def volume_training(place: Path, *, folds: int = 3, spacing: Sequence[float] = (2.0, 1.0, 1.2)) -> Path:
    """Write the folder of a training in 3d_fullres, and return it."""
    path = place / f"nnUNet_results/{VOLUME_NAME}/nnUNetTrainer__nnUNetPlans__3d_fullres"
    path.mkdir(parents=True)
    plans = plan(patch_size=[4, 12, 12], spacing=list(spacing), normalization_schemes=["CTNormalization"])
    described = plans["configurations"]["3d_fullres"]
    described["patch_size"] = [4, 12, 12]
    described["architecture"]["arch_kwargs"] |= {
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "kernel_sizes": [[3, 3, 3], [3, 3, 3]],
        "strides": [[1, 1, 1], [1, 2, 2]],
    }
    measured = {"mean": 40.0, "std": 30.0, "percentile_00_5": -80.0, "percentile_99_5": 120.0}
    further = {
        "dataset_name": VOLUME_NAME,
        "image_reader_writer": "SimpleITKIO",
        "foreground_intensity_properties_per_channel": {"0": measured},
    }
    (path / "plans.json").write_text(json.dumps(plans | further))
    content = labels(channel_names={"0": "CT"}, file_ending=".nii.gz")
    (path / "dataset.json").write_text(json.dumps(content))
    for fold in range(folds):
        file = path / f"fold_{fold}" / "checkpoint_final.pth"
        save_checkpoint(file, volume_weights(fold), axes=(0, 1, 2), configuration="3d_fullres")
    return path
