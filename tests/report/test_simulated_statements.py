"""A small form of benchmarks/statement_rules.py: false claims, and the stated power."""

import runpy
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
from scipy import stats

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "statement_rules.py"


@pytest.fixture(scope="module")
def simulation() -> SimpleNamespace:
    if not BENCHMARK.is_file():
        pytest.skip("only a checkout has the benchmarks")
    return SimpleNamespace(**runpy.run_path(str(BENCHMARK)))


def test_a_dozen_attacks_without_a_leak_rarely_claim_one(simulation: SimpleNamespace) -> None:
    counts: Counter[str]
    shape = simulation.Shape("small", 40, 40, 1)
    counts, detectable = simulation.answers(shape, 0.5, 60, 479)
    # Of 60 worlds at 5 % each, more than 8 have a probability of 0.4 %.
    assert stats.binom.sf(8, 60, 0.05) < 0.005
    assert counts["A2"] <= 8
    assert detectable is not None
    assert 0.7 < detectable < 0.8
    assert not counts["A6"], "80 images cannot exclude an AUC of 0.7 with this power"


def test_the_stated_power_holds(simulation: SimpleNamespace) -> None:
    shape = simulation.Shape("small", 40, 40, 1)
    _, detectable = simulation.answers(shape, 0.5, 1, 479)
    counts, _ = simulation.answers(shape, detectable, 40, 479)
    # Of 40 worlds at 80 % each, fewer than 25 have a probability of 0.3 %.
    assert stats.binom.cdf(24, 40, 0.8) < 0.005
    assert counts["A2"] >= 25
