"""Matching of state dict names to a network's names, up to wrapper prefixes."""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from torch import Tensor

from seg_mia.models.state_files import State

_MOST_FRONTS = 4
_TRANSPARENT = (
    (),
    ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"),
    ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "module"),
)
"""Name parts inserted at any position by torch.compile, sharding and parallel training."""


@dataclass(frozen=True)
class Match:
    """Assignment of a state dict to the names of a network.

    Attributes:
        state: matching tensors, by the names of the network.
        front: prefix removed from every name of the file.
        ahead: prefix of every name of the network that the file lacks, such as that of a wrapper.
        between: parts removed within names.
        missing: names of the network absent from the file.
        unexpected: names of the file absent from the network.
        shapes: names with differing tensor shapes, with both shapes.
    """

    state: State
    front: str
    ahead: str
    between: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    shapes: tuple[str, ...]

    @property
    def fits(self) -> bool:
        """Whether all names and shapes match the network exactly."""
        return not (self.missing or self.unexpected or self.shapes)

    @property
    def distance(self) -> tuple[int, int]:
        """Distance from an exact match; smaller is closer."""
        return len(self.missing) + len(self.unexpected), len(self.shapes)

    def changes(self) -> list[str]:
        """Describe the parts removed from and added to the file's names; empty if none."""
        words = [f"{self.front!r} in front"] if self.front else []
        words += [f"{part!r} within" for part in self.between]
        return [
            *([f"without {' and '.join(words)}"] if words else []),
            *([f"with {self.ahead!r} in front"] if self.ahead else []),
        ]


def matched(state: State, expected: Mapping[str, Tensor]) -> Match:
    """Return the assignment of a state dict closest to the names and shapes of `expected`.

    One common prefix of all names, of any kind, on either side, and known inserted parts may be removed;
    names are never replaced by others.
    """
    tries = []
    for between in _TRANSPARENT:
        ours, theirs = _bare(expected, between), _bare(state, between)
        if len(ours) == len(expected) and len(theirs) == len(state):  # else names would collide
            depths = _depths(ours)
            fronts = _fronts(theirs, {name[depth:] for name in ours for depth in depths})
            tries += [(ours, theirs, between, front, depth) for front in fronts for depth in depths]
    matches = [_match(state, expected, *reading) for reading in tries]
    return min(matches, key=lambda reading: reading.distance)  # of equal ones the first: least is removed


def _match(
    state: State,
    expected: Mapping[str, Tensor],
    ours: Mapping[str, str],
    theirs: Mapping[str, str],
    between: tuple[str, ...],
    front: str,
    depth: int,
) -> Match:
    short = {name[depth:]: full for name, full in ours.items()}
    named = {
        full: short[name.removeprefix(front)]
        for name, full in theirs.items()
        if name.startswith(front) and name.removeprefix(front) in short
    }
    matched_state = {name: state[full] for full, name in named.items()}
    shapes = tuple(
        f"{name} {tuple(tensor.shape)} for {tuple(expected[name].shape)}"
        for name, tensor in matched_state.items()
        if tensor.shape != expected[name].shape
    )
    return Match(
        matched_state,
        front,
        next(iter(ours), "")[:depth],
        tuple(part for part in between if any(part in full.split(".") for full in state)),
        tuple(name for name in expected if name not in matched_state),
        tuple(full for full in state if full not in named),
        shapes,
    )


def _bare(names: Collection[str], between: tuple[str, ...]) -> dict[str, str]:
    """Map names without insertable parts to the original names."""
    return {".".join(part for part in name.split(".") if part not in between): name for name in names}


def _depths(names: Collection[str]) -> list[int]:
    """Return the lengths of the prefixes that all names share, whole parts only, 0 first."""
    first, *further = [name.split(".") for name in names] or [[""]]
    depths = [0]
    for position, part in enumerate(first[:-1]):
        if len(depths) == _MOST_FRONTS or any(parts[position : position + 1] != [part] for parts in further):
            break
        depths.append(depths[-1] + len(part) + 1)
    return depths


def _fronts(theirs: Collection[str], ends: Collection[str]) -> list[str]:
    """Return the most frequent prefixes of suffixes known to the network, the empty one first."""
    counts = Counter[str]()
    for name in theirs:
        parts = name.split(".")
        counts.update(
            f"{'.'.join(parts[:cut])}." for cut in range(1, len(parts)) if ".".join(parts[cut:]) in ends
        )
    return ["", *(front for front, _ in counts.most_common(_MOST_FRONTS))]
