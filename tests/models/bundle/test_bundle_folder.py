"""Bundles as data: references, expressions, networks, windows and preprocessing, without MONAI."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn
from torch.testing import assert_close

from seg_mia.cli import main
from seg_mia.errors import InputError
from seg_mia.models.bundle.folder import Bundle, bare_spec, network_spec, read_bundle, uses_sigmoid
from seg_mia.models.bundle.network import BundleInput
from seg_mia.models.bundle.transforms import input_steps

UNET = {"_target_": "monai.networks.nets.unet.Unet", "spatial_dims": 2, "in_channels": 1, "out_channels": 3}


def bundle(
    content: dict[str, Any], metadata: dict[str, Any] | None = None, *, ending: str = "json"
) -> Bundle:
    """Write a bundle with empty weights, and read it."""
    for part in ("configs", "models"):
        Path("bundle", part).mkdir(parents=True, exist_ok=True)
    text = json.dumps(content) if ending == "json" else yaml.safe_dump(content)
    Path("bundle/configs", f"inference.{ending}").write_text(text)
    if metadata is not None:
        Path("bundle/configs/metadata.json").write_text(json.dumps(metadata))
    Path("bundle/models/model.pt").touch()
    return read_bundle(Path("bundle"))


def listed(*transforms: dict[str, Any]) -> dict[str, Any]:
    return {"_target_": "Compose", "transforms": list(transforms)}


def test_references_and_literals_are_data_and_what_is_not_asked_for_is_not_read() -> None:
    content = {
        "device": "$torch.device('cuda')",
        "widths": [8, "$2 * 8"],
        "lengths": {"patch": "$(32, 48)", "old": [7, 9]},
        "network_def": UNET | {"channels": "@lengths#patch", "act": "%lengths::old::1", "dropout": "$0.1"},
        "network": "$@network_def.to(@device)",
        "inferer": {"_target_": "SlidingWindowInferer", "roi_size": "$@lengths::patch", "device": "@device",
                    "sw_batch_size": "$2 ** 2"},
    }  # fmt: skip
    found = bundle(content, ending="yaml")
    spec = network_spec(found, input_steps(found.config), low=0, high=255)["init_args"]["network"]
    assert spec["init_args"]["patch"] == [32, 48]
    assert (spec["init_args"]["overlap"], spec["init_args"]["layout"]) == (0.25, "monai")
    assert spec["init_args"]["network"] == {
        "class_path": "monai.networks.nets.UNet",
        "init_args": {
            "spatial_dims": 2, "in_channels": 1, "out_channels": 3, "channels": [32, 48], "act": 9,
            "dropout": 0.1,
        },
    }  # fmt: skip


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (
            {"network_def": UNET | {"channels": "$[8] * 3"}},
            r"network_def::channels must be a plain value, got '\$\[8\] \* 3', which is code and was not "
            "read; write its value, or if you trust the bundle: --trust bundle",
        ),
        ({"network_def": UNET | {"channels": "@a", "act": 1}, "a": "@a"}, "refers to itself"),
        ({"network_def": UNET | {"channels": "@nowhere"}}, "refers to nowhere, which is not there"),
        ({"network_def": UNET | {"channels": "%other.json"}}, "refers to another file"),
        ({"network_def": UNET | {"norm_layer": {"_target_": "os.system"}}}, "got the component 'os.system'"),
        ({"network_def": {"_target_": "os.system", "command": "true"}}, "must name one of AHNet"),
        ({"network_def": {"_target_": "scripts.nets.UNet"}}, "got 'scripts.nets.UNet'"),
        ({"network": "$UNet()"}, "got none; export it to models/model.ts"),
        ({"network_def": UNET, "inferer": {"_target_": "SliceInferer"}}, "got 'SliceInferer'"),
        (
            {"network_def": UNET, "inferer": {"_target_": "SlidingWindowInferer", "roi_size": [8, -1]}},
            "roi_size must be 2 lengths above 0",
        ),
        (
            {
                "network_def": UNET,
                "inferer": {"_target_": "SlidingWindowInferer", "roi_size": 8, "padding_mode": "reflect"},
            },
            "padding_mode constant, got 'reflect'",
        ),
        (
            {
                "network_def": UNET,
                "preprocessing": listed({"_target_": "HistogramNormalized", "keys": "image"}),
            },
            "HistogramNormalized, changes values and has no counterpart here",
        ),
        (
            {
                "network_def": UNET,
                "preprocessing": listed(
                    {"_target_": "Resized", "keys": "image", "spatial_size": 9, "zoom": 1}
                ),
            },
            "Resize takes spatial_size, mode, align_corners, size_mode, got 'zoom'",
        ),
    ],
)
def test_what_is_not_data_or_not_known_is_refused_in_one_line(content: dict[str, Any], line: str) -> None:
    found = bundle(content)
    with pytest.raises(InputError, match=line):
        network_spec(found, input_steps(found.config), low=0, high=1)


@pytest.mark.parametrize(
    ("argument", "line"),
    [
        ({"class_path": "scripts_of_bundle.Layer"}, "got the class 'scripts_of_bundle.Layer'"),
        ({"init_args": {"a": 1}}, "got the class"),
        ([{"dict_kwargs": {"a": 1}}], "got the class"),
        ("scripts_of_bundle.Layer", "'scripts_of_bundle.Layer', which is not imported"),
        (["instance", {"act": "scripts_of_bundle.Layer"}], "which is not imported"),
        ("{class_path: scripts_of_bundle}", "which is not imported"),
        ("torch.hub.load", "'torch.hub.load', which is not imported"),
        ({"kind.class_path": "Layer"}, "names of arguments as keys, got 'kind.class_path'"),
        ("@layer", "got the class 'scripts_of_bundle.Layer'"),
        ("$'scripts_of_bundle.Layer'", "which is not imported"),
    ],
)
def test_a_class_as_an_argument_imports_nothing(
    argument: object, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "scripts_of_bundle.py").write_text("from pathlib import Path; Path('imported').touch()")
    network = UNET | {"_target_": "SwinUNETR", "norm_layer": argument}
    layer = {"class_path": "scripts_of_bundle.Layer"}
    bundle({"network_def": network, "layer": layer})
    assert main(["adopt", "--bundle", "bundle", "--data", "seg_mia.data.sets.folder.Folder"]) == 2
    assert line in capsys.readouterr().err
    assert not Path("imported").exists()


def test_words_numbers_and_layers_of_torch_are_arguments() -> None:
    arguments = {"act": ["LeakyReLU", {"inplace": True}], "eps": "1e-5", "norm_layer": "torch.nn.LayerNorm",
                 "backbone": "efficientnet-b0"}  # fmt: skip
    assert bare_spec(bundle({"network_def": UNET | arguments}))["init_args"].items() >= arguments.items()


def test_references_that_multiply_and_deep_nesting_are_refused() -> None:
    doubled = {f"a{number}": [f"@a{number + 1}"] * 2 for number in range(40)} | {"a40": 1}
    with pytest.raises(InputError, match="at most 10000 values with its references followed"):
        bare_spec(bundle(doubled | {"network_def": UNET | {"channels": "@a0"}}))
    lists = {f"a{number}": listed(*[f"@a{number + 1}"] * 9) for number in range(9)}  # type: ignore[arg-type]
    lists["a9"] = {"_target_": "EnsureTyped"}
    with pytest.raises(InputError, match="must be a transform"):
        input_steps(bundle(lists | {"network_def": UNET, "preprocessing": "@a0"}).config)
    chain = {f"a{number}": f"@a{number + 1}" for number in range(3000)} | {"a3000": 1}
    with pytest.raises(InputError, match="network_def::channels is nested too deeply"):
        bare_spec(bundle(chain | {"network_def": UNET | {"channels": "@a0"}}))


def test_a_folder_without_parts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match="must hold .*inference.json or .*found none; name the bundle's folder"
    ):
        read_bundle(tmp_path)
    found = bundle({"network_def": UNET})
    Path("bundle/models/model.pt").unlink()
    with pytest.raises(InputError, match="must hold models/model.pt or models/model.ts"):
        bare_spec(found)
    Path("bundle/models/model.ts").touch()
    assert bare_spec(found) == {
        "class_path": "seg_mia.models.file.TorchScript",
        "init_args": {"file": "bundle/models/model.ts"},
    }


def test_the_axes_of_a_volume_are_those_of_the_bundle() -> None:
    transforms: list[dict[str, Any]] = [
        {"_target_": "LoadImaged", "keys": ["image", "label"]},
        {"_target_": "Orientationd", "keys": "image", "axcodes": "LPI"},
        {"_target_": "Spacingd", "keys": "image", "pixdim": [1.0, 2.0, 3.0], "mode": "bilinear"},
        {"_target_": "SpatialPadd", "keys": "image", "spatial_size": [8, 8, 8]},
        {"_target_": "AsDiscreted", "keys": "label", "to_onehot": 3},
    ]
    found = bundle({"network_def": UNET | {"spatial_dims": 3}, "preprocessing": listed(*transforms)})
    before = input_steps(found.config)
    assert before.order(3) == ([2, 1, 0], [2])
    assert before.spacing_of_axes() == [3.0, 2.0, 1.0]
    assert before.left_out == ["SpatialPad"]


class Weighted(nn.Module):
    """One logit: the value, weighted by its place along the first spatial axis."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        place = torch.arange(x.shape[2], dtype=x.dtype)
        return x * place.reshape(-1, *[1] * (x.ndim - 3))


