"""Programs in processes of their own that begin with everything imported: a start takes no seconds."""

import atexit
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

SERVER = Path(__file__).with_name("forkserver.py")
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
"""As in the process of the tests: sums depend on it, and what is said of the machine."""
LOOKS = 0.02
"""Seconds between two looks at a process."""


class Forked:
    """What `subprocess.Popen([sys.executable, *words])` is, with streams that are files.

    Programs with different `hashing` order their sets differently, as those of two new processes would.

    Args:
        words: `-m`, a module and its words, or a file and its words.
        output: new file of its standard output.
        errors: new file of its standard error.
        folder: where it runs; here if not given.
        environment: its environment, one thread apart; this process's if not given.
        hashing: 0 or 1.
    """

    def __init__(
        self,
        words: Sequence[str],
        *,
        output: Path,
        errors: Path,
        folder: Path | None = None,
        environment: Mapping[str, str] | None = None,
        hashing: int = 0,
    ) -> None:
        self.returncode: int | None = None
        self._hashing = hashing
        self.pid = self._ask(
            words=list(words),
            folder=str(folder or Path.cwd()),
            environment={**(os.environ if environment is None else environment), **ONE_THREAD},
            streams=[str(file.absolute()) for file in (output, errors)],
        )

    def _ask(self, **request: Any) -> Any:
        process = server(self._hashing)
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{json.dumps(request)}\n")
        process.stdin.flush()
        return json.loads(process.stdout.readline())

    def poll(self) -> int | None:
        """Return how the process has ended, None while it runs."""
        if self.returncode is None:
            self.returncode = self._ask(pid=self.pid)
        return self.returncode

    def wait(self, timeout: float = 900) -> int:
        """Return how the process has ended, when it has; raise TimeoutExpired if that takes too long."""
        until = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > until:
                self.kill()
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
            time.sleep(LOOKS)
        return code

    def kill(self) -> None:
        """End the process at once, if it runs."""
        if self.poll() is None:
            os.kill(self.pid, 9)


def fresh(
    words: Sequence[str], *, output: Path, errors: Path, environment: Mapping[str, str] | None = None
) -> "subprocess.Popen[bytes]":
    """Start `python WORDS` as it is, with the same streams; its imports take seconds."""
    with output.open("wb") as out, errors.open("wb") as err:
        return subprocess.Popen([sys.executable, *words], env=environment, stdout=out, stderr=err)


@cache
def server(hashing: int) -> "subprocess.Popen[str]":
    """Return a process that starts others; it ends with this one."""
    process = subprocess.Popen(
        [sys.executable, str(SERVER)],
        env=os.environ | ONE_THREAD | {"PYTHONPATH": str(SERVER.parents[1]), "PYTHONHASHSEED": str(hashing)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def end() -> None:
        assert process.stdin is not None
        process.stdin.close()
        process.wait()

    atexit.register(end)
    return process
