"""Membership attacks that a set of predictions allows."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from seg_mia.audit.attacks import PreparedAttack, checked, labelled
from seg_mia.audit.predictions.settings import PredictionSettings
from seg_mia.audit.settings import AttackEntry
from seg_mia.data.prediction_files.reader import PredictionFiles
from seg_mia.data.prediction_files.table import SHADOW
from seg_mia.errors import InputError
from seg_mia.membership.base import Membership
from seg_mia.membership.scorers import Scorer
from seg_mia.membership.signals import ImageAndMask, ImageEntropy

ON_NUMBERS = ("mia-global-loss", "mia-entropy", "mia-dice")
BY_REFERENCES = ("mia-calibrated", "mia-base", "mia-rmia", "mia-lira")
BY_CLASSIFIERS = ("mia-type1", "mia-type2", "mia-loss-map")


@dataclass(frozen=True)
class PossibleAttacks:
    """Attacks to run, and lines on what is absent.

    Attributes:
        attacks: attacks that the predictions allow.
        absent: a line for each kind of attack, or decision, that they do not allow.
    """

    attacks: Sequence[PreparedAttack]
    absent: Sequence[str]


def possible_attacks(settings: PredictionSettings, files: PredictionFiles) -> PossibleAttacks:
    """Return the attacks of an audit: those asked for, else all on numbers that the predictions allow.

    Raises:
        InputError: an attack asked for that the predictions do not allow, or that changes images.
    """
    names: Sequence[str | AttackEntry] = settings.attacks or (*ON_NUMBERS, *BY_REFERENCES)
    entries = [AttackEntry(entry) if isinstance(entry, str) else entry for entry in names]
    built = labelled([_on(files, checked(entry, settings.scorer, {})) for entry in entries], entries)
    missing = {attack.label: _missing(membership_of(attack), files) for attack in built}
    if settings.attacks and (refused := [label for label, reason in missing.items() if reason]):
        raise InputError(f"{refused[0]} {missing[refused[0]]}; leave it out, or add what is missing")
    reasons = dict.fromkeys(reason for reason in missing.values() if reason)
    absent = [
        f"absent: {', '.join(label for label in missing if missing[label] == reason)}: {reason}"
        for reason in reasons
    ]
    return PossibleAttacks(
        [attack for attack in built if not missing[attack.label]], [*_without_shadow(files), *absent]
    )


def membership_of(attack: PreparedAttack) -> Membership:
    """Return a membership attack; raise InputError for one that changes images."""
    if not isinstance(attack.instance, Membership):
        raise InputError(
            f"{attack.name} changes images and queries the network, of which only predictions are given; "
            "leave it out, or audit the network"
        )
    return attack.instance


def _without_shadow(files: PredictionFiles) -> list[str]:
    if files.rows(SHADOW):
        return []
    return [
        f"absent: decision thresholds and classifiers ({', '.join(BY_CLASSIFIERS)}), which learn on rows "
        "shadow_train and shadow_test"
    ]


def _on(files: PredictionFiles, attack: PreparedAttack) -> PreparedAttack:
    """Return an attack with its signal on labels where only these are released."""
    instance = membership_of(attack)
    signal: Any = instance.signal
    if files.layout.released != "labels" or not hasattr(signal, "released"):
        return attack
    return replace(
        attack, instance=Membership(signal=replace(signal, released="labels"), scorer=instance.scorer)
    )


def _missing(attack: Membership, files: PredictionFiles) -> str:
    """Return what an attack needs and the predictions lack, empty if nothing."""
    signal, scorer = attack.signal, attack.scorer
    if scorer.needs.queries_judged:
        return _missing_references(scorer, files)
    reasons = {
        "needs probabilities, labels have no entropy": isinstance(signal, ImageEntropy)
        and files.layout.released == "labels",
        "needs logits, which probabilities do not determine": getattr(signal, "released", "") == "logits",
        "needs images in the table": isinstance(signal, ImageAndMask) and not files.table.has_images,
        "needs predictions of the victim on non-members besides those of part test": scorer.by_nonmembers,
        "trains a classifier on rows shadow_train and shadow_test": scorer.maps and not files.rows(SHADOW),
        "takes one map of classes, not sigmoid channels": scorer.maps and files.layout.released == "sigmoid",
    }
    return next((reason for reason, applies in reasons.items() if applies), "")


def _missing_references(scorer: Scorer, files: PredictionFiles) -> str:
    references = files.table.references
    if not references:
        return "needs reference networks, named in a column network"
    seen = np.array([[row.member for row in files.rows(network)] for network in references])
    needed, with_case = scorer.needs.count, getattr(scorer, "least_inside", 0)
    few = int((((~seen).sum(axis=0) < needed) | (seen.sum(axis=0) < with_case)).sum())
    if not few:
        return ""
    trained = f"{with_case} reference networks trained on each case and " if with_case else ""
    return f"needs {trained}{needed} not trained on it, {few} of {seen.shape[1]} cases have fewer"
