"""A training of nnU-Net in 3-D, adopted and audited from its folder; a real one where nnunetv2 is there."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from seg_mia.checkpoint import load_victim, read_card
from seg_mia.cli import main
from seg_mia.data.sets.nnunet import NnUNetVolumes
from seg_mia.metrics.overlap import foreground_dice_per_class
from seg_mia.models.nnunet.folder import read_folder
from seg_mia.models.nnunet.network import NnUNet
from seg_mia.models.nnunet.specification import network_spec
from tests import nnunet_layout as layout

ROOT = Path(__file__).parents[2]
FINAL = "checkpoint_final.pth"


def predicted(path: Path, number: int, fold: int) -> NDArray[np.float32]:
    """Return probabilities (2, D, H, W) of one fold's network on a volume without padding."""
    values, _ = layout.volume(number)
    arguments: dict[str, Any] = network_spec(read_folder(path), [str(fold)], checkpoint=FINAL)["init_args"]
    grid = arguments["grid"] | {"spacing": list(layout.SPACINGS[number % 2])}
    network = NnUNet(**arguments | {"grid": grid, "levels": [[-500.0, 500.0]]}).eval()
    network.read_weights(path)
    with torch.no_grad():
        logits = network(torch.from_numpy((values[None, None].astype(np.float32) + 500) / 1000))
    probabilities: NDArray[np.float32] = logits.softmax(1)[0].numpy()
    return probabilities


def validate(path: Path, folds: dict[int, list[int]]) -> None:
    """Write predictions of validation cases as nnU-Net does."""
    for fold, cases in folds.items():
        for case in cases:
            mask = predicted(path, case, fold).argmax(0).astype(np.uint8)
            file = path / f"fold_{fold}" / "validation" / f"v{case}.nii.gz"
            layout.save_volume(file, mask, layout.SPACINGS[case % 2])


def test_a_fold_is_adopted_as_it_lies_on_disk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layout.raw_volumes(tmp_path)
    path = layout.volume_training(tmp_path)
    validate(path, {1: [1, 4]})
    assert main(["adopt", f"--nnunet={path}", "--folds", "1"]) == 0
    (run,) = Path("runs").iterdir()
    assert run.name == f"{layout.VOLUME_NAME}-3d_fullres-fold_1"
    file = run / "version_0" / "checkpoints" / "last.ckpt"
    card = read_card(file)
    assert card.training is not None
    assert card.training["agreement"]["samples"] == 2
    assert card.training["agreement"]["dice"] > 0.999
    assert card.data is not None
    assert card.data["init_args"]["levels"] == [[-80.0, 120.0]]  # what the normalisation keeps
    data = NnUNetVolumes(**card.data["init_args"])
    data.setup()
    network = load_victim(file)
    for case in range(2):
        with torch.no_grad():
            logits = network(data.dataset(np.array([case]))[0, 0].image[None])
        depth, height, width = layout.volume(case)[0].shape
        mine = logits.softmax(1)[0, :, :depth, :height, :width].numpy()
        assert np.abs(mine - predicted(path, case, 1)).max() < 1e-4
    assert main(["test", "--attack", "pgd", "--attack.steps", "1", "--data.limit", "1"]) == 0
    reference = str(path / "fold_1" / "validation")
    words = ["adopt", f"--nnunet={path}", "--folds", "0", "--reference-predictions", reference]
    capsys.readouterr()
    assert main(words) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "2 masks must agree with the deployed system's at 0.99 (mean Dice)" in line


@pytest.mark.usefixtures("drawn")
def test_folds_are_audited_without_any_training(tmp_path: Path) -> None:
    layout.raw_volumes(tmp_path, varied=False)
    path = layout.volume_training(tmp_path)
    Path("my_nnunet_audit.yaml").write_text(
        f"version: 1\nvictim: {{nnunet: {path}, folds: all}}\nattacks: [mia-global-loss]\n"
    )
    assert main(["audit", "--config", "my_nnunet_audit.yaml"]) == 0
    content = json.loads(Path("runs/my_nnunet_audit/version_0/audit.json").read_text())
    (result,) = content["folds"]
    assert (result["patients"], result["networks"]) == (6, 3)
    (attack,) = [entry for entry in content["attacks"] if entry["name"] == "mia-global-loss"]
    assert (attack["results"]["members"], attack["results"]["nonmembers"]) == (6, 2)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a small training of nnU-Net itself, with probabilities of its validation cases.

    Trained by the Python that $SEG_MIA_NNUNET_PYTHON names, or by this one, if it has nnunetv2.
    """
    python = os.environ.get("SEG_MIA_NNUNET_PYTHON", sys.executable)
    search = "import importlib.util, sys; sys.exit(importlib.util.find_spec('nnunetv2') is None)"
    if subprocess.run([python, "-c", search], check=False).returncode:
        pytest.skip("nnunetv2 is not installed; name a Python that has it: SEG_MIA_NNUNET_PYTHON")
    folder = tmp_path_factory.mktemp("nnunet")
    script = str(ROOT / "benchmarks" / "nnunet_training.py")
    words = [python, "-W", "ignore", script, str(folder), "--iterations", "15"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run(words, check=True, env=environment, capture_output=True, timeout=1500)
    return folder / "nnUNet_results" / "Dataset903_Toy" / "nnUNetTrainer__nnUNetPlans__3d_fullres"


@pytest.mark.slow
def test_a_real_training_is_the_adopted_network(trained: Path) -> None:
    assert main(["adopt", f"--nnunet={trained}", "--folds", "0"]) == 0
    (file,) = Path("runs").glob("*/*/checkpoints/last.ckpt")
    card, network = read_card(file), load_victim(file)
    assert card.training is not None
    assert card.training["agreement"]["lowest"] > 0.999
    assert card.data is not None
    data = NnUNetVolumes(**card.data["init_args"])
    data.setup()
    validation = trained / "fold_0" / "validation"
    cases = json.loads((validation / "summary.json").read_text())["metric_per_case"]
    metrics = {Path(case["prediction_file"]).name.partition(".")[0]: case["metrics"] for case in cases}
    for name, measured in metrics.items():
        index = data.source.ids.index(name)
        image, mask, _ = data.dataset(np.array([index]))[0, 0]
        part = tuple(slice(length) for length in data.source.unpadded(index) or ())
        with torch.no_grad():
            probabilities = network(image[None])[0].softmax(0)[(slice(None), *part)]
        expected = torch.from_numpy(np.load(validation / f"{name}.npz")["probabilities"])
        error = (probabilities - expected).abs().amax(0)
        assert (error < 1e-3).float().mean() > 0.98  # the rest are corners, where nnU-Net's sums are coarse
        classes = probabilities.argmax(0)
        assert (classes == expected.argmax(0)).float().mean() > 0.999
        dice = foreground_dice_per_class(classes[None], mask[part][None].long(), 3)[0]
        for label in ("1", "2"):
            assert float(dice[int(label) - 1]) == pytest.approx(measured[label]["Dice"], abs=1e-3)
