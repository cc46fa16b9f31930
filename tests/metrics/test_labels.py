import pytest
import torch

from seg_mia.errors import InputError
from seg_mia.metrics.labels import IGNORE, check_labels


def test_classes_and_ignore_pass() -> None:
    check_labels(torch.tensor([[[0, 1, 2, IGNORE]]]), 3)
    check_labels(torch.zeros(0, 4, 4, dtype=torch.int64), 2)


def test_strange_classes_are_named_at_most_five_of_them() -> None:
    with pytest.raises(
        InputError, match=r"classes 0 to 2, or 255 .*, got \[-3, -2, -1, 3, 4\]; set the number"
    ):
        check_labels(torch.tensor([[[-1, -2, -3, 0, 3, 4, 5, 6]]]), 3)


@pytest.mark.parametrize(
    "labels", [torch.zeros(1, 2, 2), torch.zeros(1, 2, 2).bool(), torch.zeros(2, 2).long()]
)
def test_another_type_or_shape_is_refused(labels: torch.Tensor) -> None:
    with pytest.raises(InputError, match=r"int64 class indices of shape \(N, h, w\)"):
        check_labels(labels, 2)
