"""Folders of nnU-Net: old and new plans, and one line for what is not supported; nothing is imported."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from seg_mia.errors import InputError
from seg_mia.metrics.label_sets import label_names
from seg_mia.models.nnunet.folder import numbered_folds, read_folder
from seg_mia.models.nnunet.specification import network_spec
from tests import nnunet_layout as layout

FINAL = "checkpoint_final.pth"


def arguments(path: Path, **settings: Any) -> dict[str, Any]:
    spec: dict[str, Any] = network_spec(read_folder(path), ["0"], checkpoint=FINAL, **settings)["init_args"]
    return spec


def rewrite(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_plans_of_the_first_releases_mean_the_same(tmp_path: Path) -> None:
    new, old = layout.training(tmp_path / "new"), layout.training(tmp_path / "old")
    plans = json.loads((old / "plans.json").read_text())
    configuration = plans["configurations"]["2d"]
    del configuration["architecture"]
    configuration |= {
        "UNet_class_name": "PlainConvUNet",
        "UNet_base_num_features": 3,
        "unet_max_num_features": 4,
        "n_conv_per_stage_encoder": [1, 1],
        "n_conv_per_stage_decoder": [1],
        "num_pool_per_axis": [1, 1],
        "pool_op_kernel_sizes": [[1, 1], [2, 2]],
        "conv_kernel_sizes": [[3, 3], [3, 3]],
    }
    (old / "plans.json").write_text(json.dumps(plans))
    mine, theirs = arguments(old), arguments(new)
    assert mine.pop("architecture") | {"activation_settings": {}} == theirs.pop("architecture") | {
        "activation_settings": {}
    }
    assert mine == theirs


def test_settings_are_those_of_plans_and_checkpoint(tmp_path: Path) -> None:
    path = layout.training(tmp_path, normalization_schemes=["CTNormalization"], spacing=[0.5, 2.0])
    plans = json.loads((path / "plans.json").read_text())
    measured = {"mean": 90.0, "std": 40.0, "percentile_00_5": 5.0, "percentile_99_5": 190.0, "median": 0}
    rewrite(path / "plans.json", **plans | {"foreground_intensity_properties_per_channel": {"0": measured}})
    layout.save_checkpoint(path / "fold_0" / FINAL, layout.weights(0), axes=(1,))
    found = arguments(path)
    assert found["normalisation"] == [
        {"scheme": "CTNormalization", "mean": 90.0, "std": 40.0, "low": 5.0, "high": 190.0}
    ]
    assert (found["mirrored"], found["patch"]) == ([1], [32, 32])
    assert found["grid"] == {"target": [0.5, 2.0], "spacing": [1.0, 1.0]}
    assert arguments(path, mirroring=False)["mirrored"] == []


def test_a_configuration_inherits(tmp_path: Path) -> None:
    path = layout.training(tmp_path)
    plans = json.loads((path / "plans.json").read_text())
    plans["configurations"]["2d_small"] = {"inherits_from": "2d", "patch_size": [16, 8]}
    (path / "plans.json").write_text(json.dumps(plans))
    other = path.with_name("nnUNetTrainer__nnUNetPlans__2d_small")
    path.rename(other)
    assert read_folder(other).configuration["patch_size"] == [16, 8]
    assert read_folder(other).configuration["spacing"] == [1.0, 1.0]


def test_all_folds_are_those_with_numbers(tmp_path: Path) -> None:
    path = layout.training(tmp_path, folds=2)
    layout.save_checkpoint(path / "fold_10" / FINAL, layout.weights(0))
    layout.save_checkpoint(path / "fold_all" / FINAL, layout.weights(0))
    assert numbered_folds(path, FINAL) == ["0", "1", "10"]


@pytest.mark.parametrize(
    ("plans", "telling"),
    [
        ({"patch_size": [8, 8, 8]}, "must have patches of 2 axes, or of volumes 3, got [8, 8, 8]"),
        ({"previous_stage": "3d_lowres"}, "stage of a cascade, which is not supported; audit its saved"),
        ({"preprocessor_name": "Mine"}, "prepared by Mine, which is not supported"),
        ({"normalization_schemes": ["MyNormalization"]}, "got 'MyNormalization'"),
        ({"spacing": [1, 2], "resampling_fn_data": "mine"}, "resampled by mine"),
    ],
)
def test_what_is_not_supported_is_one_line(plans: dict[str, Any], telling: str, tmp_path: Path) -> None:
    path = layout.training(tmp_path, **plans)
    with pytest.raises(InputError) as error:
        arguments(path)
    assert telling in str(error.value)
    assert "\n" not in str(error.value)


def test_regions_are_labels_that_overlap(tmp_path: Path) -> None:
    path = layout.training(tmp_path)
    rewrite(path / "dataset.json", labels={"background": 0, "whole": [1, 2], "core": 2, "ignore": 3})
    folder = read_folder(path)
    assert folder.regions == {"whole": [1, 2], "core": [2]}
    assert (folder.classes, label_names(folder.classes), folder.ignored) == (4, ("whole", "core"), 3)
    settings = arguments(path)
    assert (settings["classes"], settings["regions"]) == (2, True)  # a channel for each


def volumes(place: Path, configuration: str = "3d_fullres", **changes: Any) -> Path:
    """Write the folder of a training on volumes, and return it."""
    path = layout.training(place)
    plans = json.loads((path / "plans.json").read_text())
    described = plans["configurations"][configuration]["architecture"]["arch_kwargs"]
    dimensions = len(plans["configurations"][configuration]["patch_size"])
    described |= {
        "conv_op": f"torch.nn.modules.conv.Conv{dimensions}d",
        "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dimensions}d",
        "kernel_sizes": [[3] * dimensions] * 2,
        "strides": [[1] * dimensions, [2] * dimensions],
    }
    plans["configurations"][configuration] |= {"spacing": [2.0, 1.0, 1.0][-dimensions:]} | changes
    rewrite(path / "plans.json", **plans | {"image_reader_writer": "SimpleITKIO"})
    for fold in range(3):
        layout.save_checkpoint(path / f"fold_{fold}" / FINAL, layout.weights(0), configuration=configuration)
    return path.rename(path.with_name(f"nnUNetTrainer__nnUNetPlans__{configuration}"))


def test_volumes_have_a_grid(tmp_path: Path) -> None:
    kwargs = {"is_seg": False, "order_z": 0, "force_separate_z": None}
    path = volumes(
        tmp_path / "a",
        resampling_fn_data_kwargs=kwargs | {"order": 2},
        resampling_fn_probabilities_kwargs=kwargs | {"order": 1},
    )
    rewrite(path / "plans.json", transpose_forward=[1, 0, 2], image_reader_writer="NibabelIOWithReorient")
    found = arguments(path)
    assert found["grid"] == {"target": [2.0, 1.0, 1.0], "transpose": [1, 0, 2], "image_order": 2}
    assert (found["volumes"], found["architecture"]["dimensions"]) == (True, 3)
    assert found["architecture"]["norm"] == "InstanceNorm3d"
    assert read_folder(path).reoriented
    slices = arguments(volumes(tmp_path / "b", "2d"))
    assert (slices["grid"], slices["volumes"], slices["patch"]) == ({"target": [1.0, 1.0]}, True, [32, 32])
    assert "dimensions" not in slices["architecture"]


@pytest.mark.parametrize(
    ("changes", "telling"),
    [
        ({"resampling_fn_data": "resample_torch_fornnunet"}, "resampled by resample_torch_fornnunet"),
        ({"resampling_fn_data_kwargs": {"order_z": 1}}, "must be resampled alike"),
        ({"resampling_fn_data_kwargs": {"force_separate_z": True}}, "must be resampled alike"),
        ({"previous_stage": "3d_lowres"}, "stage of a cascade"),
    ],
)
def test_volumes_of_other_chains_are_refused(changes: dict[str, Any], telling: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=telling) as error:
        arguments(volumes(tmp_path, **changes))
    assert "\n" not in str(error.value)


def test_other_readers_are_refused(tmp_path: Path) -> None:
    path = layout.training(tmp_path)
    rewrite(path / "plans.json", image_reader_writer="Tiff3DIO")
    with pytest.raises(InputError, match=r"or volumes by SimpleITKIO, .*, got 'Tiff3DIO'; audit its saved"):
        read_folder(path)


@pytest.mark.parametrize(
    ("where", "name"),
    [
        ("network_class_name", "antigravity.PlainConvUNet"),
        ("network_class_name", "dynamic_network_architectures.architectures.primus.Primus"),
        ("norm_op", "antigravity.InstanceNorm2d"),
        ("nonlin", "builtins.exec"),
        ("conv_op", "torch.nn.modules.conv.Conv3d"),
    ],
)
def test_class_paths_import_nothing(where: str, name: str, tmp_path: Path) -> None:
    path = layout.training(tmp_path)
    plans = json.loads((path / "plans.json").read_text())
    described = plans["configurations"]["2d"]["architecture"]
    target = described if where == "network_class_name" else described["arch_kwargs"]
    target[where] = name
    (path / "plans.json").write_text(json.dumps(plans))
    with pytest.raises(InputError, match="audit its saved predictions"):
        arguments(path)
    assert "antigravity" not in sys.modules


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    path = layout.training(tmp_path)

    class Touch:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "touched",)

    torch.save({"network_weights": layout.weights(0), "init_args": Touch()}, path / "fold_0" / FINAL)
    with pytest.raises(InputError, match="which reading would run"):
        arguments(path)
    assert not (tmp_path / "touched").exists()


def test_missing_parts_are_named(tmp_path: Path) -> None:
    path = layout.training(tmp_path, folds=2)
    with pytest.raises(InputError, match=r"fold 4 must have the checkpoint .* there are folds 0, 1"):
        network_spec(read_folder(path), ["4"], checkpoint=FINAL)
    with pytest.raises(InputError, match="name the folder of a training"):
        read_folder(path.parent)
    (path / "dataset.json").write_text("{}")
    with pytest.raises(InputError, match="must hold plans and labels"):
        read_folder(path)
