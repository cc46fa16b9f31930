"""Callbacks that record attack results."""

from collections.abc import Mapping

from lightning.pytorch import Callback

from seg_mia.attacks.base import Perturbation
from seg_mia.callbacks.history import History
from seg_mia.callbacks.membership_curves import MembershipCurves
from seg_mia.callbacks.perturbation_results import PerturbationResults
from seg_mia.callbacks.randomness import EpochSeed
from seg_mia.data.base import run_seed
from seg_mia.defences.release import Release, seen
from seg_mia.membership.scorers import Scorer


def membership_callbacks(scorer: Scorer) -> list[Callback]:
    """Return the callbacks of a scorer's classifier training; none for other scorers."""
    last_epochs = scorer.training.last_epochs if scorer.training else 0
    return [EpochSeed(run_seed()), MembershipCurves(last_epochs), History()]


def perturbation_results(
    attack: Perturbation | None,
    release: Release | None,
    *,
    settings: Mapping[str, object],
    victim: str,
    save_images: bool,
) -> PerturbationResults:
    """Return the callback that evaluates perturbed images and writes the results.

    Args:
        attack: None if a run turns out to have none, which is refused later.
        release: output perturbation of the victim, if any.
        settings: settings of the attack, as plain values.
        victim: its checkpoint.
        save_images: whether perturbed images are saved.
    """
    return PerturbationResults(
        attacker_knowledge=seen(attack.attacker_knowledge, release) if attack else "",
        is_targeted=attack is not None and attack.is_targeted,
        parallel_losses=attack.parallel_losses if attack else None,
        members=attack.members if attack else (),
        radii=attack.radii if attack else (),
        fooled=attack.settings["fooled"] if attack and attack.radii else 0.5,
        attack=settings,
        victim=victim,
        save_images=save_images,
    )
