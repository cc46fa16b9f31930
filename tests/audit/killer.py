"""Runs an audit until it ends by itself, killed each time as the next mode says: killer.py MODES WORD..."""

import json
import os
import resource
import signal
import sys
from collections.abc import Callable
from typing import Any

from matplotlib.figure import Figure

import seg_mia.audit.run  # so that each child begins with everything imported
import seg_mia.experiment.lightning_cli
from seg_mia.attacks import sanity
from seg_mia.audit import stage_cache, stage_key
from seg_mia.cli import main
from seg_mia.experiment import recipe
from seg_mia.results import files as tables
from seg_mia.tasks.segmentation import Segmentation

assert seg_mia.audit.run
assert seg_mia.experiment.lightning_cli
# No picture is looked at: a third of the time of an attack, and most of that of an audit from the cache.
Figure.draw = lambda *_: None  # type: ignore[method-assign]
Figure.get_tightbbox = lambda figure, *_, **__: figure.bbox_inches  # type: ignore[method-assign]
sanity.STEPS, sanity.QUERIES = 1, 2  # what checks of gradients find is not looked at either
stage_key._tool()  # and with the digest of the code, which is computed once per process


def kill() -> None:
    """End this process as a power cut would."""
    os.kill(os.getpid(), signal.SIGKILL)


def counted(function: Callable[..., Any], nth: int, *, before: bool) -> Callable[..., Any]:
    """Return the function, which kills the process at its nth call, before or after its work."""
    calls = 0

    def patched(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == nth and before:
            kill()
        result = function(*args, **kwargs)
        if calls == nth:
            kill()
        return result

    return patched


def arm(mode: str) -> None:
    """Patch what the mode names: record:N, record-before:N, table:N, step:N, finish:N, disk:BYTES."""
    name, _, number = mode.partition(":")
    match name:
        case "record":
            owner: Any = stage_cache.StageCache
            owner._write = counted(owner._write, int(number), before=False)
        case "record-before":
            owner = stage_cache.StageCache
            owner._write = counted(owner._write, int(number), before=True)
        case "table":
            patched = counted(tables.write_text, int(number), before=False)
            tables.write_text = patched
        case "step":
            owner = Segmentation
            owner.training_step = counted(owner.training_step, int(number), before=True)
        case "finish":  # between the parts of a fleet's network's end
            owner = recipe
            owner.drop_optimiser = counted(owner.drop_optimiser, int(number), before=False)
        case "disk":  # no file may grow beyond so many bytes, as if the disk were full
            resource.setrlimit(resource.RLIMIT_FSIZE, (int(number), int(number)))
        case _:
            raise ValueError(mode)


def run(mode: str, words: list[str]) -> int:
    """Run an audit in a child; return its exit code, or minus the signal that ended it."""
    child = os.fork()
    if child == 0:
        if mode:
            arm(mode)
        os._exit(main(words))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    modes, words = sys.argv[1].split(","), sys.argv[2:]
    ends = list[int]()
    while modes and 0 not in ends:
        ends.append(run(modes.pop(0), words))
    sys.stdout.write(f"ENDS {json.dumps(ends)}\n")
