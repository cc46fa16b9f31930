"""A MONAI bundle as a config: its network, weights and preprocessing, on the user's data."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from seg_mia.config.files import Config, display_name
from seg_mia.config.options import Layer, Option
from seg_mia.config.spec import defaults, resolve
from seg_mia.errors import InputError
from seg_mia.models.bundle.folder import Bundle, bare_spec, network_spec, read_bundle, uses_sigmoid
from seg_mia.models.bundle.transforms import InputSteps, input_steps

log = logging.getLogger(__name__)

EIGHT_BITS = (0.0, 255.0)
_RANGE = "ScaleIntensityRange"


def bundle_classes(path: str) -> list[str]:
    """Return the class paths that a checkpoint of a bundle's network names, for `--trust`."""
    return [bare_spec(read_bundle(Path(path)))["class_path"]]


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
    bundle = read_bundle(Path(path), trusted=Path(path) in map(Path, trust))
    before = input_steps(bundle.config)
    reader, given = _data(layers, options)
    (low, high), settings = _grey_values(before, reader, given, path)
    settings |= _spacing(before, reader)
    _tell(settings, given, path)
    spec = network_spec(bundle, before, low=low, high=high, slices="minimum" in defaults(resolve(reader)))
    task: dict[str, Any] = {"network": spec, "weights": _weights(bundle) if adopts else None}
    outputs = bundle.described("outputs", "pred").get("num_channels")
    if uses_sigmoid(bundle) and outputs != 1 and bare_spec(bundle)["init_args"].get("out_channels") != 1:
        task |= {"gives": "multilabel", "loss": "label_dice_bce"}
    for line in _doubts(bundle, before, spec["init_args"]["left_out"]):
        log.warning(line)
    return {
        "model": {"class_path": "seg_mia.tasks.segmentation.Segmentation", "init_args": task},
        "data": {"class_path": reader, "init_args": settings},
    }


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
        if option.name == "data" and option.value is not None:
            reader = option.value
        elif option.is_below("data") and option.value is not None:
            name = option.name.removeprefix("data.").removeprefix("init_args.")
            given[name] = yaml.safe_load(option.value)
    if "." not in reader:
        raise InputError(
            "a bundle has no data; name it, --config FILE with data.class_path and its init_args (root, "
            "members, ...)"
        )
    return reader, given


def _grey_values(
    before: InputSteps, reader: str, given: Mapping[str, Any], path: str
) -> tuple[tuple[float, float], dict[str, Any]]:
    """Return the grey values of a data set's 0 and 1, and the window that the bundle asks of its reader."""
    standing = defaults(resolve(reader))
    if "width" not in standing:
        bits = given.get("bits", 8)
        return (0.0, float(2**bits - 1)) if isinstance(bits, int) else EIGHT_BITS, {}
    if given.get("windows"):
        raise InputError(
            f"the bundle {path} is shown one grey window, got windows of each channel; leave out windows"
        )
    first = before.steps[0] if before.steps else {}
    window = dict[str, Any]()
    if first.get("transform") == _RANGE and first.get("clip"):
        low, high = float(first["a_min"]), float(first["a_max"])
        window = {"level": (low + high) / 2, "width": high - low}
    level, width = (window.get(name, given.get(name, standing[name])) for name in ("level", "width"))
    return (float(level - width / 2), float(level + width / 2)), window


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
    if not before.listed:
        lines.append(
            "the bundle lists no preprocessing: images are shown in the value range of its metadata, else in "
            "their grey values; compare the Dice with the known one"
        )
    return lines


def _nested(content: Any, *keys: str) -> Any:
    """Return the value below nested keys; None if there is none."""
    for key in keys:
        content = content.get(key) if isinstance(content, Mapping) else None
    return content
