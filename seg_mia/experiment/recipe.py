"""Audit of a recipe: signals of a fleet's networks on their common pool, and attacks among them."""

import logging
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import torch
from lightning.pytorch import LightningDataModule, LightningModule
from numpy.typing import NDArray

from seg_mia.checkpoint import drop_optimiser, network_spec, read_card
from seg_mia.data.altered import COLUMN, UNALTERED
from seg_mia.data.base import SegmentationData
from seg_mia.data.predictions import is_reproducible
from seg_mia.data.signal_values import signal_values
from seg_mia.data.trained_model import TrainedModel
from seg_mia.errors import InputError
from seg_mia.experiment.answers import COMMON, pool_of, seen_by
from seg_mia.experiment.trained_networks import initial_of, unseen_of
from seg_mia.membership.base import Membership
from seg_mia.membership.fleet.arrays import prepared, untrained_networks
from seg_mia.membership.fleet.audit import recipe_audit
from seg_mia.membership.fleet.curve import network_curve
from seg_mia.membership.fleet.many_runs import exchangeable, many_runs_bound
from seg_mia.membership.fleet.recipe import by_patient
from seg_mia.membership.label_signals import of_classes
from seg_mia.membership.scorers import Levelled
from seg_mia.membership.signals import ImageDice, Signal
from seg_mia.results.privacy import DPGuarantee, EpsilonLowerBound, guarantee
from seg_mia.results.recipe import RecipeResult, recipe_result
from seg_mia.runs import BEST
from seg_mia.tasks.segmentation import Segmentation

log = logging.getLogger(__name__)

QUALITY: Final = ImageDice()
KEPT: Final = (QUALITY, *COMMON)
"""Signals kept of each network of a fleet, those of the shipped attacks."""
FOREGROUND: Final = "foreground"
"""Column of the fraction of an image that is foreground."""
LEAST_NETWORKS: Final = 6
"""Without a target and its complement each sample then has two references on either side."""


@dataclass(frozen=True)
class FleetSignals:
    """Signals of a fleet on its pool.

    Attributes:
        ids: names of the samples, (n,).
        groups: patient of each sample, (n,).
        inside: training set of each network, bool (networks, n).
        values: signals of each attack, higher for members, (networks, n) or (networks, n, signals).
        dice: Dice of each network on each sample, (networks, n).
        columns: values of each sample by column, as text, (n,) each.
        untrained: numbers of the networks left out as not trained (`untrained_networks`), none of them in the
            other fields.
        privacy: the guarantee that holds for all networks, the weakest; None if some has none.
        initial: signals of each attack, as `values`, of the same networks before their first training step;
            empty where one is unknown or cannot be built.
    """

    ids: NDArray[np.str_]
    groups: NDArray[np.str_]
    inside: NDArray[np.bool_]
    values: Mapping[str, NDArray[np.float64]]
    dice: NDArray[np.float64]
    columns: Mapping[str, Sequence[str]]
    untrained: tuple[int, ...] = ()
    privacy: DPGuarantee | None = None
    initial: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)

    @property
    def altered(self) -> NDArray[np.bool_] | None:
        """Altered samples, bool (n,); None if there are none."""
        kinds = self.columns.get(COLUMN)
        return None if kinds is None else np.array([kind != UNALTERED for kind in kinds])


