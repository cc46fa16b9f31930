"""From an audit's plain values to what a report says; fields that an older audit lacks are left out."""

import json
import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from seg_mia.errors import InputError
from seg_mia.membership.tradeoff import Permitted, of_points
from seg_mia.report.read import FILE, Source
from seg_mia.results.leaks import LeakNumber, LeakTested
from seg_mia.results.model import (
    Average,
    Canaries,
    Fooled,
    Guessed,
    Kind,
    Measure,
    Place,
    Promise,
    Proved,
    Stage,
    Success,
    Victim,
)
from seg_mia.results.text import BOUNDS

RATES = ("0.1", "0.01", "0.001")
Plain = Mapping[str, Any]
Made = TypeVar("Made")
Attacked = TypeVar("Attacked", Guessed, Fooled)


def membership(source: Source) -> list[Guessed]:
    """Return the results of membership attacks; raise InputError for what no attack writes."""
    return _labelled([_checked(source, entry, _guessed) for entry in _entries(source) if _guesses(entry)])


def perturbations(source: Source) -> list[Fooled]:
    """Return the results of the other attacks; raise InputError for what no attack writes."""
    return _labelled([_checked(source, entry, _fooled) for entry in _entries(source) if not _guesses(entry)])


def victims(source: Source) -> list[Victim]:
    """Return the attacked networks: one per row and seed, from the attacks alone where none was compared."""
    rows = [row for row in source.content.get("defences") or [] if isinstance(row, Mapping)]
    if rows:
        return [_checked(source, row, _victim) for row in rows]
    first: dict[tuple[int, int], Plain] = {}
    for entry in _entries(source):
        first.setdefault((entry.get("round", 0), entry.get("row", 0)), entry)
    return [_checked(source, entry, _unlisted) for entry in first.values()]


def leaks(source: Source) -> list[LeakTested]:
    """Return the test of all membership attacks on each row's victims."""
    listed = [entry for entry in source.content.get("leaks") or [] if isinstance(entry, Mapping)]
    return [_checked(source, entry, _leak) for entry in listed]


def _leak(source: Source, entry: Plain) -> LeakTested:  # noqa: ARG001 - as `_checked` calls all of them
    return LeakTested(
        row=int(entry["row"]),
        confidence=float(entry["confidence"]),
        members=int(entry["members"]),
        nonmembers=int(entry["nonmembers"]),
        grouped=entry["grouped"] is True,
        permutations=int(entry["permutations"]),
        detectable=number(entry["detectable"]),
        numbers=[
            LeakNumber(str(one["label"]), int(one["seed"]), str(one["kind"]), *_ends_of(one))
            for one in entry["tested"]
        ],
    )


def _ends_of(one: Plain) -> tuple[float, float, float, float]:
    return float(one["value"]), float(one["low"]), float(one["p_value"]), float(one["adjusted"])


def stages(source: Source) -> list[Stage]:
    """Return what was run, in order."""
    listed = [entry for entry in source.content.get("stages") or [] if isinstance(entry, Mapping)]
    return [
        Stage(
            what=str(entry.get("what", "")),
            command=_text(entry.get("command")),
            seconds=number(entry.get("seconds")),
            kept=entry.get("kept") is True,
            folder=source.shown(entry["folder"]) if isinstance(entry.get("folder"), str) else None,
        )
        for entry in listed
    ]


def number(value: Any) -> float | None:
    """Return a finite number, None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def plain(value: Any) -> Any:
    """Return plain values without NaN and infinity, which JSON does not know."""
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _entries(source: Source) -> list[Plain]:
    listed = source.content["attacks"]
    for entry in listed:
        if not isinstance(entry, Mapping) or not isinstance(entry.get("results"), Mapping):
            raise InputError(f"{source.folder / FILE} lists an attack without results; run the audit again")
    first = {str(entry.get("name")) for entry in listed if not entry.get("row")}
    return [{**entry, "name": _as_first(str(entry.get("name")), first)} for entry in listed]


def _as_first(name: str, first: Collection[str]) -> str:
    """Return what the first victim's attack is called: behind a release a folder also names that."""
    alike = [one for one in first if name.startswith(f"{one}-")]
    return name if name in first or not alike else max(alike, key=len)


def _guesses(entry: Plain) -> bool:
    return "auc" in entry["results"]


def _checked(source: Source, entry: Plain, make: Callable[[Source, Plain], Made]) -> Made:
    """Return what `make` makes of an entry, or raise InputError with what it lacks."""
    try:
        return make(source, entry)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        name = str(entry.get("name", entry.get("defence", "a row")))[:60]
        raise InputError(
            f"{source.folder / FILE} does not say what an audit writes of {name!r} "
            f"({type(error).__name__}: {str(error)[:80]}); run the audit again"
        ) from None


