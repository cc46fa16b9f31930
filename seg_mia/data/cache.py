"""Decoded samples, stored on disk as two arrays shared by processes."""

import hashlib
import json
import os
import re
import secrets
import shutil
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from io import BytesIO, FileIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from seg_mia.data.digests import persistent_digests
from seg_mia.data.fingerprint import fingerprint
from seg_mia.data.source import Image, Mask, Source
from seg_mia.errors import InputError

Progress = Callable[[int, int], None]

_FORMAT = 2  # raise it when equal files and settings decode to other pixels than before
_PARTIAL = re.compile(r"[0-9a-f]{64}\.partial-\d+-[0-9a-f]{8}")
_DAY = 86400.0
_THREADS = min(8, os.cpu_count() or 1)
_AHEAD = 2**28
"""Bytes of decoded samples that may wait to be written, at most, unless it is one sample."""
_TRIES = 5  # builds, should other processes keep replacing the folder


@dataclass(frozen=True, eq=False)
class Cached:
    """All samples of a source, read-only and memory-mapped; pickled by path, not by content.

    Attributes:
        folder: folder of the arrays.
        fingerprint: see `seg_mia.data.fingerprint.fingerprint`.
        images: (n, *S, C), uint8 or float32 in [0, 1]; S is (H, W), or (D, H, W) of volumes.
        masks: (n, *s), uint8 class ids.
    """

    folder: Path
    fingerprint: str
    images: NDArray[np.uint8] | NDArray[np.float32]
    masks: NDArray[np.uint8]

    def __reduce__(self) -> tuple[Any, ...]:
        return _load, (self.folder, self.fingerprint)


class _FloatFoundError(Exception):
    """A sample is float32 in a cache begun with 8 bits."""


def default_folder() -> Path:
    """Return $SEG_MIA_CACHE, else `seg_mia` in the user's cache folder."""
    if configured := os.environ.get("SEG_MIA_CACHE"):
        return Path(configured).expanduser()
    base = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return (base if base.is_absolute() else Path.home() / ".cache") / "seg_mia"


def open_cache(source: Source, folder: Path, *, progress: Progress | None = None) -> Cached:
    """Return a source's decoded samples, decoding them if there is no cache yet.

    The cache's name is a hash of ids, groups, contents and settings. It is built in a temporary folder
    and renamed when complete, so that any number of processes may build at once and be killed at any moment.
    Images are float32 if any of them is, else uint8.

    Args:
        source: samples to decode, on several threads.
        folder: folder of all caches, created if missing.
        progress: called after each sample with the numbers of decoded and all samples; may restart once.

    Raises:
        InputError: if there are no samples, their shapes differ, a sample is outside the contract of
            `Source.decode`, or the folder cannot be written.
    """
    if not len(source):
        raise InputError("a data set must have samples, got none; check its folder")
    with persistent_digests(folder / "digests.json"):
        contents = fingerprint(source)
    path = folder / _key(source, contents)
    for _ in range(_TRIES):
        with writing(folder):
            if path.is_dir():
                try:
                    return _checked(_load(path, contents), source)
                except (FileNotFoundError, ValueError, EOFError):
                    _move_aside(path)
        _build(source, path, progress)
    raise InputError(
        f"{path} must stay unchanged, but was changed repeatedly by another program; use another folder"
    )


def _key(source: Source, contents: str) -> str:
    plain = [_FORMAT, contents, source.ids, source.channels, source.classes, sorted(source.settings.items())]
    return hashlib.sha256(json.dumps(plain).encode()).hexdigest()


def _load(path: Path, contents: str) -> Cached:
    arrays = [np.load(path / name, mmap_mode="r", allow_pickle=False) for name in ("images.npy", "masks.npy")]
    return Cached(path, contents, *arrays)


def _checked(cached: Cached, source: Source) -> Cached:
    """Raise ValueError unless the arrays have the dimensions and types that a build gives them."""
    images, masks, count = cached.images, cached.masks, len(source)
    whole_images = images.ndim in (4, 5) and (images.shape[0], images.shape[-1]) == (count, source.channels)
    whole_masks = masks.ndim == images.ndim - 1 and len(masks) == count and masks.dtype == np.uint8
    if not (whole_images and whole_masks and images.dtype in (np.uint8, np.float32)):
        raise ValueError("damaged")
    return cached


def _move_aside(path: Path) -> None:
    """Remove a damaged cache, after a rename, so that no process reads part of it."""
    aside = _partial(path)
    try:
        path.rename(aside)
    except FileNotFoundError:  # another process was faster
        return
    shutil.rmtree(aside, ignore_errors=True)


def _partial(path: Path) -> Path:
    return path.with_name(f"{path.name}.partial-{os.getpid()}-{secrets.token_hex(4)}")


