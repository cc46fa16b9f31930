"""Predictions of nnU-Net's own predictor on drawn images and networks: tests/golden/nnunet.npz.

    pip install 'nnunetv2>=2.8' && python benchmarks/nnunet_reference.py tests/golden/nnunet.npz

Each case has plans, labels, images and, of small random networks, the weights and nnU-Net's probabilities.
"""

import json
import sys
from typing import Any

import numpy as np
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

IMPORTED = ["conv_op", "norm_op", "dropout_op", "nonlin"]


def architecture(kind: str) -> dict[str, Any]:
    """Return a small U-Net of three stages, as plans describe it."""
    blocks = "n_conv_per_stage" if kind == "PlainConvUNet" else "n_blocks_per_stage"
    return {
        "network_class_name": f"dynamic_network_architectures.architectures.unet.{kind}",
        "arch_kwargs": {
            "n_stages": 3,
            "features_per_stage": [4, 6, 6],
            "conv_op": "torch.nn.modules.conv.Conv2d",
            "kernel_sizes": [[3, 3]] * 3,
            "strides": [[1, 1], [2, 2], [2, 1]],
            blocks: [1, 2, 1],
            "n_conv_per_stage_decoder": [1, 2],
            "conv_bias": True,
            "norm_op": "torch.nn.modules.instancenorm.InstanceNorm2d",
            "norm_op_kwargs": {"eps": 1e-05, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": IMPORTED,
    }


def plans(
    kind: str,
    channels: list[str],
    schemes: list[str],
    *,
    masked: bool = False,
    spacing: tuple[float, float] = (1, 1),
) -> dict[str, Any]:
    """Return plans of a small network with patches of 32x24."""
    resampling = {"is_seg": False, "order_z": 0, "force_separate_z": None}
    name = "resample_data_or_seg_to_shape"
    configuration = {
        "data_identifier": "nnUNetPlans_2d",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": [32, 24],
        "median_image_size_in_voxels": [40.0, 40.0],
        "spacing": list(spacing),
        "normalization_schemes": schemes,
        "use_mask_for_norm": [masked] * len(schemes),
        "resampling_fn_data": name,
        "resampling_fn_seg": name,
        "resampling_fn_probabilities": name,
        "resampling_fn_data_kwargs": {**resampling, "order": 3},
        "resampling_fn_seg_kwargs": {**resampling, "is_seg": True, "order": 1},
        "resampling_fn_probabilities_kwargs": {**resampling, "order": 1},
        "architecture": architecture(kind),
        "batch_dice": True,
    }
    measured = {"mean": 90.0, "std": 40.0, "percentile_00_5": 5.0, "percentile_99_5": 190.0}
    return {
        "dataset_name": "Dataset901_Drawn",
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": [999.0, 1.0, 1.0],
        "original_median_shape_after_transp": [1, 40, 40],
        "image_reader_writer": "NaturalImage2DIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {"2d": configuration},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {str(i): measured for i in range(len(channels))},
    }


def image(
    channels: int, size: tuple[int, int], rng: np.random.Generator
) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return smooth grey levels (C, H, W) with a margin of zeros and a hole."""
    height, width = size
    waves = np.add.outer(np.sin(np.arange(height) / 5), np.cos(np.arange(width) / 7))
    values = 100 + 45 * waves + rng.normal(0, 12, (channels, height, width))
    values[:, :3] = values[:, :, -5:] = values[:, 12:15, 12:15] = 0
    return np.asarray(values.clip(0, 255).round().astype(np.uint8))


CASES = {
    "plain": (plans("PlainConvUNet", ["CT"], ["CTNormalization"]), 2, 2, (45, 50), (0, 1)),
    "residual": (
        plans("ResidualEncoderUNet", ["R", "G", "B"], ["ZScoreNormalization"] * 3, masked=True),
        3,
        1,
        (40, 26),
        (1,),
    ),
    "resampled": (
        plans("PlainConvUNet", ["MR"], ["ZScoreNormalization"], spacing=(0.8, 1.25)),
        2,
        1,
        (40, 44),
        None,
    ),
}
"""Plans, classes, folds, size of the image, and mirrored axes by name."""


def unique(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the weights, each under one of its names."""
    aliases = (".all_modules.", "decoder.encoder.")
    return {key: value for key, value in state.items() if not any(alias in key for alias in aliases)}


def main(file: str) -> None:
    """Write the cases to a file."""
    torch.manual_seed(0)
    rng, content = np.random.default_rng(0), dict[str, Any]()
    for name, (plan, classes, folds, size, axes) in CASES.items():
        manager = PlansManager(json.loads(json.dumps(plan)))
        configuration = manager.get_configuration("2d")
        channels = len(configuration.normalization_schemes)
        labels = {f"class{number}" if number else "background": number for number in range(classes)}
        dataset = {
            "channel_names": {str(i): "CT" for i in range(channels)},
            "labels": labels,
            "numTraining": 1,
            "file_ending": ".png",
        }
        network = get_network_from_plans(
            configuration.network_arch_class_name,
            configuration.network_arch_init_kwargs,
            configuration.network_arch_init_kwargs_req_import,
            channels,
            classes,
            deep_supervision=False,
        )
        states = []
        for _ in range(folds):
            for key, parameter in network.named_parameters():
                parameter.data = torch.randn_like(parameter) * (0.05 if "seg_layers" in key else 0.4)
            states.append({key: value.clone() for key, value in network.state_dict().items()})
        predictor = nnUNetPredictor(
            device=torch.device("cpu"), allow_tqdm=False, perform_everything_on_device=False
        )
        predictor.manual_initialization(
            network, manager, configuration, states, dataset, "nnUNetTrainer", axes
        )
        grey = image(channels, size, rng)
        _, probabilities = predictor.predict_single_npy_array(
            grey[:, None].astype(np.float32), {"spacing": (999, 1, 1)}, None, None, True
        )
        content[f"{name}/plans"] = json.dumps(plan)
        content[f"{name}/labels"] = json.dumps(dataset)
        content[f"{name}/axes"] = np.array(() if axes is None else axes, dtype=np.int64)
        content[f"{name}/image"] = grey
        content[f"{name}/probabilities"] = probabilities[:, 0].astype(np.float32)
        for fold, state in enumerate(states):
            for key, value in unique(state).items():
                content[f"{name}/fold_{fold}/{key}"] = value.numpy()
        print(name, probabilities.shape, float(probabilities.min()), float(probabilities.max()))
    np.savez_compressed(file, **content)


if __name__ == "__main__":
    main(sys.argv[1])
