import math
from typing import get_args

import pytest
import segmentation_models_pytorch as smp
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from seg_mia.errors import InputError
from seg_mia.losses import (
    LOSSES,
    SURROGATES,
    Loss,
    LossName,
    SurrogateName,
    cross_entropy_loss,
    dice_cross_entropy_loss,
    dice_loss,
    label_dice_bce_loss,
    label_dice_loss,
    lovasz_hinge_loss,
    per_pixel_cross_entropy,
)
from seg_mia.metrics.labels import IGNORE

every_loss = pytest.mark.parametrize("loss", list(LOSSES.values()), ids=list(LOSSES))
every_channels = pytest.mark.parametrize("channels", [1, 2, 4])


def draw(
    channels: int, *, seed: int = 0, n: int = 3, ignored: float = 0.2, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(n, channels, 5, 6, generator=generator, dtype=dtype)
    mask = torch.randint(max(2, channels), (n, 5, 6), generator=generator)
    return logits, mask.masked_fill(torch.rand(n, 5, 6, generator=generator) < ignored, IGNORE)


def test_every_loss_name_has_its_loss() -> None:
    assert tuple(LOSSES) == get_args(LossName)
    assert list(LOSSES.values())[:3] == [dice_loss, cross_entropy_loss, dice_cross_entropy_loss]
    assert dict(list(LOSSES.items())[3:-2]) == SURROGATES
    assert list(LOSSES.values())[-2:] == [label_dice_loss, label_dice_bce_loss]
    assert tuple(SURROGATES) == get_args(SurrogateName)
    assert all(loss.__name__ == f"{name}_loss" for name, loss in LOSSES.items())


def test_binary_by_hand() -> None:
    # p = 3/4 on two pixels, 1/2 on a third, the fourth is ignored
    logits = torch.tensor([math.log(3), math.log(3), 0.0, 50.0], dtype=torch.float64).view(1, 1, 2, 2)
    mask = torch.tensor([1, 0, 1, IGNORE]).view(1, 2, 2)
    surprise = [-math.log(0.75), -math.log(0.25), -math.log(0.5), 0.0]
    dice = 1 - (2 * 1.25 + 1) / (2 + 2 + 1)
    assert per_pixel_cross_entropy(logits, mask).flatten().tolist() == pytest.approx(surprise)
    assert cross_entropy_loss(logits, mask).tolist() == pytest.approx([sum(surprise) / 3])
    assert dice_loss(logits, mask).tolist() == pytest.approx([dice])
    assert dice_cross_entropy_loss(logits, mask).tolist() == pytest.approx([dice + sum(surprise) / 3])


def test_dice_of_three_classes_by_hand_leaves_background_out() -> None:
    # probabilities (1/2, 1/4, 1/4) everywhere; one pixel of background, two of class 1, none of class 2
    logits = torch.tensor([0.5, 0.25, 0.25], dtype=torch.float64).log().view(1, 3, 1, 1).expand(1, 3, 1, 3)
    mask = torch.tensor([[[0, 1, 1]]])
    first, second = 1 - (2 * 0.5 + 1) / (0.75 + 2 + 1), 1 - 1 / (0.75 + 1)
    assert dice_loss(logits, mask).tolist() == pytest.approx([(first + second) / 2])


@pytest.mark.parametrize("channels", [1, 3])
def test_dice_equals_that_of_segmentation_models_pytorch(channels: int) -> None:
    # theirs sums over the batch and drops absent classes: one image at a time, all classes present;
    # and it smooths half the fraction: (I + s) / ((P + T) / 2 + s)
    logits, mask = draw(channels)
    mode, classes = ("binary", None) if channels == 1 else ("multiclass", [1, 2])
    theirs = smp.losses.DiceLoss(mode, classes=classes, smooth=0.5, ignore_index=IGNORE)
    expected = torch.stack([theirs(x[None], y[None]) for x, y in zip(logits, mask, strict=True)])
    torch.testing.assert_close(dice_loss(logits, mask), expected)


def test_cross_entropy_equals_that_of_torch() -> None:
    logits, mask = draw(4)
    expected = [
        functional.cross_entropy(x[None], y[None], ignore_index=IGNORE)
        for x, y in zip(logits, mask, strict=True)
    ]
    torch.testing.assert_close(cross_entropy_loss(logits, mask), torch.stack(expected))
    binary, mask = draw(1, ignored=0)
    expected_map = functional.binary_cross_entropy_with_logits(binary[:, 0], mask.double(), reduction="none")
    torch.testing.assert_close(per_pixel_cross_entropy(binary, mask), expected_map)


@every_loss
@given(z=st.floats(-100, 100), label=st.sampled_from([0, 1]))
def test_one_logit_costs_what_its_pair_costs(loss: Loss, z: float, label: int) -> None:
    logit = torch.full((1, 1, 1, 1), z, dtype=torch.float64)
    mask = torch.full((1, 1, 1), label)
    pair = torch.cat((-logit / 2, logit / 2), dim=1)
    torch.testing.assert_close(loss(logit, mask), loss(pair, mask), rtol=1e-12, atol=1e-12)


@every_loss
@every_channels
def test_gradients_are_those_of_the_value(loss: Loss, channels: int) -> None:
    logits, mask = draw(channels, n=2)
    assert torch.autograd.gradcheck(lambda x: loss(x, mask), logits.requires_grad_())


@every_loss
@every_channels
def test_ignored_pixels_have_no_say_and_no_gradient(loss: Loss, channels: int) -> None:
    logits, mask = draw(channels)
    ignored = (mask == IGNORE).unsqueeze(1)
    other = torch.where(ignored, 7 * torch.randn_like(logits), logits)
    assert loss(other, mask).equal(loss(logits, mask))
    (gradient,) = torch.autograd.grad(loss(logits.requires_grad_(), mask).sum(), logits)
    assert gradient.masked_select(ignored).eq(0).all()
    said = gradient.masked_select(~ignored).ne(0)
    assert said.any() if loss is lovasz_hinge_loss else said.all()  # a hinge is flat beyond its margin


@every_loss
@every_channels
def test_an_image_without_a_known_pixel_costs_exactly_nothing(loss: Loss, channels: int) -> None:
    logits, mask = draw(channels)
    mask[1] = IGNORE
    cost = loss(logits.requires_grad_(), mask)
    (gradient,) = torch.autograd.grad(cost.sum(), logits)
    assert cost[1] == 0
    assert gradient[1].eq(0).all()
    assert cost[[0, 2]].gt(0).all()
    assert gradient[[0, 2]].abs().sum((1, 2, 3)).gt(0).all()


@every_loss
@every_channels
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extreme_logits_stay_finite_and_confident_mistakes_keep_a_gradient(
    loss: Loss, channels: int, dtype: torch.dtype
) -> None:
    _, mask = draw(channels)
    for size in (20.0, 100.0):
        logits = size * draw(channels, dtype=dtype)[0].sign()
        cost = loss(logits.requires_grad_(), mask)
        (gradient,) = torch.autograd.grad(cost.sum(), logits)
        assert cost.isfinite().all()
        assert gradient.isfinite().all()
    wrong = torch.full((1, 1, 1, 1), 20.0, dtype=dtype, requires_grad=True)
    (gradient,) = torch.autograd.grad(loss(wrong, torch.zeros(1, 1, 1, dtype=torch.int64)).sum(), wrong)
    assert gradient.item() > 0


def test_extreme_logits_have_their_exact_cost() -> None:
    logits = torch.tensor([[[[100.0, -100.0]]]])
    right, wrong = torch.tensor([[[1, 0]]]), torch.tensor([[[0, 1]]])
    assert cross_entropy_loss(logits, right).item() == pytest.approx(0, abs=1e-40)
    assert cross_entropy_loss(logits, wrong).item() == 100
    assert cross_entropy_loss(logits, torch.tensor([[[0, IGNORE]]])).item() == 100
    assert dice_loss(logits, right).item() == 0
    assert dice_loss(logits, wrong).item() == pytest.approx(1 - 1 / 3)


def test_an_empty_mask_met_by_an_empty_prediction_costs_nothing() -> None:
    empty = torch.zeros(1, 4, 4, dtype=torch.int64)
    assert dice_loss(torch.full((1, 1, 4, 4), -100.0), empty).item() == 0
    assert dice_loss(torch.full((1, 1, 4, 4), 100.0), empty).item() == pytest.approx(1 - 1 / 17)


@settings(deadline=None)
@given(channels=st.integers(1, 5), seed=st.integers(0, 2**31), ignored=st.sampled_from([0, 0.3, 1.0]))
def test_costs_lie_in_their_range(channels: int, seed: int, ignored: float) -> None:
    logits, mask = draw(channels, seed=seed, ignored=ignored)
    assert dice_loss(logits, mask).ge(0).all()
    assert dice_loss(logits, mask).lt(1).all()
    assert cross_entropy_loss(logits, mask).ge(0).all()
    torch.testing.assert_close(
        dice_cross_entropy_loss(logits, mask), dice_loss(logits, mask) + cross_entropy_loss(logits, mask)
    )


@every_loss
@settings(deadline=None)
@given(channels=st.integers(1, 4), seed=st.integers(0, 2**31))
def test_an_image_costs_the_same_alone_and_wherever_its_pixels_lie(
    loss: Loss, channels: int, seed: int
) -> None:
    assume(not loss.__name__.startswith("label_") or channels & (channels - 1) == 0)  # 2^L sets of labels
    logits, mask = draw(channels, seed=seed)
    together = loss(logits, mask)
    alone = torch.cat([loss(logits[i : i + 1], mask[i : i + 1]) for i in range(3)])
    order = torch.randperm(30, generator=torch.Generator().manual_seed(seed))
    shuffled = loss(logits.flatten(2)[..., order].view_as(logits), mask.flatten(1)[:, order].view_as(mask))
    torch.testing.assert_close(together, alone, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(together, shuffled, rtol=1e-12, atol=1e-12)


@every_loss
@every_channels
def test_an_empty_batch_has_an_empty_cost_with_a_gradient(loss: Loss, channels: int) -> None:
    logits = torch.zeros(0, channels, 4, 4, requires_grad=True)
    cost = loss(logits, torch.zeros(0, 4, 4, dtype=torch.int64))
    assert cost.shape == (0,)
    assert torch.autograd.grad(cost.sum(), logits)[0].shape == logits.shape


@every_loss
@pytest.mark.parametrize(
    ("given_type", "returned"),
    [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_half_precision_is_computed_in_float32(
    loss: Loss, given_type: torch.dtype, returned: torch.dtype
) -> None:
    logits = torch.full((1, 1, 300, 300), 4.0, dtype=given_type)  # 90000 pixels: more than float16 can count
    mask = torch.ones(1, 300, 300, dtype=torch.int64)
    cost = loss(logits, mask)
    assert cost.dtype == returned
    torch.testing.assert_close(cost, loss(logits.to(returned), mask))


@every_loss
@pytest.mark.parametrize("shape", [(2, 5, 5), (3, 4, 4), (2, 1, 4, 4), (4, 4)])
def test_a_mask_of_another_shape_is_refused_with_both_shapes(loss: Loss, shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"\(2, 1, 4, 4\) and \(.*\); crop or resize the mask"):
        loss(torch.zeros(2, 1, 4, 4), torch.zeros(shape, dtype=torch.int64))
    with pytest.raises(InputError, match=r"\(N, K, h, w\).* \(2, 4, 4\)"):
        loss(torch.zeros(2, 4, 4), torch.zeros(2, 4, 4, dtype=torch.int64))


@every_loss
def test_a_mask_of_other_values_is_refused(loss: Loss) -> None:
    logits = torch.zeros(1, 1, 1, 3)
    with pytest.raises(InputError, match=r"classes 0 to 1, or 255 .*, got \[-1, 2\]"):
        loss(logits, torch.tensor([[[2, -1, 1]]]))
    with pytest.raises(InputError, match=r"convert it with \.long\(\)"):
        loss(logits, torch.ones(1, 1, 3))
