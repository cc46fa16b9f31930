"""Folders of images put together at random: all is read, or one line says what is wrong."""

import os
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as PillowImage

from seg_mia.data.sets.folder import Folder
from tests.data.fuzz import FEW, Piece, escaped, place, refusal

WIDTH, HEIGHT = 12, 9
RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
GREY = COLOUR[..., 0]
DISC = np.where(np.indices((HEIGHT, WIDTH)).sum(0) > 9, 255, 0).astype(np.uint8)


def encoded(pixels: Any, kind: str = "PNG", mode: str | None = None, **options: Any) -> bytes:
    """Return pixels as the bytes of a picture file."""
    picture = PillowImage.fromarray(pixels)
    file = BytesIO()
    (picture if mode is None else picture.convert(mode)).save(file, kind, **options)
    return file.getvalue()


def file(what: str, content: bytes, *, bad: bool | None = False) -> Piece:
    return Piece(what, bad, lambda path: write(path, content))


def write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def with_alpha(pixels: Any, least: int) -> bytes:
    alpha = np.full((HEIGHT, WIDTH), 255, np.uint8)
    alpha[2, 3] = least
    colours = np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else pixels
    return encoded(np.dstack([colours, alpha]))


def rotated() -> bytes:
    exif = PillowImage.Exif()
    exif[0x0112] = 6  # lies on its side in the file, upright when shown
    return encoded(np.rot90(COLOUR).copy(), "JPEG", exif=exif)


def bomb() -> bytes:
    """A header that claims 60000x60000 pixels."""
    content = bytearray(encoded(GREY))
    content[16:24] = (60000).to_bytes(4, "big") * 2
    return bytes(content)


def pages() -> bytes:
    other = PillowImage.fromarray(GREY)
    return encoded(GREY, "TIFF", save_all=True, append_images=[other])


def pipe(path: Path) -> None:
    os.mkfifo(path)


def locked(path: Path) -> None:
    path.write_bytes(encoded(COLOUR))
    path.chmod(0)


BROKEN = [
    file("empty", b"", bad=True),
    file("text", b"no picture\nat all", bad=True),
    file("bomb", bomb(), bad=True),
    file("pages", pages(), bad=True),
    Piece("pipe", True, pipe),
    Piece("link to nothing", True, lambda path: path.symlink_to(path.with_name("nothing"))),
    Piece("link in a circle", True, lambda path: path.symlink_to(path)),
    Piece("link out", True, lambda path: path.symlink_to("/etc/hostname")),
    Piece("link to a folder", True, lambda path: path.symlink_to(path.parent)),
]
IMAGES = [
    file("colour", encoded(COLOUR)),
    file("grey", encoded(GREY)),
    file("sixteen bits", encoded(GREY.astype(np.uint16) * 257)),
    file("palette", encoded(COLOUR, mode="P")),
    file("rotated", rotated()),
    file("tiff", encoded(COLOUR, "TIFF")),
    file("opaque", with_alpha(COLOUR, 255)),
    file("floats", encoded(GREY.astype(np.float32) / 255, "TIFF")),
    file("transparent", with_alpha(COLOUR, 9), bad=True),
    file("floats beyond 1", encoded(GREY.astype(np.float32), "TIFF"), bad=True),
    file("other size", encoded(COLOUR[:5]), bad=True),
    Piece("locked", None, locked),  # root may read it
    *BROKEN,
]
MASKS = [
    file("grey", encoded(DISC)),
    file("one bit", encoded(DISC, mode="1")),
    file("palette", encoded(DISC, mode="P")),
    file("colour of greys", encoded(np.repeat(DISC[..., None], 3, axis=2))),
    file("opaque", with_alpha(DISC, 255)),
    file("sixteen bits", encoded(DISC.astype(np.uint16) * 257)),
    file("transparent", with_alpha(DISC, 0), bad=True),
    file("colours", encoded(COLOUR), bad=True),
    file("floats", encoded(GREY.astype(np.float32) / 255, "TIFF"), bad=True),
    file("other size", encoded(DISC[:, :7]), bad=True),
    Piece("absent", True, lambda _path: None),
    *BROKEN,
]
NAMES = [
    "plain",
    "with space",
    "zweiäöü",
    "名前",
    "dot.dot",
    "deep/er/inner",
    "quo'te\"",
    "per%s{0}",
    "\udcff odd",
]
BAD_NAMES = ["line\nbreak", "red\x1b[31m", "para\u2029graph", "folder\n/inner"]


