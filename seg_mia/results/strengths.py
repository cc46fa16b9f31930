"""Results of one attack at several strengths, as table and heatmaps."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from seg_mia.results.files import cell
from seg_mia.results.pictures import rendered

FACTORS = ("noise_mu", "noise_sigma")
MEASURES = ("dice", "ssim", "ssim_inside", "ssim_outside", "change_inside", "change_outside")
COLUMNS = ("id", *FACTORS, *MEASURES)


def strength_rows(ids: Sequence[str], curves: Mapping[str, Tensor]) -> list[list[object]]:
    """Return one row of COLUMNS per image and strength.

    Args:
        ids: ids of the images.
        curves: FACTORS and MEASURES, each (T, n).
    """
    return [
        [name, *(cell(float(curves[column][t, row])) for column in COLUMNS[1:])]
        for row, name in enumerate(ids)
        for t in range(len(curves["dice"]))
    ]


def strength_means(curves: Mapping[str, Tensor]) -> list[dict[str, float]]:
    """Return each strength's means over images; NaN (an image without an organ) is excluded."""
    return [
        {name: float(curves[name][t, 0]) for name in FACTORS}
        | {name: float(curves[name][t].nanmean()) for name in MEASURES}
        for t in range(len(curves["dice"]))
    ]


def heatmaps(means: Sequence[Mapping[str, float]]) -> NDArray[np.uint8]:
    """Return a figure (H, W, 3): the victim's Dice and SSIM over noise_mu (x) and noise_sigma (y)."""
    from matplotlib.figure import Figure

    mus, sigmas = (sorted({row[name] for row in means}) for name in ("noise_mu", "noise_sigma"))
    figure = Figure(figsize=(2.6 + 1.2 * len(mus), 1.2 + 0.55 * len(sigmas)), dpi=110, layout="constrained")
    panes = figure.subplots(1, 2)
    for pane, (name, title) in zip(panes, (("dice", "Dice of the victim"), ("ssim", "SSIM")), strict=True):
        values = np.full((len(sigmas), len(mus)), np.nan)
        for row in means:
            values[sigmas.index(row["noise_sigma"]), mus.index(row["noise_mu"])] = row[name]
        pane.imshow(values, origin="lower", cmap="viridis", vmin=0, vmax=1, aspect="auto")
        for (y, x), value in np.ndenumerate(values):
            shade = "k" if value > 0.6 else "w"
            pane.text(x, y, f"{value:.2f}", ha="center", va="center", size=7, color=shade)
        pane.set_xticks(range(len(mus)), [f"{mu:g}" for mu in mus], size=7)
        pane.set_yticks(range(len(sigmas)), [f"{sigma:g}" for sigma in sigmas], size=7)
        pane.set_xlabel("noise_mu", size=8)
        pane.set_ylabel("noise_sigma", size=8)
        pane.set_title(title, size=9)
    return rendered(figure)
