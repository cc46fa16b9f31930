"""A MONAI bundle as a config: its network, weights and preprocessing, on the user's data."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from seg_mia.checkpoint import Card
from seg_mia.config.files import Config, display_name
from seg_mia.config.options import Layer, Option
from seg_mia.config.spec import class_paths, defaults, resolve
from seg_mia.errors import InputError
from seg_mia.models.bundle.folder import (
    HOME,
    INPUT,
    UNREADABLE,
    Bundle,
    bare_spec,
    network_spec,
    read_bundle,
    uses_sigmoid,
)
from seg_mia.models.bundle.transforms import InputSteps, input_steps

log = logging.getLogger(__name__)

EIGHT_BITS = (0.0, 255.0)
_RANGE = "ScaleIntensityRange"
_BY_STATISTICS = ("NormalizeIntensity", "ScaleIntensity", "ScaleIntensityRangePercentiles")


def bundle_classes(path: str, trust: Sequence[str] = ()) -> list[str]:
    """Return the class paths of MONAI that a checkpoint of a bundle's network names, for `--trust`.

    Args:
        path: folder of the bundle.
        trust: trusted class paths, and folders of bundles whose expressions may be run.

    Raises:
        InputError: a network in TorchScript that is not trusted, and what the bundle lacks.
    """
    name = bare_spec(_read(path, trust))["class_path"]
    if name.startswith(f"{HOME}."):
        return [name]
    if name not in trust:
        raise InputError(
            f"the network of the bundle {path} is a file with code, {name}; if you trust it: --trust {name}"
        )
    return []


def is_trusted(path: str, trust: Sequence[str]) -> bool:
    """Return whether a bundle's folder is among trusted names, however its path is written."""
    return Path(path) in map(Path, trust)


def _read(path: str, trust: Sequence[str]) -> Bundle:
    return read_bundle(Path(path), trusted=is_trusted(path, trust))


def config_of_bundle(
    path: str, layers: Sequence[Layer], options: Sequence[Option], *, adopts: bool, trust: Sequence[str] = ()
) -> Config:
    """Return the config of a bundle's network: with its weights to adopt, without to train it.

    Args:
        path: folder of the bundle.
        layers: the user's configs, which name the data.
        options: the user's options.
        adopts: whether its weights are used.
        trust: folders of bundles whose expressions may be run.

    Raises:
        InputError: configs without data or with a network, and what the bundle lacks or is not supported.
    """
    for layer in layers:
        if _nested(layer.content, "model", "init_args", "network") is not None:
            raise InputError(
                f"{display_name(layer.source)} must leave the network to the bundle, got a network of its "
                "own; leave out model.init_args.network, or --bundle"
            )
    bundle = _read(path, trust)
    before = input_steps(bundle.config)
    reader, given = _data(layers, options)
    (low, high), settings = _grey_values(before, reader, given, path)
    settings |= _spacing(before, reader)
    _check_options(settings, options, path)
    _check_zero(before, low)
    _tell(settings, given, path)
    spec = network_spec(bundle, before, low=low, high=high, slices="minimum" in defaults(resolve(reader)))
    task: dict[str, Any] = {"network": spec, "weights": _weights(bundle) if adopts else None}
    outputs = bundle.described("outputs", "pred").get("num_channels")
    if uses_sigmoid(bundle) and outputs != 1 and bare_spec(bundle)["init_args"].get("out_channels") != 1:
        task |= {"gives": "multilabel", "loss": "label_dice_bce"}
    lines = _doubts(bundle, before, spec["init_args"]["left_out"])
    if "width" in defaults(resolve(reader)) and not {"level", "width"} & {*given, *settings}:
        lines += _doubts_of_window(before, low, high)
    for line in lines:
        log.warning(line)
    return {
        "model": {"class_path": "seg_mia.tasks.segmentation.Segmentation", "init_args": task},
        "data": {"class_path": reader, "init_args": settings},
    }


