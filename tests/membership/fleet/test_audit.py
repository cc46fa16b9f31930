"""A recipe's audit in worlds with and without a leak."""

import math

import numpy as np
import pytest
from scipy import stats

from seg_mia.membership.fleet import (
    difficulty_calibrated,
    lira_online,
    lira_vector,
    patient_auc,
    recipe_audit,
    standardised,
    weighed,
)
from tests.membership.fleet.worlds import members_of, signals_of


@pytest.mark.parametrize("effect", [0.0, 1.0])
def test_the_audit_finds_what_is_there(effect: float) -> None:
    generator = np.random.default_rng(0)
    patients = members_of(generator, 16, 150)
    inside = np.repeat(patients, 2, axis=1)
    names = [f"p{number // 2:03}" for number in range(300)]
    signals = signals_of(generator, inside, effect=effect, difficulty=1, noise=0.8, level=3)
    audit = recipe_audit(signals, inside, names, lira_online, resamples=50, permutations=40)
    assert (audit.networks, len(audit.patients), audit.target_aucs.shape) == (16, 150, (16,))
    # Means of two samples halve the variance of the noise.
    best = stats.norm.cdf(effect / (0.8 / math.sqrt(2) * math.sqrt(2)))
    assert audit.auc.value == pytest.approx(best, abs=0.035)
    assert audit.auc.low <= audit.auc.value <= audit.auc.high
    assert [rate.expected_false_positives for rate in audit.pooled] == [120, 12, 1.2]
    assert audit.stability is not None
    assert audit.risk.auc.mean() == pytest.approx(best, abs=0.035)
    assert not audit.risk.numbered.any()
    for rate in audit.transferred[:2]:
        assert rate.achieved_fpr == pytest.approx(rate.fpr, abs=0.02)
    if effect:
        assert audit.calibrated[0].tpr > 0.4
        assert audit.risk.significant.sum() > 20
    else:
        assert audit.risk.significant.sum() <= 1


def test_patients_are_compared_by_several_signals_weighed_without_a_constant_one() -> None:
    generator = np.random.default_rng(1)
    inside = members_of(generator, 16, 200)
    signals = np.stack([signals_of(generator, inside, effect=0) for _ in range(2)], axis=2)
    signals = np.concatenate([signals, np.ones((16, 200, 1))], axis=2)
    names = np.char.zfill(np.arange(200).astype(str), 3)
    audit = recipe_audit(signals, inside, names, lira_vector, resamples=20, permutations=20)
    assert audit.auc.low <= 0.5 <= audit.auc.high
    assert audit.risk.auc.mean() == pytest.approx(0.5, abs=0.03)
    levels = weighed(standardised(signals[:, :, :2]), inside)
    np.testing.assert_allclose(audit.risk.auc, patient_auc(levels, inside)[0])


def test_patients_are_compared_without_the_networks_levels_under_any_attack() -> None:
    generator = np.random.default_rng(3)
    inside = members_of(generator, 16, 60)
    signals = signals_of(generator, inside, effect=1, level=5)
    names = np.arange(60).astype(str)
    first, second = (
        recipe_audit(
            signals,
            inside,
            names,
            difficulty_calibrated,
            standardise=standardise,
            resamples=5,
            permutations=5,
        )
        for standardise in (True, False)
    )
    assert first.auc.value > second.auc.value + 0.1
    np.testing.assert_array_equal(first.risk.auc, second.risk.auc)


def test_networks_too_few_for_thresholds_of_patients_have_none() -> None:
    generator = np.random.default_rng(4)
    inside = members_of(generator, 4, 40)
    signals = signals_of(generator, inside, effect=1)
    names = np.arange(40).astype(str)
    audit = recipe_audit(signals, inside, names, difficulty_calibrated, resamples=5, permutations=5)
    # Each patient has one reference without it beside the target and its complement.
    assert audit.calibrated == []
    assert (audit.references, audit.samples, audit.members, audit.nonmembers) == (2, 40, 80, 80)
    assert len(audit.transferred) == 3


def test_few_networks_have_no_stability() -> None:
    generator = np.random.default_rng(2)
    # All ways to be in two of four networks; a patient in the first and third has no half with both sides.
    inside = np.array(
        [[1, 1, 1, 0, 0, 0], [1, 0, 0, 1, 1, 0], [0, 1, 0, 1, 0, 1], [0, 0, 1, 0, 1, 1]], dtype=bool
    )
    inside = np.tile(inside, (1, 10))
    signals = signals_of(generator, inside, effect=1)
    names = np.arange(60).astype(str)
    audit = recipe_audit(signals, inside, names, difficulty_calibrated, resamples=20, permutations=5)
    assert audit.stability is None


def test_altered_samples_are_scored_alone() -> None:
    generator = np.random.default_rng(5)
    inside = members_of(generator, 16, 200)
    altered = np.arange(200) < 20
    signals = signals_of(generator, inside, effect=0.2) + 3 * inside * altered
    names = np.arange(200).astype(str)
    audit = recipe_audit(
        signals, inside, names, difficulty_calibrated, altered=altered, resamples=5, permutations=5
    )
    assert audit.altered is not None
    assert audit.altered.samples == 20
    assert audit.auc.value < 0.7
    # An effect of 3.2 against the noise of the target and of the mean of seven references.
    assert audit.altered.auc.value == pytest.approx(
        stats.norm.cdf(3.2 / math.sqrt(2 * (1 + 1 / 7))), abs=0.02
    )
    assert [rate.expected_false_positives for rate in audit.altered.pooled] == [16, 1.6, 0.16]
    none = recipe_audit(
        signals, inside, names, difficulty_calibrated, altered=altered & False, resamples=5, permutations=5
    )
    assert none.altered is None
