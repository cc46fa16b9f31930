"""Folders of volumes put together at random: all is read, or one line says what is wrong."""

import gzip
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import nibabel
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from seg_mia.data.base import SegmentationData
from seg_mia.data.sets.nifti import Nifti
from seg_mia.data.sets.volumes import VolumeFiles
from tests.data.fuzz import FEW, Piece, escaped, place, refusal
from tests.data.scans import AFFINE, SHAPE, ramp, save

LABEL = (ramp() % 3 == 0).astype(np.uint8)
MOVED = AFFINE + np.outer(np.eye(4)[0], np.eye(4)[3]) * 9  # the origin 9 mm to the right


def volume(what: str, values: Any, *, bad: bool | None = False, **options: Any) -> Piece:
    return Piece(what, bad, lambda path: save(path, values, **options))


def changed(change: Callable[[bytes], bytes], values: Any = LABEL) -> Callable[[Path], None]:
    """Return what writes a good file whose bytes, unpacked or not, are changed then."""

    def write(path: Path) -> None:
        save(path, values)
        path.write_bytes(change(path.read_bytes()))

    return write


def holed(values: Any, value: float) -> Any:
    values = values.astype(np.float32)
    values[1, 2, 3] = value
    return values


def zipped_inside(path: Path) -> None:
    """A file that is whole for gzip and half a volume."""
    save(path, LABEL)
    data = path.read_bytes()
    packed = path.name.endswith(".gz")
    half = (gzip.decompress(data) if packed else data)[:360]
    path.write_bytes(gzip.compress(half) if packed else half)


def patched(at: int, content: bytes) -> Callable[[Path], None]:
    """Return what writes a good file with other bytes at a place of its header."""

    def write(path: Path) -> None:
        save(path, LABEL)
        data = path.read_bytes()
        packed = path.name.endswith(".gz")
        whole = bytearray(gzip.decompress(data) if packed else data)
        whole[at : at + len(content)] = content
        path.write_bytes(gzip.compress(bytes(whole)) if packed else bytes(whole))

    return write


def mgh(path: Path) -> None:
    """A volume of another format under this name."""
    image: Any = nibabel.MGHImage(LABEL, AFFINE)  # type: ignore[no-untyped-call]
    other = path.with_name("x.mgz")
    nibabel.save(image, other)
    other.rename(path)


