"""The AdaIN texture attack: Lee et al., Applied Sciences 14(6):2576, 2024."""

import copy
import itertools
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from seg_mia.attacks.auto_encoders import load_pairs
from seg_mia.attacks.base import (
    Adversarial,
    Perturbation,
    Preparation,
    attack_mode,
    check_inputs,
    check_output,
    usable,
)
from seg_mia.attacks.feature_statistics import ORGANS, Levels, Texture, check_factors, retextured
from seg_mia.config.files import known
from seg_mia.errors import InputError
from seg_mia.metrics.label_sets import label_names
from seg_mia.metrics.labels import IGNORE, padding_of_images
from seg_mia.metrics.overlap import foreground_dice
from seg_mia.metrics.similarity import WINDOW, has_similarity, mean_absolute, ssim
from seg_mia.models.heads import class_count, final, predicted
from seg_mia.models.style_autoencoder import TextureAutoEncoders
from seg_mia.runs import TEXTURES

Region = Literal["slice", "organ"]
Axis = Literal["axial", "coronal", "sagittal"]
_AXES: dict[Axis, int] = {"axial": 2, "coronal": 3, "sagittal": 4}
"""Axis of a volume (N, C, D, H, W) along which its slices follow each other."""
_CHUNK = 16
"""Slices of a volume that are re-textured at once, at most."""
Factors = float | list[float]


def adain(
    model: nn.Module,
    x: Tensor,
    target: Tensor,
    *,
    pairs: TextureAutoEncoders,
    organs: Sequence[int] = (6,),
    noise_mu: Factors = 0.3,
    noise_sigma: Factors = 0.3,
    ssim_floor: float = 0.0,
    region: Region = "slice",
    feather: float = 4.0,
    axis: Axis = "axial",
    **levels: Any,
) -> Adversarial:
    """Re-texture images by distorting their feature statistics.

    Section 3 of the paper; no gradient is used. With several strengths, each image keeps the one of lowest
    victim Dice among those whose SSIM reaches the floor. If none reaches it, the one of highest SSIM is kept.

    Args:
        model: maps images in [0, 1] to logits (N, K, *s); queried once, and once more for each strength.
        x: images (N, 1 or 3, *S) in [0, 1]; quantised to 8 bits. Volumes are re-textured slice by slice.
        target: ground truth masks (N, *s), which locate the organs; ignored pixels count as background. The
            padding of volumes does not change and is left out of all values.
        pairs: the auto-encoders.
        organs: organ id, 1 to 14, of each foreground class, in class order.
        noise_mu: factor on the channel means at levels 3, 2, 1, or a list of candidates.
        noise_sigma: factor on the channel standard deviations, or a list of candidates; every combination
            with `noise_mu` is tried.
        ssim_floor: minimum SSIM, in [-1, 1], of a candidate strength.
        region: "slice" changes the whole image, as published; "organ" only the foreground.
        feather: standard deviation of the blur at the organ's border, in pixels; 0 gives a sharp border.
        axis: of the slices of volumes.
        levels: settings of `seg_mia.attacks.feature_statistics.Levels`; its defaults if omitted.

    Returns:
        images, with notes `noise_mu`, `noise_sigma`, `above_floor`, and SSIM and mean absolute change
        inside and outside the foreground (NaN for an empty region): `ssim_inside`, `ssim_outside`,
        `change_inside`, `change_outside`. With several strengths the history has one row per strength:
        `noise_mu`, `noise_sigma`, `dice`, `ssim` and the four regional values.

    Raises:
        InputError: invalid inputs, or options out of range.
    """
    check_inputs(x, target)
    check_channels(x)
    _check_size(x)
    _check(organs, ssim_floor, feather)
    strengths, knobs = strengths_of(noise_mu, noise_sigma), Texture(**levels)
    with attack_mode(model, queries=True), torch.no_grad():
        scene = _Scene(model, usable(x), usable(target), organs, axis)
        blur = feather if region == "organ" else None
        images = list(scene.candidates(pairs, knobs, strengths, blur))
        return _selected(images, [scene.measures(image) for image in images], strengths, ssim_floor)


