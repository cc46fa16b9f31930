"""Tasks of attacks on images, and callbacks that record their results."""

from collections.abc import Collection, Mapping

from lightning.pytorch import Callback, LightningModule
from torch import nn

from seg_mia.attacks.base import Perturbation
from seg_mia.attacks.certify import Certification
from seg_mia.callbacks.certificate_results import CertificateResults
from seg_mia.callbacks.history import History
from seg_mia.callbacks.membership_curves import MembershipCurves
from seg_mia.callbacks.perturbation_results import PerturbationResults
from seg_mia.callbacks.randomness import EpochSeed
from seg_mia.data.samples import run_seed
from seg_mia.defences.release import Release, seen
from seg_mia.membership.scorers import Scorer
from seg_mia.tasks.certification import CertificationTest
from seg_mia.tasks.perturbation import PerturbationTest, load_others, load_surrogate


def membership_callbacks(scorer: Scorer) -> list[Callback]:
    """Return the callbacks of a scorer's classifier training; none for other scorers."""
    last_epochs = scorer.training.last_epochs if scorer.training else 0
    return [EpochSeed(run_seed()), MembershipCurves(last_epochs), History()]


def image_task(
    victim: nn.Module, attack: Perturbation | Certification, *, trust: Collection[str]
) -> LightningModule:
    """Return the task of an attack on images, or of their certification.

    Args:
        victim: victim model.
        attack: the attack.
        trust: class paths outside seg_mia that a surrogate's checkpoint may name.
    """
    if isinstance(attack, Certification):
        return CertificationTest(victim, attack)
    return PerturbationTest(
        victim,
        attack,
        surrogate=load_surrogate(attack, trust=trust),
        others=load_others(attack, trust=trust),
    )


def image_results(
    attack: Perturbation | Certification | None,
    release: Release | None,
    *,
    settings: Mapping[str, object],
    victim: str,
    save_images: bool,
) -> PerturbationResults | CertificateResults:
    """Return the callback that evaluates perturbed or certified images and writes the results.

    Args:
        attack: None if a run turns out to have none, which is refused later.
        release: output perturbation of the victim, if any.
        settings: settings of the attack, as plain values.
        victim: its checkpoint.
        save_images: whether perturbed images are saved.
    """
    knowledge = seen(attack.attacker_knowledge, release) if attack else ""
    if isinstance(attack, Certification):
        return CertificateResults(attack, settings=settings, attacker_knowledge=knowledge, victim=victim)
    return PerturbationResults(
        attacker_knowledge=knowledge,
        is_targeted=attack is not None and attack.is_targeted,
        parallel_losses=attack.parallel_losses if attack else None,
        members=attack.members if attack else (),
        radii=attack.radii if attack else (),
        worst_case=attack.worst_case if attack else None,
        fooled=attack.settings["fooled"] if attack and attack.radii else 0.5,
        attack=settings,
        victim=victim,
        save_images=save_images,
    )
