"""`verify`: what has changed, is missing, or belongs to another report."""

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from seg_mia.cli import main
from seg_mia.report.verify import verified
from seg_mia.report.write import write_report
from tests.report.audits import audit, compared, guess, write_audit

CHECKPOINT = "victim_0/version_0/checkpoints/last.ckpt"


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def folder(undrawn: None) -> Path:  # noqa: ARG001
    """A report of an audit with a checkpoint and scores, all with digests."""
    content = audit([guess()])
    written = write_audit(content)
    checkpoint, scores = (
        Path("runs") / CHECKPOINT,
        Path("runs/victim_0/version_0/mia-type2/version_0/scores.csv"),
    )
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_bytes(b"weights")
    files = [
        {
            "path": file.relative_to("runs").as_posix(),
            "kind": kind,
            "sha256": digest(file.read_bytes()),
            "bytes": 7,
        }
        for file, kind in ((checkpoint, "checkpoint"), (scores, "scores"))
    ]
    weights = {"path": CHECKPOINT, "sha256": digest(b"weights"), "bytes": 7, "parameters": 1000}
    split = {"split": {"members": 4, "nonmembers": 4}}
    content |= {"files": files, "defences": [compared(weights=weights, about=split)]}
    (written / "audit.json").write_text(json.dumps(content))
    write_report(written, annexes=["dpo", "model-card"])
    return written


def states(folder: Path) -> dict[str, str]:
    """Return what does not fit."""
    return {check.name: check.state for check in verified(folder).checks if check.state != "fits"}


def test_an_unchanged_report_fits(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "runs/my_audit"]) == 0
    assert main(["verify", str(folder / "report.json")]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "10 of 10 files fit"
    assert out[1] == f"report.json: sha256 {digest((folder / 'report.json').read_bytes())}"
    listed = subprocess.run(
        ["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=folder, capture_output=True, check=False
    )
    assert listed.returncode == 0


def test_identity_counts_parameters_for_each_record(folder: Path) -> None:
    identity = json.loads((folder / "report.json").read_text())["evidence"]["identity"]
    network = identity["networks"][0]
    assert (network["records"], network["patients"], network["parameters_per_record"]) == (4, 4, 250.0)
    assert identity["audit_sha256"] == digest((folder / "audit.json").read_bytes())


@pytest.mark.parametrize(
    ("file", "state"),
    [
        (f"runs/{CHECKPOINT}", {CHECKPOINT: "changed"}),
        (
            "runs/victim_0/version_0/mia-type2/version_0/scores.csv",
            {"victim_0/version_0/mia-type2/version_0/scores.csv": "changed"},
        ),
        ("runs/my_audit/version_0/audit.json", {"audit.json": "changed"}),
        ("runs/my_audit/version_0/report.html", {"report.html": "changed"}),
        ("runs/my_audit/version_0/MODEL_CARD.md", {"MODEL_CARD.md": "changed"}),
    ],
)
def test_a_changed_file_is_named(
    folder: Path, file: str, state: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    with Path(file).open("ab") as content:
        content.write(b" ")
    assert states(folder) == state
    assert main(["verify", str(folder)]) == 1
    assert "CHANGED" in capsys.readouterr().out
    Path(file).unlink()
    if not file.endswith(("html", "md")):
        assert set(states(folder).values()) == {"missing"}


def test_a_changed_number_is_found_even_with_new_digests(folder: Path) -> None:
    report = folder / "report.json"
    report.write_text(report.read_text().replace("0.75", "0.55"))
    sums = (folder / "SHA256SUMS").read_text().splitlines()
    new = [
        f"{digest(report.read_bytes())}  report.json",
        *(line for line in sums if "report.json" not in line),
    ]
    (folder / "SHA256SUMS").write_text("\n".join(new) + "\n")
    assert states(folder) == {
        "report.html, its report.json": "other report",
        "annex_dpo.html, its report.json": "other report",
        "MODEL_CARD.md, its report.json": "other report",
    }


def test_a_file_without_a_digest_is_named(folder: Path) -> None:
    (folder / "SHA256SUMS").unlink()
    assert states(folder) == dict.fromkeys(
        ("report.json", "report.html", "annex_dpo.html", "MODEL_CARD.md"), "not listed"
    )


def test_annexes_of_the_same_report_stay_listed(folder: Path) -> None:
    write_report(folder)
    assert states(folder) == {}
    (folder / "MODEL_CARD.md").write_text("another")
    write_report(folder)
    assert states(folder) == {
        "MODEL_CARD.md": "not listed",
        "MODEL_CARD.md, its report.json": "other report",
    }


@pytest.mark.parametrize("path", ["../../outside", "/etc/hostname", ".../last.ckpt"])
def test_no_path_leaves_the_runs(folder: Path, path: str) -> None:
    Path("../outside").resolve().write_bytes(b"x")
    content: dict[str, Any] = json.loads((folder / "audit.json").read_text())
    content["files"] = [{"path": path, "kind": "result", "sha256": digest(b"x"), "bytes": 1}]
    (folder / "audit.json").write_text(json.dumps(content))
    write_report(folder)
    shown = ".../hostname" if path.startswith("/") else path
    assert states(folder) == {
        shown: "outside",
        "annex_dpo.html": "not listed",
        "MODEL_CARD.md": "not listed",
    } | {f"{name}, its report.json": "other report" for name in ("annex_dpo.html", "MODEL_CARD.md")}


@pytest.mark.parametrize(
    ("words", "telling"),
    [
        ([], "verify takes one report"),
        (["a", "b"], "verify takes one report"),
        (["nowhere"], "nowhere holds no report.json"),
        (["runs/my_audit/version_0/audit.json"], "holds no report.json"),
    ],
)
def test_bad_input_is_one_line(words: list[str], telling: str, capsys: pytest.CaptureFixture[str]) -> None:
    write_audit(audit([guess()]))
    assert main(["verify", *words]) == 2
    said = capsys.readouterr().err
    assert telling in said
    assert said.count("\n") == 1


def test_a_report_of_another_layout_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = folder / "report.json"
    for text, telling in (
        ("{", "must be valid JSON"),
        ('{"schema": "urn:seg_mia:report:2"}', "must have schema"),
        (report.read_text().replace('"statements"', '"sayings"'), "does not fit"),
    ):
        report.write_text(text)
        assert main(["verify", str(folder)]) == 2
        assert telling in capsys.readouterr().err
