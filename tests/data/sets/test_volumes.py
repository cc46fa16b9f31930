"""Whole volumes as samples: orientation against values computed by hand, grids, and refusals."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from seg_mia.data.phantom.anatomy import render
from seg_mia.data.reference_masks import reference_mask
from seg_mia.data.sets.nifti import Nifti
from seg_mia.data.sets.phantom_volumes import PhantomVolumes
from seg_mia.data.sets.volumes import VolumeFiles
from seg_mia.errors import InputError
from seg_mia.metrics.label_sets import label_names
from tests.data.scans import AFFINE, SHAPE, patients, ramp, save
from tests.data.volumes.test_nifti_headers import two_positions


def opened(kind: Any, root: Path, **options: Any) -> Any:
    data = kind(**({"root": str(root), "members": 1, "nonmembers": 1} | options))
    data.setup()
    return data


def written(root: Path, codes: str) -> Path:
    """Write four patients whose left front foot corner is class 1, each of another brightness."""
    label = np.zeros(SHAPE, np.uint8)
    label[0, -1, 0] = 1  # RAS: the patient's left, front, feet
    for number in range(4):
        save(root / f"images/{number}.nii.gz", ramp() + np.int16(number), codes)
        save(root / f"masks/{number}.nii.gz", label, codes)
    return root


@pytest.mark.parametrize("codes", ["RAS", "LPS", "SAR", "PIL", "ILA"])
def test_axes_run_from_feet_up_front_to_back_and_right_to_left(tmp_path: Path, codes: str) -> None:
    source = opened(VolumeFiles, written(tmp_path, codes), level=250, width=510).source
    image, mask = source.decode(0)
    assert image.shape == (*SHAPE[::-1], 1)
    assert source.spacing(0) == pytest.approx((4.0, 3.0, 2.0))
    # A RAS array counts to the right; feet first, front first, and the patient's right on the left.
    assert np.argwhere(mask).tolist() == [[0, 0, SHAPE[0] - 1]]
    d, h, w = np.indices(mask.shape)
    values = (SHAPE[0] - 1 - w) + 10 * (SHAPE[1] - 1 - h) + 100 * d
    assert_array_equal(image[..., 0], np.rint(np.clip((values + 5) / 510, 0, 1) * 255))
    # A deployed system's mask is read in the same axes, whatever those of its file.
    file = tmp_path / "masks" / "0.nii.gz"
    assert_array_equal(reference_mask(file, mask.shape, source), mask)
    assert source.prediction(file.with_name("0.npz")) is None


def test_a_slice_of_the_volume_is_the_sample_that_slices_give(tmp_path: Path) -> None:
    root = patients(tmp_path, "images/{}.nii.gz", "masks/{}.nii.gz", ids=(1,))
    options: dict[str, Any] = {"size": None, "minimum": 0, "members": 4, "nonmembers": 4}
    volume, slices = opened(VolumeFiles, root).source, opened(Nifti, root, **options).source
    image, mask = volume.decode(0)
    for number in range(len(mask)):
        flat, labels = slices.decode(slices.ids.index(f"1/axial_{number:03d}"))
        assert_array_equal(image[number], flat)
        assert_array_equal(mask[number], labels)


def test_organs_patients_and_notes(tmp_path: Path) -> None:
    root = patients(tmp_path, "images/p{}_a.nii", "masks/p{}_a.nii", ids=(1, 2))
    grid: dict[str, Any] = {"spacing": [4, 3, 2], "size": [4, 8, 24], "around": "foreground"}
    data = opened(VolumeFiles, root, organs=[[2], [1]], patient="(.+)_a", **grid)
    assert data.source.classes == 3
    assert data.source.groups == ("p1", "p2", "p3", "p4")
    assert data.cached.images.shape == (4, 4, 8, 24, 1)
    assert data.cached.masks.shape == (4, 4, 8, 24)
    assert (np.asarray(data.cached.masks[0]) == 255).sum() == 4 * 8 * 8
    assert "4 of 4 volumes are larger than size 4x8x24" in data.notes[0].text
    assert "6x16x16 would hold all" in data.notes[0].text


def test_two_positions_of_a_volume_are_noted(tmp_path: Path) -> None:
    path = written(tmp_path, "RAS") / "images/0.nii.gz"
    two_positions(path, shift=4.0)
    (note,) = opened(VolumeFiles, tmp_path).source.notes
    assert "1 files have two positions" in note.text
    assert note.names == (str(path),)


def test_labels_that_overlap_and_labels_to_ignore(tmp_path: Path) -> None:
    root = patients(tmp_path, "images/{}.nii", "masks/{}.nii", ids=(1, 2))
    plain = opened(VolumeFiles, root, organs=[[1], [2]]).source
    sets = opened(VolumeFiles, root, regions={"both": [1, 2], "second": [2]}).source
    assert sets.reference(np.array([[0, 1], [2, 300]])).tolist() == [[0, 1], [3, 0]]
    assert (int(sets.classes), label_names(sets.classes)) == (4, ("both", "second"))
    ignoring = opened(VolumeFiles, root, labels={0: 0, 1: 1, 2: 255}).source
    assert ignoring.classes == 2
    for number in range(2):
        mask = plain.decode(number)[1]
        assert_array_equal(sets.decode(number)[1], np.array([0, 1, 3])[mask])
        assert_array_equal(ignoring.decode(number)[1], np.array([0, 1, 255])[mask])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"organs": [[7]]}, "must hold only the label ids 0, 7, got 1, 2 as well"),
        ({"size": [4, 4]}, "three numbers of voxels"),
        ({"spacing": [1, 1]}, "three distances"),
        ({"spacing": [0.001, 1, 1], "unlisted": "background"}, "at most 2048 voxels"),
        ({"width": 0, "unlisted": "background"}, "width must be above 0"),
        ({"images": "masks/.."}, "must hold volumes"),
        ({"patch": [4, 4], "unlisted": "background"}, "patch must have 3 lengths"),
        ({"patch": [4, 99, 4], "unlisted": "background"}, "at most those of the samples 6x16x16"),
        ({"augment": "standard", "unlisted": "background"}, "volumes are augmented by flips alone"),
    ],
)
def test_what_cannot_be_is_one_line(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    root = patients(tmp_path, "images/{}.nii", "masks/{}.nii")
    with pytest.raises(InputError, match=message):
        opened(VolumeFiles, root, **options)


def test_volumes_of_several_sizes_need_one(tmp_path: Path) -> None:
    root = patients(tmp_path, "images/{}.nii", "masks/{}.nii", ids=(1,))
    save(root / "images/1.nii", np.zeros((9, 8, 7), np.int16))
    save(root / "masks/1.nii", np.ones((9, 8, 7), np.uint8))
    with pytest.raises(InputError, match="images must have one shape.*set size"):
        opened(VolumeFiles, root)


def test_sheared_volumes_are_not_resampled(tmp_path: Path) -> None:
    affine = AFFINE.copy()
    affine[0, 1] = 1.0
    for number in range(4):
        save(tmp_path / f"images/{number}.nii", ramp() + np.int16(number), affine=affine)
        save(tmp_path / f"masks/{number}.nii", np.ones(SHAPE, np.uint8), affine=affine)
    with pytest.raises(InputError, match="perpendicular axes"):
        opened(VolumeFiles, tmp_path, spacing=[4, 3, 2])


def test_a_phantoms_volume_is_its_slices_from_the_feet_up() -> None:
    source = PhantomVolumes(patients=2, slices=3, size=32).read_source()
    image, mask = source.decode(1)
    assert image.shape == (3, 32, 32, 1)
    shift = np.random.default_rng([0, 1, 1]).uniform()
    for number in range(3):
        position = 0.08 + 0.64 * (number + shift) / 3
        expected, labels = render(1, position, number, size=32)
        assert_array_equal(image[2 - number, ..., 0], np.round(expected * 255))
        assert_array_equal(mask[2 - number], labels == 6)
