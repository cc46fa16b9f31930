"""Victims that predict by crops, and victims that do not give out their probabilities."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.testing import assert_close

from seg_mia.checkpoint import load_victim, read, read_card
from seg_mia.cli import main
from seg_mia.config.files import known
from seg_mia.models.released import label_logits
from seg_mia.models.stitched import Stitched
from tests.trained_runs import Trained

SHORT = ["--trainer.enable_progress_bar=false"]


@pytest.fixture
def tiny(tiny: Path, folder: Callable[..., Path]) -> Path:
    """The tiny config with 6 members and 4 non-members."""
    folder(count=24)
    tiny.write_text(tiny.read_text().replace("nonmembers: 2", "nonmembers: 4").replace("rs: 4,", "rs: 6,", 1))
    return tiny


def rows(file: Path) -> dict[str, dict[str, str]]:
    with file.open() as lines:
        return {row["id"]: row for row in csv.DictReader(lines)}


def picture(tiny: Path, name: str) -> Tensor:
    """One image of the data set, (1, 3, 32, 32) in [0, 1]."""
    root = Path(tiny.read_text().split("root: ")[1].split(",")[0])
    with Image.open(root / "images" / f"{name}.png") as image:
        return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255


def quarters(network: nn.Module, x: Tensor) -> Tensor:
    """What a network says about the four quarters of images of 32x32, put together."""
    with torch.no_grad():
        bands = [
            torch.cat([network(x[..., top : top + 16, left : left + 16]) for left in (0, 16)], 3)
            for top in (0, 16)
        ]
    return torch.cat(bands, 2)


def test_a_crop_victim_is_asked_crop_by_crop_wherever_it_goes(tiny: Path, trained: Trained) -> None:
    folder = trained(tiny, "--defence", "crop")
    file = folder / "checkpoints" / "last.ckpt"
    card = read_card(file)
    assert card.network is not None
    assert card.network["class_path"] == "seg_mia.models.stitched.Stitched"
    assert card.network["init_args"]["size"] is None
    assert card.network["init_args"]["network"] == card.model["init_args"]["network"]
    assert main(["predict", "--victim", str(folder), *SHORT]) == 0
    assert main(["validate", "--victim", str(folder), *SHORT]) == 0
    assert main(["export", str(folder), "gift.ckpt"]) == 0
    gift = read_card("gift.ckpt")
    assert "defences" not in gift.model["init_args"]
    assert "Crop" not in json.dumps(read("gift.ckpt")["seg_mia"])
    masks = sorted((folder / "predict" / "version_0" / "masks").iterdir())
    table = rows(folder / "validate" / "version_0" / "per_image.csv")
    assert len(masks) == len(table) == 4
    for source in (file, Path("gift.ckpt")):
        victim = load_victim(source)
        assert isinstance(victim, Stitched)
        for mask in masks:
            x = picture(tiny, mask.stem)
            with torch.no_grad():
                answer, whole = victim(x), victim.network(x)
            assert_close(answer, quarters(victim.network, x))
            assert not torch.allclose(answer, whole)
            shown = np.array(Image.open(mask)) == 255
            np.testing.assert_array_equal((answer[0, 0] > 0).numpy(), shown)
    test = ["test", "--attack", "asma", "--attack.steps=2", *SHORT]
    assert main([*test, "--victim", str(folder)]) == 0
    tested = rows(folder / "asma" / "version_0" / "per_image.csv")
    for name, row in tested.items():
        assert float(row["dice_clean"]) == pytest.approx(float(table[name]["dice"]), abs=1e-4)


def test_gradients_go_back_through_the_crop_that_decides(tiny: Path, trained: Trained) -> None:
    victim = load_victim(trained(tiny, "--defence", "crop") / "checkpoints" / "last.ckpt")
    x = picture(tiny, "s00").requires_grad_()
    (gradient,) = torch.autograd.grad(victim(x).sum(), x)
    (first,) = torch.autograd.grad(victim(x)[..., :16, :16].sum(), x)
    assert all(quarter.abs().sum() > 0 for quarter in gradient.unfold(2, 16, 16).unfold(3, 16, 16)[0, 0, 0])
    assert first[..., 16:, :].abs().sum() == first[..., 16:].abs().sum() == 0


def test_a_limited_release_and_the_defences_are_told_beside_the_numbers(
    tiny: Path, trained: Trained, capsys: pytest.CaptureFixture[str]
) -> None:
    trained(tiny, "--defence", "mixup", "--defence=poisoned")
    trained(tiny, "--data.role=shadow", "--seed_everything=1")
    victim = Path("runs/tiny-mixup-poisoned/version_0")
    for words in ([], ["--release", "argmax"]):
        assert main(["test", "--attack", "mia-global-loss", *words]) == 0
        small = ["--attack.scorer.architecture=test_resnet", "--attack.scorer.epochs=1"]
        assert main(["test", "--attack", "mia-type1", *small, *words]) == 0
    assert "mia-global-loss-argmax (attacker knowledge: released labels, true mask)" in (
        capsys.readouterr().out
    )
    plain, limited = (
        json.loads((victim / name / "version_0" / "summary.json").read_text())
        for name in ("mia-global-loss", "mia-global-loss-argmax")
    )
    assert plain["release"] is None
    assert limited["release"]["class_path"] == "seg_mia.defences.release.ArgmaxRelease"
    assert limited["attacker_knowledge"] == "released labels, true mask"
    assert plain["attacker_knowledge"] == "released probabilities, true mask"
    assert plain["defences"] == limited["defences"] == {"victim": ["MixUp", "Poison"], "shadow": []}
    for network in (
        victim,
        Path("runs/tiny/version_0"),
    ):  # the attacker puts its shadow behind the same limit
        first, second = (np.load(file) for file in (network / "predictions").iterdir())
        hard, soft = (first, second) if len(np.unique(first)) == 2 else (second, first)
        expected = label_logits(torch.from_numpy(soft.astype(np.float32)))
        np.testing.assert_allclose(hard, expected.numpy(), rtol=1e-3)
        assert len(np.unique(soft)) > 100
    scores = [
        rows(victim / name / "version_0" / "scores.csv")
        for name in ("mia-global-loss", "mia-global-loss-argmax")
    ]
    assert [row["member"] for row in scores[0].values()] == [row["member"] for row in scores[1].values()]
    assert [row["score"] for row in scores[0].values()] != [row["score"] for row in scores[1].values()]


def test_validate_measures_what_is_given_out(
    tiny: Path, trained: Trained, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = trained(tiny)
    for words in ([], ["--release", "rounded", "--release.digits", "0"], ["--release=noisy"]):
        assert main(["validate", *words, *SHORT]) == 0
    plain, rounded, noisy = (
        rows(folder / name / "version_0" / "per_image.csv")
        for name in ("validate", "validate-rounded", "validate-noisy")
    )
    for name, row in plain.items():
        assert rounded[name]["dice"] == row["dice"]  # rounding to labels changes no label
        assert rounded[name]["loss"] != row["loss"]
        assert noisy[name]["loss"] != row["loss"]
    capsys.readouterr()
    for words, telling in (
        (["--release", "nothing"], known("release")),
        (["--release"], known("release")),
        (["--release=rounded", "--release.digits=7"], ["digits must lie in 0..6, got 7"]),
        (["--release=noisy", "--release.sigma=0"], ["sigma must be above 0"]),
    ):
        assert main(["validate", *words]) == 2
        (line,) = [line for line in capsys.readouterr().err.splitlines() if "seg_mia: error:" in line]
        assert all(word in line for word in telling)
