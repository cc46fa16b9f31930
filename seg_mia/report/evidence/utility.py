"""Group 9 of the evidence: segmentation of each victim, and effect on the most exposed patients."""

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from seg_mia.membership.compare import Scored
from seg_mia.membership.roc import pooled
from seg_mia.report.load import StoredAudit
from seg_mia.results.audit import Victim
from seg_mia.results.base import Average, Measure
from seg_mia.results.bounded_mean import over_images
from seg_mia.results.evidence_measures import ExposedEffect, LabelDice, Utility
from seg_mia.results.membership import MembershipResult

FILE = "per_image.csv"
OF_LABEL = "dice_"
"""Beginning of the names of a label's measures."""
FALSE_POSITIVES = 0.1
"""False positive rate at which exposed patients are looked for."""
EXPOSED_SHARE = 0.1
LEAST_EXPOSED = 5
"""Fewer patients show nothing, and could be recognised."""

Dice = dict[str, float]
"""Dice of each image by id."""


def utilities(
    stored: StoredAudit, membership: Sequence[MembershipResult], scores: Mapping[str, Scored]
) -> list[Utility]:
    """Return the Dice of each victim with intervals, and the differences to the first row.

    Args:
        stored: the audit.
        membership: its results, with folders as in `scores`.
        scores: scores of membership attacks by folder.
    """
    groups = groups_of(scores.values())
    tables = {
        (victim.row, victim.round, subset): dice_of(stored, victim, subset)
        for victim in stored.audit.defences
        for subset in ("members", "nonmembers")
    }
    rows = []
    for victim in stored.audit.defences:
        members, nonmembers = (
            tables[victim.row, victim.round, subset] for subset in ("members", "nonmembers")
        )
        first = tables.get((0, victim.round, "nonmembers"), {})
        rows.append(
            Utility(
                row=victim.row,
                defence=victim.defence,
                seed=victim.seed,
                members=_mean(members, victim.dice("members"), groups),
                nonmembers=_mean(nonmembers, victim.dice("nonmembers"), groups),
                cost=difference(nonmembers, first, groups) if victim.row else None,
                exposed=_exposed(victim, membership, scores) if victim.row else None,
                labels=[label_dice(stored, victim, label, groups) for label in labels_of(victim)],
            )
        )
    return rows


def labels_of(victim: Victim) -> list[str]:
    """Return the names of several classes, or of labels that may overlap, as in the measures' names."""
    names = dict.fromkeys(name for measures in victim.utility.values() for name in measures)
    return [name.removeprefix(OF_LABEL) for name in names if name.startswith(OF_LABEL)]


def label_dice(stored: StoredAudit, victim: Victim, label: str, groups: Mapping[str, str]) -> LabelDice:
    """Return the Dice of one label on members and non-members, on the images where it is defined."""
    column = f"{OF_LABEL}{label}"
    members, nonmembers = (
        _mean(dice_of(stored, victim, subset, column), victim.utility.get(subset, {}).get(column), groups)
        for subset in ("members", "nonmembers")
    )
    return LabelDice(label=label, members=members, nonmembers=nonmembers)


def groups_of(scored: Iterable[Scored]) -> dict[str, str]:
    """Return the patient of each image, as far as attacks have named them."""
    named: dict[str, str] = {}
    for scores in scored:
        named.update(zip(scores.ids.tolist(), scores.groups.tolist(), strict=True))
    return named


def dice_of(stored: StoredAudit, victim: Victim, subset: str, column: str = "dice") -> Dice:
    """Return a Dice of each image of a subset, empty if its file is missing or damaged."""
    named = victim.utility_folders.get(subset)
    folder = None if named is None else stored.locate(named)
    return {} if folder is None else read_dice(folder / FILE, column)


def read_dice(file: Path, column: str = "dice") -> Dice:
    """Return a Dice of each image in a table, where it is defined; empty for a file that is none."""
    try:
        with file.open(newline="", encoding="utf-8") as text:
            rows = {str(row["id"]): row[column] for row in csv.DictReader(text)}
        values = {name: float(value) for name, value in rows.items() if value}
    except (OSError, KeyError, TypeError, ValueError, csv.Error):
        return {}
    return {name: value for name, value in values.items() if math.isfinite(value)}


