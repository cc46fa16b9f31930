import json
from pathlib import Path

import pytest

from seg_mia.cli import main
from tests.report.audits import audit, compared, full, guess, write_audit


def test_a_report_is_written_beside_the_audit(capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_audit(full())
    assert main(["report", "runs/my_audit"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].endswith("runs/my_audit/version_0/report.html")
    assert said[3] == (
        "none: members on average: evidence of leakage (A2); single patients: not resolvable (I3); "
        "changed images: evidence of vulnerability (V2); promise of privacy: no promise (P0)"
    )
    assert (folder / "report.json").is_file()


def test_a_victim_that_segments_nothing_is_a_warning_before_the_verdicts(
    capsys: pytest.CaptureFixture[str],
) -> None:
    utility = {"nonmembers": {"dice": 0.0}, "members": {"dice": 0.0}}
    write_audit(audit([guess()], defences=[compared(utility=utility)]))
    assert main(["report", "runs/my_audit"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[3].startswith('WARNING: The victim "none" (seed 7) hardly segments: Dice 0.000 on its')
    assert said[4] == (
        "none: members on average: void (A1); single patients: void (I1); changed images: not run: no "
        "evidence (V0); promise of privacy: no promise (P0)"
    )


def test_images_can_be_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_audit(full())
    assert main(["report", str(folder), "--no-images"]) == 0
    assert json.loads((folder / "report.json").read_text())["images"] is False
    assert not capsys.readouterr().err


def test_a_failed_gate_is_an_exit_code_of_1(capsys: pytest.CaptureFixture[str]) -> None:
    write_audit(full())
    assert main(["report", "runs/my_audit", "--fail-on", "mia.auc>0.9", "--fail-on=epsilon>9"]) == 0
    assert main(["report", "runs/my_audit", "--fail-on", "mia.auc>0.9", "--fail-on=epsilon>=8"]) == 1
    out = capsys.readouterr().out
    assert "gate epsilon>=8: epsilon is 8 (guaranteed per image on epsilon 8, seed 7)" in out


@pytest.mark.parametrize(
    ("words", "telling"),
    [
        ([], "required: RUN"),
        (["nowhere"], "there is no folder nowhere"),
        (["runs/my_audit/version_7"], "there is no folder runs/my_audit/version_7"),
        (["runs/my_audit/version_0/audit.json"], "audit.json is not a folder"),
        (["runs"], "runs holds no audit.json"),
        (["runs/my_audit", "--images"], "unrecognized arguments"),
        (["runs/my_audit", "--fail-on", "mia.auc"], "a gate is METRIC OP NUMBER"),
        (["runs/my_audit", "--fail-on", "nothing>1"], "metrics here are adain.dice_adversarial"),
    ],
)
def test_bad_input_is_one_line_and_an_exit_code_of_2(
    words: list[str], telling: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_audit(full())
    assert main(["report", *words]) == 2
    said = capsys.readouterr().err
    assert telling in said
    assert said.count("\n") == 1


def test_a_folder_that_cannot_be_written_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_audit(full())
    (folder / "report.json").mkdir()
    assert main(["report", str(folder)]) == 2
    assert "cannot write" in capsys.readouterr().err
    assert not [file for file in Path(folder).iterdir() if file.name.startswith(".")]
