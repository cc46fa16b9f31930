"""What a report takes from the attacks' folders; what is gone is left out, and said so."""

import base64
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from seg_mia.errors import InputError
from seg_mia.membership.compare import Scored, read_scores
from seg_mia.membership.roc import check_scores
from seg_mia.report.load import Source
from seg_mia.report.verdicts import fooled_evidence
from seg_mia.results.base import Measure, RunKey, Spread
from seg_mia.results.exposed import extremes
from seg_mia.results.membership import MembershipResult
from seg_mia.results.perturbation import PerturbationResult
from seg_mia.results.report import Exposed

PNG = b"\x89PNG\r\n\x1a\n"
LARGEST = 8_000_000
"""Bytes of a sheet that still goes into a page."""
SURE = 3
"""Samples listed of each kind."""


@dataclass(frozen=True)
class Sheet:
    """A picture as a page holds it."""

    label: str
    data: str
    width: int
    height: int


@dataclass
class Files:
    """What was found: scores and pictures by the attack's folder, and sentences on what was not."""

    scores: dict[str, Scored] = field(default_factory=dict)
    panels: list[Sheet] = field(default_factory=list)
    exposed: Sheet | None = None
    missing: list[str] = field(default_factory=list)


def gather(
    source: Source, guessed: Sequence[MembershipResult], fooled: Sequence[PerturbationResult], *, images: bool
) -> Files:
    """Return the files that a report shows; pictures of samples only with `images`."""
    found = Files()
    for one in guessed:
        _scores(source, one, found)
    if images:
        first = first_key([*(one.key for one in guessed), *(one.key for one in fooled)])
        for panel in strongest_of_each(fooled, first):
            sheet = _sheet(source, panel, "panel.png", found)
            found.panels += [] if sheet is None else [sheet]
        attack = strongest_attack(guessed, first)
        found.exposed = None if attack is None else _sheet(source, attack, "exposed.png", found)
    return found


def first_key(keys: Sequence[RunKey]) -> RunKey | None:
    """Return the first victim of the first seed."""
    return min(keys, key=lambda key: (key.round, key.row), default=None)


def strongest_attack(guessed: Sequence[MembershipResult], place: RunKey | None) -> MembershipResult | None:
    """Return the membership attack on a victim whose AUC has the highest lower end, images or patients."""
    own = [one for one in guessed if one.key == place and one.role == "attack"]
    return max(own, key=lambda one: max(_least(one.auc), _least(one.pooled)), default=None)


def _least(auc: Measure | None) -> float:
    return -math.inf if auc is None or auc.low is None else auc.low


def strongest_of_each(fooled: Sequence[PerturbationResult], place: RunKey | None) -> list[PerturbationResult]:
    """Return of each perturbation on a victim the variant that does most."""
    kinds: dict[str, list[PerturbationResult]] = {}
    for one in fooled:
        if one.key == place:
            kinds.setdefault(one.name, []).append(one)
    return [max(own, key=_rank) for own in kinds.values()]


def exposed(one: MembershipResult | None, scores: Mapping[str, Scored]) -> list[Exposed]:
    """Return the samples that an attack is surest of, by their ids."""
    if one is None or one.folder not in scores:
        return []
    scored = scores[one.folder]
    return [
        Exposed(
            kind=kind,
            id=str(scored.ids[row]),
            group=str(scored.groups[row]),
            score=float(scored.scores[row]),
        )
        for kind, rows in extremes(scored.scores, scored.members, SURE).items()
        for row in rows.tolist()
    ]


def _rank(one: PerturbationResult) -> tuple[float, ...]:
    nothing = (-1, -math.inf, -math.inf)
    return max((piece.rank for piece in fooled_evidence(one)), default=nothing)


def _scores(source: Source, one: MembershipResult, found: Files) -> None:
    folder = source.found(one.folder)
    if folder is None:
        found.missing.append(
            f"{_on(one)}: its folder {source.shown(one.folder)} is gone, so its curve, its histogram and its "
            "samples are left out."
        )
        return
    try:
        scored = read_scores(folder)
        check_scores(scored.scores, scored.members)
    except (InputError, OSError):
        found.missing.append(
            f"{_on(one)}: {source.shown(one.folder)}/scores.csv is missing or broken, so its curve, its "
            "histogram and its samples are left out."
        )
    else:
        found.scores[one.folder] = scored


def sides(scored: Scored) -> dict[str, Spread]:
    """Return how scores of members and non-members lie."""
    return {
        "members": _spread(scored.scores[scored.members]),
        "nonmembers": _spread(scored.scores[~scored.members]),
    }


def _spread(scores: NDArray[np.float64]) -> Spread:
    return Spread(len(scores), *np.percentile(scores, [0, 25, 50, 75, 100]).tolist())


def _sheet(
    source: Source, one: MembershipResult | PerturbationResult, name: str, found: Files
) -> Sheet | None:
    folder = source.found(one.folder)
    sheet = None if folder is None else _png(folder / name, one.label)
    if sheet is None:
        found.missing.append(
            f"{_on(one)}: {source.shown(one.folder)}/{name} is missing, broken or larger than "
            f"{LARGEST // 1_000_000} MB, so it is left out."
        )
    return sheet


def _on(one: MembershipResult | PerturbationResult) -> str:
    return one.label if one.row == 0 else f'{one.label} on "{one.defence}"'


def _png(file: Path, label: str) -> Sheet | None:
    """Return a PNG file as a page holds it, None where it is none."""
    try:
        if file.stat().st_size > LARGEST:
            return None
        content = file.read_bytes()
        width, height = struct.unpack(">II", content[16:24])
    except (OSError, struct.error):
        return None
    if not content.startswith(PNG):
        return None
    return Sheet(label, f"data:image/png;base64,{base64.b64encode(content).decode()}", width, height)
