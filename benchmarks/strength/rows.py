"""Rows that sum up a table: the strongest attack at equal effort, shares of PGD's Dice, losses of `sea`."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.strength.attacks import SHARED, Values
from seg_mia.attacks.sea import MEMBERS
from seg_mia.results.base import Measure
from seg_mia.results.tables import interval

RESAMPLES = 2000
TAILS = (0.025, 0.975)


class Ball(NamedTuple):
    """What is left in one ball.

    Attributes:
        dice: Dice (n,) that each attack leaves, by its name.
        worst: the lowest of each image, (n,).
        members: 1 for each image that a loss of `sea` left the lowest Dice, else 0, (n,), by loss; empty
            where results of earlier versions do not say it.
    """

    dice: Values
    worst: Tensor
    members: Values


def shared_gradients(dice: Mapping[str, Tensor]) -> list[str]:
    """Return the names of attacks that have as many gradients of the victim as PGD, PGD included."""
    return [name for name in dice if name.startswith(SHARED)]


def strongest(dice: Mapping[str, Tensor]) -> str:
    """Return the attack of lowest mean Dice among those with as many gradients, the first of equals."""
    return min(shared_gradients(dice), key=lambda name: float(dice[name].nanmean()))


def share_of(dice: Tensor, reference: Tensor, groups: Sequence[str] = ()) -> str:
    """Return the mean as a share of another on the same images, with an interval by bootstrap over patients.

    Args:
        dice: (n,), NaN where undefined.
        reference: (n,).
        groups: the patient of each image; empty where each is a patient of its own.
    """
    valid = ~(dice.isnan() | reference.isnan())
    names = groups or list(map(str, range(len(dice))))
    counted = [name for name, known in zip(names, valid.tolist(), strict=True) if known]
    place = {patient: number for number, patient in enumerate(sorted(set(counted)))}
    rows = torch.tensor([place[patient] for patient in counted])
    sums = [
        torch.zeros(len(place), dtype=torch.float64).index_add(0, rows, part[valid].double())
        for part in (dice, reference)
    ]
    draw = torch.Generator().manual_seed(0)
    chosen = torch.randint(len(place), (RESAMPLES, len(place)), generator=draw)
    over, under = (part[chosen].sum(1) for part in sums)
    if not sums[1].any():
        return "none: PGD leaves 0"
    drawn = (over / under)[under > 0]
    low, high = torch.quantile(drawn, torch.tensor(TAILS, dtype=torch.float64)).tolist()
    return interval(Measure(float(sums[0].sum() / sums[1].sum()), low, high))


def won(values: Mapping[str, Values]) -> Values:
    """Return for each loss of `sea` the images that it left the lowest Dice, from the attacks' results."""
    found = next((left["member"] for left in values.values() if "member" in left), None)
    if found is None:
        return {}
    return {loss: (found == number).double() for number, loss in enumerate(MEMBERS)}


def contributions(members: Mapping[float, Values], mean: Callable[[Tensor], str]) -> Iterator[str]:
    """Yield what each loss of `sea` contributes, where it is known: the share of images that it left worst.

    Args:
        members: as in `Ball`, by radius.
        mean: a mean with its interval, in words.
    """
    known = {radius: part for radius, part in members.items() if part}
    if not known:
        return
    radii = " | ".join(f"{radius:g}/255" for radius in known)
    yield f"| loss of `sea`: share of the images that it left worst | {radii} |"
    yield "| --- |" + " --- |" * len(known)
    for loss in MEMBERS:
        yield f"| `{loss}` | {' | '.join(mean(part[loss]) for part in known.values())} |"
    yield ""