def fleet_signals(
    attacks: Mapping[str, Membership],
    fleet: Sequence[TrainedModel],
    device: torch.device,
    *,
    subgroups: Sequence[str] = (),
) -> FleetSignals:
    """Return the signals of each attack, of all networks on the fleet's pool.

    Args:
        attacks: attacks on numbers, by name.
        fleet: networks with members drawn from one pool; they are loaded one at a time, where their signals
            are not cached.
        device: device of the queries.
        subgroups: columns of the data set's list of samples, such as the site.

    Raises:
        InputError: networks of several pools, an attack on maps, too few networks, an unknown column.
    """
    pool = _common_pool(fleet)
    columns = _columns(fleet[0].data, pool, subgroups)
    for name, attack in attacks.items():
        if attack.signal.maps:
            raise InputError(f"a fleet is attacked by numbers, {name} takes maps; leave it out")
    source = fleet[0].data.source
    signals = [
        of_classes(signal, source.classes)
        for signal in (QUALITY, *(attack.signal for attack in attacks.values()))
    ]
    rows = [
        signal_values(network, signals, fleet[0].data, pool, device, augment=network.data.augment)
        for network in fleet
    ]
    inside = np.stack([seen_by(network)[pool] for network in fleet])
    dice = 1 - np.stack([row[0] for row in rows])
    failed = untrained_networks((dice * inside).sum(axis=1) / inside.sum(axis=1))
    usable = [row for row, left_out in zip(rows, failed, strict=True) if not left_out]
    if len(usable) < LEAST_NETWORKS:
        raise InputError(
            f"a recipe is audited by {LEAST_NETWORKS} networks or more, {len(usable)} of {len(fleet)} are "
            "trained; raise --count"
        )
    kept = [network for network, left_out in zip(fleet, failed, strict=True) if not left_out]
    return FleetSignals(
        ids=np.array([source.ids[i] for i in pool]),
        groups=np.array([source.groups[i] for i in pool]),
        inside=inside[~failed],
        values={name: -np.stack([row[i] for row in usable]) for i, name in enumerate(attacks, start=1)},
        dice=dice[~failed],
        columns=columns,
        untrained=tuple(np.flatnonzero(failed).tolist()),
        privacy=_weakest(kept),
        initial=_initial(list(attacks), kept, signals[1:], pool, device),
    )


def _weakest(fleet: Sequence[TrainedModel]) -> DPGuarantee | None:
    """Return the guarantee of largest epsilon; None if a network has none."""
    given = [guarantee(network.privacy, str(network.file)) for network in fleet]
    known = [privacy for privacy in given if privacy is not None]
    if len(known) < len(given):
        return None
    return max(known, key=lambda privacy: np.inf if privacy.epsilon is None else privacy.epsilon)


def many_runs(values: NDArray[np.float64], signals: FleetSignals) -> EpsilonLowerBound | None:
    """Return the epsilon that the networks of a private fleet prove for one patient, None for no proof.

    A proof needs the fleet as it was drawn, with no network left out by its outcome, and networks with a
    patient that differ from those without by an exchange of two patients: all of as many samples, and as many
    of them in each network. Halves of patients of unequal size, or of an odd number, are no such networks.

    Args:
        values: signals of one attack, (networks, n) or (networks, n, signals).
        signals: of the fleet.
    """
    privacy = signals.privacy
    if privacy is None or privacy.delta is None or not (privacy.noise or privacy.releases_alone):
        return None
    if signals.untrained or not exchangeable(signals.inside, signals.groups):
        log.warning(
            "no epsilon is proved by these trainings: it needs all networks of the fleet, patients of "
            "equally many samples, and as many of them in each network"
        )
        return None
    compared, inside, names = by_patient(prepared(values, signals.inside), signals.inside, signals.groups)
    compared = compared.mean(axis=2) if compared.ndim == 3 else compared
    delta, gaussian = privacy.delta, privacy.is_gaussian
    return EpsilonLowerBound.measured(
        lambda confidence: many_runs_bound(
            compared, inside, delta=delta, gaussian=gaussian, confidence=confidence
        ),
        delta=delta,
        unit="image" if len(names) == len(signals.groups) else "patient",
    )


