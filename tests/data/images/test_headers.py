"""PNG and TIFF: each header field that changes what the stored numbers mean, against a second decoder."""

import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image as PillowImage

from seg_mia.data.images.reading import read_image, read_mask
from seg_mia.errors import InputError
from tests.data.raw_images import packed, png, tiff

random = np.random.default_rng(0)
GREY = random.integers(0, 256, (16, 24), dtype=np.uint8)
GREY16 = random.integers(0, 65536, (16, 24), dtype=np.uint16)
RGB = random.integers(0, 256, (16, 24, 3), dtype=np.uint8)
RGB16 = random.integers(0, 65536, (16, 24, 3), dtype=np.uint16)
FLOATS = random.random((16, 24), dtype=np.float32)
IDS = (np.arange(384).reshape(16, 24) % 3).astype(np.uint8)
TURNS = {
    1: lambda x: x,
    2: np.fliplr,
    3: lambda x: np.rot90(x, 2),
    4: np.flipud,
    5: lambda x: np.swapaxes(x, 0, 1),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: np.rot90(np.swapaxes(x, 0, 1), 2),
    8: lambda x: np.rot90(x, 1),
}
"""From stored pixels to upright ones, by the value of Orientation (TIFF 6.0, page 36)."""


def unit(pixels: NDArray[Any]) -> NDArray[Any]:
    """Values as `read_image` gives them: 16 bits in [0, 1]."""
    wide = pixels.astype(np.float32) / np.float32(65535) if pixels.dtype == np.uint16 else pixels
    return np.atleast_3d(wide)


def stored_by(path: Path) -> NDArray[Any]:
    """A file's numbers as OpenCV reads them, blue first."""
    found: Any = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    return np.asarray(found)


def exif(orientation: int) -> bytes:
    return b"MM\0*\0\0\0\x08\0\x01" + struct.pack(">HHIHHI", 0x0112, 3, 1, orientation, 0, 0)


def few(bits: int) -> NDArray[np.uint8]:
    return GREY >> np.uint8(8 - bits)


