"""Type-II membership inference over settings of its classifier: how the shipped configs' values were chosen.

python benchmarks/membership_settings.py runs/VICTIM/version_0 runs/SHADOW/version_0 --weights FILE
"""

import argparse
import json
import sys
from pathlib import Path

from seg_mia.errors import InputError
from seg_mia.experiment.lightning_cli import run

LITE, RESNET = "tf_efficientnet_lite0", "resnet18"
SETTINGS: list[tuple[str, bool, dict[str, object]]] = [
    ("EfficientNet-Lite0 from ImageNet", True, {"scorer.architecture": LITE}),
    ("the same without flips", True, {"scorer.architecture": LITE, "scorer.augment": False}),
    (
        "the same, its first layer widened",
        True,
        {"scorer.architecture": LITE, "scorer.adapter": "first_layer"},
    ),
    (
        "the same, with the difference of map and mask",
        True,
        {"scorer.architecture": LITE, "signal.difference": True},
    ),
    ("EfficientNet-Lite0 from nothing", False, {"scorer.architecture": LITE}),
    ("ResNet-18 from nothing", False, {"scorer.architecture": RESNET}),
]
"""What it is called, whether it starts from the weights, and options of the attack."""


def main() -> None:
    """Run every setting and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("victim")
    parser.add_argument("shadow")
    parser.add_argument(
        "--weights", help="ImageNet weights of EfficientNet-Lite0; settings that need them are left out"
    )
    parser.add_argument("--attack", default="mia-type2")
    given = parser.parse_args()
    print("| classifier | AUC | TPR at FPR 1 % | AUC in training | AUC kept out |")
    print("| --- | --- | --- | --- | --- |")
    for name, pretrained, options in SETTINGS:
        if pretrained and not given.weights:
            continue
        start = {"scorer.weights": given.weights} if pretrained else {}
        words = [f"--attack.{option}={value}" for option, value in (options | start).items()]
        both = ["--victim", given.victim, "--shadow", given.shadow, "--trainer.enable_progress_bar=false"]
        done = run(["test", "--attack", given.attack, *both, *words])
        results = done.summary["results"]
        logged = json.loads((done.folder / "metrics.jsonl").read_text().splitlines()[-1])
        print(
            f"| {name} | {results['auc']['value']:.3f} | {results['tpr_at_fpr_0.01']['value']:.3f} "
            f"| {logged['train/auc']:.3f} | {logged['val/auc']:.3f} |",
            flush=True,
        )


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"{Path(__file__).name}: error: {error}")
