"""A mask file for each label: of slices, volumes and images, overlapping or not, against ids by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from PIL import Image as PillowImage

from seg_mia.data.sets.folder import Folder
from seg_mia.data.sets.nifti import Nifti
from seg_mia.data.sets.volumes import VolumeFiles
from seg_mia.errors import InputError
from seg_mia.metrics.label_sets import label_names
from tests.data.scans import AFFINE, SHAPE, ramp, save

LABELS = {"liver": "liver", "kidneys": ["kidney_left", "kidney_right"]}
OPTIONS: dict[str, Any] = {"members": 1, "nonmembers": 1, "label_files": LABELS}
PLACES = {"images": "{case}/ct.nii.gz", "masks": "{case}/segmentations"}


MOVED = AFFINE.copy()
MOVED[0, 3] += 9


def masks(*, overlap: bool = True) -> dict[str, Any]:
    """Return three binary masks in RAS; liver and left kidney share 6 voxels."""
    liver, left, right = (np.zeros(SHAPE, np.uint8) for _ in range(3))
    liver[0:3, 1:3, 1:3], right[5, 0:2, 3] = 1, 255
    left[2 if overlap else 3, 0:3, 0:3] = 1
    return {"liver": liver, "kidney_left": left, "kidney_right": right}


def by_hand(*, overlap: bool = True) -> Any:
    """Return the sets (D, H, W) of the masks: 1 liver, 2 kidney, 3 both."""
    parts = masks(overlap=overlap)
    sets = parts["liver"] + 2 * ((parts["kidney_left"] > 0) | (parts["kidney_right"] > 0))
    return sets.transpose(2, 1, 0)[:, ::-1, ::-1]


def total(root: Path, *, overlap: bool = True, count: int = 4) -> Path:
    """Write cases as TotalSegmentator has them, masks with other axes, types and endings than the image."""
    codes = {"liver": "LPS", "kidney_left": "RAS", "kidney_right": "PIR"}
    for number in range(count):
        folder = root / f"s{number:04}"
        save(folder / "ct.nii.gz", ramp() + np.int16(number))
        for name, mask in masks(overlap=overlap).items():
            kind = np.float32 if name == "liver" else np.uint8
            ending = ".nii" if name == "kidney_right" else ".nii.gz"
            save(folder / "segmentations" / f"{name}{ending}", mask.astype(kind), codes[name])
        save(folder / "segmentations" / "spleen.nii.gz", mask)
    return root


def source_of(kind: Any, root: Path, **options: Any) -> Any:
    return kind(**({"root": str(root), **OPTIONS, **PLACES} | options)).read_source()


def test_volumes_and_slices_of_labels_that_overlap(tmp_path: Path) -> None:
    root = total(tmp_path / "root")
    volumes = source_of(VolumeFiles, root)
    assert (volumes.ids[0], volumes.groups[1]) == ("s0000", "s0001")
    assert (int(volumes.classes), label_names(volumes.classes)) == (4, ("liver", "kidneys"))
    assert_array_equal(volumes.decode(1)[1], by_hand())
    assert (by_hand() == 3).sum() == 4
    slices = source_of(Nifti, root, size=None, minimum=0)
    for number in range(SHAPE[2]):
        assert_array_equal(slices.decode(number)[1], by_hand()[number])
    assert slices.reference(np.array([[3, 9]])).tolist() == [[3, 0]]


def test_exclusive_labels_are_classes_and_must_not_overlap(tmp_path: Path) -> None:
    root = total(tmp_path / "root", overlap=False)
    source = source_of(VolumeFiles, root, labels_exclusive=True)
    assert (source.classes, label_names(source.classes)) == (3, ())
    assert_array_equal(source.decode(0)[1], by_hand(overlap=False))
    source = source_of(VolumeFiles, total(tmp_path / "both"), labels_exclusive=True)
    with pytest.raises(InputError, match=r"kidney_left\.nii\.gz must not overlap .* got 4 pixels of liver"):
        source.decode(0)


def test_more_than_six_labels_are_exclusive(tmp_path: Path) -> None:
    many: Any = {f"label{number}": f"{number}" for number in range(7)}
    with pytest.raises(InputError, match="labels that overlap must be 1 to 6"):
        source_of(VolumeFiles, tmp_path, label_files=many)
    assert VolumeFiles(members=1, nonmembers=1, label_files=many, labels_exclusive=True).regions == ()


def test_a_label_without_a_file_is_refused_or_empty(tmp_path: Path) -> None:
    root = total(tmp_path / "root")
    before = source_of(VolumeFiles, root).digest(1)
    (root / "s0001" / "segmentations" / "liver.nii.gz").unlink()
    with pytest.raises(
        InputError, match=r"of each label, 1 of 4 lack one \(s0001\), the first s0001/segmentations/liver "
    ):
        source_of(VolumeFiles, root)
    source = source_of(VolumeFiles, root, absent_labels="empty")
    assert_array_equal(source.decode(1)[1], by_hand() & 2)
    assert_array_equal(source.decode(0)[1], by_hand())
    assert source.digest(1) != before
    for path in (root / "s0001" / "segmentations").iterdir():
        path.unlink()
    with pytest.raises(InputError, match=r"a mask file of any label, 1 of 4 lack one \(s0001\)"):
        source_of(VolumeFiles, root, absent_labels="empty")


@pytest.mark.parametrize("absent", ["refuse", "empty"])
def test_masks_without_an_image_are_refused(tmp_path: Path, absent: str) -> None:
    root = total(tmp_path / "root")
    (root / "s0001" / "ct.nii.gz").unlink()
    with pytest.raises(InputError, match=r"masks of 1 cases have no image \(s0001\)"):
        source_of(VolumeFiles, root, absent_labels=absent)
    (root / "s0001" / "segmentations" / "liver.nii.gz").unlink()  # another label is there
    with pytest.raises(InputError, match=r"masks of 1 cases have no image \(s0001\)"):
        source_of(Nifti, root, absent_labels=absent)
    images = pictures(tmp_path / "pictures")
    (images / "images" / "p2.png").unlink()
    files: Any = {"label_files": {"polyp": "polyp", "tool": "tool.tif"}, "channels": 1}
    with pytest.raises(InputError, match=r"masks of 1 cases have no image \(p2\)"):
        Folder(root=str(images), members=1, nonmembers=1, **files).read_source()


def test_files_of_labels_beside_images_are_no_images(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for case in ("a", "a_left", "b"):
        save(root / f"{case}.nii.gz", ramp())
        for name in ("kidney", "left_kidney"):
            save(
                root / f"{case}_{name}.nii.gz",
                masks()["liver"] if name == "kidney" else masks()["kidney_left"],
            )
    places = {"images": "./{case}.nii.gz", "masks": ".//{case}_{label}"}
    labels: Any = {"kidney": "kidney", "left": "left_kidney"}
    source = source_of(VolumeFiles, root, label_files=labels, **places)
    assert source.ids == ("a", "a_left", "b")


def test_equal_files_of_other_labels_have_another_digest(tmp_path: Path) -> None:
    root = total(tmp_path / "root", overlap=False)
    folder = root / "s0001" / "segmentations"
    for name in ("kidney_left.nii.gz", "kidney_right.nii"):
        (folder / name).unlink()
    digests = []
    for name in ("liver", "kidney_right"):
        (folder / "liver.nii.gz").rename(folder / f"{name}.nii.gz")
        sources = [source_of(kind, root, absent_labels="empty") for kind in (VolumeFiles, Nifti)]
        positions = (1, sources[1].case_names.index("s0001"))
        digests.append([source.digest(at) for source, at in zip(sources, positions, strict=True)])
        (folder / f"{name}.nii.gz").rename(folder / "liver.nii.gz")
    assert digests[0][0] != digests[1][0]
    assert digests[0][1] != digests[1][1]


@pytest.mark.parametrize(
    ("name", "values", "affine", "message"),
    [
        (
            "liver",
            masks()["liver"] * 2 + masks()["kidney_left"],
            AFFINE,
            "binary mask, .* got 1 to 3 beside 0",
        ),
        ("liver", np.full(SHAPE, np.nan, np.float32), AFFINE, "must hold finite values"),
        ("liver", masks()["liver"][:5], AFFINE, "must have its image's shape, got 5x5x4"),
        (
            "liver",
            masks()["liver"],
            MOVED,
            "must have its image's position",
        ),
    ],
)
def test_masks_that_do_not_fit_are_one_line(
    tmp_path: Path, name: str, values: Any, affine: Any, message: str
) -> None:
    root = total(tmp_path / "root")
    save(root / "s0000" / "segmentations" / f"{name}.nii.gz", values, affine=affine)
    with pytest.raises(InputError, match=message) as caught:
        source_of(VolumeFiles, root).decode(0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label_files": {}}, "must name the files of each label"),
        ({"label_files": {"a": []}}, "must name the files of each label"),
        ({"label_files": {"a": "x", "b": "x"}}, "each file once"),
        ({"label_files": None, "labels_exclusive": True}, "need label_files, got none"),
        ({"label_files": None, "absent_labels": "empty"}, "need label_files, got none"),
        ({"label_files": {"a": "../../../x"}}, "must stay inside"),
        ({"images": "{case}/{other}.nii"}, "a path below the root with {case} in it"),
        ({"images": "../{case}/ct.nii"}, "a path below the root with {case} in it"),
        ({"images": "{case}/mr.nii.gz"}, r"must hold files \{case\}/mr.nii.gz, found none"),
    ],
)
def test_settings_out_of_place(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        source_of(VolumeFiles, total(tmp_path / "root", count=1), **options)
    if "organs" not in options:
        with pytest.raises(InputError, match="label_files exclude organs, labels and regions"):
            source_of(VolumeFiles, tmp_path, organs=[[1]])
        with pytest.raises(InputError, match="label_files exclude organs, labels and regions"):
            source_of(Nifti, tmp_path, regions={"a": [1]})


def pictures(root: Path) -> Path:
    """Write images with two masks, of which the first two pixels of a row are both."""
    for number in range(4):
        grey = np.full((4, 6), 10 * number + 1, np.uint8)
        polyp, tool = np.zeros((4, 6), np.uint8), np.zeros((4, 6), np.uint8)
        polyp[1, :3], tool[1, 1:], tool[0, 0] = 255, 1, 1
        for path, pixels in (
            (root / "images" / f"p{number}.png", grey),
            (root / "masks" / f"p{number}" / "polyp.png", polyp),
            (root / "masks" / f"p{number}" / "tool.tif", tool),
        ):
            path.parent.mkdir(parents=True, exist_ok=True)
            PillowImage.fromarray(pixels).save(path)
    return root


def test_images(tmp_path: Path) -> None:
    root = pictures(tmp_path / "root")
    options: dict[str, Any] = {"root": str(root), "members": 1, "nonmembers": 1, "channels": 1}
    files: Any = {"label_files": {"polyp": "polyp", "tool": "tool"}}
    source = Folder(**options, **files).read_source()
    assert (source.ids[0], label_names(source.classes)) == ("p0", ("polyp", "tool"))
    wanted = np.zeros((4, 6), np.uint8)
    wanted[1], wanted[0, 0] = [1, 3, 3, 2, 2, 2], 2
    assert_array_equal(source.decode(0)[1], wanted)
    before = source.digest(0)
    PillowImage.fromarray(np.zeros((4, 6), np.uint8)).save(root / "masks" / "p0" / "tool.tif")
    again = Folder(**options, **files, absent_labels="empty").read_source()
    assert again.digest(0) != before
    assert_array_equal(again.decode(0)[1], wanted & 1)
    with pytest.raises(InputError, match="must not overlap other labels .* got 2 pixels of polyp"):
        Folder(**options, **files, labels_exclusive=True).read_source().decode(1)
    PillowImage.fromarray(np.zeros((4, 5), np.uint8)).save(root / "masks" / "p0" / "tool.tif")
    with pytest.raises(InputError, match=r"masks of a sample must have one size, got 6x4 .* and 5x4"):
        source.decode(0)
    with pytest.raises(InputError, match="label_files exclude labels, regions and classes"):
        Folder(**options, **files, classes=2)
    with pytest.raises(InputError, match="exclude a manifest and endings of names"):
        Folder(**options, **files, mask_ending="_m").read_source()


def test_patterns_of_images_and_greys_above_a_threshold(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for name in ("a", "b"):
        for kind, value in (("image", 7), ("mask_x", 130), ("mask_y", 90)):
            path = root / name / f"{name}_{kind}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            PillowImage.fromarray(np.full((8, 8), value, np.uint8)).save(path)
    options: dict[str, Any] = {"root": str(root), "members": 1, "nonmembers": 1, "channels": 1}
    options |= {"images": "{case}/{case}_image.jpg", "masks": "{case}/{case}_mask_{label}"}
    options |= {"label_files": {"x": "x", "y": "y"}}
    source = Folder(**options, threshold=100).read_source()
    assert (source.ids, np.unique(source.decode(0)[1]).tolist()) == (("a", "b"), [1])
    with pytest.raises(InputError, match="or have a threshold, got a JPEG"):
        Folder(**options).read_source().decode(0)
    PillowImage.fromarray(np.eye(8, dtype=np.uint8)).save(root / "a" / "a_mask_y.jpg", quality=100)
    with pytest.raises(InputError, match=r"a_mask_y\.jpg must hold values above the threshold 100 or only 0"):
        source.decode(0)
    plain: dict[str, Any] = {
        "images": "{case}/{case}_image.jpg",
        "masks": "{case}/{case}_mask_x.jpg",
        "label_files": None,
    }
    plain |= {"threshold": 100}
    assert np.unique(Folder(**(options | plain)).read_source().decode(1)[1]).tolist() == [1]
