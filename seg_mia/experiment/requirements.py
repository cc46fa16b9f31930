"""What attacks and defences require of data, shadows and classes, known before any training."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from seg_mia.attacks.base import Perturbation
from seg_mia.attacks.certify import Certification
from seg_mia.data.base import SegmentationData, Subset
from seg_mia.data.halves import patient_halves
from seg_mia.data.splits import hold_out
from seg_mia.data.trained_model import TrainedModel
from seg_mia.defences.base import Defence, check_data, check_together
from seg_mia.errors import InputError
from seg_mia.experiment.answers import seen_by
from seg_mia.experiment.modules import model_argument
from seg_mia.experiment.plan import Plan
from seg_mia.membership.answers import Fleet
from seg_mia.membership.base import Membership
from seg_mia.runs import FLEET, FleetRecord, run_of
from seg_mia.tasks.targets import check_targets


def planned_model(data: SegmentationData, name: str) -> TrainedModel:
    """Return a network that is not trained yet, with its half of the data opened and divided.

    Args:
        data: of its training.
        name: in place of its checkpoint, for messages.

    Raises:
        InputError: data that cannot be opened or divided.
    """
    data.prepare_data()
    data.splits = data.split()
    return TrainedModel(_untrained, data, Path(name))


def check_defences(planned: Plan, data: SegmentationData) -> None:
    """Raise InputError if a planned training's data does not permit its defences.

    Args:
        planned: the training.
        data: of the training, for this alone: a defence may add samples to it.
    """
    defences = model_argument(planned, "defences", list[Defence])
    if defences:
        check_together(defences)
        check_data(defences, planned_model(data, "").data)


def _untrained() -> nn.Module:
    raise RuntimeError("this network is not trained yet, only its training is planned")


def check_membership(
    attack: Membership,
    victim: TrainedModel,
    shadows: Sequence[TrainedModel],
    *,
    seed: int,
    control: bool = False,
) -> None:
    """Raise InputError if an attack has too few samples, patients or shadows; no network is queried.

    Args:
        attack: the attack.
        victim: the attacked network, trained or planned.
        shadows: of the attack, likewise.
        seed: seed of the first classifier.
        control: whether a shadow is queried instead of the victim.
    """
    scorer = attack.scorer
    command = fleet_command(shadows)
    scorer.needs.check_count(len(shadows), command)
    check_enough(victim, limited=True)
    for shadow in shadows:
        check_enough(shadow)
    if scorer.by_nonmembers:
        queried = shadows[0] if control else victim
        for shadow in shadows:
            _check_known(scorer.least_nonmembers, queried, shadow)
    elif scorer.needs.queries_judged:
        compared = shadows[1:] if control else shadows
        judged = np.concatenate([victim.judged(part) for part in ("members", "nonmembers")])
        scorer.needs.check(np.stack([seen_by(shadow)[judged] for shadow in compared]), command)
    if scorer.training is not None:
        samples, members = _samples(shadows[0])
        groups = [shadows[0].data.source.groups[i] for i in samples.tolist()]
        for number in range(scorer.training.seeds):
            hold_out(members, groups, part=scorer.training.validation, seed=seed + number)


def fleet_command(shadows: Sequence[TrainedModel]) -> str | None:
    """Return the recorded command of the fleet that all shadows belong to, without its `--count`.

    Args:
        shadows: networks whose runs lie two folders below that of all runs, as fleets' records do.

    Returns:
        None for networks of no fleet, or of several.
    """
    runs = {run_of(shadow.file).resolve() for shadow in shadows}
    root = next(iter(runs)).parent.parent if runs else Path()
    for file in sorted(root.glob(f"*/*/{FLEET}")) if runs else ():
        try:
            record = FleetRecord.model_validate_json(file.read_bytes())
        except (OSError, ValueError):  # a damaged record is refused where a fleet is named
            continue
        if runs <= {(root / network.run).resolve() for network in record.networks}:
            return re.sub(r" --count \d+", "", record.command)
    return None


def check_fleet(needs: Fleet, count: int) -> None:
    """Raise InputError if a fleet of numbered networks is too small for an attack on its own pool.

    Args:
        needs: shadows that the attack requires.
        count: number of networks; each sample is in half of an even number.
    """
    in_turn = np.arange(count) % 2 == 0
    needs.check(np.stack([in_turn, ~in_turn], axis=1))


def check_enough(side: TrainedModel, *, limited: bool = False) -> None:
    """Raise InputError for fewer than two members or non-members to evaluate, or those of one patient.

    Args:
        side: the victim or a shadow.
        limited: apply the `limit` of the data, as to the victim's samples.
    """
    data = side.data
    parts: tuple[Subset, ...] = ("members", "nonmembers")
    for part in parts:
        groups = {data.source.groups[i] for i in side.judged(part, limited=limited)}
        if len(groups) < 2:
            if limited and len({data.source.groups[i] for i in side.judged(part)}) > 1:
                raise InputError(
                    f"membership needs at least 2 {part} in each half, --data.limit {data.limit} leaves "
                    f"{len(groups)} of the {data.role}'s; raise the limit, or leave it out"
                )
            why = ", ".join(f"{count} {reason}" for reason, count in side.left_out.items() if count)
            raise InputError(
                f"membership needs at least 2 {part} in each half, from 2 groups if there are groups, the "
                f"{data.role}'s half has {len(groups)}{f', {why} left out' if why else ''}; train again with "
                f"more --data.{part}{', and on all of them' if 'untrained' in why else ''}"
            )


def check_images(attack: Perturbation | Certification, data: SegmentationData) -> None:
    """Raise InputError if an attack has too few images or patients, or other classes than it can treat.

    Args:
        attack: an attack on images, or a certification.
        data: the evaluated data, opened and divided.
    """
    images = data.attacked()
    attack.check_samples(data.source.classes, data.source.channels)
    if isinstance(attack, Certification):
        return
    if attack.fits:
        patient_halves(images, data.source.groups, attack.fitting_seed)
    check_targets(attack, data)


def _samples(side: TrainedModel) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return a network's members and non-members, and which are members."""
    parts = side.judged("members"), side.judged("nonmembers")
    indices = np.concatenate(parts)
    return indices, np.arange(len(indices)) < len(parts[0])


def _check_known(least: int, queried: TrainedModel, shadow: TrainedModel) -> None:
    """Raise InputError for fewer known non-members of the queried network in the shadow's half."""
    samples, _ = _samples(shadow)
    known = int((~seen_by(queried)[samples]).sum())
    if known >= least:
        return
    more = "more non-members"
    if shadow.data.nonmembers is not None and shadow.data.shadow is None:
        more = f"--data.nonmembers {shadow.data.nonmembers + least - known}"
    control = "leave out the control, which queries the shadow itself, or " if queried is shadow else ""
    raise InputError(
        f"this attack needs at least {least} known non-members, got {known}: samples of the shadow's half "
        f"that the queried network was not trained on; {control}train the shadow with {more} (in an audit, "
        "among its options), or use mia-calibrated"
    )
