import numpy as np
import pytest

from seg_mia.data.training_set import TrainingSet, check_unevaluated
from seg_mia.errors import InputError


def test_an_extension_keeps_the_order_and_lets_later_masks_win() -> None:
    zeros, ones = np.zeros((2, 2), np.uint8), np.ones((2, 2), np.uint8)
    training = TrainingSet(np.array([4, 7]), {4: zeros})
    extended = training.extended(TrainingSet(np.array([9, 4]), {9: ones, 4: ones}))
    assert extended.indices.tolist() == [4, 7, 9, 4]
    assert sorted(extended.labels) == [4, 9]
    assert np.array_equal(extended.labels[4], ones)
    assert np.array_equal(training.labels[4], zeros)


def test_evaluated_samples_cannot_be_added_to_a_training() -> None:
    check_unevaluated(np.array([1, 2]), {3, 4})
    with pytest.raises(InputError, match="must come from the reference, got evaluated samples"):
        check_unevaluated(np.array([2, 3]), {3, 4})


def test_later_images_win_and_others_stay() -> None:
    zeros, ones = np.zeros((2, 2, 1), np.uint8), np.ones((2, 2, 1), np.uint8)
    training = TrainingSet(np.array([4]), images={4: zeros})
    extended = training.extended(TrainingSet(np.array([9, 4]), images={9: ones, 4: ones}))
    assert sorted(extended.images) == [4, 9]
    assert np.array_equal(extended.images[4], ones)
    assert np.array_equal(training.images[4], zeros)
