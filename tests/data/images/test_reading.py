import hashlib
import re
import struct
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image as PillowImage

from seg_mia.data.images.reading import digest, list_files, pairs, read_image, read_mask
from seg_mia.errors import InputError

random = np.random.default_rng(0)
GREY = random.integers(0, 256, (6, 9), dtype=np.uint8)
RGB = random.integers(0, 256, (6, 9, 3), dtype=np.uint8)
GREY16 = random.integers(0, 65536, (6, 9), dtype=np.uint16)
RGB16 = random.integers(0, 65536, (6, 9, 3), dtype=np.uint16)
FLOATS = random.random((6, 9), dtype=np.float32)
IDS = (np.arange(54).reshape(6, 9) % 4).astype(np.uint8)


def save(path: Path, pixels: NDArray[Any], **options: Any) -> Path:
    """Write 8 bits with Pillow, TIFF of more with tifffile, and PNG of 16 bits with OpenCV."""
    if pixels.dtype in (np.uint8, np.bool_):
        PillowImage.fromarray(pixels).save(path, **options)
    elif path.suffix == ".tif":
        tifffile.imwrite(path, pixels, **options)
    else:
        order = [2, 1, 0, 3][: pixels.shape[2]] if pixels.ndim == 3 else ...
        assert cv2.imwrite(str(path), pixels[..., order] if pixels.ndim == 3 else pixels)
    return path


def save_palette(path: Path, indices: NDArray[np.uint8], palette: list[int], **options: Any) -> Path:
    image = PillowImage.fromarray(indices)
    image.putpalette(palette)
    image.save(path, **options)
    return path


