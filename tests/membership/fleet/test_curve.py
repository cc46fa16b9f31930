"""The curve over the number of references, in worlds where each point is known."""

import math
from functools import partial

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from seg_mia.errors import InputError
from seg_mia.membership.fleet import (
    attacked,
    base,
    by_patient,
    difficulty_calibrated,
    lira_online,
    network_curve,
    pooled_auc,
    pooled_rates,
)
from tests.membership.fleet.worlds import members_of, signals_of


def test_each_point_is_the_closed_form() -> None:
    generator = np.random.default_rng(0)
    inside = members_of(generator, 18, 800)
    signals = signals_of(generator, inside, effect=1.5)
    names = np.arange(800).astype(str)
    points = network_curve(
        signals, inside, names, difficulty_calibrated, draws=3, standardise=False, resamples=20
    )
    assert [point.references for point in points] == [1, 2, 4, 8, 16]
    assert [point.draws for point in points] == [3, 3, 3, 3, 1]
    for point in points:
        # The mean of m references outside has variance 1 / m; one reference is outside half of the samples.
        outside = max(1, point.references // 2)
        deviation = math.sqrt(1 + 1 / outside)
        assert point.auc.value == pytest.approx(stats.norm.cdf(1.5 / deviation / math.sqrt(2)), abs=0.015)
        assert point.auc.low < point.auc.value < point.auc.high
        best = stats.norm.sf(stats.norm.isf(0.01) - 1.5 / deviation)
        assert point.rate.tpr == pytest.approx(best, abs=0.03)
        decisions = 18 * 800 if point.references > 1 else 18 * 400
        assert point.decisions == pytest.approx(decisions, rel=0.02)
        assert point.rate.expected_false_positives == pytest.approx(decisions / 2 / 100, rel=0.02)
        assert point.rate.low is not None
        assert point.rate.high is not None
        assert point.rate.low < point.rate.tpr < point.rate.high


def test_all_references_are_the_audits_decisions() -> None:
    generator = np.random.default_rng(1)
    patients = members_of(generator, 10, 100)
    inside, names = np.repeat(patients, 2, axis=1), [f"p{number // 2:02}" for number in range(200)]
    signals = signals_of(generator, inside)
    point = network_curve(
        signals, inside, names, lira_online, [100], least_in=2, least_out=2, standardise=False
    )[0]
    units, members, _ = by_patient(signals, inside, names)
    scores = attacked(units, members, lira_online)
    expected = pooled_auc(scores, members)
    assert (point.references, point.draws, point.decisions) == (8, 1, 1000)
    for ours, theirs in ((point.auc.value, expected.value), (point.auc.low, expected.low)):
        assert ours == pytest.approx(theirs)
    again = pooled_rates(scores, members, fprs=(0.01,), resamples=200)[0]
    assert point.rate.tpr == pytest.approx(again.tpr)
    assert point.rate.low == pytest.approx(again.low)


def test_points_without_enough_references_are_absent() -> None:
    generator = np.random.default_rng(2)
    inside = members_of(generator, 8, 60)
    signals = signals_of(generator, inside)
    names = np.arange(60).astype(str)
    curve = partial(network_curve, signals, inside, names, resamples=5, draws=2)
    online = curve(lira_online, least_in=2, least_out=2)
    assert [point.references for point in online] == [4, 6]
    assert [point.references for point in curve(difficulty_calibrated)] == [1, 2, 4, 6]


def test_the_number_of_references_does_not_tell_members() -> None:
    generator = np.random.default_rng(3)
    inside = members_of(generator, 12, 1000)
    signals = signals_of(generator, inside, effect=0)
    names = np.arange(1000).astype(str)

    def counted(
        target: NDArray[np.float64], _: NDArray[np.float64], seen: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        return np.asarray(1e-9 * target + seen.sum(axis=0))

    for attack, least in ((counted, 0), (base, 0), (lira_online, 2)):
        for point in network_curve(
            signals,
            inside,
            names,
            attack,
            (1, 2, 3, 4),
            least_in=least,
            least_out=least,
            draws=3,
            resamples=5,
        ):
            assert point.auc.value == pytest.approx(0.5, abs=0.025)


def test_refuses() -> None:
    inside = members_of(np.random.default_rng(0), 4, 10)
    signals = signals_of(np.random.default_rng(0), inside)
    for counts, draws in (([], 1), ([0], 1), ([2], 0)):
        with pytest.raises(InputError, match="counts and draws must be 1 or more"):
            network_curve(signals, inside, np.arange(10).astype(str), base, counts, draws=draws)