def test_an_image_is_turned_scaled_and_its_logits_turned_back() -> None:
    shown = BundleInput(Weighted(), low=-10.0, high=10.0, order=[1, 0], flipped=[0])
    x = torch.tensor([[[[0.0, 0.5, 1.0], [1.0, 0.5, 0.25]]]])
    # Columns become the first axis, reversed: the last column has weight 0, the first 2.
    assert_close(shown(x), torch.tensor([[[[-20.0, 0.0, 0.0], [20.0, 0.0, 0.0]]]]))


def test_the_stated_range_counts_where_no_preprocessing_is_listed() -> None:
    metadata = {"network_data_format": {"inputs": {"image": {"value_range": [0, 1]}}}}
    found = bundle({"network_def": UNET}, metadata)
    settings = network_spec(found, input_steps(found.config), low=0.0, high=255.0)["init_args"]
    shown = BundleInput(nn.Identity(), **{key: value for key, value in settings.items() if key != "network"})
    x = torch.rand(1, 1, 4, 5)
    assert_close(shown(x), x)


def test_a_sigmoid_and_what_follows_it_are_found() -> None:
    after = listed(
        {"_target_": "Activationsd", "keys": "pred", "sigmoid": True},
        {"_target_": "KeepLargestConnectedComponentd", "keys": "pred"},
    )
    found = bundle({"network_def": UNET, "postprocessing": after})
    assert uses_sigmoid(found)
    settings = network_spec(found, input_steps(found.config), low=0, high=1)["init_args"]
    assert settings["left_out"] == ["KeepLargestConnectedComponentd"]