def rows_of(pixels: NDArray[np.uint8], bits: int) -> bytes:
    return b"".join(packed(row, bits) for row in pixels)


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(
    ("depth", "kind"),
    [(1, 0), (2, 0), (4, 0), (8, 0), (16, 0), (8, 2), (16, 2), (8, 4), (16, 4), (8, 6), (16, 6)],
)
def test_png_depths_colour_types_and_interlacing(
    tmp_path: Path, depth: int, kind: int, interlaced: bool
) -> None:
    colour = kind in (2, 6)
    wide = RGB16 if colour else GREY16
    shown: NDArray[Any] = wide if depth == 16 else RGB if colour else few(depth)
    stored = shown
    if kind in (4, 6):
        stored = np.dstack([shown, np.full(shown.shape[:2], 2**depth - 1, shown.dtype)])
    path = png(tmp_path / "a.png", stored, depth, kind, interlaced=interlaced)
    want = unit(shown) if depth >= 8 else unit(shown * np.uint8(255 // (2**depth - 1)))
    image = read_image(path, 3 if colour else 1)
    assert np.array_equal(image, want)
    other = np.atleast_3d(stored_by(path))[..., : 3 if colour else 1]
    assert np.array_equal(unit(other[..., ::-1]), image)


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
@pytest.mark.parametrize("interlaced", [False, True])
def test_png_palettes_are_colours_of_images_and_ids_of_masks(
    tmp_path: Path, depth: int, interlaced: bool
) -> None:
    palette = random.integers(0, 256, (2**depth, 3), dtype=np.uint8)
    table = [(b"PLTE", palette.tobytes()), (b"tRNS", b"\xff" * 2)]
    path = png(tmp_path / "a.png", few(depth), depth, 3, before=table, interlaced=interlaced)
    assert np.array_equal(read_image(path, 3), palette[few(depth)])
    if depth < 8:
        assert np.array_equal(read_mask(path, threshold=None, classes=16), few(depth))


@pytest.mark.parametrize(("depth", "kind"), [(1, 0), (2, 0), (4, 0), (8, 0), (16, 0), (8, 2)])
def test_a_png_s_transparent_colour_is_refused_where_a_pixel_has_it(
    tmp_path: Path, depth: int, kind: int
) -> None:
    pixels: NDArray[Any] = RGB if kind else GREY16 if depth == 16 else few(depth)
    pixels = np.maximum(pixels, 1)
    for key, clear in ((np.atleast_1d(pixels[0, 0]), True), (np.zeros(3 if kind else 1, int), False)):
        field = (b"tRNS", b"".join(struct.pack(">H", int(value)) for value in key))
        path = png(tmp_path / "a.png", pixels, depth, kind, before=[field])
        if clear:
            with pytest.raises(InputError, match=r"a\.png must be opaque, got transparent pixels; flatten"):
                read_image(path, 3 if kind else 1)
        else:
            want = unit(pixels) if depth >= 8 else unit(pixels * np.uint8(255 // (2**depth - 1)))
            assert np.array_equal(read_image(path, 3 if kind else 1), want)


def test_a_transparent_colour_of_sixteen_bits_rgb_is_refused(tmp_path: Path) -> None:
    path = png(tmp_path / "a.png", RGB16, 16, 2, before=[(b"tRNS", bytes(6))])
    with pytest.raises(InputError, match=r"a\.png must be 16-bit RGB without a transparent .*tRNS"):
        read_image(path, 3)


@pytest.mark.parametrize(
    "field",
    [
        (b"sBIT", b"\x05"),
        (b"bKGD", b"\0\x09"),
        (b"cHRM", struct.pack(">8I", *[31270] * 8)),
        (b"sRGB", b"\x01"),
        (b"gAMA", struct.pack(">I", 45455)),
        (b"gAMA", struct.pack(">I", 55556)),
        (b"pHYs", struct.pack(">IIB", 1000, 2000, 1)),
        (b"cICP", bytes([1, 13, 0, 1])),
        (b"mDCV", bytes(24)),
    ],
)
def test_png_fields_that_no_decoder_applies_change_nothing(
    tmp_path: Path, field: tuple[bytes, bytes]
) -> None:
    path = png(tmp_path / "a.png", GREY, 8, 0, before=[field])
    assert np.array_equal(read_image(path, 1)[..., 0], GREY)
    assert np.array_equal(stored_by(path), GREY)


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ((b"gAMA", struct.pack(">I", 100000)), "gAMA 1; convert it to sRGB"),
        ((b"cICP", bytes([9, 16, 0, 1])), "cICP PQ"),
        ((b"cICP", bytes([1, 1, 0, 0])), "cICP in narrow range"),
    ],
)
def test_png_values_on_another_curve_are_refused_as_images_alone(
    tmp_path: Path, field: tuple[bytes, bytes], message: str
) -> None:
    path = png(tmp_path / "a.png", IDS, 8, 0, before=[field])
    with pytest.raises(InputError, match=rf"a\.png must hold sRGB values, got {message}"):
        read_image(path, 1)
    assert np.array_equal(read_mask(path, threshold=None, classes=3), IDS)


@pytest.mark.parametrize("orientation", TURNS)
def test_png_orientation_wherever_it_stands_and_in_masks(tmp_path: Path, orientation: int) -> None:
    field = [(b"eXIf", exif(orientation))]
    for where in ("before", "after"):
        path = png(tmp_path / f"{where}.png", IDS, 8, 0, **{where: field})  # type: ignore[arg-type]
        assert np.array_equal(read_image(path, 1)[..., 0], TURNS[orientation](IDS))
        assert np.array_equal(read_mask(path, threshold=None, classes=3), TURNS[orientation](IDS))


def test_a_png_of_several_pictures_is_refused(tmp_path: Path) -> None:
    frames = [PillowImage.fromarray(np.roll(GREY, place)) for place in range(3)]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:])
    with pytest.raises(InputError, match=r"a\.png must hold one image, got 3 pages"):
        read_image(tmp_path / "a.png", 1)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("photometric", [0, 1])
