"""Raw volumes of nnU-Net: axes of its readers, levels, channels, labels, size and spacing in the padding."""

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch

from seg_mia.data.sets.nnunet import NnUNetVolumes
from seg_mia.data.volumes.nnunet_source import NnUNetVolumeSource
from seg_mia.errors import InputError
from seg_mia.models.nnunet.sample_geometry import SampleGeometry, stated_geometry
from tests import nnunet_layout as layout

LEVELS = [[-100.0, 150.0]]


def test_members_are_those_of_the_fold(tmp_path: Path) -> None:
    root = layout.raw_volumes(tmp_path)
    splits = tmp_path / "nnUNet_preprocessed" / layout.VOLUME_NAME / "splits_final.json"
    data = NnUNetVolumes(root=str(root), splits=str(splits), folds=["1"], levels=LEVELS)
    data.setup()
    parts = {
        part: [data.source.ids[index] for index in getattr(data.splits, part)]
        for part in ("members", "nonmembers")
    }
    assert parts == {"members": ["v0", "v2", "v3", "v5"], "nonmembers": ["v1", "v4", "v6", "v7"]}
    image, mask, _ = data.dataset(np.array([0]))[0, 0]
    assert (image.dtype, tuple(image.shape[1:])) == (torch.float32, tuple(mask.shape))


def test_samples_have_the_axes_of_the_files_and_state_their_geometry(tmp_path: Path) -> None:
    source = NnUNetVolumeSource(layout.raw_volumes(tmp_path), levels=LEVELS)
    for number in (0, 1):
        image, mask = source.decode(number)
        values, ids = layout.volume(number)
        inside = tuple(slice(length) for length in values.shape)
        assert image.shape == (*source.size, 1)
        np.testing.assert_allclose(image[inside][..., 0] * 250 - 100, values, atol=1e-4)
        assert (mask[inside] == ids).all()
        outside = np.ones(mask.shape, bool)
        outside[inside] = False
        assert (mask[outside] == 255).all()
        geometry = stated_geometry(torch.from_numpy(image).movedim(-1, 0))
        assert geometry == SampleGeometry(values.shape, layout.SPACINGS[number])
        assert (source.unpadded(number), source.spacing(number)) == geometry
    assert source.notes[-1].text == "volumes of different sizes or spacings are padded to 8x16x18"


def test_equal_volumes_are_not_padded(tmp_path: Path) -> None:
    source = NnUNetVolumeSource(layout.raw_volumes(tmp_path, varied=False), levels=LEVELS)
    assert (source.varied, source.size, source.notes) == (False, (6, 16, 18), ())
    assert (source.decode(0)[1] != 255).all()


def test_readers_that_reorient_give_ras(tmp_path: Path) -> None:
    root = layout.raw_volumes(tmp_path)
    source = NnUNetVolumeSource(root, levels=LEVELS, reoriented=True)
    values, _ = layout.volume(1)
    image, _ = source.decode(1)
    inside = tuple(slice(length) for length in values.shape)
    # Files run to the left, the back and the head; RAS to the right, the front and the head.
    np.testing.assert_allclose(image[inside][..., 0] * 250 - 100, values[:, ::-1, ::-1], atol=1e-4)
    assert source.spacing(1) == pytest.approx(layout.SPACINGS[1])
    file = root / "labelsTr" / "v1.nii.gz"
    prediction = source.prediction(file)
    assert prediction is not None
    assert (prediction == layout.volume(1)[1][:, ::-1, ::-1]).all()
    assert source.prediction(file.with_suffix(".npz")) is None


