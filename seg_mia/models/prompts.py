"""Prompts of promptable networks: derived from the true masks, never perturbed.

Whoever queries a network on samples states their masks with `prompts_from`; a promptable network asks for
them with `boxes` or `points`. Attacks thus change the image alone, and victim, shadow and control get one
prompt for one sample.
"""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal

import torch
from torch import Tensor, nn

from seg_mia.config.spec import defaults, resolve
from seg_mia.errors import InputError
from seg_mia.metrics.labels import IGNORE

Prompt = Literal["box", "point"]
PROMPTED = "seg_mia.models.segment_anything.SegmentAnything"
_MASKS: ContextVar[Tensor | None] = ContextVar("masks", default=None)


@contextmanager
def prompts_from(masks: Tensor) -> Iterator[None]:
    """Let promptable networks derive their prompts from masks (N, H, W) of the N images they are shown.

    With one mask, any number of images is taken to show that sample. Without effect for other networks.
    """
    token = _MASKS.set(masks)
    try:
        yield
    finally:
        _MASKS.reset(token)


@contextmanager
def prompt_of(row: int) -> Iterator[None]:
    """Let promptable networks take all images for copies of sample `row` of those in `prompts_from`."""
    masks = _MASKS.get()
    if masks is None or len(masks) == 1:
        yield
        return
    with prompts_from(masks[row : row + 1]):
        yield


@contextmanager
def whole_image_prompts() -> Iterator[None]:
    """Let promptable networks take the whole image as their object where no masks are stated: for checks."""
    if _MASKS.get() is not None:
        yield
        return
    with prompts_from(torch.ones(1, 1, 1, dtype=torch.int64)):
        yield


def takes_prompts(network: nn.Module) -> bool:
    """Return whether a network, or one inside it, is promptable: has a true attribute `takes_prompts`."""
    return any(getattr(module, "takes_prompts", False) for module in network.modules())


def check_unprompted(network: nn.Module, what: str) -> None:
    """Raise InputError if a network takes prompts, which belong to whole images as they lie.

    Args:
        network: as of `takes_prompts`.
        what: what shows it parts of images, or turned ones.
    """
    if takes_prompts(network):
        raise InputError(
            f"{what} shows a network parts of images or turned ones, for which a promptable network has no "
            "prompts; show it whole images"
        )


def prompt_rule(network: object) -> str:
    """Return the prompt that a network's description states at any depth, in words; empty if none.

    Promptable are `SegmentAnything`, its subclasses and any class with a true attribute `takes_prompts`. One
    that takes no `prompt` has a rule of its own, named after the class. Other classes than `SegmentAnything`
    count once they are imported: a description, which anyone may have written, imports none.

    Args:
        network: class path and arguments, or a class path, which may be a bare name.
    """
    return " and ".join(dict.fromkeys(_rules(network)))


def _rules(network: object) -> Iterator[str]:
    """Yield the rules of the promptable networks in a description, the outer ones first."""
    if isinstance(network, list | tuple):
        for part in network:
            yield from _rules(part)
    if isinstance(network, str):
        network = {"class_path": network}
    if not isinstance(network, Mapping):
        return
    path, arguments = network.get("class_path"), network.get("init_args")
    arguments = arguments if isinstance(arguments, Mapping) else {}
    kind = _promptable(path) if isinstance(path, str) else None
    if kind is not None:
        yield _rule(kind, {**defaults(kind), **arguments})
    for name, argument in (arguments if path is not None else network).items():
        if name == "network" or isinstance(argument, Mapping | list | tuple):
            yield from _rules(argument)


def _rule(kind: type, arguments: Mapping[str, object]) -> str:
    """Return the rule of a promptable class with arguments, in words."""
    prompt = arguments.get("prompt")
    if prompt == "point":
        return "the pixel of the true mask nearest to its middle"
    if prompt != "box":
        return f"the prompt of {kind.__module__}.{kind.__qualname__}"
    margin = str(arguments.get("margin", 0))
    return f"the box around the true mask{f' and {margin} pixels more on each side' if margin != '0' else ''}"


