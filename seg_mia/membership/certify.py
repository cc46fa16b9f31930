"""Empirical lower bounds on a training's privacy loss, from membership attacks.

If a training is (epsilon, delta)-differentially private, every rule that separates members from
non-members satisfies TPR <= e^epsilon FPR + delta and TNR <= e^epsilon FNR + delta (Kairouz, Oh and
Viswanath 2015). Observed rates with confidence bounds thus give a lower bound on epsilon (Jagielski, Ullman
and Oprea 2020, arXiv:2006.07709; Nasr et al. 2021, arXiv:2101.04535).

The result is only a lower bound. 0 does not prove privacy: another attack may give a larger bound, and few
samples give a small bound for any attack, see `Certified.attainable`.

A threshold must be chosen on other samples than those that certify, and the result depends on the random
division into the two parts. `epsilon_lower_bound` takes the median over many divisions: if each bound exceeds
the truth with probability alpha / 2 at most, then by Markov's inequality half of them do with probability
alpha at most, whatever their dependence. This is the rule of twice the median p-value (van de Wiel, Berkhof
and van Wieringen 2009, Biostatistics 10:550; DiCiccio, DiCiccio and Romano 2020, Statistics & Probability
Letters 166).

Two kinds of bounds must be told apart. `epsilon_lower_bound` is a statement under an assumption: that the
samples are independent. Those of one training are not, since one network was trained on all of them; the
assumption is common in one-run audits and unproven. Neighbouring slices of one patient are clearly dependent:
use one score per patient (see `pooled`). The bounds named in `PROVED_BY_COINS` are proofs. Those of one run
require only that an independent fair coin of ours decided the insertion of each sample, as for canaries.
Those of many runs require that pairs of complementary halves were drawn by us, independently of each other,
and that every network is an independent training of its half (`seg_mia.membership.fleet.many_runs`).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from seg_mia.errors import InputError
from seg_mia.membership.arrays import Members, Scores, Values
from seg_mia.membership.roc import check_scores

Rule = Literal[
    "members_above",
    "nonmembers_below",
    "gaussian_threshold",
    "one_run",
    "gaussian_one_run",
    "f_dp_one_run",
    "many_runs",
    "gaussian_many_runs",
]
Counts = NDArray[np.integer[Any]]

PROVED_BY_COINS: frozenset[str] = frozenset(
    {"one_run", "gaussian_one_run", "f_dp_one_run", "many_runs", "gaussian_many_runs"}
)
"""Rules whose bounds follow from our random draws, of samples or halves; others assume independent samples.
"""

RULES: tuple[Rule, Rule] = ("members_above", "nonmembers_below")
"""Rules tried by `epsilon_lower_bound`; the first wins ties."""

UNFAIR = 1e-6
"""P-value at or below which the coins are considered unfair."""

DIVISIONS = 101
"""Number of divisions into choosing and certifying samples; odd, so that the median is one of them."""

CHOOSING = 3
"""One sample in this many chooses the threshold. For 100 + 100, one in two lowers the bound by a sixth for
Gaussian scores with AUC 0.9, and one in four halves it if only three members in ten stand out.
"""


@dataclass(frozen=True)
class Certified:
    """A lower bound on the epsilon of (epsilon, delta)-differential privacy, with its derivation.

    Attributes:
        epsilon: the bound, at least 0.
        attainable: bound of a perfect attack on as many samples, by the same method, delta and confidence.
        confidence: least probability, before the data are seen, that the bound does not exceed the truth.
        members: number of members behind the bound itself, excluding those that chose the rule.
        nonmembers: number of non-members, likewise.
        rule: the inequality behind the bound: of TPR and FPR, of TNR and FNR, of both errors for a Gaussian
            mechanism, or the guesses of one run, for any mechanism or, by two methods, for a Gaussian one.
            For a median over divisions of the samples, rule and threshold are those of the median division.
        threshold: members are called from this score upwards ("members_above"), non-members from it downwards
            ("nonmembers_below"); for one run the lowest score guessed as inserted.
    """

    epsilon: float
    attainable: float
    confidence: float
    members: int
    nonmembers: int
    rule: Rule
    threshold: float


def epsilon_lower_bound(
    scores: Scores, members: Members, *, delta: float, confidence: float = 0.95, seed: int = 0
) -> Certified:
    """Return the epsilon certified by the best threshold on held-out samples, a median.

    A threshold chosen on the certifying scores would bias the bound upwards. Members and non-members are
    therefore each put in random order; the first `1 / CHOOSING` of each, rounded down, but at least one,
    choose the rule and the threshold of highest bound among their scores. The others give log((rate - delta)
    / other rate), with Clopper-Pearson bounds that both hold at 1 - alpha / 2 (Bonferroni), where alpha is 1
    - confidence. The result is the median over `DIVISIONS` such divisions, which holds at 1 - alpha. Only the
    order of scores matters.

    Args:
        scores: float (n,), higher for members.
        members: bool (n,).
        delta: delta of the tested privacy, in [0, 1); usually less than one over the training set's size.
        confidence: in (0, 1).
        seed: seed of the divisions; selecting the seed of highest bound is invalid.

    Raises:
        InputError: errors of `check_scores`, delta or confidence out of range.
    """
    check_scores(scores, members)
    tail = _tail(delta, confidence)
    generator = np.random.default_rng(seed)
    # Highest first: of rules and thresholds that are equally good, argmax takes the first.
    values, places = np.unique(-scores.astype(np.float64), return_inverse=True)
    (choosing_members, member_counts), (choosing_nonmembers, nonmember_counts) = (
        _divided(places[side], len(values), generator) for side in (members, ~members)
    )
    seen = (choosing_members + choosing_nonmembers)[:, None] > 0
    chosen = np.where(seen, _rule_bounds(choosing_members, choosing_nonmembers, delta, tail), -np.inf)
    best = chosen.reshape(DIVISIONS, -1).argmax(axis=1)
    bounds = _rule_bounds(member_counts, nonmember_counts, delta, tail).reshape(DIVISIONS, -1)[
        np.arange(DIVISIONS), best
    ]
    median = np.argsort(bounds, kind="stable")[DIVISIONS // 2]
    rule, column = divmod(int(best[median]), len(values))
    certifying = int(member_counts[0].sum()), int(nonmember_counts[0].sum())
    return Certified(
        epsilon=max(0.0, float(bounds[median])),
        attainable=attainable_epsilon(*certifying, delta=delta, confidence=confidence),
        confidence=confidence,
        members=certifying[0],
        nonmembers=certifying[1],
        rule=RULES[rule],
        threshold=-float(values[column]),
    )


def attainable_epsilon(members: int, nonmembers: int, *, delta: float, confidence: float = 0.95) -> float:
    """Return the epsilon certified by a perfect attack, by the better of the two rules.

    The numbers are of the certifying samples, in `epsilon_lower_bound` all but one in `CHOOSING`; they are
    equal in every division, and a perfect attack makes no error in any. Raises InputError for fewer than one
    of either, or delta or confidence out of range.
    """
    if min(members, nonmembers) < 1:
        raise InputError(
            f"the bound needs at least 1 member and 1 non-member, got {members} and {nonmembers}; score more"
        )
    tail = _tail(delta, confidence)
    none = np.array([0])
    sides = [(members, nonmembers), (nonmembers, members)]
    return max(0.0, *(float(_log_ratio(none + a, a, none, b, delta, tail)[0]) for a, b in sides))


def clopper_pearson(successes: int, trials: int, *, level: float) -> tuple[float, float]:
    """Return Clopper-Pearson (1934) lower and upper bounds of a probability, each one-sided at `level`.

    For any true probability, the lower bound exceeds it with probability at most `level`, and the upper bound
    falls short of it with probability at most `level`; both hold jointly with at least 1 - 2 level. Raises
    InputError for impossible counts and a level outside (0, 1).
    """
    if not 0 <= successes <= trials or trials < 1:
        raise InputError(
            f"successes must lie between 0 and the number of trials, at least 1, got {successes} of "
            f"{trials}; correct the counts"
        )
    if not 0 < level < 1:
        raise InputError(
            f"level must lie between 0 and 1, got {level}; 0.025 is usual for each of two bounds"
        )
    counts = np.array([successes])
    return float(_low(counts, trials, level)[0]), float(_high(counts, trials, level)[0])


def one_run_lower_bound(
    scores: Scores,
    inserted: Members,
    *,
    delta: float,
    guesses: int | None = None,
    confidence: float = 0.95,
    seed: int = 0,
) -> Certified:
    """Return the epsilon certified by correct guesses in one training of dependent samples.

    Steinke, Nasr and Jagielski 2023 (arXiv:2305.08846), Corollary 5.4. An independent fair coin inserted each
    of the n samples into the training or left it out. The attack guesses the highest scores as inserted and
    the lowest as left out, half of the guesses each; an odd number has one more inserted. Ties are broken at
    random, since the order in the array may be informative. The result is an epsilon whose `one_run_p_value`
    is just below 1 - confidence.

    Args:
        scores: float (n,), higher for inserted samples; they may depend on the coins only through the
            network.
        inserted: bool (n,), the coins.
        delta: as in `epsilon_lower_bound`.
        guesses: in [1, n], fixed before the scores are seen; by default half of the samples, 2 * (n // 4).
        confidence: in (0, 1).
        seed: seed of the order of equal scores.

    Raises:
        InputError: errors of `check_scores`; delta, confidence or guesses out of range; unfair coins.
    """
    alpha = checked_coins(scores, inserted, delta, confidence)

    def proved(samples: int, made: int, right: int) -> float:
        return _one_run_epsilon(samples, made, right, delta, alpha)

    return by_guesses(scores, inserted, proved, "one_run", guesses=guesses, confidence=confidence, seed=seed)


def by_guesses(
    scores: Scores,
    inserted: Members,
    proved: Callable[[int, int, int], float],
    rule: Rule,
    *,
    guesses: int | None,
    confidence: float,
    seed: int,
) -> Certified:
    """Return what the right guesses of the highest and lowest scores prove, and what perfect ones would.

    Args:
        scores: float (n,), higher for inserted samples.
        inserted: bool (n,), the coins, checked before.
        proved: epsilon proved by (samples, guesses, right guesses).
        rule: name of the bound.
        guesses: in [1, n]; by default half of the samples, 2 * (n // 4).
        confidence: of the bound.
        seed: seed of the order of equal scores.

    Raises:
        InputError: guesses out of range.
    """
    samples = len(scores)
    guesses = 2 * (samples // 4) if guesses is None else guesses
    if not 1 <= guesses <= samples:
        raise InputError(f"guesses must lie in [1, {samples}], got {guesses}; half of the samples is usual")
    order = ranked(scores, seed)
    high, low = order[: guesses - guesses // 2], order[samples - guesses // 2 :]
    right = int(np.count_nonzero(inserted[high]) + np.count_nonzero(~inserted[low]))
    guessed = inserted[np.concatenate([high, low])]
    return Certified(
        epsilon=proved(samples, guesses, right),
        attainable=proved(samples, guesses, guesses),
        confidence=confidence,
        members=int(np.count_nonzero(guessed)),
        nonmembers=int(np.count_nonzero(~guessed)),
        rule=rule,
        threshold=float(scores[high[-1]]),
    )


def one_run_p_value(samples: int, guesses: int, right: int, *, epsilon: float, delta: float) -> float:
    """Bound the probability of at least this many correct guesses under (epsilon, delta)-privacy.

    Corollary 5.4 of Steinke, Nasr and Jagielski 2023. Without delta, a guess is correct with probability at
    most q = e^epsilon / (1 + e^epsilon), that of randomised response, whatever the others, and the number of
    correct guesses is at most W ~ Binomial(guesses, q). Delta adds failures, 2 delta samples on average; if i
    of them supply the deficit of W, the worst case is the i of highest P[right - i <= W < right] / i.
    """
    if right == 0:
        return 1.0
    chance = 1 / (1 + math.exp(-epsilon))
    p_value = float(stats.binom.sf(right - 1, guesses, chance))
    if delta > 0:
        lacking = np.arange(1, right + 1)
        short = np.cumsum(stats.binom.pmf(right - lacking, guesses, chance))
        p_value += 2 * samples * delta * float(np.max(short / lacking))
    return min(1.0, p_value)


def _one_run_epsilon(samples: int, guesses: int, right: int, delta: float, alpha: float) -> float:
    """Return an epsilon rejected at alpha, next to one that is not; 0 if 0 is not rejected.

    Any rejected epsilon is a valid bound: a training with a smaller epsilon also satisfies that one.
    """

    def rejected(epsilon: float) -> bool:
        return one_run_p_value(samples, guesses, right, epsilon=epsilon, delta=delta) < alpha

    if not rejected(0):
        return 0.0
    low, high = 0.0, 1.0
    while rejected(high):
        low, high = high, 2 * high
    while high - low > 1e-9:
        middle = (low + high) / 2
        low, high = (middle, high) if rejected(middle) else (low, middle)
    return low


def _divided(places: Counts, values: int, generator: np.random.Generator) -> tuple[Counts, Counts]:
    """Return counts of choosing and certifying samples per value, both (DIVISIONS, values)."""
    orders = generator.permuted(np.tile(places, (DIVISIONS, 1)), axis=1)
    first = orders[:, : max(1, len(places) // CHOOSING)]
    cells = first + values * np.arange(DIVISIONS)[:, None]
    choosing = np.bincount(cells.ravel(), minlength=DIVISIONS * values).reshape(DIVISIONS, values)
    return choosing, np.bincount(places, minlength=values) - choosing


def _rule_bounds(member_counts: Counts, nonmember_counts: Counts, delta: float, tail: float) -> Values:
    """Return the lower bound on epsilon of each division, rule and threshold, (divisions, rules, values).

    Args:
        member_counts: (divisions, values) members of each value, the highest value first; the same total in
            each division.
        nonmember_counts: (divisions, values) non-members.
        delta: delta of the tested privacy.
        tail: level of each rate's bound.
    """
    members, nonmembers = int(member_counts[0].sum()), int(nonmember_counts[0].sum())
    above, alarms = member_counts.cumsum(axis=1), nonmember_counts.cumsum(axis=1)
    # A threshold's own samples are called by either rule.
    below, missed = nonmembers - alarms + nonmember_counts, members - above + member_counts
    bounds = [
        _log_ratio(above, members, alarms, nonmembers, delta, tail),
        _log_ratio(below, nonmembers, missed, members, delta, tail),
    ]
    return np.stack(bounds, axis=1)


def _log_ratio(
    hits: Counts, hit_trials: int, alarms: Counts, alarm_trials: int, delta: float, tail: float
) -> Values:
    """Return log((rate - delta) / other rate), each at its bound; -inf if delta exceeds the rate."""
    # Of every possible count once, for there are far more divisions and thresholds.
    hit_rates = _low(np.arange(hit_trials + 1), hit_trials, tail) - delta
    alarm_rates = _high(np.arange(alarm_trials + 1), alarm_trials, tail)
    with np.errstate(divide="ignore"):
        logs = np.log(np.maximum(hit_rates, 0))
    return np.asarray(logs[hits] - np.log(alarm_rates)[alarms])


def _low(successes: Counts, trials: int, level: float) -> Values:
    # With no success the first parameter would be 0, which is no beta distribution.
    bounds = stats.beta.ppf(level, np.maximum(successes, 1), trials - successes + 1)
    return np.where(successes == 0, 0.0, bounds)


def _high(successes: Counts, trials: int, level: float) -> Values:
    return 1 - _low(trials - successes, trials, level)


def _tail(delta: float, confidence: float) -> float:
    """Return the level of each rate's bound: halved for the median, and again for two rates at once."""
    return _alpha(delta, confidence) / 4


def _alpha(delta: float, confidence: float) -> float:
    """Return 1 - confidence, or raise InputError when it or delta is out of range."""
    if not 0 <= delta < 1:
        raise InputError(f"delta must lie in [0, 1), got {delta}; 1e-5 is usual, 0 is pure privacy")
    if not 0 < confidence < 1:
        raise InputError(f"confidence must lie between 0 and 1, got {confidence}; 0.95 is usual")
    return 1 - confidence


def ranked(scores: Scores, seed: int) -> NDArray[np.int64]:
    """Return the positions of scores, highest first, equal ones in random order."""
    ties = np.random.default_rng(seed).permutation(len(scores))
    return np.lexsort((ties, -scores.astype(np.float64)))


def checked_coins(scores: Scores, inserted: Members, delta: float, confidence: float) -> float:
    """Return 1 - confidence; raise InputError for arguments on which no bound of one run can be based."""
    check_scores(scores, inserted)
    alpha = _alpha(delta, confidence)
    heads = int(np.count_nonzero(inserted))
    if stats.binomtest(heads, len(inserted)).pvalue < UNFAIR:
        raise InputError(
            f"each canary must be inserted by a fair coin, got {heads} of {len(inserted)}; use "
            "epsilon_lower_bound, which needs no coin"
        )
    return alpha
