"""TIFF files of any number of bands, by tifffile and written byte by byte, and value ranges."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image as PillowImage

from seg_mia.data.images.reading import read_image
from seg_mia.data.resize import resized
from seg_mia.data.sets.folder import Folder
from seg_mia.errors import InputError
from tests.data.raw_images import tiff

random = np.random.default_rng(0)
SIZE = (20, 34)


def bands(count: int, kind: str = "u1") -> Any:
    """Return bands of different means, (count, H, W)."""
    values = random.random((count, *SIZE)) * 100 + 10 * np.arange(count)[:, None, None]
    return values.astype(kind)


@pytest.mark.parametrize("count", [2, 4, 5, 7, 13])
@pytest.mark.parametrize(
    "options",
    [
        {"planarconfig": "contig"},
        {"planarconfig": "separate"},
        {"planarconfig": "contig", "compression": "deflate", "predictor": True},
        {"planarconfig": "separate", "tile": (16, 16)},
        {"planarconfig": "contig", "rowsperstrip": 3},
        {"planarconfig": "contig", "bigtiff": True, "byteorder": ">"},
        {"pages": True},
        {"pages": True, "compression": "deflate"},
    ],
)
def test_bands_lie_in_samples_planes_or_pages(tmp_path: Path, count: int, options: dict[str, Any]) -> None:
    path, values = tmp_path / "a.tif", bands(count)
    options = dict(options)
    if options.pop("pages", False):
        tifffile.imwrite(path, values, photometric="minisblack", **options)
    else:
        stored = values if options["planarconfig"] == "separate" else np.moveaxis(values, 0, -1)
        tifffile.imwrite(path, stored, photometric="minisblack", **options)
    image = read_image(path, count)
    assert image.dtype == np.uint8
    assert_array_equal(image, np.moveaxis(values, 0, -1))


def test_bands_written_by_hand(tmp_path: Path) -> None:
    values = np.moveaxis(bands(6), 0, -1)
    tags = {277: 6, 279: values.size}
    path = tiff(tmp_path / "a.tif", np.ascontiguousarray(values).tobytes(), SIZE, tags)
    assert_array_equal(read_image(path, 6), values)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("kind", ["u1", "u2", "i2", "u4", "i4", "f2", "f4", "f8"])
def test_a_range_of_values_is_stated(tmp_path: Path, kind: str, order: Any) -> None:
    path, values = tmp_path / "a.tif", bands(5, kind)
    tifffile.imwrite(path, values, photometric="minisblack", planarconfig="separate", byteorder=order)
    image = read_image(path, 5, (20, 120))
    assert image.dtype == np.float32
    wanted = ((np.moveaxis(values.astype(np.float64), 0, -1) - 20) / 100).clip(0, 1)
    assert_allclose(image, wanted, atol=1e-6)
    if kind == "u2":
        assert_allclose(read_image(path, 5), np.moveaxis(values, 0, -1) / 65535, atol=1e-7)
    elif kind != "u1":
        with pytest.raises(InputError, match=r"set(ting)? value_range|in \[0, 1\]"):
            read_image(path, 5)


def test_a_range_holds_for_grey_and_colours_too(tmp_path: Path) -> None:
    grey = np.array([[0, 1000], [2000, 4095]], np.uint16)
    PillowImage.fromarray(grey).save(tmp_path / "grey.png")
    assert_allclose(read_image(tmp_path / "grey.png", 1, (0, 4095))[..., 0], grey / 4095, atol=1e-6)
    PillowImage.fromarray(grey.astype(np.float32)).save(tmp_path / "float.tif")
    image: Any = read_image(tmp_path / "float.tif", 3, (1000, 3000))
    assert_allclose(image[..., 2], np.array([[0.0, 0.0], [0.5, 1.0]]), atol=1e-6)
    with pytest.raises(InputError, match=r"floats in \[0, 1\], got \[0, 4.1e\+03\]; .* value_range"):
        read_image(tmp_path / "float.tif", 1)


@pytest.mark.parametrize("kind", ["u1", "u2", "f4"])
def test_a_range_of_inverted_values_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.tif"
    values = bands(1, "f4")[0] / (200 if kind == "f4" else 1)
    tifffile.imwrite(path, values.astype(kind), photometric="miniswhite")
    assert read_image(path, 1).shape == (*SIZE, 1)
    for channels in (1, 3):
        with pytest.raises(InputError, match="must have 0 as black for value_range, got 0 as white"):
            read_image(path, channels, (0, 150))


def _written(path: Path, values: Any, **options: Any) -> None:
    tifffile.imwrite(path, values, **{"photometric": "minisblack", "planarconfig": "separate"} | options)


@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("options", [{}, {"compression": "deflate"}, {"tile": (16, 16)}, {"rowsperstrip": 5}])
def test_truncated_files_are_one_line(tmp_path: Path, part: float, options: dict[str, Any]) -> None:
    path = tmp_path / "a.tif"
    _written(path, bands(5), **options)
    data = path.read_bytes()
    path.write_bytes(data[: int(part * len(data))])
    with pytest.raises(InputError, match=r"a\.tif (cannot be read as|must be a whole) TIFF") as caught:
        read_image(path, 5)
    assert "\n" not in str(caught.value)


def test_what_is_no_such_image_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    _written(path, bands(5))
    with pytest.raises(InputError, match="must have 4 bands, as channels says, got 5; correct channels"):
        read_image(path, 4)
    with tifffile.TiffWriter(path) as writer:
        writer.write(bands(1)[0])
        writer.write(bands(1)[0][:9])
    with pytest.raises(InputError, match="bands of one size and type, got 2 pages"):
        read_image(path, 2)
    _written(path, bands(4), photometric="miniswhite")
    with pytest.raises(InputError, match=r"0 as black .*, got 0 with 8 bits"):
        read_image(path, 4)
    _written(path, bands(4), extratags=[(274, 3, 1, 6, True)])
    with pytest.raises(InputError, match="must be upright, got Orientation 6"):
        read_image(path, 4)
    _written(path, bands(4, "c8"))
    with pytest.raises(InputError, match="numbers of 8 to 32 bits or floats, got complex64"):
        read_image(path, 4)
    holed = bands(4, "f4")
    holed[1, 2, 3] = np.nan
    _written(path, holed)
    with pytest.raises(InputError, match="must hold finite values"):
        read_image(path, 4, (0, 100))
    PillowImage.fromarray(np.zeros((4, 4, 4), np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="must be a TIFF file to hold 4 channels"):
        read_image(tmp_path / "a.png", 4)
    path.write_bytes(b"no image")
    with pytest.raises(InputError, match="cannot be read as TIFF"):
        read_image(path, 4)


def _without_last(path: Path, code: int, count: int) -> None:
    """Shorten a field of a little-endian TIFF file to its first values."""
    with tifffile.TiffFile(path) as file:
        offset = file.pages.first.tags[code].offset
    data = bytearray(path.read_bytes())
    data[offset + 4 : offset + 8] = count.to_bytes(4, "little")
    path.write_bytes(data)


@pytest.mark.parametrize("options", [{"rowsperstrip": 5}, {"tile": (16, 16)}, {"compression": "deflate"}])
@pytest.mark.filterwarnings("ignore")
def test_missing_strips_and_tiles_are_refused(tmp_path: Path, options: dict[str, Any]) -> None:
    path = tmp_path / "a.tif"
    _written(path, bands(5), **options)
    with tifffile.TiffFile(path) as file:
        codes = (324, 325) if "tile" in options else (273, 279)
        count = len(file.pages.first.dataoffsets)
    for code in codes:
        _without_last(path, code, count - 2)
    with pytest.raises(InputError, match="must be a whole TIFF file, got a truncated one"):
        read_image(path, 5)


def test_a_strip_shorter_than_its_rows_is_refused(tmp_path: Path) -> None:
    values = np.moveaxis(bands(6), 0, -1)
    data = np.ascontiguousarray(values).tobytes()
    path = tiff(tmp_path / "a.tif", data, SIZE, {277: 6, 279: len(data) - 3})
    with pytest.raises(InputError, match="must be a whole TIFF file, got a truncated one"):
        read_image(path, 6)


def test_size_and_number_of_bands_are_checked_before_decoding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.tif"
    _written(path, bands(5))
    monkeypatch.setattr(tifffile.TiffPage, "asarray", None)
    with pytest.raises(InputError, match="must have 4 bands, as channels says, got 5"):
        read_image(path, 4)
    tifffile.imwrite(path, np.zeros((2, *SIZE, 3), np.uint8), photometric="rgb")
    with pytest.raises(InputError, match="one image, got 2 pages of 3 samples"):
        read_image(path, 6)
    monkeypatch.setenv("SEG_MIA_LARGEST_IMAGE", str(SIZE[0] * SIZE[1] - 1))
    with pytest.raises(InputError, match=r"at most 679 pixels, its header states 34x20"):
        read_image(path, 6)


@pytest.mark.parametrize(
    ("tag", "message"),
    [
        ((338, 3, 1, 2, True), r"an alpha channel \(ExtraSamples 2\)"),
        ((301, 3, 768, tuple(range(768)), True), "TransferFunction, which changes"),
        ((291, 3, 256, tuple(range(256)), True), "GrayResponseCurve, which changes"),
        ((433, 12, 2, (1.0, 0.0), True), "Decode, which changes"),
        ((532, 5, 6, (16, 1, 235, 1, 128, 1, 240, 1, 128, 1, 240, 1), True), "ReferenceBlackWhite, which"),
        ((532, 5, 6, (0, 1, 255, 1, 0, 1, 255, 1, 0, 1, 255, 1), True), None),
    ],
)
def test_alpha_and_display_tables_are_refused(tmp_path: Path, tag: Any, message: str | None) -> None:
    path, values = tmp_path / "a.tif", bands(4)
    if tag[0] == 338:
        tifffile.imwrite(path, np.moveaxis(values, 0, -1), photometric="rgb", extrasamples=["unassalpha"])
    else:
        _written(path, values, extratags=[tag])
    if message is None:
        assert_array_equal(read_image(path, 4), np.moveaxis(values, 0, -1))
        return
    with pytest.raises(InputError, match=message):
        read_image(path, 4)


def test_many_channels_are_reduced_by_area_like_single_ones() -> None:
    image = np.moveaxis(bands(7), 0, -1)
    for size in ((10, 17), (8, 50), (64, 64)):
        parts = [resized(image[..., number : number + 1], *size) for number in range(7)]
        assert_array_equal(resized(image, *size), np.concatenate(parts, axis=2))


def test_a_folder_of_bands(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    for number in range(4):
        _written(root / "images" / f"{number}.tif", bands(6, "i2") - 50)
        mask = np.zeros(SIZE, np.uint8)
        mask[:9, :9] = 1
        PillowImage.fromarray(mask).save(root / "masks" / f"{number}.png")
    options: dict[str, Any] = {"root": str(root), "members": 1, "nonmembers": 1, "channels": 6, "size": 16}
    data = Folder(**options, value_range=[-50, 150], augment="standard")
    data.setup()
    assert data.cached.images.shape == (4, 16, 16, 6)
    assert data.cached.images.dtype == np.float32
    assert next(iter(data.train_dataloader())).image.shape == (1, 6, 16, 16)
    changed = Folder(**options, value_range=[-50, 151])
    assert changed.read_source().settings != data.source.settings
    wrongs: list[list[float]] = [[1], [2, 1], [0, float("inf")]]
    for wrong in wrongs:
        with pytest.raises(InputError, match="value_range must be two ascending numbers"):
            Folder(**options, value_range=wrong)
