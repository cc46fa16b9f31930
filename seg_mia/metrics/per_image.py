"""Values per image, gathered over batches and ranks, each image once."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric


class PerImage(Metric):
    """Rows of values, one per image, in the order of their indices however many ranks made them.

    An image that several ranks or batches saw counts once, so that a mean does not depend on their number.
    """

    full_state_update = False
    index: list[Tensor]
    rows: list[Tensor]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("index", default=[], dist_reduce_fx="cat")
        self.add_state("rows", default=[], dist_reduce_fx="cat")
        self.names: tuple[str, ...] = ()

    def update(self, index: Tensor, values: Mapping[str, Tensor]) -> None:
        """Add images `index` (N,) with their values, each (N,), the same names at every call."""
        self.names = tuple(values)
        self.index.append(index.detach())
        self.rows.append(torch.stack([value.detach().double() for value in values.values()], dim=1))

    def compute(self) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the indices ascending, (n,), and each name's values in that order, (n,), float64."""
        index = _joined(self.index)
        rows = _joined(self.rows)
        order = index.argsort(stable=True)
        index, rows = index[order], rows[order]
        first = torch.ones_like(index, dtype=torch.bool)
        first[1:] = index[1:] != index[:-1]
        return index[first], dict(zip(self.names, rows[first].unbind(1), strict=True))

    def table(self) -> tuple[Tensor, dict[str, Tensor]]:
        """Return what `compute` does, but (1,) for one image, of which torchmetrics makes a number."""
        index, values = self.compute()
        return index.reshape(-1), {name: value.reshape(-1) for name, value in values.items()}

    def means(self) -> dict[str, float]:
        """Return each name's mean over images; NaN entries (a class absent from an image) do not count."""
        return {name: value.nanmean().item() for name, value in self.table()[1].items()}


def _joined(state: Tensor | list[Tensor]) -> Tensor:
    return state if isinstance(state, Tensor) else torch.cat(state)
