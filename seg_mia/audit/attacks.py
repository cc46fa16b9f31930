"""Attacks of an audit, each built once before any training, so that invalid ones fail first."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from jsonargparse import ArgumentParser

from seg_mia.attacks.base import Perturbation, Preparation
from seg_mia.attacks.certify import Certification
from seg_mia.attacks.white_box import WhiteBox
from seg_mia.audit.settings import AttackEntry, Settings, is_given, shadow_count
from seg_mia.config.files import Config, find_config
from seg_mia.config.messages import one_line, refusal
from seg_mia.config.options import Option, options_of, words_of
from seg_mia.errors import InputError
from seg_mia.experiment.attack_classes import is_certification, is_membership
from seg_mia.membership.base import Membership
from seg_mia.membership.scorers import Classifier
from seg_mia.models.membership_classifier import MembershipClassifier, load_classifier

BLIND = "mia-blind"
BLIND_STATISTICS = "mia-blind-statistics"
"""The baseline that needs no shadow."""
SHADOW = "shadow"
"""Value of an attack's `surrogate` that refers to the audit's own shadow."""
FLEET = "fleet"
"""The same for the networks of its fleet, of attacks from several surrogates."""


@dataclass(frozen=True)
class PreparedAttack:
    """An attack and its settings.

    Attributes:
        name: name in the audit.
        file: its config.
        options: options of the attack and of the data.
        instance: the attack object.
        control: query the shadow instead of the victim.
        label: label in tables: the name, with settings if another attack has the same name.
    """

    name: str
    file: str
    options: tuple[Option, ...]
    instance: Perturbation | Membership | Certification
    control: bool = False
    label: str = ""


def prepared_attacks(settings: Settings) -> list[PreparedAttack]:
    """Return the attacks to run, the blind baseline first; raise InputError for invalid ones."""
    entries = [AttackEntry(entry) if isinstance(entry, str) else entry for entry in settings.attacks]
    built = [checked(entry, settings.scorer, settings.data) for entry in entries]
    attacks = labelled(once_checked(built, entries, settings), entries)
    inferring = [attack for attack in attacks if isinstance(attack.instance, Membership)]
    if settings.shadow is None and any(map(on_shadow, attacks)):
        raise InputError(
            "an attack with a surrogate needs a shadow model; name one in the audit, `shadow: CONFIG` or a "
            "checkpoint"
        )
    if settings.fleet is None and any(map(on_fleet, attacks)):
        raise InputError(
            "an attack with the surrogate fleet needs one; add it to the audit, `fleet: {count: 6}`"
        )
    if any(on_shadow(attack) and on_fleet(attack) for attack in attacks):
        raise InputError(
            "surrogate and others of one attack must be the same networks of the audit, got shadow and "
            "fleet; use one of them in both, or two attacks"
        )
    if not inferring:
        return attacks
    learning = [attack for attack in inferring if not by_fleet(attack, settings)]
    if settings.shadow is None and is_given(settings):
        return _without_shadow(settings, attacks, learning)
    if settings.shadow is None and not learning:
        return attacks
    if settings.shadow is None:
        raise InputError(
            f"no shadow model for {', '.join(sorted({attack.name for attack in learning}))}; "
            "name one in the audit, `shadow: CONFIG` or a checkpoint"
        )
    blind = [attack for attack in inferring if not queries_victim(attack)]
    blind = blind or [checked(AttackEntry(BLIND), settings.scorer, settings.data)]
    controls = [
        replace(attack, control=True, label=f"{attack.label}, control")
        for attack in inferring
        if settings.control and queries_victim(attack) and _controllable(attack, settings)
    ]
    return [*blind, *(attack for attack in attacks if attack not in blind), *controls]


def _without_shadow(
    settings: Settings, attacks: Sequence[PreparedAttack], learning: Sequence[PreparedAttack]
) -> list[PreparedAttack]:
    """Return attacks on a trained victim without a shadow, a blind baseline first."""
    instances = [(attack.name, attack.instance) for attack in learning]
    needing = [name for name, instance in instances if isinstance(instance, Membership) and
               not instance.scorer.needs.dispensable]  # fmt: skip
    if needing or settings.control:
        raise InputError(
            f"no shadow model for {', '.join(sorted(needing)) or 'control: true'}; name one in the audit, "
            "`shadow: "
            "CONFIG` or a checkpoint, or leave them out"
        )
    blind = [attack for attack in learning if not queries_victim(attack)]
    blind = blind or [checked(AttackEntry(BLIND_STATISTICS), settings.scorer, settings.data)]
    return [*blind, *(attack for attack in attacks if attack not in blind)]


def by_fleet(attack: PreparedAttack, settings: Settings) -> bool:
    """Return whether an attack's shadows, or its surrogates, are the networks of the audit's fleet."""
    if settings.fleet is None or not isinstance(attack.instance, Membership):
        return on_fleet(attack)
    return attack.instance.scorer.needs.queries_judged


def once_checked(
    attacks: Sequence[PreparedAttack], entries: Sequence[AttackEntry], settings: Settings
) -> list[PreparedAttack]:
    """Return attacks of which one checks whether each victim's gradients can be followed.

    It is one with gradients that does not set `sanity_images` itself, unless another one sets it: one with
    `replace` if there is any, as gradients can be followed through its stand-ins alone, then one that keeps
    each image's worst case, then the first.

    Args:
        attacks: of the audit.
        entries: their entries in the audit file.
        settings: of the audit.
    """
    stated = [entry.settings.get("sanity_images") for entry in entries]
    instances = [attack.instance for attack in attacks]
    free = {
        place: instance
        for place, (instance, own) in enumerate(zip(instances, stated, strict=True))
        if isinstance(instance, WhiteBox) and own is None
    }
    best = max(
        free, key=lambda place: (bool(free[place].replace), free[place].worst_case is not None), default=None
    )
    checking = list(attacks)
    for place, instance in free.items():
        wanted = settings.sanity_images if place == best and not any(stated) else 0
        if instance.sanity_images != wanted:
            entry = entries[place]
            changed = replace(entry, settings={**entry.settings, "sanity_images": wanted})
            checking[place] = checked(changed, settings.scorer, settings.data)
    return checking


def labelled(attacks: Sequence[PreparedAttack], entries: Sequence[AttackEntry]) -> list[PreparedAttack]:
    """Return attacks with unique labels."""
    names, unique = [attack.name for attack in attacks], list[PreparedAttack]()
    for attack, entry in zip(attacks, entries, strict=True):
        details = ", ".join(f"{name} {value}" for name, value in {**entry.settings, **entry.data}.items())
        label = f"{attack.label} ({details})" if names.count(attack.name) > 1 and details else attack.label
        count = sum(earlier.label.partition(" #")[0] == label for earlier in unique)
        unique.append(replace(attack, label=f"{label} #{count + 1}" if count else label))
    return unique


def queries_victim(attack: PreparedAttack) -> bool:
    """Return whether a membership attack queries the victim."""
    return isinstance(attack.instance, Membership) and attack.instance.signal.queries_victim


def shows_shadows(attack: PreparedAttack) -> bool:
    """Return whether a membership attack shows images to a shadow."""
    instance = attack.instance
    queries = isinstance(instance, Membership) and (attack.control or instance.scorer.shows_shadows())
    return queries and queries_victim(attack)


def _controllable(attack: PreparedAttack, settings: Settings) -> bool:
    """Return whether a shadow can be queried instead of the victim: a second one, if shadows are compared."""
    if by_fleet(attack, settings):  # its networks are trained on the evaluated samples
        return False
    compared = isinstance(attack.instance, Membership) and attack.instance.scorer.needs.queries_judged
    return not compared or shadow_count(settings) > 1


def checked(entry: AttackEntry, scorer: Config, data: Config) -> PreparedAttack:
    """Return an attack of an audit file, built once; raise InputError for an invalid one.

    Args:
        entry: name and settings.
        scorer: options of every membership classifier.
        data: options of the data module for every stage.
    """
    file = str(find_config(entry.attack, "attack"))
    options = options_of("attack.", entry.settings)
    instance = built_attack(file, [])
    if isinstance(instance, Membership) and instance.scorer.training:
        options = [*options_of("attack.scorer.", scorer), *options]
    instance = built_attack(file, options)
    if isinstance(instance, Membership) and instance.scorer.training:
        _try(instance.scorer.training)
    if isinstance(instance, Perturbation) and instance.prepares() is None:
        instance.check()
    of_data = options_of("data.", {**data, **entry.data})
    return PreparedAttack(entry.attack, file, (*options, *of_data), instance, label=Path(file).stem)


def on_shadow(attack: PreparedAttack) -> bool:
    """Return whether an attack uses the audit's own shadow, or all of its shadows, as surrogate or others."""
    return bool(own_networks(attack, SHADOW))


