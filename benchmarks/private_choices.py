"""Dice of `kvasir_dp` with each option of private training, beside the same training without noise.

python benchmarks/private_choices.py --root FOLDER --weights FILE
python benchmarks/private_choices.py --root FOLDER --weights FILE --size 96 --choices shipped copies ema

Each line is one choice: the Dice on held-out images at one epsilon for each split, the mean, and the Dice of
twins that clip without noise. All other settings are those of the config, so that choices are compared at
equal epsilon, delta and steps. All trainings run in one process, each from its own seed.
"""

import argparse
import contextlib
import io
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for the other benchmarks

from benchmarks.trained import last_metric
from seg_mia.cli import main as command


class Choice(NamedTuple):
    """A choice: what is printed of it, its config, and further words."""

    description: str
    config: str = "kvasir_dp"
    words: tuple[str, ...] = ()


CHOICES = {
    "shipped": Choice("as shipped"),
    "copies": Choice(
        "4 copies by flips, averaged before clipping",
        words=("--data.augment", "flip", "--model.defences.copies", "4"),
    ),
    "flips": Choice(
        "one copy, flipped at random",
        words=("--data.augment", "flip", "--model.cache_features", "false"),
    ),
    "ema": Choice("exponential average of weights, 0.9", words=("--model.defences.ema", "0.9")),
    "tail": Choice("average of the last half's weights", words=("--model.defences.tail", "0.5")),
    "hidden": Choice("hidden layer of 16 maps, 7969 weights", "kvasir_dp_hidden"),
    "film": Choice("scale and shift in the encoder, 3825 weights", "kvasir_dp_film"),
    "lora": Choice("low-rank terms in the encoder, 11505 weights", "kvasir_dp_lora"),
    "least_squares": Choice(
        "least squares first, 15 % of mu squared", words=("--model.defences.least_squares", "0.15")
    ),
    "least_squares_alone": Choice(
        "least squares alone, no step", words=("--model.defences.least_squares", "1")
    ),
}
NO_NOISE = ("--model.defences.epsilon", ".inf", "--model.defences.noise", "0")


def dice(given: argparse.Namespace, choice: Choice, seed: int, further: tuple[str, ...]) -> float:
    """Train once, and return the Dice on held-out images."""
    with tempfile.TemporaryDirectory() as runs:
        words = ["--config", f"{choice.config}.yaml", "--runs", runs, *choice.words, *further]
        words += ["--data.root", given.root, "--model.encoder_weights", given.weights]
        words += ["--data.split_seed", str(seed), "--data.size", str(given.size)]
        words += ["--trainer.max_epochs", str(given.steps)]
        words += ["--trainer.check_val_every_n_epoch", str(given.steps)]
        if given.members is not None:
            count = str(given.members)
            words += ["--data.members", count, "--data.batch_size", count]
            words += ["--model.defences.population", count]
        shown = io.StringIO()
        with contextlib.redirect_stderr(shown), contextlib.redirect_stdout(shown):
            code = command(["fit", "--trainer.enable_progress_bar", "false", *words])
        if code:
            raise SystemExit(f"a training failed: {shown.getvalue().strip().splitlines()[-1]}")
        (run,) = Path(runs).glob("*/version_0")
        return last_metric(run, "val/dice")


def main() -> None:
    """Train each choice on each split, and print a table in Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", required=True, help="folder of Kvasir-SEG")
    parser.add_argument("--weights", required=True, help="weights of the encoder, a file or imagenet")
    parser.add_argument("--choices", nargs="+", choices=list(CHOICES), default=list(CHOICES))
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2], help="of the split")
    parser.add_argument("--twins", nargs="*", type=int, default=[0], help="splits trained without noise, too")
    parser.add_argument("--size", type=int, default=192, help="side of the images")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--members", type=int, help="training images, if not the config's 300")
    parser.add_argument("--epsilon", default="8.5")
    given = parser.parse_args()
    header = ("choice", *(f"split {seed}" for seed in given.seeds), "mean", "without noise", "CPU s")
    print("| " + " | ".join(header) + " |\n|" + " --- |" * len(header), flush=True)
    for name in given.choices:
        choice, begun = CHOICES[name], time.process_time()
        private = ("--model.defences.epsilon", given.epsilon)
        values = [dice(given, choice, seed, private) for seed in given.seeds]
        twins = [dice(given, choice, seed, NO_NOISE) for seed in given.twins]
        mean = f"{statistics.fmean(values):.3f}" if values else ""
        exact = ", ".join(f"{value:.3f}" for value in twins)
        cells = (choice.description, *(f"{value:.3f}" for value in values), mean, exact)
        print(f"| {' | '.join(cells)} | {time.process_time() - begun:.0f} |", flush=True)


if __name__ == "__main__":
    main()
