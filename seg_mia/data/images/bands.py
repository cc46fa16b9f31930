"""TIFF files of any number of bands; the only module that imports tifffile."""

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from seg_mia.data.images.headers import refuse_tables
from seg_mia.data.images.opening import check_size
from seg_mia.errors import InputError, reason_of

SUFFIXES: Final = frozenset({".tif", ".tiff"})
_KINDS: Final = frozenset({"u1", "u2", "i1", "i2", "u4", "i4", "f2", "f4", "f8"})
_GREY, _RGB = 1, 2  # PhotometricInterpretation
_PLAIN, _PLANES = 1, 2  # Compression, PlanarConfiguration
_ORIENTATION = 274
_RATIOS: Final = frozenset({5, 10})
_UNREADABLE = (
    OSError,
    ValueError,  # tifffile's own errors are of it
    KeyError,  # a compression that needs imagecodecs
    IndexError,
    TypeError,
    AttributeError,
    RuntimeError,
    OverflowError,
    MemoryError,
    ZeroDivisionError,
    struct.error,
    zlib.error,
)


def read_bands(path: Path, count: int) -> NDArray[Any]:
    """Read a TIFF file of several bands as stored, (H, W, bands).

    Bands are the samples of one page, interleaved or in planes, or pages of one sample each.

    Args:
        path: file of whole numbers of 8, 16 or 32 bits, or of floats.
        count: bands that it must have.

    Raises:
        InputError: another kind of file, number of bands, or meaning of values; a truncated file.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(
            f"{path} must be a TIFF file to hold {count} channels, got {path.suffix or 'no ending'}; convert "
            "it, or give a grey file for each channel (channel_endings)"
        )
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            pages: list[Any] = list(file.pages)
            for page in pages:
                _check(page, path, file.filehandle.size)
            _check_count([page.samplesperpixel for page in pages], path, count)
            parts = [_channels_last(page.asarray(), page.axes, path) for page in pages]
    except InputError:
        raise
    except _UNREADABLE as error:
        raise InputError(
            f"{path} cannot be read as TIFF ({reason_of(error, 150)}); copy it again, or save it uncompressed"
        ) from None
    kinds = {(part.shape[:2], part.dtype) for part in parts}
    if len(kinds) != 1:
        raise InputError(
            f"{path} must hold bands of one size and type, got {len(parts)} pages of "
            f"{', '.join(sorted({'x'.join(map(str, part.shape)) for part in parts})[:4])}; save one image"
        )
    bands: NDArray[Any] = np.concatenate(parts, axis=2)
    if bands.dtype.str[1:] not in _KINDS:
        raise InputError(f"{path} must hold numbers of 8 to 32 bits or floats, got {bands.dtype}; convert it")
    return bands.astype(bands.dtype.newbyteorder("="))


def _check_count(samples: Sequence[int], path: Path, count: int) -> None:
    """Refuse another number of bands, before any is decoded."""
    if len(samples) > 1 and max(samples) > 1:
        raise InputError(
            f"{path} must hold one image, got {len(samples)} pages of {max(samples)} samples; save one image"
        )
    if sum(samples) != count:
        raise InputError(
            f"{path} must have {count} bands, as channels says, got {sum(samples)}; correct channels, or the "
            "file"
        )


def _check(page: Any, path: Path, size: int) -> None:
    """Refuse a page of too many pixels, whose values mean something else, that is turned, or not whole."""
    check_size(page.imagelength, page.imagewidth, path)
    photometric, bits = int(page.photometric), page.bitspersample
    bits = {bits} if isinstance(bits, int) else set(bits)
    if photometric not in (_GREY, _RGB) or not bits <= {8, 16, 32, 64}:
        raise InputError(
            f"{path} must hold bands with 0 as black (PhotometricInterpretation 1 or 2) of 8 bits or more, "
            f"got {photometric} with {'/'.join(map(str, sorted(bits)))} bits; convert it"
        )
    tags = {tag.code: _plain(tag) for tag in page.tags}
    if tags.get(_ORIENTATION, 1) != 1:
        raise InputError(f"{path} must be upright, got Orientation {tags[_ORIENTATION]}; turn its pixels")
    if any(page.extrasamples):
        raise InputError(
            f"{path} must hold bands, got an alpha channel (ExtraSamples {max(page.extrasamples)}); remove "
            "it, or state 0 (unspecified) if it is a band"
        )
    refuse_tables(tags, path)
    ends = [offset + count for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True)]
    whole = bool(ends) and len(ends) == _segments(page) and min(page.databytecounts) > 0 and max(ends) <= size
    if not whole or (page.compression == _PLAIN and sum(page.databytecounts) < page.nbytes):
        raise InputError(f"{path} must be a whole TIFF file, got a truncated one; copy it again")


def _plain(tag: Any) -> Any:
    """Return the value of a field, ratios as numbers."""
    value = tuple(tag.value.tolist()) if isinstance(tag.value, np.ndarray) else tag.value
    if int(tag.dtype) not in _RATIOS or len(value) == 2:
        return value
    return tuple(above / below for above, below in zip(value[::2], value[1::2], strict=True))


def _segments(page: Any) -> int:
    """Return the number of strips or tiles that a page needs; readers take missing ones as 0."""
    down, right = page.rowsperstrip, page.imagewidth
    if page.is_tiled:
        down, right = page.tilelength, page.tilewidth
    planes = page.samplesperpixel if page.planarconfig == _PLANES else 1
    return int(-(-page.imagelength // down) * -(-page.imagewidth // right) * planes)


def _channels_last(values: NDArray[Any], axes: str, path: Path) -> NDArray[Any]:
    match axes if values.ndim == len(axes) and values.size else "none":
        case "YX":
            return values[..., None]
        case "YXS":
            return values
        case "SYX":
            return np.moveaxis(values, 0, -1)
        case _:
            raise InputError(f"{path} must hold one image of rows and columns, got axes {axes}; save it so")
