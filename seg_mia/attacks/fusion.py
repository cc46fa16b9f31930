"""Parallel fusion: one run per image and loss in a single batch, and the best run of each image."""

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
class SuccessCriterion:
    """Success thresholds on mean IoU: high with a target mask, low with the ground truth.

    Attributes:
        targeted: whether a high mean IoU is the goal.
        success: threshold of success.
        stop: threshold that ends a run.
    """

    targeted: bool
    success: float
    stop: float

    def met(self, iou: Tensor, threshold: float) -> Tensor:
        """Return which mean IoUs (N,) reach `threshold`."""
        iou = iou.float()  # as it was computed: 9/20 in float32 is no less than 0.45, in float64 it would be
        return iou >= threshold if self.targeted else iou <= threshold

    def merit(self, iou: Tensor) -> Tensor:
        """Return a score that is higher for better runs."""
        return iou if self.targeted else -iou


class AttackState:
    """State of the runs of L losses over N images; run r attacks image r % N with loss r // N.

    Args:
        x: images (N, C, *S).
        target: masks (N, *s).
        criterion: success criterion of each run.
        truth: ground truth masks for evaluation.
        losses: L.
        record: record measures of every iterate.
        beyond: continue to `criterion.stop` after a success; needed if anything after it is kept.

    Attributes:
        image: current iterate of each run, (L N, C, *S).
        best_image: iterate at first success, otherwise the best so far.
        active: whether the run continues, (L N,).
        first: iterate of the first success, -1 for none.
        taken: number of steps.
        now: measures of `image` by name, (L N,).
        reached: mean IoU of `best_image`.
        zeros: fraction of exact zeros in the first gradient.
        rows: measures after each iterate, if recorded.
    """

    def __init__(
        self,
        x: Tensor,
        target: Tensor,
        criterion: SuccessCriterion,
        truth: Tensor | None = None,
        *,
        losses: int,
        record: bool = False,
        beyond: bool = True,
    ) -> None:
        self.x, self.target, self.truth, self.criterion, self.losses = x, target, truth, criterion, losses
        self.record, self.beyond = record, beyond
        runs = losses * len(x)
        self.image = x.repeat(losses, *[1] * (x.ndim - 1))
        self.best_image = self.image.clone()
        self.active = torch.ones(runs, dtype=torch.bool, device=x.device)
        self.first = torch.full((runs,), -1, device=x.device)
        self.taken = torch.zeros_like(self.first)
        self.now: dict[str, Tensor] = {}
        self.reached = torch.full((runs,), torch.nan, dtype=torch.float64, device=x.device)
        self.zeros = torch.zeros_like(self.reached)
        self.rows: dict[str, list[Tensor]] = {}

    def parts(self, largest: int) -> Iterator[Tensor]:
        """Yield the active runs, sorted by loss, at most `largest` at a time."""
        going = self.active.nonzero().squeeze(1)
        if len(going):
            yield from torch.split(going, largest)

    def all_of(self, images: Tensor) -> Tensor:
        """Return the runs (L, n) of images (n,)."""
        starts = torch.arange(self.losses, device=images.device) * len(self.x)
        return starts.unsqueeze(1) + images

    def measure(self, runs: Tensor, logits: Tensor, n: int) -> None:
        """Evaluate iterate n of some runs, (m,) or (L, m) if losses share it; end finished runs."""
        of = runs if runs.ndim == 1 else runs[0]
        values = self._measures(logits, of % len(self.x))
        for name, value in values.items():
            column = self.now.setdefault(name, torch.full_like(self.reached, torch.nan))
            column[runs] = value.to(column)
        iou = values["mean_iou"].to(self.reached)
        met = self.criterion.met(iou, self.criterion.success)
        fresh = (self.first[runs] < 0) & (
            met | (n == 0) | (self.criterion.merit(iou) > self.criterion.merit(self.reached[runs]))
        )
        changed = runs[fresh]
        self.best_image[changed] = self.image[changed]
        self.reached[changed] = iou.expand(runs.shape)[fresh]
        won = runs[(self.first[runs] < 0) & met]
        self.first[won] = n
        ended = self.criterion.met(iou, self.criterion.stop)
        if not self.beyond:
            ended = ended | met
        self.active[runs[ended.expand(runs.shape)]] = False

    def _measures(self, logits: Tensor, images: Tensor) -> dict[str, Tensor]:
        prediction, classes = predicted(logits), class_count(logits)
        reached = mean_iou(prediction, self.target[images], classes, checked=True)
        measures = {"mean_iou": reached.nan_to_num(nan=1.0)}  # a target that asks for nothing is met
        if self.record:
            measures["iou"] = foreground_iou(prediction, self.target[images], classes, checked=True)
            if self.truth is not None:
                measures["truth_iou"] = foreground_iou(prediction, self.truth[images], classes, checked=True)
        return measures

    def move(self, runs: Tensor, gradient: Tensor, step_size: float) -> None:
        """Step runs (m,) along the sign of their gradients (m, C, *S); a run with zero gradient ends."""
        zero = (gradient == 0).flatten(1)
        start = self.taken[runs] == 0
        self.zeros[runs[start]] = zero[start].double().mean(1)
        self.active[runs[zero.all(1)]] = False
        runs, gradient = runs[~zero.all(1)], gradient[~zero.all(1)]
        step = step_size if not self.criterion.targeted else -step_size
        self.image[runs] = (self.image[runs] + step * gradient.sign()).clamp(0, 1)
        self.taken[runs] += 1

    def close(self) -> None:
        """Record the measures after an iterate; a finished run repeats its last values."""
        if self.record:
            for name, value in self.now.items():
                self.rows.setdefault(name, []).append(value.clone())

    def by_loss(self, values: Tensor) -> Tensor:
        """Return (L N, ...) as (L, N, ...)."""
        return values.view(self.losses, len(self.x), *values.shape[1:])


