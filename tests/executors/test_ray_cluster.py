"""Tasks and fleets on a Ray cluster of two nodes on this machine."""

import importlib.util
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from seg_mia.cli import main
from seg_mia.errors import InputError
from seg_mia.executors.base import RETRIES
from seg_mia.executors.choice import executor_of
from tests.executors import jobs
from tests.executors.test_local import appears, ends
from tests.trainings import weights

needs_ray = [pytest.mark.slow, pytest.mark.peers("ray")]
NETWORKS = 4
COUNTED = '''
"""Notes each epoch, and kills a node of the cluster as a power cut would."""

import os
import signal
from pathlib import Path

from lightning.pytorch import Callback


class Counted(Callback):
    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def on_train_epoch_start(self, trainer, pl_module):
        with (self.folder / "epochs").open("a") as file:
            file.write(f"{trainer.log_dir} {trainer.current_epoch}\\n")

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        node = self.folder / f"node_{os.getppid()}"  # a process of Ray's is a child of its node's
        if trainer.global_step == 5 and node.exists():
            node.unlink()
            os.kill(os.getppid(), signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)
'''


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Two nodes of one core each."""
    for wait in ("raylet_start_wait_time_s", "gcs_server_port_wait_time_s"):  # of a machine under load
        monkeypatch.setenv(f"RAY_{wait}", "300")
    from ray.cluster_utils import Cluster

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    nodes.add_node(num_cpus=1)
    yield nodes
    nodes.shutdown()


@pytest.fixture
def fleet(
    tiny: Path, folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    """Return the words of a fleet of trainings of three epochs, which notes its epochs."""
    folder(count=24)
    (tmp_path / "counted.py").write_text(COUNTED)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "counted", raising=False)
    callback = f"callbacks: [{{class_path: counted.Counted, init_args: {{folder: {tmp_path}}}}}]"
    text = tiny.read_text().replace("members: 4, nonmembers: 2", "members: 8, nonmembers: 4")
    tiny.write_text(text.replace("max_epochs: 1,", f"max_epochs: 3, {callback},"))
    words = ["fleet", "--config", str(tiny), "--threads", "1"]
    return [*words, "--count", str(NETWORKS)]


def equal(one: Path, other: Path) -> None:
    """Networks of two fleets are equal to the bit, each in the folder of its number."""
    for number in range(NETWORKS):
        first, second = (weights(runs / "tiny-shadow" / f"version_{number}") for runs in (one, other))
        torch.testing.assert_close(first, second, rtol=0, atol=0)


def epochs(folder: Path) -> list[str]:
    """Return all epochs that were begun since this was last asked."""
    lines = (folder / "epochs").read_text().splitlines()
    (folder / "epochs").unlink()
    return sorted(lines)


def finished(runs: Path) -> list[Path]:
    """Return the weights of the trainings that have ended."""
    records = [json.loads(file.read_text()) for file in (runs / ".stages").glob("*.json")]
    return [runs / record["folder"] / "checkpoints" / "last.ckpt" for record in records if record.get("done")]


@pytest.mark.parametrize("mark", [pytest.param(None, marks=needs_ray)])
@pytest.mark.filterwarnings("ignore")  # of Ray's own modules
def test_a_fleet_is_the_same_though_its_node_and_its_driver_die(
    cluster: Any, fleet: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mark: None
) -> None:
    assert mark is None
    for name in ("local", "node", "driver"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "local")
    assert main([*fleet, "--workers", "1"]) == 0
    trained = epochs(tmp_path)
    assert len(trained) == len(set(trained)) == 3 * NETWORKS
    distributed = [*fleet, "--executor", "ray", "--address", cluster.address]

    monkeypatch.chdir(tmp_path / "node")
    (second,) = cluster.worker_nodes
    (raylet,) = second.all_processes["raylet"]
    (tmp_path / f"node_{raylet.process.pid}").touch()
    assert main(distributed) == 0
    assert not list(tmp_path.glob("node_*"))
    again = epochs(tmp_path)
    assert set(again) == set(trained)
    assert len(again) == len(trained) + 1  # the epoch of the kill was begun twice, no other
    equal(tmp_path / "local" / "runs", tmp_path / "node" / "runs")

    cluster.add_node(num_cpus=1)
    monkeypatch.chdir(tmp_path / "driver")
    driver = subprocess.Popen(
        [sys.executable, "-m", "seg_mia", *distributed],
        stdout=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
    )
    while not finished(Path("runs")):
        assert driver.poll() is None, "the fleet ended before it could be killed"
        time.sleep(0.02)
    driver.kill()
    driver.wait()
    before = {file: file.stat().st_mtime_ns for file in finished(Path("runs"))}
    assert len(before) < NETWORKS
    assert main(distributed) == 0
    assert {file: file.stat().st_mtime_ns for file in before} == before
    again = epochs(tmp_path)
    assert set(again) == set(trained)
    assert len(again) <= len(trained) + 2  # two trainings ran, each in one epoch
    equal(tmp_path / "local" / "runs", tmp_path / "driver" / "runs")


@pytest.mark.parametrize("mark", [pytest.param(None, marks=needs_ray)])
@pytest.mark.filterwarnings("ignore")  # of Ray's own modules
def test_tasks_survive_the_death_of_their_process_and_their_node(
    cluster: Any, tmp_path: Path, mark: None
) -> None:
    assert mark is None
    with executor_of("ray", threads=1, address=cluster.address) as executor:
        assert (executor.workers, executor.device) == (2, "cpu")
        futures = [executor.submit(partial(jobs.add, n, 1), "add", tmp_path / f"{n}.log") for n in range(4)]
        assert [future.result() for future in futures] == [1, 2, 3, 4]
        assert executor.submit(jobs.threads, "threads", tmp_path / "log").result() == 1
        executor.submit(jobs.printed, "print", tmp_path / "printed").result()
        assert "a line of a library's" in (tmp_path / "printed").read_text()
        with pytest.raises(InputError, match="members must be 4 or fewer, got 5; lower data.members"):
            executor.submit(jobs.refused, "refused", tmp_path / "log").result()
        unlucky = executor.submit(partial(jobs.killed, RETRIES, tmp_path), "unlucky", tmp_path / "log")
        assert unlucky.result() == RETRIES
        with pytest.raises(InputError, match=r"asma: its process ended 3 times .*WorkerCrashedError"):
            executor.submit(partial(jobs.killed, 99, tmp_path), "asma", tmp_path / "log").result()
        node = cluster.add_node(num_cpus=1)
        slow = [executor.submit(partial(jobs.slow, n, tmp_path), "slow", tmp_path / "log") for n in range(3)]
        for number in range(3):  # one on each node
            appears(tmp_path / f"begin_{number}_0")
        cluster.remove_node(node)
        assert [future.result() for future in slow] == [0, 1, 2]
        assert len(list(tmp_path.glob("begin_*_1"))) == 1
    with pytest.raises(InputError, match="takes 3 cores"):
        executor_of("ray", threads=3, address=cluster.address)


@pytest.mark.parametrize("mark", [pytest.param(None, marks=needs_ray)])
@pytest.mark.filterwarnings("ignore")
def test_a_cluster_of_its_own_ends_with_it(tmp_path: Path, mark: None) -> None:
    assert mark is None
    token = Path.home() / ".ray" / "auth_token"
    had_token = token.exists()
    with pytest.raises(InputError, match="there are none; leave it out"):
        executor_of("ray", threads=1, gpus_per_stage=0.5)
    with executor_of("ray", threads=1) as executor:
        endless = executor.submit(partial(jobs.endless, tmp_path / "pid"), "endless", tmp_path / "log")
        process = appears(tmp_path / "pid")
        assert threading.active_count() > 1
        time.sleep(0.1)
        assert not endless.done()
    assert ends(process)
    assert token.exists() == had_token  # every later head of this user would demand it
    with pytest.raises(InputError, match="must be that of a running Ray cluster, got '127.0.0.1:1'"):
        executor_of("ray", threads=1, address="127.0.0.1:1")


@pytest.mark.parametrize("mark", [pytest.param(None, marks=needs_ray)])
def test_a_head_that_demands_a_token_is_named(fleet: list[str], tmp_path: Path, mark: None) -> None:
    assert mark is None
    ray = [sys.executable, "-c", "from ray.scripts.scripts import main; main()", "start", "--head", "--block"]
    address = f"127.0.0.1:{free_port()}"
    ray += [f"--port={address.partition(':')[2]}", "--num-cpus=1", "--include-dashboard=false"]
    plain = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    plain |= {"PYTHONPATH": os.pathsep.join(sys.path), "HOME": str(tmp_path)}
    token = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": 32 * "a",
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
    }
    log = tmp_path / "head.log"
    with log.open("w") as output:
        head = subprocess.Popen(ray, stdout=output, stderr=output, env=plain | token)
    try:
        while "Ray runtime started" not in log.read_text():
            assert head.poll() is None, log.read_text()
            time.sleep(0.1)
        words = [sys.executable, "-m", "seg_mia", *fleet, "--executor", "ray", "--address", address]
        done = subprocess.run(words, env=plain, capture_output=True, text=True, check=False)
    finally:
        head.terminate()
        head.wait()
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if "seg_mia: error:" in line]
    assert f"the Ray cluster at {address} demands a token; set RAY_AUTH_MODE=token" in line


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


class FakeRay(ModuleType):
    """What `RayCluster` uses of Ray, without nodes; `failure` is what its start raises."""

    class exceptions:  # noqa: N801
        class AuthenticationError(Exception):
            """As Ray's."""

    def __init__(self, failure: Exception | None) -> None:
        super().__init__("ray")
        self.failure = failure

    def init(self, **settings: object) -> None:
        assert settings["address"] == "local"
        if self.failure is not None:
            raise self.failure

    def shutdown(self) -> None:
        """Nothing runs."""

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": True, "Resources": {"CPU": 1}}]


@pytest.mark.parametrize(
    ("failure", "line"),
    [
        (
            FakeRay.exceptions.AuthenticationError("no token"),
            r"needs a token \(no token\); set RAY_AUTH_TOKEN",
        ),
        (RuntimeError("no memory"), r"could be started on this machine \(no memory\); .* --executor local"),
        (None, "takes 3 cores"),
    ],
)
def test_a_cluster_that_cannot_start_says_why(
    failure: Exception | None, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", 32 * "a")
    monkeypatch.setitem(sys.modules, "ray", FakeRay(failure))
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: object())
    with pytest.raises(InputError, match=line):
        executor_of("ray", threads=3)


def test_without_ray_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"needs Ray; install it: pip install 'seg_mia\[ray\]'"):
        executor_of("ray", threads=1)
    with pytest.raises(InputError, match="workers is a setting of --executor local"):
        executor_of("ray", threads=1, workers=2)