def _place(entry: Plain) -> Place:
    return Place(
        int(entry.get("seed", 0)), int(entry.get("round", 0)), int(entry.get("row", 0)), str(entry["defence"])
    )


def _guessed(source: Source, entry: Plain) -> Guessed:
    results, pooled = entry["results"], entry.get("groups")
    data = entry.get("data") or {}
    settings = entry["attack"]
    return Guessed(
        place=_place(entry),
        name=str(entry["name"]),
        label=str(entry.get("label") or ""),
        kind=_kind(entry),
        sees=str(entry["sees"]),
        folder=str(entry["folder"]),
        members=int(results["members"]),
        nonmembers=int(results["nonmembers"]),
        auc=measure(results["auc"]),
        balanced_accuracy=measure(results["balanced_accuracy"]),
        rates=_rates(results),
        group_count=int(pooled["groups"]) if pooled else None,
        group_sides=(int(pooled["members"]), int(pooled["nonmembers"])) if pooled else None,
        pooled=measure(pooled["auc"]) if pooled else None,
        pooled_rates=_rates(pooled) if pooled else {},
        proved=_proved(entry.get("certified")),
        difference=_difference(source, str(entry["folder"])),
        same_seed=entry.get("same_seed") is True,
        limit=data.get("limit") if isinstance(data.get("limit"), int) else None,
        left_out=_left_out(data),
        notes=tuple(map(str, data.get("notes") or ())),
        fingerprint=_text(data.get("fingerprint")),
        settings=plain(source.told(settings)),
    )


def _left_out(data: Plain) -> dict[str, int]:
    """Return how many of the victim's samples are not scored, by the reason; nothing of an older audit."""
    found = (data.get("left_out") or {}).get("victim") or {}
    return {str(name): int(count) for name, count in found.items() if int(count) > 0}


def measure(value: Plain) -> Measure:
    """Return a number with its interval."""
    return _measure(value, "value", resolvable=value.get("resolvable", True) is not False)


def _measure(value: Plain, name: str, *, resolvable: bool = True) -> Measure:
    return Measure(
        number(value.get(name)), number(value.get("low")), number(value.get("high")), resolvable=resolvable
    )


def _rates(results: Plain) -> dict[str, Measure]:
    return {fpr: measure(results[f"tpr_at_fpr_{fpr}"]) for fpr in RATES if f"tpr_at_fpr_{fpr}" in results}


def _kind(entry: Plain) -> Kind:
    arguments = entry["attack"].get("init_args") or {}
    signal = arguments.get("signal") or {}
    if str(signal.get("class_path", "")).rpartition(".")[2] == "ImageAndMask":
        return "blind"
    return "control" if entry.get("control") else "attack"


def _proved(certified: Plain | None) -> Proved | None:
    return _bound(certified) if certified else None


def _bound(certified: Plain) -> Proved:
    values = {name: number(certified.get(name)) for name in ("epsilon", "most", "confidence", "delta")}
    return Proved(unit=_text(certified.get("unit")), **values)


def _difference(source: Source, folder: str) -> Measure | None:
    """Return what the comparison says of an attack's result: its AUC minus that on the first victim."""
    for row in source.content.get("defences") or []:
        for attack in row.get("attacks") or []:
            if attack.get("folder") == folder and attack.get("difference"):
                return measure(attack["difference"])
    return None


def _fooled(source: Source, entry: Plain) -> Fooled:
    data = entry.get("data") or {}
    return Fooled(
        place=_place(entry),
        name=str(entry["name"]),
        label=str(entry.get("label") or ""),
        sees=str(entry["sees"]),
        folder=str(entry["folder"]),
        asks=entry.get("asks", True) is not False,
        subset=_text(data.get("subset")),
        images=int(entry["images"]),
        units=int(entry["units"]),
        unchanged=int(entry.get("unchanged") or 0),
        results={str(name): _average(value) for name, value in entry["results"].items()},
        success=[_success(row) for row in entry.get("success") or []],
        strengths=[
            {str(name): number(value) for name, value in row.items()} for row in entry.get("strengths") or []
        ],
        settings=plain(source.told(entry["attack"])),
        no_gradient=int(entry.get("no_gradient") or 0),
    )


def _average(value: Plain) -> Average:
    return Average(*(number(value.get(name)) for name in ("mean", "std", "min", "median", "max")))


def _success(row: Plain) -> Success:
    counts = {
        name: int(row.get(name) or 0)
        for name in ("images", "skipped", "clean_success", "no_gradient", "counted", "successes")
    }
    return Success(
        asked=str(row["asked"]),
        loss=str(row["loss"]),
        rate=_measure(row, "rate"),
        steps=number(row.get("distortion")),
        mean_iou=number(row.get("mean_iou")),
        transferred=number(row.get("transferred")),
        **counts,
    )


