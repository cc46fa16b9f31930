"""Rows of the page's tables that take more than one part of a report."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from seg_mia.report.verdicts import refuted
from seg_mia.results.audit import Victim
from seg_mia.results.membership import MembershipResult
from seg_mia.results.privacy import CanaryResult, DPGuarantee
from seg_mia.results.report import Level, Report
from seg_mia.results.text import promised

SHOWN = 60
"""Characters of a setting that still stands in a table's cell."""


class Compared(NamedTuple):
    """One victim in the comparison, with the results of each attack that several victims met."""

    victim: Victim
    guessed: list[MembershipResult | None]


class Asked(NamedTuple):
    """What the canaries in one victim's training prove, with a word on its promise."""

    victim: Victim
    canaries: CanaryResult
    level: Level
    word: str


def canaries(report: Report) -> list[Asked]:
    """Return the victims that were trained with canaries."""
    return [
        Asked(victim, victim.canaries, *_held(victim, victim.canaries.privacy))
        for victim in sorted(report.victims, key=lambda one: (one.round, one.row))
        if victim.canaries is not None
    ]


def _held(victim: Victim, promise: DPGuarantee | None) -> tuple[Level, str]:
    """Return what becomes of a promise; that no canary refutes it is no proof that it holds."""
    if promise is None:
        return "none", "No promise"
    if promise.epsilon is None:
        return "none", "Infinite"
    return ("none", "Not refuted") if refuted(victim, ()) is None else ("bad", "Broken")


def headers(report: Report) -> list[str]:
    """Return the labels of the membership attacks that are compared, in order."""
    labels = dict.fromkeys(one.label for one in report.membership if one.role == "attack")
    rows = {label: {one.row for one in report.membership if one.label == label} for label in labels}
    return [label for label in labels if len(rows[label]) > 1]


def compared(report: Report) -> list[Compared]:
    """Return the rows of the comparison; none where there is one victim alone."""
    if len(report.verdicts) < 2:
        return []
    by_place = {(one.key, one.label): one for one in report.membership}
    order = sorted(report.victims, key=lambda victim: (victim.round, victim.row))
    return [
        Compared(victim, [by_place.get((victim.key, label)) for label in headers(report)]) for victim in order
    ]


def facts(report: Report) -> list[tuple[str, str]]:
    """Return what was attacked, a name and a value each: from the first victim's card, else from results."""
    victim = min(report.victims, key=lambda one: (one.round, one.row), default=None)
    if victim is None:
        return []
    found = [("Victim", victim.victim), *_of_card(victim.about), *_of_results(report, victim)]
    if victim.privacy is not None:
        found.append(("Differential privacy", promised(victim.privacy)))
    known = dict[str, str]()
    for name, value in found:
        known.setdefault(name, value)
    return list(known.items())


def flattened(value: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield nested plain values by their dotted names."""
    if isinstance(value, Mapping) and value:
        for name, item in value.items():
            yield from flattened(item, prefix if name == "init_args" else f"{prefix}.{name}".lstrip("."))
    elif isinstance(value, list) and any(isinstance(item, Mapping | list) for item in value):
        for number, item in enumerate(value, start=1):
            yield from flattened(item, f"{prefix}.{number}")
    else:
        yield prefix, said(value)


def said(value: Any) -> str:
    """Return a plain value as people write it."""
    match value:
        case None | [] | {}:
            return "none"
        case True | False:
            return "yes" if value else "no"
        case float():
            return f"{value:.6g}"
        case list():
            return ", ".join(said(item) for item in value)
        case _:
            return str(value)


def _of_card(about: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, name in (("network", "Network"), ("data", "Data")):
        if key in about:
            yield name, _component(about[key])
    split = about.get("split")
    if isinstance(split, Mapping):
        yield "Split", _split(split)
    for key, name in (("classes", "Classes"), ("channels", "Channels")):
        if key in about:
            yield name, said(about[key])
    if about.get("defences"):
        yield "Defences in training", said(about["defences"])
    if isinstance(about.get("fingerprint"), str):
        yield "Data fingerprint", about["fingerprint"][:12]


def _component(value: Any) -> str:
    """Return a class with the settings that say most, on one line."""
    if not isinstance(value, Mapping):
        return said(value)
    name = str(value.get("class_path", "")).rpartition(".")[2]
    arguments = value.get("init_args", {key: item for key, item in value.items() if key != "class_path"})
    plain = dict(flattened(arguments)) if isinstance(arguments, Mapping) else {}
    telling = ("architecture", "encoder", "size", "depth", "norm", "root", "plane", "organ")
    parts = [f"{key} {plain[key]}"[:SHOWN] for key in telling if plain.get(key, "none") != "none"]
    return ", ".join([name, *parts]) if name else ", ".join(parts) or said(dict(plain))


def _split(split: Mapping[str, Any]) -> str:
    """Return the sizes of a split's parts; lists of samples are counted, never shown."""
    parts = []
    for key, name in (("members", "members"), ("nonmembers", "non-members"), ("reference", "reference")):
        count = split.get(key)
        count = len(count) if isinstance(count, list | Mapping) else count
        if isinstance(count, int):
            parts.append(f"{count} {name}")
    if isinstance(groups := split.get("groups"), int):
        parts.append(f"{groups} groups")
    if isinstance(seed := split.get("split_seed"), int):
        parts.append(f"split seed {seed}")
    return ", ".join(parts) or "not recorded"


def _of_results(report: Report, victim: Victim) -> Iterator[tuple[str, str]]:
    """Yield what attacks say where a card is not at hand, and how well the victim segments."""
    guessed = next((one for one in report.membership if one.key == victim.key), None)
    if guessed is not None:
        measures = guessed.results
        patients = "" if guessed.group_count is None else f", from {guessed.group_count} patients"
        yield "Scored", f"{measures.members} members, {measures.nonmembers} non-members{patients}"
        yield "Data fingerprint", guessed.data.fingerprint[:12]
    inside, outside = victim.dice("members"), victim.dice("nonmembers")
    if outside is not None:
        gap = "" if victim.gap is None else f", gap {victim.gap:+.3f}".replace("-", "\u2212")
        other = "" if inside is None else f"; {inside:.3f} on members"
        yield "Dice", f"{outside:.3f} on non-members{other}{gap}"
        return
    fooled = next((one for one in report.perturbations if one.key == victim.key), None)
    if fooled is not None and fooled.mean("dice_clean") is not None:
        subset = {"nonmembers": "non-members"}.get(fooled.data.subset, fooled.data.subset)
        yield "Dice", f"{fooled.mean('dice_clean'):.3f} on {fooled.images} {subset}, before any attack"
