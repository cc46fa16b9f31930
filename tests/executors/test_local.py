"""Tasks in other processes: their results, errors, output, and deaths."""

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch

from seg_mia.errors import InputError
from seg_mia.executors.base import RETRIES
from seg_mia.executors.choice import executor_of, threads_per_task
from seg_mia.executors.local import LocalProcesses, PresentProcess
from tests.executors import jobs


@pytest.fixture(scope="module")
def two() -> Iterator[LocalProcesses]:
    """Two processes, the same for all tests of this file."""
    with LocalProcesses(2, 1) as executor:
        yield executor


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return (
        not Path(f"/proc/{process}/stat").is_file() or " Z " not in Path(f"/proc/{process}/stat").read_text()
    )


def ends(process: int, seconds: float = 30) -> bool:
    until = time.monotonic() + seconds
    while is_alive(process) and time.monotonic() < until:
        time.sleep(0.05)
    return not is_alive(process)


def appears(file: Path, seconds: float = 120) -> int:
    """Wait for a file with the id of a process."""
    until = time.monotonic() + seconds
    while not file.exists() and time.monotonic() < until:
        time.sleep(0.05)
    return int(file.read_text())


def test_results_are_those_of_the_tasks_whichever_process_runs_them(
    two: LocalProcesses, tmp_path: Path
) -> None:
    futures = [two.submit(partial(jobs.add, n, 1), "add", tmp_path / f"{n}.log") for n in range(6)]
    assert [future.result() for future in futures] == [1, 2, 3, 4, 5, 6]
    processes = [two.submit(jobs.process, "process", tmp_path / f"p{n}.log") for n in range(6)]
    used = {future.result() for future in processes}
    assert 1 <= len(used) <= 2  # they stay for further tasks
    assert os.getpid() not in used


def test_each_task_has_its_threads(tmp_path: Path) -> None:
    with LocalProcesses(2, 3) as executor:
        assert executor.submit(jobs.threads, "threads", tmp_path / "log").result() == 3
    before = torch.get_num_threads()
    with PresentProcess(3) as executor:
        assert executor.submit(jobs.threads, "threads", tmp_path / "log").result() == 3
    assert torch.get_num_threads() == before


def test_output_is_in_the_log_alone(
    two: LocalProcesses, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "new" / "log"
    two.submit(jobs.printed, "print", log).result()
    assert sorted(log.read_text().splitlines()) == [
        "a line of Python's",
        "a line of a library's",
        "a line of an error",
    ]
    assert capfd.readouterr() == ("", "")


def test_warnings_of_this_package_are_repeated_here(
    two: LocalProcesses, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    two.submit(jobs.logged, "log", tmp_path / "log").result()
    assert caplog.record_tuples == [("seg_mia.tasks", logging.WARNING, "this victim has no split")]


def test_an_error_is_the_same_line(two: LocalProcesses, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        two.submit(jobs.refused, "refused", tmp_path / "log").result()
    assert str(caught.value) == "members must be 4 or fewer, got 5; lower data.members"
    assert "in refused" in str(caught.value.__cause__)  # for --debug
    with pytest.raises(InputError, match=r"KeyError: 'no check foresees this' \(.*jobs\.py, line"):
        two.submit(jobs.broken, "broken", tmp_path / "log").result()
    assert two.submit(partial(jobs.add, 1, 1), "add", tmp_path / "log").result() == 2


def test_a_task_whose_process_died_is_run_again(two: LocalProcesses, tmp_path: Path) -> None:
    task = partial(jobs.killed, RETRIES, tmp_path)
    assert two.submit(task, "unlucky", tmp_path / "log").result() == RETRIES
    assert (tmp_path / "log").read_text().splitlines() == ["death 0", "death 1"]


def test_a_task_that_always_dies_is_one_line(two: LocalProcesses, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with pytest.raises(InputError) as caught:
        two.submit(partial(jobs.killed, 99, tmp_path), "asma on none", log).result()
    assert str(caught.value) == (
        f"asma on none: its process ended 3 times before it was done (exit code -9), the last line of "
        f"{log} is 'death 2'; is memory short? Try fewer --workers; the same command resumes"
    )


def test_closing_cancels_what_has_not_begun_and_ends_the_rest(tmp_path: Path) -> None:
    with LocalProcesses(1, 1) as executor:
        running = executor.submit(partial(jobs.endless, tmp_path / "pid"), "endless", tmp_path / "log")
        queued = executor.submit(partial(jobs.add, 1, 1), "add", tmp_path / "log2")
        process = appears(tmp_path / "pid")
    assert queued.cancelled()
    assert isinstance(running.exception(), InputError)
    assert ends(process)


def test_no_process_outlives_the_one_that_started_it(tmp_path: Path) -> None:
    code = f"""
from functools import partial
from pathlib import Path
from seg_mia.executors.local import LocalProcesses
from tests.executors import jobs
executor = LocalProcesses(1, 1)
executor.submit(partial(jobs.endless, Path({str(tmp_path / "pid")!r})), "endless", Path("log")).result()
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env=environment)
    worker = appears(tmp_path / "pid")
    assert is_alive(worker)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert ends(worker)


def test_the_threads_of_a_task_do_not_follow_from_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for cores, threads, workers in ((1, 1, 1), (2, 1, 2), (4, 1, 4), (8, 2, 4), (64, 16, 4)):
        monkeypatch.setattr(torch, "get_num_threads", lambda cores=cores: cores)
        assert threads_per_task(None) == threads
        with executor_of("local", threads=threads) as executor:
            assert executor.workers == workers
    assert threads_per_task(3) == 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"workers": 0}, "workers must be 1 or more, got 0"),
        ({"address": "auto"}, "settings of --executor ray"),
        ({"gpus_per_stage": 0.5}, "settings of --executor ray"),
    ],
)
def test_settings_of_another_executor_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        executor_of("local", threads=1, **settings)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="threads must be 1 or more, got 0"):
        threads_per_task(0)
