"""Two audits at once share the networks of one fleet: nothing is trained twice."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.forked import Forked

pytestmark = pytest.mark.slow

COUNTER = '''
"""Counts epochs, in one file for all processes."""

from pathlib import Path

from lightning.pytorch import Callback


class Counter(Callback):
    def __init__(self, file: str) -> None:
        self.file = Path(file)

    def on_train_epoch_start(self, trainer, pl_module):
        with self.file.open("a") as lines:
            lines.write(f"{trainer.log_dir} {trainer.current_epoch}\\n")
'''


@pytest.fixture
def recipe(tiny: Path, folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A training on 6 of 24 samples that counts its epochs."""
    folder(count=24)
    (tmp_path / "counter.py").write_text(COUNTER)
    monkeypatch.syspath_prepend(str(tmp_path))
    callback = f"callbacks: [{{class_path: counter.Counter, init_args: {{file: {tmp_path / 'epochs'}}}}}]"
    text = tiny.read_text().replace("members: 4, nonmembers: 2", "members: 6, nonmembers: 6")
    tiny.write_text(text.replace("max_epochs: 1", f"max_epochs: 2, {callback}"))
    return tiny


def test_nothing_is_trained_twice(recipe: Path, tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    audits = list[Forked]()
    for name in ("base", "calibrated"):
        file = tmp_path / f"{name}_audit.yaml"
        file.write_text(f"{{version: 1, victim: {recipe}, fleet: {{count: 6}}, attacks: [mia-{name}]}}")
        words = ["audit", "--config", str(file), "--workers", "1", "--threads", "1"]
        output, errors = Path(f"{name}.out"), Path(f"{name}.err")
        audits.append(
            Forked(["-m", "seg_mia", *words], output=output, errors=errors, environment=environment)
        )
    try:
        assert [audit.wait(timeout=900) for audit in audits] == [0, 0]
    finally:
        for audit in audits:
            audit.kill()
            audit.wait()
    epochs = (tmp_path / "epochs").read_text().splitlines()
    assert len(epochs) == len(set(epochs)) == 2 * 7  # of the victim and six networks
    runs = sorted(path.name for path in Path("runs/tiny-shadow").iterdir())
    assert runs == [f"version_{number}" for number in range(6)]
    contents = [
        json.loads(Path(f"runs/{name}_audit/version_0/audit.json").read_text())
        for name in ("base", "calibrated")
    ]
    networks = [
        [stage["folder"] for stage in content["stages"] if stage["kind"] == "network"] for content in contents
    ]
    assert networks[0] == networks[1]
    assert not [path for path in Path("runs").rglob("*") if path.suffix in {".tmp", ".part"}]
