"""Attacks on a victim: those in a ball with the same number of gradients where their name gives no other.

A gradient of a smoothed victim takes a pass of all its noisy copies. Attacks without a ball, and the search
for the smallest change, have numbers of steps of their own.
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks.strength.victims import Attacked
from seg_mia.attacks.adain import adain
from seg_mia.attacks.alma_prox import alma_prox
from seg_mia.attacks.apgd import apgd
from seg_mia.attacks.asma import asma
from seg_mia.attacks.base import Adversarial
from seg_mia.attacks.certify import certify
from seg_mia.attacks.frequency import frequency
from seg_mia.attacks.medis import medis
from seg_mia.attacks.objectives import ObjectiveName
from seg_mia.attacks.pgd import cospgd, fgsm, pgd, segpgd
from seg_mia.attacks.sea import MEMBERS, sea
from seg_mia.attacks.square import square
from seg_mia.attacks.targets import random_other
from seg_mia.attacks.transfer import transfer
from seg_mia.attacks.universal import TILES, apply_universal, fit_universal
from seg_mia.metrics.certificates import abstained, certified_dice, radius
from seg_mia.metrics.distance import linf_norm
from seg_mia.metrics.overlap import foreground_iou
from seg_mia.models.heads import class_count, final, predicted
from seg_mia.models.style_autoencoder import load_texture

EQUAL = "PGD, as many gradients"
SHARED = (EQUAL, "`segpgd`", "`cospgd`", "`apgd`", "`sea`")
"""Beginnings of the names of attacks that have as many gradients of the victim."""
IN_BALLS = ("fgsm", "pgd", "segpgd", "cospgd", "apgd", "sea", "square", "universal", "transfer")
BESIDES = ("medis", "asma", "frequency", "adain", "alma-prox", "certified")
"""Attacks without a ball, the smallest change, the certificate."""
PUBLISHED: dict[str, Any] = {"steps": 2501, "tau": 1e-7, "beta": 1e-6, "keep": "last"}
"""Settings of `asma` in its paper."""
TAU, ALPHA, FIRST = 0.75, 1e-3, 10
LIVER = 6
"""Organ id that `adain` gives the first class of the foreground; the next classes have the next ids."""
Values = dict[str, Tensor]
"""Values of each image, (N,), by name."""


class Budget(NamedTuple):
    """What attacks may spend on an image.

    Attributes:
        gradients: of each attack in a ball but FGSM (1), PGD as shipped (10) and `universal`; the losses of
            `sea` share them.
        queries: of `square`; 0 leaves it out.
        norm_steps: of `alma-prox`; 0 leaves it out.
        norm_step_size: of `alma-prox`.
        asma_steps: of `asma`, ten times the published ones; 0 leaves it out, with MedIS and the frequency
            attack.
        draws: that test a certificate; 0 leaves it out.
        texture: folder of the auto-encoders of `adain`, None leaves it out.
        asma_paper: also `asma` as published, of 2501 steps.
    """

    gradients: int
    queries: int
    norm_steps: int
    norm_step_size: float
    asma_steps: int
    draws: int
    texture: str | None
    asma_paper: bool = False


class Part(NamedTuple):
    """One attack, to be run or read from what is kept.

    Attributes:
        name: row of the table.
        key: the settings in words; two parts of one key are the same.
        run: returns the values.
    """

    name: str
    key: str
    run: Callable[[], Values]


def kind(name: str) -> str:
    """Return the attack of a row: its first word in small letters, one of `IN_BALLS` or `BESIDES`."""
    return name.strip("`").split()[0].strip("`,").lower()


def judged(attacked: Attacked, images: Tensor) -> Values:
    """Return the Dice that is left, and the largest change."""
    return {"dice": attacked.dice(images), "linf": linf_norm(images - attacked.shown.images)}


def within(attacked: Attacked, surrogate: Attacked | None, epsilon: float, budget: Budget) -> Iterator[Part]:
    """Yield the attacks in one ball, of `epsilon` in units of the image's range."""
    shown, count = attacked.shown, budget.gradients
    each = max(count // len(MEMBERS), 1)
    step = 2.5 * epsilon / count
    ball: dict[str, Any] = {"epsilon": epsilon}
    many = {**ball, "steps": count}
    paced = {**many, "step_size": step}
    attacks: dict[str, Callable[..., Adversarial]] = {
        "FGSM (1 gradient)": partial(fgsm, **ball),
        "PGD as shipped (10)": partial(pgd, **ball, step_size=epsilon / 4),
        EQUAL: partial(pgd, **paced, keep="best"),
        "`segpgd`": partial(segpgd, **paced),
        "`cospgd`": partial(cospgd, **paced),
        "`apgd`, `balanced_cross_entropy`": partial(apgd, **many, loss="balanced_cross_entropy"),
        "`apgd`, `dice`": partial(apgd, **many, loss="dice"),
        f"`sea`, {each} on each loss": partial(sea, **ball, steps=each),
    }
    if budget.queries:
        attacks[f"`square`, {budget.queries} queries"] = partial(square, **ball, queries=budget.queries)
    for name, attack in attacks.items():
        yield Part(name, f"{name} {255 * epsilon:g} of {count}", partial(_attacked, attacked, attack))
    if len(attacked.others.images):
        name = "`universal`, fitted to others"
        yield Part(name, f"{name} {255 * epsilon:g} {TILES}", partial(_universal, attacked, epsilon))
    if surrogate is not None:
        crafted = partial(transfer, surrogate.followed, *shown, **paced)
        name = f"`transfer` from {surrogate.name}"
        key = f"{name} {surrogate.digest} {255 * epsilon:g} of {count}"
        yield Part(name, key, lambda: judged(attacked, crafted().images))


def _attacked(attacked: Attacked, attack: Callable[..., Adversarial]) -> Values:
    """Return what an attack leaves; of an ensemble also the index of the loss that each image is left by."""
    found = attack(attacked.followed, *attacked.shown)
    member = {name: note for name, note in found.notes.items() if name == "member"}
    return judged(attacked, found.images) | member


def _universal(attacked: Attacked, epsilon: float) -> Values:
    followed = attacked.followed
    change = fit_universal(followed, *attacked.others, epsilon=epsilon, step_size=epsilon / 4)
    return judged(attacked, apply_universal(followed, *attacked.shown, change).images)


def beyond(attacked: Attacked, budget: Budget) -> Iterator[Part]:
    """Yield the attacks that are bound to no ball, as shipped unless their name says more.

    MedIS has 60 gradients (10 on each of six losses), the frequency attack 20, `adain` none.
    """
    steps = budget.asma_steps
    if steps:
        name = "`medis` away from the truth"
        yield Part(name, name, partial(_attacked, attacked, partial(medis, targeted=False)))
        name = f"`asma` to another mask, {steps} steps ten times the paper's"
        yield Part(name, name, partial(_targeted, attacked, steps=steps, tau=1e-6, beta=1e-5))
        name = "`frequency`, a table per block"
        yield Part(name, name, partial(_attacked, attacked, partial(frequency, tables="block")))
    if budget.asma_paper:
        name = f"`asma` to another mask, the paper's {PUBLISHED['steps']} steps"
        yield Part(name, name, partial(_targeted, attacked, **PUBLISHED))
    if budget.texture is not None:
        key = f"adain {LIVER} {Path(budget.texture).resolve()}"
        yield Part("`adain`, 0.3 and 0.3", key, partial(_texture, attacked, budget.texture))


def _targeted(attacked: Attacked, **settings: Any) -> Values:
    """Return what `asma` leaves, and the IoU that it reaches with another image's mask."""
    targets = attacked.shown.masks[random_other(len(attacked.shown.masks), 0)]
    images = asma(attacked.followed, attacked.shown.images, targets, **settings).images
    with torch.no_grad():
        logits = final(attacked.followed(images))
    reached = foreground_iou(predicted(logits), targets, class_count(logits))
    return {**judged(attacked, images), "target_iou": reached}


def _texture(attacked: Attacked, folder: str) -> Values:
    with torch.no_grad():
        classes = class_count(final(attacked.network(attacked.shown.images[:1])))
    texture = partial(adain, pairs=load_texture(folder), organs=range(LIVER, LIVER + classes - 1))
    return _attacked(attacked, texture)


def smallest(attacked: Attacked, budget: Budget) -> Part:
    """Return the search for the smallest change of the foreground's pixels."""

    def run() -> Values:
        found = alma_prox(
            attacked.followed, *attacked.shown, pixels="foreground", steps=budget.norm_steps,
            step_size=budget.norm_step_size,
        )  # fmt: skip
        return {"linf": found.notes["minimal_linf"]}

    name = f"`alma-prox`, foreground, {budget.norm_steps} steps"
    return Part(name, f"{name} of {budget.norm_step_size:g}", run)


def certificate(attacked: Attacked, budget: Budget) -> Part:
    """Return the certificate of a smoothed victim, with the strongest attack within its radius."""
    sigma = attacked.sigma
    assert sigma is not None

    def run() -> Values:
        images, masks = attacked.shown
        found = certify(
            attacked.network, images, masks, sigma=sigma, tau=TAU, alpha=ALPHA, first=FIRST,
            draws=budget.draws, batch=budget.draws,
        )  # fmt: skip
        ball: dict[str, Any] = {"norm": "l2", "epsilon": radius(sigma, TAU), "steps": budget.gradients}
        losses: tuple[ObjectiveName, ...] = ("balanced_cross_entropy", "dice")
        moved = [apgd(attacked.followed, images, masks, **ball, loss=loss).images for loss in losses]
        left = torch.stack([attacked.dice(part, budget.draws) for part in moved])
        return {
            "certified": certified_dice(found.possible, masks),
            "abstained": abstained(found.possible).flatten(1).double().mean(1),
            "attacked": left.amin(0),
        }

    key = f"certified {budget.draws} {sigma} {TAU} {ALPHA} {FIRST} {budget.gradients}"
    return Part("certified Dice", key, run)
