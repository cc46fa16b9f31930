"""Selection of the deployed output of a network, as logits of the masks' size."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypedDict

from torch import Tensor, nn

from seg_mia.errors import InputError
from seg_mia.models.output_form import Gives, as_logits, resized
from seg_mia.models.wrapper import Wrapper

_DEEPEST = 3


class OutputSettings(TypedDict, total=False):
    """Arguments of `OneHead` besides the network."""

    head: int | str
    gives: Gives
    resize: bool


class OneHead(Wrapper):
    """Wrapper that returns the maps of a network as logits, the deployed one first.

    Maps that differ from the deployed one in size or channels are omitted; in training only those that differ
    in channels, as all heads are trained.

    Args:
        network: network with a tuple, list, mapping or object with fields as output; a stack of D maps,
            (N, D, K, *s), counts as D maps.
        head: deployed map: its key, field or position (-1 is the last). Nested positions are joined by dots,
            `aux.0`. None is the first.
        gives: values of the maps: logits, probabilities that sum to 1 over the channels, or sigmoid outputs;
            `multilabel` and `multilabel_sigmoid` are logits and sigmoid outputs of labels that may overlap.
        resize: enlarge the maps to the size of the image.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        head: int | str | None = None,
        gives: Gives = "logits",
        resize: bool = False,
    ) -> None:
        super().__init__(network)
        self.head, self.gives, self.resize = head, gives, resize

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return logits (N, K, *s) of images `x` (N, C, *S), the deployed map first.

        Raises:
            InputError: the output has no map of that name.
        """
        maps_by_path = maps(self.network(x), x.ndim)
        first = maps_by_path.pop(named(maps_by_path, self.head, "--model.head"))
        same_classes = [values for values in maps_by_path.values() if values.shape[1] == first.shape[1]]
        deployed = (
            first,
            *(values for values in same_classes if self.training or values.shape == first.shape),
        )
        size = tuple(x.shape[2:])
        return tuple(
            as_logits(resized(values, size) if self.resize else values, self.gives) for values in deployed
        )


def named(maps_by_path: Mapping[str, Tensor], head: int | str | None, option: str) -> str:
    """Return the name of the map that `head` means: a name or a position; None is the first.

    Raises:
        InputError: no such map; the message names the `option` that sets it.
    """
    names = list(maps_by_path)
    if str(head) in maps_by_path:
        return str(head)
    if len(names) == 1 or (names and head is None):  # one: in evaluation, of several only in training
        return names[0]
    if type(head) is int and -len(names) <= head < len(names):
        return names[head]
    raise InputError(
        f"head must be among the network's maps {', '.join(names) or 'none'}, got {head!r}; set {option} to "
        "one of them"
    )


def maps(output: object, axes: int = 4) -> dict[str, Tensor]:
    """Return the maps (N, K, *s) in a network's output by position or name; "" is the whole output.

    Args:
        output: the network's output.
        axes: of the images (N, C, *S), 4 or 5 for volumes, and so of a map; a tensor with one more is a stack
            of maps.
    """
    maps_by_path = dict[str, Tensor]()
    _gather(output, "", maps_by_path, axes, 0)
    return maps_by_path


def _gather(output: object, path: str, maps_by_path: dict[str, Tensor], axes: int, depth: int) -> None:
    if isinstance(output, Tensor):
        if output.is_floating_point() and output.ndim == axes:
            maps_by_path[path] = output
        elif output.is_floating_point() and output.ndim == axes + 1:
            maps_by_path.update({_below(path, number): map_ for number, map_ in enumerate(output.unbind(1))})
    elif depth < _DEEPEST:
        for name, part in _parts(output).items():
            _gather(part, _below(path, name), maps_by_path, axes, depth + 1)


def _below(path: str, name: object) -> str:
    return f"{path}.{name}" if path else str(name)


def _parts(output: Any) -> dict[Any, Any]:
    """Return the components of an output: items of a mapping or sequence, or fields of an object."""
    if isinstance(output, Mapping):
        return dict(output)
    if isinstance(output, tuple) and hasattr(output, "_asdict"):
        return dict(output._asdict())
    if isinstance(output, tuple | list):
        return dict(enumerate(output))
    if is_dataclass(output) and not isinstance(output, type):
        return {field.name: getattr(output, field.name) for field in fields(output)}
    if isinstance(output, type | nn.Module):
        return {}
    return {name: part for name, part in getattr(output, "__dict__", {}).items() if not name.startswith("_")}
