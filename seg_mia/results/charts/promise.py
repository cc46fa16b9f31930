"""The most that a guarantee of privacy permits, drawn over the ROC curves of attacks."""

from collections.abc import Mapping, Sequence

import numpy as np

from seg_mia.membership.compare import Scored
from seg_mia.membership.roc import roc
from seg_mia.results.charts.drawing import DASHES, INK, WIDTH, Drawing, Key, colour, stroke, style
from seg_mia.results.charts.membership import lowest_rate, roc_axes, staircase
from seg_mia.results.evidence_measures import CurvePoint


def promise_drawing(
    points: Sequence[CurvePoint], curves: Mapping[str, Scored], *, basis: str, description: str
) -> Drawing:
    """Return the trade-off curve of a guarantee and the ROC of each attack on its unit.

    Args:
        points: the curve, by rising false positive rate.
        curves: scores by attack label; of patients where the guarantee is for patients.
        basis: what the curve follows from, in words.
        description: the guarantee in words.
    """
    counts = [int((~scored.members).sum()) for scored in curves.values()]
    nonmembers = min(counts, default=100)
    low = lowest_rate(nonmembers)
    fpr, tpr = np.array([[point.fpr, point.tpr] for point in points]).T
    positive = fpr > 0
    with style():
        figure, axes = roc_axes(nonmembers)
        axes.fill_between(fpr[positive], np.maximum(tpr[positive], low), 1, color=INK, alpha=0.06, lw=0)
        axes.plot(fpr[positive], np.maximum(tpr[positive], low), color=INK, lw=2.4)
        for number, scored in enumerate(curves.values()):
            axes.plot(
                *staircase(roc(scored.scores, scored.members), low),
                color=colour(number),
                ls=DASHES[number % len(DASHES)],
                lw=WIDTH,
                clip_on=False,
            )
    keys = [Key("largest rate that the promise permits", INK, "", "", filled=True, note=basis)]
    keys += [Key(name, colour(number), stroke(number), "", filled=True) for number, name in enumerate(curves)]
    caption = (
        "No attack on one unit lies in the shaded part above the thick curve, if the promise holds. "
        "Single points may, by chance. Dotted: guessing."
    )
    return Drawing(figure, f"Promise and attacks. {description}", keys, caption)
