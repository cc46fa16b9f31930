"""Membership on arrays, as somebody without this package's runs uses it."""

import subprocess
import sys

import numpy as np
import pytest

from seg_mia.errors import InputError
from seg_mia.membership import image_entropy, image_loss

LOGITS = np.zeros((2, 1, 1, 2), np.float32)
LOGITS[1] = np.log(3)  # probabilities of 3/4


def test_losses_of_numpy_arrays() -> None:
    masks = np.array([[[1, 0]], [[1, 255]]])
    np.testing.assert_allclose(
        image_loss(LOGITS, masks, loss="cross_entropy"), [np.log(2), np.log(4 / 3)], rtol=1e-6
    )


def test_entropies() -> None:
    certain = -(3 / 4 * np.log(3 / 4) + 1 / 4 * np.log(1 / 4))
    np.testing.assert_allclose(image_entropy(LOGITS), [np.log(2), certain], rtol=1e-6)


def test_outputs_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(InputError, match="must be finite"):
        image_entropy(LOGITS * np.nan)


def test_no_trainer_is_imported() -> None:
    check = "import sys, seg_mia.membership; print(*{'lightning', 'jsonargparse', 'opacus'} & {*sys.modules})"
    found = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert not found.stdout.strip()
