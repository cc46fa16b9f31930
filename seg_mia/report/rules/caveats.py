"""Caveats of one audit: only those that apply to it."""

from collections import Counter
from collections.abc import Iterator, Sequence

from seg_mia.report.rules.leak_verdict import LOW_FPR
from seg_mia.report.rules.privacy_verdict import (
    MODERATE_EPSILON,
    Refutation,
    bounds_compared,
    comparable,
    refutations,
    spent,
    strongest,
    uncomputed,
)
from seg_mia.report.rules.robustness_verdict import VISIBLE_SSIM
from seg_mia.report.rules.verdicts import LEAST_DICE, segments_nothing
from seg_mia.results.audit import Victim
from seg_mia.results.many_runs import Contradicted, contradicted
from seg_mia.results.membership import MembershipResult
from seg_mia.results.perturbation import PerturbationResult
from seg_mia.results.privacy import DPGuarantee
from seg_mia.results.recipe import RecipeResult
from seg_mia.results.sanity import contradictions
from seg_mia.results.text import guarantee_in_words
from seg_mia.results.warnings import CHANCE, fails, membership_warnings, perturbation_warnings, same_start

FEW_GROUPS = 30
"""An interval over fewer patients than this is itself uncertain."""
FEW_IMAGES = 30
"""The same for attacked images."""


def warnings(
    victims: Sequence[Victim],
    membership: Sequence[MembershipResult],
    perturbations: Sequence[PerturbationResult],
    recipes: Sequence[RecipeResult] = (),
) -> list[str]:
    """Return errors and reasons that invalidate or weaken results, the most severe first."""
    lines = [
        *foremost(victims, membership, recipes),
        *(line for result in membership for line in membership_warnings(result, result.label, result.seed)),
        *_same_seed(membership),
        *(line for result in perturbations for line in perturbation_warnings(result, result.title)),
        *contradictions(perturbations),
    ]
    return list(dict.fromkeys(lines))


def foremost(
    victims: Sequence[Victim],
    membership: Sequence[MembershipResult],
    recipes: Sequence[RecipeResult] = (),
) -> list[str]:
    """Return the top warnings: refuted guarantees, victims with almost no segmentation."""
    return [
        *(_broken_recipe(found) for found in contradicted(recipes)),
        *broken(victims, membership),
        *(_no_segmentation(victim) for victim in victims if segments_nothing(victim)),
    ]


def _no_segmentation(victim: Victim) -> str:
    return (
        f'The victim "{victim.defence}" (seed {victim.seed}) hardly segments: Dice '
        f"{victim.dice('members') or 0.0:.3f} on its own members, below {LEAST_DICE}. Its leakage and "
        "robustness are meaningless. Train it until it segments, then repeat the audit."
    )


def _broken_recipe(found: Contradicted) -> str:
    return (
        f'The privacy guarantee of the recipe "{found.result.defence}" is broken. It claims epsilon '
        f"{found.promised:.3g} if one is replaced; {found.proof}. Do not rely on it: the training does not "
        "provide what it claims, unless this is one of the few bounds that err."
    )


def broken(victims: Sequence[Victim], membership: Sequence[MembershipResult]) -> list[str]:
    """Return a sentence for each guarantee refuted by attacks or canaries."""
    attacks = [result for result in membership if result.role == "attack"]
    void = any(fails(result) for result in membership if result.role == "blind")
    proofs = refutations(victims, attacks)
    return [
        _broken(victim, strongest({victim.key: proofs[victim.key]}), void=void)
        for victim in victims
        if victim.key in proofs
    ]


def _broken(victim: Victim, refutation: Refutation, *, void: bool) -> str:
    bound = refutation.bound
    degree, verb = (
        ("broken", "prove") if bound.is_proof else ("contradicted if samples are independent", "show")
    )
    subject = (
        f"canaries in its training {verb}" if refutation.attack is None else f"{refutation.attack} {verb}s"
    )
    if refutation.attack is not None:
        qualification = (
            " But the split itself separates members from non-members, which looks the same." if void else ""
        )
    elif bound.is_proof:
        qualification = " This proof needs no assumption on the dependence of samples within one training."
    else:
        qualification = ""
    if bound.is_proof:
        qualification += (
            " Do not rely on it: the training does not provide what it claims, unless this is one of the few "
            "bounds that err."
        )
    else:
        more = "more canaries" if refutation.attack is None else "canaries"
        qualification += (
            " This is no proof: samples of one training are not independent of each other. Repeat the "
            f"training with {more}, whose number of right guesses proves a bound."
        )
    return (
        f'The privacy guarantee of "{victim.defence}" is {degree} (seed {victim.seed}). It claims '
        f"{guarantee_in_words(refutation.guarantee)}; {subject} at least {bound.epsilon or 0.0:.2f}"
        f", {refutation.together}.{qualification}"
    )


