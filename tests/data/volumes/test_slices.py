import hashlib
import json
import pickle
from pathlib import Path
from typing import Any

import cv2
import nibabel
import numpy as np
import pytest

from seg_mia.data import digests
from seg_mia.data.cache import open_cache
from seg_mia.data.fingerprint import fingerprint
from seg_mia.data.volumes.geometry import Axis
from seg_mia.data.volumes.label_classes import organs_of
from seg_mia.data.volumes.nifti_file import NiftiFile
from seg_mia.data.volumes.slice_index import Count, Labels, SliceIndex
from seg_mia.data.volumes.slices import Case, Slices, SliceSource, Slicing
from seg_mia.data.volumes.windows import Windows
from seg_mia.errors import InputError
from tests.data.scans import SHAPE, ramp, save


def case(root: Path, name: str = "one", *, label: Any = None, values: Any = None, group: str = "") -> Case:
    """A ramp whose label is 1 on 3 voxels of each of the slices 1 and 3, and 2 on one voxel of slice 2."""
    if label is None:
        label = np.zeros(SHAPE, np.uint8)
        label[1:4, 2, [1, 3]] = 1
        label[0, 0, 2] = 2
    image = NiftiFile(save(root / f"{name}.nii.gz", ramp() if values is None else values))
    return Case(name, image, NiftiFile(save(root / f"{name}_label.nii.gz", label)), group or name)


def make(*cases: Case, **options: Any) -> SliceSource:
    labels = options.pop("labels", {1: 1, 2: 2})
    inner = {name: options.pop(name) for name in ("unlisted", "index", "progress") if name in options}
    window = {name: options.pop(name) for name in ("level", "width") if name in options}
    slicing = Slicing(windows=Windows(**window), **options)
    return SliceSource(cases, labels=labels, slicing=slicing, **inner)


def test_ids_are_volume_axis_and_number_and_groups_are_patients(tmp_path: Path) -> None:
    source = make(case(tmp_path, "two", group="p"), case(tmp_path, "one"))
    assert source.ids == (
        "one/axial_001",
        "one/axial_002",
        "one/axial_003",
        "two/axial_001",
        "two/axial_002",
        "two/axial_003",
    )
    assert source.groups == ("one",) * 3 + ("p",) * 3
    assert (source.channels, source.classes, len(source)) == (1, 3, 6)


@pytest.mark.parametrize(
    ("options", "numbers"),
    [
        ({}, [1, 2, 3]),
        ({"labels": {1: 1, 2: 0}}, [1, 3]),
        ({"labels": {1: 0, 2: 1}}, [2]),
        ({"labels": {2: 1}, "unlisted": "background"}, [2]),
        ({"minimum": 3}, [1, 3]),
        ({"minimum": 0}, [0, 1, 2, 3]),
        ({"minimum": 0, "every": 3}, [0, 3]),
        ({"every": 2}, [1, 3]),
        ({"axis": "coronal"}, [0, 2]),
        ({"axis": "sagittal"}, [0, 1, 2, 3]),
        ({"axis": "sagittal", "minimum": 2}, [1, 2, 3]),
    ],
)
def test_slices_are_chosen_by_what_is_on_them(
    tmp_path: Path, options: dict[str, Any], numbers: list[int]
) -> None:
    axis = options.get("axis", "axial")
    assert make(case(tmp_path), **options).ids == tuple(f"one/{axis}_{number:03d}" for number in numbers)


def test_the_window_turns_units_into_grey(tmp_path: Path) -> None:
    image, _ = make(case(tmp_path), level=100, width=102).decode(0)
    assert image.dtype == np.uint8
    assert image.shape == (5, 6, 1)
    values = ramp()[::-1, ::-1, 1].T.astype(float)
    assert np.array_equal(image[..., 0], np.rint((values - 49).clip(0, 102) / 102 * 255))
    steep, _ = make(case(tmp_path), level=120.5, width=1).decode(0)
    assert np.array_equal(steep[..., 0] > 127, values > 120)


def test_label_ids_become_classes_as_they_lie_in_the_image(tmp_path: Path) -> None:
    source = make(case(tmp_path), labels={1: 2, 2: 1})
    expected = np.zeros((5, 6), np.uint8)
    expected[2, 2:5] = 2  # voxels 1 to 3 of 6 from the left, seen from the feet
    assert np.array_equal(source.decode(0)[1], expected)
    other = np.zeros((5, 6), np.uint8)
    other[4, 5] = 1
    assert np.array_equal(source.decode(1)[1], other)


