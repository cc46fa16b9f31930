"""What a membership attack found, as tables and pictures below the victim's folder."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from seg_mia.callbacks.folder import run_folder
from seg_mia.callbacks.outputs import Findings, Scores
from seg_mia.callbacks.panels import show
from seg_mia.data.predictions import SignalSamples
from seg_mia.membership.certify import epsilon_lower_bound
from seg_mia.membership.evaluation import evaluate, evaluate_groups
from seg_mia.membership.roc import auc, confusion, pooled, roc
from seg_mia.models.heads import predicted
from seg_mia.results.files import write_bytes, write_csv, write_json
from seg_mia.results.membership_figures import Curve, exposed_sheet, extremes, roc_figure, score_histogram
from seg_mia.results.pictures import Tile, overlay, picture, png

PAGE = 3
"""Samples on one sheet."""


def summarise(found: Findings, promise: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return all measures as plain values.

    `results`; `groups`, where samples have groups; `certified`, the epsilon that the scores prove, at the
    promised delta or a tenth of one over the members; `seeds`, where there are several; and the mean over
    the last epochs, decided at 0, where it was asked for: what the published code reports.

    Args:
        found: the scores.
        promise: of the victim's training, where it made one about privacy.
    """
    members, groups = found.samples.members, found.samples.groups
    least = found.threshold
    measures: dict[str, Any] = {"results": evaluate(found.scores, members, groups, threshold=least)}
    if (pooled := evaluate_groups(found.scores, members, groups, threshold=least)) is not None:
        measures["groups"] = pooled
    measures["certified"] = _certified(found, promise)
    if len(found.seeds) > 1:
        decided = [confusion(scores, members, own) for scores, own in found.seeds]
        measures["seeds"] = {
            "auc": _spread([auc(scores, members) for scores, _ in found.seeds]),
            "balanced_accuracy": _spread([counts.balanced_accuracy for counts in decided]),
        }
    if found.last:
        counts = [confusion(scores, members, 0.0) for scores in found.last]
        measures["published_mean_of_last_epochs"] = {
            "epochs": len(counts),
            "accuracy": float(np.mean([count.accuracy for count in counts])),
            "f1": float(np.mean([count.f1 for count in counts])),
        }
    return measures


def _certified(found: Findings, promise: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what the scores prove of epsilon; where groups have several samples, of whole groups."""
    scores, members, unit = found.scores, found.samples.members, "image"
    if len(np.unique(found.samples.groups)) < len(scores):
        means, whose, _ = pooled(scores, members, found.samples.groups)
        if min(int(whose.sum()), int((~whose).sum())) >= 2:
            scores, members, unit = means, whose, "patient"
    delta = promise["delta"] if promise else 1 / (10 * int(members.sum()))
    return {"unit": unit, "delta": delta, **asdict(epsilon_lower_bound(scores, members, delta=delta))}


def write_membership(trainer: Trainer, name: str, found: Findings, summary: Mapping[str, Any]) -> None:
    """Write `scores.csv`, `summary.json` and three pictures, and show them in TensorBoard.

    Args:
        trainer: its folder and loggers are written to.
        name: of the attack.
        found: who was scored, and how.
        summary: what `summarise` returned, and what else belongs into the file.
    """
    samples, scores, seeds = found.samples, found.scores, found.seeds
    folder = run_folder(trainer)
    results = summary["results"]
    write_json(folder / "summary.json", summary)
    _write_scores(folder / "scores.csv", samples, scores, results["threshold"], seeds)
    curve = roc(scores, samples.members)
    label = "AUC {value:.3f} [{low:.3f}, {high:.3f}]".format(**results["auc"])
    others = int(results["nonmembers"])
    sheets = {
        "roc": roc_figure({name: Curve(curve.fpr, curve.tpr, label)}, others),
        "histogram": score_histogram(scores, samples.members, results["threshold"]),
    }
    for kind, sheet in sheets.items():
        write_bytes(folder / f"{kind}.png", png(sheet))
        show(trainer, f"membership/{kind}", sheet, 0)
    _write_exposed(trainer, folder, samples, scores)
    flat = {
        key: found["value"] for key, found in results.items() if isinstance(found, dict) and "value" in found
    }
    for logger in trainer.loggers:
        logger.log_metrics({f"membership/{key}": value for key, value in flat.items()}, 0)
        if isinstance(logger, TensorBoardLogger):
            for whose, chosen in (("members", samples.members), ("nonmembers", ~samples.members)):
                logger.experiment.add_histogram(f"membership/scores/{whose}", scores[chosen], 0)
        logger.finalize("success")


def _write_scores(
    file: Path,
    samples: SignalSamples,
    scores: Scores,
    threshold: float,
    seeds: Sequence[tuple[Scores, float]],
) -> None:
    several = [own for own, _ in seeds] if len(seeds) > 1 else []
    ids = samples.data.source.ids
    rows = [
        [
            ids[int(samples.indices[row])],
            samples.groups[row],
            int(samples.members[row]),
            f"{scores[row]:.9g}",
            int(scores[row] >= threshold),
            *(f"{own[row]:.9g}" for own in several),
        ]
        for row in range(len(samples))
    ]
    names = [f"score_seed{number}" for number in range(len(several))]
    write_csv(file, ["id", "group", "member", "score", "called_member", *names], rows)


def _write_exposed(trainer: Trainer, folder: Path, samples: SignalSamples, scores: Scores) -> None:
    rows, names = [], list[str]()
    for kind, positions in extremes(scores, samples.members, PAGE).items():
        own = [_tiles(samples, scores, int(position), kind) for position in positions]
        ids = [samples.data.source.ids[int(samples.indices[position])] for position in positions]
        if own:
            show(trainer, f"membership/{kind.replace(' ', '_')}", exposed_sheet(own, ids), 0)
        rows += own
        names += ids
    write_bytes(folder / "exposed.png", png(exposed_sheet(rows, names)))


def _tiles(samples: SignalSamples, scores: Scores, position: int, kind: str) -> list[Tile]:
    logits, image, mask, _, _ = samples[0, position]
    asked = logits.shape[1:] == mask.shape
    prediction = predicted(logits.float()[None])[0] if asked else torch.zeros_like(mask)
    return [
        Tile(picture(image), kind),
        Tile(overlay(image, mask), f"score {scores[position]:.3g}"),
        Tile(overlay(image, prediction), "" if asked else "victim not asked"),
    ]


def _spread(values: Sequence[float]) -> dict[str, Any]:
    return {"mean": float(np.mean(values)), "std": float(np.std(values, ddof=1)), "values": list(values)}
