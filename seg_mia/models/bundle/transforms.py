"""A bundle's list of transforms before its network, as settings of the network and of the data."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from seg_mia.errors import InputError
from seg_mia.models.bundle.config import SEPARATOR, BundleConfig
from seg_mia.models.bundle.intensity import NAME, STEPS, step_of

PLACES = ("preprocessing", "pre_transforms", "inference_transforms", "val_transforms")
"""Usual names of the list."""
_WITHOUT_EFFECT = {
    "EnsureChannelFirst", "AddChannel", "AsChannelFirst", "EnsureType", "ToTensor", "CastToType", "ToDevice",
    "Identity", "SelectItems", "DeleteItems", "CopyItems", "SimulateDelay",
}  # fmt: skip
"""Transforms that change no value of the image as it is read here."""
_OF_EXTENT = {
    "CropForeground", "SpatialPad", "BorderPad", "DivisiblePad", "CenterSpatialCrop", "ResizeWithPadOrCrop",
    "SpatialCrop",
}  # fmt: skip
"""Transforms that change the part of the image that the network sees, not its values."""
_NOT_ARGUMENTS = ("keys", "allow_missing_keys", "dtype", "lazy", "device", "anti_aliasing_sigma")
_OURS = ("SPL", "IAR")
"""Letters of the image's axes [D, H, W]: the direction in which they run, and the other one."""


@dataclass
class InputSteps:
    """What a bundle does before its network.

    Attributes:
        listed: whether the bundle lists transforms.
        steps: transforms of values and size, as settings of `seg_mia.models.bundle.network.BundleInput`.
        transposed: whether its reader gives images as (W, H), and volumes as (W, H, D).
        axes: axis codes of volumes, such as RAS; None if it keeps those of the file.
        spacing: distance of voxels in the network's order of axes; None keeps the file's.
        left_out: transforms that are not done here.
    """

    listed: bool = True
    steps: list[dict[str, Any]] = field(default_factory=list)
    transposed: bool = True
    axes: str | None = None
    spacing: list[float] | None = None
    left_out: list[str] = field(default_factory=list)

    def order(self, axes: int, *, slices: bool = False) -> tuple[list[int] | None, list[int]]:
        """Return the order and the flipped ones of the network's axes.

        Args:
            axes: number of the image's axes.
            slices: whether images are axial slices of volumes.
        """
        if not self.transposed:
            return None, []
        if axes == 2:
            return [1, 0], [0, 1] if slices else []
        codes = self.axes or "RAS"
        order = [next(axis for axis in range(3) if code in _OURS[0][axis] + _OURS[1][axis]) for code in codes]
        return order, [place for place, code in enumerate(codes) if code in _OURS[1]]

    def spacing_of_axes(self) -> list[float] | None:
        """Return the spacing along [D, H, W]; None if it is the file's."""
        order, _ = self.order(3)
        if self.spacing is None or order is None:
            return self.spacing
        return [self.spacing[order.index(axis)] for axis in range(3)]


def input_steps(config: BundleConfig) -> InputSteps:
    """Return what a bundle does before its network; nothing if it lists no transforms.

    Raises:
        InputError: a transform that changes values and has no counterpart here, or its arguments.
    """
    place = next((place for place in PLACES if config.has(place)), None)
    if place is None:
        return InputSteps(listed=False, transposed=False)
    result = InputSteps()
    for where, component in config.listed(place):
        _add(result, config, component, where)
    return result


def plain_name(target: str, known: Collection[str]) -> str:
    """Return the name of a transform without the ending of those on dictionaries, if it is known."""
    name = target.rpartition(".")[2]
    bare = [name.removesuffix(ending) for ending in ("", "d", "D", "Dict")]
    return next((candidate for candidate in bare if candidate in known), name)


def _add(result: InputSteps, config: BundleConfig, component: Mapping[str, Any], where: str) -> None:
    """Add one transform to the steps."""
    target = str(component["_target_"])
    name = plain_name(target, {*STEPS, *_WITHOUT_EFFECT, *_OF_EXTENT, "LoadImage", "Orientation", "Spacing"})
    if not _concerns_image(config, component, where) or name in _WITHOUT_EFFECT:
        return
    if name in _OF_EXTENT:
        result.left_out.append(name)
        return
    if name == "LoadImage":
        reader, reverse = (
            config.resolved(component.get(argument), f"{where}{SEPARATOR}{argument}")
            for argument in ("reader", "reverse_indexing")
        )
        numpy = isinstance(reader, str) and "Numpy" in reader
        result.transposed = not numpy and reverse is not (str(reader).startswith("ITK"))
        return
    arguments = config.arguments(component, where, _NOT_ARGUMENTS)
    match name:
        case "Orientation":
            result.axes = _codes(config, arguments, where)
        case "Spacing":
            result.spacing = _spacing(config, arguments, where)
        case _ if name in STEPS:
            step = {NAME: name, **{key: value for key, value in arguments.items() if value is not None}}
            _checked(config, step, where)
            result.steps.append(step)
        case _:
            raise InputError(
                f"{config.file}: {where}, {target}, changes values and has no counterpart here (there are "
                f"{', '.join(STEPS)}, Orientation, Spacing); name network, weights and preprocessing in a "
                "config of your own, or audit its predictions: audit --predictions"
            )


def _concerns_image(config: BundleConfig, component: Mapping[str, Any], where: str) -> bool:
    """Return whether a transform is of the image; one of labels alone is not."""
    keys = component.get("keys")
    if keys is None:
        return True
    resolved = config.resolved(keys, f"{where}{SEPARATOR}keys")
    names = resolved if isinstance(resolved, list) else [resolved]
    return not all(isinstance(name, str) and name.lower() in {"label", "mask", "seg"} for name in names)


def _codes(config: BundleConfig, arguments: Mapping[str, Any], where: str) -> str:
    codes = arguments.get("axcodes")
    if not isinstance(codes, str) or sorted(map("LRAPIS".find, codes)) not in _code_sets():
        raise InputError(
            f"{config.file}: {where} must have axcodes such as RAS, got {codes!r}; correct the bundle"
        )
    return codes


def _code_sets() -> list[list[int]]:
    return [[left, front, low] for left in (0, 1) for front in (2, 3) for low in (4, 5)]


def _spacing(config: BundleConfig, arguments: Mapping[str, Any], where: str) -> list[float]:
    steps = arguments.get("pixdim")
    steps = steps if isinstance(steps, list) else [steps] * 3
    if len(steps) != 3 or not all(isinstance(step, int | float) and step > 0 for step in steps):
        raise InputError(
            f"{config.file}: {where} must have pixdim of three distances above 0, got {steps}; resample the "
            "data, and leave the transform out of the bundle"
        )
    return [float(step) for step in steps]


def _checked(config: BundleConfig, step: Mapping[str, Any], where: str) -> None:
    try:
        step_of(step)
    except InputError as error:
        raise InputError(f"{config.file}: {where}: {error}") from None