def _mean(dice: Dice, stated: float | None, groups: Mapping[str, str]) -> Measure:
    """Return a mean Dice with its interval over patients; the stated mean alone without the values."""
    if not dice:
        return Measure(stated)
    values = np.array(list(dice.values()))
    units = len({groups.get(name, name) for name in dice})
    average = Average(
        float(values.mean()),
        float(values.std(ddof=1)) if len(values) > 1 else 0.0,
        float(values.min()),
        float(np.median(values)),
        float(values.max()),
    )
    return over_images(average, units)


def difference(
    dice: Dice, reference: Dice, groups: Mapping[str, str], *, tail: float = 0.025
) -> Measure | None:
    """Return the mean difference of Dice on common images, with an interval of Student's t over patients.

    Each bound is one-sided at `tail`.

    None without common images; no interval for a single patient.
    """
    common = sorted(set(dice) & set(reference))
    if not common:
        return None
    changes = np.array([dice[name] - reference[name] for name in common])
    names = np.array([groups.get(name, name) for name in common])
    unit = np.unique(names, return_inverse=True)[1]
    sizes = np.bincount(unit)
    value, count = float(changes.mean()), len(sizes)
    if count < 2:
        return Measure(value)
    # The ratio estimator of a clustered mean: patients weigh by their images, as in the mean itself.
    strayed = np.bincount(unit, weights=changes) - value * sizes
    error = math.sqrt(count / (count - 1) * float((strayed**2).sum())) / len(common)
    margin = float(stats.t.isf(tail, count - 1)) * error
    return Measure(value, max(-1.0, value - margin), min(1.0, value + margin))


def _exposed(
    victim: Victim, membership: Sequence[MembershipResult], scores: Mapping[str, Scored]
) -> ExposedEffect | None:
    """Return the effect on the most exposed members, by the attack of highest AUC on the first row."""
    firsts = {
        result.label: result
        for result in membership
        if (result.row, result.round, result.role) == (0, victim.round, "attack")
    }
    defended = {
        result.label: result for result in membership if result.key == victim.key and result.role == "attack"
    }
    both = [
        label
        for label in firsts
        if label in defended and firsts[label].folder in scores and defended[label].folder in scores
    ]
    if not both:
        return None
    label = max(both, key=lambda label: firsts[label].auc.value or 0.0)
    return exposed_effect(label, scores[firsts[label].folder], scores[defended[label].folder])


def exposed_effect(label: str, before: Scored, after: Scored) -> ExposedEffect | None:
    """Return the share of the most exposed members that an attack finds with and without a defence.

    The tenth of the member patients with the highest scores is chosen on the first row alone. The share in
    the defended row is therefore not biased by the choice; that in the first row is.

    Returns:
        None for other samples in the two, or fewer than five chosen patients.
    """
    (first, is_member, names), (second, _, second_names) = (
        pooled(scored.scores, scored.members, scored.groups) for scored in (before, after)
    )
    if names != second_names:
        return None
    members = np.flatnonzero(is_member)
    count = round(EXPOSED_SHARE * len(members))
    if count < LEAST_EXPOSED:
        return None
    chosen = members[np.argsort(-first[members], kind="stable")[:count]]
    decisions = [_called(scores, is_member) for scores in (first, second)]
    return ExposedEffect(
        attack=label,
        patients=count,
        before=_share(decisions[0][chosen]),
        after=_share(decisions[1][chosen]),
        all_after=_share(decisions[1][members]),
    )


def _called(scores: NDArray[np.float64], is_member: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which patients have scores that at most a tenth of the non-members reach."""
    negatives = np.sort(scores[~is_member])[::-1]
    allowed = int(FALSE_POSITIVES * len(negatives) + 1e-9)
    decisions: NDArray[np.bool_] = scores > (negatives[allowed] if allowed < len(negatives) else -math.inf)
    return decisions


def _share(called: NDArray[np.bool_]) -> Measure:
    """Return a share with the interval of Clopper and Pearson (1934)."""
    result = stats.binomtest(int(called.sum()), len(called)).proportion_ci(0.95, method="exact")
    return Measure(float(called.mean()), float(result.low), float(result.high))
