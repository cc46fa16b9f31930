import pytest
import torch

from seg_mia.errors import InputError
from seg_mia.metrics.labels import IGNORE, check_labels, padding, padding_of_images, real_slices


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


def framed() -> torch.Tensor:
    """Return a mask (1, 4, 4, 4) of two valid voxels, at (1, 1, 1) and (2, 2, 3): the box is 2 x 2 x 3."""
    mask = torch.full((1, 4, 4, 4), IGNORE)
    mask[0, 1, 1, 1], mask[0, 2, 2, 3] = 0, 1
    return mask


def test_padding_of_volumes_is_outside_the_box_of_valid_voxels() -> None:
    expected = torch.ones(1, 4, 4, 4, dtype=torch.bool)
    expected[0, 1:3, 1:3, 1:] = False
    assert torch.equal(padding(framed()), expected)
    assert padding(torch.full((1, 2, 2, 2), IGNORE)).all()
    assert not padding(torch.full((1, 2, 2), IGNORE)).any()


def test_padding_continues_beyond_a_smaller_mask() -> None:
    whole = padding_of_images(framed(), (4, 6, 6))
    assert torch.equal(whole[:, :, 1:5, 1:5], padding(framed()))
    assert not whole[0, 1:3, 2:4, 5].any()  # beside the box, on the right
    assert whole[0, :, :, 0].all()
    assert padding_of_images(framed()[0], (6, 6)).shape == (4, 6, 6)


def test_slices_of_padding_are_not_real() -> None:
    slices = real_slices(framed())
    assert slices is not None
    assert slices.tolist() == [[False, True, True, False]]
    assert real_slices(framed()[0]) is None
