"""Programs in processes of their own that begin with everything imported: a start takes no seconds."""

import atexit
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import IO, Any

SERVER = Path(__file__).with_name("forkserver.py")
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
"""As in the process of the tests: sums depend on it, and what is said of the machine."""
LOOKS = 0.02
"""Seconds between two looks at a process."""
ASKING = threading.RLock()
"""Held from a request to its answer: a server answers one after the other, of an end once."""


class Forked:
    """What `subprocess.Popen([sys.executable, *words])` is, with streams that are files.

    Programs with different `hashing` order their sets differently, as those of two new processes would.

    Args:
        words: `-m`, a module and its words, or a file and its words.
        output: new file of its standard output.
        errors: new file of its standard error.
        given: file of its standard input; nothing if not given.
        folder: where it runs; here if not given.
        environment: its environment, one thread apart; this process's if not given.
        hashing: 0 or 1.
        append: whether it adds to the files of its streams, which are emptied otherwise.
    """

    def __init__(
        self,
        words: Sequence[str],
        *,
        output: Path,
        errors: Path,
        given: Path = Path(os.devnull),
        folder: Path | None = None,
        environment: Mapping[str, str] | None = None,
        hashing: int = 0,
        append: bool = False,
    ) -> None:
        self.returncode: int | None = None
        self._hashing = hashing
        self.pid = self._ask(
            words=list(words),
            folder=str(folder or Path.cwd()),
            environment={**(os.environ if environment is None else environment), **ONE_THREAD},
            streams=[str(file.absolute()) for file in (given, output, errors)],
            append=append,
        )

    def _ask(self, **request: Any) -> Any:
        with ASKING:
            process = server(self._hashing)
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(f"{json.dumps(request)}\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())

    def poll(self) -> int | None:
        """Return how the process has ended, None while it runs."""
        with ASKING:
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


class ForkedWorker(Forked):
    """What `Popen` is to the local executor, for the process of its tasks: pipes, and errors in a log.

    Args:
        words: `sys.executable`, and the program's.
        stdin: PIPE.
        stdout: PIPE.
        stderr: open file, to which it adds.
        env: its environment.
    """

    def __init__(
        self, words: Sequence[str], *, stdin: int, stdout: int, stderr: IO[bytes], env: Mapping[str, str]
    ) -> None:
        assert (words[0], stdin, stdout) == (sys.executable, subprocess.PIPE, subprocess.PIPE)
        with tempfile.TemporaryDirectory() as folder:
            pipes = [Path(folder) / name for name in ("stdin", "stdout")]
            for pipe in pipes:
                os.mkfifo(pipe)
            log = Path(stderr.name)
            super().__init__(
                words[1:], given=pipes[0], output=pipes[1], errors=log, environment=env, append=True
            )
            self.stdin: IO[bytes] = pipes[0].open("wb")  # waits for the process, which opens them in turn
            self.stdout: IO[bytes] = pipes[1].open("rb")


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
