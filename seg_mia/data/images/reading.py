"""Strict reading of image and mask files: ambiguous or invalid files are rejected."""

import hashlib
import os
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import PngImageFile

from seg_mia.data.digests import content_digest
from seg_mia.data.images.bands import read_bands
from seg_mia.data.images.grey_values import scaled, unit
from seg_mia.data.images.headers import (
    check_header,
    forget_key,
    refuse_white_as_zero,
    unidentified,
    white_is_zero,
)
from seg_mia.data.images.opening import opened
from seg_mia.data.root import path_below, regular, unlisted
from seg_mia.data.source import Image, Mask, listed
from seg_mia.data.unknown_labels import UnknownLabelsError, counted
from seg_mia.errors import InputError
from seg_mia.metrics.labels import IGNORE

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")

_JPEG_NOISE = 16  # tolerated channel difference of a grey image stored as colour JPEG
_ORIENTATION = 0x0112
_BITS_PER_SAMPLE = 258
_UNREADABLE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    KeyError,
    IndexError,
    TypeError,
    OverflowError,
    struct.error,
    zlib.error,
    cv2.error,
    PillowImage.DecompressionBombError,
    Warning,  # warnings become errors here: Pillow only warns of damage
)

Pixels = NDArray[np.uint8] | NDArray[np.uint16] | NDArray[np.float32]


def read_image(path: Path, channels: int, value_range: tuple[float, float] | None = None) -> Image:
    """Read a PNG, JPEG, TIFF or BMP file as (H, W, channels): 8 bits as uint8, else float32 in [0, 1].

    EXIF rotation is applied, palettes are expanded, opaque alpha is dropped, and 16 bits are divided
    by 65535. Grey is repeated for three channels. Other numbers than 1 and 3 are bands of a TIFF file.

    Args:
        path: the file.
        channels: of the image.
        value_range: values that become 0 and 1, others linearly, beyond them 0 and 1.

    Raises:
        InputError: the file is unreadable, truncated, multi-page, transparent, of another pixel type, in
            colour while `channels` is 1, of floats outside [0, 1], or with 0 as white beside a range.
    """
    if channels not in (1, 3):
        return scaled(read_bands(path, channels), path, value_range)
    pixels: NDArray[Any] = scaled(stored_pixels(path, ranged=value_range is not None), path, value_range)
    if pixels.ndim == 2:
        return np.repeat(pixels[..., None], channels, axis=2)
    if channels == 3:
        return pixels
    if not is_grey(pixels, tolerance=0):
        raise InputError(
            f"{path} must be grey for channels=1, got a colour image; set channels to 3 or convert it"
        )
    return pixels[..., :1]


def read_mask(
    path: Path,
    *,
    threshold: int | None,
    classes: int,
    remedy: str = "set threshold for a black-and-white mask, labels, or raise classes",
) -> Mask:
    """Read a mask file as class ids (h, w).

    Args:
        path: PNG, TIFF or BMP of 8 or 16 bits, or a JPEG if there is a threshold.
        threshold: pixels above it are class 1, all others class 0; None interprets pixel values (palette
            indices for palette files) as class ids.
        classes: ids must be below it, or 255 for ignored pixels.
        remedy: advice for unknown ids, in terms of the data set's options.

    Raises:
        InputError: the file is unreadable, not grey, transparent, of floats, or contains an unknown id.
    """
    if threshold is None and path.suffix.lower() in {".jpg", ".jpeg"}:
        raise InputError(f"{path} must hold class ids, which JPEG compression changes; save masks as PNG")
    values = stored_pixels(path, indices=threshold is None)
    if values.dtype == np.float32:
        raise InputError(f"{path} must be a mask of whole numbers, got floats; save it as an 8-bit PNG")
    if values.ndim == 3:
        if not is_grey(values, tolerance=0 if threshold is None else _JPEG_NOISE):
            raise InputError(
                f"{path} must be a grey or palette mask, got a colour one; save class ids as an 8-bit PNG"
            )
        values = values[..., 0]
    if threshold is not None:
        return (values > threshold).astype(np.uint8)
    ids, pixels = np.unique(values, return_counts=True)
    counts = dict(zip(ids.tolist(), pixels.tolist(), strict=True))
    if unknown := {i: count for i, count in counts.items() if i >= classes and i != IGNORE}:
        raise UnknownLabelsError(
            f"{path} must hold class ids below {classes} or {IGNORE} (ignore), got {counted(unknown)}; "
            f"{remedy}"
        )
    return values.astype(np.uint8)


def read_values(path: Path) -> NDArray[Any]:
    """Read a PNG, TIFF or BMP file as stored, (h, w) or (h, w, 3): palette files by their indices.

    Raises:
        InputError: the file is unreadable, truncated, multi-page, transparent or a JPEG.
    """
    if path.suffix.lower() in {".jpg", ".jpeg"}:
        raise InputError(f"{path} must hold exact values, which JPEG compression changes; save it as PNG")
    return stored_pixels(path, indices=True)


