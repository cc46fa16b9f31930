"""Joint leakage test of an audit's membership attacks, row by row."""

import math
from collections.abc import Sequence

from seg_mia.membership.compare import Scored, read_scores
from seg_mia.membership.leakage import KINDS, leak_test
from seg_mia.results.leaks import LeakNumber, LeakResult
from seg_mia.results.membership import MembershipResult

CONFIDENCE = 0.95
"""Least probability of no claim for a row without leakage."""

PERMUTATIONS = 9999
"""Number of label permutations; more for very many attacks."""


def leaks(results: Sequence[MembershipResult]) -> list[LeakResult]:
    """Test all attacks on each row's victims jointly over all seeds; rows without an attack are omitted.

    Baselines and controls, which do not query the victim, are excluded.

    Args:
        results: results of the audit's membership attacks; the scores lie in their folders.
    """
    by_row: dict[int, list[MembershipResult]] = {}
    for result in results:
        if result.role == "attack":
            by_row.setdefault(result.row, []).append(result)
    return [_tested(row, attacks) for row, attacks in sorted(by_row.items())]


def _tested(row: int, results: Sequence[MembershipResult]) -> LeakResult:
    """Return one row's test; seeds with different splits are tested separately and share the error level."""
    parts = _of_one_split([(result, read_scores(result.folder)) for result in results])
    level = 1 - (1 - CONFIDENCE) / len(parts)
    numbers, tests = list[LeakNumber](), []
    for part in parts:
        attacks = [scored for _, scored in part]
        permutations = max(PERMUTATIONS, math.ceil(10 * len(KINDS) * len(attacks) / (1 - level)))
        test = leak_test(attacks, permutations=permutations, confidence=level)
        tests.append(test)
        numbers += [
            LeakNumber(
                label=part[number.attack][0].label,
                seed=part[number.attack][0].seed,
                kind=number.kind,
                value=number.value,
                low=number.low,
                high=number.high,
                p_value=number.p_value,
                adjusted=min(1.0, number.adjusted * len(parts)),
            )
            for number in test.tested
        ]
    smallest = min(tests, key=lambda test: min(test.members, test.nonmembers))
    return LeakResult(
        row=row,
        confidence=CONFIDENCE,
        grouped=any(test.grouped for test in tests),
        members=smallest.members,
        nonmembers=smallest.nonmembers,
        permutations=smallest.permutations,
        detectable=smallest.detectable,
        tested=numbers,
    )


def _of_one_split(
    scored: Sequence[tuple[MembershipResult, Scored]],
) -> list[list[tuple[MembershipResult, Scored]]]:
    """Return groups of attacks with the same member and non-member groups."""
    parts: list[tuple[dict[str, bool], list[tuple[MembershipResult, Scored]]]] = []
    for result, scores in scored:
        sides = dict(zip(scores.groups.tolist(), scores.members.tolist(), strict=True))
        for known, part in parts:
            if all(known.get(group, side) == side for group, side in sides.items()):
                known.update(sides)
                part.append((result, scores))
                break
        else:
            parts.append((sides, [(result, scores)]))
    return [part for _, part in parts]
