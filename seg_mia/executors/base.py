"""Executor: runs tasks and returns futures of their results."""

from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, TypeVar

import torch

T = TypeVar("T")
RETRIES = 2
"""How often a task is started again after its process, or its node, has died."""


class Executor(Protocol):
    """Runs tasks; a context manager that ends those still running when left.

    Attributes:
        workers: tasks that may run at once; 1 means that `submit` returns after the task.
        device: name of the accelerator of a task, or `cpu`.
    """

    workers: int
    device: str

    def submit(self, task: Callable[[], T], name: str, log: Path) -> Future[T]:
        """Run a task, or queue it; return the future of its result.

        The future raises InputError, in one line, for an error in the task and for a process that died
        `RETRIES` + 1 times. An executor of one worker in the present process raises the task's own exception.

        Args:
            task: a picklable function without arguments, which may be run again after a crash.
            name: name of the task in messages.
            log: file for the output of the task's process.
        """
        ...

    def close(self) -> None:
        """Cancel tasks that have not begun and end the others."""
        ...

    def __enter__(self) -> Self:
        """Return the executor."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the executor."""
        ...


class Closing:
    """Context manager of an executor."""

    def close(self) -> None:
        """Cancel tasks that have not begun and end the others."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        """Return the executor."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the executor."""
        self.close()


def device_name() -> str:
    """Return the name of this process's accelerator, or `cpu`."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
