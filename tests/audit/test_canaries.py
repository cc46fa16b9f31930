"""What canaries of a victim's training prove goes into its audit, whoever wrote the file that says so."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from seg_mia.audit.canaries import FILE, LONGEST, read_canaries
from seg_mia.audit.run import Audit
from seg_mia.cli import main
from seg_mia.report.build import build
from seg_mia.results.privacy import CanaryResult
from tests.report.audits import audit as audited
from tests.report.audits import compared, source

BOUND = {
    "epsilon": 1.5,
    "attainable": 2.75,
    "confidence": 0.95,
    "members": 62,
    "nonmembers": 67,
    "rule": "members_above",
    "threshold": -0.4,
    "stricter": [{"confidence": 0.9999, "epsilon": 1.5, "attainable": 2.75}],
}
NOTHING = {"epsilon": 0.0, "stricter": [{"confidence": 0.9999, "epsilon": 0.0, "attainable": 2.75}]}
PROMISE = {"epsilon": 2.0, "delta": 0.01, "budget": 2.5, "unit": "image", "noise": 0.7, "reproducible": False}


def written(**changes: Any) -> dict[str, Any]:
    """Return what a training with canaries writes."""
    counts = {"inserted": 92, "left_out": 108, "auc": 0.875, "delta": 0.01}
    return counts | {"certified": BOUND, "one_run": BOUND | NOTHING, "privacy": PROMISE} | changes


def read(content: object, *, named: str = "") -> CanaryResult | None:
    """Return what is read of a run that holds this as canaries.json."""
    run = Path("runs/victim/version_0")
    (run / "checkpoints").mkdir(parents=True, exist_ok=True)
    (run / "checkpoints" / "last.ckpt").touch()
    if content is not None:
        (run / FILE).write_text(content if isinstance(content, str) else json.dumps(content))
    return read_canaries(run / named)


@pytest.mark.parametrize("named", ["", "checkpoints/last.ckpt"])
def test_what_is_named_is_taken_and_nothing_else(named: str) -> None:
    canaries = read(written(text="</script>", ids=["patient"]), named=named)
    assert canaries is not None
    plain = canaries.plain()
    assert set(plain) == set(written()) | {"f_dp", "gaussian", "white_box"}
    assert {name: plain[name] for name in ("inserted", "left_out", "auc", "delta")} == {
        "inserted": 92,
        "left_out": 108,
        "auc": 0.875,
        "delta": 0.01,
    }
    bounds = (canaries.certified, canaries.one_run)
    assert [(bound.epsilon, bound.attainable, bound.confidence) for bound in bounds] == [
        (1.5, 2.75, 0.95),
        (0.0, 2.75, 0.95),
    ]
    assert canaries.privacy is not None
    assert (canaries.privacy.epsilon, canaries.privacy.delta, canaries.privacy.unit) == (2.0, 0.01, "image")


def test_without_noise_the_promise_is_infinite_and_without_privacy_there_is_none() -> None:
    endless, without = read(written(privacy=PROMISE | {"epsilon": None})), read(written(privacy=None))
    assert endless is not None
    assert endless.privacy is not None
    assert endless.privacy.epsilon is None
    assert without is not None
    assert without.privacy is None


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
    assert read(content) is None


def told(**changes: Any) -> list[str]:
    """Return the lines that sum up an audit of one victim with canaries."""
    content = audited([], defences=[compared(defence="private", canaries=written(**changes))])
    report = build(source(content), images=False)[0]
    return Audit(Path("a"), Path("runs"), [], report.victims, False, report, []).headline()


def test_a_broken_promise_is_the_first_line() -> None:
    lines = told(privacy=PROMISE | {"epsilon": 1.0})
    assert lines[0].startswith('WARNING: The privacy guarantee of "private" is contradicted if')
    lines = told()
    (line,) = [line for line in lines if line.startswith("private, seed 7: ")]
    assert "canaries: 92 inserted, 108 left out, AUC 0.875, shows epsilon >= 1.50" in line
    assert "WHICH IS" not in line
    assert any(
        "WHICH IS CONTRADICTED IF SAMPLES ARE INDEPENDENT" in line
        for line in told(privacy=PROMISE | {"epsilon": 1.0})
    )
    # Of two bounds that hold at 95 % each, the higher one refutes nothing.
    lines = told(privacy=PROMISE | {"epsilon": 1.0}, certified=BOUND | {"stricter": []})
    assert not any(line.startswith("WARNING: The privacy guarantee") for line in lines)
    assert any("no guarantee" in line for line in told(privacy=PROMISE | {"epsilon": None}))


@pytest.mark.usefixtures("undrawn")
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
    assert [one["canaries"] is not None for one in rows] == [False, True, False]
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
