"""IoU against L2 of ASMA over its settings, on a trained victim: how the shipped config's values were chosen.

python benchmarks/asma_settings.py runs/kvasir_victim/version_0 --images 32
"""

import argparse
import sys
from pathlib import Path

from matplotlib.figure import Figure

from seg_mia.errors import InputError
from seg_mia.experiment.lightning_cli import run

SETTINGS = [(1, 300), (10, 100), (10, 200), (100, 100)]
"""Times the published tau = 1e-7 and beta = 1e-6, and iterations."""


def main() -> None:
    """Run every setting and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("victim")
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--figure", type=Path, help="write the curve as PNG")
    given = parser.parse_args()
    print("| tau, beta | steps | IoU | IoU, 8 bits | L2 | L-infinity x 255 |")
    print("| --- | --- | --- | --- | --- | --- |")
    points = []
    for factor, steps in SETTINGS:
        knobs = {"steps": steps, "tau": factor * 1e-7, "beta": factor * 1e-6, "history_every": 0}
        words = [f"--attack.{name}={value}" for name, value in knobs.items()]
        done = run(
            ["test", "--attack", "asma", "--victim", given.victim, f"--data.limit={given.images}", *words]
        )
        mean = {name: value["mean"] for name, value in done.summary["results"].items()}
        print(
            f"| published x {factor} | {steps} | {mean['iou']:.3f} | {mean['iou_8bit']:.3f} | "
            f"{mean['l2']:.2f} "
            f"| {mean['linf'] * 255:.1f} |",
            flush=True,
        )
        points.append((mean["l2"], mean["iou"], mean["iou_8bit"], f"x{factor}, {steps}"))
    if given.figure:
        _draw(points, given.figure)


def _draw(points: list[tuple[float, float, float, str]], file: Path) -> None:
    figure = Figure(figsize=(5, 3.4), dpi=120, layout="constrained")
    axes = figure.subplots()
    points = sorted(points)
    axes.plot([p[0] for p in points], [p[1] for p in points], "o-", label="float")
    axes.plot([p[0] for p in points], [p[2] for p in points], "s--", label="rounded to 8 bits")
    for l2, iou, _, name in points:
        axes.annotate(name, (l2, iou), xytext=(3, -11), textcoords="offset points", fontsize=7)
    axes.set(xlabel="mean L2 of the perturbation", ylabel="mean IoU with the target", xscale="log")
    axes.legend()
    figure.savefig(file)


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"{Path(__file__).name}: error: {error}")
