"""Header fields of PNG, TIFF and BMP files that alter pixel values and are ignored by readers."""

import struct
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PillowImage
from PIL import TiffImagePlugin

from seg_mia.errors import InputError

_BITS, _PHOTOMETRIC, _COLOURS, _EXTRA, _FORMAT, _REFERENCE = 258, 262, 320, 338, 339, 532
_TABLES = {291: "GrayResponseCurve", 301: "TransferFunction", 346: "Indexed", 433: "Decode"}
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_NAMES = {_PHOTOMETRIC: "PhotometricInterpretation", _BITS: "BitsPerSample", _FORMAT: "SampleFormat"}
_WHOLE = ((0, 255, 0, 255, 0, 255), (0, 255, 128, 255, 128, 255))  # ReferenceBlackWhite of RGB and YCbCr
_STANDARD = (0.4, 0.6)  # gAMA of sRGB is 0.45455, of old Macintosh files 0.55556
_UNUSUAL = {8: "linear", 16: "PQ", 18: "HLG"}  # transfer functions of ITU-T H.273 with another curve


def check_header(image: PillowImage.Image, data: bytes, path: Path, *, ids: bool) -> None:
    """Reject a file whose header alters the meaning of its values beyond the reader's support.

    Args:
        image: the file, opened and not yet loaded.
        data: bytes of the file.
        path: file, for error messages.
        ids: whether stored values are class ids.

    Raises:
        InputError: names the file, the field and the remedy.
    """
    match image.format:
        case "TIFF":
            _check_tiff(image, path, ids=ids)
        case "PNG" if not ids:
            _check_curve(image, data, path)
        case "BMP":
            _check_depth(image, data, path)
        case _:
            pass


