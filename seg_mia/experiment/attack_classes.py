"""What the classes of an attack tell about it before it is built."""

from collections.abc import Sequence

from seg_mia.attacks.certify import Certification
from seg_mia.config.files import is_inline, read_yaml
from seg_mia.config.options import Option
from seg_mia.config.spec import resolve as class_at
from seg_mia.membership import scorers, signals
from seg_mia.membership.answers import Fleet
from seg_mia.membership.base import Membership
from seg_mia.membership.fleet import scorers as fleet_scorers
from seg_mia.membership.scorers import Scorer
from seg_mia.membership.signals import Signal


def scorer_needs(attack: object, options: Sequence[Option]) -> Fleet:
    """Return the shadows required by a membership attack, from its scorer's class, before it is built.

    Args:
        attack: as in `is_membership`.
        options: command-line options, which may set another scorer.
    """
    kind = _scorer(attack, options)
    return kind.needs_with(_scorer_settings(attack, options)) if kind is not None else Fleet()


def shows_shadows_images(attack: object, options: Sequence[Option], *, control: bool = False) -> bool:
    """Return whether a membership attack shows images to a shadow, from its classes, before it is built.

    Args:
        attack: as in `is_membership`.
        options: command-line options, which may set another signal or scorer.
        control: whether a shadow is queried in place of the victim.
    """
    kind = _part_class(attack, "signal", options, vars(signals))
    if isinstance(kind, type) and issubclass(kind, Signal) and not kind.queries_victim:
        return False
    scorer = _scorer(attack, options)
    return control or scorer is None or scorer.shows_shadows()


def is_membership(attack: object) -> bool:
    """Return whether an attack, given as file, class path or inline mapping, is a membership attack."""
    return _is_of(attack, Membership)


def is_certification(attack: object) -> bool:
    """Return whether an attack, given in the same ways, is no attack but a certification."""
    return _is_of(attack, Certification)


def _scorer(attack: object, options: Sequence[Option]) -> type[Scorer] | None:
    kind = _part_class(attack, "scorer", options, vars(scorers) | vars(fleet_scorers))
    return kind if isinstance(kind, type) and issubclass(kind, Scorer) else None


def _scorer_settings(attack: object, options: Sequence[Option]) -> dict[str, object]:
    """Return the settings of a scorer in an attack's file and in options; a replaced one's are gone."""
    content = _read(attack)
    arguments = content.get("init_args") if isinstance(content, dict) else None
    settings = _settings(arguments.get("scorer") if isinstance(arguments, dict) else None)
    for option in options:
        if option.flag in {"--attack.scorer", "--attack.scorer.class_path"}:
            settings = _settings(option.value)
        elif option.flag.startswith("--attack.scorer."):
            settings[option.flag.removeprefix("--attack.scorer.").removeprefix("init_args.")] = option.value
    return settings


def _settings(part: object) -> dict[str, object]:
    """Return the settings of a part given as a mapping, a file or an inline text; none of a class path."""
    part = _read(part)
    given = part.get("init_args") if isinstance(part, dict) else None
    return dict(given) if isinstance(given, dict) else {}


def _part_class(attack: object, name: str, options: Sequence[Option], known: dict[str, object]) -> object:
    """Return the class of an attack's signal or scorer; None if its name is unknown.

    Args:
        attack: as in `is_membership`.
        name: name of the argument.
        options: command-line options, which may set another one.
        known: classes by bare name.
    """
    attack = _read(attack)
    arguments = attack.get("init_args") if isinstance(attack, dict) else None
    part = arguments.get(name) if isinstance(arguments, dict) else None
    for option in options:
        if option.flag in {f"--attack.{name}", f"--attack.{name}.class_path"}:
            part = option.value
    if isinstance(part, str) and is_inline(part):
        part = read_yaml(part)
    path = part.get("class_path") if isinstance(part, dict) else part
    path = path if isinstance(path, str) else ""
    return class_at(path) if "." in path else known.get(path)


def _is_of(attack: object, base: type) -> bool:
    attack = _read(attack)
    if isinstance(attack, dict):
        attack = attack.get("class_path")
    if not isinstance(attack, str) or "." not in attack:
        return False
    return issubclass(class_at(attack), base)


def _read(part: object) -> object:
    """Return the mapping in a file or an inline text; class paths and mappings are returned unchanged."""
    is_file = isinstance(part, str) and (is_inline(part) or part.endswith((".yaml", ".yml")))
    return read_yaml(str(part)) if is_file else part
