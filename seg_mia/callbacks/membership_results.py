"""Result files and figures of a membership inference attack, in the victim's folder."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from seg_mia.callbacks.folder import run_folder
from seg_mia.callbacks.outputs import Findings, Scores
from seg_mia.callbacks.panels import show
from seg_mia.data.predictions import SignalSamples
from seg_mia.membership.compare import Scored
from seg_mia.membership.fleet.quantile import QuantileScores
from seg_mia.membership.roc import auc, confusion
from seg_mia.models.heads import predicted
from seg_mia.results.charts.membership import histogram_drawing, roc_of
from seg_mia.results.charts.png import pixels
from seg_mia.results.evaluation import certified, evaluate, evaluate_groups
from seg_mia.results.exposed import exposed_sheet, extremes
from seg_mia.results.files import write_bytes, write_csv, write_json
from seg_mia.results.membership import (
    ClassifierSeeds,
    LastEpochs,
    MembershipScores,
    MembershipSummary,
    RegressionFit,
    SeedValues,
)
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
    scores, members, groups = findings.scores, findings.samples.members, findings.samples.groups
    return MembershipScores(
        results=evaluate(scores, members, groups, threshold=findings.threshold),
        groups=evaluate_groups(scores, members, groups, threshold=findings.threshold),
        certified=certified(scores, members, groups, privacy),
        seeds=_over_seeds(findings) if len(findings.seeds) > 1 else None,
        published_mean_of_last_epochs=_last_epochs(findings) if findings.last else None,
        regression=None if findings.regression is None else _regression(findings.regression),
    )


def _regression(fit: QuantileScores) -> RegressionFit:
    coverage = fit.coverage[0]
    return RegressionFit(
        nonmembers=coverage.nonmembers,
        explained=fit.explained,
        nominal_fpr=coverage.nominal,
        achieved_fpr=coverage.achieved,
        covers=coverage.covers,
    )


def _over_seeds(findings: Findings) -> ClassifierSeeds:
    members = findings.samples.members
    decided = [confusion(scores, members, threshold) for scores, threshold in findings.seeds]
    return ClassifierSeeds(
        auc=_spread([auc(scores, members) for scores, _ in findings.seeds]),
        balanced_accuracy=_spread([counts.balanced_accuracy for counts in decided]),
    )


def _last_epochs(findings: Findings) -> LastEpochs:
    # The published metric uses a logit threshold of 0, regardless of the threshold chosen here.
    counts = [confusion(scores, findings.samples.members, 0.0) for scores in findings.last]
    return LastEpochs(
        epochs=len(counts),
        accuracy=float(np.mean([count.accuracy for count in counts])),
        f1=float(np.mean([count.f1 for count in counts])),
    )


def write_membership(trainer: Trainer, name: str, findings: Findings, summary: MembershipSummary) -> None:
    """Write `scores.csv`, `summary.json` and three figures, also to TensorBoard.

    Args:
        trainer: provides folder and loggers.
        name: name of the attack.
        findings: membership scores of all samples.
        summary: content of `summary.json`.
    """
    samples, scores, seeds = findings.samples, findings.scores, findings.seeds
    folder = run_folder(trainer)
    results = summary.results
    write_json(folder / "summary.json", summary.plain())
    _write_scores(folder / "scores.csv", samples, scores, findings.threshold, seeds)
    scored = Scored(
        np.array([samples.data.source.ids[int(index)] for index in samples.indices]),
        np.array(samples.groups),
        samples.members,
        scores,
    )
    sheets = {
        "roc": pixels(roc_of([summary], {name: scored})),
        "histogram": pixels(histogram_drawing(scored, "", threshold=findings.threshold)),
    }
    for kind, sheet in sheets.items():
        write_bytes(folder / f"{kind}.png", png(sheet))
        show(trainer, f"membership/{kind}", sheet, 0)
    _write_exposed(trainer, folder, samples, scores)
    numbers = {
        f"membership/{name}": measure["value"]
        for name, measure in results.plain().items()
        if isinstance(measure, dict) and "value" in measure
    }
    for logger in trainer.loggers:
        logger.log_metrics(numbers, 0)
        if isinstance(logger, TensorBoardLogger):
            for part, chosen in (("members", samples.members), ("nonmembers", ~samples.members)):
                logger.experiment.add_histogram(f"membership/scores/{part}", scores[chosen], 0)
        logger.finalize("success")


def _write_scores(
    file: Path,
    samples: SignalSamples,
    scores: Scores,
    threshold: float,
    seeds: Sequence[tuple[Scores, float]],
) -> None:
    several = [seed_scores for seed_scores, _ in seeds] if len(seeds) > 1 else []
    ids = samples.data.source.ids
    rows = [
        [
            ids[int(samples.indices[row])],
            samples.groups[row],
            int(samples.members[row]),
            f"{scores[row]:.9g}",
            int(scores[row] >= threshold),
            *(f"{seed_scores[row]:.9g}" for seed_scores in several),
        ]
        for row in range(len(samples))
    ]
    names = [f"score_seed{number}" for number in range(len(several))]
    write_csv(file, ["id", "group", "member", "score", "called_member", *names], rows)


def _write_exposed(trainer: Trainer, folder: Path, samples: SignalSamples, scores: Scores) -> None:
    rows, names = [], list[str]()
    for kind, positions in extremes(scores, samples.members, PAGE).items():
        tiles = [_tiles(samples, scores, int(position), kind) for position in positions]
        ids = [samples.data.source.ids[int(samples.indices[position])] for position in positions]
        if tiles:
            show(trainer, f"membership/{kind.replace(' ', '_')}", exposed_sheet(tiles, ids), 0)
        rows += tiles
        names += ids
    write_bytes(folder / "exposed.png", png(exposed_sheet(rows, names)))


def _tiles(samples: SignalSamples, scores: Scores, position: int, kind: str) -> list[Tile]:
    logits, image, mask, _, _ = samples[0, position]
    has_logits = logits.shape[1:] == mask.shape
    prediction = predicted(logits.float()[None])[0] if has_logits else torch.zeros_like(mask)
    return [
        Tile(picture(image), kind),
        Tile(overlay(image, mask), f"score {scores[position]:.3g}"),
        Tile(overlay(image, prediction), "" if has_logits else "victim not queried"),
    ]


def _spread(values: Sequence[float]) -> SeedValues:
    return SeedValues(mean=float(np.mean(values)), std=float(np.std(values, ddof=1)), values=list(values))
