"""Compare a fold that nnU-Net trained with the network that is adopted from its folder. Prints a table.

    PYTHONPATH=. python benchmarks/nnunet_training.py FOLDER --task regions --iterations 15
    PYTHONPATH=. python benchmarks/nnunet_compared.py FOLDER --task regions

Compares masks and probabilities of the validation cases with what nnU-Net saved after the training (its sums
in half precision) and with its predictor's sums in single precision, and their Dice with that in its
summary.json. Writes FOLDER/release.csv of the predictions below FOLDER/predictions/fold_0, for `audit
--predictions`, whose cases are patients where their names begin with pNUMBER.
"""

import argparse
import csv
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.nnunet_tasks import Task, tasks
from seg_mia.checkpoint import load_victim, read_card
from seg_mia.cli import main as command
from seg_mia.data.sets.nnunet import NnUNetRaw, NnUNetVolumes
from seg_mia.metrics.overlap import foreground_dice_per_class
from seg_mia.models.heads import final, predicted
from seg_mia.models.label_logits import label_logits_of


@dataclass(frozen=True)
class Compared:
    """One validation case.

    Attributes:
        case: its name.
        single: largest difference of probabilities to nnU-Net's with sums in single precision.
        close: share of voxels whose probabilities differ by less than 0.001 from those it saved.
        equal: share of voxels of equal masks, with single precision and as saved.
        dice: with the truth, of each label, as adopted.
        stated: the same in summary.json.
    """

    case: str
    single: float
    close: float
    equal: tuple[float, float]
    dice: list[float]
    stated: list[float]


def adopted(training: Path, runs: Path) -> tuple[nn.Module, NnUNetRaw, float]:
    """Adopt fold 0; return the network, its data and the lowest agreement with nnU-Net's masks (Dice)."""
    if command(["adopt", f"--nnunet={training}", "--folds", "0", "--runs", str(runs)]):
        raise SystemExit("not adopted")
    file = max(runs.glob("*/*/checkpoints/last.ckpt"), key=lambda path: path.stat().st_mtime)
    card, network = read_card(file), load_victim(file)
    assert card.training is not None
    assert card.data is not None
    kind = NnUNetVolumes if card.data["class_path"].endswith("NnUNetVolumes") else NnUNetRaw
    data = kind(**card.data["init_args"])
    data.setup()
    return network, data, card.training["agreement"]["lowest"]


def stored(file: Path) -> Tensor:
    """Return probabilities (K, *S) that nnU-Net's predictor gave, of images without their depth of 1."""
    probabilities = torch.from_numpy(np.load(file)["probabilities"])
    return probabilities[:, 0] if probabilities.shape[1] == 1 else probabilities


def decided(probabilities: Tensor, *, regions: bool) -> Tensor:
    """Return the class of each voxel, (*S), or whether it is in each region, (L, *S)."""
    return probabilities > 0.5 if regions else probabilities.argmax(0)


def compared(task: Task, folder: Path, network: nn.Module, data: NnUNetRaw) -> Iterator[Compared]:
    """Yield the comparison of each validation case of fold 0."""
    validation, regions = task.training(folder) / "fold_0" / "validation", task.regions
    for described in json.loads((validation / "summary.json").read_text())["metric_per_case"]:
        case = Path(described["prediction_file"]).name.partition(".")[0]
        single = stored(folder / "predictions" / "fold_0" / "single" / f"{case}.npz")
        saved = stored(validation / f"{case}.npz")
        part = tuple(slice(length) for length in single.shape[1:])
        image, mask, _ = data.dataset(np.array([data.source.ids.index(case)]))[0, 0]
        with torch.no_grad():
            logits = final(network(image[None]))[(slice(None), slice(None), *part)]
        mine = label_logits_of(logits).sigmoid()[0] if regions else logits.softmax(1)[0]
        equal, equal_saved = (
            float((decided(theirs, regions=regions) == decided(mine, regions=regions)).double().mean())
            for theirs in (single, saved)
        )
        dice = foreground_dice_per_class(predicted(logits), mask[part][None].long(), data.source.classes)[0]
        yield Compared(
            case,
            float((mine - single).abs().max()),
            float(((mine - saved).abs().amax(0) < 1e-3).double().mean()),
            (equal, equal_saved),
            dice.tolist(),
            [values["Dice"] for values in described["metrics"].values()],
        )


def write_release(task: Task, folder: Path) -> None:
    """Write the table of the predictions of fold 0, as deployed."""
    splits = folder / "nnUNet_preprocessed" / task.dataset / "splits_final.json"
    members = set(json.loads(splits.read_text())[0]["train"])
    labels = f"nnUNet_raw/{task.dataset}/labelsTr"
    images = f"nnUNet_raw/{task.dataset}/imagesTr"
    ending = task.content["file_ending"]
    with (folder / "release.csv").open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["prediction", "mask", "image", "patient", "part"])
        for file in sorted((folder / "predictions" / "fold_0" / "half").glob("*.npz")):
            case = file.stem
            patient = re.match(r"p\d+", case)
            table.writerow(
                [
                    f"predictions/fold_0/half/{file.name}",
                    f"{labels}/{case}{ending}",
                    f"{images}/{case}_0000{ending}",
                    patient[0] if patient else case,
                    "train" if case in members else "test",
                ]
            )


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--task", default="organs", choices=sorted(tasks(Path())))
    options = parser.parse_args()
    task = tasks(Path())[options.task]
    network, data, lowest = adopted(task.training(options.folder), options.folder / "runs")
    write_release(task, options.folder)
    rows = list(compared(task, options.folder, network, data))
    print(f"\nlowest agreement of masks with nnU-Net's, Dice: {lowest:.4f}")
    print("| case | probabilities, single | within 0.001, saved | masks equal | Dice | summary.json |")
    print("| --- " * 6 + "|")
    for row in rows:
        numbers = [
            " ".join(f"{value:.5f}" for value in values) for values in (row.equal, row.dice, row.stated)
        ]
        print(f"| {row.case} | {row.single:.1e} | {row.close:.4f} |", " | ".join(numbers), "|")
    print(
        f"{len(rows)} cases: probabilities differ by at most {max(row.single for row in rows):.1e} (single "
        f"precision); masks equal at every voxel in {sum(row.equal == (1, 1) for row in rows)}; mean Dice "
        f"{np.mean([row.dice for row in rows]):.5f}, {np.mean([row.stated for row in rows]):.5f} stated"
    )


if __name__ == "__main__":
    main()
