"""Memory that tensors hold at once."""

from typing import Any

from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class HeldMemory(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch types neither
    """Bytes of the storages made inside the context and held at once.

    Attributes:
        peak: the most of them.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live: dict[int, tuple[StorageWeakRef, int]] = {}
        self.peak = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: Any = (), named: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation, and count what it made."""
        before = {self._key(value) for value in tree_leaves((arguments, named)) if isinstance(value, Tensor)}
        result = function(*arguments, **(named or {}))
        self.live = {key: known for key, known in self.live.items() if not known[0].expired()}  # type: ignore[no-untyped-call]
        for value in tree_leaves(result):
            if isinstance(value, Tensor) and self._key(value) not in before:
                storage = value.untyped_storage()
                self.live[self._key(value)] = (StorageWeakRef(storage), storage.nbytes())  # type: ignore[no-untyped-call]
        self.peak = max(self.peak, sum(size for _, size in self.live.values()))
        return result

    @staticmethod
    def _key(value: Tensor) -> int:
        return int(value.untyped_storage()._cdata)


def held_bytes(function: Any, *arguments: Any) -> int:
    """Return the bytes that tensors made by a call held at once."""
    with HeldMemory() as memory:
        function(*arguments)
    peak: int = memory.peak
    return peak
