"""What canaries prove of the private recipe on Kvasir-SEG without noise, at epsilon 1 and at epsilon 8.5.

python benchmarks/canary_audits.py --root FOLDER --weights FILE --size 96 --members 300 --canaries 150

`kvasir_dp` is trained with canaries once for each promise and kind of canary, all units in each step. A line
for each training has the Dice, the AUC of the canaries by their losses and by the noisy sums, and lower
bounds on epsilon, each before what perfect guesses would prove: by a threshold, by right guesses (of any
mechanism, of a Gaussian one, by its trade-off function), and the last two from the noisy sums. Last is the
largest of these at the confidence that all of them hold together: it may exceed a kept promise in one of
twenty trainings.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for the other benchmarks

from benchmarks.trained import cpu_seconds, last_metric, train
from seg_mia.results.privacy import CanaryResult, EpsilonLowerBound

PROMISES: dict[str, dict[str, Any]] = {
    "noise 0": {"epsilon": ".inf", "noise": 0},
    "epsilon 1": {"epsilon": 1},
    "epsilon 8.5": {"epsilon": 8.5},
}
HEADER = (
    "training",
    "canaries",
    "Dice",
    "AUC",
    "AUC, noisy sums",
    "threshold",
    "guesses",
    "Gaussian",
    "trade-off",
    "Gaussian, noisy sums",
    "trade-off, noisy sums",
    "together",
    "CPU s",
)


def config(given: argparse.Namespace, promise: str, kind: str) -> dict[str, Any]:
    """Return the config of one training."""
    units = given.members + given.canaries
    private = {"population": units, "clipping": "normalise", "batch_norm": "fixed", "reproducible": True}
    defences = [
        ("dp.dpsgd.DPSGD", private | PROMISES[promise]),
        ("canaries.Canaries", {"count": given.canaries, "kind": kind}),
    ]
    data = {"size": given.size, "members": given.members, "nonmembers": given.nonmembers}
    return {
        "base": "kvasir_dp",
        "trainer": {"max_epochs": given.steps, "check_val_every_n_epoch": given.steps},
        "model": {
            "init_args": {
                "defences": [
                    {"class_path": f"seg_mia.defences.{name}", "init_args": arguments}
                    for name, arguments in defences
                ]
            }
        },
        "data": {"init_args": data | {"batch_size": units, "shadow_share": given.shadow_share}},
    }


def trained(given: argparse.Namespace, promise: str, kind: str, folder: Path) -> tuple[CanaryResult, float]:
    """Train, and return what the canaries prove and the Dice on held-out images."""
    name = f"{promise} {kind}".replace(" ", "_").replace(".", "_")
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(config(given, promise, kind)).replace("'.inf'", ".inf"))
    words = ["--config", str(file), "--data.root", given.root, "--model.encoder_weights", given.weights]
    words += ["--runs", str(folder / "runs"), "--trainer.enable_progress_bar", "false"]
    train(words)
    run = folder / "runs" / name / "version_0"
    result = CanaryResult.model_validate(json.loads((run / "canaries.json").read_text()))
    return result, last_metric(run, "val/dice")


def cells(result: CanaryResult) -> Iterator[str]:
    """Yield AUC by losses and by noisy sums, each bound with its ceiling, and the largest joint one."""
    white_box = result.white_box
    yield f"{result.auc:.3f}"
    yield "" if white_box is None else f"{white_box.auc:.3f}"
    for bound in (result.certified, result.one_run, result.gaussian, result.f_dp):
        yield bounded(bound)
    yield bounded(None if white_box is None else white_box.gaussian or white_box.one_run)
    yield bounded(None if white_box is None else white_box.f_dp)
    joint = [bound.jointly(len(result.bounds)) for bound in result.bounds.values()]
    yield f"{max((bound.epsilon or 0.0 for bound in joint if bound is not None), default=0.0):.2f}"


def bounded(bound: EpsilonLowerBound | None) -> str:
    """Return a bound and its ceiling."""
    return "" if bound is None else f"{bound.epsilon:.2f} of {bound.attainable:.2f}"


def main() -> None:
    """Train each promise with each kind of canary, and print a table in Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", required=True, help="folder of Kvasir-SEG")
    parser.add_argument("--weights", required=True, help="weights of the encoder, a file or imagenet")
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--members", type=int, default=300)
    parser.add_argument("--nonmembers", type=int, default=100)
    parser.add_argument("--canaries", type=int, default=150, help="inserted on average, and left out")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--shadow_share", type=float, default=0.2)
    parser.add_argument("--promises", nargs="+", choices=list(PROMISES), default=list(PROMISES))
    parser.add_argument("--kinds", nargs="+", default=["mislabelled", "distinct"])
    given = parser.parse_args()
    print("| " + " | ".join(HEADER) + " |\n|" + " --- |" * len(HEADER), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for promise in given.promises:
            for kind in given.kinds:
                begun = cpu_seconds()
                result, dice = trained(given, promise, kind, Path(folder))
                row = (
                    promise,
                    kind,
                    f"{dice:.3f}",
                    *cells(result),
                    f"{cpu_seconds() - begun:.0f}",
                )
                print("| " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
