"""Line plots of an attack's measures over its steps."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from seg_mia.results.pictures import rendered

NAMES = {
    "iou": "IoU with {mask}",
    "mean_iou": "mean IoU with {mask}",
    "truth_iou": "IoU with truth",
    "l2": "L2 of the perturbation",
    "linf": "L-infinity",
    "pixel_accuracy": "pixel accuracy",
}


def trajectories(
    steps: Sequence[int], curves: Mapping[str, Tensor], *, mask: str = "target"
) -> NDArray[np.uint8]:
    """Return a figure (H, W, 3): measures over the steps, images thin and their mean thick; IoU over L2.

    Args:
        steps: the recorded iterates, length T.
        curves: (T, N) by a measure's name.
        mask: name of the mask that predictions are compared with.
    """
    from matplotlib.figure import Figure

    paths = {name: value.cpu().numpy() for name, value in curves.items()}
    both = "iou" in paths and "l2" in paths
    count = len(paths) + both
    columns = min(count, 3)
    lines = -(-count // columns)
    figure = Figure(figsize=(3.3 * columns, 2.7 * lines), dpi=110, layout="constrained")
    panes = figure.subplots(lines, columns, squeeze=False).ravel()
    for unused in panes[count:]:
        unused.set_axis_off()
    for pane, (name, path) in zip(panes, paths.items(), strict=False):
        pane.plot(steps, path, color="0.7", lw=0.5)
        pane.plot(steps, path.mean(1), color="C0", lw=2, label=f"mean of {path.shape[1]}")
        pane.set(xlabel="iteration", title=NAMES.get(name, name).format(mask=mask))
        pane.legend(fontsize=7)
    if both:
        pane = panes[count - 1]
        pane.plot(paths["l2"], paths["iou"], color="0.7", lw=0.5)
        pane.plot(paths["l2"].mean(1), paths["iou"].mean(1), color="C0", lw=2)
        pane.set(xlabel="L2 of the perturbation", title=NAMES["iou"].format(mask=mask))
    return rendered(figure)
