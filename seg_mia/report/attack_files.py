"""Report inputs from the attacks' folders; missing files are omitted and listed."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from seg_mia.errors import InputError
from seg_mia.membership.compare import Scored, read_scores
from seg_mia.membership.roc import check_scores
from seg_mia.report.load import StoredAudit
from seg_mia.report.rules.robustness_verdict import robustness_evidence
from seg_mia.report.sheets import LARGEST, Sheet, read_sheet
from seg_mia.results.base import Measure, RunKey, Spread
from seg_mia.results.certificate import CertificateResult
from seg_mia.results.exposed import extremes
from seg_mia.results.membership import MembershipResult
from seg_mia.results.perturbation import PerturbationResult
from seg_mia.results.report import Exposed

SURE = 3
"""Number of listed samples of each kind."""


@dataclass
class AttackFiles:
    """Scores and pictures by the attack's folder, and sentences on missing files."""

    scores: dict[str, Scored] = field(default_factory=dict)
    panels: list[Sheet] = field(default_factory=list)
    certificates: list[Sheet] = field(default_factory=list)
    exposed: Sheet | None = None
    missing: list[str] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        """Names of the samples that sheets show."""
        sheets = [*self.panels, *self.certificates, *([] if self.exposed is None else [self.exposed])]
        return [name for sheet in sheets for name in sheet.rows]

    def named(self, hashes: Mapping[str, str]) -> "AttackFiles":
        """Return these files with hashes in place of the names of samples."""
        return replace(
            self,
            panels=[sheet.named(hashes) for sheet in self.panels],
            certificates=[sheet.named(hashes) for sheet in self.certificates],
            exposed=None if self.exposed is None else self.exposed.named(hashes),
        )

    def unnamed(self) -> "AttackFiles":
        """Return these files without the names of samples."""
        return replace(
            self,
            panels=[replace(sheet, rows=[]) for sheet in self.panels],
            certificates=[replace(sheet, rows=[]) for sheet in self.certificates],
            exposed=None if self.exposed is None else replace(self.exposed, rows=[]),
        )


def gather(
    stored: StoredAudit,
    membership: Sequence[MembershipResult],
    perturbations: Sequence[PerturbationResult],
    *,
    images: bool,
    ids: bool,
) -> AttackFiles:
    """Return the files shown in a report; pictures of samples only with `images`, with names with `ids`."""
    files = AttackFiles()
    for result in membership:
        _scores(stored, result, files)
    if images:
        first = first_key([*(result.key for result in membership), *(result.key for result in perturbations)])
        for panel in strongest_of_each(perturbations, first):
            sheet = _sheet(stored, panel, "panel.png", files, ids=ids)
            files.panels += [] if sheet is None else [sheet]
        attack = strongest_attack(membership, first)
        files.exposed = None if attack is None else _sheet(stored, attack, "exposed.png", files, ids=ids)
    return files


def add_certificates(
    stored: StoredAudit, certificates: Sequence[CertificateResult], files: AttackFiles, *, ids: bool
) -> None:
    """Add the pictures of the first seed's certificates, with names with `ids`."""
    first = min((result.round for result in certificates), default=0)
    for result in certificates:
        if result.round == first:
            sheet = _sheet(stored, result, "panel.png", files, ids=ids)
            files.certificates += [] if sheet is None else [replace(sheet, label=result.title)]


def first_key(keys: Sequence[RunKey]) -> RunKey | None:
    """Return the first victim of the first seed."""
    return min(keys, key=lambda key: (key.round, key.row), default=None)


def strongest_attack(membership: Sequence[MembershipResult], key: RunKey | None) -> MembershipResult | None:
    """Return the membership attack on a victim whose AUC has the highest lower bound, by image or patient."""
    attacks = [result for result in membership if result.key == key and result.role == "attack"]
    return max(
        attacks, key=lambda result: max(_lower_end(result.auc), _lower_end(result.pooled)), default=None
    )


def _lower_end(auc: Measure | None) -> float:
    return -math.inf if auc is None or auc.low is None else auc.low


def strongest_of_each(
    perturbations: Sequence[PerturbationResult], key: RunKey | None
) -> list[PerturbationResult]:
    """Return the most effective variant of each perturbation on a victim."""
    kinds: dict[str, list[PerturbationResult]] = {}
    for result in perturbations:
        if result.key == key:
            kinds.setdefault(result.name, []).append(result)
    return [max(variants, key=_rank) for variants in kinds.values()]


def exposed(result: MembershipResult | None, scores: Mapping[str, Scored]) -> list[Exposed]:
    """Return the samples classified most confidently by an attack, by id."""
    if result is None or result.folder not in scores:
        return []
    scored = scores[result.folder]
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


def _rank(result: PerturbationResult) -> tuple[float, ...]:
    nothing = (-1, -math.inf, -math.inf)
    return max((piece.rank for piece in robustness_evidence(result)), default=nothing)


def _scores(stored: StoredAudit, result: MembershipResult, files: AttackFiles) -> None:
    folder = stored.locate(result.folder)
    if folder is None:
        files.missing.append(
            f"{result.title}: its folder {stored.display_path(result.folder)} is missing, so its curve, "
            "histogram and samples are left out."
        )
        return
    try:
        scored = read_scores(folder)
        check_scores(scored.scores, scored.members)
    except (InputError, OSError):
        files.missing.append(
            f"{result.title}: {stored.display_path(result.folder)}/scores.csv is missing or damaged, so its "
            "curve, histogram and samples are left out."
        )
    else:
        files.scores[result.folder] = scored


def sides(scored: Scored) -> dict[str, Spread]:
    """Return the score distributions of members and non-members."""
    return {
        "members": _spread(scored.scores[scored.members]),
        "nonmembers": _spread(scored.scores[~scored.members]),
    }


def _spread(scores: NDArray[np.float64]) -> Spread:
    return Spread(len(scores), *np.percentile(scores, [0, 25, 50, 75, 100]).tolist())


def _sheet(
    stored: StoredAudit,
    result: MembershipResult | PerturbationResult | CertificateResult,
    name: str,
    files: AttackFiles,
    *,
    ids: bool,
) -> Sheet | None:
    folder = stored.locate(result.folder)
    sheet = None if folder is None else read_sheet(folder / name, result.label, ids=ids)
    if sheet is None:
        files.missing.append(
            f"{result.title}: {stored.display_path(result.folder)}/{name} is missing, damaged, larger than "
            f"{LARGEST // 1_000_000} MB or of an earlier version, with names in it, so it is left out."
        )
    return sheet
