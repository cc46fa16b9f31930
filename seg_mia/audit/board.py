"""An audit in TensorBoard: utility, privacy and robustness on one page, and all victims side by side."""

import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from seg_mia.callbacks.hyperparameters import write_session

BOARD = "tensorboard"
LAYOUT = {
    "utility": {
        "Dice in training": ["Multiline", ["val/dice", "train/dice"]],
        "Dice, victim by victim": ["Multiline", ["utility/dice_.*"]],
    },
    "privacy": {
        "AUC of membership inference, victim by victim": ["Multiline", ["privacy/auc/.*"]],
        "TPR at 1 % FPR, victim by victim": ["Multiline", ["privacy/tpr/.*"]],
        "a membership classifier's AUC in training": ["Multiline", ["val/auc"]],
    },
    "robustness": {
        "Dice under attack, victim by victim": ["Multiline", ["robustness/dice/.*"]],
        "IoU with the attacker's target, victim by victim": ["Multiline", ["robustness/iou/.*"]],
    },
}
"""TensorBoard's custom scalars: a card per chart, a line per tag that fits."""


def show_audit(folder: Path, results: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write an audit for TensorBoard below its folder, in place of what was there.

    A step is a victim's place in the table. HPARAMS shows one line per victim and seed.

    Args:
        folder: of the audit.
        results: one mapping per attack.
        rows: one mapping per victim and seed.
    """
    place = folder / BOARD
    shutil.rmtree(place, ignore_errors=True)
    with SummaryWriter(str(place)) as writer:
        writer.add_custom_scalars(LAYOUT)
    for row in rows:
        own = [one for one in results if (one["round"], one["row"]) == (row["round"], row["row"])]
        promise = row["privacy"] or {}
        known = {
            "defence": row["defence"],
            "shadow": row["shadow"] or "none",
            "seed": row["seed"],
            "epsilon": str(promise.get("epsilon", "none")),
        }
        name = re.sub(r"[^\w.-]+", "_", f"{row['row']}_{row['defence']}_seed_{row['seed']}")
        with SummaryWriter(str(place / name)) as writer:
            write_session(writer, known)
            for tag, value in measures(row, own).items():
                writer.add_scalar(tag, value, row["row"])


def measures(row: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return what a victim's charts show, by tag."""
    found = {f"utility/dice_{subset}": own["dice"] for subset, own in row["utility"].items()}
    for result in results:
        numbers, label = result["results"], re.sub(r"[^\w.-]+", "_", result["label"]).strip("_")
        if "auc" in numbers:
            found[f"privacy/auc/{label}"] = numbers["auc"]["value"]
            found[f"privacy/tpr/{label}"] = numbers["tpr_at_fpr_0.01"]["value"]
        else:
            found[f"robustness/dice/{label}"] = numbers["dice_adversarial"]["mean"]
            if result.get("asks", True):
                found[f"robustness/iou/{label}"] = numbers["iou"]["mean"]
    return {name: float(value) for name, value in found.items() if value is not None}
