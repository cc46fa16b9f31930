"""Config inheritance: bases first, then derived configs, and defences last."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from seg_mia.config.files import Config, display_name, find_config, find_file, inline, is_inline, read_yaml
from seg_mia.config.networks import without_replaced
from seg_mia.config.options import Layer, Option, Setting
from seg_mia.errors import InputError


def stacked(
    files: Iterable[str], options: Sequence[Option] = (), *, tell: Callable[[str], object] | None = None
) -> list[Layer]:
    """Return configs, each after its bases (`base`).

    A network that a later config or an option replaces by one of another class is left out.

    Args:
        files: configs in reading order.
        options: read after them.
        tell: called with a line for each network that is left out with arguments.

    Raises:
        InputError: unknown names, a config that is its own base, or an audit file.
    """
    layers = [layer for file in files for layer in _with_bases(file, ())]
    for layer in layers:
        refuse_audit(layer)
    return without_replaced(layers, options, tell=tell)


def with_defences(
    options: Sequence[Option], layers: Sequence[Layer], defences: Iterable[str]
) -> list[Option]:
    """Return options with the defences of configs and the command line, in this order.

    Args:
        options: command-line options.
        layers: configs, with `defence: NAME`, or a list of names in lightning_configs/defence.
        defences: names on the command line.

    Raises:
        InputError: unknown names.
    """
    names = [name for layer in layers for name in _names(layer.content.get("defence"))]
    added = [Option("--model.defences+", inline(_defence(name))) for name in (*names, *defences)]
    settings = (n for n, option in enumerate(options) if option.flag.startswith("--model.defences"))
    first = next(settings, len(options))  # they are of the defences, which must stand before them
    return [*options[:first], *added, *options[first:]]


def defence_count(settings: Iterable[Setting]) -> int:
    """Return the number of defences of a training: those of the last config with a list, and those added."""
    count = 0
    for setting in settings:
        if isinstance(setting, Option):
            count += setting.flag == "--model.defences+"
            continue
        model = setting.content.get("model")
        arguments = model.get("init_args") if isinstance(model, dict) else None
        listed = arguments.get("defences") if isinstance(arguments, dict) else None
        count = len(listed) if isinstance(listed, list) else count
    return count


def plain_layer(file: str) -> Layer:
    """Return a config without its bases; raise InputError for an audit file."""
    layer = Layer(file, read_yaml(file))
    refuse_audit(layer)
    return layer


def last_value(layers: Iterable[Layer], key: str) -> object:
    """Return the last value of a top-level key in configs; None if there is none."""
    value = None
    for layer in layers:
        value = layer.content.get(key, value)
    return value


def refuse_audit(layer: Layer) -> None:
    """Raise InputError for an audit file in place of a training config."""
    content, name = layer.content, display_name(layer.source)
    if "attacks" not in content and "version" not in content:
        return
    victim = content.get("victim")
    victim = victim.get("config") if isinstance(victim, dict) else victim
    example = f", such as its victim's, {victim}" if isinstance(victim, str) else ""
    raise InputError(
        f"{name} is an audit file, run by `python -m seg_mia audit --config {name}`; name a training "
        f"config{example}"
    )


def refuse_training(layer: Layer) -> None:
    """Raise InputError for a training config in place of an audit file."""
    content, name = layer.content, display_name(layer.source)
    parts = [content.get(part) for part in ("model", "data")]
    if "trainer" in content or any(isinstance(part, dict) and "class_path" in part for part in parts):
        raise InputError(
            f"{name} is a training config, run by `python -m seg_mia fit --config {name}`; an audit takes it "
            f"as its victim: --victim {name} --attacks asma"
        )


def _with_bases(file: str, above: tuple[str, ...]) -> list[Layer]:
    """Return a config preceded by its bases."""
    if file in above:
        raise InputError(f"{file} is its own base ({' -> '.join((*above, file))}); remove one base")
    content = read_yaml(file)
    bases = [str(_base(name, file)) for name in _names(content.get("base"))]
    return [*(layer for base in bases for layer in _with_bases(base, (*above, file))), Layer(file, content)]


def _base(name: str, file: str) -> Path:
    """Return the file of a base: in the config's folder, or as found from the command line."""
    folder = Path() if is_inline(file) else Path(file).parent
    near = [path for path in (folder / name, folder / f"{name}.yaml") if path.is_file()]
    return near[0] if near else find_config(name)


def _names(value: object) -> list[str]:
    names = [value] if isinstance(value, str) else value or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f"base and defence must be a name or a list of names, got {value!r}")
    return names


def _defence(name: str) -> Config:
    file = find_file(name, "defence")
    return read_yaml(file) if Path(file).is_file() else {"class_path": file}