def _promptable(path: str) -> type | None:
    """Return the promptable class at a class path or of a bare name; None for others, or if not imported."""
    module, _, name = path.rpartition(".")
    if path in {PROMPTED, PROMPTED.rpartition(".")[2]}:
        return resolve(PROMPTED)
    found = [getattr(sys.modules.get(module), name, None)] if module else _named(nn.Module, name)
    return next(filter(None, map(_if_promptable, found)), None)


def _if_promptable(kind: object) -> type | None:
    return kind if isinstance(kind, type) and getattr(kind, "takes_prompts", False) else None


def _named(base: type, name: str) -> list[type]:
    """Return the imported subclasses of a bare name."""
    below: list[type] = base.__subclasses__()
    return [*(kind for kind in below if kind.__name__ == name), *(k for b in below for k in _named(b, name))]


def check_same_prompts(victim: tuple[str, object], others: Mapping[str, object]) -> None:
    """Raise InputError where the networks of a membership attack get their prompts by different rules.

    Args:
        victim: its name in messages, and its network's description.
        others: the same of shadows, controls and references.
    """
    name, network = victim
    rule = prompt_rule(network)
    for other, description in others.items():
        if (rule_there := prompt_rule(description)) != rule:
            raise InputError(
                f"victim and shadow must get prompts by the same rule, got {rule or 'none'} for {name}, and "
                f"{rule_there or 'none'} for {other}; state one prompt and margin in both configs"
            )


def boxes(images: Tensor, margin: int) -> Tensor:
    """Return the box around each sample's foreground, (N, 4) as left, top, right and bottom in pixels.

    Foreground is every class but 0; ignored pixels do not count. Without foreground, it is the whole image.

    Args:
        images: (N, C, H, W), of the samples in `prompts_from`.
        margin: pixels added on each side, within the image.

    Raises:
        InputError: no masks stated, or as many as there are images.
    """
    return torch.stack([_box(mask, margin) for mask in _foreground(images)]).to(images)


def points(images: Tensor) -> Tensor:
    """Return the foreground pixel nearest to the mean place of the foreground, (N, 2) as column and row.

    Of equally near ones it is the first in row order; without foreground, the middle of the image. Arguments
    and errors as of `boxes`.
    """
    return torch.stack([_point(mask) for mask in _foreground(images)]).to(images)


def _foreground(images: Tensor) -> Tensor:
    """Return the foreground of each image's sample, bool (N, H, W)."""
    masks = _MASKS.get()
    if masks is None:
        raise InputError(
            "a promptable network needs a prompt from each sample's mask, and here none is stated; it is not "
            "supported for this step"
        )
    if masks.shape[1:] == (1, 1):
        masks = masks.expand(-1, *images.shape[2:])
    if len(masks) not in {1, len(images)} or masks.shape[1:] != images.shape[2:]:
        raise InputError(
            f"a promptable network needs the mask of each image, got {tuple(masks.shape)} masks for images "
            f"{tuple(images.shape)}; ask one sample at a time, --data.batch_size 1"
        )
    return ((masks > 0) & (masks != IGNORE)).expand(len(images), -1, -1)


def _box(mask: Tensor, margin: int) -> Tensor:
    height, width = mask.shape
    rows, columns = (mask.any(axis).nonzero().flatten() for axis in (1, 0))
    if not len(rows):
        return torch.tensor([0, 0, width - 1, height - 1])
    left, top = (max(int(places[0]) - margin, 0) for places in (columns, rows))
    right, bottom = int(columns[-1]) + margin, int(rows[-1]) + margin
    return torch.tensor([left, top, min(right, width - 1), min(bottom, height - 1)])


def _point(mask: Tensor) -> Tensor:
    places = mask.nonzero().double()
    if not len(places):
        return torch.tensor([(mask.shape[1] - 1) / 2, (mask.shape[0] - 1) / 2])
    nearest = places[(places - places.mean(0)).square().sum(1).argmin()]
    return nearest.flip(0)
