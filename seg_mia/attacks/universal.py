"""One change for all images (Moosavi-Dezfooli, Fawzi, Fawzi, Frossard, CVPR 2017), by projected steps."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn

from seg_mia.attacks.ball import check_radius
from seg_mia.attacks.base import (
    Adversarial,
    attack_mode,
    check_inputs,
    check_output,
    steps_bar,
    usable,
)
from seg_mia.attacks.best import mask_dice
from seg_mia.attacks.gradients import input_gradient
from seg_mia.attacks.objectives import OBJECTIVES, ObjectiveName, comparable
from seg_mia.attacks.white_box import WhiteBox
from seg_mia.errors import NUMPY_ERRORS, InputError, reason_of
from seg_mia.losses import Loss
from seg_mia.models.heads import final
from seg_mia.models.prompts import prompts_from
from seg_mia.models.replacement import StandIn

PASS = 8
"""Images of one step; the last step of an epoch may have fewer."""
TILES = (8, 16, 64)
JUDGING = 4
"""One image in this many judges the tiles."""
Pair = tuple[Tensor, Tensor]
"""Images and masks."""


def universal(
    model: nn.Module,
    x: Tensor,
    target: Tensor,
    *,
    epsilon: float = 8 / 255,
    epochs: int = 10,
    step_size: float = 2 / 255,
    momentum: float = 0.9,
    tiles: Sequence[int] = TILES,
    loss: ObjectiveName = "balanced_cross_entropy",
    seed: int = 0,
    on_step: Callable[[int], None] | None = None,
) -> Adversarial:
    """Fit one change to images, and add it to them: `fit_universal` and `apply_universal`.

    Options, units, ranges and errors are those of `fit_universal`; images used to evaluate the change must be
    others.

    Returns:
        images, with note `dice`, their foreground Dice.
    """
    change = fit_universal(
        model, x, target, epsilon=epsilon, epochs=epochs, step_size=step_size, momentum=momentum,
        tiles=tiles, loss=loss, seed=seed, on_step=on_step,
    )  # fmt: skip
    return apply_universal(model, x, target, change)


def fit_universal(
    model: nn.Module,
    x: Tensor,
    target: Tensor,
    *,
    epsilon: float = 8 / 255,
    epochs: int = 10,
    step_size: float = 2 / 255,
    momentum: float = 0.9,
    tiles: Sequence[int] = TILES,
    loss: ObjectiveName = "balanced_cross_entropy",
    seed: int = 0,
    on_step: Callable[[int], None] | None = None,
) -> Tensor:
    """Fit one change to images, and return its tile.

    Signed steps along the momentum of gradients (Dong et al., CVPR 2018, equation 6) of the sum of the loss
    over eight images at a time, in an order drawn for each epoch, within an L-infinity ball, from random
    signs on its surface. Step sizes fall linearly to a tenth. The change is a square tile (in volumes a
    cube), repeated over the image from its first pixel on, so that it fits images of any size; the smaller
    the tile, the less it fits single images. One is fitted for each side in `tiles` to three quarters of the
    images; kept is the one, of the start or after an epoch, that leaves the last quarter the lowest mean
    foreground Dice, the highest loss among equals. Of fewer than eight images all are used for both.

    Args:
        model: maps images in [0, 1] to logits (N, K, *s), or to a tuple of them with the final head first.
        x: images (N, C, *S) in [0, 1].
        target: ground truth masks (N, *s), 255 where ignored.
        epsilon: radius of the ball in L-infinity, in grey levels of [0, 1].
        epochs: passes over the images for each tile, at least 1; one input gradient for each image, and one
            more forward pass for each judging one.
        step_size: size of the first steps, in the same unit.
        momentum: share of the former direction that is kept, in [0, 1).
        tiles: sides of tiles that are tried, in pixels, not larger than the image.
        loss: a name in `seg_mia.attacks.objectives.OBJECTIVES`.
        seed: of the start and of the order.
        on_step: callback on_step(n) before epoch n, counted over all tiles.

    Returns:
        the tile (1, C, *T), for `apply_universal` on other images.

    Raises:
        InputError: invalid inputs, or options out of range.
    """
    check_inputs(x, target)
    check_universal(epsilon, epochs, step_size, momentum, tiles)
    draw = torch.Generator().manual_seed(seed)
    fitting, judging = _divided(usable(x), usable(target), draw)
    settings = _Fit(epsilon, epochs, step_size, momentum, loss)
    sides = sizes(tiles, x.shape[2:])
    with attack_mode(model):
        fits = [
            _fitted(model, fitting, judging, side, settings, draw, _after(on_step, number * epochs))
            for number, side in enumerate(sides)
        ]
    return min(fits, key=lambda fit: fit[0])[1]


def sizes(tiles: Sequence[int], size: Sequence[int]) -> list[tuple[int, ...]]:
    """Return the different sizes of tiles that are tried on images of a size."""
    return list(dict.fromkeys(tuple(min(tile, side) for side in size) for tile in tiles))


class _Fit(NamedTuple):
    epsilon: float
    epochs: int
    step_size: float
    momentum: float
    loss: ObjectiveName


def _divided(x: Tensor, target: Tensor, draw: torch.Generator) -> tuple[Pair, Pair]:
    """Return the images that tiles are fitted to, and those that judge them."""
    count = len(x) // JUDGING if len(x) >= 2 * JUDGING else 0
    order = torch.randperm(len(x), generator=draw).to(x.device)
    fitting, judging = order[count:], order[:count] if count else order
    return (x[fitting], target[fitting]), (x[judging], target[judging])


def _after(on_step: Callable[[int], None] | None, first: int) -> Callable[[int], None]:
    """Return a callback that counts on from a first step."""
    return lambda step: None if on_step is None else on_step(first + step)


def _fitted(
    model: nn.Module,
    fitting: Pair,
    judging: Pair,
    side: tuple[int, ...],
    fit: _Fit,
    draw: torch.Generator,
    on_step: Callable[[int], None],
) -> tuple[tuple[float, float], Tensor]:
    """Return the best tile of one size, (1, C, *side), after what it leaves, as `_left` has it."""
    (x, target), measure = fitting, comparable(fit.loss)
    change = fit.epsilon * (2 * torch.randint(2, (1, x.shape[1], *side), generator=draw) - 1).to(x)
    direction = torch.zeros_like(change)
    best = _left(model, *judging, change, measure), change
    for epoch in range(fit.epochs):
        on_step(epoch)
        length = fit.step_size * (1 - 0.9 * epoch / max(fit.epochs - 1, 1))
        order = torch.randperm(len(x), generator=draw).to(x.device)
        for begin in range(0, len(x), PASS):
            rows = order[begin : begin + PASS]
            gradient = _gradient(model, x[rows], target[rows], change, fit.loss, epoch / fit.epochs)
            size = gradient.abs().mean().clamp(min=torch.finfo(gradient.dtype).tiny)
            direction = fit.momentum * direction + gradient / size
            change = (change + length * direction.sign()).clamp(-fit.epsilon, fit.epsilon)
        best = min(best, (_left(model, *judging, change, measure), change), key=lambda pair: pair[0])
    return best


def apply_universal(model: nn.Module, x: Tensor, target: Tensor, change: Tensor) -> Adversarial:
    """Add a fitted tile to images.

    Args:
        model: as in `universal`.
        x: as in `universal`.
        target: as in `universal`.
        change: tile (1, C, *T).

    Returns:
        images, with note `dice`, their foreground Dice.

    Raises:
        InputError: invalid inputs, or a tile of other channels or axes than the images.
    """
    check_inputs(x, target)
    if change.ndim != x.ndim or change.shape[1] != x.shape[1]:
        raise InputError(
            f"a universal change must have the images' {x.shape[1]} channels and {x.ndim - 2} axes, got "
            f"{tuple(change.shape)}; fit one to such images"
        )
    with attack_mode(model, queries=True), torch.no_grad():
        x, target = usable(x), usable(target)
        images = (x + tiled(change.to(x), x.shape[2:])).clamp(0, 1)
        logits = final(model(images))
        check_output(logits, target)
        return Adversarial(images, {"dice": mask_dice(logits, target).to(x.dtype)})


def tiled(change: Tensor, size: tuple[int, ...]) -> Tensor:
    """Return a tile (1, C, *T) repeated to a size, from the first pixel on, (1, C, *size)."""
    counts = [-(-whole // side) for whole, side in zip(size, change.shape[2:], strict=True)]
    return change.repeat(1, 1, *counts)[(slice(None), slice(None), *(slice(whole) for whole in size))]


def _gradient(
    model: nn.Module, x: Tensor, target: Tensor, change: Tensor, loss: ObjectiveName, progress: float
) -> Tensor:
    change = change.clone().requires_grad_()
    with prompts_from(target):
        logits = final(model((x + tiled(change, x.shape[2:])).clamp(0, 1)))
    check_output(logits, target)
    return input_gradient(OBJECTIVES[loss](logits, target, progress, False).sum(), change)


def _left(model: nn.Module, x: Tensor, target: Tensor, change: Tensor, measure: Loss) -> tuple[float, float]:
    """Return the mean Dice under a change, and the negative mean loss."""
    moved, rows = tiled(change, x.shape[2:]), []
    with torch.no_grad():
        for begin in range(0, len(x), PASS):
            part, mask = x[begin : begin + PASS], target[begin : begin + PASS]
            with prompts_from(mask):
                logits = final(model((part + moved).clamp(0, 1)))
            rows.append(torch.stack((mask_dice(logits, mask).to(x.dtype), -measure(logits, mask))))
    dice, loss = torch.cat(rows, 1).nanmean(1).tolist()
    return dice, loss


def check_universal(
    epsilon: float, epochs: int, step_size: float, momentum: float, tiles: Sequence[int]
) -> None:
    """Raise InputError for options out of range."""
    check_radius(epsilon, "linf")
    if epochs < 1 or not 0 < step_size <= 1 or not 0 <= momentum < 1:
        raise InputError(
            f"epochs must be at least 1, step_size in (0, 1] and momentum in [0, 1), got {epochs}, "
            f"{step_size} and {momentum}; try 10, 0.0078 and 0.9"
        )
    if not tiles or min(tiles) < 1:
        raise InputError(
            f"tiles must be sides of 1 pixel or more, got {list(tiles)}; try {', '.join(map(str, TILES))}"
        )


class Universal(WhiteBox):
    """`universal`, fitted to one half of the patients and evaluated on the other.

    Args:
        fitted: a change fitted before, `universal.npy` of another run; none is fitted then.
        surrogate: checkpoint or run folder of the attacker's surrogate network; a change is also fitted to
            it, to evaluate transfer to the victim.
        replace: layers by class path, with the stand-in that provides the gradient of each.
        sanity_images: on how many images to check that the victim's gradients can be followed; 0: none.
        others: checkpoints, run folders or a fleet's folder of other victims, to which the changed images are
            shown, too; in an audit `shadow` or `fleet` for its own networks.
        knobs: options of the function.
    """

    function = staticmethod(universal)
    checks = (check_universal,)
    fits: ClassVar[bool] = True

    def __init__(
        self,
        *,
        fitted: str | None = None,
        surrogate: str | None = None,
        replace: dict[str, StandIn] | None = None,
        sanity_images: int = 0,
        others: str | list[str] | None = None,
        **knobs: Any,
    ) -> None:
        self._follow(surrogate, replace, sanity_images)
        self.knobs = knobs
        self.check_knobs()
        self.fitted, self.others = fitted, others
        self.changes: WeakKeyDictionary[nn.Module, Tensor] = WeakKeyDictionary()

    @property
    def attacker_knowledge(self) -> str:
        """What is known of the victim: nothing where the change was fitted to another network."""
        return "weights, other images" if self.fitted is None else "none: fitted to another network"

    def check(self, model: nn.Module | None = None) -> None:
        """Raise InputError for a file that is no change, or a victim without layers to be replaced."""
        super().check(model)
        if self.fitted is not None:
            read_change(self.fitted)

    def fit(self, model: nn.Module, x: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Fit the change for one network with a progress bar, where none is given."""
        if self.fitted is not None:
            return {}
        epochs = self.settings["epochs"] * len(sizes(self.settings["tiles"], x.shape[2:]))
        with steps_bar("universal", epochs) as show:
            change = fit_universal(self.differentiable(model), x, target, on_step=show, **self.knobs)
        self.changes[model] = change
        return {"universal": change}

    def run(self, model: nn.Module, x: Tensor, target: Tensor) -> Adversarial:
        """Add the change fitted for this network, or the given one; raise InputError before `fit`."""
        if self.fitted is not None:
            return apply_universal(model, x, target, read_change(self.fitted))
        if model not in self.changes:
            raise InputError(
                "a universal change must be fitted before it is evaluated, and is not; call fit with other "
                "images"
            )
        return apply_universal(model, x, target, self.changes[model])


def read_change(file: str) -> Tensor:
    """Return a stored change (1, C, *T); raise InputError for a file that holds none."""
    try:
        with Path(file).open("rb") as stream:
            values = np.load(stream, allow_pickle=False)
    except NUMPY_ERRORS as error:
        raise InputError(
            f"{file} must be a universal.npy, and cannot be read: {reason_of(error)}; fit one"
        ) from None
    if not isinstance(values, np.ndarray) or values.dtype.kind != "f" or values.ndim < 4 or len(values) != 1:
        raise InputError(
            f"{file} must hold one change, floats (1, channels, ...), got "
            f"{getattr(values, 'shape', 'several')}; fit one"
        )
    if not np.isfinite(values).all():
        raise InputError(f"{file} must hold finite values, got NaN or infinity; fit another")
    return torch.from_numpy(values)
