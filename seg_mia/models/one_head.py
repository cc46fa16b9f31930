"""Selection of the deployed output of a network with several heads."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from torch import Tensor, nn

from seg_mia.errors import InputError
from seg_mia.models.wrapper import Wrapper

_DEEPEST = 3


class OneHead(Wrapper):
    """Wrapper that returns the maps of a multi-head network, the deployed one first.

    Maps that differ from the deployed one in size or channels are omitted; in training only those that differ
    in channels, as all heads are trained.

    Args:
        network: network with a tuple, list, mapping or object with fields as output; a stack (N, D, K, h, w)
            counts as D maps.
        head: deployed map: its key, field or position (-1 is the last). Nested positions are joined by dots,
            `aux.0`.
    """

    def __init__(self, network: nn.Module, *, head: int | str) -> None:
        super().__init__(network)
        self.head = head

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return maps (N, K, h, w) of images `x`, the deployed one first.

        Raises:
            InputError: the output has no map of that name.
        """
        maps_by_path = maps(self.network(x))
        name = self._name(maps_by_path)
        first = maps_by_path.pop(name)
        same_classes = [logits for logits in maps_by_path.values() if logits.shape[1] == first.shape[1]]
        return (first, *(logits for logits in same_classes if self.training or logits.shape == first.shape))

    def _name(self, maps_by_path: Mapping[str, Tensor]) -> str:
        names = list(maps_by_path)
        if str(self.head) in maps_by_path:
            return str(self.head)
        if len(names) == 1:  # in evaluation, for a network with several outputs only in training
            return names[0]
        if type(self.head) is int and -len(names) <= self.head < len(names):
            return names[self.head]
        raise InputError(
            f"head must be among the network's maps {', '.join(names) or 'none'}, got {self.head!r}; set "
            "--model.head to one of them"
        )


def maps(output: object) -> dict[str, Tensor]:
    """Return the maps (N, K, h, w) in a network's output by position or name; "" is the whole output."""
    maps_by_path = dict[str, Tensor]()
    _gather(output, "", maps_by_path, 0)
    return maps_by_path


def _gather(output: object, path: str, maps_by_path: dict[str, Tensor], depth: int) -> None:
    if isinstance(output, Tensor):
        if output.is_floating_point() and output.ndim == 4:
            maps_by_path[path] = output
        elif output.is_floating_point() and output.ndim == 5:
            maps_by_path.update({_below(path, number): map_ for number, map_ in enumerate(output.unbind(1))})
    elif depth < _DEEPEST:
        for name, part in _parts(output).items():
            _gather(part, _below(path, name), maps_by_path, depth + 1)


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
    return {}
