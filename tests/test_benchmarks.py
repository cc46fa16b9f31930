"""Benchmarks say in one line what they were given wrong."""

import runpy
import shutil
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.mark.parametrize(
    ("name", "words", "telling"),
    [
        ("asma_settings", ["nosuch"], "victim 'nosuch' is neither"),
        ("membership_settings", ["nosuch", "s", "--weights=w"], "victim 'nosuch' is neither"),
        ("medis_fusion", ["nosuch"], "victim 'nosuch' is neither"),
        ("defended_strength", ["nosuch"], "victim 'nosuch' is neither"),
        ("audit_table", ["nosuch"], "error: nosuch holds no report.json"),
        ("audit_table", ["."], "error: . holds no report.json"),
    ],
)
def test_what_is_not_there_is_one_line(
    name: str,
    words: list[str],
    telling: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *words])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")
    line = ended.value.code if isinstance(ended.value.code, str) else capsys.readouterr().err.rstrip()
    assert line.startswith(f"{name}.py: error: ")
    assert telling in line
    assert "\n" not in line


def test_the_newest_version_of_an_audit_is_taken() -> None:
    newest = runpy.run_path(str(FOLDER / "audit_table.py"))["newest"]
    for number in (2, 10, 9):
        folder = Path(f"runs/a/version_{number}")
        folder.mkdir(parents=True)
        (folder / "report.json").write_text("{}")
    assert newest(Path("runs/a")) == Path("runs/a/version_10/report.json")
    assert newest(Path("runs/a/version_2")) == Path("runs/a/version_2/report.json")
    shutil.rmtree("runs/a/version_10")
    Path("runs/a/version_10").mkdir()  # of an audit that has not ended
    assert newest(Path("runs/a")) == Path("runs/a/version_9/report.json")
