"""docs/own.md and docs/finished.md: their files are written, their commands run, on generated images."""

import csv
import json
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import seg_mia
from seg_mia.checkpoint import read_card
from seg_mia.cli import main
from seg_mia.runs import checkpoint_file

FOLDER = Path(seg_mia.__file__).resolve().parents[1] / "docs"
NETWORK = "my_network.SmallUNet"
TINY = {"max_epochs: 30": "max_epochs: 2", "size: 128": "size: 32", "width: 16": "width: 4"}
COUNTS = {"members: 100": "members: 8", "nonmembers: 100": "nonmembers: 8"}
QUICK = ["--scorer.architecture=test_resnet", "--scorer.epochs=1", "--scorer.validation=0.5"]
PARTS = ["train"] * 3 + ["test"] * 2 + ["reference"] + ["shadow"] * 8

if not FOLDER.is_dir():
    pytest.skip("only a checkout has the documents", allow_module_level=True)

DOCUMENTS = "\n".join((FOLDER / name).read_text() for name in ("own.md", "finished.md"))


def shown() -> dict[str, str]:
    """The files that the documents show, by name."""
    pattern = r"^`([\w./]+)`:\n\n```\w+\n(.*?)^```"
    return dict(re.findall(pattern, DOCUMENTS, flags=re.MULTILINE | re.DOTALL))


def commands() -> list[list[str]]:
    """The words of the documents' commands, behind `python -m seg_mia`."""
    lines = re.findall(r"^    python -m seg_mia (.*)$", DOCUMENTS, flags=re.MULTILINE)
    return [shlex.split(line) for line in lines]


def run(*beginning: str, more: Sequence[str] = ()) -> None:
    """Run the documents' command that begins so."""
    (words,) = [words for words in commands() if words[: len(beginning)] == list(beginning)]
    assert main([*words, *more]) == 0


def replaced(text: str, changes: dict[str, str]) -> str:
    """Make numbers of a config small; each must be there."""
    for before, after in changes.items():
        text, count = re.subn(rf"(?<!\w){re.escape(before)}(?!\d)", after, text)
        assert count, before
    return text


