"""Names to files: the configs that ship with the package, found from any working directory."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from seg_mia.errors import InputError


def config_folder() -> Path:
    """Return the folder of shipped configs: inside the installed package, else beside it in a checkout."""
    package = Path(__file__).resolve().parent
    installed = package / "lightning_configs"
    return installed if installed.is_dir() else package.parent / "lightning_configs"


def find_config(name: str, kind: str = "") -> Path:
    """Return the file that `name` means: a path, or a bare name among the shipped configs of a kind.

    Raises InputError with the known names when there is no such file.
    """
    folder = config_folder() / kind
    for candidate in (Path(name), folder / name, folder / f"{name}.yaml"):
        if candidate.is_file():
            return candidate
    what = f"{kind} config" if kind else "config"
    raise InputError(
        f"no {what} {name!r}: not a file, and the known names are {', '.join(known(kind)) or 'none'}"
    )


def known(kind: str = "") -> list[str]:
    """Return the bare names of the shipped configs of a kind."""
    return sorted(path.stem for path in (config_folder() / kind).glob("*.yaml"))


def resolve(words: Sequence[str], *flags: str, kind: str = "") -> tuple[list[str], list[str]]:
    """Return command-line words with the names after some flags replaced by files, and those files.

    Inline JSON after `--config` and class paths after `--attack` stay as they are.
    """
    resolved: list[str] = []
    files: list[str] = []
    pending = False
    for word in words:
        flag, equals, value = word.partition("=")
        if pending or (equals and flag in flags):
            files.append(_file(word if pending else value, kind))
            resolved.append(files[-1] if pending else f"{flag}={files[-1]}")
            pending = False
        else:
            resolved.append(word)
            pending = word in flags
    if pending:
        raise InputError(f"{words[-1]} needs a name; known names: {', '.join(known(kind))}")
    return resolved, files


def is_inline(config: str) -> bool:
    """Say whether a config is given as text instead of a file's name."""
    return config.lstrip().startswith("{")


def _file(name: str, kind: str) -> str:
    is_path = "/" in name or name.endswith((".yaml", ".yml"))
    class_path = kind != "" and "." in name and not is_path and _importable(name.rpartition(".")[0])
    return name if is_inline(name) or class_path else str(find_config(name, kind))


def _importable(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False