def image_size(path: Path) -> tuple[int, int]:
    """Return height and width as the header of an image file has them.

    Raises:
        InputError: the file is not an image.
    """
    try:
        with opened(path, path) as image:
            return image.height, image.width
    except InputError:
        raise
    except _UNREADABLE as error:
        raise InputError(f"{path} must be a whole image, got: {error}; copy it again") from None


def list_files(folder: Path, suffixes: Iterable[str] = SUFFIXES) -> dict[str, Path]:
    """Return the files below a folder, keyed and sorted by path without suffix.

    Hidden files and other suffixes are ignored; suffixes are case-insensitive.

    Raises:
        InputError: the folder is missing or contains no such file, two files differ in suffix only, a link
            leads out of the folder or to a folder, or an entry named like a file is not a regular file.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} must be a folder, found none; correct the path")
    known, top = tuple(suffixes), folder.resolve()
    files = dict[str, Path]()
    for entry in _below(top):
        stem, suffix = os.path.splitext(entry.path)  # noqa: PTH122  # of thousands
        if suffix.lower() not in known:
            continue
        name, path = Path(stem[len(str(top)) + 1 :]).as_posix(), Path(entry.path)
        if name in files:
            raise InputError(
                f"{folder} must hold one {name}, got {files[name].name} and {path.name}; remove one"
            )
        files[name] = regular(path)
    if not files:
        raise InputError(f"{folder} must hold images ({', '.join(known)}), found none; correct the path")
    return dict(sorted(files.items()))


def pairs(images: Mapping[str, Path], masks: Mapping[str, Path]) -> list[tuple[str, Path, Path]]:
    """Pair images and masks of the same name as (name, image, mask), sorted by name.

    Raises:
        InputError: an image has no mask or a mask no image.
    """
    for files, counterparts, problem in (
        (images, masks, "images have no mask"),
        (masks, images, "masks have no image"),
    ):
        unpaired = sorted(files.keys() - counterparts.keys())
        if unpaired:
            raise InputError(
                f"images and masks must pair by name, {len(unpaired)} of {len(files)} {problem} "
                f"({listed(unpaired, 3)}); rename or remove them"
            )
    return [(name, images[name], masks[name]) for name in sorted(images)]


def digest(*paths: Path) -> str:
    """Return a SHA-256 of the files' bytes, in this order.

    Raises:
        InputError: a file cannot be read.
    """
    checksum = hashlib.sha256()
    for path in paths:
        try:
            checksum.update(content_digest(path))
        except OSError as error:
            raise InputError(
                f"{path} must be readable, got {error.strerror}; restore it or its rights"
            ) from error
    return checksum.hexdigest()


def _below(folder: Path) -> Iterator[os.DirEntry[str]]:
    """Yield all visible files below a resolved folder; links out of it are an error."""
    pending = [str(folder)]
    while pending:
        directory = pending.pop()
        try:
            with os.scandir(directory) as listing:
                entries = list(listing)
        except OSError as error:
            raise unlisted(directory, error) from None
        folders = [entry for entry in entries if _is_folder(entry)]
        files = [entry for entry in entries if not _is_folder(entry)]
        folders = [entry for entry in folders if not entry.name.startswith(".")]
        for entry in (*folders, *files):
            if entry.is_symlink() and (_is_folder(entry) or _leaves(Path(entry.path), folder)):
                raise InputError(
                    f"{entry.path} must not be a link out of {folder} or to a folder; copy the files there"
                )
        pending += [entry.path for entry in folders]
        yield from (entry for entry in files if not entry.name.startswith("."))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether a path is a folder or a link to one; circular links are neither."""
    return Path(entry.path).is_dir() if entry.is_symlink() else entry.is_dir()


def _leaves(path: Path, folder: Path) -> bool:
    try:
        path_below(folder, str(path))
    except InputError:
        return True
    return False


def stored_pixels(path: Path, *, indices: bool = False, ranged: bool = False) -> Pixels:
    """Read a file as (h, w) or (h, w, 3) at its original depth, upright and without alpha.

    Args:
        path: PNG, JPEG, TIFF or BMP file.
        indices: whether values are class ids: palette files are read by their indices.
        ranged: whether a range of stored values will be applied, which needs 0 as black.

    Raises:
        InputError: as of `read_image`.
    """
    try:
        data = path.read_bytes()  # not the path: Pillow maps that into memory and garbles rotated TIFF
        with opened(BytesIO(data), path) as image:
            depth, negative = _depth(image), white_is_zero(image)
            check_header(image, data, path, ids=indices)
            if ranged:
                refuse_white_as_zero(image, path)
            _check_kind(image, path, depth)
            image.load()
            if image.mode in ("RGB", "RGBA") and depth == 16:
                return _read_wide(image, data, path)
            forget_key(image, path, depth)
            ImageOps.exif_transpose(image, in_place=True)
            pixels = _narrow(image, path, indices=indices, depth=depth)
            return _positive(pixels, path) if negative else pixels
    except InputError:
        raise
    except UnidentifiedImageError:
        raise InputError(
            f"{path} must be a whole PNG, JPEG, TIFF or BMP file, got: {unidentified(data)}; replace it, or "
            "save it as PNG"
        ) from None
    except _UNREADABLE as error:
        why = " ".join(str(error).split())
        raise InputError(
            f"{path} must be a whole PNG, JPEG, TIFF or BMP file, got: {why}; replace it"
        ) from error


