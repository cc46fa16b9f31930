"""Certificates and smoothed releases from the command line, and in an audit."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seg_mia.cli import main
from seg_mia.report.build import build
from seg_mia.report.html.page import page
from seg_mia.report.load import read_audit
from tests.trained_runs import Trained
from tests.trainings import one_error

NOISY = ["--defence", "noise", "--model.defences.sigma=0.1", "--trainer.max_epochs=8"]
FEW = "init_args: {first: 4, draws: 20, gradient_draws: 4}"
QUIET = "--trainer.enable_progress_bar=false"
CERTIFY = ["test", "--attack", "certify", "--attack.sigma=0.1", "--attack.draws=120", QUIET]


def summary(folder: Path) -> dict[str, float]:
    results = json.loads((folder / "summary.json").read_text())["results"]
    return {name: value["mean"] for name, value in results.items()}


@pytest.mark.usefixtures("drawn")
def test_what_is_certified_is_what_the_smoothed_release_gives_out(
    tiny: Path, trained: Trained, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trained(tiny, *NOISY)
    assert main(CERTIFY) == 0
    said = capsys.readouterr().out
    assert "L2 radius 0.067 at sigma 0.1, 111 of 120 draws needed, 130 passes per image" in said
    certified = summary(run / "certify" / "version_0")
    release = ["--release", "smoothed", "--release.sigma=0.1", "--release.draws=120", QUIET]
    assert main(["validate", *release]) == 0
    released = json.loads((run / "validate-smoothed" / "version_0" / "summary.json").read_text())
    # The release predicts background where it abstains: neither better than the worst case nor than nothing.
    assert 0 < certified["dice_certified"] <= released["dice"] + 1e-6
    assert certified["dice_certified"] <= certified["dice_smoothed"]
    with Image.open(run / "certify" / "version_0" / "panel.png") as sheet:
        magenta = (np.array(sheet).astype(int) @ [1, -2, 1] > 200).any()
    assert magenta == (certified["abstained"] > 0)
    with (run / "certify" / "version_0" / "per_image.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    mean = np.mean([float(row["dice_certified"]) for row in rows])
    assert mean == pytest.approx(certified["dice_certified"], rel=1e-4)


def test_attacks_run_through_the_noise(tiny: Path, trained: Trained) -> None:
    run = trained(tiny, *NOISY)
    words = [
        "test",
        "--attack",
        "pgd",
        "--attack.steps=3",
        "--attack.sanity_images=0",
        "--release",
        "smoothed",
    ]
    assert main([*words, "--release.sigma=0.1", "--release.draws=60", QUIET]) == 0
    values = summary(run / "pgd-smoothed" / "version_0")
    stored = json.loads((run / "pgd-smoothed" / "version_0" / "summary.json").read_text())
    assert stored["no_gradient"] == 0
    assert stored["unchanged"] == 0
    assert values["dice_adversarial"] <= values["dice_clean"]


def test_a_certificate_of_noise_upon_noise_is_refused(
    tiny: Path, trained: Trained, capsys: pytest.CaptureFixture[str]
) -> None:
    trained(tiny, *NOISY)
    assert main([*CERTIFY, "--release", "smoothed"]) == 2
    assert "certify adds the noise itself" in one_error(capsys)
    assert main(["test", "--attack", "certify", "--attack.tau=0.2"]) == 2
    assert "tau must lie in [0.5, 1)" in one_error(capsys)


def test_an_audit_certifies_beside_its_attacks(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = tiny.parent / "few.yaml"  # the check of gradients asks a release some hundred times
    few.write_text("class_path: seg_mia.defences.release.SmoothedRelease\n" + FEW)
    quick = {"trainer.enable_progress_bar": False}
    audit = {
        "victim": {"config": str(tiny), "options": quick},
        "attacks": [
            {"attack": "certify", "settings": {"sigma": 0.1, "draws": 60}},
            {"attack": "fgsm", "data": {"limit": 2}},
        ],
        "defences": [
            "none",
            {"defence": ["noise"], "options": quick | {"model.defences.sigma": 0.1, "trainer.max_epochs": 8}},
            {"release": str(few), "name": "released"},
        ],
        "fail_on": ["certificate.dice_certified<0.99"],
    }
    file = tiny.parent / "certified.yaml"
    file.write_text(json.dumps(audit))
    assert main(["audit", "--config", str(file)]) == 1
    said = capsys.readouterr().out
    assert "gate certificate.dice_certified<0.99" in said
    folder = Path("runs/certified/version_0")
    stored = json.loads((folder / "audit.json").read_text())
    assert [result["defence"] for result in stored["certificates"]] == ["none", "noise"]
    assert {result["kind"] for result in stored["attacks"]} == {"perturbation"}
    report, files = build(read_audit(folder), images=True)
    text = page(report, files, "0" * 64)
    assert '<h2 id="certain-h">Certificates</h2>' in text
    assert text.count('alt="What certify') == 2
    assert len(report.certificates) == 2
    assert all(not Path(result.folder).is_absolute() for result in report.certificates)
