"""Checks for samples unsuitable for training or evaluation: errors and notes."""

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from lightning.pytorch.utilities import rank_zero_only
from numpy.typing import NDArray

from seg_mia.data.altered import COLUMN, UNALTERED
from seg_mia.data.images.mask_coding import GREY_LEVELS
from seg_mia.data.sample_facts import SampleFacts
from seg_mia.data.source import Note, Source, listed
from seg_mia.data.splits import Split
from seg_mia.errors import InputError
from seg_mia.metrics.label_sets import label_names

log = logging.getLogger(__name__)
_LOGGED = set[tuple[str, str]]()

ONE_GREY = 1.0
"""Levels of 255 by which the values of an image may differ that shows nothing: the rounding of one value."""
NEARLY_ONE_GREY = 16.0
"""Levels of 255 within which an image shows next to nothing: 12 bits stored as 16 fill as many."""
ONE_VALUE = 0.99
"""Share of pixels of one value from which an image shows next to nothing."""
WHITE = 0.4
"""Share of pixels above a grey window from which most of the body is: bone and contrast are far less."""


@dataclass(frozen=True, eq=False)
class Sight:
    """Input of the checks: a source, statistics of its samples, and a half's samples."""

    source: Source
    facts: SampleFacts
    half: Split
    role: str
    options: Collection[str]

    def names(self, which: NDArray[np.bool_]) -> tuple[str, ...]:
        """Return the ids of samples of the half selected by `which`, bool over all samples, (n,)."""
        return tuple(self.source.ids[i] for i in sorted(self.half) if which[i])

    @property
    def size(self) -> int:
        """Return the number of samples in the half."""
        return len(tuple(self.half))

    @property
    def coding(self) -> str:
        """Return the coding of mask values, in words."""
        named = [f"--data.{name}" for name in ("threshold", "classes", "organs") if name in self.options]
        return "the masks' values" + (f" and {', '.join(named)}" if named else "")


def examine(
    source: Source, facts: SampleFacts, half: Split, role: str, options: Collection[str] = ()
) -> list[Note]:
    """Return notes on the samples of a half.

    Args:
        source: all samples.
        facts: statistics of all samples.
        half: the split.
        role: role of the half.
        options: settings of the data module, for remedies in errors.

    Raises:
        InputError: masks in another coding than set, members or non-members without a single labelled pixel,
            members without foreground or background, or a half with mostly constant images.
    """
    sight = Sight(source, facts, half, role, options)
    _refuse_coding(sight)
    _refuse_unlabelled(sight)
    _refuse_masks(sight)
    _refuse_constant(sight)
    return [*source.notes, *_of_masks(sight), *_of_images(sight)]


@rank_zero_only
def log_notes(notes: Sequence[Note], role: str, folder: str) -> None:
    """Log notes on the samples of a half, once per process.

    Args:
        notes: from `examine`.
        role: role of the half.
        folder: folder of its decoded data.
    """
    for note in notes:
        if (folder, note.line) not in _LOGGED:
            log.warning("data of the %s: %s", role, note.line)
        _LOGGED.add((folder, note.line))


def _refuse_coding(sight: Sight) -> None:
    """Raise InputError for masks of class ids read as black and white ones: all would count as empty."""
    source, facts = sight.source, sight.facts
    faint = np.flatnonzero((facts.lost > 0) & (facts.lost < GREY_LEVELS))
    if len(faint):
        values = sorted({int(facts.lost[i]) for i in faint})
        raise InputError(
            f"{len(faint)} of {len(source)} masks hold values above 0 but none above the threshold, and "
            f"would count as empty ({listed([source.ids[i] for i in faint])}; largest value "
            f"{', '.join(map(str, values))}); code them as the other "
            f"masks{', or lower --data.threshold' if 'threshold' in sight.options else ''}"
        )


def _refuse_unlabelled(sight: Sight) -> None:
    for part in ("members", "nonmembers"):
        indices = list(getattr(sight.half, part))
        if indices and not sight.facts.labelled[indices].any():
            raise InputError(
                f"none of the {len(indices)} {part} of the {sight.role}'s half has a labelled pixel, all "
                f"pixels are ignored (255: {listed([sight.source.ids[i] for i in indices])}); label them or "
                "leave them out"
            )


def _refuse_masks(sight: Sight) -> None:
    members = list(sight.half.members)
    if not sight.facts.foreground[members].any():
        raise InputError(
            f"all {len(members)} training masks are empty, so a network cannot learn a foreground; inspect "
            f"them with `python -m seg_mia prepare` and check {sight.coding}"
        )
    if sight.source.classes == 2 and not sight.facts.pixels[members, 0].any():
        raise InputError(
            f"every labelled pixel of the {len(members)} training masks is foreground, so a network cannot "
            f"learn a background; check {sight.coding}"
        )


def _refuse_constant(sight: Sight) -> None:
    for part in ("members", "nonmembers"):
        indices = np.array(getattr(sight.half, part), dtype=np.int64)
        flat = indices[sight.facts.spread[indices] <= ONE_GREY]
        if len(indices) and 2 * len(flat) > len(indices):
            raise InputError(
                f"{len(flat)} of {len(indices)} {part} of the {sight.role}'s half are constant images, of "
                f"one grey level each ({listed([sight.source.ids[i] for i in flat])}): {_values(sight, flat)}"
            )


