"""What must have run on a victim before it counts as resistant: a strong attack, and a check of gradients."""

from collections import defaultdict
from collections.abc import Sequence

from seg_mia.results.base import RunKey
from seg_mia.results.perturbation import AttackedData, PerturbationResult
from seg_mia.results.robustness import WorstCase
from seg_mia.results.sanity import contradictions, signs_of_masking

LEAST_RADIUS = 4 / 255
"""In L-infinity: 4 and 8 of 255 are the radii of published evaluations of segmentation."""
LEAST_LOSSES = 2
"""Cross-entropy alone spends the ball on pixels that are wrong already."""
LEAST_PER_LOSS = 20
"""Gradients per image, in the ball itself: the published steps of SegPGD, CosPGD and medical attacks."""
LEAST_GRADIENTS = 100
"""Per image, of all these losses together: the published steps of APGD (Croce and Hein, ICML 2020)."""
SAME_RADIUS = 1e-4
"""Difference of two radii that are the same: configs write 0.0157 for 4/255."""
MOST_WITHOUT_GRADIENT = 0.05
"""Share of images on which an attack could not work; more leave room for an effect that counts."""
LEAST_CHECKED = 4
"""Images on which gradients are checked, where there are as many."""
ADVICE = "Add robustness-curve or sea to the audit."


def strong_radius(results: Sequence[PerturbationResult]) -> float | None:
    """Return the largest L-infinity ball in which one victim's worst case was sought hard enough.

    Attacks of the same ball on the same images count together, each loss once: with the gradients of its
    longest attack, as repetitions from the same start add nothing. Each must follow the victim's own
    gradients without a target, keep each image's strongest iterate, and be able to cross the ball.

    Args:
        results: of attacks on one victim.

    Returns:
        the radius in grey levels of [0, 1], None without such a ball.
    """
    runs: dict[tuple[AttackedData, int], list[WorstCase]] = defaultdict(list)
    for result in results:
        made = result.worst_case
        if made is not None and not result.is_targeted and not result.untested and _crosses(made):
            runs[result.data, result.images].append(made)
    return max(
        (
            made.radius
            for attacks in runs.values()
            for made in attacks
            if _enough([other for other in attacks if 0 <= other.radius - made.radius <= SAME_RADIUS])
        ),
        default=None,
    )


def _crosses(made: WorstCase) -> bool:
    """Return whether an attack's steps lead from one side of a ball that counts to the other."""
    counts = made.norm == "linf" and made.radius >= LEAST_RADIUS - SAME_RADIUS
    return counts and made.reach is not None and made.reach >= 2 * made.radius


def _enough(attacks: Sequence[WorstCase]) -> bool:
    """Return whether attacks in one ball have spent enough gradients on enough losses."""
    spent: dict[str, int] = {}
    for made in attacks:
        for loss, steps in made.gradients.items():
            if made.in_ball.get(loss, 0) >= LEAST_PER_LOSS:
                spent[loss] = max(spent.get(loss, 0), steps)
    return len(spent) >= LEAST_LOSSES and sum(spent.values()) >= LEAST_GRADIENTS


def _checked(result: PerturbationResult) -> bool:
    """Return whether gradients were checked on enough images, or on all."""
    return result.sanity is not None and result.sanity.images >= min(LEAST_CHECKED, result.images)


def shortcomings(results: Sequence[PerturbationResult]) -> tuple[str, float | None]:
    """Return why attacks that found nothing are no evidence of resistance, and the ball if they are.

    Args:
        results: of attacks on one victim or, over several seeds, on several.

    Returns:
        the reason in words, empty if there is none, and the smallest of the victims' strong radii.
    """
    victims: dict[RunKey, list[PerturbationResult]] = defaultdict(list)
    for result in results:
        victims[result.key].append(result)
    radii = {key: strong_radius(attacks) for key, attacks in victims.items()}
    found = [radius for radius in radii.values() if radius is not None]
    if len(found) < len(radii):
        labels = ", ".join(dict.fromkeys(result.label for result in results))
        why = (
            f"Only weak attacks ran ({labels}): none sought each image's worst case within at least 4/255 in "
            f"L-infinity, on the victim's own gradients, with {LEAST_LOSSES} losses and {LEAST_GRADIENTS} "
            f"gradients per image. {ADVICE}"
        )
        return why, None
    if not all(any(map(_checked, attacks)) for attacks in victims.values()):
        why = (
            f"Whether gradients are masked was not checked, or on fewer than {LEAST_CHECKED} images. Set "
            f"sanity_images to {LEAST_CHECKED}."
        )
        return why, None
    return "", min(found, default=None)


def signs_of_failure(results: Sequence[PerturbationResult]) -> list[str]:
    """Return signs that gradients are masked or attacks failed, a sentence each.

    Args:
        results: of attacks on the victims of one row.
    """
    signs = []
    for result in results:
        found = [] if result.sanity is None else list(signs_of_masking(result.sanity))
        if result.no_gradient > MOST_WITHOUT_GRADIENT * result.images:
            found.append(f"no gradient reached {result.no_gradient} of {result.images} images")
        signs += [f"{result.label}: {sign}." for sign in found]
    return [*signs, *contradictions(results)]