@pytest.mark.parametrize(
    ("pixels", "bits", "kind"),
    [(few(1), 1, 1), (few(2), 2, 1), (few(4), 4, 1), (GREY, 8, 1), (GREY16, 16, 1), (FLOATS, 32, 3)],
)
def test_white_as_zero_shows_the_same_picture(
    tmp_path: Path, pixels: NDArray[Any], bits: int, kind: int, photometric: int, order: Any
) -> None:
    top = 1 if kind == 3 else 2**bits - 1
    stored = (top - pixels if photometric == 0 else pixels).astype(pixels.dtype)
    data = rows_of(stored, bits) if bits < 8 else stored.astype(stored.dtype.newbyteorder(order)).tobytes()
    tags = {258: bits, 262: photometric, 339: kind}
    path = tiff(tmp_path / "a.tif", data, (16, 24), tags, order)
    if (photometric, bits, order) == (0, 16, ">"):
        with pytest.raises(InputError, match=r"a\.tif .*PhotometricInterpretation 0, BitsPerSample 16"):
            read_image(path, 1)
        return
    if bits >= 8:
        assert np.array_equal(tifffile.imread(path), stored)  # the file holds what it is meant to hold
    want = unit(pixels) if bits >= 8 else unit(pixels * np.uint8(255 // top))
    assert np.allclose(read_image(path, 1), want, rtol=0, atol=1e-7 if kind == 3 else 0)
    if kind == 1:
        mask = read_mask(path, threshold=top // 2 if bits >= 8 else 127, classes=2)
        assert np.array_equal(mask, pixels > top // 2)


def test_class_ids_with_white_as_zero_are_refused(tmp_path: Path) -> None:
    path = tiff(tmp_path / "a.tif", rows_of(few(1), 1), (16, 24), {258: 1, 262: 0})
    with pytest.raises(InputError, match=r"a\.tif must store class ids with 0 as black, .*Photometric"):
        read_mask(path, threshold=None, classes=2)
    assert np.array_equal(read_mask(path, threshold=127, classes=2), 1 - few(1))


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({262: None}, "must state PhotometricInterpretation"),
        ({339: 2}, "must hold numbers without a sign .* got SampleFormat 2"),
        ({291: 7}, "must hold plain values, got GrayResponseCurve"),
        ({301: 7}, "must hold plain values, got TransferFunction"),
        ({346: 1}, "must hold plain values, got Indexed"),
        ({433: 7}, "must hold plain values, got Decode"),
        ({339: 4}, "unsupported kind .*SampleFormat 4"),
        ({262: 4}, "unsupported kind .*PhotometricInterpretation 4"),
    ],
)
def test_tiff_fields_that_give_numbers_another_meaning_are_refused(
    tmp_path: Path, tags: dict[int, int | None], message: str
) -> None:
    path = tiff(tmp_path / "a.tif", GREY.tobytes(), (16, 24), tags)
    with pytest.raises(InputError, match=rf"a\.tif .*{message}") as caught:
        read_image(path, 1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "tags", [{280: 50, 281: 60}, {254: 1}, {266: 1}, {263: 2}, {296: 3}, {274: 1}, {284: 1}]
)
def test_tiff_fields_about_the_values_alone_change_nothing(
    tmp_path: Path, tags: dict[int, int | None]
) -> None:
    path = tiff(tmp_path / "a.tif", GREY.tobytes(), (16, 24), tags)
    assert np.array_equal(read_image(path, 1)[..., 0], GREY)
    assert np.array_equal(tifffile.imread(path), GREY)


@pytest.mark.parametrize(("pixels", "bits"), [(few(1), 1), (GREY, 8), (GREY16, 16)])
def test_bits_in_reverse_are_turned(tmp_path: Path, pixels: NDArray[Any], bits: int) -> None:
    reverse = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))
    data = (rows_of(pixels, 1) if bits == 1 else pixels.tobytes()).translate(reverse)
    path = tiff(tmp_path / "a.tif", data, (16, 24), {258: bits, 266: 2})
    want = pixels * np.uint8(255) if bits == 1 else pixels
    assert np.array_equal(read_image(path, 1), unit(want))
    assert np.array_equal(tifffile.imread(path), pixels)


@pytest.mark.parametrize("orientation", TURNS)
def test_tiff_orientation(tmp_path: Path, orientation: int) -> None:
    path = tiff(tmp_path / "a.tif", IDS.tobytes(), (16, 24), {274: orientation})
    assert np.array_equal(read_image(path, 1)[..., 0], TURNS[orientation](IDS))
    assert np.array_equal(read_mask(path, threshold=None, classes=3), TURNS[orientation](IDS))


@pytest.mark.parametrize("predictor", [1, 2, 3])
@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits"])
@pytest.mark.parametrize("pixels", [GREY, GREY16, FLOATS, RGB])
def test_tiff_compression_and_predictor(
    tmp_path: Path, pixels: NDArray[Any], compression: str, predictor: int
) -> None:
    if (predictor == 3) != (pixels.dtype == np.float32) and predictor > 1:
        return
    path = tmp_path / "a.tif"
    PillowImage.fromarray(pixels).save(path, compression=compression, tiffinfo={317: predictor})
    assert np.array_equal(read_image(path, unit(pixels).shape[2]), unit(pixels))
    other = np.atleast_3d(stored_by(path))
    assert np.array_equal(unit(other[..., ::-1]), unit(pixels))


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("compression", [None, "deflate"])
@pytest.mark.parametrize("pixels", [GREY, GREY16, FLOATS, RGB, RGB16])
def test_tiff_byte_order(tmp_path: Path, pixels: NDArray[Any], compression: str | None, order: Any) -> None:
    path = tmp_path / "a.tif"
    kind = "rgb" if pixels.ndim == 3 else "minisblack"
    tifffile.imwrite(path, pixels, byteorder=order, compression=compression, photometric=kind)
    if pixels is FLOATS and compression and order == ">":
        with pytest.raises(InputError, match=r"a\.tif must hold floats uncompressed or in little-endian"):
            read_image(path, 1)
    else:
        assert np.array_equal(read_image(path, unit(pixels).shape[2]), unit(pixels))