def _initial(
    names: Sequence[str],
    fleet: Sequence[TrainedModel],
    signals: Sequence[Signal],
    pool: NDArray[np.int64],
    device: torch.device,
) -> dict[str, NDArray[np.float64]]:
    """Return the signals of networks before their first step, queried as the networks themselves."""
    rows = list[list[NDArray[np.float64]]]()
    for network in fleet:
        if network.initial is None:
            return {}
        try:
            row = signal_values(
                network.initial, signals, fleet[0].data, pool, device, augment=network.data.augment
            )
        except InputError as error:
            log.warning("the control by untrained networks is left out: %s", error)
            return {}
        rows.append(row)
    return {name: -np.stack([row[i] for row in rows]) for i, name in enumerate(names)}


def without_untrained(shadows: Sequence[TrainedModel], device: torch.device) -> list[TrainedModel]:
    """Return the shadows that have trained (`untrained_networks`), and warn of the others.

    A network that answers alike for members and others only adds noise to a comparison. With fewer than
    `LEAST_NETWORKS` shadows none is left out: a median of fewer says little.

    Args:
        shadows: networks that an attacker compares with the victim.
        device: device of the queries.
    """
    if len(shadows) < LEAST_NETWORKS:
        return list(shadows)
    dice = list[float]()
    for shadow in shadows:
        quality, pool = of_classes(QUALITY, shadow.data.source.classes), pool_of(shadow)
        (loss,) = signal_values(shadow, [quality], shadow.data, pool, device, augment=shadow.data.augment)
        dice.append(float(1 - loss[np.isin(pool, shadow.judged("members"))].mean()))
    failed = untrained_networks(np.array(dice))
    for shadow, value, left_out in zip(shadows, dice, failed, strict=True):
        if left_out:
            log.warning("%s did not train (Dice %.3f on its members) and is left out", shadow.file, value)
    return [shadow for shadow, left_out in zip(shadows, failed, strict=True) if not left_out]


def check_columns(data: SegmentationData, names: Sequence[str]) -> None:
    """Raise InputError for a name that is no column of the opened data's manifest, or a computed one's."""
    known = data.source.columns
    if FOREGROUND in names:
        raise InputError(
            f"the {FOREGROUND}'s fraction of the image is always compared, under this name; leave it out of "
            "subgroups, or rename the manifest's column"
        )
    if unknown := [name for name in names if name not in known]:
        raise InputError(
            f"subgroups must be columns of the manifest, {', '.join(known) or 'which has no further ones'}, "
            f"got {unknown[0]}; correct it, or leave it out"
        )


def _columns(data: SegmentationData, pool: NDArray[np.int64], names: Sequence[str]) -> dict[str, list[str]]:
    """Return the named columns of a pool's samples, the foreground's fraction, and which are altered."""
    check_columns(data, names)
    known = data.source.columns
    chosen = [*names, *(name for name in (COLUMN,) if name in known)]
    labelled = np.maximum(data.facts.pixels[pool, :-1].sum(axis=1), 1)
    sizes = {FOREGROUND: [f"{share:.6g}" for share in data.facts.foreground[pool] / labelled]}
    return {name: [known[name][i] for i in pool] for name in dict.fromkeys(chosen)} | sizes


def in_fleet(data: LightningDataModule) -> bool:
    """Return whether a training's members are drawn from the pool of a fleet."""
    return isinstance(data, SegmentationData) and data.shadow is not None


def finish_network(
    file: Path,
    task: LightningModule,
    data: LightningDataModule,
    *,
    completed: bool,
    trust: Collection[str],
) -> None:
    """Reduce a fleet's trained network to what attacks need, and cache its signals.

    Args:
        file: its last checkpoint.
        task: the training's task, with the same weights.
        data: its training data.
        completed: whether all planned epochs are done; a training that stopped early may go on.
        trust: class paths outside seg_mia allowed in the metadata.
    """
    if completed:
        drop_optimiser(file)
        file.with_name(BEST).unlink(missing_ok=True)
    keep_signals(file, task, data, trust=trust)


