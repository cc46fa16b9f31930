"""Predictions of nnU-Net's own predictor on drawn volumes and networks: tests/golden/nnunet_volumes.npz.

    pip install 'nnunetv2>=2.8'
    PYTHONPATH=. python benchmarks/nnunet_volume_reference.py tests/golden/nnunet_volumes.npz

Each case has plans, labels, two volumes of different size and spacing and, of small random networks, the
weights and nnU-Net's probabilities, in steps of 1/65535. Its predictor sums logits in half precision, which
changes corners that one patch covers alone; here it sums them in single precision, so that all that remains
are differences of method, and what half precision changes is printed.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from nnunetv2.inference import predict_from_raw_data
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from numpy.typing import NDArray

from benchmarks.nnunet_reference import IMPORTED, unique

Predicted = NDArray[np.uint16]

RESAMPLING = "resample_data_or_seg_to_shape"


@dataclass(frozen=True)
class Case:
    """A configuration, and two volumes with their spacings."""

    kind: str
    schemes: tuple[str, ...]
    patch: tuple[int, ...]
    target: tuple[float, ...]
    labels: dict[str, Any]
    sizes: tuple[tuple[int, ...], tuple[int, ...]]
    spacings: tuple[tuple[float, ...], tuple[float, ...]]
    axes: tuple[int, ...] | None
    folds: int = 1
    masked: bool = False
    transpose: tuple[int, ...] = (0, 1, 2)

    @property
    def configuration(self) -> str:
        """Name of the configuration."""
        return f"{len(self.patch)}d" if len(self.patch) == 2 else "3d_fullres"


TWO = {"background": 0, "first": 1, "second": 2}
CASES = {
    "separate": Case(
        kind="PlainConvUNet",
        schemes=("CTNormalization",),
        patch=(6, 16, 12),
        target=(4.0, 1.0, 1.0),
        labels=TWO,
        sizes=((7, 22, 20), (9, 14, 15)),
        spacings=((4.0, 1.1, 0.9), (2.5, 1.4, 1.4)),
        axes=(0, 1, 2),
        folds=2,
    ),
    "splined": Case(
        kind="ResidualEncoderUNet",
        schemes=("ZScoreNormalization", "RescaleTo01Normalization"),
        patch=(12, 8, 12),
        target=(1.2, 1.0, 1.3),
        labels=TWO | {"ignore": 3},
        sizes=((10, 16, 18), (12, 13, 11)),
        spacings=((1.0, 1.5, 1.2), (1.3, 1.0, 1.3)),
        axes=(2,),
        masked=True,
        transpose=(1, 0, 2),
    ),
    "slices": Case(
        kind="PlainConvUNet",
        schemes=("ZScoreNormalization",),
        patch=(16, 12),
        target=(0.9, 1.1),
        labels={"background": 0, "first": 1},
        sizes=((6, 20, 18), (5, 24, 14)),
        spacings=((2.0, 1.0, 1.0), (5.0, 0.9, 1.1)),
        axes=(0, 1),
    ),
    "regions": Case(
        kind="PlainConvUNet",
        schemes=("NoNormalization",),
        patch=(8, 16, 12),
        target=(1.5, 1.0, 1.0),
        labels={"background": 0, "whole": [1, 2], "core": 2},
        sizes=((9, 18, 14), (7, 12, 16)),
        spacings=((1.5, 1.0, 1.0), (2.0, 1.0, 0.8)),
        axes=None,
    ),
}


def plans(case: Case) -> dict[str, Any]:
    """Return plans of a small network."""
    dimensions = len(case.patch)
    resampling = {"is_seg": False, "order_z": 0, "force_separate_z": None}
    blocks = "n_conv_per_stage" if case.kind == "PlainConvUNet" else "n_blocks_per_stage"
    strides = [[1] * dimensions, [2] * dimensions]
    if dimensions == 3:
        strides[1] = [1, 2, 2]
    configuration = {
        "data_identifier": "nnUNetPlans",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": list(case.patch),
        "median_image_size_in_voxels": [16.0] * dimensions,
        "spacing": list(case.target),
        "normalization_schemes": list(case.schemes),
        "use_mask_for_norm": [case.masked] * len(case.schemes),
        "resampling_fn_data": RESAMPLING,
        "resampling_fn_seg": RESAMPLING,
        "resampling_fn_probabilities": RESAMPLING,
        "resampling_fn_data_kwargs": {**resampling, "order": 3},
        "resampling_fn_seg_kwargs": {**resampling, "is_seg": True, "order": 1},
        "resampling_fn_probabilities_kwargs": {**resampling, "order": 1},
        "architecture": {
            "network_class_name": f"dynamic_network_architectures.architectures.unet.{case.kind}",
            "arch_kwargs": {
                "n_stages": 2,
                "features_per_stage": [4, 6],
                "conv_op": f"torch.nn.modules.conv.Conv{dimensions}d",
                "kernel_sizes": [[1, 3, 3][-dimensions:], [3] * dimensions],
                "strides": strides,
                blocks: [1, 2],
                "n_conv_per_stage_decoder": [1],
                "conv_bias": True,
                "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dimensions}d",
                "norm_op_kwargs": {"eps": 1e-05, "affine": True},
                "dropout_op": None,
                "dropout_op_kwargs": None,
                "nonlin": "torch.nn.LeakyReLU",
                "nonlin_kwargs": {"inplace": True},
            },
            "_kw_requires_import": IMPORTED,
        },
        "batch_dice": True,
    }
    measured = {"mean": 90.0, "std": 40.0, "percentile_00_5": -20.0, "percentile_99_5": 170.0}
    return {
        "dataset_name": "Dataset902_Volumes",
        "plans_name": "nnUNetPlans",
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": list(case.transpose),
        "transpose_backward": [case.transpose.index(axis) for axis in range(3)],
        "configurations": {case.configuration: configuration},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {str(i): measured for i in range(len(case.schemes))},
    }


def volume(channels: int, size: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.int16]:
    """Return smooth values (C, D, H, W) with margins of zeros and a hole."""
    waves = [np.sin(np.arange(length) / period) for length, period in zip(size, (2, 4, 5), strict=True)]
    smooth = np.add.outer(np.add.outer(waves[0], waves[1]), waves[2])
    values = 80 + 45 * smooth + rng.normal(0, 12, (channels, *size))
    values[:, :, :2] = values[..., -3:] = values[:, :1] = values[:, 3:5, 6:8, 6:8] = 0
    return np.asarray(values.round().astype(np.int16))


@contextmanager
def single_precision() -> Iterator[None]:
    """Let nnU-Net's predictor sum logits in single precision, with the same weights."""
    half, gaussian = torch.half, predict_from_raw_data.compute_gaussian
    torch.half = torch.float32
    predict_from_raw_data.compute_gaussian = lambda *args, **kwargs: gaussian(*args, **kwargs).float()
    try:
        yield
    finally:
        torch.half, predict_from_raw_data.compute_gaussian = half, gaussian


