"""SEA, an ensemble of APGD on several losses, worst case per image: Croce, Singh, Hein, ECCV 2024."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from seg_mia.attacks.apgd import apgd, check_steps, effort_of
from seg_mia.attacks.ball import Norm, check_radius
from seg_mia.attacks.base import Adversarial, steps_bar
from seg_mia.attacks.objectives import OBJECTIVES, ObjectiveName
from seg_mia.attacks.white_box import WhiteBox
from seg_mia.errors import InputError
from seg_mia.metrics.shapes import per_image
from seg_mia.results.robustness import WorstCase

MEMBERS: tuple[ObjectiveName, ...] = (
    "balanced_cross_entropy",
    "masked_cross_entropy",
    "jensen_shannon",
    "dice",
    "tsallis",
)


def sea(
    model: nn.Module,
    x: Tensor,
    target: Tensor,
    *,
    norm: Norm = "linf",
    epsilon: float = 8 / 255,
    steps: int = 300,
    losses: Sequence[ObjectiveName] = MEMBERS,
    staged: bool = False,
    seed: int = 0,
    on_step: Callable[[int], None] | None = None,
) -> Adversarial:
    """Run `apgd` on each loss, and keep each image's lowest foreground Dice.

    The published ensemble has the first three losses and the worst pixel accuracy, which small structures
    hardly change; soft Dice and the Tsallis loss are added, and the worst case is that of Dice. Its larger
    balls first are an option (`apgd`).

    Args:
        model: maps images in [0, 1] to logits (N, K, *s), or to a tuple of them with the final head first.
        x: images (N, C, *S) in [0, 1].
        target: ground truth masks (N, *s), 255 where ignored.
        norm: norm of the ball, over all channels and pixels of an image: "linf" or "l2".
        epsilon: radius of the ball, in grey levels of [0, 1].
        steps: iterations of each loss, at least 1, staged at least 4.
        losses: names in `seg_mia.attacks.objectives.OBJECTIVES`; ties go to the first.
        staged: begin in larger balls, as published.
        seed: of the random start, which is the same for all images and losses.
        on_step: callback on_step(n) before iteration n of all.

    Returns:
        images, with notes `member`, index into `losses` of the one that was kept, `dice`, and NAME.dice, the
        Dice that each loss leaves alone.

    Raises:
        InputError: invalid inputs, or options out of range.
    """
    check_members(losses, steps, staged)
    run = partial(apgd, norm=norm, epsilon=epsilon, steps=steps, staged=staged, seed=seed)
    runs = {
        loss: run(model, x, target, loss=loss, on_step=_continued(on_step, number * steps))
        for number, loss in enumerate(losses)
    }
    return _worst(runs)


def _continued(on_step: Callable[[int], None] | None, before: int) -> Callable[[int], None] | None:
    """Return the callback of a run that begins after some iterations."""
    return None if on_step is None else lambda n: on_step(before + n)


def _worst(runs: Mapping[ObjectiveName, Adversarial]) -> Adversarial:
    """Return each image's run of lowest Dice, of the first among equals, with the notes of `sea`."""
    dice = torch.stack([run.notes["dice"] for run in runs.values()])
    member = dice.argmin(0)
    images = next(iter(runs.values())).images
    for number, run in enumerate(runs.values()):
        images = torch.where(per_image(member == number, images), run.images, images)
    alone = {f"{name}.dice": row for name, row in zip(runs, dice, strict=True)}
    return Adversarial(images, {"member": member, "dice": dice.amin(0), **alone})


def check_members(losses: Sequence[ObjectiveName], steps: int, staged: bool) -> None:
    """Raise InputError for no loss, an unknown one, one named twice, or too few steps."""
    check_steps(steps, staged)
    if not losses or len(set(losses)) < len(losses) or not set(losses) <= set(OBJECTIVES):
        raise InputError(f"losses must be different names of {', '.join(OBJECTIVES)}, got {list(losses)}")


class Sea(WhiteBox):
    """Configurable form of `sea`."""

    attacker_knowledge = "weights"
    function = staticmethod(sea)
    checks = (check_radius, check_members)

    @property
    def members(self) -> tuple[str, ...]:
        """The losses."""
        return tuple(self.settings["losses"])

    @property
    def worst_case(self) -> WorstCase:
        """All steps, with each loss."""
        return effort_of(self.settings, self.members)

    def run(self, model: nn.Module, x: Tensor, target: Tensor) -> Adversarial:
        """Run `sea` with a progress bar."""
        with steps_bar("sea", self.settings["steps"] * len(self.members)) as show:
            return sea(self.differentiable(model), x, target, on_step=show, **self.knobs)
