import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binom, binomtest

from seg_mia.errors import InputError
from seg_mia.membership import certify
from seg_mia.membership.certify import (
    Certified,
    attainable_epsilon,
    clopper_pearson,
    epsilon_lower_bound,
    one_run_lower_bound,
    one_run_p_value,
)

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Bound = Callable[..., Certified]

HALF = np.arange(400) < 200

both_bounds = pytest.mark.parametrize("bound", [epsilon_lower_bound, one_run_lower_bound])


def responses(members: Bools, epsilon: float, rng: np.random.Generator) -> Floats:
    """Randomised response (Warner 1965): a flag is told rightly with chance e^epsilon / (1 + e^epsilon)."""
    lied = rng.random(len(members)) >= 1 / (1 + math.exp(-epsilon))
    return (members ^ lied).astype(float)


def noisy(members: Bools, epsilon: float, rng: np.random.Generator) -> Floats:
    """The Laplace mechanism: flags with noise of scale 1 / epsilon, the likelihoods' ratio is e^epsilon."""
    return members + rng.laplace(0, 1 / epsilon, len(members))


def rarely(times: int, repetitions: int, chance: float = 0.05) -> bool:
    """Whether so many times are not surprising, one in a thousand, of what has that chance at most."""
    return bool(times <= binom.ppf(0.999, repetitions, chance))


@pytest.mark.parametrize("trials", [1, 5, 40])
def test_bounds_of_what_never_or_always_occurred_by_hand(trials: int) -> None:
    # The highest chance with which none of n occurs at least that often: (1 - chance) ** n == level.
    rate = 0.05 ** (1 / trials)
    assert clopper_pearson(0, trials, level=0.05) == pytest.approx((0, 1 - rate))
    assert clopper_pearson(trials, trials, level=0.05) == pytest.approx((rate, 1))


@given(trials=st.integers(1, 60), share=st.floats(0, 1), level=st.sampled_from([0.01, 0.05, 0.2]))
@settings(deadline=None, max_examples=30)
def test_bounds_are_those_of_scipys_exact_test(trials: int, share: float, level: float) -> None:
    successes = round(share * trials)
    exact = binomtest(successes, trials).proportion_ci(1 - 2 * level, method="exact")
    assert clopper_pearson(successes, trials, level=level) == pytest.approx((exact.low, exact.high), abs=1e-9)


def test_each_bound_is_where_what_was_seen_becomes_as_rare_as_the_level() -> None:
    low, high = clopper_pearson(7, 20, level=0.03)
    assert binom.sf(6, 20, low) == pytest.approx(0.03)
    assert binom.cdf(7, 20, high) == pytest.approx(0.03)


@pytest.mark.parametrize(("samples", "most"), [(67, 2.7), (100, 3.1), (200, 3.8), (1000, 5.4)])
def test_what_a_perfect_attack_certifies_is_known(samples: int, most: float) -> None:
    assert attainable_epsilon(samples, samples, delta=0) == pytest.approx(most, abs=0.05)


def test_a_perfect_attack_on_four_and_four_by_hand() -> None:
    # Each bound at level 1/8: all of four at least 8 ** (-1/4), none of four at most one less that.
    rate = 8 ** (-1 / 4)
    assert attainable_epsilon(4, 4, delta=0, confidence=0.5) == pytest.approx(math.log(rate / (1 - rate)))
    certified = epsilon_lower_bound(HALF[194:206] * 1.0, HALF[194:206], delta=0.1, confidence=0.5)
    assert certified.epsilon == pytest.approx(math.log((rate - 0.1) / (1 - rate)))
    assert attainable_epsilon(4, 4, delta=0.8, confidence=0.5) == 0


def test_many_non_members_bound_the_rate_that_divides() -> None:
    many, few = 0.0125 ** (1 / 1000), 0.0125 ** (1 / 10)
    expected = math.log(few / (1 - many))
    assert attainable_epsilon(10, 1000, delta=0) == pytest.approx(expected)
    assert attainable_epsilon(1000, 10, delta=0) == pytest.approx(expected)


