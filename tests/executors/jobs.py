"""Tasks that other processes run; they are known there by their names."""

import logging
import os
import signal
import sys
import time
from pathlib import Path

import torch

from seg_mia.errors import InputError


def add(first: int, second: int) -> int:
    return first + second


def process() -> int:
    return os.getpid()


def threads() -> int:
    return torch.get_num_threads()


def printed() -> None:
    sys.stdout.write("a line of Python's\n")
    os.write(1, b"a line of a library's\n")
    sys.stderr.write("a line of an error\n")


def logged() -> None:
    logging.getLogger("seg_mia.tasks").warning("this victim has no split")


def refused() -> None:
    raise InputError("members must be 4 or fewer, got 5; lower data.members")


def broken() -> None:
    raise KeyError("no check foresees this")


def killed(times: int, folder: Path) -> int:
    """Die as often, then return how often."""
    count = len(list(folder.glob("death_*")))
    if count < times:
        (folder / f"death_{count}").touch()
        sys.stdout.write(f"death {count}\n")
        sys.stdout.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    return count


def endless(file: Path) -> None:
    """Write this process's id, and stay."""
    partial = file.with_suffix(".partial")
    partial.write_text(str(os.getpid()))
    partial.rename(file)
    time.sleep(600)


def slow(number: int, folder: Path) -> int:
    """Leave a trace of each begin, take a moment, return the number."""
    begun = len(list(folder.glob(f"begin_{number}_*")))
    partial = folder / f"partial_{number}_{begun}"
    partial.write_text(str(os.getpid()))
    partial.rename(folder / f"begin_{number}_{begun}")
    time.sleep(3)
    return number
