"""A MONAI bundle, made by MONAI's own tools, adopted from its folder and compared with MONAI's inference."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
import yaml

from seg_mia.checkpoint import load_victim
from seg_mia.cli import main
from tests.peers import imported

bundles, nets = imported("monai.bundle"), imported("monai.networks.nets")

pytestmark = [
    pytest.mark.peers("monai"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning:monai"),
]
TRUST = ["--trust", "monai.networks.nets.UNet"]
FLAT = {
    "_target_": "UNet",
    "spatial_dims": "@dims",
    "in_channels": 1,
    "out_channels": 2,
    "channels": "$[4, 8]",
    "strides": [2],
    "norm": ["INSTANCE", {"affine": True}],
}
SOFTMAX = {
    "_target_": "Compose",
    "transforms": [
        {"_target_": "Activationsd", "keys": "pred", "softmax": True},
        {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
    ],
}


def made(path: Path, dims: int, transforms: list[dict[str, Any]], inferer: dict[str, Any]) -> Path:
    """Write a bundle with random weights."""
    torch.manual_seed(0)
    network = nets.UNet(
        spatial_dims=dims, in_channels=1, out_channels=2, channels=[4, 8], strides=[2],
        norm=("INSTANCE", {"affine": True}),
    )  # fmt: skip
    inference = {
        "imports": ["$import glob"],
        "dims": dims,
        "device": "$torch.device('cpu')",
        "network_def": FLAT,
        "network": "$@network_def.to(@device)",
        "preprocessing": {"_target_": "Compose", "transforms": transforms},
        "inferer": inferer,
        "postprocessing": SOFTMAX,
    }
    shape = {"num_channels": 1, "spatial_shape": [32] * dims, "value_range": [0, 1]}
    outputs = {"pred": {"num_channels": 2}}
    metadata = {"version": "0.0.1", "network_data_format": {"inputs": {"image": shape}, "outputs": outputs}}
    bundles.init_bundle(path, network=network, metadata_str=metadata, inference_str=inference)
    return path


def by_monai(path: Path, image: Path) -> np.ndarray[Any, Any]:
    """Return the probabilities (K, *S) of a bundle's own inference, in its order of axes."""
    parser = bundles.ConfigParser()
    parser.read_config(path / "configs" / "inference.json")
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of readers that are not installed
        prepared = parser.get_parsed_content("preprocessing")({"image": str(image)})["image"]
        network = parser.get_parsed_content("network")
        network.load_state_dict(torch.load(path / "models" / "model.pt", weights_only=True))
        logits = parser.get_parsed_content("inferer")(prepared[None], network.eval())
    values: np.ndarray[Any, Any] = logits.softmax(1)[0].numpy()
    return values


