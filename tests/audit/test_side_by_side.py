"""An audit's results depend neither on the executor, nor on the number of workers, nor on their deaths."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from seg_mia.cli import main
from tests.audit.test_interrupted import timeless, versions
from tests.forked import ForkedWorker

pytestmark = pytest.mark.slow

FRAGILE = '''
"""Counts epochs, and ends as it is told."""

import os
import signal
from pathlib import Path

from lightning.pytorch import Callback


class Fragile(Callback):
    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def on_train_epoch_start(self, trainer, pl_module):
        with (self.folder / "epochs").open("a") as file:
            file.write(f"{trainer.log_dir} {trainer.current_epoch}\\n")

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step != 5:
            return
        for name, process in (("worker", os.getpid()), ("driver", os.getppid())):
            try:
                (self.folder / name).unlink()
            except FileNotFoundError:
                continue
            os.kill(process, signal.SIGKILL)
        if (self.folder / "broken").exists():
            raise KeyError("no check foresees this")
'''
BLANK = """
from matplotlib.figure import Figure

Figure.draw = lambda *_: None
Figure.get_tightbbox = lambda figure, *_, **__: figure.bbox_inches
"""
"""Python imports `sitecustomize` as it starts: all processes leave figures blank, which no test looks at."""


def prepare(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process and those it starts import `fragile` from a folder, and draw nothing."""
    (folder / "fragile.py").write_text(FRAGILE)
    (folder / "sitecustomize.py").write_text(BLANK)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "fragile", raising=False)
    # Workers of this process begin with everything imported; those of a driver that is a command do not.
    patched = SimpleNamespace(Popen=ForkedWorker, PIPE=subprocess.PIPE)
    monkeypatch.setattr("seg_mia.executors.local.subprocess", patched)


@pytest.fixture
def audit(
    tmp_path: Path,
    folder: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    undrawn: None,  # noqa: ARG001
    thorough_checks: None,  # noqa: ARG001  # other processes take all steps, too
) -> Path:
    """Two seeds, two attacks of one name: much that could be numbered in another order."""
    prepare(tmp_path, monkeypatch)
    victim = tmp_path / "small.yaml"
    victim.write_text(f"""
seed_everything: 3
trainer:
  max_epochs: 3
  accelerator: cpu
  enable_progress_bar: false
  enable_model_summary: false
  callbacks: [{{class_path: fragile.Fragile, init_args: {{folder: {tmp_path}}}}}]
model:
  class_path: seg_mia.tasks.segmentation.Segmentation
  init_args:
    network:
      class_path: seg_mia.models.smp.Smp
      init_args: {{encoder: tu-test_resnet, channels: 3, classes: 1, depth: 3, dropout: 0.3}}
    lr: 0.01
data:
  class_path: seg_mia.data.sets.folder.Folder
  init_args: {{root: {folder(24)}, threshold: 127, members: 8, nonmembers: 4, batch_size: 2}}
""")
    file = tmp_path / "small_audit.yaml"
    file.write_text(f"""
version: 1
victim: {victim}
shadow: {{config: {victim}, options: {{data.role: shadow}}}}
scorer: {{architecture: test_resnet, epochs: 1}}
seeds: [0, 1]
sanity_images: 1
attacks:
  - mia-global-loss
  - {{attack: asma, settings: {{steps: 2, surrogate: shadow}}, data: {{limit: 2}}}}
  - {{attack: asma, settings: {{steps: 1}}, data: {{limit: 2}}}}
""")
    return file


@pytest.fixture
def run(audit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Run the audit in a folder of its own; return what it states, without times, and its folders."""

    def outcome(name: str, *options: str) -> dict[str, Any]:
        place = tmp_path / name
        place.mkdir(exist_ok=True)
        monkeypatch.chdir(place)
        assert main(["audit", "--config", str(audit), *options]) == 0
        (folder,) = (place / "runs" / "small_audit").iterdir()
        files = ("audit.json", "report.json")
        told = {name: timeless(json.loads((folder / name).read_text())) for name in files}
        return told | {"folders": versions(place)}

    return outcome


def epochs(folder: Path) -> list[str]:
    return sorted((folder / "epochs").read_text().splitlines())


@pytest.mark.slow(100)
def test_workers_and_their_deaths_change_nothing(
    audit: Path, run: Callable[..., dict[str, Any]], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    alone = run("one", "--workers", "1")
    trained = epochs(tmp_path)
    three_of_which_one_is_killed(run, tmp_path, alone, trained, capfd)
    the_driver_is_killed(audit, run, tmp_path, alone, trained)


def three_of_which_one_is_killed(
    run: Callable[..., dict[str, Any]],
    tmp_path: Path,
    alone: dict[str, Any],
    trained: list[str],
    capfd: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "epochs").unlink()
    (tmp_path / "worker").touch()
    capfd.readouterr()
    assert run("three", "--workers", "3") == alone
    assert not (tmp_path / "worker").exists()
    again = epochs(tmp_path)
    assert len(again) == len(trained) + 1  # the epoch of the kill was begun twice, no other
    assert set(again) == set(trained)
    lines = capfd.readouterr().out.splitlines()
    done = [line for line in lines if line.startswith("stage ")]
    assert [line.partition(" done: ")[0] for line in done] == [f"stage {n} of 14" for n in range(1, 15)]
    assert run("three", "--workers", "2") == alone  # from the cache


def the_driver_is_killed(
    audit: Path,
    run: Callable[..., dict[str, Any]],
    tmp_path: Path,
    alone: dict[str, Any],
    trained: list[str],
) -> None:
    (tmp_path / "epochs").unlink()
    (tmp_path / "driver").touch()
    (tmp_path / "killed").mkdir()
    words = ["-m", "seg_mia", "audit", "--config", str(audit), "--workers", "2", "--threads", "1"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, *words], cwd=tmp_path / "killed", env=environment, check=False)
    assert done.returncode == -9
    assert run("killed", "--workers", "2") == alone
    again = epochs(tmp_path)
    assert set(again) == set(trained)
    assert len(again) <= len(trained) + 2  # two trainings ran, each in one epoch


@pytest.mark.peers("ray")
@pytest.mark.filterwarnings("ignore")  # of Ray's own modules
def test_ray_gives_the_same(run: Callable[..., dict[str, Any]]) -> None:
    from ray.cluster_utils import Cluster

    alone = run("one", "--workers", "1")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    try:
        assert run("ray", "--executor", "ray", "--address", cluster.address) == alone
    finally:
        cluster.shutdown()


def test_an_error_in_a_stage_is_one_line(
    audit: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken").touch()
    assert main(["audit", "--config", str(audit), "--workers", "2"]) == 2
    errors = [line for line in capfd.readouterr().err.splitlines() if line.startswith("seg_mia: error")]
    assert len(errors) == 1
    assert "KeyError: 'no check foresees this' (" in errors[0]
    assert "fragile.py, line" in errors[0]
