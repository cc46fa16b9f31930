"""FGSM and PGD on networks whose gradient is known by hand, and against a loop written in numpy."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.testing import assert_close

from seg_mia.attacks.ball import Norm, direction, within
from seg_mia.attacks.pgd import Fgsm, Pgd, fgsm, pgd
from seg_mia.errors import InputError
from seg_mia.losses import LOSSES, LossName
from seg_mia.metrics.labels import IGNORE

Array = NDArray[np.float64]
WEIGHTS = (3.0, -4.0)  # of length 5
BIAS = 0.25
every_norm = pytest.mark.parametrize("norm", ["linf", "l2"])
both_ways = pytest.mark.parametrize("targeted", [False, True])


class Function(nn.Module):
    """A network without parameters."""

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(x)


def linear(x: Tensor) -> Tensor:
    """One logit per pixel: 3 red - 4 green + 1/4. Its loss falls along the weights where the mask is 1."""
    weights = x.new_tensor(WEIGHTS).view(1, 2, 1, 1)
    return (weights * x).sum(1, keepdim=True) + BIAS


LINEAR = Function(linear)


def middle(height: int = 2, width: int = 3) -> tuple[Tensor, Tensor]:
    """One image, grey everywhere, and a mask with both classes."""
    mask = torch.arange(height * width).view(1, height, width) % 2
    return torch.full((1, 2, height, width), 0.5, dtype=torch.float64), mask


def noisy(count: int = 4) -> tuple[Tensor, Tensor]:
    """Images that touch 0 and 1, so that every step is clipped somewhere, and masks with ignored pixels."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(count, 2, 5, 4, generator=generator, dtype=torch.float64) * 1.6 - 0.3
    mask = torch.randint(2, (count, 5, 4), generator=generator)
    mask[torch.rand(mask.shape, generator=generator) < 0.2] = IGNORE
    return x.clamp(0, 1), mask


def convolved(classes: int = 3) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = nn.Conv2d(2, 6, 3, padding=1), nn.Tanh(), nn.Conv2d(6, classes, 3, padding=1)
    return nn.Sequential(*layers).double()


@both_ways
@pytest.mark.parametrize(("steps", "moved"), [(1, 0.02), (2, 0.04), (3, 0.05), (7, 0.05)])
def test_signed_steps_by_hand(targeted: bool, steps: int, moved: float) -> None:
    # Where the mask is 1 the loss falls with the logit, which rises with red and falls with green.
    x, mask = middle()
    found = pgd(LINEAR, x, mask, targeted=targeted, epsilon=0.05, step_size=0.02, steps=steps)
    towards = torch.where(mask == 1, 1.0, -1.0).double().unsqueeze(1)
    ascent = -towards * torch.tensor(WEIGHTS).sign().double().view(1, 2, 1, 1)
    assert_close(found.images - x, (-ascent if targeted else ascent) * moved, rtol=0, atol=1e-12)


@both_ways
@pytest.mark.parametrize(("steps", "moved"), [(1, 0.2), (2, 0.4), (3, 0.5), (7, 0.5)])
def test_steps_of_a_length_by_hand(targeted: bool, steps: int, moved: float) -> None:
    # All pixels are alike and of one class, so each pulls as hard: along (3, -4) / 5, a sixth of the square.
    x, _ = middle()
    mask = torch.ones(1, 2, 3, dtype=torch.int64)
    found = pgd(LINEAR, x, mask, targeted=targeted, norm="l2", epsilon=0.5, step_size=0.2, steps=steps)
    along = torch.tensor([0.6, -0.8], dtype=torch.float64).view(1, 2, 1, 1) / math.sqrt(6)
    assert_close(
        found.images - x,
        ((1 if targeted else -1) * moved * along).expand_as(x).clone(),
        rtol=0,
        atol=1e-12,
    )


def test_the_losses_noted_are_those_before_and_after() -> None:
    x, _ = middle()
    mask = torch.ones(1, 2, 3, dtype=torch.int64)
    found = pgd(LINEAR, x, mask, epsilon=0.1, step_size=0.1, steps=1)
    # the logit is 3/2 - 2 + 1/4 = -1/4 at first; red falls and green rises by 0.1, and it by 0.7
    for name, logit in (("loss_clean", -0.25), ("loss_adversarial", -0.95)):
        assert found.notes[name].tolist() == pytest.approx([math.log1p(math.exp(-logit))])
    assert not found.history


@both_ways
def test_pixels_without_a_wish_are_left_alone(targeted: bool) -> None:
    x, mask = middle()
    mask[0, 0] = IGNORE
    found = fgsm(LINEAR, x, mask, targeted=targeted, epsilon=0.1)
    assert_close(found.images[:, :, 0], x[:, :, 0], rtol=0, atol=0)
    assert_close((found.images - x)[:, :, 1].abs(), torch.full((1, 2, 3), 0.1).double())


