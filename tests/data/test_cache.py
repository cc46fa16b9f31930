import multiprocessing
import os
import pickle
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seg_mia.data import cache
from seg_mia.data.cache import Cached, default_folder, open_cache
from seg_mia.data.fingerprint import fingerprint
from seg_mia.data.source import Image, Mask, Source
from seg_mia.errors import InputError


class Numbers(Source):
    """Samples whose pixels all hold their index, and which count how often they are decoded."""

    classes = 2

    def __init__(
        self,
        count: int = 5,
        *,
        change: Callable[[int, Image, Mask], tuple[Any, Any]] | None = None,
        **settings: int,
    ) -> None:
        self.ids = self.groups = tuple(f"s{i:03d}" for i in range(count))
        self.channels = 3
        self.given, self.change = settings, change
        self.decoded = 0
        self.salt = ""
        self.lock = threading.Lock()

    def digest(self, index: int) -> str:
        return f"{self.salt}{index}"

    def decode(self, index: int) -> tuple[Image, Mask]:
        with self.lock:
            self.decoded += 1
        image, mask = np.full((4, 6, 3), index, np.uint8), np.full((4, 6), index % 2, np.uint8)
        return (image, mask) if self.change is None else self.change(index, image, mask)

    @property
    def settings(self) -> Mapping[str, int]:
        return self.given


@pytest.fixture
def store(tmp_path: Path) -> Path:
    folder = tmp_path / "store"
    folder.mkdir()
    return folder


def levels(cached: Cached) -> list[float]:
    assert (cached.images.min(axis=(1, 2, 3)) == cached.images.max(axis=(1, 2, 3))).all()
    return [float(image[0, 0, 0]) for image in cached.images]


def entries(store: Path) -> list[str]:
    return sorted(path.name for path in store.iterdir())


def test_samples_come_back_in_order_and_are_decoded_once(store: Path) -> None:
    source = Numbers(40)
    calls = list[tuple[int, int]]()
    first = open_cache(source, store / "new", progress=lambda *done: calls.append(done))
    again = open_cache(source, store / "new", progress=lambda *done: calls.append(done))
    assert source.decoded == 40
    assert calls == [(i + 1, 40) for i in range(40)]
    for cached in (first, again):
        assert (cached.images.dtype, cached.images.shape) == (np.dtype(np.uint8), (40, 4, 6, 3))
        assert (cached.masks.dtype, cached.masks.shape) == (np.dtype(np.uint8), (40, 4, 6))
        assert levels(cached) == list(range(40))
        assert cached.masks[:, 0, 0].tolist() == [0, 1] * 20
        assert cached.fingerprint == fingerprint(source)
    assert entries(store / "new") == [first.folder.name]


def test_the_arrays_are_mapped_and_read_only(store: Path) -> None:
    cached = open_cache(Numbers(), store)
    for array in (cached.images, cached.masks):
        assert isinstance(array, np.memmap)
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


def test_a_pickle_holds_the_path_and_not_the_pixels(store: Path) -> None:
    cached = open_cache(Numbers(200), store)
    sent = pickle.dumps(cached)
    assert len(sent) < 1000
    copy = pickle.loads(sent)  # noqa: S301  # its own pickle
    assert isinstance(copy.images, np.memmap)
    assert levels(copy) == levels(cached)
    assert copy.fingerprint == cached.fingerprint


def test_anything_that_decides_pixels_makes_another_cache(store: Path) -> None:
    sources = [Numbers() for _ in range(6)]
    sources[1].ids = sources[1].ids[::-1]
    sources[2].groups = ("one",) * 5
    sources[3].salt = "x"
    sources[4].given = {"size": 4}
    sources[5].classes = 3
    folders = {open_cache(source, store).folder for source in [*sources, Numbers()]}
    assert len(folders) == 6


@pytest.mark.parametrize("floats", [{0}, {4}, {0, 1, 2, 3, 4}])
def test_one_float_sample_makes_all_floats(store: Path, floats: set[int]) -> None:
    def change(index: int, image: Image, mask: Mask) -> tuple[Image, Mask]:
        return (image.astype(np.float32) / np.float32(10) if index in floats else image), mask

    cached = open_cache(Numbers(change=change), store)
    assert cached.images.dtype == np.float32
    assert np.allclose(levels(cached), [i / (10 if i in floats else 255) for i in range(5)])
    assert entries(store) == [cached.folder.name]


