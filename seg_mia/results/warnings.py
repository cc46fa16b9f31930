"""Warnings that invalidate or weaken results, for the command line and for reports."""

from collections.abc import Iterator, Sequence

from seg_mia.results.base import Measure
from seg_mia.results.certificate import CertificateSummary
from seg_mia.results.membership import MembershipSummary
from seg_mia.results.perturbation import PerturbationSummary
from seg_mia.results.sanity import signs_of_masking
from seg_mia.results.tables import interval

CHANCE = 0.5
"""The AUC of guessing."""


def above_chance(auc: Measure) -> bool:
    """Return whether an AUC's interval lies above that of guessing."""
    return auc.low is not None and auc.low > CHANCE


def fails(result: MembershipSummary) -> bool:
    """Return whether a baseline or control is better than chance, which weakens other numbers.

    It invalidates or inflates them. Over images or over patients, since attacks are evaluated on both. An AUC
    above chance may have a cause; one below is chance: a fair split has no reversed signal.
    """
    return result.role != "attack" and failing_auc(result) is not None


def failing_auc(result: MembershipSummary) -> Measure | None:
    """Return the AUC over images, else over patients, whose interval lies above chance; None if none does."""
    return next((auc for auc in (result.auc, result.pooled) if auc is not None and above_chance(auc)), None)


def membership_warnings(result: MembershipSummary, name: str, seed: int | None = None) -> Iterator[str]:
    """Yield the consequences of a failed baseline or control for the other membership results.

    Args:
        result: result of a membership attack.
        name: name of the attack.
        seed: seed of the victim, if there are several.
    """
    above = failing_auc(result)
    if result.role == "attack" or above is None:
        return
    over = " over patients" if above is result.pooled else ""
    auc = f"AUC{over} {interval(above)}" + ("" if seed is None else f", seed {seed}")
    if result.blind:
        yield (
            f"Membership numbers are void: {name} separates members from non-members without querying the "
            f"victim ({auc}). The split itself leaks, or it is a fair split whose interval lies above 0.5 by "
            "chance, at most one in forty over images and over patients each. "
            f"{_other_split(result)}"
        )
    else:
        yield (
            f"Membership numbers are inflated: the negative control {name} is better than chance on samples "
            f"that the queried network never saw ({auc}). Members of this split are easier by chance, or the "
            "split is flawed. Compare another split_seed."
        )


def _other_split(result: MembershipSummary) -> str:
    """Return how to get another split; a stated one has no seed."""
    if result.data.split_seed is None:
        return "Give members and non-members of one pool: of the same time, place and scanner."
    return "Run the audit with another split_seed."


def same_start(victims: Sequence[str] = ()) -> str:
    """Return the consequence of a shadow with the initial weights of these victims, or of the only one."""
    names = " and ".join(f'"{name}"' for name in victims)
    return (
        f"Victim and shadow started from the same weights{f' ({names})' if names else ''}, which an attacker "
        "cannot bring about: leakage is overestimated. Train the shadow from another seed."
    )


def perturbation_warnings(result: PerturbationSummary, name: str) -> Iterator[str]:
    """Yield reasons why an attack is weak evidence of robustness.

    Args:
        result: result of an adversarial attack.
        name: name of the attack, with its victim if there are several.
    """
    yield from _no_gradient(result, name)
    followed = not result.success and not result.no_gradient
    if followed and result.images and result.unchanged >= result.images:
        yield (
            f"{name} changed none of its {result.images} images, which is no evidence of robustness. Use "
            "more or larger steps."
        )
    yield from _below_floor(result, name)
    for sign in signs_of_masking(result.sanity) if result.sanity is not None else ():
        yield (
            f"{name}: {sign}: gradients may be masked, and the result is weak evidence of robustness. "
            "Replace the layer that hides them (--attack.replace), and compare with --attack square."
        )


def certificate_warnings(result: CertificateSummary, name: str) -> Iterator[str]:
    """Yield reasons why a certificate says little.

    Args:
        result: result of a certification.
        name: its name, with its victim if there are several.
    """
    if result.needed > result.draws:
        yield (
            f"{name}: {result.draws} draws cannot certify a pixel of such images at alpha {result.alpha:g}. "
            "Use more draws."
        )
    if result.not_trained_with_noise:
        yield (
            f"{name}: the victim segments noisy images poorly. Train it with noise of this sigma "
            "(fit --defence noise)."
        )


def _no_gradient(result: PerturbationSummary, name: str) -> Iterator[str]:
    last = result.success[-1] if result.success else None
    if last is not None and last.no_gradient and not last.counted:
        yield (
            f"{name}: no gradient reached any image that was not a success before the attack, so the result "
            "is no evidence of robustness. Replace the layer that blocks gradients (--attack.replace)."
        )
    elif result.no_gradient:
        part = (
            "which is no evidence of robustness"
            if result.untested
            else "which it cannot fool: do not rely on its robustness"
        )
        yield (
            f"{name}: no gradient reached {result.no_gradient} of {result.images} images, {part}. Replace "
            "the layer that blocks gradients (--attack.replace)."
        )


def _below_floor(result: PerturbationSummary, name: str) -> Iterator[str]:
    """Yield a sentence if some images' SSIM is below the set floor at every strength."""
    share = result.mean("above_floor")
    below = 0 if share is None else result.images - round(share * result.images)
    if below:
        floor = result.attack["init_args"]["ssim_floor"]
        yield (
            f"{name}: no strength met the SSIM floor of {floor:g} on {below} of {result.images} images, "
            "which keep the one of highest SSIM. Try other noise_mu and noise_sigma, or lower ssim_floor."
        )
