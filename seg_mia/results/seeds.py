"""Summaries of attacks over several seeds."""

import json
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev

from seg_mia.results.audit import AttackResult
from seg_mia.results.membership import MembershipResult
from seg_mia.results.report import SeedSpread


def spread_over_seeds(results: Sequence[AttackResult]) -> list[SeedSpread]:
    """Return mean and standard deviation of each attack run for several seeds."""
    groups: dict[str, list[tuple[AttackResult, float]]] = {}
    for result in results:
        measures, value = _number(result)
        if value is not None:
            parts = [result.row, result.name, measures, _settings(result.attack)]
            key = json.dumps(parts, sort_keys=True, default=str)
            groups.setdefault(key, []).append((result, value))
    return [_summed(group) for group in groups.values() if len({result.round for result, _ in group}) > 1]


def spread_in_words(spread: SeedSpread) -> str:
    """Return one line."""
    victim = f" on {spread.defence}" if spread.row else ""
    return (
        f"{spread.label}{victim}: {spread.measures} {spread.mean:.3f} +- {spread.std:.3f} over "
        f"{len(spread.values)} seeds"
    )


def _summed(group: Sequence[tuple[AttackResult, float]]) -> SeedSpread:
    first, values = group[0][0], [value for _, value in group]
    return SeedSpread(
        row=first.row,
        defence=first.defence,
        label=first.label,
        measures=_number(first)[0],
        mean=fmean(values),
        std=stdev(values),
        values=values,
    )


def _number(result: AttackResult) -> tuple[str, float | None]:
    """Return the summary number of an attack, with its name."""
    if isinstance(result, MembershipResult):
        return "AUC", result.auc.value
    if result.is_targeted and "iou" in result.results:
        return "IoU with the target", result.mean("iou")
    return "Dice to the truth", result.mean("dice_adversarial")


def _settings(attack: Mapping[str, object]) -> dict[str, object]:
    """Return an attack's settings except its surrogate, which is each seed's own shadow."""
    arguments = attack.get("init_args")
    plain = arguments if isinstance(arguments, Mapping) else {}
    return {**attack, "init_args": {name: value for name, value in plain.items() if name != "surrogate"}}
