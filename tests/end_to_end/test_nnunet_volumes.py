"""A folder in the layout of a 3-D training of nnU-Net, adopted and audited from its folder."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from seg_mia.checkpoint import load_victim, read_card
from seg_mia.cli import main
from seg_mia.data.sets.nnunet import NnUNetVolumes
from seg_mia.models.nnunet.folder import read_folder
from seg_mia.models.nnunet.network import NnUNet
from seg_mia.models.nnunet.specification import network_spec
from tests import nnunet_layout as layout

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
