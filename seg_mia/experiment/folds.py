"""Audit of a cross-validation: signals of each fold's network on all cases, and both tests."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from seg_mia.checkpoint import Card, build, load_weights, network_spec, read
from seg_mia.data.base import SegmentationData
from seg_mia.data.nnunet_cases import NnUNetCases
from seg_mia.data.nnunet_folds import fold_members
from seg_mia.data.sets.nnunet import NnUNetRaw
from seg_mia.data.signal_values import signal_values
from seg_mia.data.trained_model import TrainedModel
from seg_mia.errors import InputError, name_some
from seg_mia.membership.certify import clopper_pearson
from seg_mia.membership.fleet.confidences import LogCrossEntropy
from seg_mia.membership.fleet.folds import fold_differences, fold_ranks, left_out_ranks
from seg_mia.membership.fleet.recipe import by_patient, pooled_auc, pooled_rates
from seg_mia.membership.label_signals import of_classes
from seg_mia.membership.signals import ImageDice
from seg_mia.models.nnunet.network import NnUNet
from seg_mia.models.one_head import OneHead
from seg_mia.models.wrapper import bare
from seg_mia.results.base import Measure
from seg_mia.results.folds import FoldQuality, FoldsResult
from seg_mia.results.rates import rate_of
from seg_mia.results.recipe import auc_p_value

SIGNAL = LogCrossEntropy()
"""Signal of the tests, one, so that nothing is chosen after the fact."""
LEAST_FOLDS = 3
LEAST_TESTS = 20
"""Fewest cases of imagesTs by whose median the level of networks is removed."""


@dataclass(frozen=True)
class FoldSignals:
    """Signals of a cross-validation's networks.

    Attributes:
        folds: names of the folds, (networks,).
        groups: patient of each sample, (n,).
        inside: training set of each network, bool (networks, n), False once for each sample.
        values: signals, higher for members, each network's level removed, (networks, n).
        dice: of each network on each sample, (networks, n).
        levelled_by: cases by whose median the level is removed.
        excluded: number of samples left out by none or several networks.
    """

    folds: Sequence[str]
    groups: NDArray[np.str_]
    inside: NDArray[np.bool_]
    values: NDArray[np.float64]
    dice: NDArray[np.float64]
    levelled_by: Literal["imagesTs", "all"]
    excluded: int


def fold_signals(file: Path, card: Card, data: SegmentationData, device: torch.device) -> FoldSignals:
    """Return the signals of each fold's network on the cases of imagesTr.

    Args:
        file: checkpoint of an adopted nnU-Net.
        card: its metadata.
        data: its data, after setup.
        device: device of the queries.

    Raises:
        InputError: another network or data, fewer than three folds, no case that only one fold left out, a
            patient in two folds.
    """
    network = build(network_spec(card))
    load_weights(network, read(file), file)
    ensemble = bare(network)
    if (
        not isinstance(ensemble, NnUNet)
        or not isinstance(data, NnUNetRaw)
        or len(ensemble.folds) < LEAST_FOLDS
    ):
        raise InputError(
            f"folds are audited of nnU-Net with {LEAST_FOLDS} folds or more, got {file}; adopt it with "
            "--folds all"
        )
    chosen, inside, excluded = _cases(ensemble, data)
    tests = _tests(data)
    names = [data.source.ids[index] for index in chosen]
    groups = np.array([data.source.groups[index] for index in chosen])
    _check_patients(groups, inside, names)
    queried = np.concatenate([chosen, tests])
    wanted = [of_classes(signal, data.source.classes) for signal in (SIGNAL, ImageDice())]
    rows = [
        signal_values(_side(ensemble, position, file, card, data), wanted, data, queried, device)
        for position in range(len(ensemble.folds))
    ]
    signals, dice = -np.stack([row[0] for row in rows]), 1 - np.stack([row[1] for row in rows])
    by_tests = len(tests) >= LEAST_TESTS
    levels = np.median(
        signals[:, len(chosen) :] if by_tests else signals[:, : len(chosen)], axis=1, keepdims=True
    )
    return FoldSignals(
        folds=ensemble.folds,
        groups=groups,
        inside=inside,
        values=(signals - levels)[:, : len(chosen)],
        dice=dice[:, : len(chosen)],
        levelled_by="imagesTs" if by_tests else "all",
        excluded=excluded,
    )


def folds_result(signals: FoldSignals, *, row: int = 0, defence: str = "none") -> FoldsResult:
    """Return both tests of a cross-validation, by patient.

    Args:
        signals: from `fold_signals`.
        row: row of an audit's comparison.
        defence: name of the victim in tables.

    Raises:
        InputError: too few patients.
    """
    values, inside, patients = by_patient(signals.values, signals.inside, signals.groups)
    ranks = fold_ranks(values, inside)
    scores, members = fold_differences(values, inside)
    area = pooled_auc(scores, members)
    low, high = clopper_pearson(ranks.lowest, ranks.samples, level=0.025)
    return FoldsResult(
        row=row,
        defence=defence,
        attacker_knowledge=SIGNAL.attacker_knowledge,
        networks=len(values),
        patients=len(patients),
        samples=len(signals.groups),
        levelled_by=signals.levelled_by,
        lowest=ranks.lowest,
        chance=ranks.chance,
        share=Measure(ranks.lowest / ranks.samples, low, high),
        p_value=ranks.p_value,
        ranks=left_out_ranks(values, inside).tolist(),
        auc=Measure(area.value, area.low, area.high),
        auc_p_value=auc_p_value(area, len(patients)),
        rates=[rate_of(rate) for rate in pooled_rates(scores, members)],
        quality=[
            FoldQuality(fold, float(dice[side].mean()), float(dice[~side].mean()))
            for fold, dice, side in zip(signals.folds, signals.dice, signals.inside, strict=True)
        ],
        excluded=signals.excluded,
    )


def _cases(ensemble: NnUNet, data: NnUNetRaw) -> tuple[NDArray[np.int64], NDArray[np.bool_], int]:
    """Return the labelled cases that one fold left out, the folds trained on them, and the others' number."""
    source = data.source
    assert isinstance(source, NnUNetCases)
    splits = None if data.splits_file is None else Path(data.splits_file)
    members = fold_members(splits, ensemble.folds, source.training)
    cases = np.array(
        [i for i, name in enumerate(source.ids) if name in source.training and data.facts.labelled[i]]
    )
    inside = np.array(
        [[source.ids[i] in members[fold] for i in cases] for fold in ensemble.folds], dtype=np.bool_
    )
    once = (~inside).sum(axis=0) == 1
    if not once.any():
        raise InputError(
            f"cases must be left out by exactly one of folds {', '.join(ensemble.folds)}, none is; name "
            "the folds of "
            "one cross-validation"
        )
    return cases[once].astype(np.int64), inside[:, once], int((~once).sum())


