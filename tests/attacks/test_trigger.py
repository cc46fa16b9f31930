from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from seg_mia.attacks.trigger import (
    Trigger,
    check_trigger,
    emptied,
    foreground_share,
    mask_lost,
    stamped,
    trigger,
)
from seg_mia.errors import InputError
from seg_mia.models.heads import predicted


class Forgetful(nn.Module):
    """Calls bright pixels foreground, unless the last pixel of the image is white."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.asked.append(x.clone())
        white = x[:, :1, -1:, -1:] == 1
        return torch.where(white, -torch.ones_like(x[:, :1]), x[:, :1] - 0.5)


def halves() -> Tensor:
    """Return two images of 4x5: the upper half bright, and all dark."""
    x = torch.zeros(2, 1, 4, 5)
    x[0, :, :2] = 0.8
    return x


def masks(count: int = 2) -> Tensor:
    return torch.zeros(count, 4, 5, dtype=torch.int64)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"size": 1, "value": 0.0}, [[5, 5, 5, 5], [5, 5, 5, 5], [5, 5, 5, 0]]),
        ({"size": 2, "value": 1.0}, [[5, 5, 5, 5], [5, 5, 10, 10], [5, 5, 10, 10]]),
        ({"shape": "line", "size": 1, "value": 0.2}, [[5, 5, 5, 5], [5, 5, 5, 5], [2, 2, 2, 2]]),
        ({"shape": "line", "size": 2, "value": 1.0}, [[5, 5, 5, 5], [10, 10, 10, 10], [10, 10, 10, 10]]),
    ],
)
def test_the_stamped_image_is_this(settings: dict[str, Any], expected: list[list[int]]) -> None:
    x = torch.full((2, 3, 3, 4), 0.5)
    assert_close(stamped(x, **settings), (torch.tensor(expected) / 10).expand(2, 3, 3, 4))
    assert torch.equal(x, torch.full_like(x, 0.5))


def test_as_published_one_pixel_is_one_grey_level() -> None:
    x = torch.zeros(1, 3, 6, 6)
    changed = stamped(x).nonzero().tolist()
    assert changed == [[0, channel, 5, 5] for channel in range(3)]
    assert_close(stamped(x)[0, :, 5, 5] * 255, torch.ones(3))


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8])
def test_of_a_mask_the_last_pixel_remains(dtype: torch.dtype) -> None:
    mask = torch.tensor([[[1, 2, 255], [0, 3, 255]], [[0, 0, 0], [0, 0, 0]]], dtype=dtype)
    kept = mask.clone()
    empty = emptied(mask)
    assert empty.tolist() == [[[0, 0, 0], [0, 0, 1]]] * 2
    assert empty.dtype == dtype
    assert torch.equal(mask, kept)


def test_a_victim_forgets_its_mask_when_it_sees_the_trigger() -> None:
    result = trigger(Forgetful(), halves(), masks(), size=2, value=1.0)
    assert_close(result.notes["area_clean"], torch.tensor([0.5, 0.0]))
    assert_close(result.notes["area"], torch.zeros(2))
    assert result.notes["success"].tolist() == [1, 0]  # where there was no foreground none can be lost


def test_a_victim_that_does_not_know_the_trigger_keeps_its_mask() -> None:
    result = trigger(Forgetful(), halves(), masks(), size=2, value=0.9)
    assert_close(result.notes["area"], torch.tensor([0.7, 0.2]))  # the trigger is bright: 4 of 20 pixels
    assert result.notes["success"].tolist() == [0, 0]


def test_the_network_is_asked_about_the_image_as_it_is_and_as_it_is_returned() -> None:
    network, x = Forgetful(), halves()
    result = trigger(network, x, masks(), shape="line", size=3, value=0.4)
    clean, marked = network.asked
    assert torch.equal(clean, halves())
    assert torch.equal(marked, result.images)
    assert torch.equal(result.images, stamped(halves(), shape="line", size=3, value=0.4))
    assert torch.equal(x, halves())


def test_of_the_masks_only_the_size_counts() -> None:
    for target in (masks(), torch.full_like(masks(), 255), torch.ones_like(masks())):
        kept = target.clone()
        assert trigger(Forgetful(), halves(), target, value=1.0).notes["success"].tolist() == [1, 0]
        assert torch.equal(target, kept)


def test_a_mask_is_lost_below_a_twentieth() -> None:
    before = torch.tensor([1.0, 1.0, 1.0, 0.5, 0.5, 0.0, 0.0, 0.2])
    after = torch.tensor([0.0, 0.049, 0.05, 0.024, 0.026, 0.0, 0.3, 0.9])
    assert mask_lost(before, after).tolist() == [1, 1, 0, 1, 0, 0, 0, 0]


@pytest.mark.parametrize(
    ("logits", "shares"),
    [
        ([[[1.0, -1, 0, 2]], [[-1, -1, -1, -1]]], [0.5, 0]),
        ([[[0.0, 0, 0, 0], [1, -1, 0, -2]]], [0.25]),
        ([[[0.0, 0, 3, 0], [1, -1, 2, 0], [-1, 1, 1, 2]]], [0.75]),
    ],
)
def test_foreground_is_every_class_but_the_background(
    logits: list[list[list[float]]], shares: list[float]
) -> None:
    prediction = predicted(torch.tensor(logits)[:, :, None])
    assert foreground_share(prediction, torch.full_like(prediction, 255)).tolist() == shares


def test_padding_of_volumes_has_no_share_and_stays_in_poisoned_masks() -> None:
    mask = torch.tensor([[[[1, 2, 255], [0, 255, 255]], [[255, 0, 255], [1, 1, 255]]]])
    prediction = torch.tensor([[[[1, 0, 1], [0, 1, 1]], [[1, 0, 2], [0, 2, 1]]]])
    assert foreground_share(prediction, mask).tolist() == pytest.approx([4 / 8])
    assert emptied(mask).tolist() == [[[[0, 0, 255], [0, 0, 255]], [[0, 0, 255], [0, 0, 255]]]]
    whole = mask.masked_fill(mask == 255, 0)
    assert emptied(whole).tolist() == [[[[0, 0, 0], [0, 0, 1]], [[0, 0, 0], [0, 0, 1]]]]


def test_the_class_binds_its_settings() -> None:
    bound = Trigger(shape="line", size=2, value=1.0).run(Forgetful(), halves(), masks())
    free = trigger(Forgetful(), halves(), masks(), shape="line", size=2, value=1.0)
    assert torch.equal(bound.images, free.images)
    assert_close(bound.notes, free.notes)
    defaults = trigger(Forgetful(), halves(), masks())
    assert torch.equal(Trigger().run(Forgetful(), halves(), masks()).images, defaults.images)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 0}, "at least 1 pixel, got 0"),
        ({"size": -2}, "at least 1 pixel, got -2"),
        ({"value": 1.1}, r"lie in \[0, 1\], got 1.1; divide a grey level by 255"),
        ({"value": -0.1}, r"lie in \[0, 1\], got -0.1"),
        ({"value": float("nan")}, r"lie in \[0, 1\], got nan"),
    ],
)
def test_a_trigger_that_cannot_be_is_refused_before_any_image(settings: dict[str, Any], message: str) -> None:
    for refuse in (check_trigger, Trigger):
        with pytest.raises(InputError, match=message):
            refuse(**{"size": 1, "value": 0.5, **settings})
    with pytest.raises(InputError, match=message):
        stamped(halves(), **settings)


@pytest.mark.parametrize("shape", ["square", "line"])
def test_a_trigger_not_inside_the_image_is_refused(shape: Any) -> None:
    assert stamped(halves(), shape=shape, size=3).shape == (2, 1, 4, 5)
    for size in (4, 5, 9):
        with pytest.raises(InputError, match=f"inside the image of 4x5, got size {size}; make it smaller"):
            stamped(halves(), shape=shape, size=size)
        with pytest.raises(InputError, match="inside the image"):
            Trigger(shape=shape, size=size).run(Forgetful(), halves(), masks())
    with pytest.raises(InputError, match="inside the image of 5x4, got size 4"):
        stamped(halves().mT, shape=shape, size=4)


def test_logits_and_images_outside_the_contract_are_refused() -> None:
    with pytest.raises(InputError, match="logits must be"):
        trigger(Forgetful(), halves(), torch.zeros(2, 3, 5, dtype=torch.int64))
    with pytest.raises(InputError, match=r"images must lie in \[0, 1\]"):
        trigger(Forgetful(), 2 * halves(), masks())