def in_third(part: Callable[[Image, Mask], tuple[Any, Any]]) -> Callable[[int, Image, Mask], tuple[Any, Any]]:
    return lambda index, image, mask: part(image, mask) if index == 2 else (image, mask)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (
            lambda x, y: (x[:3], y),
            r"images .* got \(3, 6, 3\) for 's002' and \(4, 6, 3\) for 's000'; set size",
        ),
        (lambda x, y: (x, y[:3]), r"masks must have one shape, got \(3, 6\) for 's002' .*; set size"),
        (lambda x, y: (x[..., :1], y), r"'s002' must be uint8 or float32 \(H, W, 3\), got uint8 \(4, 6, 1\)"),
        (lambda x, y: (x[0], y), r"'s002' must be .*, got uint8 \(6, 3\)"),
        (lambda x, y: (x.astype(np.float64), y), "'s002' must be .*, got float64"),
        (lambda x, y: (x, y.astype(np.int64)), r"mask of 's002' must be uint8 \(h, w\), got int64 \(4, 6\)"),
        (lambda x, y: (x, y[..., None]), r"mask of 's002' must be uint8 \(h, w\), got uint8 \(4, 6, 1\)"),
        (lambda x, y: (x * np.float32(np.nan), y), r"'s002' must hold floats in \[0, 1\], got \[nan, nan\]"),
        (lambda x, y: (x + np.float32(-3), y), r"'s002' must hold .*, got \[-1, -1\]; rescale"),
        (lambda x, y: (x * np.float32(np.inf), y), r"'s002' must hold .*, got \[inf, inf\]; rescale"),
    ],
)
def test_samples_outside_the_contract_are_refused_and_leave_nothing(
    store: Path, part: Callable[[Image, Mask], tuple[Any, Any]], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        open_cache(Numbers(change=in_third(part)), store)
    assert entries(store) == []


def test_no_samples_are_refused(store: Path) -> None:
    with pytest.raises(InputError, match="must have samples, got none; check"):
        open_cache(Numbers(0), store)


@pytest.mark.parametrize("error", [InputError("a.png must be whole"), OSError("gone"), KeyboardInterrupt()])
def test_what_decoding_raises_comes_through_and_leaves_nothing(store: Path, error: BaseException) -> None:
    def fail(*_: Any) -> tuple[Image, Mask]:
        raise error

    with pytest.raises(type(error)) as raised:
        open_cache(Numbers(change=in_third(fail)), store)
    assert raised.value is error
    assert entries(store) == []


def test_memory_stays_bounded_while_decoding(store: Path) -> None:
    source = Numbers(200)
    ahead = list[int]()
    open_cache(source, store, progress=lambda *done: ahead.append(source.decoded - done[0]))
    assert max(ahead) <= 3 * cache._THREADS


@pytest.mark.parametrize("at_once", [None, 5])
def test_the_bytes_of_waiting_samples_are_limited_too(
    store: Path, monkeypatch: pytest.MonkeyPatch, at_once: int | None
) -> None:
    monkeypatch.setattr(cache, "_AHEAD", 100)  # less than a sample
    monkeypatch.setattr(cache, "_THREADS", 4)
    source = Numbers(30)
    source.decoded_at_once = at_once
    ahead = list[int]()
    open_cache(source, store, progress=lambda *done: ahead.append(source.decoded - done[0]))
    assert max(ahead) <= 1


@pytest.mark.parametrize(
    "damage",
    [
        lambda place: (place / "images.npy").unlink(),
        lambda place: (place / "masks.npy").unlink(),
        lambda place: os.truncate(place / "images.npy", 400),
        lambda place: os.truncate(place / "masks.npy", 130),
        lambda place: os.truncate(place / "masks.npy", 0),
        lambda place: (place / "masks.npy").write_bytes(b"no array of any kind"),
        lambda place: np.save(place / "images.npy", np.zeros((5, 4, 6, 1), np.uint8)),
        lambda place: np.save(place / "images.npy", np.zeros((5, 4, 6, 3), np.float64)),
        lambda place: np.save(place / "images.npy", np.zeros((), np.uint8)),
        lambda place: np.save(place / "masks.npy", np.zeros((4, 4, 6), np.uint8)),
        lambda place: np.save(place / "masks.npy", np.zeros((5, 4, 6), np.int64)),
    ],
)
def test_a_damaged_cache_is_built_again(store: Path, damage: Callable[[Path], object]) -> None:
    source = Numbers()
    place = open_cache(source, store).folder
    damage(place)
    cached = open_cache(source, store)
    assert (levels(cached), source.decoded) == ([0, 1, 2, 3, 4], 10)
    assert entries(store) == [place.name]


def test_a_place_that_others_keep_damaging_is_given_up(store: Path) -> None:
    source = Numbers()
    place = open_cache(source, store).folder

    def damage(*_: int) -> None:
        place.mkdir(exist_ok=True)
        (place / "images.npy").write_bytes(b"")

    (place / "masks.npy").unlink()
    with pytest.raises(InputError, match=r"must stay unchanged, .*; use another folder"):
        open_cache(source, store, progress=damage)


def test_only_partial_folders_a_day_old_are_removed(store: Path) -> None:
    key = "0" * 64
    old, fresh, other = (f"{key}.partial-1-0000000a", f"{key}.partial-1-0000000b", "mine.partial-1-0000000a")
    for name in (old, fresh, other):
        (store / name).mkdir()
        (store / name / "images.npy").write_bytes(b"")
    for path in (store / old / "images.npy", store / old, store / other, store / fresh):
        os.utime(path, (0, time.time() - 90_000))  # a file in the fresh one was written since
    cached = open_cache(Numbers(), store)
    assert entries(store) == sorted([cached.folder.name, fresh, other])


def test_a_folder_that_is_a_file_is_refused(store: Path) -> None:
    (store / "file").write_bytes(b"")
    for folder in (store / "file", store / "file" / "below"):
        with pytest.raises(
            InputError, match=r"cache folder .*file.* must be writable .*; free space or set SEG_MIA_CACHE to"
        ):
            open_cache(Numbers(), folder)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_the_right_to_write_is_refused(store: Path) -> None:
    store.chmod(0o500)
    with pytest.raises(InputError, match=r"must be writable .* got: Permission denied; free"):
        open_cache(Numbers(), store)


def test_a_full_disk_is_one_error_and_leaves_nothing(store: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, hard))
    try:
        with pytest.raises(InputError, match=r"must be writable .* got: File too large; free space or set"):
            open_cache(Numbers(100), store)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert entries(store) == []


