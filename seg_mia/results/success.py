"""Success rates and numbers of steps of an attack: for each loss alone, and fused."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from seg_mia.results.perturbation import FUSED, SuccessRow
from seg_mia.results.pictures import rendered

TAIL = 0.025
COLUMNS = tuple(SuccessRow.model_fields)


def cells_of(row: SuccessRow) -> list[object]:
    """Return a row's cells in the order of COLUMNS."""
    return [getattr(row, name) for name in COLUMNS]


def success_rows(
    values: Mapping[str, Tensor],
    losses: Sequence[str],
    *,
    groups: Sequence[str],
    target_kind: str,
    fusion: bool,
) -> list[SuccessRow]:
    """Return one row per loss, and one for their fusion.

    Args:
        values: notes and measures of each image by name, (n,): those of `seg_mia.attacks.medis.medis`.
        losses: names of the losses.
        groups: patient of each image, (n,).
        target_kind: kind of target mask.
        fusion: whether the runs were fused.

    Returns:
        `rate` is the fraction of `counted` images that succeeded, `low` and `high` its 95 % Clopper-Pearson
        interval with the number of patients as trials, since images of one patient are dependent;
        `distortion` is the mean number of steps of the successes, `mean_iou` the mean over counted images;
        None if no image was counted. `no_gradient` counts images whose gradient for this loss was exactly
        zero at the start; they are not `counted`. `transferred` is the success rate on the victim of images
        crafted on the surrogate, in the row of the kept run: the fused one, or the first loss's.
    """
    counted = values["counted"] > 0
    released = FUSED if fusion else losses[0]
    rows = []
    for name in (*losses, *((FUSED,) if fusion else ())):
        prefix = "" if name == FUSED else f"{name}."
        stuck = (values["no_gradient"] if name == FUSED else values[f"{prefix}zero_gradient"] == 1) > 0
        tried = counted & ~stuck
        success = (values[f"{prefix}success"] > 0) & tried
        patients = {group for group, taken in zip(groups, tried.tolist(), strict=True) if taken}
        low, high = _interval(int(success.sum()), int(tried.sum()), len(patients))
        rows.append(
            SuccessRow(
                target_kind=target_kind,
                loss=name,
                images=len(counted),
                skipped=int(values["skipped"].sum()),
                clean_success=int(values["clean_success"].sum()),
                no_gradient=int(stuck.sum()),
                counted=int(tried.sum()),
                successes=int(success.sum()),
                rate=_mean(success.double()[tried]),
                low=low,
                high=high,
                distortion=_mean(values[f"{prefix}steps"][success]),
                mean_iou=_mean(values[f"{prefix}mean_iou"][tried]),
                transferred=_transferred(values, counted) if name == released else None,
            )
        )
    return rows


def success_curves(
    values: Mapping[str, Tensor], losses: Sequence[str], steps: int, *, fusion: bool
) -> NDArray[np.uint8]:
    """Return a figure (H, W, 3): the success rate of counted images over the number of steps."""
    from matplotlib.figure import Figure

    counted = values["counted"] > 0
    figure = Figure(figsize=(5.6, 3.6), dpi=110, layout="constrained")
    axes = figure.subplots()
    for number, name in enumerate((*losses, *((FUSED,) if fusion else ()))):
        prefix = "" if name == FUSED else f"{name}."
        success = (values[f"{prefix}success"] > 0)[counted]
        taken = values[f"{prefix}steps"][counted]
        share = [_mean((success & (taken <= n)).double()) or 0.0 for n in range(steps + 1)]
        fused = name == FUSED
        axes.step(
            range(steps + 1), share, where="post", label=name, color="k" if fused else f"C{number}",
            lw=2.2 if fused else 1.2, zorder=3 if fused else 2,
        )  # fmt: skip
    axes.set(xlabel="steps", ylabel=f"successes of {int(counted.sum())} images", ylim=(-0.02, 1.02))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7)
    return rendered(figure)


def _interval(successes: int, trials: int, patients: int) -> tuple[float | None, float | None]:
    """Return the bounds of a success rate, with the number of patients as independent trials."""
    if not trials:
        return None, None
    hits = successes * patients / trials
    misses = patients - hits
    low = float(stats.beta.ppf(TAIL, hits, misses + 1)) if successes else 0.0
    high = float(stats.beta.isf(TAIL, hits + 1, misses)) if successes < trials else 1.0
    return low, high


def _transferred(values: Mapping[str, Tensor], counted: Tensor) -> float | None:
    transfer = values.get("transfer_success")
    return None if transfer is None else _mean(transfer[counted])


def _mean(values: Tensor) -> float | None:
    return float(values.mean()) if len(values) else None