def _tests(data: NnUNetRaw) -> NDArray[np.int64]:
    """Return the labelled cases of imagesTs."""
    source = data.source
    assert isinstance(source, NnUNetCases)
    tests = [i for i, name in enumerate(source.ids) if name not in source.training and data.facts.labelled[i]]
    return np.array(tests, dtype=np.int64)


def _check_patients(groups: NDArray[np.str_], inside: NDArray[np.bool_], names: Sequence[str]) -> None:
    """Raise InputError for patients that were left out by several folds."""
    fold = np.argmin(inside, axis=0)
    torn = [group for group in np.unique(groups) if len(np.unique(fold[groups == group])) > 1]
    if torn:
        pairs = [" and ".join(np.array(names)[groups == group][:2]) for group in torn]
        raise InputError(
            f"patients must lie in one fold, {len(torn)} of {len(np.unique(groups))} lie in several "
            f"({name_some(pairs)}): none of them is unseen by any network, so nothing can be tested; group "
            "cases by "
            "patient in splits_final.json and train again"
        )


def _side(ensemble: NnUNet, position: int, file: Path, card: Card, data: SegmentationData) -> TrainedModel:
    """Return the network of one fold; its outputs are cached under the fold's name."""

    def load() -> nn.Module:
        network = ensemble.of_fold(position)
        return OneHead(network, gives="multilabel") if ensemble.regions else network

    return TrainedModel(load, data, file, [network_spec(card), "fold", ensemble.folds[position]])