def _of_masks(sight: Sight) -> list[Note]:
    facts, size = sight.facts, sight.size
    notes = []
    if bare := sight.names(~facts.labelled):
        notes.append(
            Note(
                f"{len(bare)} of {size} samples have no labelled pixel: their metrics are undefined, and "
                "they are excluded from means and membership scores",
                bare,
            )
        )
    if soft := sight.names(facts.lost > 0):
        notes.append(
            Note(
                f"{len(soft)} of {size} masks hold values above 0 but none above the threshold, and count as "
                "empty",
                soft,
            )
        )
    empty_masks = facts.empty & ~_altered(sight.source)
    unsure = empty_masks & (facts.pixels[:, -1] > 0)
    if white := sight.names(unsure):
        notes.append(
            Note(
                f"{len(white)} of {size} masks hold only background and 255, which is ignored: correct "
                "unless 255 is their foreground",
                white,
            )
        )
    if empty := sight.names(empty_masks & ~unsure & (facts.lost == 0)):
        notes.append(
            Note(f"{len(empty)} of {size} masks are empty: correct if these images show no object", empty)
        )
    pixels = facts.pixels[list(sight.half.members), :-1].sum(0)
    kinds = pixels_by_label(pixels, sight.source.classes)
    if absent := [name for name, count in kinds.items() if not count]:
        text = f"no training mask has a pixel of {listed(absent, 8)}: it cannot be learnt"
        notes.append(Note(text, ()))
    return notes


def _altered(source: Source) -> NDArray[np.bool_]:
    """Return which samples `--data.altered` changed, bool (n,): their masks are none of a file."""
    kinds: Sequence[str] = source.columns.get(COLUMN, [UNALTERED] * len(source))
    return np.array([kind != UNALTERED for kind in kinds], dtype=np.bool_)


def pixels_by_label(pixels: NDArray[np.int64], classes: int) -> dict[str, Any]:
    """Return the numbers of pixels (classes, ...) of each class but background, or of each label of sets."""
    names = label_names(classes)
    if not names:
        return {f"class {number}": pixels[number] for number in range(1, len(pixels))}
    sets = np.arange(len(pixels))
    return {name: pixels[sets >> bit & 1 == 1].sum(0) for bit, name in enumerate(names)}


def _of_images(sight: Sight) -> list[Note]:
    facts, size = sight.facts, sight.size
    constant = facts.spread <= ONE_GREY
    nearly = ~constant & ((facts.spread <= NEARLY_ONE_GREY) | (facts.common > ONE_VALUE))
    notes = []
    for which, description in (
        (constant, "are constant, of one grey level each"),
        (nearly, "are almost constant"),
    ):
        if names := sight.names(which):
            indices = np.array([i for i in sorted(sight.half) if which[i]], dtype=np.int64)
            notes.append(
                Note(f"{len(names)} of {size} images {description}: {_values(sight, indices)}", names)
            )
    bright = (facts.white > WHITE) & ~(constant | nearly)
    indices = np.array([i for i in sorted(sight.half) if bright[i]], dtype=np.int64)
    if 2 * len(indices) > size and sight.source.window:
        notes.append(
            Note(
                f"{len(indices)} of {size} images are white on more than {WHITE:.0%} of their pixels: "
                f"{_values(sight, indices)}",
                tuple(sight.source.ids[i] for i in indices),
            )
        )
    return notes


def _values(sight: Sight, indices: NDArray[np.int64]) -> str:
    """Return the range of values in images, and a remedy."""
    source = sight.source
    if not source.window:
        low, high = sight.facts.low[indices].min(), sight.facts.high[indices].max()
        return f"their values lie in [{low:.4g}, {high:.4g}] of [0, 1]; rescale or remove the files"
    ends = np.array([source.limits(int(i)) for i in _some(indices)])
    low, high = float(ends[:, 0].min()), float(ends[:, 1].max())
    return (
        f"their values lie in [{low:.4g}, {high:.4g}], and {source.window}; set the window to the data, "
        f"such as {source.window_option(low, high)}"
    )


def _some(indices: Sequence[int] | NDArray[np.int64]) -> list[int]:
    """Return the first, middle and last of some samples."""
    return sorted({int(indices[0]), int(indices[len(indices) // 2]), int(indices[-1])})


def check_counts(*, batch_size: int, limit: int | None, workers: int, stratify: int | None = None) -> None:
    """Raise InputError for a number of a data module's settings outside its range.

    Args:
        batch_size: images per batch, at least 1.
        limit: samples of a subset, at least 1; None for all.
        workers: loader processes, at least 0.
        stratify: bins of a stratified split, at least 2; None for a split that is not stratified.
    """
    if batch_size < 1 or workers < 0 or (limit is not None and limit < 1):
        raise InputError(
            f"batch_size and limit must be at least 1 and workers at least 0, got {batch_size}, {limit}, "
            f"{workers}"
        )
    if stratify is not None and stratify < 2:
        raise InputError(f"stratify must be 2 bins or more, got {stratify}; leave it out for none")
