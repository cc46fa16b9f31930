"""How often a report's rules claim leakage where there is none, and what they say of a leak, by simulation.

python benchmarks/statement_rules.py

Each world is an audit of one victim by a dozen membership attacks. Attacks share half of the variance of
their scores, as attacks on one network do; patients share 60 % of the variance of their samples. First, none
leaks; then one attack has an AUC of 0.6 over the units that are judged; last it has the AUC that the report
says it would find with a chance of 80 %. The answer to "are training patients told from others?" is that of
the report's own rules.
"""

import argparse
import math
from collections import Counter
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from seg_mia.membership import leakage
from seg_mia.membership.compare import Scored
from seg_mia.membership.intervals import auc_bounds
from seg_mia.membership.roc import auc, pooled
from seg_mia.report.rules.statements import Row, average
from seg_mia.results.base import Measure
from seg_mia.results.leaks import LeakNumber, LeakResult
from seg_mia.results.membership import MembershipMeasures, MembershipResult

ATTACKS = 12
ACROSS, WITHIN = 0.5, 0.6
"""Share of the variance that attacks have in common, and that samples of a patient have in common."""


class Shape(NamedTuple):
    """Sizes of an audit: images of either side, and images of a patient."""

    name: str
    members: int
    nonmembers: int
    per_patient: int


SHAPES = (
    Shape("Kvasir-SEG", 300, 200, 1),
    Shape("ACDC, 15 + 15 patients", 150, 150, 10),
)


def world(rng: np.random.Generator, shape: Shape, area: float) -> list[Scored]:
    """Return the scores of all attacks; the first attack's have the AUC `area` over patients."""
    members = np.arange(shape.members + shape.nonmembers) < shape.members
    names = np.char.mod("p%05d", np.arange(len(members)) // shape.per_patient)
    ids = np.char.mod("i%05d", np.arange(len(members)))
    common = _scores(rng, len(members), shape.per_patient)
    # Over patients a score is the mean of its images, whose variance is smaller than that of one image.
    spread = math.sqrt(WITHIN + (1 - WITHIN) / shape.per_patient) if shape.per_patient > 1 else 1.0
    shift = math.sqrt(2) * NormalDist().inv_cdf(area) * spread
    attacks = []
    for number in range(ATTACKS):
        own = _scores(rng, len(members), shape.per_patient)
        scores = math.sqrt(ACROSS) * common + math.sqrt(1 - ACROSS) * own + shift * members * (number == 0)
        attacks.append(Scored(ids, names, members, scores))
    return attacks


def _scores(rng: np.random.Generator, count: int, per_patient: int) -> NDArray[np.float64]:
    of_sample = rng.normal(size=count)
    if per_patient == 1:
        return of_sample
    of_patient = np.repeat(rng.normal(size=-(-count // per_patient)), per_patient)[:count]
    return math.sqrt(WITHIN) * of_patient + math.sqrt(1 - WITHIN) * of_sample


def answer(attacks: list[Scored], permutations: int, seed: int) -> tuple[str, float | None]:
    """Return the rule that answers, and the AUC that the test says it would find."""
    test = leakage.leak_test(attacks, permutations=permutations, seed=seed)
    numbers = [
        LeakNumber(
            label=f"attack {number.attack}",
            seed=0,
            kind=number.kind,
            value=number.value,
            low=number.low,
            high=number.high,
            p_value=number.p_value,
            adjusted=number.adjusted,
        )
        for number in test.tested
    ]
    tested = LeakResult(
        row=0,
        confidence=test.confidence,
        grouped=test.grouped,
        members=test.members,
        nonmembers=test.nonmembers,
        permutations=test.permutations,
        detectable=test.detectable,
        tested=numbers,
    )
    results = [_result(number, scored, grouped=test.grouped) for number, scored in enumerate(attacks)]
    return average(Row(0, "none", ""), results, tested, []).rule, test.detectable


def _result(number: int, scored: Scored, *, grouped: bool) -> MembershipResult:
    """Return an attack's result with nothing but what the rules read."""
    images = _measures(scored.scores, scored.members, scored.groups)
    groups = None
    if grouped:
        scores, members, names = pooled(scored.scores, scored.members, scored.groups)
        groups = _measures(scores, members, np.array(names))
    return MembershipResult.model_construct(
        seed=0,
        round=0,
        row=0,
        defence="none",
        name=f"attack {number}",
        label=f"attack {number}",
        blind=False,
        control=False,
        results=images,
        groups=groups,
    )


def _measures(
    scores: NDArray[np.float64], members: NDArray[np.bool_], groups: NDArray[np.str_]
) -> MembershipMeasures:
    low, high = auc_bounds(scores, members, groups)
    return MembershipMeasures.model_construct(auc=Measure(auc(scores, members), low, high))


def answers(shape: Shape, area: float, worlds: int, permutations: int) -> tuple[Counter[str], float | None]:
    """Return how often each rule answers, and the AUC that the first world's test would find.

    That AUC follows from the numbers of patients and the level of the test, which hardly differ between
    worlds; it takes most of the time, and is simulated once.
    """
    simulated = leakage.detectable_auc
    known: list[float | None] = []

    def once(labels: leakage.Labels, *, level: float, power: float = 0.8, seed: int = 0) -> float | None:
        if not known:
            known.append(simulated(labels, level=level, power=power, seed=seed))
        return known[0]

    leakage.detectable_auc = once
    try:
        counts: Counter[str] = Counter()
        for seed in range(worlds):
            attacks = world(np.random.default_rng([seed, *shape[1:]]), shape, area)
            counts[answer(attacks, permutations, seed)[0]] += 1
    finally:
        leakage.detectable_auc = simulated
    return counts, known[0]


def main() -> None:
    """Simulate and print."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--worlds", type=int, default=500, help="without a leak")
    parser.add_argument("--leaking", type=int, default=200, help="with one")
    parser.add_argument("--permutations", type=int, default=799)
    given = parser.parse_args()
    print(f"{ATTACKS} attacks, {given.permutations} permutations; A2 is evidence of leakage, A6 resistance")
    for shape in SHAPES:
        counts, detectable = answers(shape, 0.5, given.worlds, given.permutations)
        print(f"{shape.name}: would find {detectable}; AUC 0.5: {_shares(counts)}", flush=True)
        for area in (0.6, *([] if detectable is None else [detectable])):
            counts, _ = answers(shape, area, given.leaking, given.permutations)
            print(f"{shape.name}: AUC {area:.3f}: {_shares(counts)}", flush=True)


def _shares(counts: Counter[str]) -> str:
    total = sum(counts.values())
    return ", ".join(f"{rule} {count / total:.3f}" for rule, count in sorted(counts.items()))


if __name__ == "__main__":
    main()