def keep_signals(
    file: Path, task: LightningModule, data: LightningDataModule, *, trust: Collection[str]
) -> None:
    """Cache the signals of a fleet's trained network on its pool: all attacks by the fleet need them.

    Those of the network before its first step are cached, too, for the control of the recipe's audit.

    Args:
        file: its checkpoint.
        task: the training's task, with the same weights.
        data: its training data.
        trust: class paths outside seg_mia allowed in the metadata.
    """
    if not isinstance(task, Segmentation) or not isinstance(data, SegmentationData):
        return
    card = read_card(file, trust=trust)
    side = TrainedModel(lambda: task.network, data, file, network_spec(card), unseen_of(card, data))
    if not is_reproducible(side.built):  # its outputs may change, and are never kept
        return
    kept = [of_classes(signal, data.source.classes) for signal in KEPT]
    signal_values(side, kept, data, pool_of(side), task.device, augment=data.augment)
    initial = initial_of(card, data, file, trust=trust)
    if initial is not None:
        with suppress(InputError):  # the audit says why its control is left out
            signal_values(initial, kept, data, pool_of(side), task.device, augment=data.augment)


def _common_pool(fleet: Sequence[TrainedModel]) -> NDArray[np.int64]:
    """Return the samples that all networks' members are drawn from, ascending."""
    pools = [pool_of(network) for network in fleet]
    for network, pool in zip(fleet, pools, strict=True):
        if network.data.shadow is None or not np.array_equal(pool, pools[0]):
            raise InputError(
                f"a fleet's networks draw their members from one pool, {network.file} has another than "
                f"{fleet[0].file}; train them by `seg_mia fleet`"
            )
    return pools[0]


def _tell_of_level(name: str, attack: Membership) -> None:
    """Say where an audit, whose attacks are on a victim and on its recipe, takes levels of the latter."""
    if isinstance(attack.scorer, Levelled) and attack.scorer.level == "outside":
        log.warning(
            "%s: level outside is that of the attack on the victim; its recipe is audited with levels over "
            "the pool, half of it in each network",
            name,
        )


def recipe_results(
    attacks: Mapping[str, Membership],
    signals: FleetSignals,
    hashes: Mapping[str, str],
    *,
    row: int = 0,
    defence: str = "none",
    folder: str = "",
) -> list[RecipeResult]:
    """Return the result of each attack, with each network in turn as target.

    Args:
        attacks: as given to `fleet_signals`.
        signals: from `fleet_signals`.
        hashes: salted hash of each patient's name, such as of `seg_mia.data.identities.identities`.
        row: row of an audit's comparison.
        defence: name of the recipe in tables.
        folder: folder of the results' files.

    Raises:
        InputError: too few networks, a patient partly inside a network.
    """
    dice = {"members": signals.dice[signals.inside], "nonmembers": signals.dice[~signals.inside]}
    utility = {subset: {"dice": float(values.mean())} for subset, values in dice.items()}
    results = list[RecipeResult]()
    for name, attack in attacks.items():
        arrays = signals.values[name], signals.inside, signals.groups, attack.scorer.pooled
        standardise, needs = attack.scorer.standardise, attack.scorer.needs
        _tell_of_level(name, attack)
        audit = recipe_audit(
            *arrays,
            standardise=standardise,
            columns=signals.columns,
            altered=signals.altered,
            initial=signals.initial.get(name),
        )
        least_in = needs.count if needs.sampling == "online" else 0
        curve = (
            network_curve(*arrays, least_in=least_in, least_out=needs.count, standardise=standardise)
            if needs.queries_judged
            else []
        )
        results.append(
            recipe_result(
                audit,
                name=name,
                sampling=attack.scorer.attacker if needs.queries_judged else None,
                attacker_knowledge=attack.attacker_knowledge,
                ids=[hashes[name] for name in audit.patients],
                row=row,
                defence=defence,
                utility=utility,
                curve=curve,
                folder=folder,
                resolution=attack.scorer.resolution(len(audit.patients)),
                privacy=signals.privacy,
                many_runs=many_runs(signals.values[name], signals),
            )
        )
    return results
