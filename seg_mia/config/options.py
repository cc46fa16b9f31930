"""Settings in a parser's reading order: config files, and options that override them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from seg_mia.config.files import Config, find_file, inline, known
from seg_mia.errors import InputError


@dataclass(frozen=True)
class Layer:
    """A config, from a file or a text.

    Attributes:
        source: the file, or the text itself.
        content: its options as plain data.
        trusted: whether its file names may be opened; a checkpoint from elsewhere may contain any.
    """

    source: str
    content: Config
    trusted: bool = True

    @property
    def words(self) -> list[str]:
        """Command-line words for this config."""
        return ["--config", self.source]


@dataclass(frozen=True)
class Option:
    """One option of a command line.

    Attributes:
        flag: with its dashes, and `+` if a value is added to a list; a stray word unchanged.
        value: as text; None if not given.
    """

    flag: str
    value: str | None = None

    @property
    def name(self) -> str:
        """The dotted name, such as `data.root`."""
        return self.flag.removeprefix("--").removesuffix("+") if self.flag.startswith("--") else ""

    @property
    def words(self) -> list[str]:
        """The command-line word."""
        return [self.flag if self.value is None else f"{self.flag}={self.value}"]

    def is_below(self, name: str) -> bool:
        """Return whether it sets a dotted name or a part of it."""
        return self.name == name or self.name.startswith(f"{name}.")


Setting = Layer | Option


def options_in(words: Sequence[str]) -> list[Option]:
    """Return the options in words, as `--name=value` or `--name value`; `-c` is `--config`."""
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


def options_of(prefix: str, settings: Mapping[str, object]) -> list[Option]:
    """Return settings by dotted name as options."""
    return [
        Option(f"--{prefix}{name}", value if isinstance(value, str) else inline(value))
        for name, value in settings.items()
    ]


def words_of(settings: Iterable[Setting]) -> list[str]:
    """Return the command-line words of some settings."""
    return [word for setting in settings for word in setting.words]


def taken(options: Iterable[Option], name: str, kind: str = "") -> tuple[list[str], list[Option]]:
    """Return the files given by the options of one name, and the other options.

    Inline configs, and class paths of kinds that permit them, are returned unchanged.

    Args:
        options: command-line options.
        name: name of options whose values are names of shipped configs, or files.
        kind: kind of these configs.

    Raises:
        InputError: a missing value, or an unknown name.
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
