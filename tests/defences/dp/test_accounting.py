"""What DP-SGD says it has spent, beside what Opacus says; the budget's steps and noise by brute force."""

import math
import subprocess
import sys
import warnings
from collections.abc import Iterator
from functools import cache
from itertools import pairwise

import opacus.accountants.prv
import pytest
from opacus.accountants import PRVAccountant, create_accountant
from opacus.accountants.analysis.prv import Domain

from seg_mia.defences.dp import accounting
from seg_mia.defences.dp.accounting import Accountant, Mechanism, noise_for
from seg_mia.errors import InputError
from seg_mia.membership.tradeoff import gaussian_epsilon

both = pytest.mark.parametrize("accountant", ["rdp", "prv"])


def step_by_step(accountant: Accountant, *, noise: float, rate: float, steps: int, delta: float) -> float:
    """Return what Opacus' accountant says after it was told of each step."""
    books = create_accountant(mechanism=accountant)
    for _ in range(steps):
        books.step(noise_multiplier=noise, sample_rate=rate)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of an order at the end of RDP's range, on the safe side
        return float(books.get_epsilon(delta=delta))


@pytest.fixture
def at_most_80_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A search that does not end is an error, not a test that does not end."""
    spent, looks = cache(Mechanism.spent), 0

    def count(self: Mechanism, steps: int) -> float:
        nonlocal looks
        looks += 1
        assert looks <= 80, "the search does not end"
        return spent(self, steps)

    monkeypatch.setattr(Mechanism, "spent", count)


@pytest.fixture
def looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same question is answered once."""
    monkeypatch.setattr(Mechanism, "spent", cache(Mechanism.spent))


@pytest.mark.parametrize(
    ("noise", "rate", "steps", "delta"),
    [(1.0, 0.1, 1, 1e-3), (0.8, 0.05, 40, 1e-4), (1.3, 0.9, 7, 1e-3), (0.6, 0.01, 200, 1e-5)],
)
def test_epsilon_is_what_opacus_gives_after_each_single_step(
    noise: float, rate: float, steps: int, delta: float
) -> None:
    loose, tight = (
        step_by_step(name, noise=noise, rate=rate, steps=steps, delta=delta) for name in ("rdp", "prv")
    )
    assert 0 < tight < loose
    assert Mechanism(noise, rate, delta, "rdp").spent(steps) == pytest.approx(loose, rel=1e-12)
    assert Mechanism(noise, rate, delta, "prv").spent(steps) == pytest.approx(tight, rel=1e-12)


def test_where_every_unit_is_in_every_batch_epsilon_is_the_gaussian_mechanisms() -> None:
    # n steps of noise s are one of s / sqrt(n), whose delta is known (Balle and Wang 2018, theorem 8).
    noise, steps, delta = 5.0, 16, 1e-3
    said = Mechanism(noise, 1.0, delta, "prv").spent(steps)

    def normal(x: float) -> float:
        return 0.5 * math.erfc(-x / math.sqrt(2))

    def exact(epsilon: float) -> float:
        mu = math.sqrt(steps) / noise
        return normal(mu / 2 - epsilon / mu) - math.exp(epsilon) * normal(-mu / 2 - epsilon / mu)

    assert exact(said) <= delta <= exact(said - 1e-6)
    tight = step_by_step("prv", noise=noise, rate=1.0, steps=steps, delta=delta)
    assert said <= tight <= said + 0.02
    assert said < Mechanism(noise, 1.0, delta, "rdp").spent(steps)
    assert Mechanism(1e3, 1.0, 1e-5, "prv").spent(1) == gaussian_epsilon(1e-3, 1e-5) < 0.002  # PRV: 0.01


@pytest.fixture
def forgotten() -> Iterator[None]:
    """What was answered before is not known, nor is it after."""
    accounting._prv.cache_clear()
    yield
    accounting._prv.cache_clear()


def _fails(*_: object, **__: object) -> None:
    raise AssertionError("the slow accountant was asked")


