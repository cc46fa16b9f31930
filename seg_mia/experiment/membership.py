"""Membership inference on a victim with shadow models: signals, scores, results."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lightning.pytorch import Trainer

from seg_mia.callbacks.membership_results import shown, summarise
from seg_mia.callbacks.outputs import Findings
from seg_mia.checkpoint import same_start
from seg_mia.config.spec import parameters
from seg_mia.data.base import SegmentationData
from seg_mia.data.predictions import SignalSamples
from seg_mia.data.trained_model import TrainedModel, judged_data, log_left_out
from seg_mia.defences.release import Release, seen
from seg_mia.errors import InputError
from seg_mia.experiment.answers import (
    answers_of,
    fleet_answers,
    nonmember_answers,
    own_answers,
    population_answers,
    population_of,
    query_of,
    seen_by,
    side_samples,
)
from seg_mia.experiment.classifier import ClassifierLearner
from seg_mia.experiment.plan import Plan
from seg_mia.experiment.recipe import without_untrained
from seg_mia.experiment.requirements import check_membership
from seg_mia.experiment.trained_networks import adopted, check_members
from seg_mia.membership.answers import Answers, Fleet
from seg_mia.membership.base import Membership
from seg_mia.membership.label_signals import of_classes
from seg_mia.membership.scores import Guesses
from seg_mia.models.service import queries_of
from seg_mia.results.membership import MembershipSummary, ScoredData
from seg_mia.results.privacy import guarantee
from seg_mia.runs import defence_names

log = logging.getLogger(__name__)


def infer(
    attack: Membership,
    victim: TrainedModel,
    shadows: Sequence[TrainedModel],
    *,
    trainer: Callable[[int], Trainer],
    seed: int,
    control: bool = False,
    plan: Plan | None = None,
) -> Findings:
    """Score the victim's members and non-members, with the attack fitted to the shadows.

    Args:
        attack: signal and scorer, which determines the number of shadows.
        victim: the attacked network and its data.
        shadows: trained on the other half, or, if the scorer permits, on part of the evaluation samples.
        trainer: returns a new trainer for the classifier of each seed, numbered from 0; its callbacks include
            a `MembershipCurves`.
        seed: seed of the first classifier.
        control: negative control: query a shadow, trained on none of the victim's samples, instead of the
            victim; its AUC must be 0.5. Of several shadows the first is used, and excluded from the attack.
        plan: with the metadata of victim and shadows, which tell whether reference parts are outside of all
            trainings: no network had a defence; they are not if it is not given.

    Raises:
        InputError: incompatible sides, too few or too many shadows, or too few samples, also without the
            shadows that did not train.
    """
    needs = attack.scorer.needs
    queried, others = _checked(attack, victim, shadows, seed=seed, control=control)
    first = trainer(0)
    device = first.strategy.root_device
    if needs.queries_judged and len(kept := without_untrained(shadows, device)) < len(shadows):
        shadows = kept
        queried, others = _checked(attack, victim, shadows, seed=seed, control=control)
    log_left_out(victim, shadows)
    used, shadows = shadows, others
    signal = of_classes(attack.signal, victim.data.source.classes)
    judged = side_samples(victim, queried, device, query=query_of(signal), limited=True)
    features = attack.scorer.by_nonmembers or attack.scorer.by_features
    judge = answers_of(signal, queried, judged, device, augment=victim.data.augment, features=features)
    if attack.scorer.by_nonmembers:
        learn = [nonmember_answers(signal, queried, shadow, device) for shadow in shadows]
    elif needs.queries_judged:
        learn = fleet_answers(signal, victim, shadows, judged.indices, device)
        if attack.scorer.by_population:
            outside = population_of(victim, used, untouched=plan is not None and _undefended(plan))
            attack.scorer.know(*population_answers(signal, queried, shadows, outside, device))
    else:
        learn = [own_answers(signal, shadow, device) for shadow in shadows]
    learner = ClassifierLearner(signal, lambda number: trainer(number) if number else first, seed)
    attack.scorer.fit(learn, learner)
    guesses = attack.scorer.score(judge, learn)
    _warn_of_levels(attack, judge, learn)
    return _findings(judged, guesses, used)


def _findings(judged: SignalSamples, guesses: Guesses, shadows: Sequence[TrainedModel]) -> Findings:
    """Return an attack's guesses about the evaluated samples, with the shadows it used."""
    return Findings(
        judged.answered(shown(guesses, judged.members)),
        guesses.scores,
        guesses.threshold,
        guesses.seeds,
        guesses.last,
        guesses.regression,
        shadows,
        guesses.thresholds,
        guesses.resolution,
    )