def adopted(image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the probabilities (K, *S) of the adopted network for an image (*S) in [0, 1]."""
    (file,) = Path("runs").glob("*/version_0/checkpoints/last.ckpt")
    network = load_victim(file, trust=TRUST[1:])
    with torch.no_grad():
        values: np.ndarray[Any, Any] = (
            network(torch.from_numpy(image.astype(np.float32))[None, None]).softmax(1)[0].numpy()
        )
    return values


LOAD: list[dict[str, Any]] = [
    {"_target_": "LoadImaged", "keys": "image"},
    {"_target_": "EnsureChannelFirstd", "keys": "image"},
]
TYPED = {"_target_": "EnsureTyped", "keys": "image", "device": "@device"}
WINDOWS = {
    "_target_": "SlidingWindowInferer",
    "roi_size": [16, 24],
    "sw_batch_size": 2,
    "overlap": 0.5,
    "mode": "gaussian",
    "sw_device": "@device",
}


@pytest.mark.parametrize(
    ("transforms", "inferer"),
    [
        ([{"_target_": "ScaleIntensityd", "keys": "image"}], WINDOWS),
        (
            [{"_target_": "NormalizeIntensityd", "keys": "image", "nonzero": True, "channel_wise": True}],
            WINDOWS | {"mode": "constant", "overlap": 0.25},
        ),
        (
            [
                {"_target_": "Resized", "keys": "image", "spatial_size": [48, 24], "mode": "bilinear"},
                {"_target_": "ScaleIntensityRanged", "keys": "image", "a_min": 20, "a_max": 180,
                 "b_min": -1, "b_max": 1, "clip": True},
            ],
            {"_target_": "SimpleInferer"},
        ),
    ],
    ids=["windows", "nonzero", "resized"],
)  # fmt: skip
def test_images_are_answered_as_by_monai(
    tiny: Path,
    folder: Callable[..., Path],
    transforms: list[dict[str, Any]],
    inferer: dict[str, Any],
) -> None:
    from PIL import Image

    root = folder(channels=1)
    bundle = made(Path("squares"), 2, [*LOAD, *transforms, TYPED], inferer)
    data_only(tiny, channels=1)
    assert main(["adopt", "--bundle", str(bundle), "--config", str(tiny)]) == 0
    file = root / "images" / "s00.png"
    own = adopted(np.array(Image.open(file)) / 255).transpose(0, 2, 1)
    theirs = by_monai(bundle, file)
    if theirs.shape == own.shape:
        assert np.abs(own - theirs).max() < 1e-4
    else:  # enlarged here, where MONAI compares maps of the network's size
        small = torch.from_numpy(np.log(theirs))[None]
        large = torch.nn.functional.interpolate(small, size=own.shape[1:], mode="bilinear").softmax(1)[0]
        assert np.abs(own - large.numpy()).max() < 1e-4


def data_only(config: Path, **arguments: Any) -> None:
    """Leave only the data in a config."""
    content = yaml.safe_load(config.read_text())
    del content["model"]
    content["data"]["init_args"] |= arguments
    config.write_text(yaml.safe_dump(content))


VOLUME = [
    *LOAD,
    {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"},
    {"_target_": "ScaleIntensityRanged", "keys": "@key", "a_min": -100, "a_max": 155, "b_min": 0.0,
     "b_max": 1.0, "clip": True},
    TYPED,
]  # fmt: skip


def volumes(root: Path, count: int = 8) -> None:
    """Write volumes stored as LPS with a bright box each."""
    rng = np.random.default_rng(0)
    for part in ("images", "masks"):
        (root / part).mkdir(parents=True)
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])
    for number in range(count):
        image = rng.integers(-150, 100, (20, 24, 16)).astype(np.int16)
        mask = np.zeros(image.shape, np.uint8)
        mask[4 : 10 + number % 3, 6:14, 5:11] = 1
        image[mask == 1] += 80
        for part, values in (("images", image), ("masks", mask)):
            nibabel.save(nibabel.Nifti1Image(values, affine), root / part / f"v{number}.nii.gz")  # type: ignore[no-untyped-call]


def test_volumes_are_answered_as_by_monai(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    volumes(tmp_path / "data")
    windows = WINDOWS | {"roi_size": [12, 16, 8], "device": "$torch.device('cpu')"}
    bundle = made(Path("boxes"), 3, VOLUME, windows)
    config = json.loads((bundle / "configs" / "inference.json").read_text())
    (bundle / "configs" / "inference.json").write_text(json.dumps(config | {"key": "image"}))
    arguments = {"root": str(tmp_path / "data"), "members": 2, "nonmembers": 2}
    data = {"class_path": "seg_mia.data.sets.volumes.VolumeFiles", "init_args": arguments}
    Path("boxes_data.yaml").write_text(yaml.safe_dump({"data": data}))
    assert main(["adopt", "--bundle", str(bundle), "--config", "boxes_data.yaml"]) == 0
    assert "data.width is 255.0, as the bundle boxes states" in capsys.readouterr().err
    file = tmp_path / "data" / "images" / "v0.nii.gz"
    stored = np.asarray(nibabel.load(file).dataobj)  # type: ignore[attr-defined]
    # LPS as stored is [W, H, D] with W to the left and H to the back, as images here.
    shown = ((stored.clip(-100, 155) + 100) / 255).transpose(2, 1, 0)
    own = adopted(shown).transpose(0, 3, 2, 1)[:, ::-1, ::-1]
    assert np.abs(own - by_monai(bundle, file)).max() < 1e-4


@pytest.mark.slow
def test_a_bundle_is_audited_with_a_shadow_of_its_network(tiny: Path, folder: Callable[..., Path]) -> None:
    root = folder(16, channels=1)
    names = sorted(file.name for file in (root / "images").iterdir())
    parts = ["train"] * 4 + ["test"] * 4 + ["shadow"] * 8
    lines = [f"{name},{part}" for name, part in zip(names, parts, strict=True)]
    (root / "list.csv").write_text("\n".join(["case,part", *lines]))
    crop = {"_target_": "CropForegroundd", "keys": "image", "source_key": "image"}
    transforms = [*LOAD, {"_target_": "ScaleIntensityd", "keys": "image"}, crop]
    bundle = made(Path("squares"), 2, transforms, WINDOWS)
    data_only(tiny, channels=1, parts="list.csv", members=None, nonmembers=None)
    audit = {
        "version": 1,
        "victim": {"config": str(tiny), "bundle": str(bundle)},
        "shadow": {
            "config": str(tiny),
            "bundle": str(bundle),
            "options": {"data.members": 4, "data.nonmembers": 4},
        },
        "attacks": [
            "mia-global-loss",
            {"attack": "pgd", "settings": {"steps": 2}, "data": {"limit": 1}},
        ],
    }
    Path("bundle_audit.yaml").write_text(yaml.safe_dump(audit))
    assert main(["audit", "--config", "bundle_audit.yaml"]) == 0
    folder_of_audit = Path("runs/bundle_audit/version_0")
    content = json.loads((folder_of_audit / "audit.json").read_text())
    assert {attack["name"] for attack in content["attacks"]} >= {"mia-global-loss", "pgd"}
    caveat = "CropForeground of the bundle is left out here"
    assert caveat in (folder_of_audit / "report.html").read_text()
