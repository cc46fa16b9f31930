"""Attacks by references as a config names them: what they score, and where they decide."""

from dataclasses import replace
from unittest.mock import patch

import numpy as np
import pytest
from numpy.typing import NDArray

from seg_mia.errors import InputError
from seg_mia.membership import auc
from seg_mia.membership.answers import Answers
from seg_mia.membership.fleet import (
    attacked,
    base,
    lira_offline,
    lira_online,
    lira_vector,
    pooled_auc,
    quantile_scores,
    rank_among_out,
    standardised,
)
from seg_mia.membership.fleet.joint import fitted_joint
from seg_mia.membership.fleet.ranks import Rank
from seg_mia.membership.fleet.ratios import Population, rmia, tuned_offline_a
from seg_mia.membership.fleet.scorers import Base, ByReferences, Calibrated, Lira, Quantile, Rmia
from seg_mia.membership.scorers import Threshold
from seg_mia.results.evaluation import membership_scores
from tests.membership.fleet.worlds import Values, members_of, signals_of

IDS = np.array([f"s{number:03}" for number in range(200)])


def fleet(
    networks: int, effect: float = 2.0, signals: int = 0
) -> tuple[Answers, list[Answers], NDArray[np.float64], NDArray[np.bool_]]:
    """Return a victim and its shadows, and all their signals and members, the victim first."""
    generator = np.random.default_rng(0)
    inside = np.concatenate([members_of(generator, 2, 200)[:1], members_of(generator, networks, 200)])
    values = [signals_of(generator, inside, effect=effect) for _ in range(max(1, signals))]
    numbers = np.stack(values, axis=2) if signals else values[0]
    answers = [
        Answers(IDS, IDS, members, np.ones(200, dtype=np.bool_), -row)
        for members, row in zip(inside, numbers, strict=True)
    ]
    return answers[0], answers[1:], numbers, inside


def test_likelihood_ratios_of_several_victims_are_comparable() -> None:
    # Networks that differ in level by more than membership changes the likelihood.
    generator = np.random.default_rng(5)
    inside = members_of(generator, 8, 400)
    signals = signals_of(generator, inside, effect=0.4, difficulty=1.0, noise=0.3, level=2) - 30
    scores = attacked(signals, inside, Base().pooled)
    single = np.mean([auc(row, members) for row, members in zip(scores, inside, strict=True)])
    assert pooled_auc(scores, inside).value == pytest.approx(single, abs=0.02)
    levelled = attacked(signals, inside, base)
    assert pooled_auc(levelled, inside).value < single - 0.15


def test_scores_are_the_functions_on_negative_numbers() -> None:
    victim, shadows, numbers, inside = fleet(6)
    levels = standardised(numbers)
    for scorer, expected in (
        (Lira(), lira_online(levels[0], levels[1:], inside[1:])),
        (Lira(variance="fixed"), lira_online(levels[0], levels[1:], inside[1:], variance="fixed")),
        (Lira(mode="offline"), lira_offline(levels[0], levels[1:], inside[1:])),
        (
            Lira(mode="offline", guess=True),
            lira_offline(
                levels[0], levels[1:], inside[1:], effect=fitted_joint(standardised(numbers[1:]), inside[1:])
            ),
        ),
        (Base(), base(numbers[0], numbers[1:], inside[1:])),
        (Base(online=False), base(numbers[0], numbers[1:], inside[1:], online=False)),
    ):
        scorer.fit(shadows)
        np.testing.assert_allclose(scorer.score(victim, shadows).scores, expected)


def test_the_audit_of_a_recipe_takes_out_the_mean_over_the_pool() -> None:
    _, _, numbers, inside = fleet(6)
    ratios = base(numbers[0], numbers[1:], inside[1:])
    expected: Values = ratios - ratios.mean()
    np.testing.assert_allclose(Base().pooled(numbers[0], numbers[1:], inside[1:]), expected)
    rest = numbers[0], numbers[1:], inside[1:]
    for scorer in (Lira(), Calibrated(), Threshold()):
        np.testing.assert_array_equal(scorer.pooled(*rest), scorer.compare(*rest))