def caveats(
    victims: Sequence[Victim],
    membership: Sequence[MembershipResult],
    perturbations: Sequence[PerturbationResult],
) -> list[str]:
    """Return the caveats, from leakage to adversarial attacks."""
    lines = [
        *_selection_caveats(victims, membership),
        *_sample_caveats(membership),
        *_data_caveats(membership),
        *_shadow_caveats(victims, membership),
        *_privacy_caveats(victims, membership),
        *_canary_caveats(victims),
        *_perturbation_caveats(perturbations),
    ]
    return list(dict.fromkeys(lines))


def _same_seed(membership: Sequence[MembershipResult]) -> Iterator[str]:
    defences = {result.defence for result in membership if result.same_seed and result.role == "attack"}
    if defences:
        yield same_start(sorted(defences))


def _selection_caveats(victims: Sequence[Victim], membership: Sequence[MembershipResult]) -> Iterator[str]:
    if any(victim.from_predictions for victim in victims):
        yield (
            "Only predictions are given. Whether they are those of the deployed network, and whether the "
            "parts state truly who was trained on, nobody has checked."
        )
    yield from _deployment_caveats(victims)
    per_victim = Counter(result.key for result in membership if result.role == "attack")
    if attack_count := max(per_victim.values(), default=0):
        if attack_count > 1:
            yield (
                f"The verdict on leakage is adjusted for {attack_count} membership attacks. The intervals in "
                "tables and figures are not: without any leak, the best of them lies above chance more often "
                "than once in forty."
            )
        if not any(result.role == "blind" for result in membership):
            yield (
                "No blind baseline was run: whether the split itself separates members from non-members is "
                "unknown."
            )
        if not any(result.role == "control" for result in membership):
            how = "" if any(victim.from_predictions for victim in victims) else " (control: true)"
            yield (
                f"No negative control was run{how}: a split whose members are easier by chance "
                "would go unnoticed unless the blind baseline detects it."
            )
    for result in membership:
        if result.role == "attack" and result.auc.high is not None and result.auc.high < CHANCE:
            yield (
                f"{result.title} ranks members below non-members (AUC {result.auc.value:.3f}): reversed "
                "scores would be better than chance. This does not count as a leak, since the direction is "
                "fixed before the victim is queried."
            )


def _deployment_caveats(victims: Sequence[Victim]) -> Iterator[str]:
    """Yield a caveat for adopted networks that were not compared with the deployed system."""
    trainings = [training for victim in victims if isinstance(training := victim.about.get("training"), dict)]
    adopted = [training for training in trainings if training.get("adopted")]
    if any("agreement" not in training for training in adopted):
        yield (
            "The network was trained elsewhere and not compared with the deployed system "
            "(--reference-predictions): another preprocessing or checkpoint would go unnoticed."
        )
    for name in dict.fromkeys(name for victim in victims for name in left_out(victim.about.get("network"))):
        yield (
            f"{name[0].upper()}{name[1:]} of the bundle is left out here: masks may differ from those of the "
            "deployed system."
        )


def left_out(network: object) -> Iterator[str]:
    """Yield the transforms of a bundle that are left out of its network's description, at any depth."""
    arguments = network.get("init_args") if isinstance(network, dict) else None
    if isinstance(arguments, dict):
        yield from arguments.get("left_out") or ()
        yield from left_out(arguments.get("network"))


def _sample_caveats(membership: Sequence[MembershipResult]) -> Iterator[str]:
    for fpr, percent in ((LOW_FPR, "1 %"), ("0.001", "0.1 %")):
        unresolved = [
            result for result in membership if fpr in result.rates and not result.rates[fpr].resolvable
        ]
        if unresolved:
            fewest = min(result.results.nonmembers for result in unresolved)
            yield (
                f"With {fewest} non-members a false positive rate of {percent} cannot be resolved: it needs "
                f"at least {round(1 / float(fpr))}. True positive rates there are those at zero false "
                "positives, and a leak that affects few samples may be missed."
            )
            break
    by_patient = [result.groups for result in membership if result.groups is not None]
    counts = [min(measures.members, measures.nonmembers) for measures in by_patient]
    if counts and min(counts) < FEW_GROUPS:
        yield (
            f"Only {min(counts)} patients were scored among members or among non-members: intervals over "
            "patients are approximate."
        )
    if limits := sorted({result.data.limit for result in membership if result.data.limit is not None}):
        yield f"Membership attacks were limited to {_listed([str(limit) for limit in limits])} samples."


def _data_caveats(membership: Sequence[MembershipResult]) -> Iterator[str]:
    """Yield caveats of the samples: those excluded from scoring, and those of little information."""
    untrained = max(
        (result.data.left_out.get("victim", {}).get("untrained", 0) for result in membership), default=0
    )
    if untrained:
        yield (
            f"{untrained} of the victim's members were never trained on, because training ended early: they "
            "are scored neither as members nor as non-members."
        )
    for note in dict.fromkeys(note for result in membership for note in result.data.notes):
        yield f"Data: {note}."


