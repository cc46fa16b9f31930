"""Images crafted on other networks, for a victim that is never queried: MI-FGSM and diverse inputs."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F  # noqa: N812  (torch's own name for it)
from torch import Tensor, nn

from seg_mia.attacks.ball import check_ball, projected
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
from seg_mia.attacks.gradients import input_gradient
from seg_mia.attacks.objectives import OBJECTIVES, ObjectiveName
from seg_mia.errors import InputError
from seg_mia.metrics.labels import IGNORE
from seg_mia.metrics.shapes import axes
from seg_mia.models.heads import class_logits, final
from seg_mia.models.prompts import prompts_from


def transfer(
    model: nn.Module,
    x: Tensor,
    target: Tensor,
    *,
    epsilon: float = 8 / 255,
    step_size: float = 1 / 255,
    steps: int = 20,
    momentum: float = 1.0,
    smallest: float = 0.85,
    diverse: float = 0.5,
    loss: ObjectiveName = "cross_entropy",
    seed: int = 0,
    on_step: Callable[[int], None] | None = None,
) -> Adversarial:
    """Craft images on a surrogate so that they also fool networks it resembles.

    Signed steps along the accumulated gradient g_{n+1} = momentum g_n + d / mean |d| (Dong et al., CVPR 2018,
    eq. 6) in an L-infinity ball. With probability `diverse`, d is the gradient on a smaller copy of the image
    at a random place among zeros (Xie et al., CVPR 2019), with the mask moved alike. Draws are the same for
    all images. The last iterate is returned: the best one on the surrogate is not the best elsewhere.

    Args:
        model: the surrogate, or several as `Surrogates`: from images in [0, 1] to logits (N, K, *s), or to a
            tuple of them with the final head first.
        x: images (N, C, *S) in [0, 1].
        target: ground truth masks (N, *s), 255 where ignored.
        epsilon: radius of the ball in L-infinity, in grey levels of [0, 1].
        step_size: step size, in the same unit.
        steps: iterations, at least 1.
        momentum: factor of the gradients before, 0 or more.
        smallest: least size of the smaller copy, relative to the image, in (0, 1].
        diverse: probability of a smaller copy at each step, in [0, 1].
        loss: a name in `seg_mia.attacks.objectives.OBJECTIVES`.
        seed: of sizes and places.
        on_step: callback on_step(n) before iteration n.

    Returns:
        images, with note `surrogate_dice`, the foreground Dice of the surrogate.

    Raises:
        InputError: invalid inputs, or options out of range.
    """
    check_inputs(x, target)
    check_transfer(epsilon, step_size, steps, momentum, smallest, diverse)
    draw = torch.Generator().manual_seed(seed)
    with attack_mode(model):
        x, target = usable(x), usable(target)
        image, velocity = x.clone(), torch.zeros_like(x)
        for n in range(steps):
            if on_step is not None:
                on_step(n)
            varied = _diversified(image.requires_grad_(), target, smallest, diverse, draw)
            gradient = input_gradient(_objective(model, *varied, loss, n / steps), image)
            size = gradient.abs().mean(axes(gradient, 1), keepdim=True)
            velocity = momentum * velocity + torch.where(size > 0, gradient / size, 0)
            image = projected(image.detach() + step_size * velocity.sign(), x, "linf", epsilon)
        with torch.no_grad():
            dice = mask_dice(final(model(image)), target)
    return Adversarial(image, {"surrogate_dice": dice.to(x.dtype)})


def _objective(model: nn.Module, image: Tensor, mask: Tensor, loss: ObjectiveName, progress: float) -> Tensor:
    """Return the objective of a surrogate's answers, summed over images."""
    with prompts_from(mask):
        logits = final(model(image))
    check_output(logits, mask)
    return OBJECTIVES[loss](logits, mask, progress, False).sum()