class ShortWrites(FileIO):
    """A file that takes seven bytes at a time, as a disk may that is nearly full."""

    def write(self, data: Any) -> int:
        return super().write(memoryview(data)[:7])


def test_writes_that_stop_short_are_carried_on(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "FileIO", ShortWrites)
    assert levels(open_cache(Numbers(), store)) == [0, 1, 2, 3, 4]


def open_levels(store: Path) -> list[float]:
    return levels(open_cache(Numbers(30), store))


@pytest.mark.parametrize("method", ["spawn", "fork"])
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")  # forking is the test
def test_processes_that_build_at_once_end_with_one_cache(store: Path, method: str) -> None:
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(3, mp_context=context) as pool:
        results = list(pool.map(open_levels, [store] * 6))
    assert results == [list(range(30))] * 6
    assert len(entries(store)) == 1


def test_who_loses_the_race_takes_the_winners_cache(store: Path) -> None:
    winner = list[Cached]()

    def overtake(*_: int) -> None:
        if not winner:
            winner.append(open_cache(Numbers(), store))

    loser = open_cache(Numbers(), store, progress=overtake)
    assert loser.folder == winner[0].folder
    assert (loser.folder / "images.npy").samefile(winner[0].folder / "images.npy")
    assert entries(store) == [loser.folder.name]


SLOW_BUILD = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_cache import Numbers, open_cache
open_cache(Numbers(), Path(sys.argv[2]), progress=lambda done, total: time.sleep(60 if done == 3 else 0))
"""


def test_a_killed_build_does_no_harm(store: Path) -> None:
    arguments = [sys.executable, "-c", SLOW_BUILD, str(Path(__file__).parent), str(store)]
    with subprocess.Popen(arguments) as build:
        deadline = time.monotonic() + 20
        while not any(path.stat().st_size > 300 for path in store.glob("*/images.npy")):
            assert build.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        build.send_signal(signal.SIGKILL)
    (partial,) = entries(store)
    assert ".partial-" in partial
    cached = open_cache(Numbers(), store)
    assert levels(cached) == [0, 1, 2, 3, 4]
    assert entries(store) == sorted([partial, cached.folder.name])


@pytest.mark.parametrize(
    ("variables", "want"),
    [
        ({"SEG_MIA_CACHE": "/here", "XDG_CACHE_HOME": "/xdg"}, "/here"),
        ({"SEG_MIA_CACHE": "~/there"}, "/home/me/there"),
        ({"XDG_CACHE_HOME": "/xdg"}, "/xdg/seg_mia"),
        ({"XDG_CACHE_HOME": "relative"}, "/home/me/.cache/seg_mia"),
        ({"SEG_MIA_CACHE": "", "XDG_CACHE_HOME": ""}, "/home/me/.cache/seg_mia"),
        ({}, "/home/me/.cache/seg_mia"),
    ],
)
def test_the_default_folder(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], want: str) -> None:
    for name in ("SEG_MIA_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": "/home/me", **variables}.items():
        monkeypatch.setenv(name, value)
    assert default_folder() == Path(want)
