"""A bundle's window and spacing on a reader of volumes, and what the user may set beside them."""

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from seg_mia.checkpoint import Card
from seg_mia.config.options import Layer, Option
from seg_mia.errors import InputError
from seg_mia.experiment.bundle import check_window, config_of_bundle
from seg_mia.experiment.plan import plan
from seg_mia.experiment.request import requested
from seg_mia.models.bundle import folder

VOLUMES = "seg_mia.data.sets.volumes.VolumeFiles"
NETWORK = {"_target_": "UNet", "spatial_dims": 3, "in_channels": 1, "out_channels": 2}
RANGE = {"_target_": "ScaleIntensityRanged", "keys": "image", "a_min": -100.3, "a_max": 155, "b_min": 0.0,
         "b_max": 1.0, "clip": True}  # fmt: skip
SPACING = {"_target_": "Spacingd", "keys": "image", "pixdim": [1.0, 2.0, 3.0]}
NONZERO = {"_target_": "NormalizeIntensityd", "keys": "image", "nonzero": True}


def made(*transforms: dict[str, Any]) -> None:
    """Write a bundle with these transforms before its network."""
    for part in ("configs", "models"):
        Path("bundle", part).mkdir(parents=True, exist_ok=True)
    content = {"network_def": NETWORK, "preprocessing": {"_target_": "Compose", "transforms": transforms}}
    Path("bundle/configs/inference.json").write_text(json.dumps(content))
    Path("bundle/models/model.pt").touch()


def adopted(*options: Option, **data: Any) -> Any:
    """Return the config of the bundle with data's arguments in a config, and options."""
    layer = Layer("data.yaml", {"data": {"class_path": VOLUMES, "init_args": {"root": "hospital", **data}}})
    return config_of_bundle("bundle", [layer], options, adopts=True)


def test_the_bundle_sets_window_and_spacing() -> None:
    made(RANGE, SPACING)
    config = adopted(Option("--data.spacing", "[3, 2, 1]"), level=7, width=8)
    data, network = config["data"]["init_args"], config["model"]["init_args"]["network"]["init_args"]
    assert data == {"level": (155 - 100.3) / 2, "width": 255.3, "spacing": [3.0, 2.0, 1.0]}
    assert (network["low"], network["high"]) == (-100.3, 155)


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--data.level", "40"),
        ("--data.init_args.width", "400"),
        ("--data.spacing", "[1, 1, 1]"),
        ("--data.spacing", "null"),
        ("--data.init_args", "{level: 40}"),
        ("--data", f"{{class_path: {VOLUMES}, init_args: {{level: 40}}}}"),
    ],
)
def test_an_option_that_overrides_the_bundle_is_refused(flag: str, value: str) -> None:
    made(RANGE, SPACING)
    with pytest.raises(InputError, match=r"the bundle bundle states data\.\w+ .*, got --data.*leave it out"):
        adopted(Option(flag, value))


@pytest.mark.parametrize("name", ["percentiles", "windows"])
def test_other_windows_are_refused(name: str) -> None:
    made(RANGE)
    value = {"percentiles": [1.0, 99.0], "windows": [[40, 400]]}[name]
    for options, data in (([Option(f"--data.{name}", json.dumps(value))], {}), ([], {name: value})):
        with pytest.raises(InputError, match=f"one grey window for all volumes, got {name}"):
            adopted(*options, **data)


def test_text_that_is_no_yaml_is_a_path_and_no_window() -> None:
    made(RANGE)
    adopted(Option("--data.root", "[x"))
    made(NONZERO)
    with pytest.raises(InputError, match="data.level and data.width must be numbers, got 'x'"):
        adopted(Option("--data.level", "x"))


@pytest.mark.parametrize(
    ("transforms", "data", "accepted"),
    [
        ([NONZERO], {}, False),
        ([NONZERO], {"level": 200, "width": 400}, True),
        ([RANGE, NONZERO], {}, True),
        ([RANGE | {"clip": False}, NONZERO], {"level": 200, "width": 400}, False),
        ([RANGE | {"clip": False, "a_min": 10}, NONZERO], {"level": 20, "width": 20}, True),
        ([NONZERO | {"nonzero": False}], {}, True),
    ],
)
def test_zeros_that_the_window_does_not_keep_are_refused(
    transforms: list[dict[str, Any]], data: dict[str, Any], *, accepted: bool
) -> None:
    made(*transforms)
    if accepted:
        adopted(**data)
        return
    with pytest.raises(InputError, match="leaves out values of exactly .*let it start at"):
        adopted(**data)


def test_statistics_in_the_default_window_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    made(NONZERO | {"nonzero": False})
    with caplog.at_level(logging.WARNING):
        adopted(level=0, width=2000)
        assert "default window" not in caplog.text
        adopted()
    assert "the reader's default window shows -160 to 240 alone" in caplog.text


def test_postprocessing_that_is_not_readable_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    made(RANGE)
    file = Path("bundle/configs/inference.json")
    file.write_text(json.dumps(json.loads(file.read_text()) | {"postprocessing": "$Compose([])"}))
    with caplog.at_level(logging.WARNING):
        adopted()
    assert "postprocessing is not a readable list" in caplog.text


def test_a_folder_is_trusted_however_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    made(RANGE)
    monkeypatch.setattr(folder, "monai_evaluation", lambda *_: None)
    words = [
        "adopt",
        "--bundle",
        "bundle/",
        "--trust",
        "bundle",
        "--data",
        VOLUMES,
        "--data.root",
        "hospital",
    ]
    assert plan(requested(words)).request.trust == ("bundle",)


def test_another_window_on_an_adopted_bundle_is_refused() -> None:
    def model(network: str) -> Any:
        spec = {"class_path": network, "init_args": {}}
        return {"class_path": "seg_mia.tasks.segmentation.Segmentation", "init_args": {"network": spec}}

    data: Any = {"class_path": VOLUMES, "init_args": {"level": 40.0, "width": 400.0, "windows": None}}
    card = Card(model=model(folder.INPUT), data=data, network=None, classes=2, channels=1)
    check_window(card, [], [Option("--data.level", "40"), Option("--data.limit", "4")])
    for name, value in (("level", 0), ("windows", [[40, 400]])):
        layer = Layer("other.yaml", {"data": {"init_args": {name: value}}})
        options = [Option(f"--data.{name}", json.dumps(value))]
        for layers, chosen in (([layer], []), ([], options)):
            with pytest.raises(InputError, match=f"was adopted with data.{name} "):
                check_window(card, layers, chosen)
    unstated = replace(card, data={"class_path": VOLUMES, "init_args": {"level": None, "width": None}})
    check_window(unstated, [], [Option("--data.level", "40"), Option("--data.width", "null")])
    with pytest.raises(InputError, match=r"was adopted with data.level 40.0, got 0"):
        check_window(unstated, [], [Option("--data.level", "0")])
    other = replace(card, model=model("seg_mia.models.smp.Smp"))
    check_window(other, [], [Option("--data.level", "0")])