@pytest.mark.parametrize("axis", ["axial", "coronal", "sagittal"])
def test_slices_are_resized_like_images(tmp_path: Path, axis: Axis) -> None:
    values = np.random.default_rng(0).integers(-160, 240, (8, 12, 16)).astype(np.int16)
    label = (values > 0).astype(np.uint8)
    image, mask = make(
        case(tmp_path, values=values, label=label), axis=axis, labels={1: 1}, size=4, minimum=0
    ).decode(5)
    flat = {
        "axial": values[::-1, ::-1, 5].T,
        "coronal": values[::-1, 5, ::-1].T,
        "sagittal": values[5, ::-1, ::-1].T,
    }
    grey = np.ascontiguousarray((flat[axis] + 160) / 400, dtype=np.float32)
    wanted = cv2.resize(grey, (4, 4), interpolation=cv2.INTER_AREA) * 255
    assert np.abs(image[..., 0] - wanted).max() <= 0.51
    near = np.ascontiguousarray(flat[axis] > 0, dtype=np.uint8)
    assert np.array_equal(mask, cv2.resize(near, (4, 4), interpolation=cv2.INTER_NEAREST_EXACT))


def test_unknown_ids_are_refused_or_background(tmp_path: Path) -> None:
    one = case(tmp_path)
    with pytest.raises(
        InputError,
        match=r"one_label.nii.gz must hold only the label ids 0, 1, got 2 \(1 pixels\) as well, .*assign",
    ):
        make(one, labels={1: 1})
    source = make(one, labels={1: 1}, unlisted="background", minimum=0)
    assert source.classes == 2
    assert not source.decode(2)[1].any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0}, "width must be above 0 and level a number, got 0 and"),
        ({"level": float("nan")}, "level a number, got .* and nan"),
        ({"minimum": -1}, "minimum must be at least 0, .* got -1, 1 and None"),
        ({"every": 0}, "every and size at least 1, got 1, 0 and None"),
        ({"size": 0}, "got 1, 1 and 0"),
        ({"labels": {}}, "labels must map label ids to classes from 0 to 254, got {}"),
        ({"labels": {1: 0, 2: 0}}, "labels must map label ids to classes"),
        ({"labels": {1: 300, 2: 0}}, "labels must map label ids to classes"),
        ({"labels": {1: -1, 2: 1}}, "labels must map label ids to classes"),
        (
            {"labels": {1: 0, 2: 0, 7: 1}},
            "must have 1 pixels of the label ids 7, got none in 1 volumes; lower",
        ),
        ({"minimum": 31}, "must have 31 pixels of the label ids 1, 2, got none"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    one = case(tmp_path)
    with pytest.raises(InputError, match=message):
        make(one, **options)


def test_volumes_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unique names, got one twice"):
        make(case(tmp_path), case(tmp_path))


def test_a_label_of_another_shape_and_one_that_was_interpolated_are_refused(tmp_path: Path) -> None:
    one = case(tmp_path)
    small = save(tmp_path / "small.nii", np.ones((6, 5, 3), np.uint8))
    with pytest.raises(InputError, match="label must have its image's shape"):
        make(one._replace(label=NiftiFile(small)))
    blurred = save(tmp_path / "blurred.nii", np.full(SHAPE, 0.5, np.float32))
    with pytest.raises(
        InputError, match="blurred.nii must hold label ids, whole numbers of 0 to 65535, got 0.5"
    ):
        make(one._replace(label=NiftiFile(blurred)))


def test_digests_follow_the_bytes_and_the_slice(tmp_path: Path) -> None:
    source = make(case(tmp_path), case(tmp_path, "two"))
    digests = [source.digest(i) for i in range(6)]
    assert len(set(digests[:3])) == 3
    assert digests[:3] == digests[3:]  # equal files; the split must keep them on one side
    assert source.image_digest(1) == source.image_digest(4) != source.digest(1)
    whole = fingerprint(source)
    assert fingerprint(make(case(tmp_path), case(tmp_path, "two"), size=3, level=0)) == whole
    other = np.zeros(SHAPE, np.uint8)
    other[1:4, 2, 1:] = 1
    changed = make(case(tmp_path), case(tmp_path, "two", label=other))
    assert [changed.digest(i) == old for i, old in enumerate(digests)] == [True] * 3 + [False] * 3
    assert [changed.image_digest(i) for i in range(6)] == [source.image_digest(i) for i in range(6)]
    assert make(case(tmp_path), axis="coronal").digest(1) not in digests


def test_settings_are_what_else_decides_pixels(tmp_path: Path) -> None:
    one = case(tmp_path)
    base = make(one).settings
    for options in ({"level": 0}, {"width": 9}, {"size": 9}, {"labels": {1: 2, 2: 1}}):
        assert make(one, **options).settings != base
    told = one._replace(image=NiftiFile(one.image.files[0], "LAS"))
    assert make(told).settings != base
    assert json.loads(json.dumps(base)) == base


def test_each_volume_is_read_once_to_look_through_and_once_to_decode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = list[str]()
    read = NiftiFile.read

    def counted(self: NiftiFile) -> Any:
        reads.append(self.path.name)
        return read(self)

    monkeypatch.setattr(NiftiFile, "read", counted)
    cases = [case(tmp_path, name) for name in ("one", "two", "six")]
    seen = list[tuple[int, int]]()
    source = make(*cases, minimum=0, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert reads == ["one_label.nii.gz"]  # the others are equal files
    reads.clear()
    cached = open_cache(source, tmp_path / "cache")
    assert len(cached.images) == 12
    assert sorted(reads) == sorted(
        f"{name}{end}.nii.gz" for name in ("one", "two", "six") for end in ("", "_label")
    )
    assert not source.volumes._volumes  # the memory is given back


def test_a_source_can_be_pickled(tmp_path: Path) -> None:
    source = make(case(tmp_path))
    again = pickle.loads(pickle.dumps(source))  # noqa: S301
    assert again.ids == source.ids
    assert np.array_equal(again.decode(1)[0], source.decode(1)[0])


def test_the_next_start_reads_neither_labels_nor_headers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests, "_SETTLED", -1.0)
    volume, file, store = (
        case(tmp_path),
        tmp_path / "cache" / "index.json",
        tmp_path / "cache" / "digests.json",
    )
    with digests.persistent_digests(store):
        source = make(volume, index=SliceIndex(file))
        first = [source.digest(i) for i in range(len(source))]

    def fail(*_: Any) -> Any:
        raise AssertionError("read again")

    digests._rows.clear()  # as a new process begins
    monkeypatch.setattr(NiftiFile, "read", fail)
    monkeypatch.setattr(NiftiFile, "remarks", fail)
    monkeypatch.setattr(hashlib, "file_digest", fail)
    with digests.persistent_digests(store):
        again = make(volume, index=SliceIndex(file), minimum=3, progress=fail)
        assert again.ids == ("one/axial_001", "one/axial_003")
        assert [again.digest(0), again.digest(1)] == [first[0], first[2]]
        with pytest.raises(AssertionError, match="read again"):
            make(volume, index=SliceIndex(file), axis="coronal")


class OneVolume(Slices):
    """A data set of a single volume."""

    def __init__(self, volume: Case, *, cache: str) -> None:
        super().__init__(members=1, nonmembers=1, cache=cache)
        self.volume = volume

    def find(self) -> Path:
        return Path(self.volume.image.files[0]).parent

    def cases(self, root: Path) -> list[Case]:  # noqa: ARG002
        return [self.volume]

    def classes_of(self) -> dict[int, int]:
        return {1: 1, 2: 1}


def test_a_data_set_of_volumes_keeps_its_digests_where_all_data_sets_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests, "_SETTLED", -1.0)
    volume, cache = case(tmp_path), tmp_path / "cache"
    data = OneVolume(volume, cache=str(cache))
    data.read_source()
    paths = json.loads((cache / "digests.json").read_text())["files"]
    assert sorted(Path(path).name for path in paths) == ["one.nii.gz", "one_label.nii.gz"]


