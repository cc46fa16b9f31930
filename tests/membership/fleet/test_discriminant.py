"""Several signals of a patient as one number."""

import numpy as np
import pytest

from seg_mia.errors import InputError
from seg_mia.membership.fleet import patient_auc, patient_p_values, patient_risk, weighed
from tests.membership.fleet.worlds import members_of, signals_of


def test_weights_are_the_discriminant_of_the_other_patients() -> None:
    generator = np.random.default_rng(0)
    inside = members_of(generator, 8, 6)
    values = generator.normal(size=(8, 6, 2)) + inside[..., None] * np.array([1.0, 0.3])
    differences = np.stack(
        [values[inside[:, i], i].mean(axis=0) - values[~inside[:, i], i].mean(axis=0) for i in range(6)]
    )
    scatter = np.zeros((6, 2, 2))
    for i in range(6):
        for side in (inside[:, i], ~inside[:, i]):
            strayed = values[side, i] - values[side, i].mean(axis=0)
            scatter[i] += strayed.T @ strayed
    scores = weighed(values, inside)
    for i in range(6):
        others = np.arange(6) != i
        raised = differences[others].mean(axis=0) + differences[others].std(axis=0) / np.sqrt(5)
        weights = np.linalg.solve(scatter[others].sum(axis=0), raised)
        np.testing.assert_allclose(scores[:, i], values[:, i] @ weights)


def test_a_patients_own_memberships_do_not_weigh_its_signals() -> None:
    generator = np.random.default_rng(1)
    inside = members_of(generator, 16, 30)
    values = generator.normal(size=(16, 30, 3))
    other = inside.copy()
    other[:, 4] = generator.permuted(inside[:, 4])
    np.testing.assert_allclose(weighed(values, inside)[:, 4], weighed(values, other)[:, 4])


def test_noise_beside_a_signal_costs_little_and_nothing_is_found_where_nothing_is() -> None:
    generator = np.random.default_rng(2)
    inside = members_of(generator, 32, 600)
    exposed = np.arange(600) < 60
    clean = signals_of(generator, inside, effect=0) + 2 * inside * exposed
    noise = np.stack([signals_of(generator, inside, effect=0) for _ in range(3)], axis=2)
    scores = weighed(np.concatenate([clean[..., None], noise], axis=2), inside)
    alone, together = (patient_auc(each, inside)[0] for each in (clean, scores))
    assert together[exposed].mean() == pytest.approx(alone[exposed].mean(), abs=0.02)
    assert together[~exposed].mean() == pytest.approx(0.5, abs=0.012)
    assert (patient_p_values(together, inside)[~exposed] <= 0.05).mean() == pytest.approx(0.05, abs=0.03)
    risk = patient_risk(scores, inside, permutations=5)
    assert risk.significant[exposed].mean() > 0.9
    assert risk.significant[~exposed].sum() <= 8


def test_equal_signals_share_their_weight_and_bad_input_is_refused() -> None:
    generator = np.random.default_rng(3)
    inside = members_of(generator, 8, 20)
    signal = signals_of(generator, inside, effect=1)
    twice = weighed(np.stack([signal, signal], axis=2), inside)
    np.testing.assert_allclose(patient_auc(twice, inside)[0], patient_auc(signal, inside)[0])
    with pytest.raises(InputError, match="at least 1 reference networks trained"):
        weighed(np.zeros((2, 1, 2)), np.zeros((2, 1), dtype=bool))
