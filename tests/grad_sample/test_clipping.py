"""The sum of clipped gradients: by hand, against autograd, and one mode against the other."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

from seg_mia.grad_sample.clipping import Mode, clipped_sum
from tests.grad_sample.helpers import (
    MODES,
    Uses,
    assert_same,
    by_autograd,
    clipped,
    close,
    draw,
    every_mode,
    images,
    losses_of,
    small,
    trained,
)


@every_mode
def test_by_hand(mode: Mode) -> None:
    # The gradient of w x is x, of norms 5, 0.5 and 2; only what is longer than 1 is shortened to it.
    x = torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, -2.0]])
    layer = nn.Linear(2, 1, bias=False)
    found = clipped(lambda rows: layer(x[rows])[:, 0], trained(layer), 3, mode=mode)
    assert_close(found.norms, torch.tensor([5.0, 0.5, 2.0]))
    assert_close(found.sums, {"weight": torch.tensor([[0.6 + 0.3, 0.8 + 0.4 - 1.0]])})


def test_a_unit_is_the_mean_of_its_rows_by_hand() -> None:
    # Unit 0 has rows (3, 4) and (-3, 4), whose mean gradient is (0, 4); unit 7 has (0.3, 0.4).
    x = torch.tensor([[3.0, 4.0], [0.3, 0.4], [-3.0, 4.0]])
    layer = nn.Linear(2, 1, bias=False)
    for physical in (1, 2, 9):
        found = clipped(
            lambda rows: layer(x[rows])[:, 0],
            trained(layer),
            torch.tensor([0, 7, 0]),
            physical=physical,
            mode="loop",
        )
        assert_close(found.norms, torch.tensor([4.0, 0.5]))
        assert_close(found.sums, {"weight": torch.tensor([[0.3, 1.4]])})


@every_mode
@pytest.mark.parametrize("clip", [1e-3, 1.0, 50.0, 1e9])
@pytest.mark.parametrize("physical", [1, 2, 5])
def test_equals_autograd_unit_by_unit(mode: Mode, clip: float, physical: int) -> None:
    network = small()
    objective, parameters = losses_of(network, images()), trained(network)
    found = clipped(objective, parameters, 5, clip=clip, physical=physical, mode=mode)
    assert_same(found, by_autograd(objective, parameters, torch.arange(5), clip))


@given(units=st.lists(st.integers(0, 3), min_size=1, max_size=6), physical=st.integers(1, 6))
@settings(deadline=None, max_examples=30)
def test_units_of_any_sizes_in_any_order(units: list[int], physical: int) -> None:
    network = small()
    objective, parameters = losses_of(network, images(6)), trained(network)
    member = torch.tensor(units)
    found = clipped(objective, parameters, member, physical=physical, mode="loop")
    assert_same(found, by_autograd(objective, parameters, member, 1.0))


def test_norms_stand_in_the_order_of_units_in_both_modes() -> None:
    network = small()
    objective, parameters = losses_of(network, images()), trained(network)
    units = torch.tensor([4, 0, 3, 1, 2])
    fused, loop = (clipped(objective, parameters, units, mode=mode, physical=2) for mode in MODES)
    assert_same(fused, loop)


@every_mode
def test_one_sample_adds_the_same_whoever_is_beside_it(mode: Mode) -> None:
    network, x = small(), images()
    parameters = trained(network)
    found = []
    for batch in (x, torch.cat([3 - x[:2], x[2:3], 7 * x[3:]])):
        whole = clipped(losses_of(network, batch), parameters, 5, mode=mode)
        rest = clipped(losses_of(network, batch[[0, 1, 3, 4]]), parameters, 4, mode=mode)
        found.append({name: whole.sums[name] - rest.sums[name] for name in parameters})
    alone = clipped(losses_of(network, x[2:3]), parameters, 1, mode=mode).sums
    for each in found:
        close(each, alone)


@every_mode
@given(clip=st.floats(1e-6, 1e3))
@settings(deadline=None, max_examples=15)
def test_no_sample_adds_more_than_the_clip(mode: Mode, clip: float) -> None:
    network = small()
    for image in images():
        sums = clipped(losses_of(network, image[None]), trained(network), 1, clip=clip, mode=mode).sums
        assert torch.cat([each.flatten() for each in sums.values()]).norm() <= clip * (1 + 1e-12)


@every_mode
def test_a_clip_that_binds_nobody_gives_the_gradient_of_the_sum(mode: Mode) -> None:
    network = small()
    objective, parameters = losses_of(network, images()), trained(network)
    expected = torch.autograd.grad(objective(torch.arange(5)).sum(), list(parameters.values()))
    found = clipped(objective, parameters, 5, clip=1e12, mode=mode)
    close(tuple(found.sums.values()), expected)


@every_mode
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_gradient_of_zero_stays_zero(mode: Mode, dtype: torch.dtype) -> None:
    network = small().to(dtype)
    x = images().to(dtype)
    found = clipped(lambda rows: losses_of(network, x)(rows) * (rows > 2), trained(network), 5, mode=mode)
    assert found.norms[:3].tolist() == [0, 0, 0]
    assert all(torch.isfinite(each).all() for each in found.sums.values())
    nothing = clipped(lambda rows: losses_of(network, x)(rows) * 0, trained(network), 5, clip=1e9, mode=mode)
    assert not any(each.any() for each in nothing.sums.values())


@every_mode
def test_a_gradient_that_is_not_finite_shows_in_its_norm(mode: Mode) -> None:
    network, x = small(), images()
    x[1] = math.nan
    found = clipped(losses_of(network, x), trained(network), 5, mode=mode)
    assert found.norms.isnan().tolist() == [False, True, False, False, False]


@every_mode
def test_an_empty_batch_adds_nothing(mode: Mode) -> None:
    def never(rows: Tensor) -> Tensor:
        raise AssertionError(rows)

    network = small()
    found = clipped(never, trained(network), 0, mode=mode)
    assert found.norms.shape == (0,)
    assert_close(found.sums, {name: torch.zeros_like(each) for name, each in trained(network).items()})


def test_fused_refuses_units_of_unequal_numbers_of_rows() -> None:
    network = small()
    with pytest.raises(ValueError, match="equal numbers of rows; use loop"):
        clipped(losses_of(network, images(3)), trained(network), torch.tensor([0, 1, 0]))


@every_mode
def test_leaves_everything_as_found(mode: Mode) -> None:
    network = small()
    parameters = trained(network)
    before = {name: each.detach().clone() for name, each in parameters.items()}
    for each in parameters.values():
        each.grad = torch.full_like(each, 7)
    accumulated: list[Tensor] = []
    network.get_parameter("0.weight").register_post_accumulate_grad_hook(accumulated.append)  # type: ignore[no-untyped-call]
    clipped(losses_of(network, images()), parameters, 5, mode=mode)
    assert not accumulated
    for name, each in parameters.items():
        assert each.grad is not None
        assert (each.grad == 7).all()
        assert torch.equal(each, before[name])
        assert each.requires_grad


@every_mode
def test_parameters_that_are_not_trained_are_left_alone(mode: Mode) -> None:
    network = small()
    for frozen in (False, True):
        network.get_submodule("0").requires_grad_(not frozen)
        chosen = {name: each for name, each in trained(network).items() if not name.startswith("0.")}
        objective = losses_of(network, images())
        found = clipped(objective, chosen, 5, mode=mode)
        assert_same(found, by_autograd(objective, chosen, torch.arange(5), 1.0))
        assert all(each.grad is None for each in network.parameters())


@every_mode
def test_a_parameter_that_no_sample_uses(mode: Mode) -> None:
    network = Uses(lambda own, x: own.a(x), a=small(), unused=nn.Linear(2, 2).double())
    found = clipped(losses_of(network, images()), trained(network), 5, mode=mode)
    assert not found.sums["unused.weight"].any()
    assert_same(found, by_autograd(losses_of(network, images()), trained(network), torch.arange(5), 1.0))


@pytest.mark.parametrize("mode", ["fused", "loop"])
@pytest.mark.parametrize("constant", [False, True])
def test_losses_without_any_parameter_have_a_gradient_of_zero(mode: Mode, constant: bool) -> None:
    # An image whose every pixel is ignored has such a loss.
    other = torch.zeros((), dtype=torch.float64, requires_grad=not constant)
    network = small()
    found = clipped(lambda rows: rows * other, trained(network), 3, mode=mode)
    assert found.norms.tolist() == [0, 0, 0]
    assert not any(each.any() for each in found.sums.values())


@every_mode
def test_losses_must_be_one_of_each_row(mode: Mode) -> None:
    network = small()
    objective = losses_of(network, images())
    with pytest.raises(ValueError, match="losses"):
        clipped(lambda rows: objective(rows).mean(), trained(network), 5, mode=mode)


def test_a_parameter_by_two_names_is_refused() -> None:
    layer = nn.Linear(4, 4).double()
    network = nn.Sequential(layer, nn.Tanh(), layer)
    objective = losses_of(network, draw(3, 4))
    twice = dict(network.named_parameters(remove_duplicate=False))
    for mode in MODES:
        with pytest.raises(ValueError, match="one name"):
            clipped(objective, twice, 3, mode=mode)


@pytest.mark.parametrize("offset", [0, 1000, 10000])
def test_no_norm_is_taken_for_less_than_it_is(offset: int) -> None:
    # Over positions g sums to 0, as before a normalisation, and x is one and the same or has an offset.
    x, g = draw(8, 4, 64).float(), draw(8, 4, 64, seed=1).float()
    x = offset + x if offset else x[:, :1].repeat(1, 4, 1)
    g -= g.mean(1, keepdim=True)
    layer = nn.Linear(64, 64, bias=False)
    found = clipped(lambda rows: (layer(x[rows]) * g[rows]).sum((1, 2)), trained(layer), 8)
    exact = torch.einsum("nlo,nld->nod", g.double(), x.double()).flatten(1).norm(dim=1)
    assert (found.norms >= exact * (1 - 1e-3) - 1e-4).all()


@every_mode
def test_normalised_gradients_by_hand(mode: Mode) -> None:
    # Norms 5, 0.5 and 0: each becomes 2 / (norm + 0.01) of itself, and 0 stays 0.
    x = torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]])
    layer = nn.Linear(2, 1, bias=False)
    found = clipped_sum(
        lambda rows: layer(x[rows])[:, 0],
        trained(layer),
        torch.arange(3),
        clip=2.0,
        physical=2,
        mode=mode,
        clipping="normalise",
    )
    expected = x[0] * 2 / 5.01 + x[1] * 2 / 0.51
    assert_close(found.norms, torch.tensor([5.0, 0.5, 0.0]))
    assert_close(found.sums, {"weight": expected[None]})
    assert found.sums["weight"].norm() < 4  # each unit adds less than the clip
