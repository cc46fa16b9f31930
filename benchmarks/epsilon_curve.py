"""Dice of a private config over epsilon and random splits.

python benchmarks/epsilon_curve.py --root FOLDER --weights FILE
python benchmarks/epsilon_curve.py --config acdc_dp --root FOLDER --weights FILE --epsilons 8.5 inf

Each line has the Dice on held-out samples of each split at one epsilon, and their mean. `inf` is the same
training with clipped gradients and no noise. The recipe is that of the config, the same for every epsilon.
"""

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for the other benchmarks

from benchmarks.trained import cpu_seconds, last_metric, train
from seg_mia.checkpoint import read_card


def dice(given: argparse.Namespace, epsilon: float, seed: int, folder: Path) -> tuple[float, str]:
    """Train once, and return the Dice on held-out samples and the promise."""
    runs = folder / str(len(list(folder.iterdir())))  # a seed may be asked for again, for the noise's part
    words = ["--config", f"{given.config}.yaml", "--runs", str(runs)]
    words += ["--data.root", given.root, "--model.encoder_weights", given.weights]
    words += ["--data.split_seed", str(seed), "--model.defences.epsilon", f"{epsilon}".replace("inf", ".inf")]
    words += ["--model.defences.noise", "0"] if epsilon == float("inf") else []
    words += [] if given.size is None else ["--data.size", str(given.size)]
    words += [] if given.steps is None else ["--trainer.max_epochs", str(given.steps)]
    train(words)
    (run,) = runs.glob("*/version_0")
    privacy = read_card(run / "checkpoints" / "last.ckpt").privacy
    assert privacy is not None
    return last_metric(run, "val/dice"), f"noise {privacy['noise']:.3g}, delta {privacy['delta']:.3g}"


def main() -> None:
    """Train each epsilon on each split, and print a table in Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", default="kvasir_dp", help="a private config without other defences")
    parser.add_argument("--root", required=True, help="folder of the data")
    parser.add_argument("--weights", required=True, help="weights of the encoder, a file or imagenet")
    parser.add_argument("--epsilons", nargs="+", type=float, default=[1.0, 3.0, 8.5, float("inf")])
    parser.add_argument(
        "--seeds",
        nargs="+",
        type=int,
        default=[0, 1, 2],
        help="of the split; one given again draws other noise",
    )
    parser.add_argument("--size", type=int, help="side of the images, if not the config's")
    parser.add_argument("--steps", type=int, help="epochs, if not the config's")
    given = parser.parse_args()
    header = ("epsilon", *(f"split {seed}" for seed in given.seeds), "mean", "mechanism", "CPU s")
    print("| " + " | ".join(header) + " |\n|" + " --- |" * len(header), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for epsilon in given.epsilons:
            begun = cpu_seconds()
            rows = [dice(given, epsilon, seed, Path(folder)) for seed in given.seeds]
            values = [value for value, _ in rows]
            cells = [*(f"{value:.3f}" for value in values), f"{statistics.fmean(values):.3f}", rows[0][1]]
            print(f"| {epsilon:g} | {' | '.join(cells)} | {cpu_seconds() - begun:.0f} |", flush=True)


if __name__ == "__main__":
    main()
