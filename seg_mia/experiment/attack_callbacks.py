"""Callbacks that record what an attack reached."""

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
    """Return what the training of a scorer's classifier needs; the other scorers train nothing."""
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
    """Return the callback that measures perturbed images and writes the attack's results.

    Args:
        attack: None before a run is known to have none, which is refused later.
        release: what the victim gives out, if not all.
        settings: of the attack, as plain values.
        victim: its checkpoint.
        save_images: whether perturbed images are kept.
    """
    return PerturbationResults(
        attacker_knowledge=seen(attack.attacker_knowledge, release) if attack else "",
        is_targeted=attack is not None and attack.is_targeted,
        parallel_losses=attack.parallel_losses if attack else None,
        attack=settings,
        victim=victim,
        save_images=save_images,
    )
