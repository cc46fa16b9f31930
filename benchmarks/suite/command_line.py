"""Time of commands of a few seconds, which have no baseline but a limit."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.suite.data import volumes, write_volumes
from benchmarks.suite.pairs import Figure
from benchmarks.suite.sizes import Sizes

LIMITS: dict[tuple[str, ...], float] = {
    ("--help",): 0.3,
    ("fit", "--config", "phantom_victim.yaml", "--help"): 4.0,
}
"""Seconds that a command may take."""
FIRST_BATCH = 10.0
"""Seconds from a command to the end of its first training step, with decoded samples in the cache."""
STOP = """
import os
from lightning.pytorch import Callback

class Stop(Callback):
    def on_train_batch_end(self, *_):
        os._exit(0)
"""
"""A callback that ends the process after the first training step."""


def figures(sizes: Sizes, repeats: int) -> Iterator[Figure]:
    """Yield the time of each command, in processes of their own."""
    for words, limit in LIMITS.items():
        yield _measured(" ".join(words), limit, lambda words=words: _run(words), repeats)  # type: ignore[misc]
    with tempfile.TemporaryDirectory() as folder:
        root, cache = Path(folder) / "volumes", Path(folder) / "cache"
        write_volumes(root, sizes)
        volumes(root, cache, sizes).setup()
        (Path(folder) / "first_batch.py").write_text(STOP, encoding="utf-8")
        members = sizes.slices // 5
        words = (
            "fit", "--config", "nifti_victim.yaml", f"--data.root={root}", f"--data.cache={cache}",
            f"--data.size={sizes.side}", "--data.organs=null", f"--data.members={members}",
            f"--data.nonmembers={members}", "--data.width=200", f"--runs={folder}/runs",
            "--trainer.callbacks=first_batch.Stop", "--trainer.num_sanity_val_steps=2",
        )  # fmt: skip
        name = f"fit, first batch of {sizes.slices} cached slices"
        yield _measured(name, FIRST_BATCH, lambda: _run(words, path=folder), repeats)


def _measured(name: str, limit: float, work: Callable[[], None], repeats: int) -> Figure:
    if repeats > 1:  # a single run says nothing of speed
        work()  # reads files from the disk
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return Figure(name, "s", times, limit)


def _run(words: tuple[str, ...], path: str | None = None) -> None:
    """Run a command; raise CalledProcessError with its errors if it fails."""
    paths = [path, os.environ.get("PYTHONPATH", "")] if path else []
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))} if paths else None
    done = subprocess.run(
        [sys.executable, "-m", "seg_mia", *words],
        check=False,
        capture_output=True,
        text=True,
        env=environment,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)} failed: {done.stderr[-2000:]}")
