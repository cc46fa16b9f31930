"""Bounds on epsilon that are compared with one promise hold together."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

from seg_mia.membership.certify import Certified, epsilon_lower_bound, one_run_lower_bound
from seg_mia.membership.f_dp_one_run import f_dp_one_run_bound
from seg_mia.membership.gaussian_one_run import gaussian_one_run_bound
from seg_mia.results.privacy import CONFIDENCE, STRICTER, EpsilonLowerBound

SCORES = np.linspace(-3, 3, 60)
MEMBERS = np.random.default_rng(0).random(60) < 1 / (1 + np.exp(-3 * SCORES))


@pytest.mark.parametrize(
    "rule", [epsilon_lower_bound, one_run_lower_bound, gaussian_one_run_bound, f_dp_one_run_bound]
)
def test_stricter_bounds_are_those_of_the_rule_at_their_confidence(rule: Callable[..., Certified]) -> None:
    bound = partial(rule, SCORES, MEMBERS, delta=1e-3)
    measured = EpsilonLowerBound.measured(lambda confidence: bound(confidence=confidence), delta=1e-3)
    assert [row.confidence for row in measured.stricter] == list(STRICTER)
    for row in measured.stricter:
        assert row.epsilon == bound(confidence=row.confidence).epsilon
        assert row.attainable == bound(confidence=row.confidence).attainable
    values = [measured.epsilon or 0.0, *(row.epsilon for row in measured.stricter)]
    assert values == sorted(values, reverse=True)
    assert values[0] > values[-1]


@pytest.mark.parametrize(
    ("count", "confidence"), [(1, 0.95), (2, 0.975), (3, 0.99), (5, 0.99), (6, 0.995), (500, 0.9999)]
)
def test_more_bounds_need_a_higher_confidence(count: int, confidence: float) -> None:
    measured = EpsilonLowerBound.measured(
        lambda level: one_run_lower_bound(SCORES, MEMBERS, delta=0.0, confidence=level), delta=0.0
    )
    joint = measured.jointly(count)
    assert joint is not None
    assert joint.confidence == confidence >= 1 - (1 - CONFIDENCE) / count


def test_nothing_is_claimed_where_no_recorded_confidence_suffices() -> None:
    assert EpsilonLowerBound(epsilon=9.0, attainable=10.0, confidence=0.95).jointly(2) is None
    assert EpsilonLowerBound(epsilon=9.0, attainable=10.0, confidence=None).jointly(1) is None
    strict = EpsilonLowerBound.measured(
        lambda level: one_run_lower_bound(SCORES, MEMBERS, delta=0.0, confidence=level), delta=0.0
    )
    assert strict.jointly(501) is None


def test_the_highest_of_many_bounds_exceeds_a_kept_promise_in_at_most_one_case_of_twenty() -> None:
    """Ten attackers of randomised response, whose guesses are right with the chance that epsilon permits."""
    generator, epsilon, attacks, worlds, canaries = np.random.default_rng(1), 1.0, 10, 400, 100
    chance = np.exp(epsilon) / (1 + np.exp(epsilon))
    known: dict[int, EpsilonLowerBound] = {}
    alone = together = 0
    for _ in range(worlds):
        bounds = []
        for right in generator.binomial(canaries, chance, size=attacks).tolist():
            if right not in known:
                known[right] = of_right_guesses(right, canaries)
            bounds.append(known[right])
        joint = [bound.jointly(attacks) for bound in bounds]
        alone += max(bound.epsilon or 0.0 for bound in bounds) > epsilon
        together += max(bound.epsilon or 0.0 for bound in joint if bound is not None) > epsilon
    assert alone > 0.15 * worlds
    assert 0 < together <= 0.05 * worlds


def of_right_guesses(right: int, canaries: int) -> EpsilonLowerBound:
    """Return the bound of canaries guessed one by one, of which as many were right."""
    guessed = np.arange(canaries) < canaries // 2
    wrong = (canaries - right) // 2
    inserted = guessed.copy()
    inserted[:wrong] = False
    inserted[canaries - (canaries - right - wrong) :] = True
    return EpsilonLowerBound.measured(
        lambda level: one_run_lower_bound(
            guessed.astype(np.float64), inserted, delta=0.0, guesses=canaries, confidence=level
        ),
        delta=0.0,
    )
