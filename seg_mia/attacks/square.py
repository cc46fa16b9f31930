"""Square attack on segmentation, without gradients (Andriushchenko, Croce, Flammarion, Hein, ECCV 2020)."""

from collections.abc import Callable
from typing import Literal, assert_never

import torch
from torch import Tensor, nn

from seg_mia.attacks.ball import check_radius
from seg_mia.attacks.base import (
    Adversarial,
    Perturbation,
    attack_mode,
    check_inputs,
    check_output,
    steps_bar,
    usable,
)
from seg_mia.attacks.best import mask_dice
from seg_mia.attacks.objectives import pixel_margin
from seg_mia.errors import InputError
from seg_mia.metrics.labels import IGNORE
from seg_mia.metrics.shapes import axes, per_image
from seg_mia.models.heads import final

Access = Literal["scores", "labels"]
HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""Queries, of 10000, after which the changed share of the image is halved."""


def square(
    model: nn.Module,
    x: Tensor,
    target: Tensor,
    *,
    access: Access = "scores",
    epsilon: float = 8 / 255,
    queries: int = 5000,
    share: float = 0.8,
    seed: int = 0,
    on_step: Callable[[int], None] | None = None,
) -> Adversarial:
    """Try squares of +-epsilon per channel, and keep those that lower the objective, in an L-infinity ball.

    The start is vertical stripes of +-epsilon. A square (in volumes a cube) covers `share` of the image,
    halved at fixed parts of the queries. Objective: from scores the mean over pixels of the margin of the
    true class, at least -1; from labels the foreground Dice. An image is finished at Dice 0. Positions and
    signs are the same for all images.

    Args:
        model: maps images in [0, 1] to logits (N, K, *s), or to a tuple of them with the final head first; it
            need not have gradients.
        x: images (N, C, *S) in [0, 1].
        target: ground truth masks (N, *s), 255 where ignored.
        access: what is read of the answer: "scores", or "labels", the most likely class of each pixel.
        epsilon: radius of the ball, in grey levels of [0, 1].
        queries: forward passes per image, at least 2.
        share: part of the image that the first squares cover, in (0, 1].
        seed: of positions and signs.
        on_step: callback on_step(n) before query n.

    Returns:
        each image's lowest Dice, with notes `queries` used and `dice`.

    Raises:
        InputError: invalid inputs, or options out of range.
    """
    check_inputs(x, target)
    check_square(epsilon, queries, share)
    draw = torch.Generator().manual_seed(seed)
    with attack_mode(model, queries=True), torch.no_grad():
        x, target = usable(x), usable(target)
        logits = final(model(x))
        check_output(logits, target)
        state = _State(x, target, access, logits)
        for n in range(1, queries):
            if on_step is not None:
                on_step(n)
            going = (state.dice > 0).nonzero().flatten()
            if not len(going):
                break
            lengths = sides(tuple(x.shape[2:]), share, n, queries)
            image = _stripes(x, epsilon, draw) if n == 1 else _moved(state.image, x, epsilon, draw, lengths)
            state.ask(model, image, going)
    return Adversarial(state.worst, {"queries": state.queries, "dice": state.dice})


class _State:
    """The search's image and objective, the image of lowest Dice, and the queries that each image took."""

    def __init__(self, x: Tensor, target: Tensor, access: Access, logits: Tensor) -> None:
        self.target, self.access = target, access
        self.image, self.worst = x.clone(), x.clone()
        self.dice = mask_dice(logits, target).nan_to_num(nan=0.0)
        self.objective = objective(logits, target, access)
        self.queries = torch.ones(len(x), dtype=torch.int64, device=x.device)

    def ask(self, model: nn.Module, image: Tensor, going: Tensor) -> None:
        """Show the images `going` (m,) to the network; keep those of a lower objective."""
        image, target = image[going], self.target[going]
        logits = final(model(image))
        value = objective(logits, target, self.access)
        better = value < self.objective[going]
        self.image[going] = torch.where(per_image(better, image), image, self.image[going])
        self.objective[going] = torch.where(better, value, self.objective[going])
        dice = mask_dice(logits, target).to(self.dice)
        lower = dice < self.dice[going]
        self.worst[going] = torch.where(per_image(lower, image), image, self.worst[going])
        self.dice[going] = torch.minimum(dice, self.dice[going])
        self.queries[going] += 1


