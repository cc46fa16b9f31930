"""Python programs as forks of this process, which has imported everything; requests are lines of JSON.

It has one thread and computes nothing, so that a fork is as good as a new process, without the seconds of its
imports. `tests.forked` starts it, and speaks to it.
"""

import atexit
import gc
import importlib
import json
import os
import random
import runpy
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np

import seg_mia.audit.run
import seg_mia.commands.fleet
import seg_mia.experiment.lightning_cli
from seg_mia import attacks, data, defences, membership, tasks
from seg_mia.config.parsing import import_all

assert seg_mia.audit.run
assert seg_mia.commands.fleet
assert seg_mia.experiment.lightning_cli


def serve() -> list[str]:
    """Fork as requests say, and answer them, until there are no more; a fork returns its words."""
    for line in sys.stdin:
        request = json.loads(line)
        if "pid" in request:
            ended, status = os.waitpid(request["pid"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if ended else None
        else:
            answer = os.fork()
            if answer == 0:
                return begin(**request)
        sys.stdout.write(f"{json.dumps(answer)}\n")
        sys.stdout.flush()
    return []


def begin(
    words: list[str], folder: str, environment: dict[str, str], streams: tuple[str, ...], append: bool
) -> list[str]:
    """Make a fork what `python WORDS` would be in a folder: paths, environment, streams, random numbers."""
    new = os.O_WRONLY | os.O_CREAT | os.O_APPEND | (0 if append else os.O_TRUNC)
    opened = [os.open(streams[0], os.O_RDONLY), *(os.open(stream, new, 0o644) for stream in streams[1:])]
    for number, file in enumerate(opened):
        os.dup2(file, number)
        os.close(file)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    first = folder if words[0] == "-m" else str(Path(words[0]).parent)
    named = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:] = [first, *named, *sys.path[1:]]
    importlib.invalidate_caches()
    sys.modules.pop("sitecustomize", None)
    with suppress(ImportError):  # as Python does as it starts
        importlib.import_module("sitecustomize")
    random.seed()
    np.random.seed()  # noqa: NPY002
    return words


def run(words: list[str]) -> None:
    """Run a module, `-m NAME WORD...`, or a file, as the main program."""
    is_module = words[0] == "-m"
    sys.argv[:] = words[1:] if is_module else words
    if is_module:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    import_all(attacks, data, defences, membership, tasks)
    gc.freeze()  # a fork's collections of garbage leave these pages shared
    if program := serve():
        atexit.register(gc.unfreeze)
        run(program)
