"""Settings in the order in which a parser takes them: config files, and options that overrule them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from seg_mia.config.files import Config, find_file, inline, known
from seg_mia.errors import InputError


@dataclass(frozen=True)
class Layer:
    """A config: what a file or a text holds.

    Attributes:
        source: the file, or the text itself.
        content: its options as plain data.
        trusted: whether files that it names may be opened; a stranger's checkpoint may name any.
    """

    source: str
    content: Config
    trusted: bool = True

    @property
    def words(self) -> list[str]:
        """The words of a command line that name it."""
        return ["--config", self.source]


@dataclass(frozen=True)
class Option:
    """One option of a command line.

    Attributes:
        flag: with its dashes, and `+` where a value is added to a list; a stray word as it is.
        value: as text; None where none was given.
    """

    flag: str
    value: str | None = None

    @property
    def name(self) -> str:
        """The dotted name, such as `data.root`."""
        return self.flag.removeprefix("--").removesuffix("+") if self.flag.startswith("--") else ""

    @property
    def words(self) -> list[str]:
        """The word of a command line."""
        return [self.flag if self.value is None else f"{self.flag}={self.value}"]

    def is_below(self, name: str) -> bool:
        """Return whether it sets what a dotted name means, or a part of it."""
        return self.name == name or self.name.startswith(f"{name}.")


Setting = Layer | Option


def options_in(words: Sequence[str]) -> list[Option]:
    """Return the options that words give, as `--name=value` or `--name value`; `-c` is `--config`."""
    options, pending = list[Option](), False
    for word in words:
        if word == "-c" or word.startswith(("--", "-c=")):
            flag, equals, value = word.partition("=")
            options.append(Option("--config" if flag == "-c" else flag, value if equals else None))
            pending = not equals
        elif pending:
            options[-1] = replace(options[-1], value=word)
            pending = False
        else:
            options.append(Option(word))
    return options


def options_of(prefix: str, settings: Mapping[str, Any]) -> list[Option]:
    """Return settings by their dotted names as options."""
    return [
        Option(f"--{prefix}{name}", value if isinstance(value, str) else inline(value))
        for name, value in settings.items()
    ]


def words_of(settings: Iterable[Setting]) -> list[str]:
    """Return the words of a command line that give some settings."""
    return [word for setting in settings for word in setting.words]


def taken(options: Iterable[Option], name: str, kind: str = "") -> tuple[list[str], list[Option]]:
    """Return the files that the options of one name mean, and the other options.

    Inline configs, and class paths of a kind that has them, stay as they are.

    Args:
        options: of a command line.
        name: of options whose values are names of shipped configs, or files.
        kind: of these configs.

    Raises:
        InputError: a value that is missing, or an unknown name.
    """
    files, remaining = list[str](), list[Option]()
    for option in options:
        if option.flag != f"--{name}":
            remaining.append(option)
        elif option.value is None:
            raise InputError(f"{option.flag} needs a name; known names: {', '.join(known(kind))}")
        else:
            files.append(find_file(option.value, kind))
    return files, remaining