@pytest.mark.parametrize(("bound", "certifying"), [(epsilon_lower_bound, 134), (one_run_lower_bound, 100)])
@pytest.mark.parametrize("delta", [0, 1e-5])
def test_perfect_scores_reach_the_most(bound: Bound, certifying: int, delta: float) -> None:
    certified = bound(HALF.astype(float), HALF, delta=delta)
    assert certified.epsilon == certified.attainable > 3.2
    assert (certified.members, certified.nonmembers, certified.threshold) == (certifying, certifying, 1)
    assert certified.confidence == 0.95


@pytest.mark.parametrize("seed", range(3))
def test_perfect_scores_certify_by_hand_however_they_are_divided(seed: int) -> None:
    # Of 10 members 7 certify, of 20 others 14. The 3 and 6 that choose prefer to be sure of the many.
    members = np.arange(30) < 10
    certified = epsilon_lower_bound(members * 1.0, members, delta=0.01, seed=seed)
    found, called = 0.0125 ** (1 / 14), 1 - 0.0125 ** (1 / 7)
    assert certified.epsilon == pytest.approx(math.log((found - 0.01) / called))
    assert (certified.rule, certified.threshold) == ("nonmembers_below", 0)
    assert certified.attainable == pytest.approx(math.log((1 - called - 0.01) / (1 - found)))


def test_the_most_is_that_of_the_samples_that_certify() -> None:
    members = np.arange(31) < 11
    certified = epsilon_lower_bound(members * 1.0, members, delta=0)
    # A third chooses, rounded down.
    assert (certified.members, certified.nonmembers) == (8, 14)
    assert certified.attainable == attainable_epsilon(8, 14, delta=0)


@pytest.mark.parametrize("seed", range(5))
def test_scores_far_apart_come_near_to_the_most(seed: int) -> None:
    scores = np.random.default_rng(seed).normal(size=400) + 20 * HALF
    certified = epsilon_lower_bound(scores, HALF, delta=0, seed=seed)
    assert certified.attainable - 0.1 < certified.epsilon <= certified.attainable


@pytest.mark.parametrize("seed", range(5))
def test_the_bound_is_that_of_the_median_division_by_the_rule_that_is_never_wrong(seed: int) -> None:
    # Half of the members stand out. What lies between them and the choosing others is no threshold.
    mixed = np.where(HALF, 1.0 - 3 * (np.arange(400) % 2), -np.random.default_rng(seed).random(400))
    above = epsilon_lower_bound(mixed, HALF, delta=0, seed=seed)
    below = epsilon_lower_bound(-mixed, ~HALF, delta=0, seed=seed)
    assert (above.rule, above.threshold) == ("members_above", 1)
    assert (below.rule, below.threshold) == ("nonmembers_below", -1)
    # Of the 134 that certify 67 +- 3.3 are found, hypergeometric; the median over 101 lies within +- 0.4.
    ceiling = clopper_pearson(0, 134, level=0.0125)[1]
    possible = [math.log(clopper_pearson(found, 134, level=0.0125)[0] / ceiling) for found in range(65, 70)]
    for certified in (above, below):
        assert np.isclose(possible, certified.epsilon).sum() == 1


def test_the_seed_matters_far_less_than_for_one_division(monkeypatch: pytest.MonkeyPatch) -> None:
    members = np.arange(200) < 80
    scores = np.random.default_rng(6).normal(size=200) + 1.8 * members
    spreads, middles = [], []
    for divisions in (101, 1):
        monkeypatch.setattr(certify, "DIVISIONS", divisions)
        bounds = [epsilon_lower_bound(scores, members, delta=0.007, seed=seed).epsilon for seed in range(40)]
        spreads.append(float(np.std(bounds)))
        middles.append(float(np.median(bounds)))
    assert spreads[0] < spreads[1] / 5
    assert middles[0] == pytest.approx(middles[1], abs=2 * 1.25 * spreads[1] / math.sqrt(40))


