"""A task in a process of its own: its threads, its output, its errors."""

import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

import torch

from seg_mia.errors import InputError
from seg_mia.experiment.failures import in_one_line

T = TypeVar("T")
PACKAGE = "seg_mia"


@dataclass(frozen=True)
class Task(Generic[T]):
    """A function to run in another process.

    Attributes:
        function: picklable, without arguments.
        log: file that receives all output.
        threads: threads of torch.
    """

    function: Callable[[], T]
    log: Path
    threads: int


@dataclass(frozen=True)
class Outcome(Generic[T]):
    """Result of a task, or its error.

    Attributes:
        values: the result, as the only entry; none after an error.
        error: the error in one line.
        trace: its traceback.
        records: log messages of this package: logger, level and text.
    """

    values: list[T] = field(default_factory=list)
    error: str = ""
    trace: str = ""
    records: list[tuple[str, int, str]] = field(default_factory=list)

    def value(self) -> T:
        """Repeat the log messages here; return the result, or raise InputError."""
        for name, level, text in self.records:
            logging.getLogger(name).log(level, "%s", text)
        if not self.values:
            raise InputError(self.error) from RuntimeError(f"in the process of the task:\n{self.trace}")
        return self.values[0]


def run(task: Task[T]) -> Outcome[T]:
    """Run a task in this process, with all output to its log."""
    records = list[tuple[str, int, str]]()
    with _output_to(task.log), threads_of_torch(task.threads), _collected(records):
        try:
            return Outcome([task.function()], records=records)
        except Exception as error:  # noqa: BLE001  # it is raised again in the process that waits
            trace = traceback.format_exc()
            sys.stderr.write(trace)
            return Outcome(error=in_one_line(error), trace=trace, records=records)


@contextmanager
def threads_of_torch(count: int) -> Iterator[None]:
    """Let torch use so many threads; sums of floats depend on their number."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _output_to(log: Path) -> Iterator[None]:
    """Append everything this process and its children print to a file."""
    streams = (sys.stdout, sys.stderr)
    log.parent.mkdir(parents=True, exist_ok=True)
    saved = [os.dup(number) for number in (1, 2)]
    try:
        with log.open("ab") as file:
            _redirect(streams, [file.fileno()] * 2)
        yield
    finally:
        _redirect(streams, saved)
        for number in saved:
            os.close(number)


def _redirect(streams: tuple[object, ...], targets: list[int]) -> None:
    for stream, target, number in zip(streams, targets, (1, 2), strict=True):
        stream.flush()  # type: ignore[attr-defined]
        os.dup2(target, number)


@contextmanager
def _collected(records: list[tuple[str, int, str]]) -> Iterator[None]:
    """Collect the log messages of this package."""
    logger, collector = logging.getLogger(PACKAGE), _Collector(records)
    level, spread = logger.level, logger.propagate
    logger.addHandler(collector)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(collector)
        logger.setLevel(level)
        logger.propagate = spread


class _Collector(logging.Handler):
    """Appends messages to a list."""

    def __init__(self, records: list[tuple[str, int, str]]) -> None:
        super().__init__()
        self.records = records

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append((record.name, record.levelno, record.getMessage()))