@pytest.mark.parametrize(
    ("noise", "rate", "steps", "delta"),
    [
        (0.3, 0.01, 50_000, 1e-6),
        (0.4, 0.02, 50_000, 1e-6),
        (0.05, 0.1, 10_000, 1e-5),
        (1e-8, 0.01, 10_000, 1e-5),
        (1e-200, 0.5, 10, 1e-5),
        (0.5, 1.0, 30_000, 1e-5),
        (2.0, 0.5, 30_000, 1e-5),
    ],
)
def test_little_noise_over_many_steps_never_asks_the_slow_accountant(
    noise: float, rate: float, steps: int, delta: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its grid would have hundreds of millions of points, and no such epsilon is private."""
    monkeypatch.setattr(PRVAccountant, "_get_dprv", _fails)
    mechanism = Mechanism(noise, rate, delta, "prv")
    assert mechanism.spent(steps) > 100
    assert mechanism.permitted(steps).auc > 0.999


@pytest.mark.usefixtures("forgotten")
@pytest.mark.parametrize(
    ("noise", "rate", "steps", "delta"),
    [
        (0.5, 0.01, 20_000, 1e-5),
        (0.45, 0.02, 5_000, 1e-5),
        (0.5, 0.01, 40_000, 1e-6),
        (2.0, 0.3, 2_000, 1e-5),
    ],
)
def test_no_grid_has_more_points_than_is_allowed(
    noise: float, rate: float, steps: int, delta: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between an epsilon of 50 and 200: the grid is made coarser, or the looser accountant is believed."""
    made = []

    def measured(_prv: object, domain: Domain) -> None:
        made.append(domain.size)
        raise RuntimeError

    monkeypatch.setattr(opacus.accountants.prv, "discretize", measured)
    loose = Mechanism(noise, rate, delta, "rdp").spent(steps)
    assert 50 < loose < 200
    assert Mechanism(noise, rate, delta, "prv").spent(steps) == loose  # numbers that fail bound nothing
    assert all(size <= accounting.MOST_POINTS + 4 for size in made)


@pytest.mark.usefixtures("forgotten")
@pytest.mark.parametrize("points", [20_000, 3_000, 1_000])
def test_a_coarser_grid_still_bounds_what_is_known_exactly(
    points: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rate just below 1 is the Gaussian mechanism's; what the grid loses is at most what it says."""
    monkeypatch.setattr(accounting, "MOST_POINTS", points)
    noise, steps, delta, rate = 5.0, 16, 1e-3, 1 - 1e-9
    error = accounting._grid_error(noise, rate, steps, delta)
    exact = gaussian_epsilon(math.sqrt(steps) / noise, delta)
    said = Mechanism(noise, rate, delta, "prv").spent(steps)
    assert error is not None
    assert exact <= said <= exact + 2 * error + 1e-3


@pytest.mark.usefixtures("forgotten")
def test_a_grid_that_would_be_too_coarse_is_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounting, "MOST_POINTS", 100)
    monkeypatch.setattr(PRVAccountant, "_get_dprv", _fails)
    mechanism = Mechanism(5.0, 0.5, 1e-3, "prv")
    assert accounting._grid_error(5.0, 0.5, 16, 1e-3) is None
    assert mechanism.spent(16) == Mechanism(5.0, 0.5, 1e-3, "rdp").spent(16)
    assert mechanism.permitted(16).by == "rdp"


@both
def test_noise_beyond_all_numbers_is_as_good_as_much_noise(accountant: Accountant) -> None:
    assert (
        0
        <= Mechanism(1e300, 0.3, 1e-5, accountant).spent(3)
        <= Mechanism(1e3, 0.3, 1e-5, accountant).spent(3)
    )


@both
def test_nothing_is_spent_without_a_step_and_everything_without_noise(accountant: Accountant) -> None:
    assert Mechanism(1.0, 0.1, 1e-3, accountant).spent(0) == 0
    assert Mechanism(0.0, 0.1, 1e-3, accountant).spent(0) == 0
    assert Mechanism(0.0, 0.1, 1e-3, accountant).spent(1) == math.inf


@both
def test_more_steps_and_a_higher_rate_spend_more_and_more_noise_less(accountant: Accountant) -> None:
    by_steps = [Mechanism(2.0, 1.0, 1e-3, accountant).spent(steps) for steps in (0, 1, 2, 5, 20)]
    by_rate = [Mechanism(2.0, rate, 1e-3, accountant).spent(4) for rate in (0.1, 0.3, 0.9, 1.0)]
    by_noise = [Mechanism(noise, 1.0, 1e-3, accountant).spent(4) for noise in (4.0, 2.0, 1.0, 0.7)]
    for found in (by_steps, by_rate, by_noise):
        assert all(one < other for one, other in pairwise(found))


@both
def test_epsilon_is_never_below_zero(accountant: Accountant) -> None:
    """With little data, 1/n is a generous delta, and one step may spend less than it allows."""
    for noise, rate, delta, steps in ((1.0, 1 / 6, 1 / 6, 1), (5.0, 0.25, 0.25, 3), (5.0, 0.01, 0.01, 1)):
        assert Mechanism(noise, rate, delta, accountant).spent(steps) >= 0


@pytest.mark.usefixtures("at_most_80_looks")
@pytest.mark.parametrize(
    ("epsilon", "rate", "steps", "delta"),
    [(8.5, 1.0, 3, 1e-2), (1.0, 1.0, 12, 1e-3), (0.3, 0.05, 20, 1e-3)],
)
@both
def test_the_noise_spends_the_budget_and_not_much_less(
    accountant: Accountant, epsilon: float, rate: float, steps: int, delta: float
) -> None:
    noise = noise_for(epsilon, delta=delta, rate=rate, steps=steps, accountant=accountant)
    if rate == 1 and accountant == "prv":  # what Opacus adds to its numbers is not spent
        assert epsilon - 0.01 <= Mechanism(noise, rate, delta, accountant).spent(steps) <= epsilon
        return
    spent = step_by_step(accountant, noise=noise, rate=rate, steps=steps, delta=delta)
    assert epsilon - max(0.01, 0.01 * epsilon) - 1e-6 <= spent <= epsilon


@pytest.mark.usefixtures("at_most_80_looks")
def test_the_tighter_accountant_needs_less_noise() -> None:
    loose, tight = (noise_for(2.0, delta=1e-3, rate=1.0, steps=3, accountant=name) for name in ("rdp", "prv"))
    assert tight < loose


@pytest.mark.usefixtures("at_most_80_looks")
@pytest.mark.parametrize("epsilon", [1.9, 1.99, 2.01])
def test_a_budget_where_one_accountant_gives_way_to_the_other_is_met_too(
    epsilon: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accounting, "LOOSE_IS_ENOUGH", 2.0, raising=False)  # at 200 each look takes seconds
    noise = noise_for(epsilon, delta=1e-3, rate=0.9, steps=3, accountant="prv")
    assert Mechanism(noise, 0.9, 1e-3, "prv").spent(3) <= epsilon


@pytest.mark.usefixtures("at_most_80_looks")
@pytest.mark.parametrize(("epsilon", "rate", "steps", "delta"), [(8.0, 1e-3, 3, 0.036)])
def test_a_delta_that_covers_all_steps_needs_hardly_any_noise(
    epsilon: float, rate: float, steps: int, delta: float
) -> None:
    """A unit that is drawn less often than delta may be given away: (0, delta) whatever the noise."""
    assert 1 - (1 - rate) ** steps <= delta
    noise = noise_for(epsilon, delta=delta, rate=rate, steps=steps, accountant="prv")
    assert 0 < noise < 1
    assert 0 <= Mechanism(noise, rate, delta, "prv").spent(steps) <= epsilon


@pytest.mark.usefixtures("looked_up")
@pytest.mark.parametrize(
    ("accountant", "rate", "noise", "epsilons", "most"),
    [("rdp", 0.1, 1.1, (0.2, 0.7, 1.0, 1.5, 9.0), 17), ("prv", 1.0, 9.0, (0.2, 0.5, 1.0, 9.0), 16)],
)
def test_the_steps_within_a_budget_are_the_most_there_are(
    accountant: Accountant, rate: float, noise: float, epsilons: tuple[float, ...], most: int
) -> None:
    mechanism = Mechanism(noise, rate, 1e-2, accountant)
    spent = [mechanism.spent(steps) for steps in range(most + 1)]
    for epsilon in (*epsilons, spent[3], spent[most]):
        brute = max(steps for steps in range(most + 1) if spent[steps] <= epsilon)
        assert mechanism.steps_within(epsilon, most) == brute
    assert mechanism.steps_within(1.0, 0) == 0
    assert mechanism.steps_within(spent[1] * 0.99, most) == 0


def test_without_noise_no_step_is_within_any_budget() -> None:
    assert Mechanism(0.0, 0.2, 1e-2, "rdp").steps_within(1e6, 10) == 0


@pytest.mark.usefixtures("at_most_80_looks")
@both
def test_what_no_noise_reaches_is_refused_in_one_line(accountant: Accountant) -> None:
    with pytest.raises(
        InputError, match="epsilon 0.001 cannot be reached .*; choose a larger epsilon"
    ) as refusal:
        noise_for(0.001, delta=1e-3, rate=1.0, steps=1000, accountant=accountant)
    assert "\n" not in str(refusal.value)


def test_importing_opacus_leaves_everybodys_log_as_it_was() -> None:
    program = """
import logging
root = logging.getLogger()
mine = logging.NullHandler()
root.addHandler(mine)
root.setLevel(logging.ERROR)
from seg_mia.defences.dp.accounting import Mechanism
Mechanism(1.0, 0.1, 1e-3, "rdp").spent(3)
import sys
assert "opacus" in sys.modules
assert root.handlers == [mine], root.handlers
assert root.level == logging.ERROR
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert accounting.__name__ in sys.modules
