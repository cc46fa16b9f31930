"""A training of nnU-Net, adopted and audited from its folder."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from seg_mia.checkpoint import load_victim, read_card
from seg_mia.cli import main
from seg_mia.membership.fleet.folds import fold_ranks
from seg_mia.models.nnunet.network import NnUNet
from seg_mia.models.nnunet.unet import UNet
from tests import nnunet_layout as layout

PATIENT = r"--data.patient=(p\d+)_"


def predicted(path: Path, name: str, fold: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Return probabilities (2, h, w) of one fold's network, cut and joined here pixel by pixel.

    The image of 40 x 40 has a box of 36 x 37 inside its margin of zeros, so patches of 32 begin at 0 and 4 in
    rows and at 0 and 5 in columns.
    """
    part = "Ts" if int(name.partition("_")[2]) >= 8 else "Tr"
    image = np.array(
        Image.open(path.parents[2] / "nnUNet_raw" / layout.NAME / f"images{part}" / f"{name}_0000.png")
    )
    box = image[4:, :37].astype(np.float64)
    box = (box - box.mean()) / box.std()
    network = UNet(layout.architecture(), 1, 2).double().eval()
    network.load_state_dict(layout.weights(fold))
    distance = np.hypot(*np.meshgrid(np.arange(32) - 16, np.arange(32) - 16, indexing="ij"))
    weight = 10 * np.exp(-(distance**2) / (2 * 4**2))
    total, norm = np.zeros((2, 36, 37)), np.zeros((36, 37))
    for row in (0, 4):
        for column in (0, 5):
            patch = torch.from_numpy(box[row : row + 32, column : column + 32])[None, None]
            answers = [network(patch.flip(axes)).flip(axes) for axes in ((), (2,), (3,), (2, 3))]
            total[:, row : row + 32, column : column + 32] += (
                torch.stack(answers).mean(0)[0].detach().numpy() * weight
            )
            norm[row : row + 32, column : column + 32] += weight
    whole = np.zeros((2, 40, 40))
    whole[0] = 1
    whole[:, 4:, :37] = functional.softmax(torch.from_numpy(total / norm), dim=0).numpy()
    return whole


def validate(path: Path, folds: dict[int, list[str]]) -> None:
    """Write nnU-Net's predictions of validation cases."""
    for fold, names in folds.items():
        folder = path / f"fold_{fold}" / "validation"
        folder.mkdir()
        for name in names:
            probabilities = predicted(path, name, fold)
            np.savez(folder / f"{name}.npz", probabilities=probabilities[:, None].astype(np.float32))
            Image.fromarray(probabilities.argmax(0).astype(np.uint8)).save(folder / f"{name}.png")
        (folder / "summary.json").write_text("{}")


def test_a_fold_is_adopted_as_it_lies_on_disk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layout.raw(tmp_path)
    path = layout.training(tmp_path)
    validate(path, {1: ["p1_2", "p1_3"]})
    assert main(["adopt", f"--nnunet={path}", "--folds", "1", PATIENT]) == 0
    (run,) = Path("runs").iterdir()
    assert run.name == f"{layout.NAME}-2d-fold_1"
    file = run / "version_0" / "checkpoints" / "last.ckpt"
    card, network = read_card(file), load_victim(file)
    assert card.training is not None
    assert card.training["agreement"]["samples"] == 2
    assert card.training["agreement"]["dice"] > 0.999
    image = np.array(Image.open(tmp_path / f"nnUNet_raw/{layout.NAME}/imagesTs/p4_9_0000.png"))
    with torch.no_grad():
        mine = network(torch.from_numpy(image)[None, None] / 255).softmax(1)[0]
    assert np.abs(mine.numpy() - predicted(path, "p4_9", 1)).max() < 1e-3
    assert main(["test", "--attack", "pgd", "--attack.steps", "2", "--data.limit", "2"]) == 0
    assert main(["test", "--attack", "mia-global-loss"]) == 0  # no shadow: AUC and rates, no decisions
    (summary,) = run.glob("version_0/mia-global-loss/version_0/summary.json")
    content = json.loads(summary.read_text())
    assert (content["results"]["members"], content["results"]["nonmembers"]) == (6, 6)
    assert content["results"]["threshold"] is None
    assert main(["test", "--attack", "mia-type2"]) == 2
    assert "no shadow" in capsys.readouterr().err


def test_another_network_than_the_deployed_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layout.raw(tmp_path)
    path = layout.training(tmp_path)
    validate(path, {1: ["p1_2", "p1_3"]})
    reference = str(path / "fold_1" / "validation")
    words = ["adopt", f"--nnunet={path}", "--folds", "0", PATIENT, "--reference-predictions", reference]
    assert main(words) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "2 masks must agree with the deployed system's at 0.99 (mean Dice)" in line
    assert "p1_2" in line
    assert "usual causes: crop, window or normalisation" in line
    assert not list(Path("runs").glob("*/*/checkpoints/last.ckpt"))
    assert main([*words, "--agreement", "0"]) == 0


@pytest.mark.usefixtures("drawn")
def test_folds_are_audited_without_any_training(tmp_path: Path) -> None:
    layout.raw(tmp_path)
    path = layout.training(tmp_path)
    Path("my_nnunet_audit.yaml").write_text(
        f"version: 1\nvictim: {{nnunet: {path}, folds: all, options: {{data.patient: '(p[0-9]+)_'}}}}\n"
        "attacks: [mia-global-loss]\n"
    )
    assert main(["audit", "--config", "my_nnunet_audit.yaml", "--fail-on", "folds.p_value<0"]) == 0
    folder = Path("runs/my_nnunet_audit/version_0")
    content = json.loads((folder / "audit.json").read_text())
    (result,) = content["folds"]
    losses = np.zeros((3, 8))
    for fold in range(3):
        for number in range(8):
            mask = layout.picture(number)[1]
            probabilities = predicted(path, f"p{number // 2}_{number}", fold)
            losses[fold, number] = -np.log(np.take_along_axis(probabilities, mask[None], 0) + 1e-12).mean()
    signals = -np.log(losses).reshape(3, 4, 2).mean(axis=2)
    signals -= np.median(-np.log(losses), axis=1, keepdims=True)
    inside = np.array([[patient % 3 != fold for patient in range(4)] for fold in range(3)])
    expected = fold_ranks(signals, inside)
    assert (result["lowest"], result["patients"], result["networks"]) == (expected.lowest, 4, 3)
    assert result["p_value"] == pytest.approx(expected.p_value)
    assert sum(result["ranks"]) == pytest.approx(4)
    (attack,) = [entry for entry in content["attacks"] if entry["name"] == "mia-global-loss"]
    assert (attack["results"]["members"], attack["results"]["nonmembers"]) == (
        8,
        4,
    )  # of the mean of all folds
    page = (folder / "report.html").read_text()
    assert "Networks of the cross-validation" in page
    assert "not compared with the deployed system" in page
    assert (folder / "folds_0" / "folds_ranks.png").is_file()


def test_a_checkpoint_that_names_the_network_needs_no_folder(tmp_path: Path) -> None:
    layout.raw(tmp_path)
    path = layout.training(tmp_path)
    assert main(["adopt", f"--nnunet={path}", "--folds", "0,2", PATIENT]) == 0
    (file,) = Path("runs").glob("*/*/checkpoints/last.ckpt")
    for checkpoint in path.glob("fold_*/*.pth"):
        checkpoint.unlink()
    network = load_victim(file)
    assert isinstance(network, NnUNet)
    assert network.folds == ["0", "2"]