@both_bounds
@pytest.mark.parametrize(
    "scores",
    [
        pytest.param(np.zeros(400), id="equal"),
        pytest.param(np.random.default_rng(0).normal(size=400), id="random"),
        pytest.param(1.0 - HALF, id="inverted"),
    ],
)
def test_what_tells_nothing_certifies_nothing(bound: Bound, scores: Floats) -> None:
    certified = bound(scores, HALF, delta=0)
    assert certified.epsilon == 0
    assert certified.attainable > 3
    assert math.isfinite(certified.threshold)


@pytest.mark.parametrize(("divisions", "repetitions"), [(1, 600), (101, 150)])
@pytest.mark.parametrize("mechanism", [responses, noisy])
@pytest.mark.parametrize("epsilon", [0.5, 1.0, 2.0])
def test_the_bound_exceeds_the_truth_no_more_often_than_promised(
    mechanism: Callable[[Bools, float, np.random.Generator], Floats],
    epsilon: float,
    divisions: int,
    repetitions: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of one division in half as many cases, which Markov's inequality needs for the median."""
    monkeypatch.setattr(certify, "DIVISIONS", divisions)
    rng, members = np.random.default_rng(1), HALF[100:300]
    bounds = [
        epsilon_lower_bound(mechanism(members, epsilon, rng), members, delta=0, confidence=0.8, seed=seed)
        for seed in range(repetitions)
    ]
    chance = 0.1 if divisions == 1 else 0.2
    assert rarely(sum(bound.epsilon > epsilon for bound in bounds), repetitions, chance)


def test_a_threshold_proves_nothing_by_the_samples_that_chose_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """On noise the best of 4000 thresholds exceeds 0 nearly every other time where it was chosen."""
    monkeypatch.setattr(certify, "DIVISIONS", 1)
    rng, members = np.random.default_rng(7), np.arange(4000) < 2000
    bounds = [
        epsilon_lower_bound(rng.normal(size=4000), members, delta=0, confidence=0.6, seed=seed)
        for seed in range(60)
    ]
    assert rarely(sum(bound.epsilon > 0 for bound in bounds), 60, 0.2)


@both_bounds
@pytest.mark.parametrize("epsilon", [0.5, 1.0])
def test_many_samples_of_randomised_response_certify_nearly_its_epsilon(bound: Bound, epsilon: float) -> None:
    rng = np.random.default_rng(4)
    members = rng.random(40_000) < 0.5
    certified = bound(responses(members, epsilon, rng), members, delta=0)
    assert 0.85 * epsilon < certified.epsilon <= epsilon


def test_what_delta_allows_is_not_held_against_epsilon() -> None:
    rng, delta = np.random.default_rng(2), 0.2
    members = np.arange(20_000) < 10_000
    told = rng.random(len(members)) < delta
    scores = np.where(told, np.where(members, 2.0, -1.0), responses(members, 1.0, rng))
    assert epsilon_lower_bound(scores, members, delta=0).epsilon > 4
    assert epsilon_lower_bound(scores, members, delta=delta).epsilon <= 1
    assert one_run_lower_bound(scores, members, delta=delta).epsilon <= 1


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**31), decimals=st.sampled_from([0, 1, 4]))
def test_only_the_order_of_scores_matters(seed: int, decimals: int) -> None:
    scores = (np.random.default_rng(seed).normal(size=400) + 2 * HALF).round(decimals)
    for bound in (epsilon_lower_bound, one_run_lower_bound):
        certified = bound(scores, HALF, delta=1e-5)
        for change in (np.exp, lambda score: 3 * score**3 + score - 7):
            changed = bound(change(scores), HALF, delta=1e-5)
            assert (changed.epsilon, changed.rule) == (certified.epsilon, certified.rule)
            assert changed.threshold == pytest.approx(change(certified.threshold))


