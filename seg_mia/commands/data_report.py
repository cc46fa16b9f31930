"""Data set report of `prepare`, as plain values for prepare.json."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from seg_mia.data.base import SegmentationData
from seg_mia.data.checks import ONE_GREY, pixels_by_label
from seg_mia.data.report_types import ClassShare, DataReport, NearDuplicates, NearPair, PartSize, Spread
from seg_mia.data.source import PARTS
from seg_mia.data.survey import Pair, Survey, equal
from seg_mia.data.units import units_of
from seg_mia.errors import InputError
from seg_mia.metrics.label_sets import label_names

LISTED = 1000
"""Maximum number of listed pairs within groups; all are counted."""


@dataclass(frozen=True, eq=False)
class Inspection:
    """Results of a data set inspection.

    Attributes:
        data: decoded data set.
        measured: sample statistics.
        pairs: near duplicates, most similar first.
        parts: subset of each sample in the config's split; none if the split is infeasible.
        misfit: reason for an infeasible split, or for the rejection of the data for training.
    """

    data: SegmentationData
    measured: Survey
    pairs: tuple[Pair, ...]
    parts: tuple[str, ...]
    misfit: str

    @property
    def ids(self) -> tuple[str, ...]:
        """Return the samples' names."""
        return self.data.source.ids

    def across(self) -> list[Pair]:
        """Return the pairs across two groups."""
        groups = self.data.source.groups
        return [pair for pair in self.pairs if groups[pair.first] != groups[pair.second]]


def data_report(
    findings: Inspection, name: str, *, distance: int, similarity: float, full: float
) -> DataReport:
    """Return all results of an inspection as plain values.

    Args:
        findings: results of the inspection.
        name: name of the data set.
        distance: as given to `near_pairs`.
        similarity: as given to `near_pairs`.
        full: share of a mask that one class other than 0 must cover to be suspicious.
    """
    data, measured = findings.data, findings.measured
    labelled = measured.labelled
    foreground = (labelled - measured.pixels[:, 0])[labelled > 0] / labelled[labelled > 0]
    sizes = np.unique(data.source.groups, return_counts=True)[1]
    return {
        "config": name,
        "data": f"{type(data).__module__}.{type(data).__name__}",
        "fingerprint": data.fingerprint,
        "samples": len(findings.ids),
        "groups": {"count": len(sizes), **_spread(sizes)},
        "images": {
            "shape": list(data.cached.images.shape[1:]),
            "type": str(data.cached.images.dtype),
            "low": float(measured.low.min()),
            "high": float(measured.high.max()),
        },
        "masks": {"shape": list(data.cached.masks.shape[1:]), "foreground": _spread(foreground)},
        "classes": _classes(measured, findings.data.source.classes),
        "ignored": float(measured.pixels[:, -1].sum() / measured.pixels.sum()),
        "split": {part: findings.parts.count(part) for part in dict.fromkeys(findings.parts)}
        or findings.misfit,
        "parts": _parts(data),
        "refused": findings.misfit if findings.parts else "",
        "notes": [{"text": note.text, "names": list(note.names)} for note in data.notes],
        "suspicious": _suspicious(findings, full),
        "equal": [[findings.ids[i] for i in duplicates] for duplicates in equal(measured.digests)],
        "near": _near(findings, distance, similarity),
    }


def _parts(data: SegmentationData) -> list[PartSize]:
    """Return the stated parts as they are used; none for a random split, or one that is refused."""
    try:
        used = data.used_parts()
    except InputError:
        return []
    source, sizes = data.source, list[PartSize]()
    for part in PARTS if used is not None else ():
        chosen = [i for i, name in enumerate(used or ()) if name == part]
        if chosen:
            patients, cases = ({names[i] for i in chosen} for names in (source.groups, source.case_names))
            sizes.append(
                {"part": part, "cases": len(cases), "patients": len(patients), "samples": len(chosen)}
            )
    return sizes


