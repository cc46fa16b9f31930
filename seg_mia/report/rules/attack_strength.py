"""What must have run on a victim before it counts as resistant: a strong attack, and a check of gradients."""

from collections import defaultdict
from collections.abc import Sequence

from seg_mia.results.base import RunKey
from seg_mia.results.perturbation import AttackedData, PerturbationResult
from seg_mia.results.sanity import contradictions, signs_of_masking

LEAST_RADIUS = 4 / 255
"""In L-infinity: 4 and 8 of 255 are the radii of published evaluations of segmentation."""
LEAST_LOSSES = 2
"""Cross-entropy alone spends the ball on pixels that are wrong already."""
LEAST_PER_LOSS = 20
"""Gradients per image: the published steps of SegPGD and CosPGD, and of attacks on medical networks."""
LEAST_GRADIENTS = 100
"""Per image, of all these losses together: the published steps of APGD (Croce and Hein, ICML 2020)."""
ADVICE = "Add robustness-curve or sea to the audit."


def strong_radius(results: Sequence[PerturbationResult]) -> float | None:
    """Return the largest L-infinity ball in which one victim's worst case was sought hard enough.

    Attacks of the same ball on the same images count together. Each must follow the victim's own gradients
    without a target, and keep each image's strongest iterate.

    Args:
        results: of attacks on one victim.

    Returns:
        the radius in grey levels of [0, 1], None without such a ball.
    """
    gradients: dict[tuple[float, AttackedData, int], dict[str, int]] = defaultdict(dict)
    for result in results:
        made = result.worst_case
        if made is None or made.norm != "linf" or result.is_targeted or result.untested:
            continue
        spent = gradients[round(made.radius, 6), result.data, result.images]
        for loss, steps in made.gradients.items():
            spent[loss] = spent.get(loss, 0) + steps
    return max(
        (key[0] for key, spent in gradients.items() if key[0] > _LOWEST and _enough(spent)), default=None
    )


_LOWEST = LEAST_RADIUS - 1e-4  # configs write 0.0157 for 4/255


def _enough(spent: dict[str, int]) -> bool:
    counted = [steps for steps in spent.values() if steps >= LEAST_PER_LOSS]
    return len(counted) >= LEAST_LOSSES and sum(counted) >= LEAST_GRADIENTS


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
    if any(all(result.sanity is None for result in attacks) for attacks in victims.values()):
        return "Whether gradients are masked was not checked. Set sanity_images to 4.", None
    return "", min(found, default=None)


def signs_of_failure(results: Sequence[PerturbationResult]) -> list[str]:
    """Return signs that gradients are masked or attacks failed, a sentence each.

    Args:
        results: of attacks on the victims of one row.
    """
    signs = []
    for result in results:
        found = [] if result.sanity is None else list(signs_of_masking(result.sanity))
        if 2 * result.no_gradient > result.images:
            found.append(f"no gradient reached {result.no_gradient} of {result.images} images")
        signs += [f"{result.label}: {sign}." for sign in found]
    return [*signs, *contradictions(results)]