@both_bounds
def test_a_seed_fixes_the_result_and_more_confidence_certifies_less(bound: Bound) -> None:
    scores = responses(HALF, 2.0, np.random.default_rng(3))
    first = bound(scores, HALF, delta=0, seed=7)
    assert (
        first
        == bound(scores, HALF, delta=0, seed=7)
        == bound(scores.astype(np.float32), HALF, delta=0, seed=7)
    )
    assert 0 < bound(scores, HALF, delta=0, confidence=0.99, seed=7).epsilon < first.epsilon
    assert bound(scores, HALF, delta=0.2, seed=7).epsilon < first.epsilon


def test_guesses_of_one_run_by_hand() -> None:
    # Of three guesses two are "inserted", of 4 and 3, and one is not, of 1: the second is wrong.
    scores, inserted = np.array([4.0, 3.0, 2.0, 1.0]), np.array([True, False, True, False])
    certified = one_run_lower_bound(scores, inserted, delta=0, guesses=3, confidence=0.25)
    assert (certified.members, certified.nonmembers, certified.threshold) == (1, 2, 3)
    # Two of three or more are right with chance 3 q^2 - 2 q^3, and 0.75 is its value at q.
    chance = 1 / (1 + math.exp(-certified.epsilon))
    assert 3 * chance**2 - 2 * chance**3 == pytest.approx(0.75)
    assert certified.attainable == pytest.approx(math.log(0.75 ** (1 / 3) / (1 - 0.75 ** (1 / 3))))


def test_one_run_with_delta_by_hand() -> None:
    # With two guesses of four samples, both right, and W ~ Binomial(2, q): P[W >= 2] = q^2, P[W = 1] =
    # 2 q (1 - q), which exceeds P[W < 2] / 2 where q > 1/3; 0.75 = q^2 + 2 * 4 * 0.01 * 2 q (1 - q).
    chance = (-0.16 + math.sqrt(0.16**2 + 4 * 0.84 * 0.75)) / (2 * 0.84)
    scores, inserted = np.array([4.0, 3.0, 2.0, 1.0]), np.array([True, True, False, False])
    certified = one_run_lower_bound(scores, inserted, delta=0.01, confidence=0.25)
    assert certified.epsilon == certified.attainable == pytest.approx(math.log(chance / (1 - chance)))


@pytest.mark.parametrize("wrong", [0, 10, 40])
def test_one_run_without_delta_is_a_bound_on_the_chance_of_a_right_guess(wrong: int) -> None:
    inserted = HALF.copy()
    inserted[:wrong] = False
    certified = one_run_lower_bound(-np.arange(400.0), inserted, delta=0)
    assert (certified.members, certified.nonmembers) == (100 - wrong, 100 + wrong)
    low, _ = clopper_pearson(200 - wrong, 200, level=0.05)
    assert certified.epsilon == pytest.approx(math.log(low / (1 - low)))


@pytest.mark.parametrize("leaked", [1, 6, 20])
@pytest.mark.parametrize("epsilon", [0.5, 2.0])
def test_the_p_value_covers_samples_that_leak_together(leaked: int, epsilon: float) -> None:
    # Randomised response that tells the truth of so many samples at once, as often as delta of each allows.
    samples, delta = 60, 1e-3
    often = delta * samples / leaked
    chance = 1 / (1 + math.exp(-epsilon))
    for right in range(samples + 1):
        usual, lucky = (binom.sf(right - 1 - k, samples - k, chance) for k in (0, leaked))
        p_value = one_run_p_value(samples, samples, right, epsilon=epsilon, delta=delta)
        assert (1 - often) * usual + often * lucky <= p_value + 1e-12
        assert one_run_p_value(samples, samples, right, epsilon=epsilon, delta=0) == pytest.approx(usual)


def test_the_p_value_is_one_for_no_right_guess_and_never_more() -> None:
    assert one_run_p_value(10, 5, 0, epsilon=1, delta=0) == 1
    assert one_run_p_value(10, 5, 3, epsilon=1, delta=0.9) == 1