def test_channels_ranges_and_values_beyond_levels(tmp_path: Path) -> None:
    root = layout.raw_volumes(tmp_path, channel_names={"0": "T1", "1": "T2"})
    for number in range(8):
        part = "Tr" if number < 6 else "Ts"
        second = 2.5 * layout.volume(number)[0]
        layout.save_volume(root / f"images{part}/v{number}_0001.nii.gz", second, layout.SPACINGS[number % 2])
    source = NnUNetVolumeSource(root, levels=[[-50.0, 50.0], [-200.0, 300.0]])
    done = list[tuple[int, int]]()
    ranges = source.ranges([0, 1], lambda *numbers: done.append(numbers))
    values = np.concatenate([layout.volume(number)[0].ravel() for number in range(8)])
    assert ranges == {0: (values.min(), values.max()), 1: (2.5 * values.min(), 2.5 * values.max())}
    assert done[-1] == (8, 8)
    image, _ = source.decode(0)
    assert (image[..., 0].min(), image[..., 0].max()) == (0, 1)
    assert not source.whole  # the second channel holds floats
    (root / "imagesTr" / "v2_0001.nii.gz").unlink()
    with pytest.raises(InputError, match="v2 must have 2 channels, got 1 files"):
        NnUNetVolumeSource(root, levels=[[0, 1], [0, 1]])


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({"background": 0, "box": 1, "ignore": 2}, {0: 0, 1: 1, 2: 255}),
        ({"background": 0, "whole": [1, 2], "core": 2, "ignore": 3}, {0: 0, 1: 1, 2: 3, 3: 255}),
    ],
)
def test_labels_are_classes_or_sets_of_regions(
    labels: dict[str, Any], expected: dict[int, int], tmp_path: Path
) -> None:
    root = layout.raw_volumes(tmp_path, labels=labels)
    _, ids = layout.volume(0)
    ids[0, 5, : len(expected)] = list(expected)
    layout.save_volume(root / "labelsTr" / "v0.nii.gz", ids, layout.SPACINGS[0])
    source = NnUNetVolumeSource(root, levels=LEVELS)
    assert source.decode(0)[1][0, 5, : len(expected)].tolist() == list(expected.values())
    ids[0, 5, 0] = 9
    layout.save_volume(root / "labelsTr" / "v0.nii.gz", ids, layout.SPACINGS[0])
    with pytest.raises(InputError, match=r"must hold only the label ids 0, 1, 2.*, got 9 as well"):
        NnUNetVolumeSource(root, levels=LEVELS).decode(0)


def test_what_does_not_fit_is_one_line(tmp_path: Path) -> None:
    root = layout.raw_volumes(tmp_path)
    with pytest.raises(InputError, match="levels must be two rising values for each of 1 channels"):
        NnUNetVolumeSource(root, levels=[[1.0, 0.0]])
    layout.save_volume(root / "labelsTr" / "v3.nii.gz", np.zeros((2, 2, 2), np.uint8), (1, 1, 1))
    with pytest.raises(InputError, match=r"channels and label of a case must have one size, got \(2, 2, 2\)"):
        NnUNetVolumeSource(root, levels=LEVELS)
    (root / "dataset.json").write_text(json.dumps(layout.labels()))
    with pytest.raises(InputError, match=r"must describe files \(.nii.gz, .*got files .png; audit the saved"):
        NnUNetVolumeSource(root, levels=LEVELS)


def test_a_file_without_orientation_is_read_as_stored(tmp_path: Path) -> None:
    root = layout.raw_volumes(tmp_path)
    values, _ = layout.volume(0)
    nifti: Any = nibabel
    image = nifti.Nifti1Image(values.transpose(), np.diag([1, 1, 2, 1]))
    image.set_qform(None, 0)
    image.set_sform(None, 0)
    nifti.save(image, root / "imagesTr" / "v0_0000.nii.gz")
    source = NnUNetVolumeSource(root, levels=LEVELS)
    assert source.spacing(0)[0] == 2.0
    inside = tuple(slice(length) for length in values.shape)
    np.testing.assert_allclose(source.decode(0)[0][inside][..., 0] * 250 - 100, values, atol=1e-4)


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
def test_other_formats_are_read_as_stored(ending: str, tmp_path: Path) -> None:
    import SimpleITK as itk  # noqa: N813

    root = layout.raw_volumes(tmp_path, file_ending=ending)
    for file in sorted(root.rglob("*.nii.gz")):
        itk.WriteImage(itk.ReadImage(str(file)), str(file).removesuffix(".nii.gz") + ending)
    source = NnUNetVolumeSource(root, levels=LEVELS)
    values, ids = layout.volume(1)
    inside = tuple(slice(length) for length in values.shape)
    image, mask = source.decode(1)
    np.testing.assert_allclose(image[inside][..., 0] * 250 - 100, values, atol=1e-4)
    assert (mask[inside] == ids).all()
    assert source.spacing(1) == pytest.approx(layout.SPACINGS[1])
    assert source.whole
    prediction = source.prediction(root / "labelsTr" / f"v1{ending}")
    assert prediction is not None
    assert (prediction == ids).all()
