import contextlib
import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.testing import assert_close

from seg_mia.checkpoint import load_victim
from seg_mia.cli import main
from seg_mia.runs import checkpoint_file
from tests.trained_runs import Trained

RUN = Path("runs/tiny/version_0")


def pixels(file: Path) -> NDArray[np.uint8]:
    with Image.open(file) as picture:
        return np.asarray(picture)


def rows(file: Path) -> list[dict[str, str]]:
    with file.open() as lines:
        return list(csv.DictReader(lines))


@pytest.fixture
def victim(tiny: Path, trained: Trained) -> Path:
    return trained(tiny)


def test_fit_leaves_a_run_that_describes_itself(victim: Path) -> None:
    assert {"config.yaml", "checkpoints", "metrics.jsonl", "salt"} <= {file.name for file in victim.iterdir()}
    assert {file.name for file in (victim / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    (line,) = [json.loads(text) for text in (victim / "metrics.jsonl").read_text().splitlines()]
    assert {"train/loss", "train/dice", "val/loss", "val/dice", "val/iou"} <= set(line)
    network = load_victim(checkpoint_file(victim))
    assert network(torch.rand(2, 3, 32, 32)).shape == (2, 1, 32, 32)
    assert not network.training


def test_the_whole_path(victim: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["test", "--attack.steps", "3", "--attack", "asma", "--save_images", "true"]) == 0
    said = capsys.readouterr().out
    assert f"victim: {RUN}" in said
    assert "asma (attacker knowledge: weights), 2 images" in said
    results = victim / "asma" / "version_0"
    table = rows(results / "per_image.csv")
    assert len(table) == 2
    assert {"id", "iou", "iou_8bit", "l2", "linf", "ssim", "dice_clean", "dice_adversarial"} <= set(table[0])
    summary = json.loads((results / "summary.json").read_text())
    assert summary["attack"]["init_args"]["steps"] == 3
    assert summary["attacker_knowledge"] == "weights"
    assert_close(
        summary["results"]["l2"]["mean"], np.mean([float(row["l2"]) for row in table]), rtol=1e-4, atol=1e-5
    )
    history = rows(results / "history.csv")
    assert [row["step"] for row in history] == ["0", "3"] * 2
    for name in ("panel.png", "history.png"):
        assert pixels(results / name).shape[1] > 300
    saved = np.load(results / "adversarial" / f"{table[0]['id']}.npy")
    assert saved.shape == (3, 32, 32)
    assert saved.dtype == np.float32
    assert list(results.glob("events*"))


def test_validate_agrees_with_training(victim: Path) -> None:
    assert main(["validate", "--victim", str(victim)]) == 0
    summary = json.loads((victim / "validate" / "version_0" / "summary.json").read_text())
    (line,) = [json.loads(text) for text in (victim / "metrics.jsonl").read_text().splitlines()]
    assert summary["images"] == 2
    assert_close(summary["dice"], line["val/dice"], atol=1e-6, rtol=0)
    assert len(rows(victim / "validate" / "version_0" / "per_image.csv")) == 2


def test_predict_writes_the_masks_that_the_network_gives(victim: Path) -> None:
    assert main(["predict", "--data.subset", "members"]) == 0
    masks = sorted((victim / "predict" / "version_0" / "masks").glob("*.png"))
    assert len(masks) == 4
    network = load_victim(checkpoint_file(victim))
    root = Path((victim / "config.yaml").read_text().split("root: ")[1].split()[0])
    image = pixels(root / "images" / masks[0].name)
    logits = network(torch.from_numpy(image / np.float32(255)).permute(2, 0, 1)[None])
    expected = (logits[0, 0] > 0).numpy() * 255
    assert (pixels(masks[0]) == expected).all()


@pytest.mark.usefixtures("undrawn")
def test_targets_from_a_folder_are_those_that_predict_writes(victim: Path) -> None:
    assert main(["predict"]) == 0
    masks = victim / "predict" / "version_0" / "masks"
    attack = ["test", "--attack", "asma", "--attack.steps=1", "--attack.target=folder"]
    assert main([*attack, f"--attack.target_folder={masks}"]) == 0
    table = rows(victim / "asma" / "version_0" / "per_image.csv")
    assert all(float(row["iou_before"]) == 1 for row in table)  # the prediction itself was asked for
    assert all(float(row["pixel_accuracy"]) == 1 for row in table)
    for file in masks.iterdir():
        Image.fromarray(255 - pixels(file)).save(file)
    assert main([*attack, f"--attack.target_folder={masks}"]) == 0
    table = rows(victim / "asma" / "version_1" / "per_image.csv")
    assert all(float(row["iou_before"]) == 0 for row in table)  # its opposite was


@pytest.mark.usefixtures("victim")
def test_an_attack_that_changed_nothing_is_not_passed_over(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["test", "--attack", "asma", "--attack.steps=0"]) == 0
    assert "2 images, 2 unchanged: IoU" in capsys.readouterr().out


@pytest.mark.parametrize("target", ["nearest", "white", "black"])
@pytest.mark.usefixtures("victim")
@pytest.mark.usefixtures("undrawn")
def test_other_targets(target: str) -> None:
    assert main(["test", "--attack", "asma", "--attack.steps=1", f"--attack.target={target}"]) == 0


@pytest.mark.usefixtures("undrawn")
def test_a_multi_class_victim(tiny: Path) -> None:
    text = tiny.read_text().replace("threshold: 127", "classes: 3").replace("classes: 1", "classes: 3")
    tiny.write_text(text)
    root = Path(text.split("root: ")[1].split(",")[0])
    for file in (root / "masks").iterdir():
        mask = pixels(file) // np.uint8(255)
        mask[:, :16] *= 2
        Image.fromarray(mask).save(file)
    assert main(["fit", "--config", str(tiny)]) == 0
    assert main(["test", "--attack", "asma", "--attack.steps=2"]) == 0
    assert "val/dice_class2" in (RUN / "metrics.jsonl").read_text()
    assert main(["predict"]) == 0
    mask = pixels(next((RUN / "predict" / "version_0" / "masks").iterdir()))
    assert mask.max() <= 2


@pytest.mark.usefixtures("undrawn")
def test_export_gives_away_nothing_but_the_network(victim: Path, tiny: Path) -> None:
    assert main(["export", str(victim), "public.ckpt"]) == 0
    content = torch.load("public.ckpt", weights_only=True)
    assert set(content) == {"seg_mia", "state_dict"}
    assert set(content["seg_mia"]) == {"format", "model", "classes", "channels"}
    assert "images" not in str(content["seg_mia"])
    x = torch.rand(1, 3, 32, 32)
    assert_close(load_victim("public.ckpt")(x), load_victim(checkpoint_file(victim))(x))
    # Whoever gets it says what to attack it on.
    assert main(["test", "--attack", "asma", "--victim", "public.ckpt"]) == 2
    words = ["test", "--attack", "asma", "--attack.steps=1", "--victim", "public.ckpt", "--config", str(tiny)]
    assert main(words) == 0
    assert Path("runs/public/asma/version_0/per_image.csv").is_file()


@pytest.mark.usefixtures("undrawn")
def test_early_stopping_and_precision_are_lightnings_own(tiny: Path) -> None:
    stop = ["--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.monitor=val/loss"]
    assert main(["fit", "--config", str(tiny), *stop, "--trainer.precision=bf16-mixed"]) == 0
    words = ["test", "--attack", "asma", "--attack.steps=2", "--trainer.precision=bf16-mixed"]
    assert main(words) == 0
    assert (RUN / "asma" / "version_0" / "summary.json").is_file()


def test_an_audit_from_one_file(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "small_audit.yaml"
    file.write_text(
        f"version: 1\nvictim: {tiny}\nattacks:\n- attack: asma\n  settings: {{steps: 2}}\n  data: "
        f"{{limit: 1}}\n"
    )
    assert main(["audit", "--config", str(file)]) == 0
    said = capsys.readouterr().out
    assert "runs/small_audit/version_0" in said
    assert "tensorboard --logdir runs" in said
    assert "1 images: IoU with the target" in said or "1 images, 1 unchanged: IoU" in said
    audit = json.loads(Path("runs/small_audit/version_0/audit.json").read_text())
    assert audit["attacks"][0]["attack"]["init_args"]["steps"] == 2
    # A victim that exists is taken as it is.
    assert main(["audit", "--victim", str(RUN), "--attacks", "[fgsm]", "--data", "{limit: 1}"]) == 0
    assert len(list(Path("runs/tiny").iterdir())) == 1


@pytest.mark.usefixtures("undrawn")
def test_an_attack_more_runs_only_that(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asma = '{"attack": "asma", "settings": {"steps": 2}, "data": {"limit": 1}}'
    pgd = '{"attack": "pgd", "settings": {"steps": 1}, "data": {"limit": 1}}'
    assert main(["audit", "--victim", str(tiny), "--attacks", f"[{asma}]"]) == 0
    assert "reused from" not in capsys.readouterr().out
    gate = ["--fail-on", "utility.dice>=0"]
    assert main(["audit", "--victim", str(tiny), "--attacks", f"[{asma}, {pgd}]", *gate]) == 1
    said = capsys.readouterr().out
    assert said.count("reused from") == 3  # the victim, how well it segments, ASMA
    assert "gate utility.dice>=0: utility.dice is 0." in said
    for version in ("version_0", "version_1"):
        assert (Path("runs/audit") / version / "report.html").is_file()
    assert len(list(Path("runs/tiny").iterdir())) == 1


@pytest.mark.usefixtures("undrawn")
def test_what_is_this_tools_own_may_stand_in_yaml_too(tiny: Path) -> None:
    tiny.write_text(tiny.read_text() + "runs: elsewhere\n")
    assert main(["fit", "--config", str(tiny), "--config", "{seed_everything: 5}"]) == 0
    run = Path("elsewhere/tiny/version_0")
    assert (run / "checkpoints" / "last.ckpt").is_file()
    Path("attack.yaml").write_text(
        f"victim: {run}\nattack: {{class_path: seg_mia.attacks.asma.Asma, init_args: {{steps: 1}}}}\n"
    )
    assert main(["test", "--config", "attack.yaml"]) == 0
    assert (run / "asma" / "version_0" / "summary.json").is_file()


@pytest.mark.usefixtures("undrawn")
def test_an_audit_over_two_seeds(tiny: Path) -> None:
    words = [
        "--victim",
        str(tiny),
        "--attacks",
        '[{"attack": "asma", "settings": {"steps": 1, "target_folder": null}}]',
    ]
    assert main(["audit", *words, "--seeds", "[1, 2]", "--name", "two"]) == 0
    audit = json.loads(Path("runs/two/version_0/audit.json").read_text())
    assert [result["seed"] for result in audit["attacks"]] == [1, 2]
    assert len(set(audit["victims"])) == 2


def test_help_is_fast_and_imports_nothing_heavy() -> None:
    code = "import sys; from seg_mia.cli import main; main(['--help']); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "phantom_victim" in done.stdout
    assert "asma" in done.stdout


@pytest.mark.parametrize("command", ["fit", "test", "validate", "predict", "audit", "export"])
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with contextlib.suppress(SystemExit):  # argparse ends the process after help
        assert main([command, "--help"]) == 0
    assert "usage" in capsys.readouterr().out.lower()
