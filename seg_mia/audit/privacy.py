"""What differential privacy costs and keeps, drawn over epsilon, and what canaries prove of it."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from seg_mia.report import parse
from seg_mia.report.build import CANARIES
from seg_mia.results.membership_figures import LINES
from seg_mia.results.pictures import rendered
from seg_mia.runs import checkpoint_file, run_of

Row = Mapping[str, Any]
FILE = "canaries.json"
LONGEST = 100_000
"""Bytes of it that are read; it has about 1000."""


def with_canaries(row: dict[str, Any]) -> None:
    """Add to a row what canaries prove of its victim's training, if it had any.

    The file lies beside a checkpoint that may be a stranger's: what is no number or unit is not taken, and a
    file that is not what `CanaryScores` writes is passed over.
    """
    if CANARIES not in row["about"]["defences"]:
        return
    try:
        with (run_of(checkpoint_file(row["victim"])) / FILE).open("rb") as file:
            row["canaries"] = _canaries(json.loads(file.read(LONGEST)))
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return


def _canaries(found: Row) -> dict[str, Any]:
    """Return what a canaries.json says; raise ValueError, TypeError or KeyError where it does not."""
    counts = {name: int(_number(found[name])) for name in ("inserted", "left_out")}
    rest = {name: _number(found[name]) for name in ("auc", "delta")}
    bounds = {
        rule: {name: _number(found[rule][name]) for name in ("epsilon", "most", "confidence")}
        for rule in ("certified", "one_run")
    }
    promise = found["privacy"] and {
        "epsilon": math.inf if found["privacy"]["epsilon"] is None else _number(found["privacy"]["epsilon"]),
        "delta": _number(found["privacy"]["delta"]),
        "unit": {"image": "image", "patient": "patient"}[found["privacy"]["unit"]],
    }
    return counts | rest | bounds | {"privacy": promise}


def _number(value: object) -> float:
    finite = parse.number(value)
    if finite is None:
        raise ValueError(f"must be a finite number, got {value!r}")
    return finite


def over_epsilon(rows: Sequence[Row]) -> NDArray[np.uint8]:
    """Return Dice and the AUC of each membership attack over the promised epsilon, as a picture (H, W, 3).

    Victims without a finite promise are horizontal lines.

    Args:
        rows: of one seed, at least one of them with a finite epsilon.
    """
    promised = sorted(filter(finite, rows), key=_epsilon)
    others = [row for row in rows if not finite(row)]
    figure = Figure(figsize=(9.6, 4.8), dpi=110, layout="constrained")
    left, right = figure.subplots(1, 2)
    _dice(left, promised, others)
    _auc(right, promised, others)
    for axes in (left, right):
        axes.set(xscale="log", xlabel="epsilon, logarithmic: more privacy to the left")
        axes.set_xticks([_epsilon(row) for row in promised], [f"{_epsilon(row):.3g}" for row in promised])
        axes.minorticks_off()
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=2, fontsize=8, frameon=False)
    return rendered(figure)


def _dice(axes: Axes, promised: Sequence[Row], others: Sequence[Row]) -> None:
    for name, style in (("nonmembers", "o-"), ("members", "s--")):
        values = [row["utility"][name]["dice"] for row in promised]
        axes.plot(
            [_epsilon(row) for row in promised], values, style, color=LINES[0], label=f"private, {name}"
        )
    for number, row in enumerate(others, start=1):
        colour = LINES[number % len(LINES)]
        axes.axhline(
            row["utility"]["nonmembers"]["dice"], color=colour, label=f"{row['defence']}, nonmembers"
        )
        axes.axhline(
            row["utility"]["members"]["dice"], color=colour, ls="--", label=f"{row['defence']}, members"
        )
    axes.set(ylabel="Dice", ylim=(0, 1))


def _auc(axes: Axes, promised: Sequence[Row], others: Sequence[Row]) -> None:
    guessed = [n for n, attack in enumerate(promised[0]["attacks"]) if "auc" in attack]
    for place, number in enumerate(guessed):
        found = [row["attacks"][number]["auc"] for row in promised]
        values, low, high = (np.array([auc[name] for auc in found]) for name in ("value", "low", "high"))
        name = promised[0]["attacks"][number]["name"]
        epsilons = np.array([_epsilon(row) for row in promised]) * (1 + 0.04 * place)
        bars = [values - low, high - values]
        axes.errorbar(
            epsilons, values, yerr=bars, fmt="o-", color=LINES[0], capsize=3, label=f"private, {name}"
        )
    for number, row in enumerate(others, start=1):
        colour = LINES[number % len(LINES)]
        for attack in (row["attacks"][n] for n in guessed):
            auc = attack["auc"]
            axes.axhline(auc["value"], color=colour, label=f"{row['defence']}, {attack['name']}")
            axes.axhspan(auc["low"], auc["high"], color=colour, alpha=0.15, lw=0)
    axes.axhline(0.5, color="0.3", ls=":", lw=1.2)
    axes.set(ylabel="AUC of membership inference, 95 % interval", ylim=(0.4, 1.02))


def _epsilon(row: Row) -> float:
    promise = row.get("privacy")
    return float(promise["epsilon"]) if promise else math.inf


def finite(row: Row) -> bool:
    """Return whether a row's training promised a finite epsilon."""
    return math.isfinite(_epsilon(row))