@pytest.mark.parametrize("online", [True, False])
def test_a_decision_does_not_depend_on_the_number_of_nonmembers_beside_it(online: bool) -> None:
    victim, shadows, _, inside = fleet(8)
    scorer = Base(online=online)
    scorer.fit(shadows)
    of_all = scorer.score(victim, shadows)
    kept = inside[0].copy()
    kept[np.flatnonzero(~inside[0])[:5]] = True
    limited = Answers(IDS[kept], IDS[kept], inside[0, kept], victim.judged[kept], victim.numbers[kept])
    of_some = scorer.score(limited, shadows)
    np.testing.assert_allclose(of_some.scores, of_all.scores[kept])
    called = of_all.scores >= of_all.threshold
    assert np.array_equal(of_some.scores >= of_some.threshold, called[kept])


def test_ranks_have_steps_and_a_resolution() -> None:
    victim, shadows, numbers, inside = fleet(6)
    levels = standardised(numbers)
    scorer = Rank()
    scorer.fit(shadows)
    guesses = scorer.score(victim, shadows)
    np.testing.assert_allclose(guesses.scores, rank_among_out(levels[0], levels[1:], inside[1:]))
    assert guesses.resolution == 1 / 4  # three of six without each sample
    assert set(np.unique(guesses.scores)) == {0, 1 / 3, 2 / 3, 1}
    assert auc(guesses.scores, inside[0]) > 0.7
    scorer.pooled(levels[0], levels[3:], inside[3:])
    assert scorer.resolution(200) == 1 / 3


def test_several_signals_are_scored_together() -> None:
    victim, shadows, numbers, inside = fleet(6, signals=3)
    levels = standardised(numbers)
    scorer = Lira()
    scorer.fit(shadows)
    guesses = scorer.score(victim, shadows)
    np.testing.assert_allclose(guesses.scores, lira_vector(levels[0], levels[1:], inside[1:]))


def test_offline_several_signals_are_added_and_shadows_with_a_sample_not_needed() -> None:
    victim, shadows, numbers, inside = fleet(6, signals=3)
    levels = standardised(numbers)
    scorer = Lira(mode="offline")
    assert (scorer.needs.sampling, scorer.attacker, scorer.least_inside) == ("offline", "offline", 0)
    assert Lira().needs.sampling == Lira.needs.sampling == "online"
    scorer.fit(shadows)
    expected = sum(lira_offline(levels[0, :, k], levels[1:, :, k], inside[1:]) for k in range(3))
    np.testing.assert_allclose(scorer.score(victim, shadows).scores, expected)
    without = [replace(shadow, members=np.zeros(200, dtype=np.bool_)) for shadow in shadows]
    assert auc(scorer.score(victim, without).scores, inside[0]) > 0.5
    with pytest.raises(InputError, match="density=joint has no effect with mode offline"):
        Lira(mode="offline", density="joint")


def test_the_effect_is_guessed_for_each_signal_from_the_networks_compared() -> None:
    victim, shadows, numbers, inside = fleet(6, signals=2)
    levels = standardised(numbers)
    expected = sum(
        lira_offline(
            levels[0, :, k], levels[1:, :, k], inside[1:], effect=fitted_joint(levels[1:, :, k], inside[1:])
        )
        for k in range(2)
    )
    scorer = Lira(mode="offline", guess=True)
    scorer.fit(shadows)
    np.testing.assert_allclose(scorer.score(victim, shadows).scores, expected)
    fresh = Lira(mode="offline", guess=True)  # as in the audit of a recipe, which fits nothing
    np.testing.assert_allclose(fresh.pooled(levels[0], levels[1:], inside[1:]), expected)
    plain = Lira(mode="offline").pooled(levels[0], levels[1:], inside[1:])
    assert not np.allclose(plain, expected)


@pytest.mark.parametrize("scorer", [Lira(), Lira(mode="offline"), Base(), Base(online=False)])
def test_shadows_that_take_turns_teach_a_threshold(scorer: ByReferences) -> None:
    victim, shadows, _, inside = fleet(8)
    scorer.fit(shadows)
    guesses = scorer.score(victim, shadows)
    assert auc(guesses.scores, inside[0]) > 0.85
    assert ((guesses.scores >= guesses.threshold) == inside[0]).mean() > 0.77


