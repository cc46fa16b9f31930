"""An audit in TensorBoard: utility, privacy and robustness on one page, with all victims."""

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from seg_mia.callbacks.hyperparameters import write_session
from seg_mia.results.audit import Victim
from seg_mia.results.membership import MembershipResult
from seg_mia.results.perturbation import PerturbationResult

BOARD = "tensorboard"
LAYOUT = {
    "utility": {
        "Dice in training": ["Multiline", ["val/dice", "train/dice"]],
        "Dice by victim": ["Multiline", ["utility/dice_.*"]],
    },
    "privacy": {
        "AUC of membership inference by victim": ["Multiline", ["privacy/auc/.*"]],
        "TPR at 1 % FPR by victim": ["Multiline", ["privacy/tpr/.*"]],
        "AUC of a membership classifier in training": ["Multiline", ["val/auc"]],
    },
    "robustness": {
        "Dice under attack by victim": ["Multiline", ["robustness/dice/.*"]],
        "IoU with the attacker's target by victim": ["Multiline", ["robustness/iou/.*"]],
    },
}
"""TensorBoard's custom scalars: a card per chart, a line per matching tag."""

AttackResult = MembershipResult | PerturbationResult


def show_audit(folder: Path, results: Sequence[AttackResult], victims: Sequence[Victim]) -> None:
    """Write an audit for TensorBoard below its folder, replacing earlier files.

    A step is a victim's row in the table. HPARAMS shows one line per victim and seed.

    Args:
        folder: folder of the audit.
        results: one per attack.
        victims: one per row and seed.
    """
    board = folder / BOARD
    shutil.rmtree(board, ignore_errors=True)
    with SummaryWriter(str(board)) as writer:
        writer.add_custom_scalars(LAYOUT)
    for victim in victims:
        epsilon = None if victim.privacy is None else victim.privacy.epsilon
        settings = {
            "defence": victim.defence,
            "shadow": victim.shadow or "none",
            "seed": victim.seed,
            "epsilon": "none" if victim.privacy is None else "inf" if epsilon is None else str(epsilon),
        }
        name = re.sub(r"[^\w.-]+", "_", f"{victim.row}_{victim.defence}_seed_{victim.seed}")
        attacks = [result for result in results if result.key == victim.key]
        with SummaryWriter(str(board / name)) as writer:
            write_session(writer, settings)
            for tag, value in measures(victim, attacks).items():
                writer.add_scalar(tag, value, victim.row)


def measures(victim: Victim, results: Sequence[AttackResult]) -> dict[str, float]:
    """Return the values of a victim's charts, by tag."""
    numbers = {f"utility/dice_{subset}": victim.dice(subset) for subset in victim.utility}
    for result in results:
        label = re.sub(r"[^\w.-]+", "_", result.label).strip("_")
        if isinstance(result, MembershipResult):
            numbers[f"privacy/auc/{label}"] = result.auc.value
            numbers[f"privacy/tpr/{label}"] = result.results.tpr_at_1.value
        else:
            numbers[f"robustness/dice/{label}"] = result.mean("dice_adversarial")
            if result.is_targeted:
                numbers[f"robustness/iou/{label}"] = result.mean("iou")
    return {name: value for name, value in numbers.items() if value is not None}
