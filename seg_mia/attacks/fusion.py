"""One run for each image and loss, all in one batch, and the best of each image's: parallel fusion."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from seg_mia.attacks.base import Adversarial
from seg_mia.metrics.overlap import foreground_iou, mean_iou
from seg_mia.models.heads import class_count, predicted

Keep = Literal["success", "last"]


@dataclass(frozen=True)
class Goal:
    """What mean IoU is wanted: high with a target mask, low with the true one.

    Attributes:
        targeted: whether high.
        success: where a run succeeds.
        stop: where it ends.
    """

    targeted: bool
    success: float
    stop: float

    def met(self, iou: Tensor, threshold: float) -> Tensor:
        """Say of each mean IoU (N,) whether it is at `threshold` or beyond."""
        iou = iou.float()  # as it was computed: 9/20 in float32 is no less than 0.45, in float64 it would be
        return iou >= threshold if self.targeted else iou <= threshold

    def merit(self, iou: Tensor) -> Tensor:
        """Return what is higher the better."""
        return iou if self.targeted else -iou


class Runs:
    """The state of L losses' runs over N images; run r attacks image r % N by loss r // N.

    Args:
        x: images (N, C, *S).
        target: masks (N, *s).
        goal: what each run is after.
        losses: L.
        truth: true masks, to measure against.
        record: keep every iterate's measures.
        beyond: go on to `goal.stop` after a success; needed where something of it is kept.

    Attributes:
        image: each run's iterate, (L N, C, *S).
        kept: the iterate at first success, or else the best so far.
        active: whether the run goes on, (L N,).
        first: iterate of the first success, -1 where there was none.
        taken: steps taken.
        now: measures of `image` by name, (L N,).
        reached: mean IoU of `kept`.
        zeros: share of exact zeros in the first gradient.
        rows: the measures after each iterate, where they are recorded.
    """

    def __init__(
        self,
        x: Tensor,
        target: Tensor,
        goal: Goal,
        *,
        losses: int,
        truth: Tensor | None = None,
        record: bool = False,
        beyond: bool = True,
    ) -> None:
        self.x, self.target, self.truth, self.goal, self.losses = x, target, truth, goal, losses
        self.record, self.beyond = record, beyond
        runs = losses * len(x)
        self.image = x.repeat(losses, *[1] * (x.ndim - 1))
        self.kept = self.image.clone()
        self.active = torch.ones(runs, dtype=torch.bool, device=x.device)
        self.first = torch.full((runs,), -1, device=x.device)
        self.taken = torch.zeros_like(self.first)
        self.now: dict[str, Tensor] = {}
        self.reached = torch.full((runs,), torch.nan, dtype=torch.float64, device=x.device)
        self.zeros = torch.zeros_like(self.reached)
        self.rows: dict[str, list[Tensor]] = {}

    def parts(self, largest: int) -> Iterator[Tensor]:
        """Yield the runs that go on, sorted by loss, at most `largest` at a time."""
        going = self.active.nonzero().squeeze(1)
        if len(going):
            yield from torch.split(going, largest)

    def all_of(self, images: Tensor) -> Tensor:
        """Return the runs (L, n) of images (n,)."""
        starts = torch.arange(self.losses, device=images.device) * len(self.x)
        return starts.unsqueeze(1) + images

    def measure(self, runs: Tensor, logits: Tensor, n: int) -> None:
        """Note what iterate n of some runs does, (m,) or (L, m) where L losses share it; end what is done."""
        of = runs if runs.ndim == 1 else runs[0]
        values = self._measures(logits, of % len(self.x))
        for name, value in values.items():
            column = self.now.setdefault(name, torch.full_like(self.reached, torch.nan))
            column[runs] = value.to(column)
        iou = values["mean_iou"].to(self.reached)
        met = self.goal.met(iou, self.goal.success)
        fresh = (self.first[runs] < 0) & (
            met | (n == 0) | (self.goal.merit(iou) > self.goal.merit(self.reached[runs]))
        )
        changed = runs[fresh]
        self.kept[changed] = self.image[changed]
        self.reached[changed] = iou.expand(runs.shape)[fresh]
        won = runs[(self.first[runs] < 0) & met]
        self.first[won] = n
        ended = self.goal.met(iou, self.goal.stop)
        if not self.beyond:
            ended = ended | met
        self.active[runs[ended.expand(runs.shape)]] = False

    def _measures(self, logits: Tensor, images: Tensor) -> dict[str, Tensor]:
        prediction, classes = predicted(logits), class_count(logits)
        reached = mean_iou(prediction, self.target[images], classes)
        found = {"mean_iou": reached.nan_to_num(nan=1.0)}  # a target that asks for nothing is met
        if self.record:
            found["iou"] = foreground_iou(prediction, self.target[images], classes)
            if self.truth is not None:
                found["truth_iou"] = foreground_iou(prediction, self.truth[images], classes)
        return found

    def move(self, runs: Tensor, gradient: Tensor, step_size: float) -> None:
        """Step runs (m,) along the sign of their gradients (m, C, *S); without any gradient a run ends."""
        zero = (gradient == 0).flatten(1)
        start = self.taken[runs] == 0
        self.zeros[runs[start]] = zero[start].double().mean(1)
        self.active[runs[zero.all(1)]] = False
        runs, gradient = runs[~zero.all(1)], gradient[~zero.all(1)]
        step = step_size if not self.goal.targeted else -step_size
        self.image[runs] = (self.image[runs] + step * gradient.sign()).clamp(0, 1)
        self.taken[runs] += 1

    def close(self) -> None:
        """Record the measures after an iterate; a run that has ended repeats its last ones."""
        if self.record:
            for name, value in self.now.items():
                self.rows.setdefault(name, []).append(value.clone())

    def by_loss(self, values: Tensor) -> Tensor:
        """Return (L N, ...) as (L, N, ...)."""
        return values.view(self.losses, len(self.x), *values.shape[1:])


def chosen(runs: Runs, *, keep: Keep, fusion: bool) -> Tensor:
    """Return the run that is kept of each image, (N,).

    The successful one of fewest steps, of better mean IoU among equals, of the first loss among those; where
    none succeeded, the one of best mean IoU. Without fusion the first loss's.
    """
    images = torch.arange(len(runs.x), device=runs.x.device)
    if not fusion:
        return images
    first = runs.by_loss(runs.first).double()
    reached = runs.now["mean_iou"] if keep == "last" else runs.reached
    merit = runs.by_loss(runs.goal.merit(reached))
    steps = first.masked_fill(first < 0, torch.inf)
    best = torch.where(steps == steps.amin(0), merit, -torch.inf)
    return best.argmax(0) * len(images) + images


def fused(runs: Runs, names: Sequence[str], *, fusion: bool, keep: Keep, count_clean: bool) -> Adversarial:
    """Return each image's best run, and what every loss did, as `medis` documents it."""
    best = chosen(runs, keep=keep, fusion=fusion)
    images, reached = (runs.image, runs.now["mean_iou"]) if keep == "last" else (runs.kept, runs.reached)
    steps = torch.where(runs.first >= 0, runs.first, runs.taken)
    clean = runs.first[: len(best)] == 0
    stuck = runs.by_loss((runs.zeros == 1) & (runs.first < 0)).all(0)
    skipped = torch.zeros_like(clean)
    if runs.truth is not None and runs.goal.targeted:
        skipped = (runs.target == runs.truth).flatten(1).all(1)
    counted = ~(skipped | stuck) if count_clean else ~(clean | skipped | stuck)
    notes = {
        "success": runs.first[best] >= 0,
        "steps": steps[best],
        "loss": best // len(best),
        "mean_iou": reached[best],
        "clean_success": clean,
        "skipped": skipped,
        "no_gradient": stuck,
        "counted": counted,
    }
    for number, name in enumerate(names):
        own = slice(number * len(best), (number + 1) * len(best))
        notes |= {
            f"{name}.success": runs.first[own] >= 0,
            f"{name}.steps": steps[own],
            f"{name}.mean_iou": reached[own],
            f"{name}.zero_gradient": runs.zeros[own],
        }
    return Adversarial(
        images[best], {name: note.double() for name, note in notes.items()}, _history(runs, names, best)
    )


def _history(runs: Runs, names: Sequence[str], best: Tensor) -> dict[str, Tensor]:
    if not runs.record:
        return {}
    stacked = {measure: torch.stack(rows) for measure, rows in runs.rows.items()}
    length, count = len(stacked["mean_iou"]), len(best)
    history = {"step": torch.arange(length, device=best.device).unsqueeze(1).expand(-1, count)}
    history |= {measure: rows[:, best] for measure, rows in stacked.items()}
    for number, name in enumerate(names):
        own = slice(number * count, (number + 1) * count)
        history |= {f"{name}.{measure}": rows[:, own] for measure, rows in stacked.items()}
    return history