def _warn_of_levels(attack: Membership, judge: Answers, shadows: Sequence[Answers]) -> None:
    """Warn if levels are taken over samples of which other shares are members of victim and shadows."""
    scorer, share = attack.scorer, float(judge.members.mean())
    own = [float(shadow.members[shadow.judged].mean()) for shadow in shadows if shadow.judged.any()]
    if not scorer.by_evaluated or not own:
        return
    typical = sum(own) / len(own)
    if abs(share - typical) > 0.1:
        log.warning(
            "%.0f %% of the evaluated samples are members, of the shadows' own %.0f %%: thresholds of the "
            "shadows are shifted, the AUC hardly; %s",
            100 * share,
            100 * typical,
            "--attack.scorer.level outside takes levels elsewhere"
            if scorer.standardise
            else "compare offline, with samples outside all trainings kept back by data.reference",
        )


def _undefended(plan: Plan) -> bool:
    """Return whether neither victim nor shadows were trained with a defence."""
    cards = [plan.card, *(shadow.card for shadow in plan.shadows)]
    return not any(defence_names(card) for card in cards if card is not None)


def _checked(
    attack: Membership, victim: TrainedModel, shadows: Sequence[TrainedModel], *, seed: int, control: bool
) -> tuple[TrainedModel, Sequence[TrainedModel]]:
    """Return the queried network and the shadows compared with it; arguments and errors as for `infer`.

    No network is queried.
    """
    if not shadows and control:
        raise InputError(
            "a negative control queries a shadow, got none; name one, --shadow PATH, or leave it out"
        )
    needs = attack.scorer.needs
    for shadow in shadows:
        check_pair(victim, shadow, needs)
    chosen = controlled(victim, shadows, needs) if control else (victim, shadows)
    check_membership(attack, victim, shadows, seed=seed, control=control)
    return chosen


def controlled(
    victim: TrainedModel, shadows: Sequence[TrainedModel], needs: Fleet
) -> tuple[TrainedModel, Sequence[TrainedModel]]:
    """Return the shadow queried by a negative control, and the remaining shadows.

    Raises InputError if it was trained on evaluation samples, or no other shadow remains.
    """
    if not needs.queries_judged:
        return shadows[0], shadows
    judged = {i for part in ("members", "nonmembers") for i in victim.judged(part)}
    if seen_by(shadows[0])[sorted(judged)].any():
        raise InputError(
            f"--control needs a shadow trained without the victim's samples, {shadows[0].file} was trained "
            "on some; name shadows of the other half (fit --data.role shadow)"
        )
    if len(shadows) == 1:
        raise InputError(
            "--control queries one shadow in place of the victim and needs others for the attack, got 1 "
            "shadow; name two or more"
        )
    return shadows[0], shadows[1:]


