"""One run of MedIS on networks that do by hand what it says: where it steps, when it ends, what it keeps."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from seg_mia.attacks.medis import ALL, Medis, medis
from seg_mia.errors import InputError
from seg_mia.losses import SurrogateName
from seg_mia.models.adapter import InputAdapter
from seg_mia.models.replacement import Identity, Threshold, replace_layers

STEP = 1 / 255
every_loss = pytest.mark.parametrize("name", ALL)


class Function(nn.Module):
    """A network without parameters."""

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(x)


class Linear(nn.Module):
    """One logit per pixel, 8 (x - 0.5): class 1 above one half."""

    def forward(self, x: Tensor) -> Tensor:
        return 8 * (x[:, :1] - 0.5)


def rungs(*steps: int, up: bool = True) -> Tensor:
    """One image of one row, (1, 1, 1, n): its pixels cross one half at these steps, going up or down."""
    away = (torch.tensor(steps, dtype=torch.float64) - 0.5) * STEP
    return (0.5 - away if up else 0.5 + away).view(1, 1, 1, -1)


def ones(x: Tensor) -> Tensor:
    return torch.ones(len(x), *x.shape[2:], dtype=torch.int64)


def noisy(count: int = 6, channels: int = 2, classes: int = 3) -> tuple[nn.Module, Tensor, Tensor]:
    """A random network, images and masks."""
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = nn.Conv2d(channels, 6, 3, padding=1), nn.Tanh(), nn.Conv2d(6, classes, 3, padding=1)
        network = nn.Sequential(*layers).double()
    x = torch.rand(count, channels, 8, 7, generator=generator, dtype=torch.float64)
    return network, x, torch.randint(max(2, classes), (count, 8, 7), generator=generator)


@every_loss
def test_a_run_towards_a_mask_by_hand(name: SurrogateName) -> None:
    # After n steps n of ten pixels are 1, all of which are asked for: mean IoU n / 10.
    x = rungs(*range(1, 11))
    result = medis(Linear(), x, ones(x), losses=[name], history=True)
    assert result.notes["success"].item() == 1
    assert result.notes["steps"].item() == 5  # the first at 0.45 or more
    assert result.notes["mean_iou"].item() == pytest.approx(0.5)
    assert_close(result.images, x + 5 * STEP, rtol=0, atol=1e-12)
    assert_close(result.history["mean_iou"][:, 0], torch.arange(11).double() / 10, rtol=0, atol=1e-7)


@every_loss
def test_a_run_away_from_a_mask_by_hand(name: SurrogateName) -> None:
    x = rungs(*range(1, 11), up=False)
    result = medis(Linear(), x, ones(x), losses=[name], targeted=False, stop=0.25, history=True)
    assert result.notes["success"].item() == 1
    assert result.notes["steps"].item() == 5  # the first at 0.5 or less
    assert_close(result.images, x - 5 * STEP, rtol=0, atol=1e-12)
    left = [1 - min(n, 8) / 10 for n in range(11)]  # it ends with the first at 0.25 or less
    assert result.history["mean_iou"][:, 0].tolist() == pytest.approx(left)


@every_loss
@pytest.mark.parametrize("targeted", [True, False])
def test_a_threshold_that_is_met_exactly_is_met(name: SurrogateName, targeted: bool) -> None:
    x = rungs(*range(1, 21), up=targeted)
    knobs: dict[str, Any] = {"losses": [name], "steps": 20, "history": True, "targeted": targeted}
    result = medis(Linear(), x, ones(x), **knobs)
    last = medis(Linear(), x, ones(x), keep="last", **knobs)
    first, end = (9, 19) if targeted else (10, 16)  # 9/20 = 0.45 and 19/20 = 0.95; 10/20 and 4/20 = 0.2
    assert result.notes["steps"].item() == first
    assert_close(last.images, x + (end if targeted else -end) * STEP, rtol=0, atol=1e-12)


@every_loss
def test_each_pixel_goes_where_it_is_asked_for(name: SurrogateName) -> None:
    x = torch.cat([rungs(2, 2), rungs(2, 2, up=False)], 3)
    target = torch.tensor([[[1, 1, 0, 0]]])
    signs = torch.tensor([1, 1, -1, -1], dtype=torch.float64)
    result = medis(Linear(), x, target, losses=[name])
    if name == "lovasz_hinge":  # flat for what is wrong when all of the class is: some pixels stay
        assert ((result.images - x) * signs > -1e-12).all()
        assert ((result.images - x) * signs > STEP / 2).any()
    else:
        assert_close(result.images, x + 2 * STEP * signs, rtol=0, atol=1e-12)
        assert (result.notes["steps"].item(), result.notes["mean_iou"].item()) == (2, 1)


@every_loss
def test_pixels_without_a_wish_are_left_alone(name: SurrogateName) -> None:
    x, target = rungs(3, 3, 3), torch.tensor([[[1, 255, 1]]])
    result = medis(Linear(), x, target, losses=[name])
    assert_close(result.images - x, torch.tensor([[[[3.0, 0, 3]]]]).double() * STEP, rtol=0, atol=1e-12)
    assert result.notes["mean_iou"].item() == 1


@pytest.mark.parametrize("size", [STEP, 0.003, 0.1])
@pytest.mark.parametrize("targeted", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_image_leaves_its_bound_or_range(size: float, targeted: bool, dtype: torch.dtype) -> None:
    network, x, target = noisy()
    network, x = network.to(dtype), x.to(dtype)
    x[0] = x[0].round()  # black and white: every other step is clipped
    knobs: dict[str, Any] = {"targeted": targeted, "stop": float(targeted), "step_size": size, "steps": 7}
    for keep in ("success", "last"):
        result = medis(network, x, target, keep=keep, success=0.5 if targeted else 0.05, **knobs)
        change = (result.images - x).abs().amax((1, 2, 3))
        rounding = 8 * torch.finfo(dtype).eps
        assert (change <= 7 * size + rounding).all()
        assert result.images.min() >= 0
        assert result.images.max() <= 1
        if keep == "success":
            assert (change <= result.notes["steps"] * size + rounding).all()
        else:
            assert_close(change.amax().double().item(), min(7 * size, 1.0), rtol=0, atol=1e-6)


def test_what_is_clipped_stays_at_the_end_of_the_range() -> None:
    x = torch.cat([rungs(6, up=False), torch.tensor([[[[2.5 * STEP, 0.0]]]]).double()], 3)
    result = medis(Linear(), x, 0 * ones(x), success=1.0, stop=1.0)
    assert result.notes["steps"].item() == 6
    left = torch.tensor([[[[0.5 - 0.5 * STEP, 0, 0]]]], dtype=torch.float64)
    assert_close(result.images, left, rtol=0, atol=1e-12)


TAPS = [(8.0, 0.5), (-1.0, 0.5 + 1.6 * STEP), (-1.0, 0.4)]


def taps(x: Tensor) -> Tensor:
    """Three outputs of one pixel: the first rises with it, two fall, but less."""
    return torch.cat([slope * (x - at) for slope, at in TAPS], 3)


def test_without_success_the_best_iterate_is_kept() -> None:
    # All should be 1: the second is at first, after two steps the first too, after four the first alone.
    x = rungs(2)
    target = torch.ones(1, 1, 3, dtype=torch.int64)
    knobs: dict[str, Any] = {"losses": ["bce_dice"], "success": 0.9, "history": True, "steps": 6}
    result = medis(Function(taps), x, target, **knobs)
    shares = result.history["mean_iou"][:, 0] * 3
    assert shares.tolist() == pytest.approx([1, 1, 2, 2, 1, 1, 1])
    assert result.notes["success"].item() == 0
    assert result.notes["steps"].item() == 6
    assert result.notes["mean_iou"].item() == pytest.approx(2 / 3)
    assert_close(result.images, x + 2 * STEP, rtol=0, atol=1e-12)
    last = medis(Function(taps), x, target, keep="last", **knobs)
    assert last.notes["mean_iou"].item() == pytest.approx(1 / 3)
    assert_close(last.images, x + 6 * STEP, rtol=0, atol=1e-12)


def test_the_last_iterate_on_request() -> None:
    x = rungs(1, 2, 3, 4)
    result = medis(Linear(), x, ones(x), keep="last")
    assert result.notes["steps"].item() == 2
    assert result.notes["mean_iou"].item() == 1
    assert_close(result.images, x + 4 * STEP, rtol=0, atol=1e-12)


@pytest.mark.parametrize("count_clean", [False, True])
def test_who_is_counted(count_clean: bool) -> None:
    # reached by steps, at the start, asked for what is true anyway, both of these
    x = torch.cat([rungs(3, 3), rungs(0, 0), rungs(3, 3), rungs(0, 0)])
    truth = ones(x)
    truth[:2, :, 0] = 0
    result = medis(Linear(), x, ones(x), truth=truth, count_clean=count_clean)
    assert result.notes["clean_success"].tolist() == [0, 1, 0, 1]
    assert result.notes["skipped"].tolist() == [0, 0, 1, 1]
    assert result.notes["counted"].tolist() == ([1, 1, 0, 0] if count_clean else [1, 0, 0, 0])
    assert result.notes["success"].tolist() == [1] * 4
    assert result.notes["steps"].tolist() == [3, 0, 3, 0]
    assert_close(result.images[[1, 3]], x[[1, 3]], rtol=0, atol=0)


def test_away_from_the_truth_nothing_is_skipped() -> None:
    x = torch.cat([rungs(3, 3, up=False), rungs(0, 0, up=False)])
    result = medis(Linear(), x, ones(x), targeted=False, truth=ones(x))
    assert result.notes["skipped"].tolist() == [0, 0]
    assert result.notes["clean_success"].tolist() == [0, 1]
    assert result.notes["counted"].tolist() == [1, 0]


class Hard(nn.Module):
    """1 above a half, else -1, by a comparison that no gradient passes."""

    def forward(self, x: Tensor) -> Tensor:
        return (x > 0.5).to(x) * 2 - 1


class Steep(nn.Module):
    """The same by rounding, whose gradient is zero."""

    def forward(self, x: Tensor) -> Tensor:
        return x.round() * 2 - 1


@pytest.mark.parametrize("kind", [Hard, Steep])
@pytest.mark.parametrize("targeted", [True, False])
def test_a_hard_threshold_gives_no_gradient_until_it_is_replaced(
    kind: type[nn.Module], targeted: bool
) -> None:
    # no pixel right, all, and half of them, which is a success but not yet the end
    x = torch.cat([rungs(*steps, up=targeted) for steps in ((3, 3), (0, 0), (0, 3))])
    result = medis(kind(), x, ones(x), targeted=targeted, history=True)
    assert result.notes["no_gradient"].tolist() == [1, 0, 0]  # the others need none
    assert result.notes["counted"].tolist() == [0, 0, 0]
    assert result.notes["success"].tolist() == [0, 1, 1]
    assert result.notes["steps"].tolist() == [0, 0, 0]
    assert [result.notes[f"{name}.zero_gradient"][0].item() for name in ALL] == [1] * 6
    assert_close(result.images, x, rtol=0, atol=0)
    for stand_in in (Identity(), Threshold(at=0.5, low=-1, high=1)):
        soft = replace_layers(kind(), {kind: stand_in})
        result = medis(soft, x, ones(x), targeted=targeted)
        assert result.notes["no_gradient"].tolist() == [0, 0, 0]
        assert result.notes["counted"].tolist() == [1, 0, 0]
        assert result.notes["steps"].tolist() == [3, 0, 0]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("seg_mia.attacks.white_box.resolve", lambda path: kind)  # noqa: ARG005
        bound = Medis(targeted=targeted, replace={f"{kind.__module__}.{kind.__qualname__}": Identity()})
        assert bound.run(kind(), x, ones(x)).notes["steps"].tolist() == [3, 0, 0]


def test_a_gradient_that_fades_later_is_another_matter() -> None:
    # Flat from 1.5 steps above the start on, and never 1: after two steps there is nowhere to go.
    x = rungs(5, 5)
    flat = Function(lambda y: 8 * (y.clamp(max=x.max().item() + 1.5 * STEP) - 0.5))
    result = medis(flat, x, ones(x), history=True)
    assert (result.notes["no_gradient"].item(), result.notes["counted"].item()) == (0, 1)
    assert (result.notes["success"].item(), result.notes["steps"].item()) == (0, 2)
    assert [result.notes[f"{name}.zero_gradient"].item() for name in ALL] == [0] * 6


def test_some_pixels_without_a_gradient_are_counted() -> None:
    x = rungs(3, 3, 3, 3)
    result = medis(Function(lambda y: Linear()(torch.cat([y[..., :3], y[..., 3:].detach()], 3))), x, ones(x))
    assert [result.notes[f"{name}.zero_gradient"].item() for name in ALL] == [0.25] * 6
    assert result.notes["no_gradient"].item() == 0
    assert_close(result.images[..., 3], x[..., 3], rtol=0, atol=0)


def test_losses_see_all_heads_and_success_the_final_one() -> None:
    def deep(x: Tensor) -> tuple[Tensor, ...]:
        final = 8 * (x.round() - 0.5)  # no gradient passes
        return final, 8 * (x - 0.5), 4 * (x - 0.5), 2 * (x - 0.5)

    x = rungs(*range(1, 11))
    result = medis(Function(deep), x, ones(x), history=True)
    assert result.notes["steps"].item() == 5
    assert [result.notes[f"{name}.steps"].item() for name in ALL] == [5] * 6
    # Three heads that go the other way outweigh the final one.
    against = Function(lambda y: (8 * (y - 0.5), *[-8 * (y - 0.5)] * 3))
    result = medis(against, rungs(2, 2), ones(rungs(2, 2)), history=True)
    assert result.notes["success"].item() == 0
    assert result.history["mean_iou"].max() == 0


@pytest.mark.parametrize("name", ALL[:-1])  # of the combined losses one is summed over heads, five not
def test_four_equal_heads_are_as_good_as_one(name: SurrogateName) -> None:
    network, x, target = noisy(classes=1)
    one = medis(network, x, target, losses=[name], success=0.5)
    four = medis(Function(lambda y: (network(y),) * 4), x, target, losses=[name], success=0.5)
    assert_close(four.notes["steps"], one.notes["steps"], rtol=0, atol=0)
    assert_close(four.images, one.images, rtol=0, atol=1e-12)


def test_a_network_of_another_size_inside_is_attacked_at_the_size_of_the_image() -> None:
    network = InputAdapter(Linear(), size=4)
    x = torch.cat([torch.full((1, 1, 9, 6), 0.5 - (k - 0.5) * STEP, dtype=torch.float64) for k in (2, 5)])
    result = medis(network, x, ones(x))
    assert result.notes["steps"].tolist() == [2, 5]
    assert result.images.shape == x.shape
    change = (result.images - x).amax((1, 2, 3)) / STEP
    assert_close(change, torch.tensor([2.0, 5.0]).double(), rtol=0, atol=1e-9)


def test_a_truth_that_holds_no_class_of_the_network_is_refused() -> None:
    x = rungs(3, 3)
    with pytest.raises(InputError, match="masks must hold the network's classes"):
        medis(Linear(), x, ones(x), truth=7 * ones(x), history=True)


def test_a_gradient_that_is_no_number_is_refused() -> None:
    broken = Function(lambda x: 8 * (x - 0.5) + (0 * x).sqrt())
    x = rungs(3, 3)
    with pytest.raises(InputError, match="gradient must be finite, got NaN or infinity"):
        medis(broken, x, ones(x))


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"losses": ["dice"]}, "losses must name at least one of log_cosh_dice, .*got dice$"),
        ({"losses": ["combined", "structure", "combined"]}, "each once, got combined, structure, combined$"),
        ({"losses": []}, "got none$"),
        ({"steps": 0}, "steps must be at least 1 .*got 0 and"),
        ({"step_size": 0.0}, "step_size in .*and 0.0;"),
        ({"step_size": 1.5}, "step_size in .*and 1.5;"),
        ({"step_size": float("nan")}, "step_size in .*and nan;"),
        ({"success": 1.1}, "success is a mean IoU, in .*got 1.1"),
        ({"stop": -0.1}, "stop is a mean IoU, in .*got -0.1"),
        ({"success": float("nan")}, "success is a mean IoU.*nan"),
        ({"largest_batch": 0}, "largest_batch must be at least 1, got 0"),
    ],
)
def test_refuses_knobs_in_one_line(knobs: dict[str, Any], message: str) -> None:
    x = rungs(3, 3)
    for call in (lambda: medis(Linear(), x, ones(x), **knobs), lambda: Medis(**knobs)):
        with pytest.raises(InputError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_true_masks_of_another_kind_are_refused() -> None:
    x = rungs(3, 3)
    with pytest.raises(InputError, match="int64"):
        medis(Linear(), x, ones(x), truth=ones(x).float())


def test_the_settings_are_bound() -> None:
    network, x, target = noisy()
    knobs: dict[str, Any] = {"losses": ["structure"], "steps": 3, "step_size": 0.01, "success": 0.4}
    knobs["history"] = True
    bound, free = Medis(**knobs), medis(network, x, target, truth=target, **knobs)
    result = bound.judged(network, x, target, target)
    assert_close(result.images, free.images, rtol=0, atol=0)
    assert_close(result.notes, free.notes, rtol=0, atol=0)
    assert_close(result.history, free.history, rtol=0, atol=0)
    assert bound.is_targeted
    assert not Medis(targeted=False).is_targeted
    reached = torch.tensor([0.1, 0.4, 0.45, 0.6])
    assert bound.succeeded(reached).tolist() == [False, True, True, True]
    assert Medis().succeeded(reached).tolist() == [False, False, True, True]
    assert Medis(targeted=False).succeeded(reached).tolist() == [True, True, True, False]