def _build(source: Source, path: Path, progress: Progress | None) -> None:
    """Decode everything into a partial folder and rename it into place, unless another process just did."""
    partial = _partial(path)
    try:
        with writing(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            _remove_old_partials(path.parent)
            partial.mkdir()
        try:
            _write(source, partial, np.uint8, progress)
        except _FloatFoundError:
            _write(source, partial, np.float32, progress)
        with writing(path.parent):
            _rename(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _rename(partial: Path, path: Path) -> None:
    try:
        partial.rename(path)
    except OSError:
        if not path.is_dir():
            raise


def _write(source: Source, partial: Path, dtype: DTypeLike, progress: Progress | None) -> None:
    """Write both arrays sample by sample.

    Not through a memory map, where a full disk kills the process instead of raising an error.
    """
    with ExitStack() as stack:
        files = list[FileIO]()
        shapes = list[tuple[int, ...]]()
        samples = stack.enter_context(closing(_decoded(source)))
        for index, (image, mask) in enumerate(samples):
            _check(image, mask, source, index)
            pixels = _as(image, dtype)
            if not files:
                shapes = [pixels.shape, mask.shape]
                with writing(partial.parent):
                    files = [
                        stack.enter_context(_started(partial / "images.npy", pixels, len(source))),
                        stack.enter_context(_started(partial / "masks.npy", mask, len(source))),
                    ]
            _check_shapes(source, index, [pixels.shape, mask.shape], shapes)
            with writing(partial.parent):
                for file, array in zip(files, (pixels, mask), strict=True):
                    _put(file, np.ascontiguousarray(array).data)
            if progress is not None:
                progress(index + 1, len(source))
        with writing(partial.parent):
            for file in files:
                os.fsync(file.fileno())


def _started(path: Path, first: NDArray[Any], count: int) -> FileIO:
    """Open an .npy file and write the header for `count` arrays like the first."""
    header = BytesIO()
    kind = {"descr": np.lib.format.dtype_to_descr(first.dtype), "fortran_order": False}
    np.lib.format.write_array_header_1_0(header, {**kind, "shape": (count, *first.shape)})
    file = FileIO(path, "w")
    _put(file, header.getbuffer())
    return file


def _put(file: FileIO, data: memoryview) -> None:
    """Write all bytes; a single write may be incomplete without an error."""
    remaining = data.cast("B")
    while remaining:
        remaining = remaining[file.write(remaining) :]


def _decoded(source: Source) -> Generator[tuple[Image, Mask], None, None]:
    """Decode in order, on several threads that run no more than a few samples ahead."""
    threads = (
        _THREADS if source.decoded_at_once is None else min(_THREADS, max(source.decoded_at_once - 1, 1))
    )
    try:
        first = source.decode(0)
        most = 2 * threads if source.decoded_at_once is None else threads - 1
        most = min(most, _AHEAD // sum(array.nbytes for array in first))
        yield first
        del first
        with ThreadPoolExecutor(threads) as pool:
            ahead = deque[Future[tuple[Image, Mask]]]()
            for index in range(1, len(source)):
                ahead.append(pool.submit(source.decode, index))
                if len(ahead) > most:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
    finally:
        source.release()


def _as(image: Image, dtype: DTypeLike) -> Image:
    if image.dtype == dtype:
        return image
    if dtype == np.uint8:
        raise _FloatFoundError
    return image.astype(np.float32) / np.float32(255)


def _check(image: Image, mask: Mask, source: Source, index: int) -> None:
    """Raise InputError for a sample outside the contract of `Source.decode`."""
    name = source.ids[index]
    known = image.dtype in (np.uint8, np.float32) and image.ndim in (3, 4)
    if not known or image.shape[-1] != source.channels:
        raise InputError(
            f"sample {name!r} must be uint8 or float32 {'(D, H, W' if image.ndim == 4 else '(H, W'}, "
            f"{source.channels}), got {image.dtype} {image.shape}; correct its source"
        )
    if mask.dtype != np.uint8 or mask.ndim != image.ndim - 1:
        raise InputError(
            f"mask of {name!r} must be uint8 {'(h, w)' if image.ndim == 3 else '(d, h, w)'}, "
            f"got {mask.dtype} {mask.shape}; correct its source"
        )
    low, high = float(image.min()), float(image.max())
    if image.dtype == np.float32 and not (low >= 0 and high <= 1):
        raise InputError(
            f"sample {name!r} must hold floats in [0, 1], got [{low:.3g}, {high:.3g}]; rescale it"
        )


def _check_shapes(
    source: Source, index: int, got: list[tuple[int, ...]], first: list[tuple[int, ...]]
) -> None:
    for kind, shape, expected in zip(("images", "masks"), got, first, strict=True):
        if shape != expected:
            raise InputError(
                f"{kind} must have one shape, got {shape} for {source.ids[index]!r} and {expected} for "
                f"{source.ids[0]!r}; set size, where this data set has it, to bring them to one"
            )


def _remove_old_partials(folder: Path) -> None:
    """Remove the remains of builds killed a day ago or earlier."""
    for path in folder.iterdir():
        if _PARTIAL.fullmatch(path.name) and path.is_dir() and _age(path) > _DAY:
            shutil.rmtree(path, ignore_errors=True)


def _age(folder: Path) -> float:
    """Return the seconds since the last change in a folder; 0 if it has disappeared."""
    try:
        return time.time() - max(path.stat().st_mtime for path in (folder, *folder.iterdir()))
    except FileNotFoundError:
        return 0.0


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Convert disk errors to one line with path and remedy."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"cache folder {folder} must be writable and have space left, got: {error.strerror or error}; "
            "free space or set SEG_MIA_CACHE to another folder"
        ) from error
