import random
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from seg_mia.data.augment import Augmentation, Augmenter
from seg_mia.metrics.labels import IGNORE

Array = NDArray[Any]
POLICIES: tuple[Augmentation, ...] = ("flip", "standard")


def shape(size: int = 32) -> NDArray[np.uint8]:
    """An L, which no flip or rotation maps onto itself."""
    mask = np.zeros((size, size), np.uint8)
    mask[6:26, 6:12] = 1
    mask[20:26, 6:24] = 1
    return mask


def noise(channels: int = 3) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (32, 32, channels), dtype=np.uint8)


def changed(policy: Augmentation, image: Array, *, seed: int = 0, epoch: int = 0, index: int = 0) -> Array:
    return np.asarray(Augmenter(policy, seed)(image, shape(), epoch=epoch, index=index)[0])


@pytest.mark.parametrize("policy", POLICIES)
def test_a_change_depends_on_seed_epoch_and_index_alone(policy: Augmentation) -> None:
    image, augmenter = noise(), Augmenter(policy, 3)
    draws = [(epoch, index) for epoch in range(3) for index in range(8)]
    first = {draw: augmenter(image, shape(), epoch=draw[0], index=draw[1]) for draw in draws}
    random.seed(7)
    np.random.seed(7)  # noqa: NPY002  # the global generator is what must not matter
    for epoch, index in reversed(draws):
        again = augmenter(image, shape(), epoch=epoch, index=index)
        fresh = Augmenter(policy, 3)(image, shape(), epoch=epoch, index=index)
        for one, other, third in zip(first[epoch, index], again, fresh, strict=True):
            assert np.array_equal(one, other)
            assert np.array_equal(one, third)


@pytest.mark.parametrize("name", ["seed", "epoch", "index"])
def test_each_of_the_three_changes_what_is_drawn(name: str) -> None:
    drawn = {changed("standard", noise(), **{name: value}).tobytes() for value in range(12)}
    assert len(drawn) > 8


def test_nothing_is_changed_without_a_policy() -> None:
    image, mask = Augmenter("none", 0)(noise(), shape(), epoch=1, index=1)
    assert np.array_equal(image, noise())
    assert np.array_equal(mask, shape())


def test_flips_are_the_four_mirror_images_of_both() -> None:
    picture = shape()[..., None] * np.uint8(200)
    seen = set[bytes]()
    for index in range(40):
        image, mask = Augmenter("flip", 0)(picture, shape(), epoch=0, index=index)
        assert np.array_equal(image[..., 0], mask * np.uint8(200))
        seen.add(mask.tobytes())
    mirrored = [shape(), shape()[::-1], shape()[:, ::-1], shape()[::-1, ::-1]]
    assert seen == {np.ascontiguousarray(mask).tobytes() for mask in mirrored}


def test_the_mask_moves_with_the_image() -> None:
    picture = shape()[..., None] * np.uint8(120) + np.uint8(60)
    moved = 0
    for index in range(40):
        image, mask = Augmenter("standard", 1)(picture, shape(), epoch=0, index=index)
        known = mask != IGNORE
        bright = image[..., 0].astype(float)
        # Brightness and contrast change the grey levels, not which of the two is brighter.
        middle = (np.median(bright[mask == 1]) + np.median(bright[mask == 0])) / 2
        assert ((bright > middle) == mask)[known].mean() > 0.96
        moved += not np.array_equal(mask, shape())
    assert moved > 20


def test_the_steps_of_a_policy_are_drawn_independently() -> None:
    # Flipped 1/2, moved 7/10 and brightened 1/2 of the time: untouched 0.5 * 0.3 * 0.5 of it.
    picture = shape()[..., None] * np.uint8(120) + np.uint8(60)
    moved, brightened, untouched = [], [], 0
    for index in range(400):
        image, mask = Augmenter("standard", 0)(picture, shape(), epoch=0, index=index)
        in_place = any(np.array_equal(mask, view) for view in (shape(), shape()[:, ::-1]))
        moved.append(not in_place)
        brightened.append(not {60, 180} <= set(np.unique(image).tolist()))
        untouched += np.array_equal(image, picture)
    share = untouched / 400
    assert abs(share - 0.075) < 0.05
    assert abs(np.mean(moved) - 0.7) < 0.1
    assert abs(np.mean(brightened) - 0.5) < 0.1
    assert abs(np.corrcoef(moved, brightened)[0, 1]) < 0.15


def test_what_comes_in_from_outside_is_ignored_not_background() -> None:
    white, full = np.full((32, 32, 3), 200, np.uint8), np.ones((32, 32), np.uint8)
    brought_in = 0
    for index in range(40):
        image, mask = Augmenter("standard", 1)(white, full, epoch=0, index=index)
        assert set(np.unique(mask)) <= {1, IGNORE}
        # Black, but for contrast, and for interpolation at the border, with less than half of the white.
        assert (image[mask == IGNORE] < 140).all()
        assert (image[mask == 1] > 60).all()
        brought_in += bool((mask == IGNORE).any())
    assert brought_in > 10


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_type_shape_and_range_are_kept(policy: Augmentation, channels: int, dtype: type) -> None:
    image: Array = noise(channels) if dtype is np.uint8 else noise(channels).astype(np.float32) / 255
    before, mask = image.copy(), shape()
    for index in range(30):
        out, labels = Augmenter(policy, 0)(image, mask, epoch=0, index=index)
        assert out.dtype == dtype
        assert out.shape == (32, 32, channels)
        assert labels.dtype == np.uint8
        assert labels.shape == (32, 32)
        if dtype is np.float32:
            assert out.min() >= 0
            assert out.max() <= 1
    assert np.array_equal(image, before)
    assert np.array_equal(mask, shape())


def test_a_mask_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"[Ss]hape|[Hh]eight"):
        Augmenter("flip", 0)(noise(), shape()[4:28, 4:28], epoch=0, index=0)