def objective(logits: Tensor, target: Tensor, access: Access) -> Tensor:
    """Return what the attack lowers, (N,): the mean margin of at least -1, or the foreground Dice."""
    match access:
        case "scores":
            margin = pixel_margin(logits, target).clamp(min=-1)
            space = axes(target, 1)
            return margin.sum(space) / (target != IGNORE).sum(space).clamp(min=1)
        case "labels":
            return mask_dice(logits, target)
        case _:
            assert_never(access)


def sides(size: tuple[int, ...], share: float, query: int, queries: int) -> tuple[int, ...]:
    """Return the sides of the square at a query, in pixels: the published schedule, scaled to `queries`.

    Of a volume it is a cube, or spans the axes that are shorter than the cube.
    """
    part = share / 2 ** sum(10_000 * query > bound * queries for bound in HALVINGS)
    pixels: float = part * torch.Size(size).numel()
    lengths, order = list(size), sorted(range(len(size)), key=size.__getitem__)
    while len(order) > 2 and size[order[0]] <= max(1, round(pixels ** (1 / len(order)))):
        pixels /= size[order.pop(0)]
    width = min(max(1, round(pixels ** (1 / len(order)))), *(size[axis] for axis in order))
    for axis in order:
        lengths[axis] = width
    return tuple(lengths)


def _signs(shape: tuple[int, ...], draw: torch.Generator, like: Tensor) -> Tensor:
    return (2 * torch.randint(2, shape, generator=draw) - 1).to(like)


def _stripes(x: Tensor, epsilon: float, draw: torch.Generator) -> Tensor:
    """Return images with vertical stripes of +-epsilon, a pixel wide."""
    shape = (1, x.shape[1], *[1] * (x.ndim - 3), x.shape[-1])
    return (x + epsilon * _signs(shape, draw, x)).clamp(0, 1)


def _moved(
    image: Tensor, x: Tensor, epsilon: float, draw: torch.Generator, lengths: tuple[int, ...]
) -> Tensor:
    """Return images with +-epsilon in one square, or cuboid, of these lengths in pixels."""
    size = tuple(x.shape[2:])
    spans = [len(size) > 2 and whole == length for whole, length in zip(size, lengths, strict=True)]
    corner = [
        0 if spans[axis] else int(torch.randint(size[axis] - lengths[axis] + 1, (1,), generator=draw))
        for axis in range(len(size))
    ]
    places = zip(corner, lengths, strict=True)
    window = (slice(None), slice(None), *(slice(start, start + length) for start, length in places))
    signs = _signs((1, x.shape[1], *[1] * len(size)), draw, x)
    changed = image.clone()
    changed[window] = (x[window] + epsilon * signs).clamp(0, 1)
    return changed


def check_square(epsilon: float, queries: int, share: float) -> None:
    """Raise InputError for options out of range."""
    check_radius(epsilon, "linf")
    if queries < 2 or not 0 < share <= 1:
        raise InputError(
            f"queries must be at least 2, share in (0, 1], got {queries} and {share}; try 5000 and 0.8"
        )


class Square(Perturbation):
    """Configurable form of `square`: it also attacks networks without gradients."""

    function = staticmethod(square)
    checks = (check_square,)

    @property
    def attacker_knowledge(self) -> str:
        """What is read of the victim's answer."""
        return "probabilities" if self.settings["access"] == "scores" else "labels"

    def run(self, model: nn.Module, x: Tensor, target: Tensor) -> Adversarial:
        """Run `square` with a progress bar."""
        with steps_bar("square", self.settings["queries"]) as show:
            return square(model, x, target, on_step=show, **self.knobs)
