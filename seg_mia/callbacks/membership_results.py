"""Result files and figures of a membership inference attack, in the victim's folder."""

from pathlib import Path

import numpy as np
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from numpy.typing import NDArray

from seg_mia.callbacks.folder import run_folder
from seg_mia.callbacks.outputs import Findings, Scores
from seg_mia.callbacks.panels import show
from seg_mia.data.predictions import SignalSamples
from seg_mia.membership.scores import Guesses
from seg_mia.models.heads import predicted
from seg_mia.results.evaluation import membership_scores
from seg_mia.results.exposed import exposed_sheet, extremes
from seg_mia.results.files import write_bytes
from seg_mia.results.membership import MembershipScores, MembershipSummary
from seg_mia.results.membership_files import write_scored
from seg_mia.results.orthogonal import OrthogonalSlices
from seg_mia.results.pictures import Tile, overlay, picture, png
from seg_mia.results.privacy import DPGuarantee

PAGE = 3
"""Samples per sheet."""


def summarise(findings: Findings, privacy: DPGuarantee | None = None) -> MembershipScores:
    """Return all measures: over images and groups, of epsilon, over seeds and over the last epochs.

    Args:
        findings: membership scores.
        privacy: differential privacy guarantee of the victim's training.
    """
    samples = findings.samples
    return membership_scores(_guesses(findings), samples.members, samples.groups, privacy)


def _guesses(findings: Findings) -> Guesses:
    return Guesses(
        findings.scores,
        findings.threshold,
        findings.seeds,
        findings.last,
        findings.regression,
        findings.thresholds,
        findings.resolution,
    )


def write_membership(trainer: Trainer, name: str, findings: Findings, summary: MembershipSummary) -> None:
    """Write `scores.csv`, `summary.json` and three figures, also to TensorBoard.

    Args:
        trainer: provides folder and loggers.
        name: name of the attack.
        findings: membership scores of all samples.
        summary: content of `summary.json`.
    """
    samples, scores = findings.samples, findings.scores
    folder = run_folder(trainer)
    ids = [samples.data.source.ids[int(index)] for index in samples.indices]
    sheets = write_scored(folder, name, summary, ids, samples.groups, samples.members, _guesses(findings))
    for kind, sheet in sheets.items():
        show(trainer, f"membership/{kind}", sheet, 0)
    _write_exposed(trainer, folder, samples, scores)
    numbers = {
        f"membership/{name}": measure["value"]
        for name, measure in summary.results.plain().items()
        if isinstance(measure, dict) and measure.get("value") is not None
    }
    for logger in trainer.loggers:
        logger.log_metrics(numbers, 0)
        if isinstance(logger, TensorBoardLogger):
            for part, chosen in (("members", samples.members), ("nonmembers", ~samples.members)):
                logger.experiment.add_histogram(f"membership/scores/{part}", scores[chosen], 0)
        logger.finalize("success")


def shown(guesses: Guesses, members: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the positions of the samples that the figures of an attack show."""
    return np.concatenate(list(extremes(guesses.scores, members, PAGE).values()))


def _write_exposed(trainer: Trainer, folder: Path, samples: SignalSamples, scores: Scores) -> None:
    rows, names = [], list[str]()
    for kind, positions in extremes(scores, samples.members, PAGE).items():
        tiles = [_tiles(samples, scores, int(position), kind) for position in positions]
        ids = [samples.data.source.ids[int(samples.indices[position])] for position in positions]
        if tiles:
            show(trainer, f"membership/{kind.replace(' ', '_')}", exposed_sheet(tiles, ids), 0)
        rows += tiles
        names += ids
    write_bytes(folder / "exposed.png", png(exposed_sheet(rows, names), names))


def _tiles(samples: SignalSamples, scores: Scores, position: int, kind: str) -> list[Tile]:
    logits, image, mask, _, _ = samples[0, position]
    has_logits = logits.shape[1:] == mask.shape
    prediction = predicted(logits.float()[None])[0] if has_logits else torch.zeros_like(mask)
    shown = OrthogonalSlices(mask, samples.data.source.spacing(int(samples.indices[position])))
    image, mask, prediction = shown(image), shown(mask), shown(prediction)
    return [
        Tile(picture(image), kind),
        Tile(overlay(image, mask), f"score {scores[position]:.3g}"),
        Tile(overlay(image, prediction), "" if has_logits else "victim not queried"),
    ]
