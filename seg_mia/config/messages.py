"""Long messages of jsonargparse, reduced to one line with advice."""

import re
import sys
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from jsonargparse import ArgumentParser

from seg_mia.config.spec import parameters
from seg_mia.errors import InputError

NOISE = re.compile(
    r"^(Does not validate|Subtypes:|Errors:|Given value|Parser key|Problem with|"
    r"Expected a <class 'NoneType'>)"
)
LIMIT = 400


def one_line(message: str, known: Iterable[str] = (), *, defences: int = 1) -> str:
    """Return the most specific line of a message, with the option's name and accepted values.

    Args:
        message: message of jsonargparse.
        known: options of the command, without dashes, as candidates for a misspelled one; those of
            Lightning's trainer are included by default.
        defences: number of defences of the training: an option sets the last one alone.
    """
    lines = [line.strip(" -") for line in message.splitlines() if line.strip(" -")]
    telling = [line for line in lines if not NOISE.match(line)] or lines or ["invalid arguments"]
    keys = ".".join(re.findall(r'Parser key "([^"]+)"', message))
    line = next((text for text in telling if "is not accepted" in text), telling[0])
    if path := re.search(r"dot import path string: (\S+)", message):
        line = f"no class {path[1]!r}, write its path, module.Class{_class_like(path[1], lines)}"
    elif line.startswith("Expected a "):
        line = _expected(lines, line)
    advice = ""
    if defences > 1 and keys.startswith("model.defences") and "is not accepted" in line:
        advice = (
            f"; options set the last of the {defences} defences: put another one's into a file with "
            "class_path and init_args, --defence FILE"
        )
    text = f"{f'--{keys}: ' if keys else ''}{line}{_accepted(message)}{_meant(message, known)}"
    return text[: LIMIT - len(advice)] + advice


def near(name: str, names: Iterable[str], *, before: str = "") -> str:
    """Return a question with the most similar name, or nothing if none is similar."""
    matches = get_close_matches(name, list(names), 1, cutoff=0.7)
    return f", did you mean {before}{matches[0]}?" if matches else ""


def _union(lines: Sequence[str]) -> str:
    """Return the possible types of one value, as listed by jsonargparse; the innermost of several."""
    listed = [line for line in lines if line.startswith("Subtypes:")]
    return listed[-1].removeprefix("Subtypes: ") if listed else ""


def _expected(lines: Sequence[str], line: str) -> str:
    """Return an error on a value's type: all accepted types, and the value."""
    position = lines.index(line)
    expected, _, got = line.removeprefix("Expected a ").partition(". Got value: ")
    if not got and (union := _union(lines[:position])):
        expected = union
        values = [text for text in lines[position:] if text.startswith("Given value:")]
        got = values[0].removeprefix("Given value:").strip() if values else ""
    return f"expected {_types(expected)}{f', got {got}' if got else ''}"


def _types(text: str) -> str:
    """Return types in jsonargparse's notation without its marks: `[<class 'int'>, Literal['a', 'b']]`."""
    parts = re.findall(r"Literal\[([^]]*)\]|<class '(?:\w+\.)*(\w+)'>|(\w+\[[^]]*\]+)", text)
    names = [name for choices, *kinds in parts for name in (*re.findall(r"[^', ]+", choices), *kinds) if name]
    *first, last = dict.fromkeys("null" if name == "NoneType" else name for name in names) or [text]
    return f"{', '.join(first)} or {last}" if first else last


def _class_like(name: str, lines: Sequence[str]) -> str:
    """Return a question about a missing class, if its required base class is known."""
    names = list[str]()
    bases = map(_class_at, re.findall(r"<class '([\w.]+)'>", _union(lines)))
    for base in filter(None, bases):
        kinds: list[type] = base.__subclasses__()
        names += [subclass.__name__ for kind in kinds for subclass in (kind, *kind.__subclasses__())]
    return near(name.rpartition(".")[2], names)


def _class_at(path: str) -> type | None:
    """Return an already imported class: a name in an error text must not trigger an import."""
    module, _, name = path.rpartition(".")
    candidate = getattr(sys.modules.get(module), name, None)
    return candidate if isinstance(candidate, type) else None


def _accepted(message: str) -> str:
    """Return the arguments of the class that refused an option; of nested classes, the innermost."""
    paths = re.findall(r"given class_path '([\w.]+)'", message)
    option = re.search(r"Option '([^']+)' is not accepted", message)
    if not paths or option is None:
        return ""
    kind = _class_at(paths[-1])
    if kind is None:
        return ""
    if not (takes := sorted(_options(kind))):
        return f": no config sets the class of {kind.__name__}; name a config with --config, or a class path"
    return f"{near(option[1].partition('.')[0], takes) or ';'} {kind.__name__} takes {', '.join(takes)}"


def _options(kind: type) -> list[str]:
    """Return the arguments of a class, and of a function that receives its options."""
    names: list[str] = ArgumentParser().add_class_arguments(kind, fail_untyped=False)
    return names


def _meant(message: str, known: Iterable[str]) -> str:
    """Return a question about an option without a corresponding class."""
    trainer = _class_at("lightning.pytorch.Trainer")
    word = re.match(r"(unrecognized arguments: --|.* does not accept option ')([\w.]+)", message)
    if word is None:
        return ""
    limits = parameters(trainer) if trainer and word[2].startswith("trainer.") else ()
    dashes = "--" if word[1].endswith("--") else ""
    return near(word[2], [*known, *(f"trainer.{name}" for name in limits)], before=dashes)


def refusal(error: BaseException) -> InputError | None:
    """Return the InputError that led to `error`, if any."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, InputError):
            return cause
        cause = cause.__cause__ or cause.__context__
    return None
