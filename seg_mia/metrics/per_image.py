"""Values per image, gathered over batches and ranks, each image once."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric


class PerImage(Metric):
    """Rows of values, one per image, in index order for any number of ranks.

    An image processed by several ranks or batches counts once, with the mean of its values, so that the
    result does not depend on their number.
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
        """Add images `index` (N,) with their values, each (N,), with the same names at every call."""
        self.names = tuple(values)
        self.index.append(index.detach())
        self.rows.append(torch.stack([value.detach().double() for value in values.values()], dim=1))

    def compute(self) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the indices ascending, (n,), and each name's values in that order, (n,), float64."""
        rows = _joined(self.rows)
        index, position, times = torch.unique(_joined(self.index), return_inverse=True, return_counts=True)
        sums = rows.new_zeros(len(index), rows.shape[1]).index_add_(0, position, rows)
        return index, dict(zip(self.names, (sums / times.unsqueeze(1)).unbind(1), strict=True))

    def table(self) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the result of `compute`, but (1,) for one image, where torchmetrics returns a number."""
        index, values = self.compute()
        return index.reshape(-1), {name: value.reshape(-1) for name, value in values.items()}

    def means(self) -> dict[str, float]:
        """Return each name's mean over images; NaN entries (a class absent from an image) are excluded."""
        return {name: value.nanmean().item() for name, value in self.table()[1].items()}


def _joined(state: Tensor | list[Tensor]) -> Tensor:
    return state if isinstance(state, Tensor) else torch.cat(state)