def check_channels(x: Tensor) -> None:
    """Raise InputError for images (N, C, H, W) that are neither grey nor RGB."""
    if x.shape[1] not in (1, 3):
        raise InputError(
            f"adain changes the texture of grey or RGB images, got {x.shape[1]} channels; use "
            "another attack, such as pgd"
        )


def _check_size(x: Tensor) -> None:
    """Raise InputError for images whose similarity is not defined."""
    if not has_similarity(x.shape):
        raise InputError(
            f"adain chooses by SSIM, which needs slices of at least {WINDOW} x {WINDOW} pixels, got "
            f"{tuple(x.shape)}; use larger images, or another attack, such as pgd"
        )


def strengths_of(noise_mu: Factors, noise_sigma: Factors) -> list[tuple[float, float]]:
    """Return all pairs of the two factors; raise InputError for an empty list or invalid factors."""
    means, deviations = (value if isinstance(value, list) else [value] for value in (noise_mu, noise_sigma))
    if not means or not deviations:
        raise InputError("noise_mu and noise_sigma must name at least one factor each, got an empty list")
    pairs = list(itertools.product(means, deviations))
    for mu, sigma in pairs:
        check_factors(noise_mu=mu, noise_sigma=sigma)
    return pairs


def strongest(dice: Tensor, similarity: Tensor, floor: float) -> Tensor:
    """Return each image's row of lowest Dice (T, N) with SSIM at or above the floor, else of highest SSIM."""
    allowed = similarity >= floor
    lowest = dice.masked_fill(~allowed, torch.inf).argmin(0)
    return torch.where(allowed.any(0), lowest, similarity.argmax(0))


