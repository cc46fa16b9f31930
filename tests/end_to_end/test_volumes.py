"""Whole volumes from the command line: patches, and every defence, release and membership attack."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from seg_mia.checkpoint import load_victim
from seg_mia.cli import main
from seg_mia.config.files import find_config, known
from seg_mia.data.sets.volumes import VolumeFiles
from seg_mia.defences.distil import Distil
from seg_mia.experiment.attack_classes import is_membership
from seg_mia.models.heads import final
from tests.data.scans import save

SIZE = (8, 16, 16)
UNET: dict[str, Any] = {
    "class_path": "seg_mia.models.unet3d.UNet3d",
    "init_args": {"width": 2, "levels": 2, "classes": 1},
}
TILED = {"class_path": "seg_mia.models.tiled.Tiled", "init_args": {"network": UNET, "patch": [8, 16, 8]}}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty-four patients with a bright cube each, some of them with fewer slices."""
    folder, rng = tmp_path_factory.mktemp("volumes"), np.random.default_rng(0)
    for number in range(24):
        values = rng.integers(-100, 100, (16, 16, 8 - number % 3)).astype(np.int16)
        label = np.zeros(values.shape, np.uint8)
        start = rng.integers(2, 8, 2)
        label[start[0] : start[0] + 6, start[1] : start[1] + 6, 2:5] = 1
        save(folder / f"images/p{number:02d}.nii", (values + 150 * label).astype(np.int16))
        save(folder / f"masks/p{number:02d}.nii", label)
    return folder


def config(root: Path, network: dict[str, Any] = UNET, **data: Any) -> str:
    """Return the arguments of a training as inline JSON."""
    settings: dict[str, Any] = {
        "seed_everything": 0,
        "trainer": {"max_epochs": 1},
        "model": {
            "class_path": "seg_mia.tasks.segmentation.Segmentation",
            "init_args": {"network": network, "lr": 1e-2},
        },
        "data": {
            "class_path": "seg_mia.data.sets.volumes.VolumeFiles",
            "init_args": {
                "root": str(root), "size": list(SIZE), "members": 4, "nonmembers": 4, "batch_size": 2, **data,
            },
        },
    }  # fmt: skip
    return json.dumps(settings)


def trained(root: Path, *words: str, **options: Any) -> Path:
    """Train for an epoch, and return the run."""
    assert main(["fit", f"--config={config(root, **options)}", *words]) == 0
    return max(Path("runs").glob("*/version_*"), key=lambda path: path.stat().st_mtime)


def test_a_network_of_patches_answers_whole_volumes(root: Path) -> None:
    run = trained(root, network=TILED, patch=[8, 16, 8], augment="flip")
    victim = load_victim(run / "checkpoints" / "last.ckpt")
    volume = torch.rand(1, 1, *SIZE)
    with torch.no_grad():
        logits = final(victim(volume))
    assert logits.shape == (1, 1, *SIZE)
    victim.batch = 1  # type: ignore[assignment]
    with torch.no_grad():
        assert_close(final(victim(volume)), logits, atol=1e-5, rtol=0)
    assert main(["predict", f"--victim={run}"]) == 0
    masks = [np.load(file) for file in run.glob("predict/version_0/masks/*.npy")]
    assert len(masks) == 4
    assert {mask.shape for mask in masks} == {SIZE}
    assert main(["test", "--attack=pgd", f"--victim={run}", "--attack.steps=2", "--data.limit=2"]) == 0
    folder = run / "pgd" / "version_0"
    assert (folder / "panel.png").is_file()
    assert len((folder / "per_image.csv").read_text().splitlines()) == 3


def test_slices_too_small_for_a_similarity_are_attacked_without_it(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trained(root, size=[8, 8, 8])
    assert main(["test", "--attack=pgd", f"--victim={run}", "--attack.steps=2", "--data.limit=2"]) == 0
    assert "SSIM undefined for images this small, L2 " in capsys.readouterr().out
    folder = run / "pgd" / "version_0"
    assert json.loads((folder / "summary.json").read_text())["results"]["ssim"]["mean"] is None
    assert (folder / "panel.png").is_file()


def test_the_data_is_inspected_with_pictures(root: Path) -> None:
    assert main(["prepare", f"--config={config(root)}", "--out=seen"]) == 0
    report = (Path("seen") / "prepare.md").read_text()
    assert "images 8 x 16 x 16 x 1 (depth, height, width, channels)" in report
    assert (Path("seen") / "sheet.png").is_file()


def test_padding_does_not_count(root: Path) -> None:
    data = VolumeFiles(root=str(root), size=[16, 16, 16], members=4, nonmembers=4)
    data.setup()
    batch = next(iter(data.val_dataloader()))
    assert ((batch.mask == 255).flatten(1).float().mean(1) >= 0.5).all()
    assert (batch.image.movedim(1, -1)[batch.mask == 255] == 0).all()


def test_a_students_labels_are_ignored_in_padding(root: Path) -> None:
    data = VolumeFiles(root=str(root), size=[16, 16, 16], members=4, nonmembers=4, reference=2)
    data.setup()
    Distil(max_loss=1e6).learn(torch.nn.Conv3d(1, 1, 1), data)
    taught = data.training_set()
    assert len(taught.indices) == 2
    for index in taught.indices:
        ignored = np.asarray(data.cached.masks[index]) == 255
        assert ignored.any()
        assert np.array_equal(taught.labels[index] == 255, ignored)


@pytest.mark.slow
@pytest.mark.parametrize("name", known("defence"))
def test_every_defence_trains_on_volumes(root: Path, name: str) -> None:
    small = {
        "minmax": ["--model.defences.architecture=test_resnet"],
        "canaries": ["--model.defences.count=8", "--data.reference=16", "--data.shadow_share=0.04"],
        "dp": ["--model.defences.epsilon=20"],
        "adversarial": ["--model.defences.steps=1"],
    }
    run = trained(root, f"--defence={name}", *small.get(name, []), members=3, nonmembers=3, reference=4)
    victim = load_victim(run / "checkpoints" / "last.ckpt")
    with torch.no_grad():
        assert final(victim(torch.rand(1, 1, *SIZE))).shape == (1, 1, *SIZE)


@pytest.mark.parametrize("name", ["crop", "minmax", "poisoned"])
def test_defences_of_whole_samples_refuse_patches(
    root: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"--config={config(root, patch=[8, 16, 8], reference=2)}", f"--defence={name}"]
    assert main(["fit", *words]) == 2
    assert "needs whole samples, got patch [8, 16, 8]" in capsys.readouterr().err


@pytest.mark.slow
def test_every_membership_attack_and_release_takes_volumes(root: Path) -> None:
    victim = trained(root)
    shadow = trained(root, "--role=shadow")
    both = [f"--victim={victim}", f"--shadow={shadow}"]
    alone = {"mia-lira", "mia-rmia", "mia-base", "mia-quantile"}  # they need more networks or samples
    for name in known("attack"):
        file = str(find_config(name, "attack"))
        if not is_membership(file) or name in alone:
            continue
        words = ["test", f"--attack={name}", *both]
        if "architecture" in Path(file).read_text():
            words += ["--attack.scorer.architecture=test_resnet", "--attack.scorer.epochs=1"]
        assert main(words) == 0, name
    for name in known("release"):
        words = ["validate", f"--victim={victim}", f"--release={name}"]
        assert main([*words, *(["--release.draws=20"] if name == "smoothed" else [])]) == 0, name
    assert (
        main(["test", "--attack=certify", f"--victim={victim}", "--attack.draws=20", "--data.limit=1"]) == 0
    )