def check_window(card: Card, layers: Sequence[Layer], options: Sequence[Option]) -> None:
    """Raise InputError for another grey window than that in which a bundle's network was adopted or trained.

    Args:
        card: the victim's metadata; one without a bundle's network is not checked.
        layers: configs of a run on it.
        options: options of that run.
    """
    if card.data is None or INPUT not in class_paths([card.model, card.network]):
        return
    given, stated = dict[str, Any](), card.data["init_args"]
    for layer in layers:
        given |= _nested(layer.content, "data", "init_args") or {}
    for option in options:
        if option.value is not None and option.is_below("data"):
            given |= _stated(option)[1]
    usual = _usual_window(resolve(card.data["class_path"]))
    for name in ("level", "width", "windows", "percentiles"):
        if name not in stated or name not in given:
            continue
        new, old = (usual.get(name) if value is None else value for value in (given[name], stated[name]))
        if new != old:
            raise InputError(
                f"this bundle's network was adopted with data.{name} {old}, got {given[name]}, with "
                "which it would see other grey values; leave it out, or adopt the bundle again"
            )


def _usual_window(reader: type) -> dict[str, float]:
    """Return the level and the width that a reader of volumes has where none are given."""
    return dict(zip(("level", "width"), getattr(reader, "usual_window", ()), strict=False))


def _weights(bundle: Bundle) -> str | None:
    """Return the file of the weights; None if they are in the TorchScript file."""
    is_script = bare_spec(bundle)["class_path"].endswith("TorchScript")
    return None if is_script else str(bundle.weights)


def _data(layers: Sequence[Layer], options: Sequence[Option]) -> tuple[str, dict[str, Any]]:
    """Return the class path of the data, and its arguments as far as they are given."""
    reader, given = "", dict[str, Any]()
    for layer in layers:
        reader = str(_nested(layer.content, "data", "class_path") or reader)
        given |= _nested(layer.content, "data", "init_args") or {}
    for option in options:
        if option.value is not None and option.is_below("data"):
            stated, arguments = _stated(option)
            reader, given = stated or reader, given | arguments
    if "." not in reader:
        raise InputError(
            "a bundle has no data; name it, --config FILE with data.class_path and its init_args (root, "
            "members, ...)"
        )
    return reader, given


def _stated(option: Option) -> tuple[str | None, dict[str, Any]]:
    """Return the class path and the arguments that an option of the data states."""
    name, value = option.name.removeprefix("data").removeprefix("."), _as_yaml(str(option.value))
    if name == "" and isinstance(value, Mapping):
        return value.get("class_path"), dict(value.get("init_args") or {})
    if name in {"", "class_path"}:
        return option.value, {}
    if name == "init_args" and isinstance(value, Mapping):
        return None, dict(value)
    return None, {name.removeprefix("init_args."): value}


def _as_yaml(text: str) -> Any:
    """Return the value of a text; the text itself if it is no YAML, as a path may be."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def _grey_values(
    before: InputSteps, reader: str, given: Mapping[str, Any], path: str
) -> tuple[tuple[float, float], dict[str, Any]]:
    """Return the grey values of a data set's 0 and 1, and the window that the bundle asks of its reader."""
    standing = defaults(resolve(reader))
    if "width" not in standing:
        bits = given.get("bits", 8)
        return (0.0, float(2**bits - 1)) if isinstance(bits, int) and 0 < bits <= 32 else EIGHT_BITS, {}
    for name in ("windows", "percentiles"):
        if given.get(name):
            raise InputError(
                f"the bundle {path} is shown one grey window for all volumes, got {name} {given[name]}; "
                f"leave out {name}"
            )
    first = before.steps[0] if before.steps else {}
    if first.get("transform") == _RANGE and first.get("clip"):
        low, high = float(first["a_min"]), float(first["a_max"])
        if not low < high:
            raise InputError(
                f"the bundle {path} must have a_min below a_max, got {low} and {high}; correct it"
            )
        return (low, high), {"level": (low + high) / 2, "width": high - low}
    usual: dict[str, Any] = standing | _usual_window(resolve(reader))
    level, width = (usual[name] if given.get(name) is None else given[name] for name in ("level", "width"))
    if not all(type(value) in {int, float} for value in (level, width)):
        raise InputError(
            f"data.level and data.width must be numbers, got {level!r} and {width!r}; correct them"
        )
    return (float(level - width / 2), float(level + width / 2)), {}


def _check_options(settings: Mapping[str, Any], options: Sequence[Option], path: str) -> None:
    """Raise InputError for an option, which would override a setting of the bundle, with another value."""
    for option in options:
        if option.value is None or not option.is_below("data"):
            continue
        for name, value in _stated(option)[1].items():
            if name in settings and value != settings[name]:
                raise InputError(
                    f"the bundle {path} states data.{name} {settings[name]}, got {option.flag} {value}, with "
                    "which its network would see other grey values or voxels; leave it out"
                )