def test_tiff_tiles_planes_and_bigtiff(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, GREY16, tile=(16, 16))
    assert np.array_equal(read_image(path, 1), unit(GREY16))
    tifffile.imwrite(path, np.moveaxis(RGB, -1, 0).copy(), photometric="rgb", planarconfig="separate")
    assert np.array_equal(read_image(path, 3), RGB)
    tifffile.imwrite(path, GREY16, bigtiff=True)
    assert np.array_equal(read_image(path, 1), unit(GREY16))


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow warns of what it cannot read, then refuses it
def test_a_big_endian_bigtiff_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, GREY16, bigtiff=True, byteorder=">")
    with pytest.raises(InputError, match=r"a\.tif must .*got: a big-endian BigTIFF; .*save it as PNG"):
        read_image(path, 1)


@pytest.mark.parametrize(
    ("extra", "alpha", "message"),
    [
        ("unspecified", 255, r"an unspecified channel \(ExtraSamples 0\); remove it"),
        ("assocalpha", 255, None),
        ("unassalpha", 255, None),
        ("assocalpha", 9, "transparent pixels"),
        ("unassalpha", 9, "transparent pixels"),
    ],
)
def test_tiff_channels_besides_the_colours(
    tmp_path: Path, extra: str, alpha: int, message: str | None
) -> None:
    path = tmp_path / "a.tif"
    stored = np.dstack([RGB, np.full((16, 24), alpha, np.uint8)])
    tifffile.imwrite(path, stored, photometric="rgb", extrasamples=[extra])
    if message is None:
        assert np.array_equal(read_image(path, 3), RGB)
    else:
        with pytest.raises(InputError, match=rf"a\.tif must .*{message}"):
            read_image(path, 3)


def test_a_grey_tiff_with_a_second_channel_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    stored = np.dstack([GREY, GREY])
    tifffile.imwrite(
        path, stored, photometric="minisblack", planarconfig="contig", extrasamples=["unspecified"]
    )
    with pytest.raises(InputError, match=r"a\.tif must hold only grey or RGB, .*ExtraSamples 0"):
        read_image(path, 1)


def test_tiff_palettes(tmp_path: Path) -> None:
    path, table = tmp_path / "a.tif", random.integers(0, 256, (3, 256)).astype(np.uint16)
    tifffile.imwrite(path, GREY, photometric="palette", colormap=table * np.uint16(257))
    assert np.array_equal(read_image(path, 3), np.moveaxis(table[:, GREY], 0, -1))
    tifffile.imwrite(path, IDS, photometric="palette", colormap=table)  # 8 bits where 16 must be
    assert np.array_equal(read_mask(path, threshold=None, classes=3), IDS)
    with pytest.raises(InputError, match=r"a\.tif must have a palette of 16 bits, .*ColorMap"):
        read_image(path, 3)


def test_tiff_reference_levels(tmp_path: Path) -> None:
    path, whole = tmp_path / "a.tif", (0.0, 255.0, 0.0, 255.0, 0.0, 255.0)
    PillowImage.fromarray(RGB).save(path, tiffinfo={532: whole})
    assert np.array_equal(read_image(path, 3), RGB)
    PillowImage.fromarray(RGB).save(path, tiffinfo={532: (16.0, 235.0) * 3})
    with pytest.raises(InputError, match=r"a\.tif must hold plain values, got ReferenceBlackWhite"):
        read_image(path, 3)


def test_tiff_in_luma_and_chroma(tmp_path: Path) -> None:
    path, shown = tmp_path / "a.tif", np.repeat(np.arange(0, 240, 15, dtype=np.uint8)[:, None], 24, axis=1)
    picture = PillowImage.fromarray(np.dstack([shown, 255 - shown, shown]))
    picture.convert("YCbCr").save(path, compression="jpeg", quality=95)
    assert np.abs(read_image(path, 3).astype(int) - np.asarray(picture)).max() < 20
    for mode in ("YCbCr", "LAB"):
        data = picture.convert("RGB" if mode == "LAB" else mode).tobytes()
        written = PillowImage.frombytes(mode, picture.size, data)
        written.save(path)
        with pytest.raises(InputError, match=rf"a\.tif must have 8 or 16 bits, grey or RGB, .* kind {mode}"):
            read_image(path, 3)
