"""The texture attack on the command line and in audits: what it writes, and what it trains for itself."""

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.testing import assert_close

from seg_mia.attacks.feature_statistics import Texture, retextured
from seg_mia.checkpoint import load_victim
from seg_mia.cli import main
from seg_mia.metrics.overlap import foreground_dice
from seg_mia.metrics.similarity import ssim
from seg_mia.models.heads import predicted
from seg_mia.models.style_autoencoder import load_texture, save_texture
from tests.texture_weights import by_rule
from tests.trainings import one_error

WIDTHS = (6, 6, 6, 6, 6)
Rows = list[dict[str, str]]


@dataclass(frozen=True)
class Place:
    """A trained victim, its data and auto-encoders, which no test changes."""

    run: Path
    root: Path
    weights: Path

    def attack(self, *words: str) -> tuple[Rows, dict[str, Any], Path]:
        """Run the attack on the members; return images, summary and the folder."""
        return attacked(self.run, "--attack.weights", str(self.weights), *words)

    def dice(self, images: Tensor, mask: Tensor) -> float:
        with torch.no_grad():
            prediction = predicted(loaded(self.run)(images))
        return float(foreground_dice(prediction, mask, 2))

    def sample(self, name: str) -> tuple[Tensor, Tensor]:
        """Return an image (1, 3, 32, 32) and its mask (1, 32, 32)."""
        return sample(self.root, name)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    here = tmp_path_factory.mktemp("place")
    file = victim_config(here)
    words = ["--runs", str(here / "runs"), "--data.cache", str(here / "cache")]
    assert main(["fit", "--config", str(file), *words]) == 0
    weights = by_rule(here / "weights", widths=WIDTHS, first=6)
    return Place(here / "runs" / "victim" / "version_0", here / "data", weights)


def victim_config(here: Path, *, empty: int = 0) -> Path:
    """Draw twelve images of bright squares, some without a mask, and write what trains a victim on them."""
    rng = np.random.default_rng(0)
    for part in ("images", "masks"):
        (here / "data" / part).mkdir(parents=True)
    for number in range(12):
        image, mask = rng.integers(0, 100, (32, 32, 3), dtype=np.uint8), np.zeros((32, 32), np.uint8)
        top, left = rng.integers(2, 16, 2)
        image[top : top + 10, left : left + 10] += 120
        mask[top : top + 10, left : left + 10] = 255 * (number >= empty)
        Image.fromarray(image).save(here / "data" / "images" / f"s{number:02d}.png")
        Image.fromarray(mask).save(here / "data" / "masks" / f"s{number:02d}.png")
    file = here / "victim.yaml"
    file.write_text(f"""
trainer: {{max_epochs: 1, accelerator: cpu, enable_progress_bar: false, enable_model_summary: false}}
model:
  class_path: seg_mia.tasks.segmentation.Segmentation
  init_args:
    network:
      class_path: seg_mia.models.smp.Smp
      init_args: {{encoder: tu-test_resnet, channels: 3, classes: 1, depth: 3}}
    lr: 0.01
data:
  class_path: seg_mia.data.sets.folder.Folder
  init_args: {{root: {here / "data"}, threshold: 127, members: 4, nonmembers: 2, batch_size: 2}}
""")
    return file


@lru_cache
def loaded(run: Path) -> nn.Module:
    return load_victim(run / "checkpoints" / "last.ckpt")


def rows(file: Path) -> Rows:
    with file.open() as lines:
        return list(csv.DictReader(lines))


def column(table: Rows, name: str) -> NDArray[np.float64]:
    return np.array([float(row[name]) for row in table])


def attacked(run: Path, *words: str) -> tuple[Rows, dict[str, Any], Path]:
    before = set((run / "adain").glob("*"))
    assert main(["test", "--attack", "adain", "--victim", str(run), "--data.subset", "members", *words]) == 0
    (folder,) = set((run / "adain").glob("*")) - before
    return rows(folder / "per_image.csv"), json.loads((folder / "summary.json").read_text()), folder


