"""What to bear in mind of one audit: only what holds for it."""

from collections import Counter
from collections.abc import Iterator, Sequence

from seg_mia.report.leak import LOW_FPR
from seg_mia.report.verdicts import (
    LEAST_DICE,
    MODERATE_EPSILON,
    VISIBLE_SSIM,
    Refuted,
    comparable,
    refuted,
    segments_nothing,
    spent,
)
from seg_mia.results.audit import Victim
from seg_mia.results.membership import MembershipResult
from seg_mia.results.perturbation import PerturbationResult
from seg_mia.results.privacy import DPGuarantee
from seg_mia.results.text import promised
from seg_mia.results.warnings import CHANCE, fails, membership_warnings, perturbation_warnings, same_start

FEW_GROUPS = 30
"""An interval of fewer patients than this is itself uncertain."""
FEW_IMAGES = 30
"""The same of attacked images."""


def warnings(
    victims: Sequence[Victim], guessed: Sequence[MembershipResult], fooled: Sequence[PerturbationResult]
) -> list[str]:
    """Return what is broken, what makes numbers void, or less than they seem, the worst first."""
    found = [
        *foremost(victims, guessed),
        *(line for one in guessed for line in membership_warnings(one, one.label, one.seed)),
        *_same_seed(guessed),
        *(line for one in fooled for line in perturbation_warnings(one, _on(one))),
    ]
    return list(dict.fromkeys(found))


def foremost(victims: Sequence[Victim], guessed: Sequence[MembershipResult]) -> list[str]:
    """Return what stands above all: refuted promises, victims that segment next to nothing."""
    return [*broken(victims, guessed), *(_blank(one) for one in victims if segments_nothing(one))]


def _blank(victim: Victim) -> str:
    return (
        f'The victim "{victim.defence}" (seed {victim.seed}) segments next to nothing: Dice '
        f"{victim.dice('members') or 0.0:.3f} on its own members, below {LEAST_DICE}, so neither its leak "
        "nor its robustness means anything. Train it until it segments, then audit it again."
    )


def broken(victims: Sequence[Victim], guessed: Sequence[MembershipResult]) -> list[str]:
    """Return a sentence for each promise that attacks or canaries refute."""
    attacks = [one for one in guessed if one.role == "attack"]
    void = any(fails(one) for one in guessed if one.role == "blind")
    found = [(victim, refuted(victim, attacks)) for victim in victims]
    return [_broken(victim, proof, void=void) for victim, proof in found if proof is not None]


def _broken(victim: Victim, found: Refuted, *, void: bool) -> str:
    proof = found.proof
    who = "canaries in its training prove" if found.by is None else f"{found.by} proves"
    sure = "" if proof.confidence is None else f", at {proof.confidence:.0%} confidence"
    canaries = victim.canaries
    if found.by is not None:
        rest = " But the split itself tells members apart, which looks just like it." if void else ""
    elif canaries is not None and (canaries.one_run.epsilon or 0.0) > spent(found.privacy):
        rest = " They do so even if nothing is supposed of how the samples of one training hang together."
    else:
        rest = " This supposes that samples of one training are as good as independent."
    return (
        f'The privacy promise of "{victim.defence}" is broken (seed {victim.seed}). It promises '
        f"{promised(found.privacy)}; {who} {proof.epsilon or 0.0:.2f} at least{sure}.{rest} Do not rely on "
        "it: the training does not do what it says, unless this is one of the few proofs that err."
    )


def caveats(
    victims: Sequence[Victim], guessed: Sequence[MembershipResult], fooled: Sequence[PerturbationResult]
) -> list[str]:
    """Return what to bear in mind, from who leaks to what fools."""
    found = [
        *_of_choice(guessed),
        *_of_samples(guessed),
        *_of_data(guessed),
        *_of_shadow(victims, guessed),
        *_of_privacy(victims, guessed),
        *_of_canaries(victims),
        *_of_perturbations(fooled),
    ]
    return list(dict.fromkeys(found))


def _same_seed(guessed: Sequence[MembershipResult]) -> Iterator[str]:
    alike = {one.defence for one in guessed if one.same_seed and one.role == "attack"}
    if alike:
        yield same_start(sorted(alike))


def _of_choice(guessed: Sequence[MembershipResult]) -> Iterator[str]:
    per_victim = Counter(one.key for one in guessed if one.role == "attack")
    if most := max(per_victim.values(), default=0):
        if most > 1:
            yield (
                f"The verdict on leaks allows for having run {most} membership attacks. The intervals in "
                "tables and figures do not: where nothing leaks, the best of them lies above chance more "
                "often than once in forty."
            )
        if not any(one.role == "blind" for one in guessed):
            yield "No blind baseline was run: nobody knows whether the split itself tells members apart."
        if not any(one.role == "control" for one in guessed):
            yield (
                "No negative control was run (control: true): a split whose members are easier by chance "
                "would go unnoticed unless the blind baseline sees it."
            )
    for one in guessed:
        if one.role == "attack" and one.auc.high is not None and one.auc.high < CHANCE:
            yield (
                f"{_on(one)} ranks members below non-members (AUC {one.auc.value:.3f}): "
                "an attacker who turned its scores round would do better than chance. It counts as no leak "
                "found, since the direction is fixed before the victim is asked."
            )