def _depth(image: PillowImage.Image) -> int:
    """Return the bits per channel of a file not yet loaded; Pillow's mode hides its truncation of 16 to 8."""
    tags = getattr(image, "tag_v2", None)
    if tags is not None:
        return int(max(tags.get(_BITS_PER_SAMPLE, (1,))))
    raw = str(image.tile[0].args) if isinstance(image, PngImageFile) and image.tile else ""
    return next((bits for bits in (16, 4, 2) if f";{bits}" in raw), 8)


def _check_kind(image: PillowImage.Image, path: Path, depth: int) -> None:
    """Reject files that are only partly readable or have ambiguous values."""
    pages = getattr(image, "n_frames", 1)
    if pages > 1 and image.format != "MPO":  # further images of an MPO are previews
        raise InputError(f"{path} must hold one image, got {pages} pages; save each as a separate file")
    match image.mode:
        case "1" | "L" | "LA" | "P" | "RGB" | "RGBA":
            known = depth in (1, 2, 4, 8, 16)
        case "I;16" | "I;16B":
            known = depth == 16
        case mode:
            known = mode == "F"
    if not known:
        raise InputError(
            f"{path} must have 8 or 16 bits, grey or RGB, or grey 32-bit floats, "
            f"got {depth} bits of kind {image.mode}; convert it to PNG"
        )


def _read_wide(image: PillowImage.Image, data: bytes, path: Path) -> NDArray[np.uint16]:
    """Read 16-bit colour with OpenCV and check it against the upper byte read by Pillow.

    OpenCV silently reads truncated files and decodes some layouts incorrectly; Pillow does neither.
    """
    wide = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    upper = np.asarray(image)
    if "transparency" in image.info:
        raise InputError(
            f"{path} must be 16-bit RGB without a transparent colour, got one (tRNS); save it without"
        )
    if wide is None or wide.dtype != np.uint16 or wide.shape != upper.shape:
        raise InputError(_layout(path))
    pixels = wide.astype(np.uint16)[..., [2, 1, 0, 3][: upper.shape[2]]]
    if not np.array_equal(pixels >> 8, upper):
        raise InputError(_layout(path))
    if image.getexif().get(_ORIENTATION, 1) != 1:
        raise InputError(
            f"{path} must be upright where it has 16-bit RGB, got a rotated one; rotate its pixels"
        )
    if pixels.shape[2] == 4 and pixels[..., 3].min() < 65535:
        raise InputError(_transparent(path))
    return pixels[..., :3]


def _narrow(image: PillowImage.Image, path: Path, *, indices: bool, depth: int) -> Pixels:
    """Return an array of any type but 16-bit colour; with `indices`, of the stored values."""
    if indices and image.mode == "P":
        return np.array(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema() != (255, 255):
            raise InputError(_transparent(path))
    if image.mode in ("P", "RGBA"):
        image = image.convert("RGB")
    if image.mode in ("I;16", "I;16B"):
        return np.asarray(image).astype(np.uint16)
    if image.mode == "1":
        return np.array(image.convert("L")) // np.uint8(255 if indices else 1)
    if indices and depth < 8:  # Pillow spreads 2 and 4 bits over 0..255
        return np.asarray(image) // np.uint8(255 // (2**depth - 1))
    return np.array(image)


def _positive(pixels: Pixels, path: Path) -> Pixels:
    """Invert 16-bit or float values stored with white as 0."""
    if pixels.dtype == np.uint16:
        return np.uint16(65535) - pixels
    return np.float32(1) - unit(pixels, path)


def _layout(path: Path) -> str:
    return f"{path} must be 16-bit RGB in a plain layout, got another; save it as PNG"


def _transparent(path: Path) -> str:
    return f"{path} must be opaque, got transparent pixels; flatten it"


def is_grey(pixels: NDArray[Any], *, tolerance: int) -> bool:
    """Return whether the channels (h, w, 3) differ by at most `tolerance`."""
    return bool((pixels.max(axis=-1) - pixels.min(axis=-1)).max() <= tolerance)
