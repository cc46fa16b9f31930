import math

import numpy as np
import pytest
from scipy import stats

from seg_mia.errors import InputError
from seg_mia.membership.rates import tpr_bounds

TAIL = 0.025


def ranked(inside: list[float], outside: list[float]) -> tuple[np.ndarray, np.ndarray]:
    return np.array(inside + outside), np.arange(len(inside) + len(outside)) < len(inside)


def exact(hits: int, trials: int) -> tuple[float, float]:
    interval = stats.binomtest(hits, trials).proportion_ci(1 - 2 * TAIL, method="exact")
    return float(interval.low), float(interval.high)


def test_too_few_non_members_bound_nothing_from_below_however_good_the_attack() -> None:
    least = math.ceil(math.log(TAIL) / math.log(0.99))
    assert least == 368
    for others, low in ((least - 1, 0.0), (least, exact(50, 50)[0])):
        scores, members = ranked([2.0] * 50, list(np.linspace(0, 1, others)))
        assert tpr_bounds(scores, members, fpr=0.01) == pytest.approx((low, 1))


def test_both_axes_are_those_of_clopper_and_pearson() -> None:
    # 100 non-members at 0..99: three above a threshold have an upper bound of 8.52 %, four of 9.93 %, five of
    # 11.3 %; 17 have a lower bound of 10.2 %, 16 of 9.4 %.
    scores, members = ranked(
        [95.5] * 30 + [90.5] * 10 + [82.5] * 20 + [0.5] * 40, list(map(float, range(100)))
    )
    assert exact(4, 100)[1] < 0.1 < exact(5, 100)[1]
    assert exact(16, 100)[0] < 0.1 < exact(17, 100)[0]
    assert tpr_bounds(scores, members, fpr=0.1) == pytest.approx((exact(30, 100)[0], exact(40, 100)[1]))


def test_samples_of_one_patient_that_are_all_alike_count_once() -> None:
    inside, outside = np.repeat([1.0, 3.0], 20), np.repeat(np.linspace(0, 2, 40), 5)
    scores, members = np.concatenate([np.repeat(inside, 5), outside]), np.arange(400) < 200
    names = np.char.mod("p%03d", np.arange(400) // 5)
    alone = tpr_bounds(scores[::5], members[::5], fpr=0.2)
    alike = tpr_bounds(scores, members, names, fpr=0.2)
    ignored = tpr_bounds(scores, members, fpr=0.2)
    assert alike == pytest.approx(alone, abs=0.03)
    assert ignored[1] - ignored[0] < alone[1] - alone[0] - 0.1


def test_the_interval_holds_the_rate_of_normal_scores_by_patient() -> None:
    rng, held, worlds = np.random.default_rng(0), 0, 60
    truth = stats.norm.cdf(math.sqrt(2) * stats.norm.ppf(0.8) + stats.norm.ppf(0.1))
    members, names = np.arange(250) < 150, np.char.mod("p%03d", np.arange(250) // 5)
    for _ in range(worlds):
        shared = np.repeat(rng.normal(size=50), 5)
        scores = math.sqrt(0.6) * shared + math.sqrt(0.4) * rng.normal(size=250)
        low, high = tpr_bounds(scores + members * math.sqrt(2) * stats.norm.ppf(0.8), members, names, fpr=0.1)
        held += low <= truth <= high
    assert held >= 57  # at 0.95, 54 or fewer in 5 %; percentile intervals hold it in 55


def test_refuses_what_is_out_of_range() -> None:
    scores, members = ranked([1.0, 2.0], [0.0, 0.5])
    for fpr, tail in ((1.1, 0.025), (0.1, 0.0)):
        with pytest.raises(InputError, match="fpr must lie"):
            tpr_bounds(scores, members, fpr=fpr, tail=tail)