def _spread(values: NDArray[Any]) -> Spread:
    if not len(values):
        return {"smallest": 0.0, "median": 0.0, "largest": 0.0}
    return {
        "smallest": float(values.min()),
        "median": float(np.median(values)),
        "largest": float(values.max()),
    }


def _classes(measured: Survey, classes: int) -> list[ClassShare]:
    counts, total = measured.pixels[:, :-1].T, max(int(measured.labelled.sum()), 1)
    rows = {"background": counts[0], **pixels_by_label(counts, classes)}
    named = bool(label_names(classes))
    return [
        {
            "id": number,
            "name": name if named else "",
            "share": float(row.sum() / total),
            "samples": int((row > 0).sum()),
        }
        for number, (name, row) in enumerate(rows.items())
    ]


def _suspicious(findings: Inspection, full: float) -> dict[str, list[str]]:
    """Return the names of samples with suspicious masks or images."""
    measured = findings.measured
    counts, labelled = measured.pixels[:, :-1], measured.labelled
    kinds = {
        "empty masks": (labelled > 0) & (counts[:, 0] == labelled),
        "almost full masks": (labelled > 0) & (counts[:, 1:].max(1) >= full * labelled),
        "masks with only ignored pixels": labelled == 0,
        "constant images": findings.data.facts.spread <= ONE_GREY,
    }
    return {kind: [findings.ids[i] for i in np.flatnonzero(which)] for kind, which in kinds.items()}


def _near(findings: Inspection, distance: int, similarity: float) -> NearDuplicates:
    """Return near duplicates, and lists of those that nothing keeps on one side."""
    ids, groups, across = findings.ids, findings.data.source.groups, findings.across()
    within = [pair for pair in findings.pairs if groups[pair.first] == groups[pair.second]]
    unit_of = _units(findings.data)
    loose = [pair for pair in across if not _together(pair, unit_of)]
    rows: list[NearPair] = [
        {
            "first": ids[pair.first],
            "second": ids[pair.second],
            "distance": pair.distance,
            "similarity": pair.similarity,
            "together": _together(pair, unit_of),
            "parts": [findings.parts[i] for i in pair[:2]] if findings.parts else None,
        }
        for pair in across
    ]
    return {
        "distance": distance,
        "similarity": similarity,
        "within_groups": len(within),
        "within": [(ids[pair.first], ids[pair.second], pair.similarity) for pair in within[:LISTED]],
        "across_groups": rows,
        "parted": sum(
            findings.parts[first] != findings.parts[second] for first, second, *_ in across if findings.parts
        ),
        "loose": [[ids[i] for i in component] for component in _merged(loose, len(ids))],
    }


def _units(data: SegmentationData) -> NDArray[np.int64]:
    """Return the number of the unit that each sample cannot be parted from, as splits have it, (n,)."""
    source = data.source
    unit_of = np.empty(len(source), np.int64)
    for number, unit in enumerate(units_of(source.ids, source.groups, data.duplicate_groups())):
        unit_of[unit] = number
    return unit_of


def _together(pair: Pair, unit_of: NDArray[np.int64]) -> bool:
    return bool(unit_of[pair.first] == unit_of[pair.second])


def _merged(pairs: Sequence[Pair], count: int) -> list[list[int]]:
    """Return the sets of samples that pairs connect, each ascending."""
    return equal(_components([pair[:2] for pair in pairs], count).tolist())


def _components(sets: Sequence[Sequence[int]], count: int) -> NDArray[np.int64]:
    """Return the number of the connected set that each of some samples is in, (count,)."""
    edges = [(first, second) for component in sets for first, second in pairwise(component)]
    ends = np.array(edges, np.int64).reshape(-1, 2).T
    graph = coo_array((np.ones(len(edges), bool), (ends[0], ends[1])), shape=(count, count))
    return np.asarray(connected_components(graph, directed=False)[1], np.int64)