def sample(root: Path, name: str) -> tuple[Tensor, Tensor]:
    with (
        Image.open(root / "images" / f"{name}.png") as image,
        Image.open(root / "masks" / f"{name}.png") as m,
    ):
        pixels, mask = np.array(image), np.array(m)
    scaled = torch.from_numpy(pixels).permute(2, 0, 1).float()[None] / 255
    return scaled, torch.from_numpy((mask > 127).astype(np.int64))[None]


@pytest.mark.usefixtures("drawn")
def test_what_a_run_leaves(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    table, summary, folder = place.attack("--save_images", "true")
    said = capsys.readouterr().out
    assert "adain (attacker knowledge: true mask), 4 images" in said
    assert "Dice to the truth" in said
    assert summary["attacker_knowledge"] == "true mask"
    assert summary["images"] == len(table) == 4
    assert summary["attack"]["init_args"]["organs"] == [6]
    assert {(row["noise_mu"], row["noise_sigma"], row["above_floor"]) for row in table} == {
        ("0.3", "0.3", "1")
    }
    assert not {"strengths.csv", "strengths.png", "history.csv"} & {file.name for file in folder.iterdir()}
    assert summary["strengths"] == []
    pairs = load_texture(place.weights)
    for row in table:
        image, mask = place.sample(row["id"])
        with torch.no_grad():
            (expected,) = retextured(pairs, image, mask * 6, Texture())
        saved = torch.from_numpy(np.load(folder / "adversarial" / f"{row['id']}.npy"))
        assert_close(saved, expected[0], rtol=0, atol=1.5 / 255)
        with Image.open(folder / "adversarial" / f"{row['id']}.png") as png:
            assert_close(torch.from_numpy(np.array(png)).permute(2, 0, 1), (saved * 255).round().byte())
        for name, images in (("dice_clean", image), ("dice_adversarial", saved[None])):
            assert float(row[name]) == pytest.approx(place.dice(images, mask), abs=1e-5)
        assert float(row["ssim"]) == pytest.approx(float(ssim(saved[None], image)), abs=1e-5)
        inside = float(ssim(saved[None], image, where=mask == 1))
        assert float(row["ssim_inside"]) == pytest.approx(inside, abs=1e-5)
    with Image.open(folder / "panel.png") as panel:
        assert panel.width > 6 * 200


@pytest.mark.usefixtures("drawn")
def test_lists_are_tried_in_all_pairs(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    grid = ["--attack.noise_mu", "[0.3, 1.0]", "--attack.noise_sigma", "[0.5, 0.7, 1.0]"]
    table, summary, folder = place.attack(*grid, "--data.batch_size", "3", "--attack.ssim_floor", "-1")
    assert "adain (attacker knowledge: true mask, labels)" in capsys.readouterr().out
    assert not (folder / "history.csv").exists()
    tried = rows(folder / "strengths.csv")
    pairs = list(product((0.3, 1.0), (0.5, 0.7, 1.0)))
    ids = [row["id"] for row in table]
    assert [(row["id"], float(row["noise_mu"]), float(row["noise_sigma"])) for row in tried] == [
        (name, *pair) for name in ids for pair in pairs
    ]
    network = load_texture(place.weights)
    for number, row in enumerate(table):
        own = tried[number * len(pairs) : (number + 1) * len(pairs)]
        image, mask = place.sample(row["id"])
        with torch.no_grad():
            changed = list(retextured(network, image, mask * 6, Texture(), strengths=pairs))
        for strength, images in zip(own, changed, strict=True):
            assert float(strength["dice"]) == pytest.approx(place.dice(images, mask), abs=0.02)
            assert float(strength["ssim"]) == pytest.approx(float(ssim(images, image)), abs=0.02)
        best = own[int(column(own, "dice").argmin())]
        assert (row["noise_mu"], row["noise_sigma"]) == (best["noise_mu"], best["noise_sigma"])
        assert float(row["dice_adversarial"]) == pytest.approx(float(best["dice"]), abs=1e-5)
        assert float(row["ssim"]) == pytest.approx(float(best["ssim"]), abs=1e-5)
    means = summary["strengths"]
    assert [(row["noise_mu"], row["noise_sigma"]) for row in means] == pairs
    for number, mean in enumerate(means):
        for name in ("dice", "ssim"):
            assert mean[name] == pytest.approx(column(tried[number :: len(pairs)], name).mean(), abs=1e-5)
    with Image.open(folder / "strengths.png") as sheet:
        assert sheet.width > 200

    floor = np.median(column(tried, "ssim"))
    capsys.readouterr()
    table, _, _ = place.attack(*grid, "--attack.ssim_floor", str(floor))
    assert column(table, "above_floor").any()
    below = int((column(table, "above_floor") == 0).sum())
    told = f"no strength met the SSIM floor of {floor:g} on {below} of {len(table)} images"
    assert (told in capsys.readouterr().out) == (below > 0)
    for row in table:
        similar = column([each for each in tried if each["id"] == row["id"]], "ssim")
        assert float(row["above_floor"]) == (similar.max() >= floor)
        assert float(row["ssim"]) >= floor - 1e-5 or float(row["ssim"]) == pytest.approx(similar.max())


def test_the_organ_alone(place: Place) -> None:
    words = ["--attack.region", "organ", "--attack.feather", "0", "--save_images", "true"]
    table, _, folder = place.attack(*words)
    for row in table:
        image, mask = place.sample(row["id"])
        saved = torch.from_numpy(np.load(folder / "adversarial" / f"{row['id']}.npy"))[None]
        outside = (mask == 0).unsqueeze(1).expand_as(image)
        assert_close(saved[outside], image[outside], rtol=0, atol=0)
        assert (row["change_outside"], float(row["change_inside"]) > 0) == ("0", True)


def test_images_without_the_organ(place: Place, tmp_path: Path) -> None:
    file = victim_config(tmp_path, empty=9)
    assert main(["fit", "--config", str(file)]) == 0
    run = Path("runs/victim/version_0")
    grid = ["--attack.weights", str(place.weights), "--attack.noise_mu", "[0.3, 1.0]", "--data.subset", "all"]
    table, summary, _ = attacked(run, *grid)
    empty = [not sample(tmp_path / "data", row["id"])[1].any() for row in table]
    assert empty[0]
    assert not all(empty)
    assert [row["ssim_inside"] == "" for row in table] == empty
    assert [row["change_inside"] == "" for row in table] == empty
    there = [float(row["ssim_inside"]) for row, none in zip(table, empty, strict=True) if not none]
    assert summary["results"]["ssim_inside"]["mean"] == pytest.approx(np.mean(there), abs=1e-5)
    _, summary, folder = attacked(run, *grid, "--data.limit", "1", "--attack.region", "organ")
    assert summary["results"]["ssim_inside"] == dict.fromkeys(("mean", "std", "min", "median", "max"))
    assert summary["unchanged"] == 1
    assert (folder / "strengths.png").is_file()


def test_weights_of_a_run(place: Place) -> None:
    own = Path("runs/own/version_0")
    save_texture(load_texture(place.weights), own / "texture")
    table, summary, _ = place.attack("--attack.weights", str(own))
    other, _, _ = place.attack()
    assert table == other
    assert summary["attack"]["init_args"]["weights"] == str(own)


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run words that must fail, and return the one line they lead to."""

    def run(*words: str) -> str:
        capsys.readouterr()
        assert main([*words]) == 2
        return one_error(capsys)

    return run


def test_refusals(place: Place, tmp_path: Path, said: Callable[..., str]) -> None:
    def refused(*words: str) -> str:
        return said("test", "--attack", "adain", "--victim", str(place.run), *words)

    assert "--attack.weights FOLDER" in refused()
    line = refused("--attack.weights", "nowhere")
    assert "weights 'nowhere' is neither a file nor a folder" in line
    assert "train some with `python -m seg_mia fit --config texture_phantom`" in line
    victim = str(place.run / "checkpoints" / "last.ckpt")
    assert "must hold texture auto-encoders" in refused("--attack.weights", victim)
    damaged = shutil.copytree(place.weights, tmp_path / "damaged")
    (damaged / "SD2.pth").unlink()
    assert "SD2.pth are missing" in refused("--attack.weights", str(damaged))
    assert "region" in refused("--attack.region", "all")

    words = ["--attack.weights", str(place.weights)]
    assert "each of the 1 foreground classes needs an organ" in refused(*words, "--attack.organs", "[6, 3]")
    assert "ids from 1 to 14" in refused(*words, "--attack.organs", "[15]")
    assert "at least one factor" in refused(*words, "--attack.noise_mu", "[]")
    assert "a patch of 9 must fit" in refused(*words, "--attack.fine_psize", "9")


def config(file: Path, root: Path, *, lr: float = 1e-3) -> Path:
    """Write a config that trains very narrow auto-encoders for one step."""
    file.write_text(f"""
trainer:
  max_epochs: 1
  limit_train_batches: 1
  accelerator: cpu
  enable_progress_bar: false
  enable_model_summary: false
model:
  class_path: seg_mia.tasks.style_autoencoder.TextureTraining
  init_args:
    network:
      class_path: seg_mia.models.style_autoencoder.TextureAutoEncoders
      init_args: {{widths: [2, 2, 3, 4, 4]}}
    lr: {lr}
data:
  class_path: seg_mia.data.sets.folder.Folder
  init_args: {{root: {root}, threshold: 127, role: shadow, members: 2, nonmembers: 2, batch_size: 2}}
""")
    return file


def audited(victim: Path, *attacks: dict[str, Any]) -> list[dict[str, Any]]:
    """Run an audit and return its results."""
    before = set(Path("runs").glob("audit/*"))
    assert main(["audit", "--victim", str(victim), "--attacks", json.dumps(attacks)]) == 0
    (folder,) = set(Path("runs").glob("audit/*")) - before
    found: list[dict[str, Any]] = json.loads((folder / "audit.json").read_text())["attacks"]
    return found


def adain(weights: Path | str, **settings: Any) -> dict[str, Any]:
    return {"attack": "adain", "settings": {"weights": str(weights), **settings}, "data": {"limit": 1}}


def test_an_audit_trains_what_it_needs_once(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = config(tmp_path / "textures.yaml", place.root)
    capsys.readouterr()
    one, other = audited(place.run, adain(file), adain(file, noise_mu=[0.3, 1.0]))
    assert capsys.readouterr().out.count(": auto-encoders textures") == 1
    run = Path("runs/textures/version_0")
    assert one["attack"]["init_args"]["weights"] == other["attack"]["init_args"]["weights"] == str(run)
    assert len(other["strengths"]) == 2
    (again,) = audited(place.run, adain(file))
    assert f"reused from {run}" in capsys.readouterr().out
    assert again["results"] == one["results"]
    assert [each.name for each in run.parent.iterdir()] == ["version_0"]


def test_an_audit_trains_anew_what_is_to_be_trained_otherwise(place: Place, tmp_path: Path) -> None:
    file = config(tmp_path / "textures.yaml", place.root)
    (one,) = audited(place.run, adain(file))
    config(file, place.root, lr=0.1)
    (other,) = audited(place.run, adain(file))
    assert one["attack"]["init_args"]["weights"] == "runs/textures/version_0"
    assert other["attack"]["init_args"]["weights"] == "runs/textures/version_1"


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("FOLDER", "holds none"),
        (None, "--attack.weights FOLDER"),
        ("nowhere.yaml", "nowhere.yaml"),
        ("victim.yaml", "auto-encoders"),
    ],
)
def test_an_audit_tells_first_what_its_texture_attack_lacks(
    place: Place, tmp_path: Path, said: Callable[..., str], weights: str | None, message: str
) -> None:
    victim = str(place.run.parents[2] / "victim.yaml")
    known = {"FOLDER": str(tmp_path), "victim.yaml": victim}  # the latter trains no auto-encoders
    attack = adain(known.get(weights, weights)) if weights else "adain"
    assert message in said("audit", "--victim", victim, "--attacks", json.dumps([attack]))
    assert not Path("runs").exists()  # nothing has been trained for nothing
