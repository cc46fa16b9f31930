"""An audit in TensorBoard: utility, privacy and robustness on one page, with all victims."""

import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from seg_mia.callbacks.hyperparameters import write_session
from seg_mia.results.audit import Victim
from seg_mia.results.certificate import CertificateResult
from seg_mia.results.charts.drawing import Drawing
from seg_mia.results.charts.png import pixels
from seg_mia.results.membership import MembershipResult
from seg_mia.results.perturbation import PerturbationResult
from seg_mia.results.recipe import RecipeResult
from seg_mia.results.recipe_files import recipe_figures

BOARD = "tensorboard"
LAYOUT: dict[str, dict[str, list[Any]]] = {
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
RECIPE_LAYOUT: dict[str, dict[str, list[Any]]] = {
    "recipe": {
        "AUC over a recipe's networks": ["Multiline", ["recipe/auc/.*"]],
        "TPR at 1 % FPR over a recipe's networks": ["Multiline", ["recipe/tpr/.*"]],
    },
}
"""Further ones of an audit with a fleet."""

CURVE = {"Worst case by victim, over the radius": ["Multiline", ["robustness/radius/.*"]]}
CERTIFICATES = {"Certified Dice by victim": ["Multiline", ["robustness/certified_dice/.*"]]}
"""Further charts of robustness: an empty one would show an error."""

AttackResult = MembershipResult | PerturbationResult


def show_audit(
    folder: Path,
    results: Sequence[AttackResult],
    victims: Sequence[Victim],
    recipes: Sequence[RecipeResult] = (),
    certificates: Sequence[CertificateResult] = (),
) -> None:
    """Write an audit for TensorBoard below its folder, replacing earlier files.

    A step is a victim's row in the table. HPARAMS shows one line per victim and seed.

    Args:
        folder: folder of the audit.
        results: one per attack.
        victims: one per row and seed.
        recipes: one per attack and recipe.
        certificates: one per certification.
    """
    board = folder / BOARD
    shutil.rmtree(board, ignore_errors=True)
    with SummaryWriter(str(board)) as writer:
        writer.add_custom_scalars(_layout(results, recipes, certificates))
        for tag, drawing in _figures(recipes).items():
            writer.add_image(tag, pixels(drawing), 0, dataformats="HWC")
    for victim in victims:
        epsilon = None if victim.privacy is None else victim.privacy.epsilon
        settings = {
            "defence": victim.defence,
            "shadow": victim.shadow or "none",
            "seed": victim.seed,
            "epsilon": "none" if victim.privacy is None else "inf" if epsilon is None else str(epsilon),
        }
        folder_name = _tag(f"{victim.row}_{victim.defence}_seed_{victim.seed}")
        attacks = [result for result in results if result.key == victim.key]
        with SummaryWriter(str(board / folder_name)) as writer:
            write_session(writer, settings)
            for tag, value in measures(victim, attacks, certificates).items():
                writer.add_scalar(tag, value, victim.row)
    for result in recipes:
        with SummaryWriter(str(board / _tag(f"{result.row}_{result.defence}_recipe"))) as writer:
            measured = {"auc": result.auc, "tpr": result.tpr_at_1}
            for name, measure in measured.items():
                if measure.value is not None and measure.resolvable:
                    writer.add_scalar(f"recipe/{name}/{_tag(result.label)}", measure.value, result.row)


def _layout(
    results: Sequence[AttackResult],
    recipes: Sequence[RecipeResult],
    certificates: Sequence[CertificateResult],
) -> dict[str, dict[str, list[Any]]]:
    """Return the cards of charts for which there are numbers."""
    robustness: dict[str, list[Any]] = {**LAYOUT["robustness"]}
    if any(isinstance(result, PerturbationResult) and result.curve is not None for result in results):
        robustness |= CURVE
    if certificates:
        robustness |= CERTIFICATES
    return LAYOUT | {"robustness": robustness} | (RECIPE_LAYOUT if recipes else {})


def _tag(name: str) -> str:
    """Return a name with the characters that TensorBoard and file systems accept."""
    return re.sub(r"[^\w.-]+", "_", name).strip("_")


def _figures(recipes: Sequence[RecipeResult]) -> dict[str, Drawing]:
    """Return the figures of each recipe, by tag."""
    figures = dict[str, Drawing]()
    for row in dict.fromkeys(result.row for result in recipes):
        chosen = [result for result in recipes if result.row == row]
        for name, drawing in recipe_figures(chosen).items():
            figures[f"recipe_{row}/{name}"] = drawing
    return figures


def measures(
    victim: Victim, results: Sequence[AttackResult], certificates: Sequence[CertificateResult] = ()
) -> dict[str, float]:
    """Return the values of a victim's charts, by tag."""
    numbers = {f"utility/dice_{subset}": victim.dice(subset) for subset in victim.utility}
    for result in results:
        label = _tag(result.label)
        if isinstance(result, MembershipResult):
            numbers[f"privacy/auc/{label}"] = result.auc.value
            numbers[f"privacy/tpr/{label}"] = result.results.tpr_at_1.value
        else:
            numbers[f"robustness/dice/{label}"] = result.mean("dice_adversarial")
            if result.curve is not None:
                numbers |= {
                    f"robustness/radius/{label}/{point.radius:g}": point.dice for point in result.curve.points
                }
            if result.is_targeted:
                numbers[f"robustness/iou/{label}"] = result.mean("iou")
    for certificate in certificates:
        if certificate.key == victim.key:
            label = _tag(certificate.label)
            numbers[f"robustness/certified_dice/{label}"] = certificate.mean("dice_certified")
    return {name: value for name, value in numbers.items() if value is not None}
