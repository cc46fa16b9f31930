"""What is accounted for beside dp-accounting, whose code is independent of that of Opacus."""

import math
from dataclasses import dataclass
from pathlib import Path

import pytest

from seg_mia.defences.dp.accounting import Mechanism, noise_for, share_of_mu
from tests.defences.dp.helpers import EVERYTHING, UNLIMITED, fit, privacy
from tests.peers import imported

pytestmark = pytest.mark.peers("dp_accounting")

LOWER, UPPER = 2e-3, 0.02
"""Its numbers are upper bounds, too, by less than the first; the grid of `prv` adds 0.01, twice at most."""


@dataclass(frozen=True)
class Case:
    """One training: noise, rate, steps, delta, and mu of a release before it."""

    noise: float
    rate: float
    steps: int
    delta: float
    release: float = 0.0


SAMPLED = {
    "phantom_dp": Case(1.5053, 64 / 256, 120, 1 / 2560),
    "acdc_dp": Case(3.488, 1.0, 60, 1 / 740),
    "kvasir_dp": Case(3.78, 1.0, 60, 1 / 3000),
    "small_batches": Case(0.8602, 8 / 300, 2625, 1 / 300),
    "tiny_rate": Case(0.7, 0.004, 2500, 1e-6),
    "large_rate": Case(4.0, 0.6, 60, 1e-4),
    "much_noise": Case(12.0, 0.1, 100, 1e-5),
    "least_squares_all_units": Case(4.1, 1.0, 60, 1 / 3000, 0.8),
    "least_squares_sampled": Case(1.2, 0.1, 80, 1e-4, 0.5),
}


def peer(case: Case, *, replace: bool = False) -> float:
    """Return epsilon by privacy loss distributions of dp-accounting."""
    accounting, pld = imported("dp_accounting"), imported("dp_accounting.pld")
    relation = accounting.NeighboringRelation
    books = pld.PLDAccountant(relation.REPLACE_ONE if replace else relation.ADD_OR_REMOVE_ONE)
    event = accounting.GaussianDpEvent(case.noise)
    books.compose(accounting.PoissonSampledDpEvent(case.rate, event) if case.rate < 1 else event, case.steps)
    if case.release:
        books.compose(accounting.GaussianDpEvent(1 / case.release))
    return float(books.get_epsilon(case.delta))


@pytest.mark.parametrize("name", SAMPLED)
def test_epsilon_is_that_of_privacy_loss_distributions(name: str) -> None:
    case = SAMPLED[name]
    expected = peer(case)
    tight = Mechanism(case.noise, case.rate, case.delta, "prv", case.release).spent(case.steps)
    assert expected - LOWER <= tight <= expected + UPPER
    assert expected <= Mechanism(case.noise, case.rate, case.delta, "rdp", case.release).spent(case.steps)


@pytest.mark.parametrize("name", SAMPLED)
def test_epsilon_of_replacing_one_is_that_of_privacy_loss_distributions(name: str) -> None:
    case = SAMPLED[name]
    expected = peer(case, replace=True)
    tight = Mechanism(case.noise, case.rate, case.delta, "prv", case.release).replaced(case.steps)
    assert expected - LOWER <= tight <= expected + UPPER
    assert expected <= Mechanism(case.noise, case.rate, case.delta, "rdp", case.release).replaced(case.steps)


@pytest.mark.parametrize(("rate", "share"), [(0.125, None), (1.0, None), (0.125, 0.15), (1.0, 0.15)])
def test_calibrated_noise_keeps_the_budget(rate: float, share: float | None) -> None:
    epsilon, delta, steps = 3.0, 1 / 2560, 40
    release = 0.0 if share is None else share_of_mu(epsilon, delta=delta, share=share)
    noise = noise_for(epsilon, delta=delta, rate=rate, steps=steps, accountant="prv", release=release)
    assert epsilon - 0.06 <= peer(Case(noise, rate, steps, delta, release)) <= epsilon + LOWER


@pytest.mark.parametrize(
    "words",
    [
        [],
        [EVERYTHING],
        ["--model.defences.copies=2", "--data.augment=flip"],
        ["--model.defences.ema=0.5"],
        ["--model.defences.tail=0.5"],
    ],
    ids=["sampled", "all_units", "copies", "ema", "tail"],
)
def test_a_training_states_what_dp_accounting_gives_for_its_steps(small: Path, words: list[str]) -> None:
    """Copies of an image and averages of weights cost nothing: the mechanism is that of the plain steps."""
    own = ["--defence", "dp", "--model.defences.reproducible=true"]
    promise = privacy(fit(small, *UNLIMITED, *words, dp=own))
    case = Case(promise["noise"], promise["rate"], promise["steps"], promise["delta"], promise["release"])
    assert promise["steps"] > 0
    assert math.isfinite(promise["epsilon"])
    assert peer(case) - LOWER <= promise["epsilon"] <= peer(case) + UPPER
    replaced = peer(case, replace=True)
    assert replaced - LOWER <= promise["replace_one"] <= replaced + UPPER