@st.composite
def cut(draw: st.DrawFn) -> Piece:
    """A valid file that lost its end, or of which one byte is another."""
    whole = draw(st.sampled_from([encoded(COLOUR), encoded(DISC), rotated(), encoded(GREY, "TIFF")]))
    if draw(st.booleans()):
        return file("cut", whole[: draw(st.integers(0, len(whole) // 2))], bad=True)
    at, value = draw(st.integers(0, len(whole) - 1)), draw(st.integers(0, 255))
    return file(
        f"byte {at} is {value} in {whole[:4]!r}", whole[:at] + bytes([value]) + whole[at + 1 :], bad=None
    )


def parts(pieces: list[Piece]) -> st.SearchStrategy[Piece]:
    fine = [piece for piece in pieces if piece.bad is False]
    return st.one_of(st.sampled_from(fine), st.sampled_from(fine), st.sampled_from(pieces), cut())


class Pair(NamedTuple):
    name: str
    suffix: str
    image: Piece
    mask: Piece


PAIRS = st.lists(
    st.builds(
        Pair,
        st.sampled_from([*NAMES, *NAMES, *BAD_NAMES]),
        st.sampled_from([".png", ".PNG", ".jpg", ".tif"]),
        parts(IMAGES),
        parts(MASKS),
    ),
    min_size=1,
    max_size=5,
    unique_by=lambda pair: pair.name,
)
BESIDE = st.sampled_from([None, "notes.txt", ".hidden.png", "Thumbs.db", "twin", "mask alone"])


def put(root: Path, pair: Pair) -> None:
    for part, piece in (("images", pair.image), ("masks", pair.mask)):
        path = root / part / f"{pair.name}{pair.suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        piece.write(path)


def suspects(pairs: list[Pair], *, certain: bool) -> list[str]:
    """The names of samples that must be refused, or that may be."""
    bad = {True} if certain else {True, None}
    return [p.name for p in pairs if p.name in BAD_NAMES or {p.image.bad, p.mask.bad} & bad]


@FEW
@given(pairs=PAIRS, beside=BESIDE)
def test_a_folder_is_read_or_one_line_names_a_file(pairs: list[Pair], beside: str | None) -> None:
    must, may = suspects(pairs, certain=True), suspects(pairs, certain=False)
    if all(pair.mask.what == "absent" for pair in pairs):
        may.append("masks must hold images")
    with place() as folder:
        root = folder / "root"
        for pair in pairs:
            put(root, pair)
        first = pairs[0]
        if beside == "twin":
            (root / "images" / f"{first.name}.bmp").write_bytes(encoded(COLOUR, "BMP"))
        elif beside == "mask alone":
            (root / "masks" / "alone.png").write_bytes(encoded(DISC))
        elif beside is not None:
            (root / "images" / beside).write_bytes(b"what is no image does no harm")
        if beside in {"twin", "mask alone"}:
            must, may = ([*names, first.name if beside == "twin" else "alone"] for names in (must, may))
        line = refusal(
            Folder(
                root=str(root), threshold=127, size=8, members=1, nonmembers=1, cache=str(folder / "cache")
            )
        )
    if line is None:
        assert must == []
    else:
        assert any(escaped(name.rpartition("/")[2]) in line for name in may), line


class Row(NamedTuple):
    image: str
    mask: str
    bad: bool | None = False


ROWS = [
    *[Row(f"images/{n}.png", f"masks/{n}.png") for n in range(4)],
    Row("images/../images/0.png", "masks/1.png"),
    Row("images/space here.png", "masks/0.png"),
]
BAD_ROWS = [
    Row("../outside.png", "masks/0.png", bad=True),
    Row("images/0.png", "../outside.png", bad=True),
    Row("/etc/hostname", "masks/0.png", bad=True),
    Row("images/link.png", "masks/0.png", bad=True),
    Row("images/none.png", "masks/0.png", bad=True),
    Row("images", "masks/0.png", bad=True),
    Row("", "masks/0.png", bad=True),
    Row("images/1.png", "", bad=True),
    Row("images/a\nb.png", "masks/0.png", bad=True),
    Row("images/\0.png", "masks/0.png", bad=True),
    Row("images/" + "long" * 99, "masks/0.png", bad=True),
    Row("images/circle.png", "masks/0.png", bad=True),
    Row("images/pipe.png", "masks/0.png", bad=True),
]
HEADERS = [
    ("image,mask", False),
    ("group,image,mask", False),
    ("image,mask,mask", True),
    ("picture,mask", True),
]
HEADERS += [("image", True), ("", True), ("image\n,mask", True)]
ENCODINGS = [("utf-8", False), ("utf-8-sig", False), ("utf-16", True)]


@st.composite
def manifests(draw: st.DrawFn) -> tuple[bytes, bool | None]:
    """The bytes of a list, and whether it must be refused."""
    rows = draw(st.lists(st.sampled_from(ROWS), min_size=0, max_size=4))
    rows += draw(st.lists(st.sampled_from(BAD_ROWS), max_size=1))
    rows = draw(st.permutations(rows))
    header, wrong = draw(st.one_of(st.just(HEADERS[0]), st.sampled_from(HEADERS)))
    encoding, foreign = draw(st.one_of(st.just(ENCODINGS[0]), st.sampled_from(ENCODINGS)))
    seen = [os.path.splitext(os.path.normpath(row.image))[0] for row in rows]  # noqa: PTH122
    bad = not rows or wrong or foreign or any(row.bad for row in rows) or len(set(seen)) < len(seen)
    group = "p1," if header.startswith("group") else ""
    more = "," * max(header.count(",") - 1 - bool(group), 0)
    lines = [f'{group}"{row.image}","{row.mask}"{more}' for row in rows]
    ending = draw(st.sampled_from(["\n", "\r\n", "\n\n"]))
    content = ending.join([header, *lines]).encode(encoding)
    if draw(st.integers(0, 9)) == 0:
        return content[: draw(st.integers(0, len(content)))], None
    return content, bad


@FEW
@given(made=manifests())
def test_a_manifest_is_read_or_one_line_names_it(made: tuple[bytes, bool | None]) -> None:
    content, bad = made
    with place() as folder:
        root = folder / "root"
        for number, name in enumerate(("0", "1", "2", "3", "space here")):
            for part, pixels in (("images", COLOUR + number), ("masks", DISC)):
                (root / part).mkdir(parents=True, exist_ok=True)
                (root / part / f"{name}.png").write_bytes(encoded(pixels))
        (folder / "outside.png").write_bytes(encoded(COLOUR))
        (root / "images" / "link.png").symlink_to(folder / "outside.png")
        (root / "images" / "circle.png").symlink_to("circle.png")
        os.mkfifo(root / "images" / "pipe.png")
        (root / "list.csv").write_bytes(content)
        line = refusal(
            Folder(
                root=str(root),
                manifest="list.csv",
                threshold=127,
                size=8,
                members=1,
                nonmembers=1,
                cache=str(folder / "cache"),
            )
        )
    assert bad is None or bad == (line is not None), line
    if line is not None:
        assert "list.csv" in line or str(root) in line or any(row.image in line for row in BAD_ROWS), line