BROKEN = [
    Piece("empty", True, lambda path: path.write_bytes(b"")),
    Piece("text", True, lambda path: path.write_bytes(b"no volume\n" * 90)),
    Piece("cut", True, changed(lambda data: data[: len(data) // 2])),
    Piece("cut by one byte", True, changed(lambda data: data[:-1])),
    Piece("half a volume", True, zipped_inside),
    Piece("claims 30000 slices of 30000x30000", True, patched(42, np.full(3, 30000, np.int16).tobytes())),
    Piece("another format", True, mgh),
    Piece("pipe", True, os.mkfifo),
    Piece("link to nothing", True, lambda path: path.symlink_to("nothing.nii")),
    Piece("link in a circle", True, lambda path: path.symlink_to(path)),
    Piece("link out", True, lambda path: path.symlink_to("/etc/hostname")),
    volume("four axes", np.stack([LABEL] * 2, axis=-1), bad=True),
    volume("two axes", LABEL[..., 0], bad=True),
    volume("says not how it lies", LABEL, stated=False, bad=True),
    Piece("no third axis", True, patched(312, bytes(16))),
    Piece("an axis to nowhere", True, patched(312, np.full(4, np.nan, np.float32).tobytes())),
    Piece("a slope of nothing", None, patched(112, np.full(2, np.nan, np.float32).tobytes())),
    volume("colours", np.zeros(SHAPE, [("R", "u1"), ("G", "u1"), ("B", "u1")]), bad=True),
    volume("complex", ramp().astype(np.complex64), bad=True),
    volume("other shape", np.ones((5, 5, 4), np.uint8), bad=True),
    volume("other place", LABEL, affine=MOVED, bad=True),
]
IMAGES = [
    volume("plain", ramp()),
    volume("turned", ramp(), codes="LPS"),
    volume("on its side", ramp(), codes="SRA"),
    volume("floats", ramp().astype(np.float32)),
    volume("an axis of one", ramp()[..., None]),
    volume("doubles", ramp().astype(np.float64)),
    volume("a hole", holed(ramp(), np.nan), bad=True),
    volume("beyond", holed(ramp(), np.inf), bad=True),
    *BROKEN,
]
MASKS = [
    volume("plain", LABEL),
    volume("turned", LABEL, codes="LPS"),
    volume("floats that are whole", LABEL.astype(np.float32)),
    volume("wide", LABEL.astype(np.int32)),
    volume("interpolated", holed(LABEL, 0.5), bad=True),
    volume("negative", LABEL.astype(np.int16) - 1, bad=True),
    volume("unknown id", LABEL * 7, bad=True),
    volume("not a number", holed(LABEL, np.nan), bad=True),
    Piece("absent", True, lambda _path: None),
    *BROKEN,
]


class Case(NamedTuple):
    name: str
    endings: tuple[str, str]
    image: Piece
    mask: Piece


@st.composite
def garbled(draw: st.DrawFn, values: Any) -> Piece:
    """A volume of which one byte is another."""
    at, value = draw(st.integers(0, 399)), draw(st.integers(0, 255))
    return Piece(
        f"byte {at} is {value}",
        None,
        changed(lambda data: data[: at % len(data)] + bytes([value]) + data[at % len(data) + 1 :], values),
    )


def parts(pieces: list[Piece], values: Any) -> st.SearchStrategy[Piece]:
    fine = st.sampled_from([piece for piece in pieces if piece.bad is False])
    return st.one_of(fine, fine, st.sampled_from(pieces), garbled(values))


ENDINGS = st.sampled_from([".nii", ".nii.gz", ".NII"])
CASES = st.lists(
    st.builds(
        Case,
        st.sampled_from(["plain", "with space", "zweiäöü", "v1.2", "quo'te", "\udcff odd", "line\nbreak"]),
        st.tuples(ENDINGS, ENDINGS),
        parts(IMAGES, ramp()),
        parts(MASKS, LABEL),
    ),
    min_size=1,
    max_size=3,
    unique_by=lambda case: case.name,
)


def slices(root: Path, cache: Path) -> SegmentationData:
    return Nifti(root=str(root), size=None, minimum=0, members=1, nonmembers=1, cache=str(cache))


def whole(root: Path, cache: Path) -> SegmentationData:
    return VolumeFiles(root=str(root), size=[8, 8, 8], members=1, nonmembers=1, cache=str(cache))


READERS: st.SearchStrategy[Callable[[Path, Path], SegmentationData]] = st.sampled_from([slices, whole])


@FEW
@given(cases=CASES, beside=st.sampled_from([None, "notes.txt", "._plain.nii.gz", "twin"]), reader=READERS)
def test_volumes_are_read_or_one_line_names_a_file(
    cases: list[Case], beside: str | None, reader: Callable[[Path, Path], SegmentationData]
) -> None:
    must, may = ([c.name for c in cases if _wrong(c, maybe=maybe)] for maybe in (False, True))
    if all(case.mask.what == "absent" for case in cases):
        may.append("masks must hold volumes")
    with place() as folder:
        root = folder / "root"
        for part in ("images", "masks"):
            (root / part).mkdir(parents=True)
        for case in cases:
            case.image.write(root / "images" / f"{case.name}{case.endings[0]}")
            case.mask.write(root / "masks" / f"{case.name}{case.endings[1]}")
        if beside == "twin":
            first = cases[0]
            other = ".nii.gz" if first.endings[1] != ".nii.gz" else ".nii"
            save(root / "masks" / f"{first.name}{other}", LABEL)
            must, may = must + ([first.name] if first.mask.what != "absent" else []), [*may, first.name]
        elif beside is not None:
            (root / "images" / beside).write_bytes(b"what is no volume does no harm")
        line = refusal(reader(root, folder / "cache"))
    if line is None:
        assert must == [] or (beside == "twin" and must == [cases[0].name])
    else:
        assert any(escaped(name) in line for name in may), line


def _wrong(case: Case, *, maybe: bool) -> bool:
    kinds = {case.image.bad, case.mask.bad}
    if case.image.what == case.mask.what and case.image.what in ("other shape", "other place"):
        return case.name == "line\nbreak"  # they agree with each other
    return case.name == "line\nbreak" or True in kinds or (maybe and None in kinds)