def organ_ids(masks: Tensor, organs: Sequence[int], classes: int, size: Sequence[int]) -> Tensor:
    """Return organ ids (N, *S) of masks (N, *s), centred if the output is smaller than the image.

    Raises InputError unless each foreground class has an organ.
    """
    check_organs(organs, classes)
    table = torch.zeros(IGNORE + 1, dtype=torch.int64, device=masks.device)
    table[1:classes] = torch.tensor(organs, dtype=torch.int64, device=masks.device)
    lacking = [whole - length for whole, length in zip(size, masks.shape[1:], strict=True)]
    padding = [part for count in reversed(lacking) for part in (count // 2, count - count // 2)]
    return functional.pad(table[masks], padding)


def check_organs(organs: Sequence[int], classes: int) -> None:
    """Raise InputError unless each foreground class has an organ."""
    if names := label_names(classes):
        raise InputError(
            f"adain needs an organ id for each class, labels that may overlap ({', '.join(names)}) have "
            "none; use another attack, such as pgd"
        )
    if len(organs) != classes - 1:
        raise InputError(
            f"each of the {classes - 1} foreground classes needs an organ id, got {list(organs)}; set "
            "--attack.organs"
        )


class _Flat:
    """Volumes as a batch of their slices, and back; images as they are."""

    def __init__(self, x: Tensor, axis: Axis) -> None:
        self.axis = _AXES[axis] if x.ndim == 5 else None
        self.count = len(x)

    def __call__(self, x: Tensor) -> Tensor:
        """Return slices (N * L, C, h, w) of volumes (N, C, D, H, W) of L slices."""
        return x if self.axis is None else x.movedim(self.axis, 1).flatten(0, 1)

    def whole(self, slices: Tensor) -> Tensor:
        """Return the volumes of slices."""
        return (
            slices
            if self.axis is None
            else slices.reshape(self.count, -1, *slices.shape[1:]).movedim(1, self.axis)
        )


class _Scene:
    """Images with their organs and padding, and the network that is shown them.

    Args:
        model: as in `adain`; queried once.
        x: as in `adain`.
        target: as in `adain`.
        organs: as in `adain`.
        axis: as in `adain`.
    """

    def __init__(
        self, model: nn.Module, x: Tensor, target: Tensor, organs: Sequence[int], axis: Axis
    ) -> None:
        logits = final(model(x))
        check_output(logits, target)
        self.model, self.x, self.target, self.classes = model, x, target, class_count(logits)
        labels = organ_ids(target, organs, self.classes, x.shape[2:])
        self.foreground = labels > 0
        self.real = ~padding_of_images(target, x.shape[2:]) if x.ndim == 5 else None
        self.flat = _Flat(x, axis)
        self.labels = self.flat(labels.unsqueeze(1))[:, 0]

    def candidates(
        self,
        pairs: TextureAutoEncoders,
        knobs: Texture,
        strengths: Sequence[tuple[float, float]],
        blur: float | None,
    ) -> Iterator[Tensor]:
        """Yield the images of each strength; with a blur of the border only the organs change."""
        slices = self.flat(_full(self.x))
        for changed in _in_full(_like(pairs, slices), slices, self.labels, knobs, strengths):
            image = self.flat.whole(changed).to(self.x.dtype)
            if blur is not None:
                share = self.flat.whole(feathered(self.labels > 0, blur)).to(self.x.dtype)
                image = share * image + (1 - share) * self.x
            yield image if self.real is None else torch.where(self.real.unsqueeze(1), image, self.x)

    def measures(self, image: Tensor) -> dict[str, Tensor]:
        """Return Dice, SSIM and the regional values of changed images, (N,) each."""
        prediction = predicted(final(self.model(image)))
        return {
            "dice": foreground_dice(prediction, self.target, self.classes).double(),
            "ssim": ssim(image, self.x, where=self.real).double(),
            **_changes(image, self.x, self.foreground, self.real),
        }


def _selected(
    images: list[Tensor],
    measures: list[dict[str, Tensor]],
    strengths: Sequence[tuple[float, float]],
    floor: float,
) -> Adversarial:
    """Return each image's strongest candidate, with the notes and the history of `adain`."""
    table = {name: torch.stack([row[name] for row in measures]) for name in measures[0]}
    best = strongest(table["dice"], table["ssim"], floor)
    grid = torch.tensor(strengths, dtype=torch.float64, device=best.device)
    notes = {
        "noise_mu": grid[best, 0],
        "noise_sigma": grid[best, 1],
        "above_floor": (table["ssim"].gather(0, best[None])[0] >= floor).double(),
        **{name: values.gather(0, best[None])[0] for name, values in table.items() if "side" in name},
    }
    history = {}
    if len(strengths) > 1:
        factors = grid.unsqueeze(2).expand(-1, -1, len(best))
        history = {"noise_mu": factors[:, 0], "noise_sigma": factors[:, 1], **table}
    return Adversarial(torch.stack(images)[best, torch.arange(len(best), device=best.device)], notes, history)


def feathered(foreground: Tensor, sigma: float) -> Tensor:
    """Return the blending weight of each pixel (N, 1, H, W): 1 well inside, 0 well outside, in [0, 1]."""
    share = foreground.unsqueeze(1).float()
    if sigma == 0:
        return share
    reach = int(3 * sigma) + 1
    offsets = torch.arange(-reach, reach + 1, dtype=share.dtype, device=share.device)
    kernel = (-0.5 * (offsets / sigma) ** 2).softmax(0)
    down = functional.pad(share, (0, 0, reach, reach), mode="replicate")
    down = functional.conv2d(down, kernel.view(1, 1, -1, 1))
    across = functional.pad(down, (reach, reach, 0, 0), mode="replicate")
    return functional.conv2d(across, kernel.view(1, 1, 1, -1)).clamp(0, 1)


def _full(x: Tensor) -> Tensor:
    """Return images in float32 at least: squares of weighted features overflow in half precision."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _in_full(
    pairs: TextureAutoEncoders,
    x: Tensor,
    labels: Tensor,
    knobs: Texture,
    strengths: Sequence[tuple[float, float]],
) -> Iterator[Tensor]:
    """Yield the results of `retextured`, computed without autocast regardless of the caller's context."""
    chunks = [
        retextured(pairs, images, organs, knobs, strengths=strengths)
        for images, organs in zip(torch.split(x, _CHUNK), torch.split(labels, _CHUNK), strict=True)
    ]
    for _ in strengths:
        with torch.autocast(x.device.type, enabled=False):
            changed = torch.cat([next(images) for images in chunks])
        yield changed


def _like(pairs: TextureAutoEncoders, x: Tensor) -> TextureAutoEncoders:
    """Return the pairs on the images' device and in their dtype, copied if necessary."""
    parameter = next(pairs.parameters())
    fits = (parameter.device, parameter.dtype) == (x.device, x.dtype)
    return pairs if fits else copy.deepcopy(pairs).to(x.device, x.dtype)


def _changes(images: Tensor, x: Tensor, foreground: Tensor, real: Tensor | None) -> dict[str, Tensor]:
    measures, surround = {}, ~foreground if real is None else real & ~foreground
    for name, where in (("inside", foreground), ("outside", surround)):
        measures[f"ssim_{name}"] = ssim(images, x, where=where).double()
        measures[f"change_{name}"] = mean_absolute(images, x, where=where).double()
    return measures


def _check(organs: Sequence[int], ssim_floor: float, feather: float) -> None:
    if not organs or not all(1 <= organ <= ORGANS for organ in organs):
        raise InputError(
            f"organs must be ids from 1 to {ORGANS}, one for each foreground class, got {list(organs)}"
        )
    if not -1 <= ssim_floor <= 1 or not 0 <= feather < float("inf"):
        raise InputError(
            f"ssim_floor must lie in [-1, 1] and feather at or above 0, got {ssim_floor} and {feather}"
        )


def _check_levels(levels: dict[str, Any]) -> None:
    Levels(**levels)


class Adain(Perturbation):
    """Configurable form of `adain`.

    Args:
        weights: folder of E1..5.pth and D1..5.pth (or SE, SD), or a run or checkpoint of auto-encoders
            trained here; in an audit also the name of a config that trains them.
        knobs: options of `adain`.
    """

    function = staticmethod(adain)
    checks = (_check, strengths_of, _check_levels)

    def __init__(self, *, weights: str | None = None, **knobs: Any) -> None:
        self.weights = weights
        self.knobs = knobs
        self.check_knobs()

    @property
    def attacker_knowledge(self) -> str:
        """Attacker knowledge of the victim: a single strength queries none."""
        settings = self.settings
        several = len(strengths_of(settings["noise_mu"], settings["noise_sigma"])) > 1
        return "true mask, labels" if several else "true mask"

    def prepares(self) -> Preparation | None:
        """Return the training of auto-encoders if `weights` names a config rather than a path."""
        if self.weights is None or not (self.weights in known() or self.weights.endswith((".yaml", ".yml"))):
            return None
        return Preparation(self.weights, "weights", TEXTURES, "auto-encoders", "texture_quick")

    def check(self, model: nn.Module | None = None) -> None:  # noqa: ARG002
        """Load the auto-encoders; raise InputError if there are none."""
        self.pairs(torch.device("cpu"))

    def check_samples(self, classes: int, channels: int) -> None:
        """Raise InputError unless each foreground class has an organ, and images are grey or RGB."""
        check_organs(self.settings["organs"], classes)
        check_channels(torch.empty(0, channels, 1, 1))

    def pairs(self, device: torch.device) -> TextureAutoEncoders:
        """The auto-encoders, loaded once."""
        if self.weights is None:
            raise InputError(
                "the texture attack needs auto-encoders: --attack.weights FOLDER of E1..5.pth and D1..5.pth, "
                "or a run of `python -m seg_mia fit --config texture_phantom`"
            )
        return self._loaded.to(device)

    @cached_property
    def _loaded(self) -> TextureAutoEncoders:
        return load_pairs(str(self.weights))

    def run(self, model: nn.Module, x: Tensor, target: Tensor) -> Adversarial:
        """Run `adain`."""
        return adain(model, x, target, pairs=self.pairs(x.device), **self.knobs)