def test_a_file_that_changed_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "_SETTLED", -1.0)
    file = tmp_path / "index.json"
    assert len(make(case(tmp_path), index=SliceIndex(file))) == 3
    label = np.zeros(SHAPE, np.uint8)
    label[0, 0, 0] = 1
    assert make(case(tmp_path, label=label), index=SliceIndex(file)).ids == ("one/axial_000",)


def test_labels_are_kept_under_a_digest_of_the_bytes(tmp_path: Path) -> None:
    file = tmp_path / "index.json"
    path = tmp_path / "a"
    path.write_bytes(b"a")
    index = SliceIndex(file)
    assert index.digest([path]) == hashlib.sha256(hashlib.sha256(b"a").digest()).hexdigest()
    index.labels("key", lambda: Labels(3, [Count(1, 2, 5)]))
    index.save()
    assert json.loads(file.read_text()) == {"format": 3, "labels": {"key": [3, [[1, 2, 5]]]}, "remarks": {}}
    assert SliceIndex(file).labels("key", lambda: Labels(0, [])) == Labels(3, [Count(1, 2, 5)])
    assert list(tmp_path.glob("index*")) == [file]


def test_an_index_of_the_former_format_gives_its_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, volume = tmp_path / "index.json", case(tmp_path)
    source = make(volume, index=SliceIndex(file))
    content = json.loads(file.read_text())
    file.write_text(json.dumps({"format": 2, "labels": content["labels"]}))
    monkeypatch.setattr(NiftiFile, "read", lambda _: pytest.fail("counted again"))
    assert make(volume, index=SliceIndex(file)).ids == source.ids
    assert json.loads(file.read_text()) == content  # with remarks, in today's format


