"""Networks of other libraries on the phantom: one epoch, attacks, membership, DP-SGD. Prints a table.

    PYTHONPATH=. python benchmarks/architectures.py [NAME ...]

Each network trains for one epoch on a few images of 64 x 64, or of the size behind its name, so that its
numbers mean nothing: the table shows which steps work, and in words why one does not. 50 is divisible by 2
alone. Needs monai and transformers for their rows.
"""

import contextlib
import importlib.metadata
import io
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from seg_mia.cli import main

MONAI = "monai.networks.nets"
FLAT = {"spatial_dims": 2, "in_channels": 1, "out_channels": 2}
TRANSFORMER = {"hidden_sizes": [8, 16, 24, 32], "decoder_hidden_size": 32, "depths": [1, 1, 1, 1]}
SIZE, AWKWARD, LARGE = 64, 50, 128
NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "monai UNet": (f"{MONAI}.UNet", {**FLAT, "channels": [8, 16, 32], "strides": [2, 2], "num_res_units": 1}),
    "monai BasicUNet": (f"{MONAI}.BasicUNet", {**FLAT, "features": [8, 8, 16, 16, 16, 8]}),
    "monai BasicUNetPlusPlus": (f"{MONAI}.BasicUNetPlusPlus", {**FLAT, "features": [8, 8, 16, 16, 16, 8]}),
    "monai DynUNet": (
        f"{MONAI}.DynUNet",
        {
            **FLAT,
            "kernel_size": [3, 3, 3],
            "strides": [1, 2, 2],
            "upsample_kernel_size": [2, 2],
            "filters": [8, 16, 32],
        },
    ),
    "monai SegResNet": (f"{MONAI}.SegResNet", {**FLAT, "init_filters": 8}),
    "monai SegResNetVAE": (
        f"{MONAI}.SegResNetVAE",
        {**FLAT, "init_filters": 8, "input_image_size": [64, 64]},
    ),
    "monai SwinUNETR": (
        f"{MONAI}.SwinUNETR",
        {**FLAT, "feature_size": 12, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2]},
    ),
    "torchvision DeepLabV3": (
        "seg_mia.models.named.Torchvision",
        {"architecture": "deeplabv3_mobilenet_v3_large"},
    ),
    "torchvision LRASPP": ("seg_mia.models.named.Torchvision", {"architecture": "lraspp_mobilenet_v3_large"}),
    "transformers SegFormer": ("seg_mia.models.named.Transformers", {"channels": 1, "settings": TRANSFORMER}),
    "smp Unet": ("seg_mia.models.smp.Smp", {"architecture": "Unet", "encoder": "resnet18"}),
    "smp Segformer": ("seg_mia.models.smp.Smp", {"architecture": "Segformer", "encoder": "mit_b0"}),
    "smp UPerNet": ("seg_mia.models.smp.Smp", {"architecture": "UPerNet", "encoder": "resnet18"}),
    "smp PAN": ("seg_mia.models.smp.Smp", {"architecture": "PAN", "encoder": "resnet18"}),
    "smp DPT": (
        "seg_mia.models.smp.Smp",
        {
            "architecture": "DPT",
            "encoder": "tu-vit_tiny_patch16_224",
            "depth": 4,
            "options": {"img_size": 64},
        },
    ),
}
SIZED = {
    f"{name} {size}": (name, size)
    for name, size in (("smp PAN", LARGE), *((name, AWKWARD) for name in NETWORKS))
}
"""Rows of other sizes than 64: the network, and the side of its images."""
FIT = ["--trainer.max_epochs", "1", "--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
ATTACKS = {
    "asma": ["--attack.steps", "3", "--data.limit", "2"],
    "medis": ["--attack.steps", "2", "--data.limit", "2"],
    "pgd": ["--attack.steps", "2", "--data.limit", "2"],
    "mia-global-loss": [],
}


def config(path: Path, name: str, size: int) -> Path:
    kind, arguments = NETWORKS[name]
    if "input_image_size" in arguments:
        arguments = arguments | {"input_image_size": [size, size]}
    phantom = {"size": size, "patients": 12, "slices": 2, "members": 8, "nonmembers": 4, "batch_size": 4}
    file = path / "network.yaml"
    network = {"class_path": kind, "init_args": arguments}
    model = {"class_path": "seg_mia.tasks.segmentation.Segmentation", "init_args": {"network": network}}
    data = {"class_path": "seg_mia.data.sets.phantom.Phantom", "init_args": phantom}
    file.write_text(yaml.safe_dump({"seed_everything": 0, "model": model, "data": data}))
    return file


def step(words: Sequence[str]) -> str:
    """Run one command; return "yes", or the last line of its error."""
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
        try:
            code = main(list(words))
        except Exception as error:  # noqa: BLE001  (a traceback is what the table must show)
            return f"TRACEBACK {type(error).__name__}: {str(error)[:200]}"
    return "yes" if code == 0 else errors.getvalue().strip().splitlines()[-1]


def row(label: str) -> list[str]:
    name, size = SIZED.get(label, (label, SIZE))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        fit = ["fit", "--config", str(config(path, name, size)), "--runs", str(path / "runs"), *FIT]
        trust = [] if NETWORKS[name][0].startswith("seg_mia.") else ["--trust", NETWORKS[name][0]]
        run = ["--victim", str(path / "runs/network/version_0"), "--runs", str(path / "runs"), *trust]
        cells = [step(fit)]
        if cells == ["yes"]:
            cells.append(step([*fit, "--role", "shadow"]))
            cells += [
                step(["test", "--attack", attack, *options, *run]) for attack, options in ATTACKS.items()
            ]
        private = step([*fit, "--defence", "dp"])
        return [*cells, *[""] * (2 + len(ATTACKS) - len(cells)), private]


def main_table(names: Sequence[str]) -> None:
    versions = [
        f"{name} {importlib.metadata.version(name)}"
        for name in ("torch", "torchvision", "segmentation-models-pytorch", "timm")
    ]
    for name in ("monai", "transformers"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions.append(f"{name} {importlib.metadata.version(name)}")
    print(", ".join(versions))
    print("| network | fit | shadow |", " | ".join(ATTACKS), "| dp | seconds |")
    print("| --- " * (5 + len(ATTACKS)) + "|")
    for name in names:
        start = time.monotonic()
        print(f"| {name} |", " | ".join(row(name)), f"| {time.monotonic() - start:.0f} |", flush=True)


if __name__ == "__main__":
    main_table(sys.argv[1:] or [*NETWORKS, *SIZED])