@pytest.mark.parametrize("a", [None, 0.3, 1.0])
def test_rmia_orders_as_base_up_to_its_steps(a: float | None) -> None:
    victim, shadows, numbers, inside = fleet(6)
    below = numbers.max() + 1  # log probabilities
    lowered = [Answers(IDS, IDS, s.members, s.judged, s.numbers + below) for s in (victim, *shadows)]
    scorer = Rmia(offline_a=a)
    scorer.fit(lowered[1:])
    guesses = scorer.score(lowered[0], lowered[1:])
    assert 0 <= guesses.scores.min() <= guesses.scores.max() <= 1
    assert np.allclose(guesses.scores * 200, np.round(guesses.scores * 200))
    if a != 0.3:
        expected = base(numbers[0], numbers[1:], inside[1:], online=a is None)
        assert np.corrcoef(guesses.scores.argsort().argsort(), expected.argsort().argsort())[0, 1] > 0.99


def below_nought(networks: int) -> tuple[Answers, list[Answers], Values, NDArray[np.bool_]]:
    """Return a fleet whose signals are log probabilities, at most -1."""
    victim, shadows, numbers, inside = fleet(networks)
    signals = numbers - numbers.max() - 1
    lowered = [
        replace(answers, signal=-row) for answers, row in zip((victim, *shadows), signals, strict=True)
    ]
    return lowered[0], lowered[1:], signals, inside


def test_rmia_compares_with_samples_outside_all_trainings() -> None:
    victim, shadows, signals, inside = below_nought(6)
    generator = np.random.default_rng(1)
    outside = -1 - generator.exponential(size=(7, 50))
    names, nobody = np.array([f"z{number}" for number in range(50)]), np.zeros(50, dtype=np.bool_)
    known = [Answers(names, names, nobody, ~nobody, -row) for row in outside]
    scorer = Rmia(offline_a=0.3)
    scorer.know(known[0], known[1:])
    scorer.fit(shadows)
    guesses = scorer.score(victim, shadows)
    never = np.zeros((6, 50), dtype=np.bool_)
    population = Population(outside[0], outside[1:], never)
    expected = rmia(signals[0], signals[1:], inside[1:], population, offline_a=0.3)
    np.testing.assert_allclose(guesses.scores, expected)
    assert guesses.resolution == pytest.approx(10 / 50)
    # Each shadow in turn is compared with its own answers on the population.
    others = [1, 2, 5, 6]
    rest = signals[3], signals[others], inside[others]
    third = scorer.numbered(np.array([2, 0, 1, 4, 5]), *rest)
    of_third = Population(outside[3], outside[others], never[:4])
    np.testing.assert_allclose(third, rmia(*rest, of_third, offline_a=0.3))
    measured = membership_scores(guesses, inside[0], IDS).results
    assert [rate.resolvable for rate in measured.rates.values()] == [False, False, False]
    scorer.know(None, [])
    assert scorer.score(victim, shadows).resolution == pytest.approx(10 / 200)
    assert not Rmia(offline_a=None).by_population
    with pytest.raises(TypeError, match="compares with no population"):
        Quantile().know(None, [])


