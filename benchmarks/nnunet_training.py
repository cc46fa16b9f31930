"""A small training of nnU-Net on drawn volumes, in 3d_fullres, as a folder to adopt.

    pip install nnunetv2==2.8.1
    PYTHONPATH=. python benchmarks/nnunet_training.py FOLDER --folds 0 --epochs 2 --iterations 20

Writes nnUNet_raw, nnUNet_preprocessed and nnUNet_results below FOLDER: planned, preprocessed and trained by
nnU-Net itself on the CPU in one process, with a small patch and few features, and the predictions of its
validation with probabilities. Volumes have two organs, and differ in size and in spacing.
"""

import argparse
import json
import os
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

DATASET, NUMBER = "Dataset903_Toy", 903
PATCH = [8, 24, 24]
CASES, TESTS = 10, 4
SPACINGS = ((4.0, 1.0, 1.0), (4.0, 1.2, 0.9), (5.0, 1.0, 1.0), (3.0, 1.1, 1.1))


def drawn(number: int) -> tuple[NDArray[np.int16], NDArray[np.uint8], tuple[float, ...]]:
    """Return a volume (D, H, W) of two bright balls, its labels, and its spacing."""
    rng = np.random.default_rng(number)
    spacing = SPACINGS[number % len(SPACINGS)]
    size = [round(side / step) + number % 3 for side, step in zip((44, 36, 32), spacing, strict=True)]
    places = (np.arange(side) * step for side, step in zip(size, spacing, strict=True))
    grid = np.meshgrid(*places, indexing="ij")
    mask = np.zeros(size, np.uint8)
    for label, radius in ((1, 11.0), (2, 7.0)):
        centre = rng.uniform((16, 12, 10), (28, 24, 22))
        distance = np.sqrt(sum((axis - middle) ** 2 for axis, middle in zip(grid, centre, strict=True)))
        mask[distance < radius] = label
    image = rng.normal(-60, 35, size) + np.array([0, 110, 220])[mask]
    image[:, :2] = image[..., -2:] = 0
    mask[image == 0] = 0
    return image.round().astype(np.int16), mask, spacing


def write_raw(folder: Path) -> None:
    """Write cases and dataset.json in nnU-Net's layout."""
    for number in range(CASES + TESTS):
        part = "Tr" if number < CASES else "Ts"
        image, mask, spacing = drawn(number)
        affine = np.diag([-spacing[2], -spacing[1], spacing[0], 1])
        names = (("images", f"toy_{number:02}_0000", image), ("labels", f"toy_{number:02}", mask))
        for kind, name, values in names:
            (folder / f"{kind}{part}").mkdir(parents=True, exist_ok=True)
            nifti: Any = nibabel
            nifti.save(
                nifti.Nifti1Image(values.transpose(), affine), folder / f"{kind}{part}" / f"{name}.nii.gz"
            )
    content = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "large": 1, "small": 2},
        "numTraining": CASES,
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(content))


def plan(preprocessed: Path) -> dict[str, Any]:
    """Let nnU-Net plan and preprocess, with a small network; return the plans."""
    from nnunetv2.experiment_planning.plan_and_preprocess_api import (
        extract_fingerprints,
        plan_experiments,
        preprocess,
    )

    extract_fingerprints([NUMBER], num_processes=1, check_dataset_integrity=True)
    plan_experiments([NUMBER])
    file = preprocessed / DATASET / "nnUNetPlans.json"
    plans: dict[str, Any] = json.loads(file.read_text())
    configuration = plans["configurations"]["3d_fullres"]
    configuration |= {"patch_size": PATCH, "batch_size": 2}
    configuration["architecture"]["arch_kwargs"] |= {
        "n_stages": 3,
        "features_per_stage": [8, 12, 16],
        "kernel_sizes": [[1, 3, 3], [3, 3, 3], [3, 3, 3]],
        "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2]],
        "n_conv_per_stage": [1, 1, 1],
        "n_conv_per_stage_decoder": [1, 1],
    }
    file.write_text(json.dumps(plans, indent=1))
    preprocess([NUMBER], configurations=("3d_fullres",), num_processes=(1,))
    return plans


def train(plans: dict[str, Any], raw: Path, fold: int, *, epochs: int, iterations: int) -> None:
    """Train one fold, and predict its validation cases."""
    import torch
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    torch.manual_seed(fold)
    np.random.seed(fold)  # noqa: NPY002  # nnU-Net draws from it
    dataset = json.loads((raw / DATASET / "dataset.json").read_text())
    trainer = nnUNetTrainer(
        {**plans, "continue_training": False}, "3d_fullres", fold, dataset, torch.device("cpu")
    )
    trainer.num_epochs, trainer.num_iterations_per_epoch = epochs, iterations
    trainer.num_val_iterations_per_epoch = 1
    trainer.run_training()
    trainer.perform_actual_validation(save_probabilities=True)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--folds", type=int, nargs="+", default=[0])
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--iterations", type=int, default=20)
    options = parser.parse_args()
    places = {name: options.folder / name for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")}
    for name, place in places.items():
        place.mkdir(parents=True, exist_ok=True)
        os.environ[name] = str(place)
    os.environ |= {"nnUNet_n_proc_DA": "1", "nnUNet_def_n_proc": "1", "nnUNet_compile": "false"}
    write_raw(places["nnUNet_raw"] / DATASET)
    plans = plan(places["nnUNet_preprocessed"])
    os.environ |= {"nnUNet_n_proc_DA": "0"}  # no processes, which planning does not take
    for fold in options.folds:
        train(plans, places["nnUNet_raw"], fold, epochs=options.epochs, iterations=options.iterations)


if __name__ == "__main__":
    main()