def _victim(source: Source, row: Plain) -> Victim:
    utility = row.get("utility") or {}
    return Victim(
        place=_place(row),
        run=source.shown(str(row["victim"])),
        shadow=_text(row.get("shadow")),
        utility={
            str(subset): {str(name): number(value) for name, value in measures.items()}
            for subset, measures in utility.items()
        },
        promise=_promise(row.get("privacy")),
        about=plain(source.told(row.get("about") or {})),
        canaries=_canaries(row["canaries"]) if row.get("canaries") else None,
    )


def _canaries(found: Plain) -> Canaries:
    # Each is the only image of its patient in the training: what they prove is of either unit.
    told = {"delta": found.get("delta"), "unit": None}
    return Canaries(
        inserted=int(found["inserted"]),
        left_out=int(found["left_out"]),
        auc=number(found.get("auc")),
        certified=_bound(found["certified"] | told),
        one_run=_bound(found["one_run"] | told),
        promise=_promise(found.get("privacy"), permits=False),  # what is asked of it is whether it is kept
    )


def _unlisted(source: Source, entry: Plain) -> Victim:
    """Return what an attack says of its victim, in an audit that compared none."""
    shadow = "undefended" if entry.get("shadow") else None
    run = source.shown(str(entry["victim_run"]))
    return Victim(_place(entry), run, shadow, {}, _promise(entry.get("privacy")), {})


def _promise(privacy: Plain | None, *, permits: bool = True) -> Promise | None:
    if not privacy:
        return None
    numbers = {name: number(privacy.get(name)) for name in ("epsilon", "delta", "budget", "noise", "clip")}
    units, steps = number(privacy.get("units")), number(privacy.get("steps"))
    return Promise(
        declared=privacy.get("declared") is True,
        permitted=_permitted(privacy.get("permitted"), numbers) if permits else None,
        unit=str(privacy.get("unit") or "image"),
        units=None if units is None else int(units),
        rate=number(privacy.get("rate")),
        steps=None if steps is None else int(steps),
        accountant=_text(privacy.get("accountant")),
        reproducible=privacy.get("reproducible") is True,
        **numbers,
    )


def _permitted(told: Plain | None, numbers: Mapping[str, float | None]) -> Permitted | None:
    """Return what a promise says that it permits; of an older one, what its epsilon and delta permit."""
    if isinstance(told, Mapping) and (by := _text(told.get("by"))) in BOUNDS:
        values = {name: number(told.get(name)) for name in ("auc", "tpr_at_10", "tpr_at_1")}
        known = {name: value for name, value in values.items() if value is not None and 0 <= value <= 1}
        if len(known) == len(values):
            return Permitted(by=str(by), **known)
    epsilon, delta = numbers["epsilon"], numbers["delta"]
    if delta is None or not 0 <= delta <= 1 or (epsilon is not None and epsilon < 0):
        return None
    return of_points([(math.inf if epsilon is None else epsilon, delta)], "point")


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _labelled(found: Sequence[Attacked]) -> list[Attacked]:
    """Call attacks what the audit calls them; in an older one, by their names and what tells them apart."""
    kinds: dict[tuple[object, ...], list[Attacked]] = {}
    for one in found:
        kinds.setdefault((one.place, one.name), []).append(one)
    called = [_called(one, kinds[one.place, one.name]) for one in found]
    taken = Counter((one.place, label) for one, label in zip(found, called, strict=True))
    return [
        replace(one, label=label if taken[one.place, label] == 1 else f"{label} ({Path(one.folder).name})")
        for one, label in zip(found, called, strict=True)
    ]


def _called(one: Attacked, alike: Sequence[Attacked]) -> str:
    if one.label:
        return one.label
    if isinstance(one, Fooled) and one.success:
        return f"{one.name}, {one.success[0].asked}"
    if len(alike) == 1:
        return one.name
    own, mine = [_flat(each.settings) for each in alike], _flat(one.settings)
    said = [
        f"{name.rpartition('.')[2]} {value}"
        for name, value in mine.items()
        if len({json.dumps(each.get(name), default=str) for each in own}) > 1
    ]
    return f"{one.name}, {', '.join(said)[:60]}" if said else one.name


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Return nested settings by their dotted names."""
    if not isinstance(value, Mapping):
        return {prefix: value}
    found: dict[str, Any] = {}
    for name, item in value.items():
        found |= _flat(item, prefix if name == "init_args" else f"{prefix}.{name}".lstrip("."))
    return found
