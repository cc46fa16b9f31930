"""What opening a cached data set costs, and what the cache saves an epoch against decoding each sample again.

python benchmarks/cached_data.py
python benchmarks/cached_data.py --liver FOLDER --volumes FOLDER --organs 5

A set of PNG pairs is generated in a temporary folder, cached, and opened anew by processes of their own: in
turn by one that knows no file's digest and by one that does. Memory is what `setup` and one batch add: to the
greatest size of the process, pages of the mapped arrays included, and to what Python and NumPy allocate, each
found in one more process, which opened a set of ten before: what libraries load once is no part of it.

An epoch is every sample once in a shuffled order, without a network: from the data module's training loader,
and from one that decodes each sample from its files. The two are timed in turn, pair by pair. Volumes are
copied, so that a shuffled epoch goes from one to another as it does with many patients. Time is the
processor's, which other work on the machine does not add to; on an idle one the clock's is the same.
"""

import argparse
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from seg_mia.data.base import SegmentationData
from seg_mia.data.samples import Batch, EpochSampler
from seg_mia.data.sets.folder import Folder
from seg_mia.data.sets.nifti import Nifti

MEGABYTE = 2**20


def generate(root: Path, count: int, size: int) -> None:
    """Write pairs of grey images, of blocks and noise, and masks."""
    rng = np.random.default_rng(0)
    for part in ("images", "masks"):
        (root / part).mkdir(parents=True)
    for number in range(count):
        blocks = rng.normal(size=(size // 8, size // 8)).repeat(8, axis=0).repeat(8, axis=1)
        image = 128 + 30 * blocks + rng.normal(0, 6, blocks.shape)
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(root / "images" / f"s{number:05d}.png")
        Image.fromarray((blocks > 1).astype(np.uint8) * 255).save(root / "masks" / f"s{number:05d}.png")


def generated(root: Path, cache: Path, count: int) -> SegmentationData:
    """Return the data module of generated pairs."""
    half: dict[str, Any] = {"members": count * 2 // 5, "nonmembers": count // 10}
    return Folder(root=str(root), cache=str(cache), channels=1, threshold=127, **half)


def seconds(work: Callable[[], object]) -> tuple[float, float]:
    """Return how long `work` takes by the processor and by the clock."""
    begun = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - begun[0], time.perf_counter() - begun[1]


def opened(data: SegmentationData) -> Batch:
    """Return the first training batch of a data set."""
    data.setup()
    batch: Batch = next(iter(data.train_dataloader()))
    return batch


def resident() -> int:
    """Return the bytes that the process holds now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def measure(kind: str, root: Path, cache: Path, count: int) -> None:
    """Print one measurement of opening the data set, in a process that does nothing else."""
    if kind != "time":
        opened(generated(root / "ten", cache, 10))
    data = generated(root, cache, count)
    measurement: dict[str, float] = {}
    if kind == "time":
        measurement["seconds"], measurement["clock"] = seconds(lambda: opened(data))
    elif kind == "allocated":
        tracemalloc.start()
        opened(data)
        measurement["allocated"] = tracemalloc.get_traced_memory()[1]
    else:
        Path("/proc/self/clear_refs").write_text("5")  # forget the greatest size so far, of the imports
        before = resident()
        batch = opened(data)
        status = Path("/proc/self/status").read_text()
        peak = int(status.split("VmHWM:")[1].split()[0]) * 1024
        measurement["grown"] = peak - before
        measurement["batch"] = sum(part.nbytes for part in batch)
    print(json.dumps(measurement))


def in_new_process(kind: str, root: Path, cache: Path, count: int) -> dict[str, float]:
    """Return one measurement, of a new process."""
    words = [sys.executable, __file__, "--measure", kind, str(root), str(cache), "--count", str(count)]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    measurement: dict[str, float] = json.loads(done.stdout)
    return measurement


def opening(count: int, size: int, repeats: int) -> None:
    """Print what opening a generated set costs."""
    with tempfile.TemporaryDirectory() as folder:
        root, cache = Path(folder), Path(folder) / "cache"
        generate(root, count, size)
        generate(root / "ten", 10, size)
        time.sleep(3)  # a file written just now is never taken as known
        first = seconds(lambda: opened(generated(root, cache, count)))
        unknown, known = [], []
        for _ in range(repeats):
            (cache / "digests.json").unlink(missing_ok=True)
            unknown.append(in_new_process("time", root, cache, count))
            known.append(in_new_process("time", root, cache, count))
        memory = {
            **in_new_process("grown", root, cache, count),
            **in_new_process("allocated", root, cache, count),
        }
    print(f"{count} pairs of {size}x{size}, opened, one batch of {memory['batch'] / MEGABYTE:.2f} MB:")
    print("| | processor | clock |")
    print("| --- | --- | --- |")
    print(f"| decoded for the first time | {first[0]:.2f} s | {first[1]:.2f} s |")
    for name, rows in (("cached, no digest known", unknown), ("cached, digests known", known)):
        middle = [statistics.median(row[which] for row in rows) for which in ("seconds", "clock")]
        print(f"| {name} | {middle[0]:.2f} s | {middle[1]:.2f} s |")
    print(
        f"memory: the process grows by {memory['grown'] / MEGABYTE:.1f} MB at most, "
        f"{memory['allocated'] / MEGABYTE:.1f} MB allocated at most\n",
        flush=True,
    )


class Decoded(Dataset[Batch]):
    """What a data module's training samples are, decoded from their files whenever one is asked for."""

    def __init__(self, data: SegmentationData) -> None:
        self.source, self.indices = data.source, data.trained()

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, draw: tuple[int, int]) -> Batch:
        """Return the sample at (epoch, position)."""
        index = int(self.indices[draw[1]])
        image, mask = self.source.decode(index)
        scaled = torch.from_numpy(image).permute(2, 0, 1).float() / 255
        return Batch(scaled.contiguous(), torch.from_numpy(mask).long(), torch.tensor(index))


def epochs(name: str, make: Callable[[int], SegmentationData], repeats: int) -> None:
    """Print a row: an epoch from the cache and from the files, of a data module with so many members."""
    count = len(make(1).read_source())
    data = make(count)
    data.setup()
    cached = data.train_dataloader()
    samples = Decoded(data)
    files = DataLoader(samples, batch_size=data.batch_size, sampler=EpochSampler(count, shuffle=True, seed=0))
    for from_cache, from_files in zip(
        cached, files, strict=True
    ):  # the same; and both are in memory from now on
        assert all(torch.equal(*parts) for parts in zip(from_cache, from_files, strict=True))
    pairs = [(seconds(lambda: list(cached))[0], seconds(lambda: list(files))[0]) for _ in range(repeats)]
    ratios = sorted(decoded_seconds / cached_seconds for cached_seconds, decoded_seconds in pairs)
    milliseconds = [statistics.median(pair[which] for pair in pairs) / count * 1000 for which in (0, 1)]
    print(
        f"| {name} | {count} | {milliseconds[0]:.2f} ms | {milliseconds[1]:.2f} ms "
        f"| {statistics.median(ratios):.1f} ({ratios[0]:.1f} to {ratios[-1]:.1f}) |",
        flush=True,
    )


def copied(volumes: Path, folder: Path, copies: int) -> Path:
    """Return a folder with each volume and its labels as so many patients."""
    for part in ("images", "masks"):
        (folder / part).mkdir()
        for file in sorted((volumes / part).iterdir()):
            for number in range(copies):
                shutil.copyfile(file, folder / part / f"copy{number}_{file.name}")
    return folder


def main() -> None:
    """Measure and print."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--count", type=int, default=5000, help="pairs that are generated")
    parser.add_argument("--size", type=int, default=128, help="side of these, and of the decoded samples")
    parser.add_argument("--liver", help="a folder of images/NAME.png, masks/NAME.png and index.csv")
    parser.add_argument("--volumes", help="a folder of images/NAME.nii.gz and masks/NAME.nii.gz")
    parser.add_argument("--organs", type=int, nargs="+", default=[1], help="label ids in the volumes")
    parser.add_argument("--copies", type=int, default=8, help="of each volume")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)  # for the processes it starts
    given = parser.parse_args()
    if given.measure:
        kind, root, cache = given.measure
        measure(kind, Path(root), Path(cache), given.count)
        return
    print(f"{torch.get_num_threads()} threads")
    if given.count:
        opening(given.count, given.size, given.repeats)
    print("| data | samples | from the cache, each | decoded, each | ratio |")
    print("| --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as cache:
        every: dict[str, Any] = {"nonmembers": 0, "shadow_share": 0.0, "cache": cache, "size": given.size}

        def liver(members: int) -> SegmentationData:
            columns: dict[str, Any] = {
                "manifest": "index.csv",
                "image_column": "file",
                "group_column": "patient",
            }
            return Folder(root=given.liver, channels=1, threshold=127, members=members, **columns, **every)

        def volumes(members: int) -> SegmentationData:
            organs: dict[str, Any] = {"organs": [given.organs], "unlisted": "background"}
            return Nifti(root=folder, minimum=1, members=members, **organs, **every)

        if given.liver:
            epochs("PNG slices", liver, given.repeats)
        if given.volumes:
            copied(Path(given.volumes), Path(folder), given.copies)
            epochs("slices of NIfTI volumes", volumes, given.repeats)


if __name__ == "__main__":
    main()
