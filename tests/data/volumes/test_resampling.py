"""Grids of stated spacing and size, compared with SciPy's interpolation and with shapes counted by hand."""

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import ndimage

from seg_mia.data.volumes.resampling import Shaping
from seg_mia.errors import InputError


def drawn(shape: tuple[int, int, int] = (5, 7, 6)) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    return rng.random((*shape, 1)).astype(np.float32), rng.integers(0, 3, shape).astype(np.uint8)


@pytest.mark.parametrize(
    ("spacing", "voxel"),
    [
        ((2.0, 1.0, 1.5), (3.0, 1.3, 0.7)),
        ((0.9, 2.0, 1.0), (2.5, 1.0, 1.0)),
        ((7.0, 9.0, 8.0), (1, 1, 1)),
    ],
)
def test_values_are_those_of_scipy(spacing: tuple[float, ...], voxel: tuple[float, ...]) -> None:
    image, mask = drawn()
    got, labels = Shaping(spacing=spacing).shaped(image, mask, voxel)
    sides = [round(n * old / new) for n, old, new in zip(mask.shape, voxel, spacing, strict=True)]
    assert labels.shape == got.shape[:3] == tuple(max(1, side) for side in sides)
    # Both grids are centred on one point, and the distance of the new voxels is exactly the stated one.
    places = [
        (np.arange(m) - (m - 1) / 2) * new / old + (n - 1) / 2
        for n, m, old, new in zip(mask.shape, labels.shape, voxel, spacing, strict=True)
    ]
    positions = np.stack(np.meshgrid(*places, indexing="ij"))
    expected = ndimage.map_coordinates(image[..., 0], positions, order=1, mode="nearest")
    assert_allclose(got[..., 0], expected, atol=1e-5)
    rounded = [
        np.clip(np.floor(place + 0.5), 0, n - 1).astype(int)
        for place, n in zip(places, mask.shape, strict=True)
    ]
    assert_array_equal(labels, mask[np.ix_(*rounded)])


def test_unchanged_grids_change_nothing() -> None:
    image, mask = drawn()
    for shaping in (Shaping(), Shaping(spacing=(1.0, 2.0, 3.0), size=mask.shape)):
        got, labels = shaping.shaped(image, mask, (1.0, 2.0, 3.0))
        assert_array_equal(got, image)
        assert_array_equal(labels, mask)


def test_bytes_are_rounded_once() -> None:
    image = np.array([0, 1], np.uint8).reshape(2, 1, 1, 1)
    got, _ = Shaping(spacing=(0.5, 1.0, 1.0)).shaped(image, np.zeros((2, 1, 1), np.uint8), (1.0, 1.0, 1.0))
    assert got.dtype == np.uint8
    assert got.ravel().tolist() == [0, 0, 1, 1]  # 0 (edge), 0.25, 0.75, 1 (edge)


def test_padding_is_black_and_ignored_and_crops_are_central() -> None:
    image, mask = np.ones((2, 6, 3, 1), np.float32), np.ones((2, 6, 3), np.uint8)
    image[:, 2], mask[:, 2] = 0.5, 2
    got, labels = Shaping(size=(5, 3, 3)).shaped(image, mask, (1.0, 1.0, 1.0))
    assert labels[:, 0, 0].tolist() == [255, 1, 1, 255, 255]
    assert got[:, 0, 0, 0].tolist() == [0, 1, 1, 0, 0]
    assert labels[1, :, 0].tolist() == [1, 2, 1]  # of six rows those from 1 to 3: (6 - 3) // 2


def test_a_crop_around_the_foreground_holds_it_and_stays_within_the_volume() -> None:
    mask = np.zeros((1, 1, 20), np.uint8)
    for start, expected in ((0, slice(0, 3)), (9, slice(1, 4)), (17, slice(2, 5))):
        mask[:] = 0
        mask[..., start : start + 3] = 1
        image = mask[..., None].astype(np.float32)
        _, labels = Shaping(size=(1, 1, 5), around="foreground").shaped(image, mask, (1.0, 1.0, 1.0))
        assert labels[0, 0, expected].tolist() == [1, 1, 1]
        assert labels.sum() == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"spacing": (1.0, 1.0)}, "three distances"),
        ({"spacing": (1.0, 0.0, 1.0)}, "above 0"),
        ({"spacing": (1.0, float("nan"), 1.0)}, "above 0"),
        ({"size": (4, 4)}, "three numbers"),
        ({"size": (4, 4, 0)}, "from 1"),
    ],
)
def test_settings_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Shaping(**options)


def test_a_spacing_in_another_unit_and_a_crop_without_foreground_are_refused() -> None:
    image, mask = drawn()
    with pytest.raises(InputError, match="at most 2048 voxels"):
        Shaping(spacing=(0.001, 1.0, 1.0)).shaped(image, mask, (1.0, 1.0, 1.0))
    mask = np.zeros((9, 9, 9), np.uint8)
    mask[0, 0, 0] = 1
    with pytest.raises(InputError, match="some foreground of 'case'"):
        Shaping(size=(3, 3, 3)).of_sample(np.zeros((9, 9, 9, 1), np.float32), mask, (1.0, 1.0, 1.0), "case")