def test_volumes_are_looked_at_one_at_a_time_and_what_is_known_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, remarked = list[int](), list[str]()
    cases = list[Case]()
    for number, name in enumerate(("one", "six", "two")):  # all files differ
        label = np.zeros(SHAPE, np.uint8)
        label[0, 0, number] = 1
        cases.append(case(tmp_path, name, values=ramp() + number, label=label))

    def remarks(scan: NiftiFile) -> tuple[str, ...]:
        if scan.path.name == "two_label.nii.gz":
            raise InputError("unreadable")
        remarked.append(scan.path.name)
        return ()

    def progress(done: int, total: int) -> None:
        seen.append(done)
        assert len(set(remarked)) == 2 * done < 2 * total

    monkeypatch.setattr(NiftiFile, "remarks", remarks)
    file = tmp_path / "index.json"
    with pytest.raises(InputError, match="unreadable"):
        make(*cases, index=SliceIndex(file), progress=progress)
    assert seen == [1, 2]
    assert len(json.loads(file.read_text())["labels"]) == 3


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"format": 1, "labels": {"key": [3, []]}}',
        '{"format": 3, "labels": {"key": [1]}}',
        '{"format": 3, "labels": {"key": [3, []]}, "remarks": []}',
    ],
)
def test_an_index_that_is_damaged_or_old_is_begun_anew(tmp_path: Path, text: str) -> None:
    file = tmp_path / "index.json"
    file.write_text(text)
    assert SliceIndex(file).labels("key", lambda: Labels(1, [])) == Labels(1, [])


def test_organs_are_numbered_in_their_order() -> None:
    assert organs_of([[5], [2, 3]]) == {5: 1, 2: 2, 3: 2}
    wrongs: list[list[list[int]]] = [[], [[]], [[1], [1]], [[0]], [[-1]]]
    for wrong in wrongs:
        with pytest.raises(InputError, match="organs must be"):
            organs_of(wrong)


def test_a_real_liver_lies_on_the_patients_right_and_has_its_density(shared: Path) -> None:
    folder = shared / "data" / "totalsegmentator_ct"
    image = NiftiFile(folder / "example_ct.nii.gz")
    label = NiftiFile(folder / "example_seg_fast_force_split.nii.gz")
    source = make(Case("ct", image, label, "ct"), labels={5: 1}, unlisted="background")
    assert len(source) == 43  # as counted in the data set's description
    assert source.samples[0][1] > 50  # the volume begins in the pelvis
    units, columns, rows = list[float](), list[float](), list[float]()
    for index, (_, number) in enumerate(source.samples):
        _, mask = source.decode(index)
        assert mask.shape == (101, 122)
        found = mask == 1
        units += image.read().plane("axial", number)[found].tolist() if index % 8 == 0 else []
        columns += found.nonzero()[1].tolist()
        rows += found.nonzero()[0].tolist()
    assert 0 < np.mean(units) < 200
    assert np.percentile(units, 5) > 0
    assert np.percentile(units, 95) < 200
    assert np.mean(columns) < 122 / 2 - 15
    aorta = make(Case("ct", image, label, "ct"), labels={52: 1}, unlisted="background")
    assert np.mean(rows) < np.mean([aorta.decode(i)[1].nonzero()[0].mean() for i in range(len(aorta))])


def test_volumes_with_two_positions_are_named(tmp_path: Path) -> None:
    volume = case(tmp_path)
    image: Any = nibabel.load(volume.label.files[0])
    moved = image.affine.copy()
    moved[0, 3] += 1.0  # half a voxel
    image.set_qform(moved, 1)
    nibabel.save(image, volume.label.files[0])
    (note,) = make(volume).notes
    assert note.text.startswith("1 files have two positions, sform and qform differ by more than a tenth")
    assert note.names == (str(volume.label.files[0]),)
