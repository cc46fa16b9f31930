"""Classes of the label ids of volumes, from settings."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seg_mia.data.images.label_ids import LabelSetting, RegionSetting, label_table
from seg_mia.data.source import Mask
from seg_mia.errors import InputError


def classes_by_id(
    organs: Sequence[Sequence[int]] | None, labels: LabelSetting | None, regions: RegionSetting | None = None
) -> Mapping[int, int]:
    """Return the class of each label id, from one of two settings; by default id 1 is class 1.

    Args:
        organs: see `organs_of`.
        labels: class by label id, as in `seg_mia.data.images.label_ids.label_table`.
        regions: label ids of labels that may overlap, as there; classes are then their sets.

    Raises:
        InputError: both are given, labels are colours, or 0 is not background.
    """
    table = label_table(labels, regions=regions)
    if table is None:
        return organs_of(organs if organs is not None else [[1]])
    if organs is not None or table.colours or table.classes_of.get(0, 0) != 0:
        raise InputError(
            "labels of volumes must be numbers with 0 as background, and exclude organs, got labels="
            f"{table.text} and organs={organs}; leave out one"
        )
    return dict(table.classes_of)


def organs_of(groups: Sequence[Sequence[int]]) -> dict[int, int]:
    """Return the class of each label id: 1 for the ids of the first group, and so on.

    Raises InputError for an id in two groups, an empty group or no groups.
    """
    classes_of = dict[int, int]()
    for kind, group in enumerate(groups, start=1):
        for label in group:
            if classes_of.setdefault(label, kind) != kind or label < 1:
                raise InputError(
                    f"organs must be label ids from 1, each in one list, got {label}; correct it"
                )
    if not groups or not all(groups):
        raise InputError(f"organs must be lists of label ids, one for each class, got {list(groups)}")
    return classes_of


def classes_in(ids: NDArray[np.unsignedinteger[Any]], classes_of: Mapping[int, int]) -> Mask:
    """Return the class of each label id of a large array, 0 for ids without one."""
    table = np.zeros(int(ids.max(initial=0)) + 1, dtype=np.uint8)
    for label, kind in classes_of.items():
        if label < len(table):
            table[label] = kind
    classes: Mask = table[ids]
    return classes