def chosen(state: AttackState, *, keep: Keep, fusion: bool) -> Tensor:
    """Return the selected run of each image, (N,).

    The successful run of fewest steps; among equals the one of better mean IoU, then of the first loss. If
    none succeeded, the run of best mean IoU. Without fusion, the first loss's run.
    """
    images = torch.arange(len(state.x), device=state.x.device)
    if not fusion:
        return images
    first = state.by_loss(state.first).double()
    reached = state.now["mean_iou"] if keep == "last" else state.reached
    merit = state.by_loss(state.criterion.merit(reached))
    steps = first.masked_fill(first < 0, torch.inf)
    best = torch.where(steps == steps.amin(0), merit, -torch.inf)
    return best.argmax(0) * len(images) + images


def fused(
    state: AttackState, names: Sequence[str], *, fusion: bool, keep: Keep, count_clean: bool
) -> Adversarial:
    """Return each image's best run and the results of every loss.

    Args:
        state: after the last iterate.
        names: of the losses.
        fusion: as in `chosen`.
        keep: as in `medis`.
        count_clean: count clean successes.

    Returns:
        images, with notes `success`, `steps` (first success, or all steps taken), `loss` (index into
        `names`), `mean_iou` of the returned image, `clean_success` (met before the attack), `skipped`
        (target equals truth), `no_gradient` (exactly zero at the start, for every loss), `counted` (none of
        these three; with `count_clean` clean successes are included), each 0 or 1; and for each loss
        NAME.success, NAME.steps, NAME.mean_iou and NAME.zero_gradient, the fraction of exact zeros at the
        start. History: `step`, and NAME.mean_iou, NAME.iou of each loss and iterate (a finished run keeps its
        last value), and NAME.truth_iou if there is a truth.
    """
    best = chosen(state, keep=keep, fusion=fusion)
    images, reached = (
        (state.image, state.now["mean_iou"]) if keep == "last" else (state.best_image, state.reached)
    )
    steps = torch.where(state.first >= 0, state.first, state.taken)
    clean = state.first[: len(best)] == 0
    # Without a gradient an image cannot succeed, however robust the victim is.
    stuck = state.by_loss((state.zeros == 1) & (state.first < 0)).all(0)
    skipped = torch.zeros_like(clean)
    if state.truth is not None and state.criterion.targeted:
        skipped = (state.target == state.truth).flatten(1).all(1)
    counted = ~(skipped | stuck) if count_clean else ~(clean | skipped | stuck)
    notes = {
        "success": state.first[best] >= 0,
        "steps": steps[best],
        "loss": best // len(best),
        "mean_iou": reached[best],
        "clean_success": clean,
        "skipped": skipped,
        "no_gradient": stuck,
        "counted": counted,
    }
    for number, name in enumerate(names):
        block = slice(number * len(best), (number + 1) * len(best))
        notes |= {
            f"{name}.success": state.first[block] >= 0,
            f"{name}.steps": steps[block],
            f"{name}.mean_iou": reached[block],
            f"{name}.zero_gradient": state.zeros[block],
        }
    return Adversarial(
        images[best], {name: note.double() for name, note in notes.items()}, _history(state, names, best)
    )


def _history(state: AttackState, names: Sequence[str], best: Tensor) -> dict[str, Tensor]:
    if not state.record:
        return {}
    stacked = {measure: torch.stack(rows) for measure, rows in state.rows.items()}
    length, count = len(stacked["mean_iou"]), len(best)
    history = {"step": torch.arange(length, device=best.device).unsqueeze(1).expand(-1, count)}
    history |= {measure: rows[:, best] for measure, rows in stacked.items()}
    for number, name in enumerate(names):
        block = slice(number * count, (number + 1) * count)
        history |= {f"{name}.{measure}": rows[:, block] for measure, rows in stacked.items()}
    return history