def test_rmia_tunes_its_estimate_on_shadows_alone() -> None:
    victim, shadows, signals, inside = below_nought(6)
    chosen = tuned_offline_a(signals[1:], inside[1:])
    assert chosen != 0.3
    tuned, fixed = Rmia(offline_a="tuned"), Rmia(offline_a=chosen)
    for scorer in (tuned, fixed):
        scorer.fit(shadows)
    np.testing.assert_array_equal(tuned.score(victim, shadows).scores, fixed.score(victim, shadows).scores)
    pool = signals[0], signals[1:], inside[1:]
    np.testing.assert_array_equal(Rmia(offline_a="tuned").pooled(*pool), fixed.pooled(*pool))
    # Both targets of a fold have the same references, on which the estimate is chosen once.
    with patch("seg_mia.membership.fleet.scorers.tuned_offline_a", wraps=tuned_offline_a) as tune:
        attacked(signals, inside, Rmia(offline_a="tuned").pooled, folds=np.arange(7) // 2)
    assert tune.call_count == 4
    with pytest.raises(InputError, match="which 1 references do not allow"):
        Rmia(offline_a="tuned").fit(shadows[:1])


def test_too_few_shadows_are_one_line() -> None:
    victim, shadows, _, _ = fleet(4)
    with pytest.raises(InputError, match="needs at least 2 shadows, got 1"):
        Lira().fit(shadows[:1])
    scorer = Lira()
    scorer.fit(shadows[:2])
    with pytest.raises(InputError, match="each target sample needs at least 2 shadows"):
        scorer.score(victim, shadows[:2])


def test_shadows_too_few_to_take_turns_decide_at_nought() -> None:
    victim, shadows, _, _ = fleet(4)
    never = [replace(shadow, members=np.zeros(200, dtype=np.bool_)) for shadow in shadows[:2]]
    scorer = Lira(mode="offline")
    scorer.fit(never)
    assert scorer.score(victim, never).threshold == 0
    with pytest.raises(InputError, match="must be those of the fit, 2, got 4"):
        scorer.score(victim, shadows)


class Recorded(Lira):
    """Keep how many references hold each sample."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.counts = list[NDArray[np.int64]]()

    def compare(
        self, target: NDArray[np.float64], references: NDArray[np.float64], inside: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        self.counts.append(inside.sum(axis=0))
        return super().compare(target, references, inside)


def test_the_number_of_references_does_not_tell_a_shadows_members() -> None:
    # With a shadow's complement among its references, 4 of 7 would hold what it does not, 3 what it does.
    _, shadows, _, _ = fleet(8)
    scorer = Recorded()
    scorer.fit(shadows)
    assert [counts.tolist() for counts in scorer.counts] == [[3] * 200] * 8


def regression(skewed: bool) -> tuple[Answers, Answers, NDArray[np.bool_]]:
    """Return a victim's answers on 200 samples and on 500 non-members, and its members."""
    generator = np.random.default_rng(0)
    features = generator.normal(size=(700, 3))
    noise = generator.exponential(size=700) ** 3 if skewed else generator.normal(size=700)
    members = np.arange(700) < 100
    numbers = features[:, 0] - (features[:, 1] + noise + 2 * members)
    names = np.array([f"s{number:03}" for number in range(700)])
    known = np.zeros(500, dtype=np.bool_)
    return (
        Answers(names[:200], names[:200], members[:200], ~known[:200], numbers[:200], features[:200]),
        Answers(names[200:], names[200:], known, ~known, numbers[200:], features[200:]),
        members[:200],
    )


def test_quantile_regression_is_the_function_and_decides_at_the_nominal_rate() -> None:
    victim, known, members = regression(skewed=False)
    scorer = Quantile(fpr=0.05)
    scorer.fit([known])
    guesses = scorer.score(victim, [known])
    assert victim.features is not None
    assert known.features is not None
    expected = quantile_scores(-victim.numbers, victim.features, -known.numbers, known.features)
    np.testing.assert_allclose(guesses.scores, expected.scores)
    assert guesses.threshold == pytest.approx(1.6449, abs=1e-4)
    assert ((guesses.scores >= guesses.threshold)[~members]).mean() < 0.15
    assert auc(guesses.scores, members) > 0.85


@pytest.mark.parametrize("skewed", [True, False])
def test_the_result_states_whether_a_quantile_holds(skewed: bool) -> None:
    victim, known, _ = regression(skewed)
    fit = Quantile(fpr=0.3).score(victim, [known]).regression
    assert fit is not None
    assert (fit.coverage[0].nonmembers, fit.coverage[0].nominal) == (500, 0.3)
    assert fit.coverage[0].covers != skewed


def test_quantile_regression_refuses() -> None:
    with pytest.raises(InputError, match="fpr must be above 0"):
        Quantile(fpr=0.6)
    victim, known, _ = regression(skewed=False)
    with pytest.raises(TypeError, match="needs features"):
        Quantile().score(replace(victim, features=None), [known])
