"""Certificates of a smoothed network: classes that no change of an image within a radius can alter.

SegCertify (Fischer, Baader, Vechev, ICML 2021) and, for groups of classes, its adaptive form (Anani, Lorenz,
Schiele, Fritz, ICML 2024).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

from seg_mia.attacks.base import attack_mode, check_inputs, check_output, steps_bar, usable
from seg_mia.errors import InputError
from seg_mia.metrics.certificates import holm
from seg_mia.metrics.labels import IGNORE
from seg_mia.models.prompts import prompts_from
from seg_mia.models.smoothing import DRAWS, FIRST, check_smoothing, class_votes

Partition = Sequence[Sequence[int]]


@dataclass(frozen=True)
class Certificate:
    """What is certain of a smoothed network's predictions.

    Attributes:
        possible: classes that a pixel's prediction may take within the radius, bool (N, K, *S).
        prediction: class of most votes, int64 (N, *S).
        votes: draws that predict the tested class or group, int64 (N, *S).
        level: level of the tested group, 0 for a single class, int64 (N, *S).
    """

    possible: Tensor
    prediction: Tensor
    votes: Tensor
    level: Tensor


def certify(
    model: nn.Module,
    x: Tensor,
    mask: Tensor,
    *,
    sigma: float = 0.25,
    tau: float = 0.75,
    alpha: float = 1e-3,
    first: int = 10,
    draws: int = 100,
    groups: Sequence[Partition] = (),
    thresholds: Sequence[float] = (),
    seed: int = 0,
    batch: int = 32,
    on_image: Callable[[int], None] | None = None,
) -> Certificate:
    """Certify the predictions of a network under Gaussian noise.

    `first` draws choose a class for each pixel, `draws` further ones test that it has a probability of at
    least tau (`seg_mia.metrics.certificates.holm`). If so, no change of the image of an L2 norm below sigma
    Phi^-1(tau) alters the class that the smoothed network predicts most often. Other pixels are abstained.
    With `groups`, a pixel whose two most probable classes differ by less than thresholds[0] in mean
    probability over the first draws is tested for a group of groups[0], by less than thresholds[1] of
    groups[1], and so on.

    Args:
        model: maps images in [0, 1] to logits (N, K, *S), or to a tuple of them with the final head first.
        x: images (N, C, *S) in [0, 1].
        mask: masks (N, *S); pixels of 255 are not tested, the classes of the others are not used.
        sigma: standard deviation of the noise, in grey levels of [0, 1].
        tau: probability under the null hypothesis, at least 0.5.
        alpha: probability that an image has a wrong certificate, at most.
        first: draws that choose the class.
        draws: draws that test it.
        groups: partitions of the classes, from fine to coarse; none: single classes only.
        thresholds: one for each partition, in [0, 1], falling.
        seed: of the noise.
        batch: noisy images at once.
        on_image: callback on_image(n) after image n.

    Raises:
        InputError: invalid inputs, options out of range, or groups that are no partition of the classes.
    """
    check_inputs(x, mask)
    check_smoothing(sigma=sigma, tau=tau, alpha=alpha, first=first, draws=draws, batch=batch)
    check_groups(groups, thresholds)
    rows = list[tuple[Tensor, Tensor, Tensor]]()
    with attack_mode(model, queries=True), torch.no_grad():
        for n, image in enumerate(usable(x)):
            ask = partial(class_votes, model, image, sigma=sigma, seed=seed, batch=batch)
            with prompts_from(usable(mask)[n : n + 1]):
                tested, level = tested_classes(*ask(draws=first, stream=FIRST), groups, thresholds)
                rows.append((tested, level, ask(draws=draws, stream=DRAWS)[0]))
            if on_image is not None:
                on_image(n + 1)
    chosen, levels, votes = (torch.stack(column) for column in zip(*rows, strict=True))
    check_output(votes.double(), usable(mask))
    agreeing = (votes * chosen).sum(1)
    certain = holm(agreeing, usable(mask) != IGNORE, draws=draws, tau=tau, alpha=alpha)
    return Certificate(chosen | ~certain.unsqueeze(1), votes.argmax(1), agreeing, levels)


def tested_classes(
    votes: Tensor, probabilities: Tensor, groups: Sequence[Partition], thresholds: Sequence[float]
) -> tuple[Tensor, Tensor]:
    """Return the class or group that a pixel is tested for, bool (K, *S), and its level, int64 (*S).

    Args:
        votes: predictions of each class over the first draws, int64 (K, *S).
        probabilities: means over these draws, (K, *S).
        groups: as in `certify`.
        thresholds: as in `certify`.
    """
    classes = len(votes)
    best = probabilities.topk(2, dim=0).values
    difference = best[0] - best[1]
    level = sum((difference < bound).long() for bound in thresholds) + torch.zeros_like(votes[0])
    sets = torch.zeros_like(votes, dtype=torch.bool)
    singles = [[number] for number in range(classes)]
    for number, partition in enumerate([singles, *groups]):
        member = membership(partition, classes).to(votes.device)
        group = torch.einsum("gk,k...->g...", member.double(), votes.double()).argmax(0)
        sets = torch.where(level == number, member[group].movedim(-1, 0), sets)
    return sets, level


def membership(partition: Partition, classes: int) -> Tensor:
    """Return which classes belong to each group of a partition, bool (groups, classes)."""
    if sorted(number for group in partition for number in group) != list(range(classes)):
        raise InputError(
            f"groups must contain each of the classes 0 to {classes - 1} once, got "
            f"{[list(group) for group in partition]}; correct the partition"
        )
    member = torch.zeros(len(partition), classes, dtype=torch.bool)
    for row, group in enumerate(partition):
        member[row, list(group)] = True
    return member


def check_groups(groups: Sequence[Partition], thresholds: Sequence[float]) -> None:
    """Raise InputError unless there is a threshold for each partition, in [0, 1] and falling."""
    falling = list(thresholds) == sorted(thresholds, reverse=True)
    if len(groups) != len(thresholds) or not falling or not all(0 <= bound <= 1 for bound in thresholds):
        raise InputError(
            f"thresholds must be one for each of {len(groups)} partitions, in [0, 1] and falling, got "
            f"{list(thresholds)}; for one partition try [0.25]"
        )


class Certification:
    """Configurable form of `certify`. It attacks nothing: what it certifies holds against every attack.

    Args:
        knobs: options of the function.

    Raises:
        InputError: options out of range.
    """

    attacker_knowledge = "any"
    function = staticmethod(certify)

    def __init__(self, **knobs: Any) -> None:
        self.knobs = knobs
        settings = self.settings
        for check in (check_smoothing, check_groups):
            check(**{name: settings[name] for name in signature(check).parameters})

    @property
    def settings(self) -> dict[str, Any]:
        """Options of the function by name, completed with its defaults."""
        bound = signature(self.function).bind_partial(**self.knobs)
        bound.apply_defaults()
        return bound.arguments

    def check_samples(self, classes: int, channels: int) -> None:  # noqa: ARG002
        """Raise InputError unless each group is a partition of the classes."""
        for partition in self.settings["groups"]:
            membership(partition, classes)

    def run(self, model: nn.Module, x: Tensor, mask: Tensor) -> Certificate:
        """Run `certify` with a progress bar."""
        with steps_bar("certify", len(x)) as show:
            return certify(model, x, mask, on_image=show, **self.knobs)
