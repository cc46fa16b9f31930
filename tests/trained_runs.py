"""Trainings whose outcome several tests need: run once in a session, copied into each test's folder."""

import hashlib
import os
import shutil
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

from filelock import FileLock

from seg_mia.cli import main

Trained = Callable[..., Path]
NOT_READ = {"runs", "cache", "__pycache__"}
"""Folders of a test that a training writes into and takes nothing from."""


class TrainedRuns:
    """Runs of `fit`, known by their arguments and by every file that the test had written before.

    Args:
        store: a folder for the copies, shared by the processes of one session.
    """

    def __init__(self, store: Path) -> None:
        self.store = store

    def fit(self, test_folder: Path, arguments: list[str]) -> Path:
        """Return the folder of a new run, trained now or copied from the same training of another test.

        A copy is as new as if it had been trained now: what is sought by age is found in the same order.
        """
        words = [word.replace(str(test_folder), "") for word in arguments]
        copies = self.store / digest(test_folder, words)
        with FileLock(copies.with_suffix(".lock")):
            if not copies.is_dir():
                return self._train(arguments, copies)
        (copy,) = copies.glob("runs/*/version_*")
        name = copy.relative_to(copies).parent
        run = next(
            name / f"version_{number}" for number in count() if not (name / f"version_{number}").exists()
        )
        shutil.copytree(copy, run)
        now = time.time_ns()
        os.utime(run / "checkpoints" / "last.ckpt", ns=(now, now))
        return run

    def _train(self, arguments: list[str], copies: Path) -> Path:
        before = folders_of_runs()
        assert main(["fit", *arguments]) == 0
        (run,) = folders_of_runs() - before
        partial = copies.with_suffix(".partial")
        shutil.copytree(run, partial / run, dirs_exist_ok=True)
        partial.rename(copies)
        return run


def folders_of_runs() -> set[Path]:
    return set(Path().glob("runs/*/version_*"))


def digest(folder: Path, words: list[str]) -> str:
    """Return a name for some arguments and for all the files of a test's folder."""
    hashed = hashlib.sha256(repr(words).encode())
    for file in sorted(folder.rglob("*")):
        name = file.relative_to(folder)
        if file.is_file() and not NOT_READ & set(name.parts):
            hashed.update(repr((name.as_posix(), file.stat().st_size)).encode() + file.read_bytes())
    return hashed.hexdigest()