@pytest.mark.parametrize("epsilon", [0.5, 1.0])
def test_one_run_exceeds_the_truth_no_more_often_than_promised(epsilon: float) -> None:
    rng, repetitions, confidence = np.random.default_rng(5), 150, 0.8
    exceeded = 0
    for seed in range(repetitions):
        inserted = rng.random(300) < 0.5
        scores = responses(inserted, epsilon, rng)
        bound = one_run_lower_bound(scores, inserted, delta=0, confidence=confidence, seed=seed)
        exceeded += bound.epsilon > epsilon
    assert rarely(exceeded, repetitions, 1 - confidence)


def test_the_order_of_equal_scores_in_the_array_tells_nothing() -> None:
    bounds = [one_run_lower_bound(np.zeros(400), HALF, delta=0, seed=seed).epsilon for seed in range(100)]
    assert rarely(sum(bound > 0 for bound in bounds), 100)


def test_what_no_fair_coin_decided_is_refused_as_one_run() -> None:
    members = np.arange(1000) < 900
    with pytest.raises(InputError, match=r"a fair coin, got 900 of 1000; use epsilon_lower_bound"):
        one_run_lower_bound(np.random.default_rng(0).normal(size=1000), members, delta=0)


@both_bounds
@pytest.mark.parametrize("delta", [-0.1, 1, math.nan])
def test_delta_out_of_range_is_refused(bound: Bound, delta: float) -> None:
    with pytest.raises(InputError, match=r"delta must lie in \[0, 1\), got"):
        bound(HALF * 1.0, HALF, delta=delta)
    with pytest.raises(InputError, match="delta must lie in"):
        attainable_epsilon(5, 5, delta=delta)


@both_bounds
@pytest.mark.parametrize("confidence", [0, 1, 95, math.nan])
def test_confidence_out_of_range_is_refused(bound: Bound, confidence: float) -> None:
    with pytest.raises(InputError, match="confidence must lie between 0 and 1, got"):
        bound(HALF * 1.0, HALF, delta=0, confidence=confidence)
    with pytest.raises(InputError, match="confidence must lie between"):
        attainable_epsilon(5, 5, delta=0, confidence=confidence)


@both_bounds
def test_scores_that_are_none_are_refused(bound: Bound) -> None:
    with pytest.raises(InputError, match="scores must be finite"):
        bound(np.where(HALF, math.nan, 0), HALF, delta=0)
    with pytest.raises(InputError, match="one shape"):
        bound(np.zeros(3), HALF, delta=0)
    with pytest.raises(InputError, match="at least 2 members"):
        bound(np.zeros(3), np.array([True, False, False]), delta=0)


@both_bounds
def test_two_of_each_are_enough_and_certify_nothing(bound: Bound) -> None:
    certified = bound(np.array([2.0, 2.0, 1.0, 1.0]), np.array([True, True, False, False]), delta=0)
    assert (certified.epsilon, certified.members, certified.nonmembers) == (0, 1, 1)


@pytest.mark.parametrize("guesses", [0, -2, 401])
def test_guesses_that_cannot_be_made_are_refused(guesses: int) -> None:
    with pytest.raises(InputError, match=rf"guesses must lie in \[1, 400\], got {guesses}; half"):
        one_run_lower_bound(HALF * 1.0, HALF, delta=0, guesses=guesses)


def test_counts_and_levels_that_cannot_be_are_refused() -> None:
    for successes, trials in ((0, 0), (-1, 5), (6, 5)):
        with pytest.raises(InputError, match="successes must lie between 0 and the number of trials"):
            clopper_pearson(successes, trials, level=0.05)
    for level in (0, 1, math.nan):
        with pytest.raises(InputError, match="level must lie between 0 and 1"):
            clopper_pearson(1, 5, level=level)
    with pytest.raises(InputError, match="at least 1 member and 1 non-member"):
        attainable_epsilon(0, 5, delta=0)
