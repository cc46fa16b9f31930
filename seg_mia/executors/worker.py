"""Process of the local executor: reads tasks from its standard input, runs them, writes their outcomes.

It ends as soon as its input is closed, also in the midst of a task: no process outlives the one that started
it.
"""

import os
import pickle
import queue
import signal
import sys
import threading
from typing import BinaryIO

from seg_mia.executors.frames import read_frame, write_frame
from seg_mia.heap import keep_freed_memory, return_freed_memory


def main() -> None:
    """Run tasks until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started this one decides
    results = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what is printed must not come between the outcomes
    tasks = queue.SimpleQueue[bytes]()
    threading.Thread(target=_receive, args=(sys.stdin.buffer, tasks), daemon=True).start()
    from seg_mia.config.on_demand import defer

    defer()
    from seg_mia.executors.task import run

    keep_freed_memory()
    while True:
        task = pickle.loads(tasks.get())  # noqa: S301  # of the process that started this one
        write_frame(results, pickle.dumps(run(task)))
        return_freed_memory()


def _receive(stream: BinaryIO, tasks: "queue.SimpleQueue[bytes]") -> None:
    """Queue the tasks of a stream; end the process with it."""
    try:
        while True:
            tasks.put(read_frame(stream))
    except (EOFError, OSError):
        os._exit(0)


if __name__ == "__main__":
    main()