def save_raw_png(path: Path, rows: list[bytes], width: int, *, depth: int, kind: int) -> Path:
    """Write a PNG of a depth that Pillow and OpenCV do not write."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = struct.pack(">IIBBBBB", width, len(rows), depth, kind, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    parts = (chunk(b"IHDR", head), chunk(b"IDAT", pixels), chunk(b"IEND", b""))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    return path


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp", ".TIFF"])
def test_eight_bits_come_back_as_they_were(tmp_path: Path, suffix: str) -> None:
    image = read_image(save(tmp_path / f"a{suffix}", RGB), 3)
    assert image.dtype == np.uint8
    assert np.array_equal(image, RGB)
    assert np.array_equal(read_image(save(tmp_path / f"b{suffix}", GREY), 1), GREY[..., None])


@pytest.mark.parametrize(
    ("name", "pixels", "options"),
    [
        ("grey.png", GREY16, {}),
        ("colour.png", RGB16, {}),
        ("opaque.png", np.dstack([RGB16, np.full((6, 9), 65535, np.uint16)]), {}),
        ("grey.tif", GREY16, {}),
        ("big_endian.tif", GREY16, {"byteorder": ">"}),
        ("colour.tif", RGB16, {"photometric": "rgb"}),
        ("colour_big_endian.tif", RGB16, {"photometric": "rgb", "byteorder": ">"}),
    ],
)
def test_sixteen_bits_keep_all_of_them(
    tmp_path: Path, name: str, pixels: NDArray[np.uint16], options: dict[str, Any]
) -> None:
    want = np.atleast_3d(pixels)[..., :3]
    image = read_image(save(tmp_path / name, pixels, **options), want.shape[2])
    assert image.dtype == np.float32
    assert np.array_equal(image, want.astype(np.float32) / 65535)


def test_floats_in_range_come_back_as_they_were(tmp_path: Path) -> None:
    image = read_image(save(tmp_path / "a.tif", FLOATS), 1)
    assert image.dtype == np.float32
    assert np.array_equal(image, FLOATS[..., None])


@pytest.mark.parametrize("value", [-0.01, 1.01, np.nan, np.inf])
def test_floats_out_of_range_are_refused(tmp_path: Path, value: float) -> None:
    pixels = FLOATS.copy()
    pixels[2, 3] = value
    with pytest.raises(InputError, match=r"a\.tif must hold floats in \[0, 1\], got \[.*\]; rescale"):
        read_image(save(tmp_path / "a.tif", pixels), 1)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
@pytest.mark.parametrize(("orientation", "turn"), [(6, -1), (3, 2), (8, 1)])
def test_exif_rotation_is_carried_out(tmp_path: Path, suffix: str, orientation: int, turn: int) -> None:
    pixels = np.zeros((16, 32), np.uint8)
    pixels[:8, :8] = 255
    exif = PillowImage.Exif()
    exif[0x0112] = orientation
    image = read_image(save(tmp_path / f"a{suffix}", pixels, exif=exif), 1)
    assert np.array_equal(image[..., 0] > 127, np.rot90(pixels, turn) > 127)


def test_a_rotated_grey_png_of_sixteen_bits_is_turned(tmp_path: Path) -> None:
    exif = PillowImage.Exif()
    exif[0x0112] = 6
    PillowImage.fromarray(GREY16).save(tmp_path / "a.png", exif=exif)
    want = np.rot90(GREY16, -1).astype(np.float32) / 65535
    assert np.array_equal(read_image(tmp_path / "a.png", 1)[..., 0], want)


def test_palettes_are_expanded(tmp_path: Path) -> None:
    palette = [10, 20, 30, 200, 100, 0, 7, 7, 7, 255, 255, 255]
    path = save_palette(tmp_path / "a.png", IDS, palette)
    assert np.array_equal(read_image(path, 3), np.array(palette, np.uint8).reshape(4, 3)[IDS])


@pytest.mark.parametrize("name", ["rgba.png", "la.png", "palette.png", "wide.png", "key.png"])
@pytest.mark.parametrize("opaque", [True, False])
def test_alpha_is_dropped_where_opaque_and_refused_elsewhere(tmp_path: Path, name: str, opaque: bool) -> None:
    path = tmp_path / name
    alpha = np.full((6, 9), 255, np.uint8)
    alpha[0, 0] = 255 if opaque else 254
    match path.stem:
        case "rgba":
            save(path, np.dstack([RGB, alpha]))
            want: NDArray[Any] = RGB
        case "la":
            PillowImage.merge("LA", [PillowImage.fromarray(x) for x in (GREY, alpha)]).save(path)
            want = np.dstack([GREY] * 3)
        case "palette":
            trns = bytes([255, 255, 255, 255 if opaque else 9])
            save_palette(path, IDS, [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3], transparency=trns)
            want = np.dstack([IDS] * 3)
        case "wide":
            save(path, np.dstack([RGB16, alpha.astype(np.uint16) * 257]))
            want = RGB16.astype(np.float32) / 65535
        case _:
            save(path, IDS, transparency=200 if opaque else 3)
            want = np.dstack([IDS] * 3)
    if opaque:
        assert np.array_equal(read_image(path, 3), want)
    else:
        with pytest.raises(InputError, match=rf"{name} must be opaque, got transparent pixels; flatten"):
            read_image(path, 3)


def test_channels_are_repeated_merged_or_refused(tmp_path: Path) -> None:
    grey = save(tmp_path / "grey.png", GREY)
    thrice = save(tmp_path / "thrice.png", np.dstack([GREY] * 3))
    assert np.array_equal(read_image(grey, 3), np.dstack([GREY] * 3))
    assert np.array_equal(read_image(thrice, 1), GREY[..., None])
    with pytest.raises(
        InputError, match=r"colour\.png must be grey .*, got a colour image; set channels to 3"
    ):
        read_image(save(tmp_path / "colour.png", RGB), 1)


def test_black_and_white_images_span_the_range(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", GREY > 99)
    assert np.array_equal(read_image(path, 1)[..., 0], (GREY > 99) * np.uint8(255))


def save_stack(path: Path) -> None:
    tifffile.imwrite(path, np.stack([GREY] * 3), photometric="minisblack")


def save_cmyk(path: Path) -> None:
    PillowImage.fromarray(RGB).convert("CMYK").save(path, format="TIFF")


def save_planes(path: Path) -> None:
    tifffile.imwrite(path, np.moveaxis(RGB16, -1, 0), photometric="rgb", planarconfig="separate")


def save_turned(path: Path) -> None:
    save(path, RGB16)
    exif = PillowImage.Exif()
    exif[0x0112] = 6
    body = exif.tobytes()[6:]
    chunk = struct.pack(">I", len(body)) + b"eXIf" + body + struct.pack(">I", zlib.crc32(b"eXIf" + body))
    png = path.read_bytes()
    path.write_bytes(png[:33] + chunk + png[33:])


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("a.tif", save_stack, "must hold one image, got 3 pages; save each"),
        ("a.tif", save_cmyk, "must have 8 or 16 bits, grey or RGB, .* got 8 bits of kind CMYK; convert"),
        (
            "a.tif",
            lambda path: tifffile.imwrite(path, GREY16.astype(np.uint32)),
            "must .*got 32 bits of kind I;",
        ),
        (
            "a.tif",
            lambda path: tifffile.imwrite(path, GREY16.view(np.int16)),
            "must .*got 16 bits of kind I;",
        ),
        (
            "a.tif",
            lambda path: tifffile.imwrite(path, FLOATS.astype(np.float64)),
            "must be a whole PNG, JPEG",
        ),
        ("a.tif", save_planes, "must be 16-bit RGB in a plain layout, got another; save it as PNG"),
        ("a.png", save_turned, "must be upright where it has 16-bit RGB, got a rotated one; rotate"),
        ("a.png", lambda path: path.write_text("no image"), "must be a whole PNG, .*, got: .*; replace"),
        ("a.png", lambda path: path.write_bytes(b""), "must be a whole PNG"),
        ("a.png", Path.exists, r"must be a whole PNG, .*No such file"),
        ("a.png", lambda path: path.mkdir(), "must be a whole PNG, .*directory"),
        ("a.png", lambda path: PillowImage.fromarray(RGB).save(path, format="GIF"), "must be a whole PNG"),
    ],
)
def test_what_could_only_be_guessed_at_is_refused(
    tmp_path: Path, name: str, write: Callable[[Path], object], message: str
) -> None:
    write(tmp_path / name)
    with pytest.raises(InputError, match=rf"^{re.escape(str(tmp_path / name))} {message}") as error:
        read_image(tmp_path / name, 3)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "pixels"),
    [
        *((name, RGB) for name in ("a.png", "a.jpg", "a.bmp", "a.tif")),
        ("grey16.png", GREY16),
        ("rgb16.png", RGB16),
        ("grey16.tif", GREY16),
        ("rgb16.tif", RGB16),
        ("float.tif", FLOATS),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow warns of a cut directory, then refuses it
def test_a_truncated_file_never_gives_other_pixels(tmp_path: Path, name: str, pixels: NDArray[Any]) -> None:
    options = {"photometric": "rgb"} if name == "rgb16.tif" else {}
    path = save(tmp_path / name, pixels, **options)
    whole, want = path.read_bytes(), read_image(path, 3)
    *early, last = range(0, len(whole) - 40, max(1, len(whole) // 25))
    for cut in (*early, last):
        path.write_bytes(whole[:cut])
        with pytest.raises(InputError, match=name):
            read_image(path, 3)
    for cut in range(len(whole) - 40, len(whole), 3):
        path.write_bytes(whole[:cut])
        with suppress(InputError):  # PNG ends with checksums, all pixels may have come before the cut
            assert np.array_equal(read_image(path, 3), want)


@pytest.mark.parametrize(
    "name", ["rgb.jpg", "grey.png", "thrice.png", "wide.png", "palette.png", "one_bit.png"]
)
def test_a_threshold_makes_a_binary_mask(tmp_path: Path, name: str) -> None:
    want = np.zeros((16, 24), np.uint8)
    want[3:9, 5:20] = 1
    path = tmp_path / name
    match path.stem:
        case "palette":
            save_palette(path, want, [0, 0, 0, 255, 255, 255])
        case "wide":
            save(path, want.astype(np.uint16) * 65535)
        case "one_bit":
            save(path, want.astype(bool))
        case "grey":
            save(path, want * np.uint8(255))
        case _:
            save(path, np.dstack([want * np.uint8(255)] * 3))
    assert np.array_equal(read_mask(path, threshold=127, classes=2), want)


def test_the_threshold_itself_is_background(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", np.array([[126, 127, 128, 255]], np.uint8))
    assert read_mask(path, threshold=127, classes=2).tolist() == [[0, 0, 1, 1]]


def test_class_ids_come_back_as_they_were(tmp_path: Path) -> None:
    ids = IDS.copy()
    ids[0, 0] = 255
    for path in (
        save(tmp_path / "grey.png", ids),
        save(tmp_path / "thrice.png", np.dstack([ids] * 3)),
        save(tmp_path / "wide.png", ids.astype(np.uint16)),
        save_palette(tmp_path / "palette.png", ids, [9, 9, 9] * 256),
        save_palette(tmp_path / "clear.png", ids, [9, 9, 9] * 256, transparency=0),
    ):
        assert np.array_equal(read_mask(path, threshold=None, classes=4), ids)


@pytest.mark.parametrize(
    ("depth", "row", "want"),
    [(1, 0b01100000, [0, 1, 1, 0]), (2, 0b00011011, [0, 1, 2, 3]), (4, 0x2F, [2, 15])],
)
def test_class_ids_of_few_bits_are_not_stretched(
    tmp_path: Path, depth: int, row: int, want: list[int]
) -> None:
    path = save_raw_png(tmp_path / "a.png", [bytes([row])], len(want), depth=depth, kind=0)
    assert read_mask(path, threshold=None, classes=16).tolist() == [want]


@pytest.mark.parametrize(
    ("pixels", "threshold", "message"),
    [
        (IDS, None, r"255 \(ignore\), got 3 \(13 pixels\); set threshold .*, labels, or raise classes"),
        (
            np.arange(20, dtype=np.uint8)[None],
            None,
            r"got 3 \(1 pixels\), 4 \(1 pixels\), .*, 10 \(1 pixels\), ...; set",
        ),
        (np.array([[0, 256]], np.uint16), None, r"got 256 \(1 pixels\); set threshold"),
        (RGB, None, "must be a grey or palette mask, got a colour one; save"),
        (RGB, 127, "must be a grey or palette mask, got a colour one; save"),
        (FLOATS, None, "must be a mask of whole numbers, got floats; save"),
        (FLOATS, 127, "must be a mask of whole numbers, got floats; save"),
    ],
)
def test_masks_of_another_kind_are_refused(
    tmp_path: Path, pixels: NDArray[Any], threshold: int | None, message: str
) -> None:
    path = save(tmp_path / ("a.tif" if pixels.dtype == np.float32 else "a.png"), pixels)
    with pytest.raises(InputError, match=message):
        read_mask(path, threshold=threshold, classes=3)


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


def test_files_are_listed_by_name_without_suffix(tmp_path: Path) -> None:
    touch(tmp_path, "b.png", "A.JPG", "p1/s.2.tif", ".hidden.png", ".git/x.png", "index.csv")
    found = list_files(tmp_path)
    assert list(found) == ["A", "b", "p1/s.2"]
    assert found["p1/s.2"] == tmp_path.resolve() / "p1" / "s.2.tif"
    assert list(list_files(tmp_path, (".csv",))) == ["index"]


def test_a_link_to_a_file_inside_is_followed_and_so_is_the_folder(tmp_path: Path) -> None:
    touch(tmp_path, "real/a.png")
    (tmp_path / "real" / "b.png").symlink_to(tmp_path / "real" / "a.png")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert list(list_files(tmp_path / "link")) == ["a", "b"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["folder/a.png", "folder/a.jpg"], r"must hold one a, got a\.(png|jpg) and a\.(png|jpg); remove"),
        (["folder"], "folder must be a folder, found none; correct the path"),
        (["folder/notes.txt"], r"folder must hold images \(.png, .*\), found none; correct"),
    ],
)
def test_folders_that_do_not_list_are_refused(tmp_path: Path, names: list[str], message: str) -> None:
    touch(tmp_path, *names)
    with pytest.raises(InputError, match=message):
        list_files(tmp_path / "folder")


@pytest.mark.parametrize("target", ["outside.png", "outside", "folder/inner", "missing/../../x.png"])
def test_links_out_of_a_folder_or_to_one_are_refused(tmp_path: Path, target: str) -> None:
    touch(tmp_path, "outside.png", "outside/b.png", "folder/inner/a.png")
    (tmp_path / "folder" / "link.png").symlink_to(tmp_path / target)
    with pytest.raises(InputError, match=r"link\.png must not be a link out of .*; copy the files there"):
        list_files(tmp_path / "folder")


def test_pairs_join_by_name() -> None:
    images = {name: Path(f"{name}.jpg") for name in ("b", "a")}
    masks = {name: Path(f"{name}.png") for name in ("a", "b")}
    assert pairs(images, masks) == [("a", Path("a.jpg"), Path("a.png")), ("b", Path("b.jpg"), Path("b.png"))]


@pytest.mark.parametrize(
    ("images", "masks", "message"),
    [
        ("abcdef", "f", r"must pair by name, 5 of 6 images have no mask \(a, b, c, \.\.\.\); rename"),
        ("ab", "abc", r"must pair by name, 1 of 3 masks have no image \(c\); rename"),
    ],
)
def test_files_without_partner_are_refused(images: str, masks: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        pairs({name: Path(name) for name in images}, {name: Path(name) for name in masks})


def test_the_digest_is_of_all_bytes_in_order(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"one")
    (tmp_path / "b").write_bytes(b"two")
    both = hashlib.sha256(hashlib.sha256(b"one").digest() + hashlib.sha256(b"two").digest()).hexdigest()
    assert digest(tmp_path / "a", tmp_path / "b") == both
    assert digest(tmp_path / "b", tmp_path / "a") != both
    with pytest.raises(InputError, match="none must be readable, got No such file or directory; restore"):
        digest(tmp_path / "none")


def test_class_ids_are_not_taken_from_a_jpeg(tmp_path: Path) -> None:
    ids = np.zeros((64, 64), np.uint8)
    ids[10:30, 10:30] = 1
    PillowImage.fromarray(ids).save(tmp_path / "a.jpg", quality=75)
    with pytest.raises(InputError, match=r"a\.jpg must hold class ids, which JPEG"):
        read_mask(tmp_path / "a.jpg", threshold=None, classes=2)