def check_pair(victim: TrainedModel, shadow: TrainedModel, needs: Fleet) -> None:
    """Raise InputError unless a shadow has the victim's classes and data, and only permitted samples.

    Args:
        victim: the attacked network.
        shadow: the shadow model.
        needs: whether shadows may be trained on evaluation samples.
    """
    attacked, learnt = victim.data, shadow.data
    if attacked.fingerprint != learnt.fingerprint:
        raise InputError(
            f"shadow {shadow.file} was trained on other data (fingerprint {learnt.fingerprint[:12]}) than "
            f"{victim.file} ({attacked.fingerprint[:12]}); train one on the other half of the victim's data"
        )
    for name in ("classes", "channels"):
        if getattr(attacked.source, name) != getattr(learnt.source, name):
            raise InputError(
                f"shadow and victim must have the same number of {name}, got {getattr(learnt.source, name)} "
                f"and {getattr(attacked.source, name)}; train the shadow with the victim's "
                f"{_option(attacked, name)}"
            )
    sizes = [(data.cached.images.shape[1:-1], data.cached.masks.shape[1:]) for data in (learnt, attacked)]
    if sizes[0] != sizes[1]:
        raise InputError(
            f"shadow and victim must have images and masks of one size, got {sizes[0]} and {sizes[1]}; train "
            f"the shadow with the victim's {_option(attacked, 'size')}"
        )
    if (attacked.duplicate_positions, attacked.stratify) != (
        learnt.duplicate_positions,
        learnt.stratify,
    ):
        raise InputError(
            "shadow and victim must have the same split, got different near duplicates or strata; train the "
            "shadow with the victim's --data.duplicates, --data.near_duplicates and --data.stratify"
        )
    if not needs.queries_judged:  # otherwise it is looked at sample by sample
        _check_apart(attacked, learnt)


def _check_apart(victim: SegmentationData, shadow: SegmentationData) -> None:
    """Raise InputError unless the shadow's data and the victim's evaluation samples are disjoint."""
    judged = {victim.source.groups[i] for i in (*victim.splits.members, *victim.splits.nonmembers)}
    shared = judged & {shadow.source.groups[i] for i in shadow.splits}
    if shared:
        raise InputError(
            f"the halves of shadow and victim must be disjoint, got {len(shared)} shared samples or groups; "
            "train the shadow with --role shadow and the victim's --data.split_seed and --data.shadow_share"
        )


def _option(data: SegmentationData, name: str) -> str:
    """Return an option in command-line spelling, if this data set's reader has it."""
    return f"--data.{name}" if name in parameters(type(data)) else "settings of the data"


def check_victim(plan: Plan, data: SegmentationData, *, split_known: bool) -> None:
    """Raise InputError if a membership attack on a victim would be meaningless.

    Args:
        plan: with victim and shadows.
        data: the victim's, after setup.
        split_known: whether the victim's file defines its data split.
    """
    unused = [o.flag for o in plan.options if o.flag.startswith(("--data.subset", "--save_images"))]
    if unused:
        raise InputError(
            f"membership attacks use members and non-members and change no image; leave out {unused[0]}"
        )
    file = plan.checkpoint
    assert file is not None
    assert plan.card is not None
    if not split_known:
        raise InputError(
            f"{file} was exported without its split, so its members are unknown; use the original checkpoint"
        )
    if adopted(plan.card):
        check_members(data, f"victim {file}")


def membership_summary(
    plan: Plan,
    attack: Membership,
    release: Release | None,
    *,
    victim: TrainedModel,
    findings: Findings,
    settings: Mapping[str, Any],
) -> MembershipSummary:
    """Return the results of an attack, with the victim and the shadows used.

    Args:
        plan: with the metadata of victim and shadows.
        attack: the attack.
        release: output perturbation of the victim, if any.
        victim: the victim and its data.
        findings: scores of the attack, and its shadows.
        settings: settings of `attack` and `release`, as plain values.
    """
    assert plan.card is not None
    used = [shadow.file for shadow in findings.shadows]
    cards = [shadow.card for shadow in plan.shadows if shadow.file in used]
    privacy = guarantee(plan.card.privacy, f"{plan.checkpoint}: privacy guarantee in its card")
    return MembershipSummary(
        attack=settings["attack"],
        attacker_knowledge=seen(attack.attacker_knowledge, release),
        release=settings["release"],
        blind=not attack.signal.queries_victim,
        defences={
            "victim": defence_names(plan.card),
            "shadow": list(dict.fromkeys(name for card in cards for name in defence_names(card))),
        },
        victim=str(plan.checkpoint),
        shadows=[str(file) for file in used],
        control=bool(plan.request.control),
        privacy=privacy,
        same_seed=any(same_start(plan.card, card) for card in cards),
        data=ScoredData.model_validate(judged_data(victim, findings.shadows)),
        victim_queries=queries_of(victim.network),
        sampling=attack.scorer.attacker if attack.scorer.needs.queries_judged else None,
        **dict(summarise(findings, privacy)),
    )
