"""Statistics of images and masks, by hand."""

import numpy as np
import pytest

from seg_mia.membership.features import sample_statistics
from seg_mia.metrics.label_sets import LabelSets


def test_a_square_on_a_flat_ground() -> None:
    mask = np.zeros((8, 8), dtype=np.int64)
    mask[2:6, 2:6] = 1
    image = np.where(mask == 1, 0.75, 0.25)[None]
    values = sample_statistics(image, mask, 2)
    mean = (16 * 0.75 + 48 * 0.25) / 64
    assert values[0] == pytest.approx(mean)
    assert values[1] == pytest.approx(np.sqrt((16 * (0.75 - mean) ** 2 + 48 * (0.25 - mean) ** 2) / 64))
    # Second differences are 1/2 on both sides of each of the 16 edges, twice at the inner corners.
    assert values[2] == pytest.approx(np.log(32 * 0.5 / 64 + 1e-6))
    # No pixel is ignored; a quarter of the area, a border of 12 pixels, one component, a contrast of 1/2.
    assert values[3:9] == pytest.approx([0, 0.5, np.log(13), np.log(2), 0.5, 0])
    assert values[9] > 1


def test_classes_that_are_absent_or_fill_the_image_have_no_contrast() -> None:
    image = np.random.default_rng(0).random((3, 6, 6))
    mask = np.ones((6, 6), dtype=np.int64)
    mask[0, :3] = 255
    values = sample_statistics(image, mask, 3)
    assert values.shape == (3 * 3 + 1 + 6 * 2,)
    assert values[9] == pytest.approx(3 / 36)
    assert values[10] == 1
    assert values[13:16].tolist() == [0, 0, 0]
    assert values[16:].tolist() == [0] * 6
    assert np.isfinite(values).all()


def test_two_components_in_a_volume() -> None:
    mask = np.zeros((4, 4, 4), dtype=np.int64)
    mask[0, 0, 0] = mask[3, 3, 3] = 1
    values = sample_statistics(np.random.default_rng(0).random((1, 4, 4, 4)), mask, 2)
    assert values[6] == pytest.approx(np.log(3))


def test_padding_of_a_volume_changes_nothing_and_one_slice_has_no_gradient_across() -> None:
    rng = np.random.default_rng(0)
    image, mask = rng.random((1, 1, 6, 5)), rng.integers(0, 2, (1, 6, 5))
    frame = ((1, 2), (0, 3), (2, 0))
    padded = np.pad(image, ((0, 0), *frame)), np.pad(mask, frame, constant_values=255)
    values = sample_statistics(image, mask, 2)
    np.testing.assert_allclose(sample_statistics(*padded, 2), values)
    np.testing.assert_allclose(values, sample_statistics(image[:, 0], mask[0], 2))


def test_labels_that_overlap_are_described_one_by_one() -> None:
    image = np.random.default_rng(0).random((1, 12, 12))
    mask = np.zeros((12, 12), np.int64)
    mask[2:9, 2:9], mask[4:6, 4:7], mask[0] = 0b01, 0b11, 255
    values = sample_statistics(image, mask, LabelSets(("whole", "core")))
    assert len(values) == 3 + 1 + 2 * 6
    for label in range(2):
        alone = np.where(mask == 255, 255, mask >> label & 1)
        assert np.array_equal(values[4 + 6 * label :][:6], sample_statistics(image, alone, 2)[4:])