def on_fleet(attack: PreparedAttack) -> bool:
    """Return whether an attack uses the networks of the audit's fleet as surrogates or others."""
    return bool(own_networks(attack, FLEET))


def own_networks(attack: PreparedAttack, mark: str) -> list[str]:
    """Return the options of an attack, `surrogate` and `others`, that stand for an audit's own networks.

    Args:
        attack: of the audit.
        mark: SHADOW or FLEET; one surrogate is never of the fleet.
    """
    instance = attack.instance
    if not isinstance(instance, Perturbation):
        return []
    several = mark == SHADOW or instance.on_surrogate
    named = ["surrogate"] if several and instance.surrogate in (mark, [mark]) else []
    return named + (["others"] if instance.others in (mark, [mark]) else [])


def prepares(attack: PreparedAttack) -> Preparation | None:
    """Return the training required by an attack, if any."""
    return attack.instance.prepares() if isinstance(attack.instance, Perturbation) else None


def _try(scorer: Classifier) -> None:
    network = MembershipClassifier(
        architecture=scorer.architecture, channels=1, adapter=scorer.adapter, dropout=scorer.dropout
    )
    if scorer.weights is not None:
        load_classifier(network, scorer.weights)


def built_attack(file: str, options: Sequence[Option]) -> Perturbation | Membership | Certification:
    """Return the attack of a config with options; raise InputError for invalid ones."""
    family = Membership if is_membership(file) else Certification if is_certification(file) else Perturbation
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(family, "attack")
    try:
        built: Perturbation | Membership | Certification = parser.instantiate(
            parser.parse_args([f"--attack={file}", *words_of(options)])
        )["attack"]
    except (argparse.ArgumentError, ValueError) as error:
        raise refusal(error) or InputError(f"{file}: {one_line(str(error))}") from None
    return built


def is_run(attack: PreparedAttack, row: int, *, released: bool = False) -> bool:
    """Return whether an attack is run on a row: all on the first, on others those a defence may affect.

    A certification depends on the network alone, not on what is released of its output.
    """
    if isinstance(attack.instance, Certification) and released:
        return False
    return (
        row == 0
        or not isinstance(attack.instance, Membership)
        or (queries_victim(attack) and not attack.control)
    )