def _of_samples(guessed: Sequence[MembershipResult]) -> Iterator[str]:
    for fpr, said in ((LOW_FPR, "1 %"), ("0.001", "0.1 %")):
        short = [one for one in guessed if fpr in one.rates and not one.rates[fpr].resolvable]
        if short:
            least = min(one.results.nonmembers for one in short)
            yield (
                f"With {least} non-members a false positive rate of {said} cannot be resolved: it needs "
                f"{round(1 / float(fpr))} at least. Rates there are those without any false positive, and a "
                "leak that touches few samples may go unseen."
            )
            break
    counts = [min(one.group_sides) for one in guessed if one.group_sides is not None]
    if counts and min(counts) < FEW_GROUPS:
        yield (
            f"Only {min(counts)} patients were scored on one side: intervals by patient are themselves rough."
        )
    if limits := sorted({one.data.limit for one in guessed if one.data.limit is not None}):
        yield f"Membership attacks were limited to {_listed([str(limit) for limit in limits])} samples."


def _of_data(guessed: Sequence[MembershipResult]) -> Iterator[str]:
    """Yield what the samples themselves withhold: those that are not scored, and those that show little."""
    untrained = max((one.data.left_out.get("victim", {}).get("untrained", 0) for one in guessed), default=0)
    if untrained:
        yield (
            f"{untrained} of the victim's members were never trained on, since its training ended before: "
            "they are scored neither as members nor as others."
        )
    for note in dict.fromkeys(note for one in guessed for note in one.data.notes):
        yield f"Of the data: {note}."


def _of_shadow(victims: Sequence[Victim], guessed: Sequence[MembershipResult]) -> Iterator[str]:
    if any(one.role == "attack" for one in guessed):
        yield (
            "The attacker is assumed to hold data of the victim's own distribution, to train the shadow on: "
            "the other part of the same data set. One with other data may find less."
        )
    rows = {victim.defence: victim.shadow for victim in victims if victim.row}
    naive = [defence for defence, shadow in rows.items() if shadow == "undefended"]
    if naive:
        yield (
            f"Behind {_quoted(naive)} the attacker does not know the defence: the shadow is undefended. One "
            "who trains the shadow the same way (adaptive: true) may find more."
        )


def _of_privacy(victims: Sequence[Victim], guessed: Sequence[MembershipResult]) -> Iterator[str]:
    several = len({victim.row for victim in victims}) > 1
    bare = list(dict.fromkeys(victim.defence for victim in victims if victim.privacy is None))
    if bare and guessed:
        whose = f"{_quoted(bare)} {'was' if len(bare) == 1 else 'were'}" if several else "the victim was"
        yield (
            f"No guarantee: {whose} not trained with differential privacy, so attacks that were not tried "
            "may find what these did not."
        )
    for victim in victims:
        own = [one for one in guessed if one.key == victim.key and one.role == "attack"]
        if victim.privacy is not None and victim.privacy.epsilon is not None:
            yield from _of_promise(victim.privacy, f'"{victim.defence}"' if several else "The victim", own)


def _of_promise(promise: DPGuarantee, name: str, own: Sequence[MembershipResult]) -> Iterator[str]:
    """Yield what to bear in mind of a finite promise, given the attacks on that victim."""
    if promise.reproducible:
        yield f"{name}: its noise can be drawn again from the seed; epsilon holds only while that is secret."
    if own and not comparable(promise, own):
        yield (
            f"{name} promises epsilon per {promise.unit}; what attacks prove is of another unit, and says "
            "nothing of that promise."
        )
    if not promise.declared:
        yield (
            f"{name} takes the number of its {promise.unit}s as public: epsilon holds only where it is. "
            "Declare a public one (population) in the next training."
        )
    if promise.unit == "image" and any(one.group_count for one in own):
        yield (
            f"{name} protects single images: a patient with k of them is protected less, by k times epsilon "
            "at a larger delta, and attacks on patients may reach more than is permitted for images."
        )
    if spent(promise) > MODERATE_EPSILON:
        yield f"{name} promises epsilon {promise.epsilon:.3g}, too large to rule out that attacks work."


def _of_canaries(victims: Sequence[Victim]) -> Iterator[str]:
    asked = list(dict.fromkeys(victim.defence for victim in victims if victim.canaries is not None))
    if asked:
        yield (
            f"Canaries are a measurement: the mislabelled images in the training of {_quoted(asked)} cost "
            "Dice. Deploy what was trained without them."
        )


def _of_perturbations(fooled: Sequence[PerturbationResult]) -> Iterator[str]:
    few = sorted({one.images for one in fooled if one.images < FEW_IMAGES})
    if few:
        yield f"Some perturbations were tried on {few[0]} images only: their averages are rough."
    patients = [one for one in fooled if one.units < one.images]
    if patients:
        least = min(patients, key=lambda one: one.units)
        yield (
            f"Images of one patient are alike: {least.images} attacked images are of {least.units} patients, "
            "and intervals count these."
        )
    for one in fooled:
        likeness = one.mean("ssim")
        if likeness is not None and likeness < VISIBLE_SSIM:
            yield (
                f"{_on(one)} changes images visibly (SSIM {likeness:.2f}): it shows what such images do to "
                "the victim, not that nobody would notice."
            )
        last = one.success[-1] if one.success else None
        if last is not None and 2 * last.clean_success > last.images:
            yield (
                f"{_on(one)}: {last.clean_success} of {last.images} images met the attack's threshold before "
                "any step and do not count."
            )


def _on(one: MembershipResult | PerturbationResult) -> str:
    """Return an attack and its victim, where that has a name of its own."""
    return one.label if one.row == 0 else f'{one.label} on "{one.defence}"'


def _quoted(names: Sequence[str]) -> str:
    return _listed([f'"{name}"' for name in names])


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
