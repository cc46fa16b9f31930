"""What canaries of a victim's training prove goes into its audit, whoever wrote the file that says so."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from seg_mia.audit.privacy import FILE, LONGEST, with_canaries

from seg_mia.audit.run import Audit
from seg_mia.cli import main

BOUND = {
    "epsilon": 1.5,
    "most": 2.75,
    "confidence": 0.95,
    "members": 62,
    "nonmembers": 67,
    "rule": "members_above",
    "threshold": -0.4,
}
PROMISE = {"epsilon": 2.0, "delta": 0.01, "budget": 2.5, "unit": "image", "noise": 0.7, "reproducible": False}


def written(**changes: Any) -> dict[str, Any]:
    """Return what a training with canaries writes."""
    counts = {"inserted": 92, "left_out": 108, "auc": 0.875, "delta": 0.01}
    return counts | {"certified": BOUND, "one_run": BOUND | {"epsilon": 0.0}, "privacy": PROMISE} | changes


def row(content: object, *, defences: tuple[str, ...] = ("Canaries",), named: str = "") -> dict[str, Any]:
    """Return a victim's row, with a run that holds this as canaries.json, after it was looked at."""
    run = Path("runs/victim/version_0")
    (run / "checkpoints").mkdir(parents=True, exist_ok=True)
    (run / "checkpoints" / "last.ckpt").touch()
    if content is not None:
        (run / FILE).write_text(content if isinstance(content, str) else json.dumps(content))
    found = {"victim": str(run / named), "about": {"defences": list(defences)}}
    with_canaries(found)
    return found


@pytest.mark.parametrize("named", ["", "checkpoints/last.ckpt"])
def test_numbers_are_taken_and_nothing_else(named: str) -> None:
    found = row(written(text="</script>", ids=["patient"]), named=named)["canaries"]
    bound = {"epsilon": 1.5, "most": 2.75, "confidence": 0.95}
    assert found == {
        "inserted": 92,
        "left_out": 108,
        "auc": 0.875,
        "delta": 0.01,
        "certified": bound,
        "one_run": bound | {"epsilon": 0.0},
        "privacy": {"epsilon": 2.0, "delta": 0.01, "unit": "image"},
    }


def test_without_noise_the_promise_is_infinite_and_without_privacy_there_is_none() -> None:
    endless = written(privacy=PROMISE | {"epsilon": None})
    assert row(endless)["canaries"]["privacy"]["epsilon"] == math.inf
    assert row(written(privacy=None))["canaries"]["privacy"] is None


def test_a_victim_without_canaries_has_none_whatever_lies_beside_it() -> None:
    assert "canaries" not in row(written(), defences=("DPSGD",))


@pytest.mark.parametrize(
    "content",
    [
        None,
        "{",
        "[]",
        "3",
        "[" * 50_000,
        "\x00\ud800".encode("utf-8", "surrogatepass").decode("latin-1"),
        {"inserted": 3},
        written(auc="</script>"),
        written(auc=True),
        written(auc=math.nan),
        written(inserted=None),
        written(certified=None),
        written(certified=[BOUND]),
        written(one_run=BOUND | {"epsilon": math.inf}),
        written(privacy="yes"),
        written(privacy=PROMISE | {"unit": "<b>"}),
        written(privacy=PROMISE | {"unit": ["image"]}),
        written(privacy=PROMISE | {"epsilon": "1"}),
        written(delta=10**400),
        written(padding="x" * LONGEST),
    ],
)
def test_what_is_none_is_passed_over(content: object) -> None:
    assert "canaries" not in row(content)


def told(**changes: Any) -> list[str]:
    """Return the lines that sum up an audit of one victim with canaries."""
    victim = row(written(**changes)) | {"defence": "private", "seed": 7, "round": 0, "row": 0}
    victim |= {"utility": {name: {"dice": 0.5} for name in ("members", "nonmembers")}, "attacks": []}
    return Audit(Path("a"), Path("runs"), [], [victim], False, ["verdict"], ["a promise"], []).headline()


def test_a_broken_promise_is_the_first_line() -> None:
    lines = told()
    assert lines[0] == "WARNING: a promise"
    (line,) = [line for line in lines if line.startswith("private, seed 7: ")]
    assert "canaries: 92 inserted, 108 left out, AUC 0.875, proves epsilon >= 1.50" in line
    assert "BROKEN" not in line
    assert any("WHICH IS BROKEN" in line for line in told(privacy=PROMISE | {"epsilon": 1.0}))
    assert any("none was promised" in line for line in told(privacy=PROMISE | {"epsilon": None}))


def test_an_audit_tells_of_the_canaries_of_its_victims(
    tiny: Path, folder: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder(count=60)
    tiny.write_text(tiny.read_text().replace("members: 4, nonmembers: 2", "members: 6, nonmembers: 4"))
    file = tmp_path / "small_audit.yaml"
    file.write_text(f"""
victim: {tiny}
attacks: [{{attack: asma, settings: {{steps: 1}}, data: {{limit: 2}}}}]
defences:
  - none
  - {{name: asked, defence: [canaries], options: {{model.defences.count: 8}}}}
  - {{name: quiet, defence: [crop]}}
""")
    assert main(["audit", "--config", str(file), "--fail-on", "canaries.epsilon>8"]) == 0
    assert "asked, seed 0: canaries: " in capsys.readouterr().out
    own = Path("runs/small_audit/version_0")
    rows = json.loads((own / "audit.json").read_text())["defences"]
    assert [("canaries" in one) for one in rows] == [False, True, False]
    saved = json.loads((Path(rows[1]["victim"]) / FILE).read_text())
    found = rows[1]["canaries"]
    assert {name: found[name] for name in ("inserted", "left_out", "auc")} == {
        name: saved[name] for name in ("inserted", "left_out", "auc")
    }
    assert found["certified"]["epsilon"] == saved["certified"]["epsilon"]
    report = json.loads((own / "report.json").read_text())
    assert report["victims"][1]["canaries"]["auc"] == saved["auc"]
    assert report["missing"] == []
    assert '<section id="canaries"' in (own / "report.html").read_text()
    edited = Path(rows[1]["victim"]) / FILE
    edited.write_text(json.dumps(saved | {"auc": 0.123}))  # which is not what the training found
    assert main(["audit", "--config", str(file)]) == 0
    newest = max(Path("runs/small_audit").glob("version_*"))
    row = json.loads((newest / "audit.json").read_text())["defences"][1]
    assert row["victim"] != rows[1]["victim"], "it was trained anew"
    assert row["canaries"]["auc"] == saved["auc"]
