"""A finished audit's folder, summed up."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean, stdev
from typing import Any

from seg_mia.report.caveats import caveats, warnings
from seg_mia.report.files import Files, exposed, first_place, gather, strongest_attack, summed_up
from seg_mia.report.parse import leaks, membership, number, perturbations, plain, stages, victims
from seg_mia.report.read import Source
from seg_mia.report.verdicts import verdicts
from seg_mia.results.model import SCHEMA, Fooled, Guessed, OverSeeds, Report, Victim

CANARIES = "Canaries"
"""What a victim's card calls their defence."""


def build(source: Source, *, images: bool) -> tuple[Report, Files]:
    """Return all that a report says, and the files that its figures are drawn from.

    Args:
        source: the audit.
        images: show and name samples.
    """
    content, guessed, fooled, attacked = (
        source.content,
        membership(source),
        perturbations(source),
        victims(source),
    )
    files = gather(source, guessed, fooled, images=images)
    surest = strongest_attack(guessed, first_place([one.place for one in guessed])) if images else None
    created = content.get("created")
    report = Report(
        schema=SCHEMA,
        name=str(content.get("name") or source.folder.parent.name),
        created=created if isinstance(created, str) else None,
        seconds=number(content.get("seconds")),
        images=images,
        tool=_mapping(source, content.get("tool")),
        warnings=warnings(attacked, guessed, fooled),
        verdicts=verdicts(attacked, guessed, fooled, leaks(source)),
        victims=attacked,
        leaks=leaks(source),
        membership=[_shown(source, one) for one in summed_up(guessed, files.scores)],
        perturbations=[_shown(source, one) for one in fooled],
        seeds=over_seeds(guessed, fooled),
        exposed=exposed(surest, files.scores),
        caveats=caveats(attacked, guessed, fooled),
        missing=[*files.missing, *_unasked(attacked)],
        settings=_mapping(source, content.get("settings")),
        stages=stages(source),
    )
    scores = {source.shown(folder): scored for folder, scored in files.scores.items()}
    return report, replace(files, scores=scores)


def _unasked(victims: Sequence[Victim]) -> list[str]:
    """Return a sentence for each victim that was trained with canaries of which nothing is known."""
    return [
        f'"{victim.place.defence}", seed {victim.place.seed}: the audit found no canaries.json in its run '
        "that says what its canaries prove, so that is left out."
        for victim in victims
        if victim.canaries is None and CANARIES in (victim.about.get("defences") or [])
    ]


def over_seeds(guessed: Sequence[Guessed], fooled: Sequence[Fooled]) -> list[OverSeeds]:
    """Return mean and standard deviation of each attack that ran for several seeds."""
    kinds: dict[str, list[tuple[Guessed | Fooled, str, float]]] = {}
    attacks: list[Guessed | Fooled] = [*guessed, *fooled]
    for one in attacks:
        what, value = _summed(one)
        if value is not None:
            key = json.dumps(
                [one.place.row, one.name, what, _settings(one.settings)], sort_keys=True, default=str
            )
            kinds.setdefault(key, []).append((one, what, value))
    found = []
    for same in kinds.values():
        values = [value for _, _, value in same]
        if len({one.place.round for one, _, _ in same}) > 1:
            one, what, _ = same[0]
            found.append(OverSeeds(one.place.defence, one.label, what, fmean(values), stdev(values), values))
    return found


def _summed(one: Guessed | Fooled) -> tuple[str, float | None]:
    """Return the number that stands for an attack, and what it is."""
    if isinstance(one, Guessed):
        return "AUC", one.auc.value
    if one.asks and "iou" in one.results:
        return "IoU with the target", one.mean("iou")
    return "Dice to the truth", one.mean("dice_adversarial")


def _settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return an attack's settings but for its surrogate, which is each seed's own shadow."""
    arguments = settings.get("init_args")
    own = arguments if isinstance(arguments, Mapping) else {}
    return {**settings, "init_args": {name: value for name, value in own.items() if name != "surrogate"}}


def _shown(source: Source, one: Any) -> Any:
    return replace(one, folder=source.shown(one.folder))


def _mapping(source: Source, value: Any) -> dict[str, Any]:
    told = plain(source.told(value)) if isinstance(value, Mapping) else {}
    return dict(told)
