"""Results of attacks on predictions, as those of attacks on networks."""

from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seg_mia.audit.attacks import PreparedAttack
from seg_mia.audit.predictions.attacks import membership_of
from seg_mia.audit.predictions.evidence import Evidence
from seg_mia.audit.predictions.maps import slices_of
from seg_mia.audit.predictions.settings import PredictionSettings
from seg_mia.config.files import Config
from seg_mia.data.prediction_files.reader import PredictionFiles
from seg_mia.data.prediction_files.table import SHADOW, VICTIM, Row
from seg_mia.membership.scores import Guesses
from seg_mia.metrics.labels import IGNORE
from seg_mia.models.heads import predicted
from seg_mia.results.evaluation import membership_scores
from seg_mia.results.exposed import exposed_sheet, extremes
from seg_mia.results.files import write_bytes
from seg_mia.results.membership import MembershipResult, MembershipSummary, ScoredData
from seg_mia.results.membership_files import write_scored
from seg_mia.results.pictures import Tile, overlay, picture, png
from seg_mia.results.text import attack_headline

PAGE = 3
"""Cases of each kind on a sheet."""
_MOST_BITS = 7  # labels whose sets have ids below 255


@dataclass(frozen=True)
class ResultWriter:
    """Writes each attack's files below the audit's folder.

    Attributes:
        settings: settings of the audit.
        files: the predictions.
        evidence: evidence of each network.
        folder: folder of the audit.
    """

    settings: PredictionSettings
    files: PredictionFiles
    evidence: dict[str, Evidence]
    folder: Path

    @property
    def victim(self) -> str:
        """The table, which stands for the victim."""
        return str(self.files.table.file)

    def about(self) -> Config:
        """Return what is known of the victim."""
        return {
            "classes": self.files.settings.classes,
            "predictions": {
                "released": self.files.layout.released,
                "networks": len(self.files.table.rows),
                "images": self.files.table.has_images,
            },
        }

    def write(self, attack: PreparedAttack, guesses: Guesses) -> MembershipResult:
        """Write the results of an attack, and return them."""
        membership = membership_of(attack)
        scorer = membership.scorer
        shadows = [f"{self.victim}: {SHADOW}"] if SHADOW in self.evidence else []
        if scorer.needs.queries_judged:
            shadows = [f"{self.victim}: {name}" for name in self.files.table.references]
        settings = {"signal": _spec(membership.signal), "scorer": _spec(scorer)}
        described: Config = {"class_path": _path(membership), "init_args": settings}
        summary = self._summary(
            described,
            membership.attacker_knowledge,
            guesses,
            shadows=shadows,
            blind=not membership.signal.queries_victim,
        )
        return self._written(attack.name, attack.label, summary, guesses)

    def write_blind(self, name: str, guesses: Guesses) -> MembershipResult:
        """Write the results of the blind baseline, and return them."""
        described = {"class_path": "seg_mia.membership.blind.blind_scores", "init_args": {}}
        known = "image and true mask" if self.files.table.has_images else "true mask"
        knowledge = f"{known}, without the victim"
        summary = self._summary(described, knowledge, guesses, shadows=[], blind=True)
        return self._written(name, name, summary, guesses)

    def _summary(
        self, attack: Config, knowledge: str, guesses: Guesses, *, shadows: list[str], blind: bool
    ) -> MembershipSummary:
        victim = self.evidence[VICTIM]
        left_out = {network: {"unlabelled": self.evidence[network].unlabelled} for network in self.evidence}
        return MembershipSummary(
            attack=attack,
            attacker_knowledge=knowledge,
            release=None,
            defences={"victim": [], "shadow": []},
            victim=self.victim,
            shadows=shadows,
            blind=blind,
            control=False,
            privacy=None,
            same_seed=False,
            data=ScoredData(
                fingerprint=self.files.fingerprint(),
                split_seed=None,
                limit=None,
                left_out={name: left_out.get(name, {}) for name in (VICTIM, SHADOW)},
                notes=[],
            ),
            **dict(membership_scores(guesses, victim.members, victim.groups)),
        )

    def _written(
        self, name: str, label: str, summary: MembershipSummary, guesses: Guesses
    ) -> MembershipResult:
        victim, folder = self.evidence[VICTIM], self.folder / label
        ids = [row.case for row in victim.rows]
        write_scored(folder, label, summary, ids, victim.groups, victim.members, guesses)
        if self.settings.images:
            self._write_exposed(folder, guesses)
        return MembershipResult(
            seed=self.settings.seed,
            round=0,
            row=0,
            defence="none",
            name=name,
            label=label,
            victim_run=self.victim,
            folder=str(folder),
            headline=attack_headline(label, summary),
            **dict(summary),
        )

    def _write_exposed(self, folder: Path, guesses: Guesses) -> None:
        victim = self.evidence[VICTIM]
        rows, names = list[list[Tile]](), list[str]()
        for kind, positions in extremes(guesses.scores, victim.members, PAGE).items():
            for position in positions.tolist():
                row = victim.rows[position]
                rows.append(self._tiles(row, kind, f"score {guesses.scores[position]:.3g}"))
                names.append(row.case)
        write_bytes(folder / "exposed.png", png(exposed_sheet(rows, names), names))

    @torch.no_grad()
    def _tiles(self, row: Row, kind: str, note: str) -> list[Tile]:
        """Return image, truth and prediction, of a volume in the slice with the largest foreground."""
        record = self.files.record(row)
        mask, prediction = shown_ids(record.mask, predicted(record.logits))
        image = torch.zeros(1, *mask.shape) if record.image is None else torch.from_numpy(record.image.copy())
        if mask.ndim == 3:
            axis = mask.ndim - 1 - int(np.argmin(mask.shape[::-1]))
            size = ((mask > 0) & (mask != IGNORE)).movedim(axis, 0).flatten(1).sum(dim=1)
            best = int(size.argmax()) if size.any() else int(slices_of(mask, axis)[0])
            mask, prediction = (part.select(axis, best) for part in (mask, prediction))
            image = image.select(axis + 1, best)
        visible = _visible(image)
        return [
            Tile(picture(visible), kind),
            Tile(overlay(visible, mask), note),
            Tile(overlay(visible, prediction), ""),
        ]