def _check_zero(before: InputSteps, low: float) -> None:
    """Raise InputError for statistics of values other than 0 where the window has no exact 0.

    Args:
        before: transforms, in order.
        low: grey value of the reader's 0, the only one that its 8 bits keep exactly.
    """
    zero: float | None = 0.0  # the file's grey value that is 0 at this place; None if the images decide
    for step in before.steps:
        match step["transform"]:
            case "NormalizeIntensity":
                if step.get("nonzero") and zero not in {None, low}:
                    raise InputError(
                        f"NormalizeIntensity of the bundle leaves out values of exactly {zero:g}, which a "
                        f"window from {low:g} does not keep; let it start at {zero:g}: data.level is that "
                        "plus half of data.width"
                    )
                zero = zero if step.get("nonzero") else None
            case "ScaleIntensityRange" if zero is not None:
                zero = None if step.get("clip") else _mapped_to_zero(step)
            case "Resize":
                pass
            case _:
                zero = None


def _mapped_to_zero(step: Mapping[str, Any]) -> float:
    """Return the value that a linear map brings to 0."""
    low, high, first, last = (step.get(name) for name in ("a_min", "a_max", "b_min", "b_max"))
    if not first or last is None or last == first:
        return float(low or 0.0)
    return float((low or 0.0) - first * ((high or 0.0) - (low or 0.0)) / (last - first))


def _spacing(before: InputSteps, reader: str) -> dict[str, Any]:
    """Return the spacing that a bundle asks of the reader, and note what is left out.

    The reader keeps the middle of a volume in place, MONAI its first voxel: their grids differ.
    """
    if before.spacing is None:
        return {}
    if "spacing" in defaults(resolve(reader)):
        before.left_out.append("the exact grid of Spacing")
        return {"spacing": before.spacing_of_axes()}
    before.left_out.append("Spacing")
    return {}


def _tell(settings: Mapping[str, Any], given: Mapping[str, Any], path: str) -> None:
    """Log the settings of the data that come from the bundle, and what they replace."""
    for name, value in settings.items():
        replaced = f", not {given[name]}" if name in given and given[name] != value else ""
        log.info("data.%s is %s, as the bundle %s states%s", name, value, path, replaced)


def _doubts(bundle: Bundle, before: InputSteps, left_out: Sequence[str]) -> list[str]:
    """Return what may differ from the deployed bundle, in one line each."""
    lines = list[str]()
    arguments = bare_spec(bundle)["init_args"]
    for side, entry, name in (("inputs", "image", "in_channels"), ("outputs", "pred", "out_channels")):
        stated = bundle.described(side, entry).get("num_channels")
        if isinstance(stated, int) and arguments.get(name, stated) != stated:
            lines.append(f"metadata.json states {stated} {side}, network_def has {name} {arguments[name]}")
    if left_out:
        lines.append(
            f"{', '.join(left_out)} of the bundle {'is' if len(left_out) == 1 else 'are'} left out here; "
            "--reference-predictions FOLDER proves whether masks agree"
        )
    if UNREADABLE in left_out:
        lines.append(
            "the bundle's postprocessing is not a readable list, so its classes are taken to exclude each "
            "other; for labels that overlap add --model.gives multilabel --model.loss label_dice_bce"
        )
    if not before.listed:
        lines.append(
            "the bundle lists no preprocessing: images are shown in the value range of its metadata, else in "
            "their grey values; compare the Dice with the known one"
        )
    return lines


def _doubts_of_window(before: InputSteps, low: float, high: float) -> list[str]:
    """Return a line for statistics of images that the reader's default window has cut."""
    names = [step["transform"] for step in before.steps if step["transform"] in _BY_STATISTICS]
    if not names:
        return []
    return [
        f"{names[0]} of the bundle takes statistics of an image, of which the reader's default window shows "
        f"{low:g} to {high:g} alone; state the values of the files by data.level and data.width"
    ]


def _nested(content: Any, *keys: str) -> Any:
    """Return the value below nested keys; None if there is none."""
    for key in keys:
        content = content.get(key) if isinstance(content, Mapping) else None
    return content
