"""The folder of a MONAI bundle: network, windows, preprocessing and weights, as plain values.

Nothing in it is run or imported: the network's name selects among those of `monai.networks.nets`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from reprlib import repr as shortened
from typing import Any

from seg_mia.config.spec import ClassSpec
from seg_mia.errors import InputError
from seg_mia.models.bundle.config import BundleConfig, monai_evaluation, read_mapping
from seg_mia.models.bundle.transforms import InputSteps, plain_name

NETWORKS = (
    "AHNet", "AttentionUnet", "BasicUNet", "BasicUNetPlusPlus", "DynUNet", "FlexibleUNet", "HighResNet",
    "MedNeXt", "Quicknat", "SegResNet", "SegResNetDS", "SegResNetDS2", "SegResNetVAE", "SwinUNETR", "UNet",
    "UNETR", "VNet",
)  # fmt: skip
"""Segmentation networks of MONAI that map images to logits."""
HOME = "monai.networks.nets"
INPUT = "seg_mia.models.bundle.network.BundleInput"
_ALIASES = {name.lower(): name for name in NETWORKS} | {"flexunet": "FlexibleUNet"}
"""MONAI gives most networks names that differ in upper case alone."""
_WITHOUT_EFFECT = ("sw_device", "device", "progress", "cache_roi_weight_map", "cpu_thresh", "buffer_steps",
                   "buffer_dim")  # fmt: skip
"""Arguments of SlidingWindowInferer that change where it computes, not what."""
_FIXED = {"sigma_scale": 0.125, "padding_mode": "constant", "cval": 0.0, "with_coord": False}
"""Arguments of SlidingWindowInferer, and their only values here."""


@dataclass(frozen=True)
class Bundle:
    """A MONAI bundle.

    Attributes:
        path: its folder.
        config: content of configs/inference.json or .yaml.
        metadata: content of configs/metadata.json; empty if there is none.
    """

    path: Path
    config: BundleConfig
    metadata: Mapping[str, Any]

    @property
    def weights(self) -> Path | None:
        """File of the state dict, if there is one."""
        file = self.path / "models" / "model.pt"
        return file if file.is_file() else None

    @property
    def script(self) -> Path | None:
        """File of the network in TorchScript, if there is one."""
        file = self.path / "models" / "model.ts"
        return file if file.is_file() else None

    def described(self, side: str, entry: str) -> Mapping[str, Any]:
        """Return the metadata of one input or output of the network; empty if there is none."""
        value: Any = self.metadata
        for key in ("network_data_format", side, entry):
            value = value.get(key) if isinstance(value, Mapping) else None
        return value if isinstance(value, Mapping) else {}


def read_bundle(path: Path, *, trusted: bool = False) -> Bundle:
    """Return a bundle.

    Args:
        path: its folder.
        trusted: whether expressions in its config are run, by MONAI.

    Raises:
        InputError: no such folder, or configs that cannot be read.
    """
    configs = path / "configs"
    file, content = read_mapping([configs / f"inference.{ending}" for ending in ("json", "yaml", "yml")])
    metadata = dict[str, Any]()
    if (configs / "metadata.json").is_file():
        _, metadata = read_mapping([configs / "metadata.json"])
    evaluate = monai_evaluation(path, content) if trusted else None
    return Bundle(path, BundleConfig(file, content, evaluate), metadata)


def network_spec(
    bundle: Bundle, before: InputSteps, *, low: float, high: float, slices: bool = False
) -> ClassSpec:
    """Return class path and arguments of the deployed network, all plain values.

    Args:
        bundle: the bundle.
        before: what it does before its network.
        low: grey value, in the unit of the files, of the data's 0.
        high: of its 1.
        slices: whether images are axial slices of volumes.

    Raises:
        InputError: a network, an inferer or a transform that is not supported, or an expression.
    """
    network = bare_spec(bundle)
    axes = spatial_axes(bundle, network)
    order, flipped = before.order(axes, slices=slices)
    return {
        "class_path": INPUT,
        "init_args": {
            "network": windowed(bundle, network, axes),
            "low": low,
            "high": high,
            "order": order,
            "flipped": flipped,
            "steps": before.steps if before.listed else _stated_range(bundle, low, high),
            "left_out": [*before.left_out, *_afterwards(bundle)],
        },
    }


def bare_spec(bundle: Bundle) -> ClassSpec:
    """Return the bundle's network alone: a class of MONAI with its arguments, else its TorchScript file."""
    config = bundle.config
    place = next((place for place in ("network_def", "network") if config.component(place) is not None), None)
    component = config.component(place) if place is not None else None
    target = "" if component is None else str(component["_target_"])
    name = target.rpartition(".")[2]
    name = _ALIASES.get(name.lower(), name)
    known = name in NETWORKS and (target == target.rpartition(".")[2] or target.startswith(f"{HOME}."))
    if bundle.weights is not None and component is not None and place is not None and known:
        arguments = config.arguments(component, place)
        if arguments.get("pretrained"):
            arguments["pretrained"] = False  # the bundle has the weights
        return {"class_path": f"{HOME}.{name}", "init_args": arguments}
    if bundle.script is not None:
        return {"class_path": "seg_mia.models.file.TorchScript", "init_args": {"file": str(bundle.script)}}
    if bundle.weights is None:
        raise InputError(
            f"{bundle.path} must hold models/model.pt or models/model.ts, found neither; copy the bundle "
            "again"
        )
    found = repr(target) if component is not None else "none"
    raise InputError(
        f"{config.file}: network_def must name one of {', '.join(NETWORKS)} of {HOME}, got {found}; export "
        "it to models/model.ts (python -m monai.bundle ckpt_export), or name its class in a config of your "
        "own"
    )


