"""What README, docs, CONTRIBUTING and the tutorial show of Python runs as it is shown."""

import ast
import importlib.util
import json
import re
import sys
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

from tests.documents import ROOT, cells, text_of, tutorial
from tests.forked import Forked


def test_the_attack_that_contributing_walks_through_works(tmp_path: Path) -> None:
    shown = dict(
        re.findall(
            r"`([\w/.]+)`:\n\n```\w+\n(.*?)^```",
            text_of(ROOT / "CONTRIBUTING.md"),
            flags=re.MULTILINE | re.DOTALL,
        )
    )
    for name, text in shown.items():
        (tmp_path / Path(name).name).write_text(text, encoding="utf-8")
    output, errors = tmp_path / "said.out", tmp_path / "said.err"
    words = [str(ROOT / "tests" / "shown_attack.py"), str(tmp_path)]
    assert Forked(words, output=output, errors=errors).wait() == 0, errors.read_text()


def test_both_examples_of_the_readme_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = text_of(ROOT / "README.md")
    attack, scores = re.findall(r"^```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    fooled = run(attack, "shown_attack", tmp_path, monkeypatch)
    assert fooled.result.images.shape == (2, 3, 64, 64)
    assert not fooled.result.images.equal(fooled.images)
    guessed = run(scores, "shown_scores", tmp_path, monkeypatch)
    low, high = guessed.auc_bounds(guessed.scores, guessed.members)
    pairs = guessed.scores[guessed.members][:, None] > guessed.scores[~guessed.members]
    assert low < np.mean(pairs) == guessed.auc(guessed.scores, guessed.members) < high


def test_the_tutorial_imports_what_there_is_and_holds_no_outputs() -> None:
    for block in cells("code"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("seg_mia"):
                module = importlib.import_module(str(node.module))
                assert all(hasattr(module, name.name) for name in node.names)
    assert not any(cell.get("outputs") for cell in tutorial()["cells"])


FEW = "".join(
    f'"--data.{name}", "{count}", ' for name, count in (("patients", 48), ("members", 24), ("nonmembers", 24))
)
SHORTER = {
    '"--data.size", "64", ': f'"--data.size", "64", {FEW}',
    '"--trainer.max_epochs", "10"': '"--trainer.max_epochs", "2"',
    '"pgd", "--data.limit", "8"': '"pgd", "--data.limit", "2"',
    '"--attack.steps", "60"': '"--attack.steps", "4"',
    '*asma, "--data.limit", "8"': '*asma, "--data.limit", "2"',
}
"""What makes the tutorial quick, and changes nothing of how it works."""


def shortened(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Return the notebook with fewer epochs, steps and images."""
    for before, after in SHORTER.items():
        (cell,) = [cell for cell in notebook["cells"] if before in cell["source"]]
        cell["source"] = cell["source"].replace(before, after)
    return notebook


@pytest.mark.slow
def test_the_tutorial_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # threads of two processes on two cores wait for each other
    notebook = shortened(tutorial())
    client = NotebookClient(notebook, timeout=None, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    printed = "".join(
        output.get("text", "") for cell in notebook["cells"] for output in cell.get("outputs", [])
    )
    found = re.search(r"AUC (\S+) 95 % interval", printed)
    assert found is not None
    run = tmp_path / "runs" / "tutorial" / "phantom_victim" / "version_0"
    summary = json.loads((run / "mia-global-loss" / "version_0" / "summary.json").read_text())
    assert float(found[1]) == pytest.approx(summary["results"]["auc"]["value"])
    assert (run / "asma").is_dir()


def test_membership_from_python_runs_as_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = text_of(ROOT / "docs" / "membership.md")
    (shown,) = re.findall(r"^```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    example = run(shown, "shown_membership", tmp_path, monkeypatch)
    first, second = (list(map(float, line.split())) for line in capsys.readouterr().out.splitlines())
    assert first[0] == 1  # the losses of a member and of a non-member are far apart
    assert 0 <= first[1] <= 1
    assert 0.5 < second[0] < second[1] == 1
    exported = set(importlib.import_module("seg_mia.membership").__all__)
    assert {"image_loss", "loss_threshold", "calibrated", "roc", "intervals"} <= exported
    assert example.scores.shape == (int(example.answered.sum()),)


def run(source: str, name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Import a module from its text, written to a file: options are read off the source of a class."""
    file = folder / f"{name.rpartition('.')[2]}.py"
    file.write_text(source, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module
