"""Whatever fleet comes, its audit is finite and of the right shape, or refused in one clear line."""

import os
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seg_mia.data.signal_values import read_signal
from seg_mia.errors import InputError
from seg_mia.membership.fleet import network_curve, recipe_audit
from seg_mia.results.recipe import recipe_result
from tests.membership.fleet.fleets import SCORERS, answers, fleet, not_finite, spoilt, takes_several

SEEDS = st.integers(0, 2**32 - 1)
MANY = settings(
    max_examples=100,
    deadline=None,
    derandomize="CI" in os.environ,
    suppress_health_check=[HealthCheck.too_slow],
)


def check_clear(message: str) -> None:
    """Check that a refusal is one line."""
    assert 20 < len(message) < 400
    assert "\n" not in message


def audits(seed: int) -> bool:
    """Audit a random recipe; return whether it was not refused."""
    generator = np.random.default_rng(seed)
    scorer = SCORERS[int(generator.integers(len(SCORERS)))]()
    several = generator.random() < (0.5 if takes_several(scorer) else 0.02)
    it = spoilt(generator, fleet(generator, several=several))
    try:
        audit = recipe_audit(
            it.signals,
            it.inside,
            it.groups,
            scorer.pooled,
            standardise=scorer.standardise,
            columns={"site": ["north"] * len(it.groups)},
            initial=it.initial,
            resamples=10,
            permutations=5,
        )
        assert set(not_finite(audit)) <= {".roc.thresholds"}  # a threshold that calls nobody a member
        hashes = [f"h{number}" for number in range(len(audit.patients))]
        result = recipe_result(audit, name="a", sampling="online", attacker_knowledge="all", ids=hashes)
        assert (result.networks, result.patients) == (len(it.inside), len(set(it.groups.tolist())))
        assert 0 <= (result.auc.low or 0) <= (result.auc.value or 0) <= (result.auc.high or 0) <= 1
        needs = scorer.needs
        if needs.queries_judged:
            points = network_curve(
                it.signals,
                it.inside,
                it.groups,
                scorer.pooled,
                least_in=needs.count if needs.sampling == "online" else 0,
                least_out=needs.count,
                standardise=scorer.standardise,
                draws=2,
                resamples=5,
            )
            assert not list(not_finite(points))
    except InputError as error:
        check_clear(str(error))
        return False
    return True


def attacks(seed: int) -> bool:
    """Attack a random victim by its shadows; return whether it was not refused."""
    generator = np.random.default_rng(seed)
    scorer = SCORERS[int(generator.integers(len(SCORERS)))]()
    several = generator.random() < (0.5 if takes_several(scorer) else 0.02)
    it = spoilt(generator, fleet(generator, several=several))
    try:
        rows = answers(it, generator)
        if not rows:
            return False
        victim, *shadows = rows
        scorer.fit(shadows)
        guesses = scorer.score(victim, shadows)
        assert guesses.scores.shape == victim.ids.shape
        assert np.isfinite(guesses.scores).all()
        assert not np.isinf(guesses.threshold)
    except InputError as error:
        check_clear(str(error))
        return False
    return True


@MANY
@given(SEEDS)
def test_a_recipe_is_audited_or_refused(seed: int) -> None:
    audits(seed)


@MANY
@given(SEEDS)
def test_a_victim_is_attacked_or_refused(seed: int) -> None:
    attacks(seed)


def test_many_of_them_are_audited() -> None:
    assert 5 < sum(audits(seed) for seed in range(60)) < 55
    assert 5 < sum(attacks(seed) for seed in range(60)) < 55


def test_a_damaged_file_of_signals_is_none(tmp_path: Path) -> None:
    generator, file = np.random.default_rng(0), tmp_path / "signals.npy"
    np.save(file, np.arange(12.0))
    content = file.read_bytes()
    for number in range(300):
        damaged = bytearray(content)
        if number % 3 == 0:
            damaged = damaged[: generator.integers(len(content))]
        else:
            damaged[generator.integers(len(content) if number % 3 == 1 else 128)] = generator.integers(256)
        file.write_bytes(damaged)
        found = read_signal(file, 12)
        assert found is None or (len(found) == 12 and found.dtype == np.float64)
    assert read_signal(None, 12) is None
    assert read_signal(tmp_path / "none.npy", 12) is None
    file.write_bytes(content)
    assert read_signal(file, 11) is None
    np.testing.assert_array_equal(read_signal(file, 12), np.arange(12.0))