def by_loop(
    x: Array, mask: NDArray[np.int64], *, targeted: bool, norm: Norm, epsilon: float, size: float, steps: int
) -> Array:
    """The same attack on the linear network, image by image and without any autograd."""
    weights = np.array(WEIGHTS).reshape(2, 1, 1)
    images = []
    for clean, wanted in zip(x, mask, strict=True):
        image, counted = clean.copy(), wanted != IGNORE
        for _ in range(steps):
            logit = (weights * image).sum(0) + BIAS
            slope = np.where(counted, 1 / (1 + np.exp(-logit)) - wanted, 0) / max(counted.sum(), 1)
            gradient = weights * slope * (-1 if targeted else 1)
            if norm == "linf":
                image = np.clip(image + size * np.sign(gradient), clean - epsilon, clean + epsilon)
            else:
                length = np.sqrt((gradient**2).sum())
                change = image + size * gradient / length - clean
                image = clean + change * min(1, epsilon / np.sqrt((change**2).sum()))
            image = np.clip(image, 0, 1)
        images.append(image)
    return np.stack(images)


@every_norm
@both_ways
def test_as_a_loop_in_numpy_does(norm: Norm, targeted: bool) -> None:
    x, mask = noisy()
    epsilon, size = (0.1, 0.03) if norm == "linf" else (0.8, 0.3)
    found = pgd(LINEAR, x, mask, targeted=targeted, norm=norm, epsilon=epsilon, step_size=size, steps=6)
    expected = by_loop(
        x.numpy(), mask.numpy(), targeted=targeted, norm=norm, epsilon=epsilon, size=size, steps=6
    )
    np.testing.assert_allclose(found.images.numpy(), expected, rtol=0, atol=1e-12)
    assert np.abs(expected - x.numpy()).max() > 0.05


@every_norm
@both_ways
@pytest.mark.parametrize("loss", list(LOSSES))
def test_ball_and_range_hold_for_every_image(norm: Norm, targeted: bool, loss: LossName) -> None:
    x, mask = noisy()
    mask = mask.masked_fill(mask == IGNORE, 0)
    epsilon = 0.07 if norm == "linf" else 0.6
    found = pgd(
        convolved(4 if loss.startswith("label_") else 3),  # the sets of two labels
        x,
        mask,
        targeted=targeted,
        norm=norm,
        epsilon=epsilon,
        step_size=0.9 * epsilon,
        loss=loss,
    )
    change = (found.images - x).flatten(1)
    size = change.abs().amax(1) if norm == "linf" else change.norm(dim=1)
    assert (size <= epsilon + 1e-12).all()
    assert (size > epsilon / 10).all()
    assert found.images.min() >= 0
    assert found.images.max() <= 1


@both_ways
@pytest.mark.parametrize("loss", ["cross_entropy", "dice", "bce_dice"])
def test_the_loss_goes_where_it_is_sent(targeted: bool, loss: LossName) -> None:
    x, mask = noisy()
    found = pgd(convolved(), x, mask, targeted=targeted, epsilon=0.1, step_size=0.01, loss=loss)
    before, after = found.notes["loss_clean"], found.notes["loss_adversarial"]
    assert ((after < before) if targeted else (after > before)).all()
    for noted, images in ((before, x), (after, found.images)):
        assert_close(noted, LOSSES[loss](convolved()(images), mask), rtol=1e-12, atol=0)


@every_norm
@both_ways
def test_one_step_of_epsilon_is_fgsm(norm: Norm, targeted: bool) -> None:
    x, mask = noisy()
    ball: dict[str, Any] = {"targeted": targeted, "norm": norm, "epsilon": 0.2, "loss": "dice"}
    once = fgsm(convolved(), x, mask, **ball)
    assert_close(
        once.images, pgd(convolved(), x, mask, step_size=0.2, steps=1, **ball).images, rtol=0, atol=0
    )
    assert_close(once.images, Fgsm(**ball).run(convolved(), x, mask).images, rtol=0, atol=0)
    assert_close(
        once.images, Pgd(step_size=0.2, steps=1, **ball).run(convolved(), x, mask).images, rtol=0, atol=0
    )


def test_the_first_head_is_followed() -> None:
    x, mask = noisy()
    two = Function(lambda images: (linear(images), -linear(images)))
    assert_close(pgd(two, x, mask).images, pgd(LINEAR, x, mask).images, rtol=0, atol=0)


def test_one_logit_is_its_pair() -> None:
    x, mask = noisy()
    pair = Function(lambda images: torch.cat((-linear(images) / 2, linear(images) / 2), 1))
    for norm in ("linf", "l2"):
        one, two = (pgd(network, x, mask, norm=norm).images for network in (LINEAR, pair))
        assert_close(one, two, rtol=0, atol=1e-12)


@every_norm
def test_without_a_gradient_an_image_stays_and_the_others_go(norm: Norm) -> None:
    x, mask = middle()
    images, masks = x.repeat(2, 1, 1, 1), mask.repeat(2, 1, 1)
    masks[0] = IGNORE
    found = pgd(LINEAR, images, masks, norm=norm)
    assert_close(found.images[0], x[0], rtol=0, atol=0)
    assert_close(found.images[1:], pgd(LINEAR, x, mask, norm=norm).images, rtol=0, atol=0)
    flat = Function(lambda images: linear(images) * 0)
    assert_close(pgd(flat, x, mask, norm=norm).images, x, rtol=0, atol=0)


