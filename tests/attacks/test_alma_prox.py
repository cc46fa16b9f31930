"""Minimal norms known exactly, the proximal operator against a search, the penalty's derivative."""

import math

import pytest
import torch
from torch.testing import assert_close

from seg_mia.attacks.alma_prox import AlmaProx, alma_prox, slope_of_penalty, smaller, wrong_share
from seg_mia.errors import InputError
from tests.attacks.networks import WEIGHTS, Linear, Quadratic, discs, linear_data, trained


@pytest.mark.parametrize("classes", [1, 2])
@pytest.mark.parametrize("share", [1.0, 0.8])
def test_the_exact_distance_to_a_linear_boundary(share: float, classes: int) -> None:
    # A pixel turns at |logit| / (3 + 4); the share-th smallest of these is the norm.
    x, mask = linear_data()
    result = alma_prox(Linear(classes), x, mask, share=share, steps=200, step_size=0.002)
    for n in range(len(x)):
        distances = (Linear()(x)[n, 0].abs() / sum(map(abs, WEIGHTS)))[mask[n] != 255].sort().values
        exact = distances[math.ceil(share * len(distances)) - 1]
        assert result.notes["minimal_linf"][n].item() == pytest.approx(exact.item(), rel=0.005)
        change = (result.images - x)[n].abs().max().item()
        assert change == pytest.approx(result.notes["minimal_linf"][n].item())
    assert result.notes["found"].all()
    assert (result.notes["wrong"] >= share).all()


@pytest.mark.parametrize(("grey", "distance"), [(0.45, 0.4 + 0.02**0.5 - 0.45), (0.3, 0.3 - 0.4 + 0.02**0.5)])
def test_the_exact_distance_to_a_quadratic_boundary(grey: float, distance: float) -> None:
    x, mask = torch.full((1, 1, 4, 4), grey).double(), torch.ones(1, 4, 4, dtype=torch.int64)
    result = alma_prox(Quadratic(), x, mask, share=1.0, steps=250)
    assert result.notes["minimal_linf"].item() == pytest.approx(distance, rel=0.005)


def test_only_the_foreground_is_asked_for() -> None:
    x, mask = linear_data()
    result = alma_prox(Linear(), x, mask, share=1.0, pixels="foreground", steps=200, step_size=0.002)
    logits = Linear()(x)[:, 0].masked_fill(mask != 1, 0)
    assert_close(result.notes["minimal_linf"], logits.amax((1, 2)) / 7, rtol=0.005, atol=0)
    left = Linear()(result.images)[:, 0]
    assert (left[mask == 1] <= 0).all()


def test_what_cannot_be_reached_is_said() -> None:
    x, mask = torch.full((2, 1, 4, 4), 0.5), torch.ones(2, 4, 4, dtype=torch.int64)
    mask[1] = 255
    result = alma_prox(SURE, x, mask, steps=20)
    assert result.notes["found"].tolist() == [0, 0]
    assert result.notes["minimal_linf"].isnan().all()
    assert result.notes["wrong"].tolist() == [0, 0]


class Sure(torch.nn.Module):
    """Foreground everywhere."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 1


SURE = Sure()


def test_a_trained_network_is_fooled_at_a_small_norm() -> None:
    x, mask = discs(4, 5)
    result = alma_prox(trained(), x, mask, pixels="foreground", steps=60, step_size=0.004)
    assert result.notes["found"].all()
    assert_close(wrong_share(trained()(result.images), mask, mask == 1), result.notes["wrong"])
    assert (result.notes["minimal_linf"] < 0.2).all()


def test_the_proximal_point_is_the_best_of_many() -> None:
    draw = torch.Generator().manual_seed(0)
    change, metric = (torch.randn(2, 1, 2, 3, generator=draw).double() for _ in range(2))
    change, metric, x = 0.3 * change, metric.abs() + 0.1, torch.full((2, 1, 2, 3), 0.4).double()
    weight = torch.tensor([0.2, 0.05]).double()

    def cost(d: torch.Tensor) -> torch.Tensor:
        far = d.flatten(1).abs().amax(1)
        return weight * far + (metric * (d - change).square()).flatten(1).sum(1)

    best = smaller(change, x, metric, weight)
    assert ((x + best) >= 0).all()
    assert ((x + best) <= 1).all()
    for bound in torch.linspace(0, 1, 2001).tolist():
        other = change.clamp(-bound, bound).clamp(-0.4, 0.6)
        assert (cost(best) <= cost(other) + 1e-6).all()


def test_the_slope_is_the_derivative_of_the_penalty() -> None:
    y = torch.tensor([-2.0, -0.3, 0.4, 3.0], dtype=torch.float64, requires_grad=True)
    factor, multiplier = torch.full_like(y, 1.7), torch.full_like(y, 0.6)
    above = multiplier * (y + factor * y**2) + factor**2 * y**3 / 6
    penalty = torch.where(y >= 0, above, multiplier * y / (1 - factor * y))
    (expected,) = torch.autograd.grad(penalty.sum(), y)
    assert_close(slope_of_penalty(y.detach(), factor, multiplier), expected)


def test_knobs_outside_their_range_are_refused() -> None:
    for knobs in ({"share": 0.0}, {"steps": 1}, {"decay": 2.0}, {"step_size": 0.0}):
        with pytest.raises(InputError, match=r"must lie in \(0, 1\]"):
            AlmaProx(**knobs)
