"""Names to files: the configs that ship with the package, found from any working directory."""

import json
import re
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from seg_mia.errors import InputError

TRAININGS = "."
"""The kind of the configs that lie in no folder: one or more for each data set."""
BARE = (TRAININGS, "defended", "audit", "texture")
"""The kinds that `--config` takes by name."""


def config_folder() -> Path:
    """Return the folder of shipped configs: inside the installed package, else beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "lightning_configs"
    return installed if installed.is_dir() else package.parent / "lightning_configs"


def find_config(name: str, kind: str = "") -> Path:
    """Return the file that `name` means: a path, or a bare name among the shipped configs of a kind.

    Without a kind, among all that `--config` takes. Raises InputError with the known names when there is no
    such file.
    """
    shipped = [folder / file for folder in _folders(kind) for file in (name, f"{name}.yaml")]
    for candidate in (Path(name), *shipped):
        if candidate.is_file():
            return candidate
    what = f"{kind} config" if kind else "config"
    raise InputError(
        f"no {what} {name!r}: not a file, and the known names are {', '.join(known(kind)) or 'none'}"
    )


def known(kind: str = "") -> list[str]:
    """Return the bare names of the shipped configs of a kind, or of all that `--config` takes."""
    return sorted(path.stem for folder in _folders(kind) for path in folder.glob("*.yaml"))


def _folders(kind: str) -> list[Path]:
    return [config_folder() / part for part in ((kind,) if kind else BARE)]


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


def composed(args: Sequence[str], defences: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return arguments with each config's `base` before it and all defences behind, and all configs.

    A config may say `base: NAME`, another config that it adds to, and `defence: NAME`, or a list of names in
    lightning_configs/defence.

    Args:
        args: with files instead of names.
        defences: named on the command line.

    Raises:
        InputError: unknown names, a config that is its own base, or an audit's file.
    """
    before, files, options, pending = list[str](), list[str](), list[str](), False
    for word in args:
        flag, equals, value = word.partition("=")
        if pending or (equals and flag in {"--config", "-c"}):
            files += _with_bases(word if pending else value, ())
            pending = False
        elif word in {"--config", "-c"}:
            pending = True
        else:
            options.append(word)
    for file in files:
        refuse_audit(file)
        before += ["--config", file]
    names = [name for file in files for name in _listed(read_yaml(file).get("defence"))]
    added = [f"--model.defences+={inline(_defence(name))}" for name in (*names, *defences)]
    settings = (n for n, word in enumerate(options) if word.startswith("--model.defences"))
    first = next(settings, len(options))  # they are of the defences, which must stand before them
    return [*before, *options[:first], *added, *options[first:]], files


def _with_bases(file: str, above: tuple[str, ...]) -> list[str]:
    """Return a config and, before it, the bases it is built on."""
    if file in above:
        raise InputError(f"{file} is its own base ({' -> '.join((*above, file))}); take one base out")
    bases = [str(_beside(name, file)) for name in _listed(read_yaml(file).get("base"))]
    return [*(config for base in bases for config in _with_bases(base, (*above, file))), file]


def refuse_audit(file: str) -> None:
    """Raise InputError for an audit's file where a training's is needed."""
    content, name = read_yaml(file), _shown(file)
    if "attacks" not in content and "version" not in content:
        return
    victim = content.get("victim")
    victim = victim.get("config") if isinstance(victim, dict) else victim
    example = f", such as its victim's, {victim}" if isinstance(victim, str) else ""
    raise InputError(
        f"{name} is an audit's file, which `python -m seg_mia audit --config {name}` runs; name a "
        f"training's{example}"
    )


def refuse_training(file: str) -> None:
    """Raise InputError for a training's file where an audit's is needed."""
    content, name = read_yaml(file), _shown(file)
    parts = [content.get(part) for part in ("model", "data")]
    if "trainer" in content or any(isinstance(part, dict) and "class_path" in part for part in parts):
        raise InputError(
            f"{name} is a training's file, which `python -m seg_mia fit --config {name}` runs; an audit "
            f"names it as its victim: --victim {name} --attacks asma"
        )


def _shown(file: str) -> str:
    """Return a config's name if it is one of those shipped, else its path or text as it is."""
    shipped = not is_inline(file) and Path(file).parent in _folders("")
    return Path(file).name if shipped else file


def _beside(name: str, file: str) -> Path:
    """Return the file that a config names: in its own folder, or as the command line would find it."""
    folder = Path() if is_inline(file) else Path(file).parent
    near = [path for path in (folder / name, folder / f"{name}.yaml") if path.is_file()]
    return near[0] if near else find_config(name)


def _listed(value: Any) -> list[str]:
    names = [value] if isinstance(value, str) else value or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f"base and defence must be a name or a list of names, got {value!r}")
    return names


def _defence(name: str) -> dict[str, Any]:
    file = _file(name, "defence")
    return read_yaml(file) if Path(file).is_file() else {"class_path": file}


def named(file: str) -> str:
    """Return what to call a config or a class path in a folder's name."""
    return Path(file).stem if file.endswith((".yaml", ".yml")) else file.rpartition(".")[2].lower()


def inline(value: Any) -> str:
    """Return plain values as JSON that YAML reads, too: infinity is `.inf` there."""
    words = {"Infinity": ".inf", "-Infinity": "-.inf", "NaN": ".nan"}
    parts = r'"(?:\\.|[^"\\])*"|-?Infinity|NaN'
    return re.sub(parts, lambda match: words.get(match[0], match[0]), json.dumps(value))


def in_yaml(configs: Sequence[str], key: str) -> Any:
    """Return the last value that the configs give to a top-level key."""
    value = None
    for config in configs:
        value = read_yaml(config).get(key, value)
    return value


def read_yaml(config: str) -> dict[str, Any]:
    """Return the mapping in a YAML file, or in text that stands for one."""
    where = "the inline config" if is_inline(config) else config
    try:
        text = config if is_inline(config) else Path(config).read_text(encoding="utf-8")
        content = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{where} is not readable YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise InputError(f"{where} must hold a mapping of options, got {type(content).__name__}")
    return content