def summary(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return found


def attacks_of(report: dict[str, Any]) -> list[dict[str, Any]]:
    """The membership attacks of a report, without baseline and controls."""
    return [result for result in report["membership"] if not result["blind"] and not result["control"]]


def counts(result: dict[str, Any]) -> tuple[int, int]:
    """How many members and non-members were scored."""
    return result["results"]["members"], result["results"]["nonmembers"]


@pytest.fixture(autouse=True)
def hospital(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Write all that the documents show into the working folder, and three slices of each of 14 patients."""
    files = shown()
    changes = {
        "my_victim.yaml": TINY | COUNTS,
        "my_audit.yaml": {"limit: 16": "limit: 2"},
        "my_deployed_audit.yaml": {f"data.{name}": f"data.{value}" for name, value in COUNTS.items()},
    }
    for name, text in files.items():
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(replaced(text, changes.get(name, {})))
    generate(Path("hospital/samples.csv"), files["hospital/samples.csv"])
    header, *_ = files["hospital/parts.csv"].splitlines()
    lines = [f"p{number:03d},{part}" for number, part in enumerate(PARTS, start=1)]
    Path("hospital/parts.csv").write_text("\n".join([header, *lines]))
    monkeypatch.syspath_prepend(str(Path.cwd()))
    monkeypatch.delitem(sys.modules, "my_network", raising=False)
    yield
    sys.modules.pop("my_network", None)


def generate(manifest: Path, text: str) -> None:
    """Write bright discs on noise and their masks, under the names and columns of a shown CSV file."""
    first, *_ = csv.DictReader(text.splitlines())
    rng, rows = np.random.default_rng(0), list[dict[str, str]]()
    y, x = np.mgrid[:40, :40]
    for number in range(42):
        patient = f"p{number // 3 + 1:03d}"
        row = {
            name: value.replace("p001_045", f"{patient}_{number % 3:03d}").replace("p001", patient)
            for name, value in first.items()
        }
        top, left, radius = *rng.integers(12, 28, 2), rng.integers(5, 10)
        mask = (y - top) ** 2 + (x - left) ** 2 < radius**2
        grey = rng.integers(0, 90, (40, 40)) + 120 * mask
        for name, pixels in ((row["image"], grey), (row["mask"], 255 * mask)):
            file = manifest.parent / name
            file.parent.mkdir(exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(file)
        rows.append(row)
    with manifest.open("w", newline="") as opened:
        writer = csv.DictWriter(opened, first)
        writer.writeheader()
        writer.writerows(rows)


def test_the_document_is_whole() -> None:
    assert set(shown()) == {
        "my_network.py",
        "hospital/samples.csv",
        "my_victim.yaml",
        "my_audit.yaml",
        "hospital/parts.csv",
        "my_deployed.yaml",
        "my_deployed_audit.yaml",
    }
    assert [words[0] for words in commands()] == [
        "prepare", "audit", "test", "validate", "adopt", "test", "prepare", "audit",
    ]  # fmt: skip


def test_own_network_and_own_data_by_configs_alone(capsys: pytest.CaptureFixture[str]) -> None:
    run("prepare", "--config", "my_victim.yaml")
    report = json.loads(Path("runs/prepare/my_victim/version_0/prepare.json").read_text())
    assert report["samples"] == 42
    assert report["groups"]["count"] == 14
    assert report["split"]["members"] == report["split"]["nonmembers"] == 8

    run("audit", "--config", "my_audit.yaml", more=QUICK)
    own = Path("runs/my_audit/version_0")
    said = summary(own)
    assert (own / "report.html").stat().st_size > 10_000
    assert {"mia-global-loss", "mia-type2"} <= {attack["name"] for attack in attacks_of(said)}
    assert any(result["blind"] for result in said["membership"])
    assert any(result["control"] for result in said["membership"])
    assert {one["name"] for one in said["perturbations"]} == {"robustness-curve", "asma"}
    assert all(counts(result) == (8, 8) for result in said["membership"])
    assert all(result["groups"] for result in said["membership"])
    card = read_card(checkpoint_file("runs/my_victim/version_0"), trust=[NETWORK])
    assert card.network is not None
    assert card.network["class_path"] == NETWORK

    capsys.readouterr()
    assert main(["test", "--attack", "fgsm"]) == 2
    assert capsys.readouterr().err.strip().endswith(f"--trust {NETWORK}")
    run("test", "--attack", "fgsm")
    run("validate")


def test_a_network_that_was_trained_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(5)
    settings = yaml.safe_load(Path("my_victim.yaml").read_text())["model"]["init_args"]["network"]
    network = import_module("my_network").SmallUNet(**settings["init_args"])
    torch.save(network.state_dict(), "deployed.pth")

    run("audit", "--config", "my_deployed_audit.yaml", more=QUICK)
    said = summary(Path("runs/my_deployed_audit/version_0"))
    assert said["victims"][0]["about"]["training"]["adopted"] is True
    (attack,) = attacks_of(said)
    assert counts(attack) == (9, 6)

    run("prepare", "--config", "my_deployed.yaml")
    parts = json.loads(Path("runs/prepare/my_deployed/version_0/prepare.json").read_text())["parts"]
    assert [(row["part"], row["samples"]) for row in parts][:2] == [("train", 9), ("test", 6)]
    run("adopt")
    (advice,) = re.findall(r"^next: python -m seg_mia (.*)$", capsys.readouterr().out, flags=re.MULTILINE)
    assert advice == f"test --attack asma --victim runs/my_victim/version_0 --trust {NETWORK}"
    state = torch.load(checkpoint_file("runs/my_victim/version_0"), weights_only=True)["state_dict"]
    for name, value in network.state_dict().items():
        assert torch.equal(state[f"network.{name}"], value), name
    run("test", "--attack", "robustness-curve", more=["--data.subset=all", "--attack.steps=3"])
    folder = Path("runs/my_victim/version_0/robustness-curve/version_0")
    assert len((folder / "per_image.csv").read_text().splitlines()) > 2 * 8