def spatial_axes(bundle: Bundle, network: ClassSpec) -> int:
    """Return the number of spatial axes of a bundle's images: of its network, else of its metadata."""
    arguments = network["init_args"]
    stated = arguments.get("spatial_dims")
    if stated is None:
        shape = bundle.described("inputs", "image").get("spatial_shape")
        stated = len(shape) if isinstance(shape, list) and shape else None
    if stated is None:
        stated = 2 if network["class_path"].endswith("FlexibleUNet") else 3
    if not isinstance(stated, int) or stated not in {2, 3}:
        raise InputError(f"{bundle.path} must have a network of 2 or 3 spatial axes, got {stated!r}")
    return int(stated)


def windowed(bundle: Bundle, network: ClassSpec, axes: int) -> ClassSpec:
    """Return the network in the windows of a bundle's inferer; unchanged for one that shows whole images."""
    config = bundle.config
    places = ("inferer", "evaluator::inferer", "inferer_def")
    place = next((place for place in places if config.component(place) is not None), None)
    if place is None:
        if config.content.get("inferer") is not None:
            raise InputError(
                f"{config.file}: inferer must be a component, got {shortened(config.content['inferer'])}; "
                "name network and windows in a config of your own"
            )
        return network
    component = config.component(place)
    assert component is not None
    name = str(component["_target_"]).rpartition(".")[2]
    if name == "SimpleInferer":
        return network
    if name not in {"SlidingWindowInferer", "SlidingWindowInfererAdapt"}:
        raise InputError(
            f"{config.file}: inferer must be SimpleInferer or SlidingWindowInferer, got {name!r}; audit the "
            "bundle's predictions: audit --predictions"
        )
    given = config.arguments(component, place, (*_WITHOUT_EFFECT, "sw_batch_size"))
    if (mode := given.get("mode", "constant")) not in ("constant", "gaussian"):
        raise InputError(
            f"{config.file}: {place} must have mode constant or gaussian, got {mode!r}; correct it"
        )
    for setting, value in _FIXED.items():
        if given.get(setting, value) != value:
            raise InputError(
                f"{config.file}: {place} must have {setting} {value}, got {given[setting]!r}; audit the "
                "bundle's predictions: audit --predictions"
            )
    return {
        "class_path": "seg_mia.models.tiled.Tiled",
        "init_args": {
            "network": network,
            "patch": _patch(config, given.get("roi_size"), axes),
            "overlap": _overlap(config, given.get("overlap", 0.25)),
            "weights": mode,
            "mirror": [],
            "batch": component["sw_batch_size"] if isinstance(component.get("sw_batch_size"), int) else 4,
            "layout": "monai",
        },
    }


def _patch(config: BundleConfig, size: object, axes: int) -> list[int]:
    sides: list[Any] = size if isinstance(size, list) else [size] * axes
    if len(sides) != axes or not all(isinstance(side, int) and side > 0 for side in sides):
        raise InputError(
            f"{config.file}: roi_size must be {axes} lengths above 0, got {size!r}; write the lengths"
        )
    return sides


def _overlap(config: BundleConfig, overlap: object) -> float:
    values = overlap if isinstance(overlap, list) else [overlap]
    value = values[0] if values else None
    if not isinstance(value, int | float) or any(other != value for other in values):
        raise InputError(
            f"{config.file}: overlap must be one number for all axes, got {overlap!r}; write that number"
        )
    return float(value)


def _stated_range(bundle: Bundle, low: float, high: float) -> list[dict[str, Any]]:
    """Return the step to the value range that metadata states; none for a range in grey values."""
    stated = bundle.described("inputs", "image").get("value_range")
    if not isinstance(stated, list) or len(stated) != 2:
        return []
    if not all(type(value) in {int, float} for value in stated):
        raise InputError(
            f"{bundle.path}: value_range in metadata.json must be two numbers, got {shortened(stated)}; "
            "correct it"
        )
    if not stated[0] < stated[1]:
        return []
    if [float(value) for value in stated] == [low, high]:
        return []
    first, last = map(float, stated)
    return [{"transform": "ScaleIntensityRange", "a_min": low, "a_max": high, "b_min": first, "b_max": last}]


_PLAIN_AFTERWARDS = {
    "Activations", "AsDiscrete", "Invert", "SaveImage", "EnsureType", "ToTensor", "ToDevice", "CopyItems",
    "DeleteItems", "SelectItems", "EnsureChannelFirst",
}  # fmt: skip


UNREADABLE = "postprocessing"
"""What is left out where the transforms after the network cannot be read."""


def _afterwards(bundle: Bundle) -> list[str]:
    """Return the transforms after the network that change its masks, and are not done here."""
    after = _postprocessing(bundle)
    if after is None:
        return [UNREADABLE]
    return [name for name, _ in after if name not in _PLAIN_AFTERWARDS]


def uses_sigmoid(bundle: Bundle) -> bool:
    """Return whether each of several outputs is decided by a sigmoid of its own."""
    return any(name == "Activations" and sigmoid is True for name, sigmoid in _postprocessing(bundle) or [])


def _postprocessing(bundle: Bundle) -> list[tuple[str, object]] | None:
    """Return name and `sigmoid` of each transform after the network; None if they are not readable."""
    config = bundle.config
    places = ("postprocessing", "post_transforms", "evaluator::postprocessing")
    place = next((place for place in places if config.has(place)), None)
    if place is None:
        return []
    try:
        return [
            (
                plain_name(str(component["_target_"]), _PLAIN_AFTERWARDS),
                config.resolved(component.get("sigmoid"), f"{where}::sigmoid"),
            )
            for where, component in config.listed(place)
        ]
    except InputError:
        return None