def _shadow_caveats(victims: Sequence[Victim], membership: Sequence[MembershipResult]) -> Iterator[str]:
    attacks = [result for result in membership if result.role == "attack"]
    if any(result.results.threshold is None for result in attacks):
        yield (
            "No shadow's predictions are given, so there are no decision thresholds, no accuracies and no "
            "classifiers: an attacker with a shadow may find more."
        )
    if any(result.shadows for result in attacks):
        yield (
            "The attacker is assumed to train the shadow on data of the victim's distribution, the other "
            "part of the same data set. An attacker with other data may find less."
        )
    rows = {victim.defence: victim.shadow for victim in victims if victim.row}
    naive = [defence for defence, shadow in rows.items() if shadow == "undefended"]
    if naive:
        yield (
            f"For {_quoted(naive)} the attacker does not know the defence: the shadow is undefended. An "
            "attacker with a defended shadow (adaptive: true) may find more."
        )


def _privacy_caveats(victims: Sequence[Victim], membership: Sequence[MembershipResult]) -> Iterator[str]:
    several = len({victim.row for victim in victims}) > 1
    known = [victim for victim in victims if not victim.from_predictions]
    unprotected = list(dict.fromkeys(victim.defence for victim in known if victim.privacy is None))
    if unprotected and membership:
        subject = (
            f"{_quoted(unprotected)} {'was' if len(unprotected) == 1 else 'were'}"
            if several
            else "the victim was"
        )
        yield (
            f"No guarantee: {subject} not trained with differential privacy, so other attacks may find what "
            "these did not."
        )
    yield from _uncomputed_caveats(victims, membership)
    for victim in victims:
        attacks = [result for result in membership if result.key == victim.key and result.role == "attack"]
        if victim.privacy is not None and victim.privacy.epsilon is not None:
            yield from _guarantee_caveats(
                victim.privacy, f'"{victim.defence}"' if several else "The victim", attacks
            )


def _uncomputed_caveats(victims: Sequence[Victim], membership: Sequence[MembershipResult]) -> Iterator[str]:
    """Yield a caveat for each row with a guarantee that not all of its bounds are compared with."""
    attacks = [result for result in membership if result.role == "attack"]
    for number in sorted({victim.row for victim in victims}):
        row = [victim for victim in victims if victim.row == number]
        if missing := uncomputed(bounds_compared(row, attacks)):
            yield f'The guarantee of "{row[0].defence}" is not compared with all bounds: {missing}.'


def _guarantee_caveats(
    guarantee: DPGuarantee, name: str, attacks: Sequence[MembershipResult]
) -> Iterator[str]:
    """Yield caveats of a finite guarantee, given the attacks on that victim."""
    if guarantee.reproducible:
        yield f"{name}: the seed reproduces the noise; epsilon holds only while the seed is secret."
    if attacks and not any(comparable(guarantee, attack) for attack in attacks):
        yield (
            f"{name} guarantees epsilon per {guarantee.unit}; the bounds of attacks are for another "
            "unit and do not apply to it."
        )
    if not guarantee.declared:
        yield (
            f"{name} treats the number of its {guarantee.unit}s as public: epsilon holds only if it is. "
            "Declare a public number (population) in the next training."
        )
    if guarantee.unit == "image" and any(result.groups for result in attacks):
        yield (
            f"{name} protects single images: a patient with k images has a guarantee of only k times epsilon "
            "at a larger delta, and attacks on patients may exceed the limits for images."
        )
    if spent(guarantee) > MODERATE_EPSILON:
        yield f"{name} guarantees epsilon {guarantee.epsilon:.3g}, too large to rule out successful attacks."


def _canary_caveats(victims: Sequence[Victim]) -> Iterator[str]:
    measured = list(dict.fromkeys(victim.defence for victim in victims if victim.canaries is not None))
    if measured:
        yield (
            "Canaries are for measurement: the mislabelled or replaced images in the training of "
            f"{_quoted(measured)} lower Dice. Deploy a network trained without them."
        )


def _perturbation_caveats(perturbations: Sequence[PerturbationResult]) -> Iterator[str]:
    few = sorted({result.images for result in perturbations if result.images < FEW_IMAGES})
    if few:
        yield f"Some perturbations were run on only {few[0]} images: their means are imprecise."
    clustered = [result for result in perturbations if result.units < result.images]
    if clustered:
        fewest = min(clustered, key=lambda result: result.units)
        yield (
            f"Images of one patient are correlated: the {fewest.images} attacked images show {fewest.units} "
            "patients, and intervals are over patients."
        )
    for result in perturbations:
        ssim = result.mean("ssim")
        if ssim is not None and ssim < VISIBLE_SSIM:
            yield (
                f"{result.title} changes images visibly (SSIM {ssim:.2f}): it shows the effect of such "
                "images on the victim, not an attack that goes unnoticed."
            )
        last = result.success[-1] if result.success else None
        if last is not None and 2 * last.clean_success > last.images:
            yield (
                f"{result.title}: {last.clean_success} of {last.images} images met the attack's threshold "
                "before the attack and are not counted."
            )


def _quoted(names: Sequence[str]) -> str:
    return _listed([f'"{name}"' for name in names])


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