def _diversified(
    image: Tensor, target: Tensor, smallest: float, diverse: float, draw: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return images and masks, or smaller copies of both among zeros and ignored pixels."""
    rows = [row for row in range(image.ndim - 2) if image.shape[-1 - row] > 1]  # the last axis comes first
    chance, *numbers = torch.rand(2 + len(rows), generator=draw).tolist()
    if chance >= diverse:
        return image, target
    scale = smallest + (1 - smallest) * numbers[0]
    # a mask smaller than the image shows its middle, so only a copy about the centre shrinks both alike
    moves = [2 * number - 1 if image.shape[2:] == target.shape[1:] else 0.0 for number in numbers[1:]]
    matrix = torch.eye(image.ndim - 2, image.ndim - 1, dtype=image.dtype)
    for row, move in zip(rows, moves, strict=True):
        matrix[row, row], matrix[row, -1] = 1 / scale, move * (1 / scale - 1)
    marked = (target + 1).masked_fill(target == IGNORE, 0).unsqueeze(1)  # zeros outside become ignored
    moved = _warped(marked.to(image.dtype), matrix, "nearest").squeeze(1).round().long()
    return _warped(image, matrix, "bilinear"), torch.where(moved == 0, IGNORE, moved - 1)


def _warped(maps: Tensor, matrix: Tensor, mode: str) -> Tensor:
    """Return maps (N, C, *S) seen through an affine map of relative positions, zeros outside."""
    grid = F.affine_grid(matrix.to(maps).expand(len(maps), -1, -1), list(maps.shape), align_corners=False)
    return F.grid_sample(maps, grid, mode=mode, padding_mode="zeros", align_corners=False)


def check_transfer(
    epsilon: float, step_size: float, steps: int, momentum: float, smallest: float, diverse: float
) -> None:
    """Raise InputError for options out of range."""
    check_ball(epsilon, step_size, steps, "linf")
    if not (momentum >= 0 and 0 < smallest <= 1 and 0 <= diverse <= 1):
        raise InputError(
            "momentum must be at least 0, smallest in (0, 1], diverse in [0, 1], got "
            f"{momentum}, {smallest} and {diverse}; try 1, 0.85 and 0.5"
        )


class Surrogates(nn.Module):
    """Several networks as one, with the mean of their class logits (Dong et al. 2018, section 3.4).

    Raises InputError for networks of different classes or output sizes.
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, K, *s), K at least 2."""
        maps = [class_logits(final(network(x))) for network in self.networks]
        if len({part.shape for part in maps}) > 1:
            raise InputError(
                "surrogates must have outputs of one shape, got "
                f"{', '.join(str(tuple(part.shape)) for part in maps)}; choose such networks"
            )
        return torch.stack(maps).mean(0)


class Transfer(Perturbation):
    """`transfer` from the attacker's own networks.

    Args:
        surrogate: checkpoints, run folders or a fleet's folder; in an audit `shadow` or `fleet` for its own.
        knobs: options of the function.
    """

    attacker_knowledge = "none of the victim; networks of the attacker"
    function = staticmethod(transfer)
    checks = (check_transfer,)
    on_surrogate: ClassVar[bool] = True

    def __init__(self, *, surrogate: str | list[str] | None = None, **knobs: Any) -> None:
        self.surrogate = surrogate
        self.knobs = knobs
        self.check_knobs()

    def check(self, model: nn.Module | None = None) -> None:  # noqa: ARG002
        """Raise InputError without a surrogate."""
        if not self.surrogate:
            raise InputError(
                "transfer needs the attacker's own network, got none; name runs, --attack.surrogate RUN, or "
                "in an audit shadow or fleet"
            )

    def run(self, model: nn.Module, x: Tensor, target: Tensor) -> Adversarial:
        """Run `transfer` on the surrogate with a progress bar."""
        with steps_bar("transfer", self.settings["steps"]) as show:
            return transfer(model, x, target, on_step=show, **self.knobs)
