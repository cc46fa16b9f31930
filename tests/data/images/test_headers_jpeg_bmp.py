"""JPEG and BMP: each header field that changes what the stored numbers mean, against OpenCV."""

import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as PillowImage

from seg_mia.data.images.reading import read_image, read_mask
from seg_mia.errors import InputError
from tests.data.images.test_headers import TURNS, exif
from tests.data.raw_images import bmp, packed

random = np.random.default_rng(0)
GREY = random.integers(0, 256, (16, 24), dtype=np.uint8)
RGB = random.integers(0, 256, (16, 24, 3), dtype=np.uint8)
DOWN, RIGHT = np.indices((16, 24))
SMOOTH = np.dstack([10 * RIGHT, 10 * DOWN, np.full((16, 24), 90)]).astype(np.uint8)


def seen(path: Path) -> NDArray[Any]:
    """RGB as OpenCV reads a file, upright."""
    found: Any = cv2.imread(str(path), cv2.IMREAD_COLOR)
    return np.asarray(found[..., ::-1])


@pytest.mark.parametrize("orientation", TURNS)
def test_jpeg_orientation(tmp_path: Path, orientation: int) -> None:
    path = tmp_path / "a.jpg"
    PillowImage.fromarray(SMOOTH).save(path, exif=b"Exif\0\0" + exif(orientation), quality=95)
    image = read_image(path, 3)
    assert np.array_equal(image, seen(path))
    assert np.abs(image.astype(int) - TURNS[orientation](SMOOTH)).max() < 40
    mask = read_mask(path_of_grey(tmp_path / "m.jpg", SMOOTH[..., 0], orientation), threshold=115, classes=2)
    assert np.array_equal(mask, TURNS[orientation](SMOOTH[..., 0] > 115))


def path_of_grey(path: Path, pixels: NDArray[Any], orientation: int) -> Path:
    PillowImage.fromarray(pixels).save(path, exif=b"Exif\0\0" + exif(orientation), quality=100)
    return path


@pytest.mark.parametrize(
    "options",
    [
        {"keep_rgb": True},  # Adobe marker or component names: no YCbCr
        {"subsampling": 0},
        {"subsampling": 2},
        {"progressive": True},
        {"icc_profile": b"\0" * 128},
        {"dpi": (300, 72)},
        {"optimize": True, "restart_marker_rows": 1},
    ],
)
def test_jpeg_colours_come_as_opencv_reads_them(tmp_path: Path, options: dict[str, Any]) -> None:
    path = tmp_path / "a.jpg"
    PillowImage.fromarray(SMOOTH).save(path, quality=95, **options)
    assert np.array_equal(read_image(path, 3), seen(path))
    assert np.abs(read_image(path, 3).astype(int) - SMOOTH).max() < 30


def test_jpeg_orientation_that_xmp_alone_states(tmp_path: Path) -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    path = tmp_path / "a.jpg"
    PillowImage.fromarray(SMOOTH).save(path, quality=95, xmp=xmp)
    assert np.abs(read_image(path, 3).astype(int) - TURNS[6](SMOOTH)).max() < 30


def test_jpeg_without_adobe_s_transform_is_rgb(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    PillowImage.fromarray(SMOOTH).save(path, quality=95, keep_rgb=True)
    data = path.read_bytes()
    adobe = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\0"
    path.write_bytes(data[:2] + adobe + data[2:])
    assert np.array_equal(read_image(path, 3), seen(path))
    assert np.abs(read_image(path, 3).astype(int) - SMOOTH).max() < 30


def test_previews_beside_a_jpeg_are_passed_over(tmp_path: Path) -> None:
    first, other = (PillowImage.fromarray(np.roll(SMOOTH, place)) for place in range(2))
    first.save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[other], quality=95)
    assert np.array_equal(read_image(tmp_path / "a.jpg", 3), seen(tmp_path / "a.jpg"))


def test_jpeg_of_inks_and_of_twelve_bits_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    PillowImage.fromarray(RGB).convert("CMYK").save(path)
    with pytest.raises(InputError, match=r"a\.jpg must have 8 or 16 bits, grey or RGB, .*kind CMYK"):
        read_image(path, 3)
    PillowImage.fromarray(GREY).save(path)
    data = bytearray(path.read_bytes())
    data[data.index(b"\xff\xc0") + 4] = 12
    path.write_bytes(bytes(data))
    with pytest.raises(InputError, match=r"a\.jpg must be a whole PNG, JPEG"):
        read_image(path, 1)


def lines(pixels: NDArray[np.uint8], bits: int) -> list[bytes]:
    return [packed(row, bits) for row in pixels]


