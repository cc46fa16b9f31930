"""What kind of attack a name, a file or an inline text stands for, before it is built."""

from collections.abc import Sequence

from seg_mia.attacks.certify import Certification
from seg_mia.config.files import is_inline, read_yaml
from seg_mia.config.options import Option
from seg_mia.config.spec import resolve as class_at
from seg_mia.membership import scorers
from seg_mia.membership.answers import Fleet
from seg_mia.membership.base import Membership


def scorer_needs(attack: object, options: Sequence[Option]) -> Fleet:
    """Return the shadows required by a membership attack, from its scorer's class, before it is built.

    Args:
        attack: as in `is_membership`.
        options: command-line options, which may set another scorer.
    """
    attack = _read(attack)
    arguments = attack.get("init_args") if isinstance(attack, dict) else None
    scorer = arguments.get("scorer") if isinstance(arguments, dict) else None
    for option in options:
        if option.flag in {"--attack.scorer", "--attack.scorer.class_path"}:
            scorer = option.value
    if isinstance(scorer, str) and is_inline(scorer):
        scorer = read_yaml(scorer)
    path = scorer.get("class_path") if isinstance(scorer, dict) else scorer
    path = path if isinstance(path, str) else ""
    kind = class_at(path) if "." in path else vars(scorers).get(path)
    return kind.needs if isinstance(kind, type) and issubclass(kind, scorers.Scorer) else Fleet()


def is_membership(attack: object) -> bool:
    """Return whether an attack, given as file, class path or inline mapping, is a membership attack."""
    return _is_of(attack, Membership)


def is_certification(attack: object) -> bool:
    """Return whether an attack, given in the same ways, is no attack but a certification."""
    return _is_of(attack, Certification)


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
