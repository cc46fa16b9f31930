"""Matching of a state dict's names to a network's, wrapper prefixes aside."""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from torch import Tensor

from seg_mia.models.state_files import State

OURS = "network."
"""What this package's own modules put in front of the names of the network inside."""
_MOST_FRONTS = 4
_TRANSPARENT = (
    (),
    ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"),
    ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "module"),
)
"""Parts of a name that torch.compile, sharding and parallel training put in, wherever in the name."""


@dataclass(frozen=True)
class Match:
    """A state dict by a network's own names, as far as it has them.

    Attributes:
        state: what the network has, by its own names.
        front: what stood in front of every name.
        between: what stood within names.
        missing: names of the network that the file lacks.
        unexpected: names of the file that the network lacks.
        shapes: names whose tensors have other shapes, with both.
    """

    state: State
    front: str
    between: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    shapes: tuple[str, ...]

    @property
    def fits(self) -> bool:
        """Whether every name and every shape is the network's, and nothing is left over."""
        return not (self.missing or self.unexpected or self.shapes)

    @property
    def distance(self) -> tuple[int, int]:
        """How far it is from fitting: the smaller, the nearer."""
        return len(self.missing) + len(self.unexpected), len(self.shapes)

    def dropped(self) -> str:
        """Return in words what was left out of the file's names; nothing where they are as they were."""
        words = [f"{self.front!r} in front"] if self.front else []
        words += [f"{part!r} within" for part in self.between]
        return " and ".join(words)


def matched(state: State, expected: Mapping[str, Tensor]) -> Match:
    """Return the reading of a state dict that comes nearest to the names and shapes of `wanted`.

    One beginning that stands before all names may go, whatever it is, and parts that are known to be put
    in; names are never exchanged for others.
    """
    tries = []
    for between in _TRANSPARENT:
        ours, theirs = _bare(expected, between), _bare(state, between)
        if len(ours) == len(expected) and len(theirs) == len(state):  # else names would fall together
            depths = _depths(ours)
            fronts = _fronts(theirs, {name[depth:] for name in ours for depth in depths})
            tries += [(ours, theirs, between, front, depth) for front in fronts for depth in depths]
    matches = [_match(state, expected, *reading) for reading in tries]
    return min(matches, key=lambda reading: reading.distance)  # of equal ones the first: least is left out


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
        tuple(part for part in between if any(part in full.split(".") for full in state)),
        tuple(name for name in expected if name not in matched_state),
        tuple(full for full in state if full not in named),
        shapes,
    )


def _bare(names: Collection[str], between: tuple[str, ...]) -> dict[str, str]:
    """Return names without the parts that may stand anywhere, each with the name it is of."""
    return {".".join(part for part in name.split(".") if part not in between): name for name in names}


def _depths(names: Collection[str]) -> list[int]:
    """Return the lengths of this package's own beginnings, 0 first."""
    depths = [0]
    while names and all(name.startswith(OURS, depths[-1]) for name in names):
        depths.append(depths[-1] + len(OURS))
    return depths


def _fronts(theirs: Collection[str], ends: Collection[str]) -> list[str]:
    """Return the beginnings that most often stand before an end that the network knows, none first."""
    counts = Counter[str]()
    for name in theirs:
        parts = name.split(".")
        counts.update(
            f"{'.'.join(parts[:cut])}." for cut in range(1, len(parts)) if ".".join(parts[cut:]) in ends
        )
    return ["", *(front for front, _ in counts.most_common(_MOST_FRONTS))]