@pytest.mark.parametrize(
    "after",
    [
        "@post",
        listed("@sigmoid"),  # type: ignore[arg-type]
        listed({"_target_": "Activationsd", "keys": "pred", "sigmoid": "@flag"}),
        listed(listed({"_target_": "Activationsd", "keys": "pred", "sigmoid": "$True"})),
        {"_target_": "Compose", "transforms": "@steps"},
    ],
)
def test_a_sigmoid_is_found_behind_references(after: object) -> None:
    sigmoid = {"_target_": "Activationsd", "keys": "pred", "sigmoid": True}
    parts = {"post": listed(sigmoid), "sigmoid": sigmoid, "flag": True, "steps": [sigmoid]}
    assert uses_sigmoid(bundle({"network_def": UNET, "postprocessing": after, **parts}))


def test_a_disabled_sigmoid_has_no_effect() -> None:
    disabled = {"_target_": "Activationsd", "sigmoid": True, "_disabled_": "@off"}
    assert not uses_sigmoid(bundle({"network_def": UNET, "postprocessing": listed(disabled), "off": True}))


@pytest.mark.parametrize(
    "after",
    [
        "$Compose([Activationsd(keys='pred', sigmoid=True)])",
        [{"_target_": "Activationsd", "sigmoid": True}],
        listed("$Activationsd()"),  # type: ignore[arg-type]
        listed({"_target_": "Activationsd", "sigmoid": "$1 + 1"}),
    ],
)
def test_transforms_after_the_network_that_are_not_readable_are_left_out(after: object) -> None:
    found = bundle({"network_def": UNET, "postprocessing": after})
    settings = network_spec(found, input_steps(found.config), low=0, high=1)["init_args"]
    assert settings["left_out"] == ["postprocessing"]


@pytest.mark.parametrize(
    ("content", "metadata", "line"),
    [
        ({"preprocessing": listed({"_target_": "Resized", "spatial_size": 8, "mode": ["area", "nearest"]})},
         {},
         r"mode of Resize must be a str, got \['area', 'nearest'\]"),
        ({"preprocessing": listed({"_target_": "Resized", "spatial_size": ["a", 8]})}, {},
         "spatial_size of Resize must be"),
        ({"preprocessing": listed({"_target_": "ScaleIntensityRanged", "a_min": "low", "a_max": 1})}, {},
         "a_min of ScaleIntensityRange must be a float, got 'low'"),
        ({"preprocessing": "$Compose([])"}, {}, "preprocessing must be a transform"),
        ({"network_def": UNET | {"spatial_dims": [2]}}, {}, "network of 2 or 3 spatial axes, got"),
        ({"inferer": {"_target_": "SlidingWindowInferer", "roi_size": 8, "overlap": [[1]]}}, {},
         "overlap must be one number"),
        ({"inferer": {"_target_": "SlidingWindowInferer", "roi_size": 8, "mode": ["gaussian"]}}, {},
         "must have mode constant or gaussian"),
        ({}, {"value_range": [0, "high"]}, "value_range in metadata.json must be two numbers"),
    ],
)  # fmt: skip
def test_values_of_other_types_are_refused_in_one_line(
    content: dict[str, Any], metadata: dict[str, Any], line: str
) -> None:
    described = {"network_data_format": {"inputs": {"image": metadata}}}
    found = bundle({"network_def": UNET} | content, described)
    with pytest.raises(InputError, match=line) as caught:
        network_spec(found, input_steps(found.config), low=0, high=1)
    assert "\n" not in str(caught.value)


@pytest.mark.peers("monai")
def test_expressions_of_a_trusted_bundle_are_run() -> None:
    bundle({"width": 4, "network_def": UNET | {"channels": "$[@width * 2 ** n for n in range(3)]"}})
    trusted = read_bundle(Path("bundle"), trusted=True)
    assert bare_spec(trusted)["init_args"]["channels"] == [4, 8, 16]