def probabilities(
    predictor: nnUNetPredictor, image: NDArray[np.int16], spacing: Sequence[float]
) -> Predicted:
    """Return the probabilities of a volume (C, D, H, W), (K, D, H, W) in steps of 1/65535."""
    _, values = predictor.predict_single_npy_array(
        image.astype(np.float32), {"spacing": list(spacing)}, None, None, True
    )
    return np.asarray(np.rint(values * 65535).astype(np.uint16))


def main(file: str) -> None:
    """Write the cases to a file."""
    torch.manual_seed(0)
    rng, content = np.random.default_rng(0), dict[str, Any]()
    for name, case in CASES.items():
        plan = plans(case)
        manager = PlansManager(json.loads(json.dumps(plan)))
        configuration = manager.get_configuration(case.configuration)
        dataset = {
            "channel_names": {str(i): "MR" for i in range(len(case.schemes))},
            "labels": case.labels,
            "numTraining": 1,
            "file_ending": ".nii.gz",
        }
        if any(isinstance(label, list) for label in case.labels.values()):
            dataset["regions_class_order"] = [1, 2]
        heads = manager.get_label_manager(dataset).num_segmentation_heads
        network = get_network_from_plans(
            configuration.network_arch_class_name,
            configuration.network_arch_init_kwargs,
            configuration.network_arch_init_kwargs_req_import,
            len(case.schemes),
            heads,
            deep_supervision=False,
        )
        states = []
        for _ in range(case.folds):
            for key, parameter in network.named_parameters():
                parameter.data = torch.randn_like(parameter) * (0.05 if "seg_layers" in key else 0.4)
            states.append({key: value.clone() for key, value in network.state_dict().items()})
        predictor = nnUNetPredictor(
            device=torch.device("cpu"), allow_tqdm=False, perform_everything_on_device=False
        )
        predictor.manual_initialization(
            network, manager, configuration, states, dataset, "nnUNetTrainer", case.axes
        )
        content[f"{name}/plans"], content[f"{name}/labels"] = json.dumps(plan), json.dumps(dataset)
        content[f"{name}/axes"] = np.array(() if case.axes is None else case.axes, dtype=np.int64)
        for number, (size, spacing) in enumerate(zip(case.sizes, case.spacings, strict=True)):
            image = volume(len(case.schemes), size, rng)
            content[f"{name}/image_{number}"] = image
            content[f"{name}/spacing_{number}"] = np.array(spacing)
            with single_precision():
                single = probabilities(predictor, image, spacing)
            content[f"{name}/probabilities_{number}"] = single
            half = probabilities(predictor, image, spacing)
            difference = np.abs(half.astype(float) - single).max() / 65535
            print(f"{name} {size}: half precision changes probabilities by {difference:.4f} at most")
        for fold, state in enumerate(states):
            for key, value in unique(state).items():
                content[f"{name}/fold_{fold}/{key}"] = value.numpy()
    np.savez_compressed(file, **content)


if __name__ == "__main__":
    main(sys.argv[1])
