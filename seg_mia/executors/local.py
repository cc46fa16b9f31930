"""Executors of this machine: the present process, or several processes that stay for further tasks."""

import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, TypeVar, cast

import torch

from seg_mia.errors import InputError
from seg_mia.executors.base import RETRIES, Closing, device_name
from seg_mia.executors.frames import read_frame, write_frame
from seg_mia.executors.task import Outcome, Task, threads_of_torch
from seg_mia.heap import return_freed_memory

T = TypeVar("T")


class PresentProcess(Closing):
    """Runs each task at once, in the thread that submits it.

    Args:
        threads: threads of torch.
    """

    workers = 1

    def __init__(self, threads: int) -> None:
        self.threads, self.device = threads, device_name()

    def submit(self, task: Callable[[], T], name: str, log: Path) -> Future[T]:  # noqa: ARG002
        """Run a task; return its result as a future. Raises the task's own exceptions."""
        future = Future[T]()
        with threads_of_torch(self.threads):
            future.set_result(task())
        return_freed_memory()
        return future

    def close(self) -> None:
        """Do nothing: no task runs between two calls."""


class LocalProcesses(Closing):
    """Runs tasks in several processes, each started when it is first needed.

    A process keeps its imports and opened data for further tasks. With several GPUs, each process sees one.

    Args:
        workers: largest number of processes.
        threads: threads of torch in each.
    """

    def __init__(self, workers: int, threads: int) -> None:
        self.workers, self.threads, self.device = workers, threads, device_name()
        self._pool = ThreadPoolExecutor(workers, "executor")
        self._lock, self._closed = threading.Lock(), False
        self._processes = dict[int, Process]()

    def submit(self, task: Callable[[], T], name: str, log: Path) -> Future[T]:
        """Queue a task; return the future of its result."""
        return self._pool.submit(self._run, Task(task, log, self.threads), name)

    def close(self) -> None:
        """Cancel tasks that have not begun, end all processes."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            self._closed = True
            for process in self._processes.values():
                process.end()
        self._pool.shutdown()

    def _run(self, task: Task[T], name: str) -> T:
        """Run a task in this thread's process, again in a new one if that dies."""
        task.log.parent.mkdir(parents=True, exist_ok=True)
        task.log.unlink(missing_ok=True)
        code = 0
        for _ in range(RETRIES + 1):
            process = self._process(task.log)
            try:
                return process.run(task).value()
            except (EOFError, OSError):
                code = process.end()
        raise InputError(died(name, f"exit code {code}", task.log))

    def _process(self, log: Path) -> "Process":
        """Return this thread's process, a new one if there is none alive."""
        with self._lock:
            if self._closed:
                raise InputError("the executor is closed; nothing runs on it")
            thread = threading.get_ident()
            process = self._processes.get(thread)
            if process is None or not process.is_alive():
                number = list(self._processes).index(thread) if process else len(self._processes)
                process = self._processes[thread] = Process(number, log)
            return process


class Process:
    """One process, `seg_mia.executors.worker`, which ends with the present one.

    Args:
        number: its number, which chooses its GPU among several.
        log: file for what it prints before its first task.
    """

    def __init__(self, number: int, log: Path) -> None:
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "seg_mia.executors.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                env=os.environ | {"PYTHONPATH": import_path()} | _gpu(number),
            )

    def run(self, task: Task[T]) -> Outcome[T]:
        """Run a task. Raises EOFError or OSError if the process dies."""
        content = pickle.dumps(task)
        write_frame(cast(BinaryIO, self._process.stdin), content)
        outcome: Outcome[T] = pickle.loads(read_frame(cast(BinaryIO, self._process.stdout)))  # noqa: S301
        return outcome

    def is_alive(self) -> bool:
        """Return whether the process runs."""
        return self._process.poll() is None

    def end(self) -> int:
        """End the process; return its exit code, negative for a signal."""
        self._process.kill()
        code = self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            with suppress(OSError):
                cast(BinaryIO, stream).close()
        return code


def import_path() -> str:
    """Return the folders that Python imports from, for another process."""
    return os.pathsep.join(folder or str(Path.cwd()) for folder in sys.path)


def _gpu(number: int) -> dict[str, str]:
    """Return the environment that shows a process one of several GPUs."""
    if not torch.cuda.is_available() or torch.cuda.device_count() < 2:
        return {}
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else list(map(str, range(torch.cuda.device_count())))
    return {"CUDA_VISIBLE_DEVICES": names[number % len(names)]}


def died(name: str, reason: str, log: Path) -> str:
    """Return the message for a task whose process died again and again."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        lines = []
    last = next((line.strip() for line in reversed(lines) if line.strip()), "nothing")
    return (
        f"{name}: its process ended {RETRIES + 1} times before it was done ({reason}), the last line of "
        f"{log} is {last[-300:]!r}; is memory short? Try fewer --workers; the same command resumes"
    )