@pytest.mark.parametrize("top_down", [False, True])
@pytest.mark.parametrize("palette", ["ramp", "reverse", "colours"])
@pytest.mark.parametrize("bits", [1, 4, 8])
def test_bmp_palettes_and_the_direction_of_rows(
    tmp_path: Path, bits: int, palette: str, top_down: bool
) -> None:
    indices, count = GREY >> np.uint8(8 - bits), 2**bits
    grey = np.arange(count) * (255 // (count - 1))
    table = {
        "ramp": np.stack([grey] * 3, 1),
        "reverse": np.stack([255 - grey] * 3, 1),
        "colours": random.integers(0, 256, (count, 3)),
    }[palette]
    path = bmp(tmp_path / "a.bmp", lines(indices, bits), 24, bits, palette=table, top_down=top_down)
    assert np.array_equal(read_image(path, 3), table[indices])
    assert np.array_equal(seen(path), table[indices])
    if bits < 8:
        assert np.array_equal(read_mask(path, threshold=None, classes=16), indices)
    if palette == "reverse":
        assert np.array_equal(read_mask(path, threshold=127, classes=2), table[indices][..., 0] > 127)


@pytest.mark.parametrize(
    ("bits", "colours", "table"), [(8, 2, [[0] * 3, [255] * 3]), (4, 0, [[i] * 3 for i in range(16)])]
)
def test_bmp_palettes_that_pillow_takes_for_other_bits_are_refused(
    tmp_path: Path, bits: int, colours: int, table: list[list[int]]
) -> None:
    indices = (GREY > 127).astype(np.uint8)
    path = bmp(tmp_path / "a.bmp", lines(indices, bits), 24, bits, palette=np.array(table), colours=colours)
    assert np.array_equal(seen(path), np.array(table)[indices])
    message = rf"a\.bmp must have a palette .*biBitCount {bits}.*save it"
    with pytest.raises(InputError, match=message):
        read_image(path, 3)
    with pytest.raises(InputError, match=message):
        read_mask(path, threshold=None, classes=2)


def test_bmp_runs(tmp_path: Path) -> None:
    """Each row as pairs of a count and an index, then the end of the row (RLE8)."""
    indices = np.repeat(GREY[:, :6], 4, axis=1)
    coded = b"".join(b"".join(bytes([4, v]) for v in row[::4]) + b"\0\0" for row in indices[::-1]) + b"\0\1"
    table = random.integers(0, 256, (256, 3))
    path = bmp(tmp_path / "a.bmp", [coded + b"\0" * (-len(coded) % 4)], 24, 8, palette=table)
    data = bytearray(path.read_bytes())
    data[22:26], data[30:34] = struct.pack("<i", 16), struct.pack("<I", 1)
    path.write_bytes(bytes(data))
    assert np.array_equal(read_image(path, 3), table[indices])
    assert np.array_equal(seen(path), table[indices])


def test_bmp_bit_fields(tmp_path: Path) -> None:
    stored = np.dstack([RGB[..., ::-1], GREY])  # the fourth byte is nothing
    rows = [row.tobytes() for row in stored]
    for fields in ((), (0xFF0000, 0xFF00, 0xFF)):
        path = bmp(tmp_path / "a.bmp", rows, 24, 32, fields=fields)
        assert np.array_equal(read_image(path, 3), RGB)
        assert np.array_equal(seen(path), RGB)
    path = bmp(tmp_path / "a.bmp", rows, 24, 32, fields=(0xFF, 0xFF00, 0xFF0000))
    with pytest.raises(InputError, match=r"a\.bmp must be a whole PNG, .*bitfields"):
        read_image(path, 3)


@pytest.mark.parametrize(("fields", "green"), [((), 5), ((0xF800, 0x7E0, 0x1F), 6)])
def test_bmp_of_sixteen_bits_spans_the_range(tmp_path: Path, fields: tuple[int, ...], green: int) -> None:
    red, middle, blue = RGB[..., 0] >> 3, RGB[..., 1] >> (8 - green), RGB[..., 2] >> 3
    words = (red.astype("<u2") << (5 + green)) | (middle.astype("<u2") << 5) | blue
    path = bmp(tmp_path / "a.bmp", [row.astype("<u2").tobytes() for row in words], 24, 16, fields=fields)
    want = np.dstack([red / 31, middle / (2**green - 1), blue / 31]) * 255
    assert np.abs(read_image(path, 3) - want).max() < 1
    assert np.abs(seen(path) - want).max() < 9  # OpenCV leaves the lowest bits empty


@pytest.mark.parametrize("opaque", [True, False])
def test_bmp_alpha_of_a_version_four_header(tmp_path: Path, opaque: bool) -> None:
    alpha = np.full((16, 24), 255 if opaque else 9, np.uint8)
    data = np.dstack([RGB[..., ::-1], alpha])[::-1].tobytes()
    masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    head = struct.pack("<IiiHHIIiiII", 108, 24, 16, 1, 32, 3, len(data), 2835, 2835, 0, 0)
    head += masks + b"BGRs" + bytes(48)
    path = tmp_path / "a.bmp"
    path.write_bytes(b"BM" + struct.pack("<IHHI", 122 + len(data), 0, 0, 122) + head + data)
    if opaque:
        assert np.array_equal(read_image(path, 3), RGB)
    else:
        with pytest.raises(InputError, match=r"a\.bmp must be opaque, got transparent pixels"):
            read_image(path, 3)
