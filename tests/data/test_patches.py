"""Training patches: what they hold, and what decides them."""

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from seg_mia.data.augment import Augmentation, VolumeFlips, mirrored_axes
from seg_mia.data.patches import Patches, check_fit, check_patch
from seg_mia.data.training_set import training_changes
from seg_mia.errors import InputError


def sample(shape: tuple[int, ...] = (8, 9, 10)) -> tuple[Any, Any]:
    """Return an image that holds the number of each voxel, and a mask with one voxel of class 2."""
    image = np.arange(np.prod(shape), dtype=np.float32).reshape(*shape, 1)
    mask = np.zeros(shape, np.uint8)
    mask.ravel()[-1] = 2
    return image, mask


@pytest.mark.parametrize("shape", [(8, 9, 10), (9, 10)])
def test_image_and_mask_show_one_place_and_every_place_is_drawn(shape: tuple[int, ...]) -> None:
    image, _ = sample(shape)
    mask = (image[..., 0] % 251).astype(np.uint8)
    corners = set()
    for epoch in range(300):
        part, labels = Patches([4] * len(shape), 0.0, seed=0)(image, mask, epoch=epoch, index=3)
        assert labels.shape == (4,) * len(shape)
        assert_array_equal(part[..., 0] % 251, labels)
        corners.add(np.unravel_index(int(part.ravel()[0]), shape))
    for axis, length in enumerate(shape):
        assert {corner[axis] for corner in corners} == set(range(length - 3))


def test_a_share_is_centred_on_foreground() -> None:
    image, mask = sample()
    held = [
        bool(Patches([3, 3, 3], 0.4, 0)(image, mask, epoch=epoch, index=0)[1].any()) for epoch in range(600)
    ]
    by_chance = 1 / (6 * 7 * 8)
    assert np.mean(held) == pytest.approx(0.4 + 0.6 * by_chance, abs=0.06)  # three standard errors
    mask[2, 2, 2] = 1
    patches = [Patches([3, 3, 3], 1.0, 0)(image, mask, epoch=epoch, index=0)[1] for epoch in range(200)]
    assert np.mean([patch[1, 1, 1] == 1 for patch in patches]) == pytest.approx(0.5, abs=0.11)


def test_padding_is_not_drawn_alone() -> None:
    image, mask = sample()
    mask[:] = 255
    mask[0, 0, 0] = 0
    for epoch in range(50):
        assert (Patches([2, 2, 2], 0.5, 0)(image, mask, epoch=epoch, index=0)[1] != 255).any()
    mask[0, 0, 0] = 255
    assert Patches([2, 2, 2], 0.5, 0)(image, mask, epoch=0, index=0)[1].shape == (2, 2, 2)


@pytest.mark.parametrize("size", [[32, 32], [16, 40], [33, 21]])
def test_augmentation_moves_what_surrounds_a_patch_into_it(size: list[int]) -> None:
    image, mask = np.full((160, 160, 1), 200, np.uint8), np.zeros((160, 160), np.uint8)
    mask[80, 80] = 1
    (change,) = training_changes("standard", size, 1.0, seed=0, axes=2)
    for epoch in range(60):
        part, labels = change(image, mask, epoch=epoch, index=0)
        assert (part.shape, labels.shape) == ((*size, 1), tuple(size))
        assert part.min() > 100
        assert labels.max() <= 1


def test_an_augmented_patch_keeps_a_labelled_pixel_and_flips_its_place() -> None:
    image, mask = sample((40, 40))
    mask[:] = 255
    mask[0, 0] = 0  # in the corner, from which rotation moves it out
    policies: tuple[Augmentation, ...] = ("standard", "flip")
    for policy in policies:
        (change,) = training_changes(policy, [8, 8], 0.3, seed=0, axes=2)
        for epoch in range(60):
            assert (change(image, mask, epoch=epoch, index=0)[1] != 255).any()
    mask[:] = 0
    (change,) = training_changes("flip", [8, 8], 0.3, seed=0, axes=2)
    for epoch in range(10):
        plain = Patches([8, 8], 0.3, 0)(image, mask, epoch=epoch, index=0)[0]
        assert set(change(image, mask, epoch=epoch, index=0)[0].ravel()) == set(plain.ravel())


def test_seed_epoch_and_index_decide() -> None:
    image, mask = sample()

    def drawn(seed: int, epoch: int, index: int) -> list[float]:
        return [
            float(change(image, mask, epoch=epoch, index=index)[0].sum())
            for change in (Patches([2, 2, 2], 0.0, seed), VolumeFlips(seed))
        ]

    assert drawn(0, 1, 2) == drawn(0, 1, 2)
    patches = {drawn(*key)[0] for key in ((0, 1, 2), (1, 1, 2), (0, 2, 2), (0, 1, 3))}
    assert len(patches) == 4


def test_flips_are_along_three_axes() -> None:
    image, mask = sample()
    seen = set()
    for epoch in range(100):
        flipped, labels = VolumeFlips(0)(image, mask, epoch=epoch, index=0)
        assert flipped[labels == 2].ravel().tolist() == [image.size - 1]
        seen.add(tuple(np.argwhere(labels == 2)[0].tolist()))
    assert seen == {(d, h, w) for d in (0, 7) for h in (0, 8) for w in (0, 9)}
    assert mirrored_axes("flip", axes=2) == ((), (-1,), (-2,), (-1, -2))
    assert len(set(mirrored_axes("flip", axes=3))) == 8


@pytest.mark.parametrize(
    ("patch", "share", "message"),
    [([4], 0.3, r"\[H, W\]"), ([4, 0, 4], 0.3, r"\[H, W\]"), (None, 1.5, "patch_foreground")],
)
def test_settings_out_of_range_are_refused(patch: list[int] | None, share: float, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_patch(patch, share)


def test_masks_of_another_size_have_no_patches() -> None:
    with pytest.raises(InputError, match="patches need images and masks of one size"):
        check_fit([4, 4], "none", (16, 16), (8, 8))
    with pytest.raises(InputError, match="augmentation needs images and masks of one size"):
        check_fit(None, "flip", (16, 16), (8, 8))
