"""Signs that an attack failed, not that a victim is robust (Athalye et al. 2018; Carlini et al. 2019)."""

from collections.abc import Iterator, Sequence
from itertools import combinations, permutations

from seg_mia.results.base import Settings
from seg_mia.results.perturbation import PerturbationResult
from seg_mia.results.robustness import SanityCheck

SLACK = 0.02
"""Difference of two mean Dice that is no sign of anything."""
UNBOUNDED = 1.0
"""In L-infinity, a ball of this radius holds every image."""
EFFORT = ("steps", "queries")
LEVELS = 255
ENSEMBLE, MEMBER = "seg_mia.attacks.sea.Sea", "seg_mia.attacks.apgd.Apgd"
NOT_OF_THE_ATTACK = {"sanity_images"}
"""Settings that change no image."""


def signs_of_masking(check: SanityCheck) -> Iterator[str]:
    """Yield in words what a check found: nothing for a victim whose gradients can be followed."""
    if check.zero_gradient:
        yield f"the loss has no gradient on {check.zero_gradient} of {check.images} images"
    if _above(check.dice_more_steps, check.dice):
        yield f"more steps leave a higher Dice ({_pair(check.dice_more_steps, check.dice)})"
    if _above(check.dice_larger_radius, check.dice):
        yield f"a larger radius leaves a higher Dice ({_pair(check.dice_larger_radius, check.dice)})"
    if _above(check.dice_best, check.dice_black_box):
        yield (
            "an attack without gradients is stronger than one with them "
            f"(Dice {_pair(check.dice_black_box, check.dice_best)})"
        )
    if check.dice_unbounded is not None and check.dice_unbounded > SLACK:
        yield f"an unbounded attack leaves a Dice of {check.dice_unbounded:.3f}, not 0"


def contradictions(results: Sequence[PerturbationResult]) -> list[str]:
    """Return what cannot be, if every attack on one victim did its work: a sentence each.

    Of two results on the same images that differ in their effort or radius alone, the larger must not be
    weaker; an attack without the victim's gradients must not be stronger than all with them in the same ball;
    an attack in a ball that holds every image must reach Dice 0; no two attacks share all digits, but for an
    ensemble and the member whose images it kept throughout. A curve counts as an attack in each of its balls.

    Args:
        results: of attacks on one victim.
    """
    away = [result for result in results if not result.is_targeted and not result.untested]
    return [*_weaker(away), *_blind(away), *_bounded(away), *_equal(away)]


def _weaker(results: Sequence[PerturbationResult]) -> Iterator[str]:
    for less, more in permutations(results, 2):
        name = _only_difference(less, more)
        if name is not None and _above(_dice(more), _dice(less)):
            yield (
                f"{more.label} leaves a higher Dice than {less.label} ({_pair(_dice(more), _dice(less))}), "
                f"although it has more {'radius' if name == 'epsilon' else name}: gradients may be masked."
            )


def _blind(results: Sequence[PerturbationResult]) -> Iterator[str]:
    for blind in results:
        ball = _ball(blind)
        if ball is None or not (_queries(blind) or blind.attacker_knowledge.startswith("none")):
            continue
        remaining = {result.label: _dice_in(result, ball) for result in results if _alike(result, blind)}
        seeing = {label: dice for label, dice in remaining.items() if dice is not None}
        if seeing and all(_above(dice, _dice(blind)) for dice in seeing.values()):
            best = min(seeing, key=lambda label: seeing[label])
            yield (
                f"{blind.label}, which uses no gradients of the victim, leaves a lower Dice than {best} "
                f"({_pair(_dice(blind), seeing[best])}): gradients are masked. Use --attack.replace, and do "
                "not rely on attacks with gradients."
            )


def _bounded(results: Sequence[PerturbationResult]) -> Iterator[str]:
    for result in results:
        dice = _dice_in(result, ("linf", UNBOUNDED))
        if dice and dice > SLACK:
            yield (
                f"{result.label} has no bound, and leaves a Dice of {dice:.3f}, not 0: it is too weak, or "
                "gradients are masked."
            )


def _equal(results: Sequence[PerturbationResult]) -> Iterator[str]:
    for first, second in combinations(results, 2):
        differ = _settings(first) != _settings(second) or first.attack != second.attack
        contained = _kept_whole(first, second) or _kept_whole(second, first)
        if differ and not contained and _alike(first, second) and _digits(first) == _digits(second):
            yield (
                f"{first.label} and {second.label} share all digits: one of them was not run as configured, "
                "or they are the same attack."
            )


def _kept_whole(ensemble: PerturbationResult, member: PerturbationResult) -> bool:
    """Return whether an ensemble kept one member for every image, and another attack is that member alone.

    From the same start with the same settings both then have the same images, as `sea` and `apgd` on one of
    its losses: nothing is wrong with either.
    """
    if [result.attack.get("class_path") for result in (ensemble, member)] != [ENSEMBLE, MEMBER]:
        return False
    winners = {row.loss for row in ensemble.members if row.won == 1}
    settings, own = _settings(ensemble), _settings(member)
    shared = (set(settings) & set(own)) - NOT_OF_THE_ATTACK
    return own.get("loss") in winners and all(settings[name] == own[name] for name in shared)


def _only_difference(less: PerturbationResult, more: PerturbationResult) -> str | None:
    """Return the setting in which `more` is larger, if it is the only one in which two attacks differ."""
    if less.attack.get("class_path") != more.attack.get("class_path") or not _alike(less, more):
        return None
    small, large = _settings(less), _settings(more)
    names = [name for name in {**small, **large} if small.get(name) != large.get(name)]
    if len(names) != 1 or names[0] not in (*EFFORT, "epsilon"):
        return None
    low, high = small.get(names[0]), large.get(names[0])
    ordered = isinstance(low, int | float) and isinstance(high, int | float) and low < high
    return names[0] if ordered else None


def _alike(first: PerturbationResult, second: PerturbationResult) -> bool:
    return (first.data, first.images, first.key) == (second.data, second.images, second.key)


def _settings(result: PerturbationResult) -> Settings:
    arguments = result.attack.get("init_args")
    return arguments if isinstance(arguments, dict) else {}


def _ball(result: PerturbationResult) -> tuple[str, float] | None:
    settings = _settings(result)
    radius = settings.get("epsilon")
    return (str(settings.get("norm", "linf")), float(radius)) if isinstance(radius, int | float) else None


def _queries(result: PerturbationResult) -> bool:
    return _ball(result) is not None and "queries" in _settings(result)


def _dice_in(result: PerturbationResult, ball: tuple[str, float]) -> float | None:
    """Return the Dice left in a ball by an attack that follows each image's gradients; None for others."""
    if not result.attacker_knowledge.startswith("weights") or result.fitted is not None:
        return None
    if result.curve is not None:
        point = result.curve.at(LEVELS * ball[1]) if ball[0] == "linf" else None
        return None if point is None else point.dice
    return _dice(result) if _ball(result) == ball and not _queries(result) else None


def _dice(result: PerturbationResult) -> float | None:
    return result.mean("dice_adversarial")


def _digits(result: PerturbationResult) -> tuple[float | None, ...]:
    return tuple(result.mean(name) for name in ("dice_adversarial", "l2", "linf", "ssim"))


def _above(value: float | None, other: float | None) -> bool:
    return value is not None and other is not None and value > other + SLACK


def _pair(value: float | None, other: float | None) -> str:
    return f"{value or 0.0:.3f} to {other or 0.0:.3f}"
