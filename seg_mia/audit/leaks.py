"""What the membership attacks of an audit show together, row by row."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from seg_mia.membership.compare import Scored, read_scores
from seg_mia.membership.leakage import KINDS, leak_test
from seg_mia.results.text import blind

CONFIDENCE = 0.95
"""The least chance that no leak is claimed of a row where there is none."""

PERMUTATIONS = 9999
"""How often who is a member is dealt out anew, more often for very many attacks."""
SHARED = ("members", "nonmembers", "permutations", "detectable")
"""What is told of the smallest of several splits."""

Result = Mapping[str, Any]


def leaks(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Return the test of all attacks on each row's victims, over all seeds; none of rows without an attack.

    Baselines and controls, which do not ask the victim, are no part of it.

    Args:
        results: of the audit's attacks, each with its row, label, seed and the folder of its scores.
    """
    attacks = [one for one in results if "auc" in one["results"] and not one["control"] and not blind(one)]
    by_row: dict[int, list[Result]] = {}
    for one in attacks:
        by_row.setdefault(one["row"], []).append(one)
    return [{"row": row, **_tested(own)} for row, own in sorted(by_row.items())]


def _tested(results: Sequence[Result]) -> dict[str, Any]:
    """Return one row's test; seeds whose splits differ are tested apart, and share the chance of error."""
    parts = _of_one_split([(result, read_scores(result["folder"])) for result in results])
    level = 1 - (1 - CONFIDENCE) / len(parts)
    numbers, tests = [], []
    for part in parts:
        attacks = [scored for _, scored in part]
        dealt = max(PERMUTATIONS, math.ceil(10 * len(KINDS) * len(attacks) / (1 - level)))
        test = leak_test(attacks, permutations=dealt, confidence=level)
        tests.append(test)
        for one in test.tested:
            result, plain = part[one.attack][0], asdict(one)
            plain.pop("attack")
            plain["adjusted"] = min(1.0, one.adjusted * len(parts))
            numbers.append({"label": result["label"], "seed": result["seed"]} | plain)
    weakest = min(tests, key=lambda test: min(test.members, test.nonmembers))
    shared = {name: getattr(weakest, name) for name in SHARED}
    grouped = any(test.grouped for test in tests)
    return {"confidence": CONFIDENCE, "grouped": grouped, **shared, "tested": numbers}


def _of_one_split(scored: Sequence[tuple[Result, Scored]]) -> list[list[tuple[Result, Scored]]]:
    """Return attacks together whose groups lie on the same sides."""
    parts: list[tuple[dict[str, bool], list[tuple[Result, Scored]]]] = []
    for result, own in scored:
        sides = dict(zip(own.groups.tolist(), own.members.tolist(), strict=True))
        for known, part in parts:
            if all(known.get(group, side) == side for group, side in sides.items()):
                known.update(sides)
                part.append((result, own))
                break
        else:
            parts.append((sides, [(result, own)]))
    return [part for _, part in parts]