def forget_key(image: PillowImage.Image, path: Path, depth: int) -> None:
    """Remove the transparent colour (tRNS) of a loaded grey PNG if no pixel has it.

    Pillow compares it with 2- and 4-bit pixels after stretching, and truncates 16 bits to 8 because of it.

    Raises:
        InputError: a pixel has that colour.
    """
    key = image.info.get("transparency")
    if not isinstance(key, int) or image.mode not in ("L", "I;16") or depth == 8:
        return
    stored = key & (2**depth - 1)
    if (np.asarray(image) == (stored if depth == 16 else stored * (255 // (2**depth - 1)))).any():
        raise InputError(f"{path} must be opaque, got transparent pixels; flatten it")
    del image.info["transparency"]


def white_is_zero(image: PillowImage.Image) -> bool:
    """Whether a TIFF stores white as 0 in a type that Pillow does not invert: 16 bits or float."""
    tags: Any = getattr(image, "tag_v2", {})
    return tags.get(_PHOTOMETRIC) == 0 and image.mode in ("I;16", "I;16B", "F")


def refuse_white_as_zero(image: PillowImage.Image, path: Path) -> None:
    """Raise InputError for a TIFF file of inverted values, whose range would be ambiguous."""
    tags: Any = getattr(image, "tag_v2", {})
    if tags.get(_PHOTOMETRIC) == 0:
        raise InputError(
            f"{path} must have 0 as black for value_range, got 0 as white (PhotometricInterpretation 0); "
            "save its values as PNG, or leave out value_range"
        )


def unidentified(data: bytes) -> str:
    """Return the TIFF header fields unknown to the reader; empty for other files."""
    if data[:4] not in _TIFF:
        return "another kind of file"
    if data[:4] == b"MM\0+":
        return "a big-endian BigTIFF"
    try:
        tags: Any = TiffImagePlugin.ImageFileDirectory_v2(data[:16] if data[2:3] == b"+" else data[:8])
        file = BytesIO(data)
        file.seek(tags.next)
        tags.load(file)
        listed = ", ".join(f"{name} {_plain(tags.get(tag, 'none'))}" for tag, name in _NAMES.items())
    except (OSError, SyntaxError, ValueError, KeyError, TypeError, struct.error, Warning):
        return "a damaged TIFF"
    return f"a TIFF of an unsupported kind ({listed})"


def _plain(value: object) -> str:
    return "/".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _check_tiff(image: PillowImage.Image, path: Path, *, ids: bool) -> None:
    tags: Any = getattr(image, "tag_v2", {})
    tiles: Any = getattr(image, "tile", ())
    photometric, formats = tags.get(_PHOTOMETRIC), set(tags.get(_FORMAT, (1,)))
    if photometric is None:
        raise InputError(f"{path} must state PhotometricInterpretation, found none; save it as PNG")
    if image.mode != "I" and formats != ({3} if image.mode == "F" else {1}):
        raise InputError(
            f"{path} must hold numbers without a sign or 32-bit floats, got SampleFormat "
            f"{_plain(tuple(sorted(formats)))}; convert it to an 8- or 16-bit PNG"
        )
    if 0 in tags.get(_EXTRA, ()):
        raise InputError(
            f"{path} must hold only grey or RGB, got an unspecified channel (ExtraSamples 0); remove it"
        )
    if image.mode == "F" and tags.prefix == b"MM" and tiles[0].codec_name == "libtiff":
        raise InputError(
            f"{path} must hold floats uncompressed or in little-endian byte order, got compressed ones in "
            "big-endian order; save it again"
        )
    if ids and photometric == 0:
        raise InputError(
            f"{path} must store class ids with 0 as black, got 0 as white (PhotometricInterpretation 0), "
            "which makes ids ambiguous; save it as PNG"
        )
    if not ids:
        _check_shown(tags, path)


def _check_shown(tags: Any, path: Path) -> None:
    """Reject TIFF display tables, which all readers ignore."""
    colours = tags.get(_COLOURS)
    if colours and max(colours) < 256:
        raise InputError(
            f"{path} must have a palette of 16 bits, got none above 255 (ColorMap); save it as PNG"
        )
    refuse_tables(tags, path)


def refuse_tables(tags: Mapping[int, Any], path: Path) -> None:
    """Raise InputError for a TIFF file with tables that change the meaning of its values.

    Args:
        tags: values by code; ratios as one number each.
        path: file, for error messages.
    """
    curves = [name for tag, name in _TABLES.items() if tags.get(tag)]
    reference = tags.get(_REFERENCE)
    if reference is not None and tuple(map(float, reference)) not in _WHOLE:
        curves.append("ReferenceBlackWhite")
    if curves:
        raise InputError(
            f"{path} must hold plain values, got {', '.join(curves)}, which changes their meaning; apply it "
            "and save the image as PNG, or without the field"
        )


def _check_curve(image: PillowImage.Image, data: bytes, path: Path) -> None:
    """Reject a PNG with a non-standard transfer curve."""
    gamma, managed = image.info.get("gamma"), {"srgb", "icc_profile"} & image.info.keys()
    curve = None
    if gamma is not None and not managed and not _STANDARD[0] <= gamma <= _STANDARD[1]:
        curve = f"gAMA {gamma:.3g}"
    code = _chunk(data, b"cICP")
    if code is not None and len(code) == 4 and (code[1] in _UNUSUAL or code[3] != 1):
        curve = f"cICP {_UNUSUAL.get(code[1], 'in narrow range')}"
    if curve:
        raise InputError(
            f"{path} must hold sRGB values, got {curve}; convert it to sRGB, or save it without that field "
            "if its numbers are valid as stored"
        )


def _chunk(data: bytes, name: bytes) -> bytes | None:
    """Return the body of a PNG chunk that precedes the pixels."""
    at = 8
    while at + 8 <= len(data):
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        if kind == name:
            return data[at + 8 : at + 8 + size]
        if kind == b"IDAT":
            break
        at += 12 + size
    return None


def _check_depth(image: PillowImage.Image, data: bytes, path: Path) -> None:
    """Reject a 4- or 8-bit BMP with a short grey palette, for which Pillow assumes another bit depth."""
    at = 24 if data[14:18] == b"\x0c\0\0\0" else 28
    (bits,) = struct.unpack("<H", data[at : at + 2])
    if (image.mode == "1" and bits != 1) or (image.mode == "L" and bits != 8):
        raise InputError(
            f"{path} must have a palette of the size of its bits, got biBitCount {bits} with a short grey "
            "one (biClrUsed); save it as PNG"
        )
