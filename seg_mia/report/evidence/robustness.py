"""Group 8 of the evidence: perturbations, worst case over the radius, certificates."""

from collections.abc import Mapping, Sequence

from seg_mia.results.base import Measure
from seg_mia.results.bounded_mean import dice_after, dice_lost
from seg_mia.results.certificate import CertificateResult
from seg_mia.results.evidence_measures import Certificate, CurveOfDice, RadiusDice, Robustness
from seg_mia.results.perturbation import PerturbationResult
from seg_mia.results.sanity import signs_of_masking


def robustness_rows(perturbations: Sequence[PerturbationResult]) -> list[Robustness]:
    """Return each perturbation's effect."""
    return [
        Robustness(
            row=result.row,
            defence=result.defence,
            attack=result.label,
            seed=result.seed,
            access=result.attacker_knowledge,
            budget=_budget(result),
            images=result.images,
            patients=result.units,
            dice_before=result.mean("dice_clean"),
            dice_after=dice_after(result),
            dice_lost=dice_lost(result),
            smallest_change=_smallest(result),
            signs=signs(result),
            labels=result.labels,
        )
        for result in perturbations
    ]


def signs(result: PerturbationResult) -> list[str]:
    """Return signs that an attack failed, not that its victim is robust."""
    checked = [] if result.sanity is None else list(signs_of_masking(result.sanity))
    return [*([result.untested] if result.untested else []), *checked]


def _budget(result: PerturbationResult) -> str:
    arguments = result.attack.get("init_args")
    radius = arguments.get("epsilon") if isinstance(arguments, Mapping) else None
    if not isinstance(radius, int | float):
        return ""
    norm = str(arguments.get("norm", "linf")) if isinstance(arguments, Mapping) else "linf"
    return f"{norm} {255 * radius:.3g}/255" if norm == "linf" else f"{norm} {radius:.3g}"


def _smallest(result: PerturbationResult) -> Measure | None:
    norms = result.minimal
    return None if norms is None else Measure(norms.quantiles.get("0.5"), norms.low, norms.high)


def curves(perturbations: Sequence[PerturbationResult]) -> list[CurveOfDice]:
    """Return the Dice over the radius of each attack in several balls."""
    return [
        CurveOfDice(
            row=result.row,
            defence=result.defence,
            attack=result.label,
            seed=result.seed,
            images=result.images,
            patients=result.units,
            points=[
                RadiusDice(radius=point.radius, dice=point.measure, fooled=point.fooled)
                for point in result.curve.points
            ],
        )
        for result in perturbations
        if result.curve is not None
    ]


def certificates(results: Sequence[CertificateResult]) -> list[Certificate]:
    """Return what is certain of each smoothed network."""
    return [
        Certificate(
            row=result.row,
            defence=result.defence,
            attack=result.label,
            seed=result.seed,
            images=result.images,
            patients=result.units,
            sigma=result.sigma,
            radius=result.radius,
            probability=1 - result.alpha,
            dice_clean=result.measure("dice_clean"),
            dice_smoothed=result.measure("dice_smoothed"),
            dice_certified=result.measure("dice_certified"),
            abstained=result.measure("abstained"),
        )
        for result in results
    ]
