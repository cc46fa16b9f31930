"""Coins of canaries estimated from noisy sums: formulas by hand, bounds on trainings of known epsilon."""

import math
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from seg_mia.defences.dp.accounting import Mechanism
from seg_mia.defences.dp.coin_estimates import SampledUnits, begun, log_ratios, restored
from seg_mia.membership.certify import one_run_lower_bound
from seg_mia.membership.roc import auc
from tests.membership.test_f_dp_one_run import coins

COUNT, STEPS, RATE, DELTA = 100, 16, 0.25, 1e-3


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_one_canary_has_the_ratio_of_the_subsampled_gaussian_mechanism() -> None:
    """Normal(1, 0.36) with probability 0.2 and Normal(0, 0.36) otherwise, at 0.7, over Normal(0, 0.36)."""
    with_it, without = (math.exp(-((0.7 - mean) ** 2) / 0.72) for mean in (1, 0))
    expected = math.log((0.8 * without + 0.2 * with_it) / without)
    one = torch.ones(1, 1, dtype=torch.float64)
    assert log_ratios(one, 0.7 * one[0], 0.36, 0.2).item() == pytest.approx(expected)


def test_orthogonal_canaries_do_not_disturb_each_other() -> None:
    norms, projections = torch.tensor([1.0, 0.25, 4.0]).double(), drawn(3)
    together = log_ratios(torch.diag(norms), projections, 0.5, 0.3)
    for i in range(3):
        alone = log_ratios(norms[i].reshape(1, 1), projections[i : i + 1], 0.5, 0.3)
        assert_close(together[i : i + 1], alone)


def test_others_count_as_gaussian_noise() -> None:
    gradients, total, q, variance = drawn(4, 6), drawn(6, seed=1), 0.4, 0.7
    found = log_ratios(gradients @ gradients.T, gradients @ total, variance, q)
    for i, g in enumerate(gradients):
        others = torch.cat([gradients[:i], gradients[i + 1 :]])
        inverse = torch.linalg.inv(variance * torch.eye(6) + 0.2 * 0.8 * others.T @ others)
        c, a = g @ inverse @ (total - 0.2 * others.sum(0)), g @ inverse @ g
        assert found[i].item() == pytest.approx(math.log(0.6 + 0.4 * math.exp(float(c - a / 2))))


def test_all_units_have_the_best_linear_estimate() -> None:
    estimate, normal, right = begun(3, 1.0), 4 * torch.eye(3, dtype=torch.float64), torch.zeros(3).double()
    for seed in (1, 2):
        gradients, total = drawn(3, 5, seed=seed), drawn(5, seed=seed + 10)
        estimate.add(gradients @ gradients.T, gradients @ total, 0.25)
        normal += gradients @ gradients.T / 0.25
        right += gradients @ (total - gradients.sum(0) / 2) / 0.25
    assert_close(torch.from_numpy(estimate.scores()), torch.linalg.solve(normal, right))


@pytest.mark.parametrize("rate", [1.0, 0.3])
def test_a_checkpoint_holds_all_of_an_estimate(rate: float) -> None:
    whole, first = begun(3, rate), begun(3, rate)
    for seed in (1, 2):
        gradients = drawn(3, 5, seed=seed)
        step = gradients @ gradients.T, gradients @ drawn(5, seed=9), 0.5
        whole.add(*step)
        if seed == 1:
            first.add(*step)
            first = restored(first.state())
        else:
            first.add(*step)
    assert np.array_equal(first.scores(), whole.scores())


def trained(noise: float, seed: int, *, weights: int = 120) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Train a linear model of `weights` weights by DP-SGD on sampled batches of 50 members and canaries.

    Labels are noise: one canary's clipped gradient is its input, up to sign, which changes with the weights.

    Returns:
        scores, inserted, and the plain sums of products of each canary's gradient with the noisy sums.
    """
    generator = np.random.default_rng(seed)
    inserted = generator.random(COUNT) < 0.5
    x = generator.normal(size=(50 + COUNT, weights)) + 1.0  # a common direction: gradients are not orthogonal
    y = generator.normal(size=50 + COUNT)
    present = np.concatenate([np.ones(50, dtype=bool), inserted])
    w, estimate, plain = np.zeros(weights), SampledUnits(COUNT, RATE), np.zeros(COUNT)
    for _ in range(STEPS):
        gradients = (x @ w - y)[:, None] * x
        gradients /= np.maximum(np.linalg.norm(gradients, axis=1, keepdims=True), 1)
        in_batch = present & (generator.random(len(x)) < RATE)
        noisy = gradients[in_batch].sum(0) + noise * generator.normal(size=weights)
        known, own = gradients[:50][in_batch[:50]].sum(0), torch.from_numpy(gradients[50:])
        projections = own @ torch.from_numpy(noisy - known)
        estimate.add(own @ own.T, projections, max(noise**2, 1e-6))
        plain += projections.numpy()
        w = w - 0.02 * noisy
    return estimate.scores(), inserted, plain


@cache
def proved(right: int) -> float:
    """Return the bound of so many right guesses of half of the canaries."""
    return one_run_lower_bound(*coins(COUNT, COUNT // 2, right), delta=DELTA).epsilon


def bound(scores: np.ndarray, inserted: np.ndarray) -> float:
    """Return the bound by the number of right guesses, from a table of them."""
    ordered = inserted[np.argsort(-scores)]
    quarter = COUNT // 4
    return proved(int(ordered[:quarter].sum() + (~ordered[-quarter:]).sum()))


def test_the_table_has_the_bound() -> None:
    scores, inserted, _ = trained(1.0, 5)
    assert bound(scores, inserted) == one_run_lower_bound(scores, inserted, delta=DELTA).epsilon


@pytest.mark.parametrize("noise", [2.5, 5.0])
def test_at_most_a_twentieth_of_bounds_exceed_the_epsilon_of_sampled_training(noise: float) -> None:
    epsilon = Mechanism(noise, RATE, DELTA, "prv").spent(STEPS)
    assert epsilon < 0.8 * proved(COUNT // 2)  # so that a bound can exceed it
    bounds = [bound(*trained(noise, seed)[:2]) for seed in range(40)]
    assert sum(value > epsilon for value in bounds) <= 2


def test_less_noise_than_promised_is_refuted() -> None:
    promised = Mechanism(2.5, RATE, DELTA, "prv").spent(STEPS)
    bounds = [bound(*trained(0.15, seed)[:2]) for seed in range(10)]
    assert min(bounds) > promised


def test_without_noise_sampled_canaries_are_told_apart() -> None:
    values = [auc(*trained(0.0, seed)[:2]) for seed in range(5)]
    assert min(values) > 0.98  # a canary is never drawn in 16 steps with a chance of 1 %


def test_ratios_find_more_than_plain_sums_of_products() -> None:
    runs = [trained(0.7, seed) for seed in range(10)]
    ratios, plain = (np.mean([auc(run[k], run[1]) for run in runs]) for k in (0, 2))
    assert ratios > plain + 0.1
