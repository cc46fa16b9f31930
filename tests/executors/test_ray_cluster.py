"""Tasks on a Ray cluster of two nodes on this machine."""

import importlib.util
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from seg_mia.errors import InputError
from seg_mia.executors.base import RETRIES
from seg_mia.executors.choice import executor_of
from tests.executors import jobs
from tests.executors.test_local import appears, ends

needs_ray = [pytest.mark.slow, pytest.mark.peers("ray")]


@pytest.fixture
def cluster() -> Iterator[Any]:
    """Two nodes of one core each."""
    from ray.cluster_utils import Cluster

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    nodes.add_node(num_cpus=1)
    yield nodes
    nodes.shutdown()


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
    with pytest.raises(InputError, match="there are none; leave it out"):
        executor_of("ray", threads=1, gpus_per_stage=0.5)
    with executor_of("ray", threads=1) as executor:
        endless = executor.submit(partial(jobs.endless, tmp_path / "pid"), "endless", tmp_path / "log")
        process = appears(tmp_path / "pid")
        assert threading.active_count() > 1
        time.sleep(0.1)
        assert not endless.done()
    assert ends(process)
    with pytest.raises(InputError, match="must be that of a running Ray cluster, got '127.0.0.1:1'"):
        executor_of("ray", threads=1, address="127.0.0.1:1")


def test_without_ray_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"needs Ray; install it: pip install 'seg_mia\[ray\]'"):
        executor_of("ray", threads=1)
    with pytest.raises(InputError, match="workers is a setting of --executor local"):
        executor_of("ray", threads=1, workers=2)