def shown_ids(*maps: Tensor) -> list[Tensor]:
    """Return binary maps (N, *S) of one image as ids (*S), 255 where any is ignored; of one map the map.

    Ids are class numbers where no pixel of any has two classes, or sets would be too many to number: there
    the later class is shown. Otherwise they are sets of labels, a bit for each.
    """
    overlap = any(bool(((part == 1).sum(dim=0) > 1).any()) for part in maps)
    return [_ids(part, sets=overlap and len(part) <= _MOST_BITS) for part in maps]


def _ids(maps: Tensor, *, sets: bool) -> Tensor:
    if len(maps) == 1:
        return maps[0]
    shape = (-1, *[1] * (maps.ndim - 1))
    numbers = torch.arange(len(maps))
    held = (maps == 1) * (2**numbers if sets else numbers + 1).view(shape)
    ids = held.sum(dim=0) if sets else held.amax(dim=0)
    return ids.masked_fill((maps == IGNORE).any(dim=0), IGNORE)


def _visible(image: Tensor) -> Tensor:
    """Return an image in [0, 1], from its 1st to its 99th percentile."""
    low, high = np.percentile(image.numpy(), [1, 99]).tolist()
    scaled: Tensor = (image - low) / max(high - low, 1e-6)
    return scaled.clamp(0, 1)


def _spec(part: Any) -> Config:
    """Return a signal or scorer as class path and arguments."""
    settings = asdict(part) if is_dataclass(part) and not isinstance(part, type) else {}
    return {"class_path": _path(part), "init_args": settings}


def _path(part: object) -> str:
    return f"{type(part).__module__}.{type(part).__qualname__}"