@every_norm
def test_a_network_that_cuts_the_graph_has_no_gradient(norm: Norm) -> None:
    x, mask = middle()
    hard = Function(lambda images: (linear(images) > 0).to(images))
    assert_close(pgd(hard, x, mask, norm=norm).images, x, rtol=0, atol=0)


@every_norm
@pytest.mark.parametrize("logit", [5.0, 30.0, 60.0])
def test_a_victim_that_is_sure_and_right_is_attacked_too(norm: Norm, logit: float) -> None:
    # float32: the gradient at a logit of 60 is 1e-26, its square is no longer a number above 0.
    x = torch.full((1, 1, 4, 4), 0.5)
    mask = torch.ones(1, 4, 4, dtype=torch.int64)
    found = fgsm(Function(lambda images: 2 * logit * images), x, mask, norm=norm, epsilon=0.1)
    change = (found.images - x).flatten()
    assert float(change.abs().max() if norm == "linf" else change.norm()) == pytest.approx(0.1, rel=1e-4)
    assert (change < 0).all()


@every_norm
def test_a_gradient_that_is_no_number_is_refused(norm: Norm) -> None:
    x, mask = middle()
    broken = Function(lambda images: linear(images) + (images[:, :1] - 0.5).square().sqrt())
    with pytest.raises(InputError, match="gradient must be finite"):
        pgd(broken, x, mask, norm=norm)


def test_directions_have_unit_length() -> None:
    gradient = torch.tensor([[3.0, 0.0, -4.0], [0.0, 0.0, 0.0], [1e-12, 0.0, 0.0]]).view(3, 3, 1, 1)
    signs = direction(gradient, "linf").flatten(1).tolist()
    assert signs == [[1, 0, -1], [0, 0, 0], [1, 0, 0]]
    expected = torch.tensor([[0.6, 0.0, -0.8], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    assert_close(direction(gradient, "l2").flatten(1), expected)


def test_the_nearest_change_in_a_ball() -> None:
    change = torch.tensor([[3.0, 0.0, -4.0], [0.3, 0.0, -0.4], [0.0, 0.0, 0.0]]).view(3, 3, 1, 1)
    cut = torch.tensor([[1.0, 0.0, -1.0], [0.3, 0.0, -0.4], [0.0, 0.0, 0.0]])
    assert_close(within(change, "linf", 1.0).flatten(1), cut)
    scaled = torch.tensor([[0.6, 0.0, -0.8], [0.3, 0.0, -0.4], [0.0, 0.0, 0.0]])
    assert_close(within(change, "l2", 1.0).flatten(1), scaled)


@pytest.mark.parametrize(
    "knobs",
    [
        {"epsilon": 0.0},
        {"epsilon": -1.0},
        {"epsilon": float("nan")},
        {"epsilon": float("inf")},
        {"step_size": 0.0},
        {"step_size": float("nan")},
        {"steps": 0},
    ],
)
def test_knobs_outside_their_range_are_refused(knobs: dict[str, Any]) -> None:
    x, mask = middle()
    with pytest.raises(InputError, match="above 0 and finite, steps at least 1"):
        pgd(LINEAR, x, mask, **knobs)
    with pytest.raises(InputError, match="above 0 and finite"):
        Pgd(**knobs)
    if "epsilon" in knobs:
        with pytest.raises(InputError, match="above 0 and finite"):
            Fgsm(**knobs)


@pytest.mark.parametrize(("name", "value"), [("epsilon", 8.0), ("step_size", 2.0)])
def test_more_than_all_grey_levels_is_refused_in_l_infinity_alone(name: str, value: float) -> None:
    x, mask = middle()
    knobs: dict[str, Any] = {name: value}
    message = f"{name} must be at most 1 .* got {value:g}; {value:g}/255 is {value / 255:.4f}"
    with pytest.raises(InputError, match=message):
        pgd(LINEAR, x, mask, **knobs)
    with pytest.raises(InputError, match=message):
        Pgd(**knobs)
    if name == "epsilon":
        with pytest.raises(InputError, match=message):
            fgsm(LINEAR, x, mask, epsilon=value)
        with pytest.raises(InputError, match=message):
            Fgsm(epsilon=value)
    assert pgd(LINEAR, x, mask, norm="l2", **knobs).images.max() <= 1
    knobs[name] = 1.0
    assert pgd(LINEAR, x, mask, **knobs).images.max() <= 1


def test_a_mask_is_asked_for_where_it_is_targeted() -> None:
    assert not Fgsm().is_targeted
    assert not Pgd().is_targeted
    assert Pgd(targeted=True).is_targeted
    assert Pgd().attacker_knowledge == "weights"
    assert Pgd().succeeded(torch.ones(1)) is None
