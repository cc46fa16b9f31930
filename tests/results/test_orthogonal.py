"""Three slices of a volume as one picture."""

import torch
from torch.testing import assert_close

from seg_mia.results.orthogonal import OrthogonalSlices


def test_images_stay_as_they_are() -> None:
    image, mask = torch.rand(3, 4, 5), torch.ones(4, 5, dtype=torch.int64)
    shown = OrthogonalSlices(mask)
    assert shown(image) is image
    assert shown(mask) is mask


def test_slices_meet_in_the_fullest_and_stand_head_up() -> None:
    mask = torch.zeros(2, 3, 4, dtype=torch.int64)
    mask[1, 2, 3] = 1
    volume = torch.arange(24.0).view(1, 2, 3, 4)
    sheet = OrthogonalSlices(mask)(volume)
    assert sheet.shape == (1, 3 + 2, 4 + 3)
    assert_close(sheet[0, :3, :4], volume[0, 1])
    assert_close(sheet[0, 3:, :4], volume[0, :, 2].flip(0))
    assert_close(sheet[0, 3:, 4:], volume[0, :, :, 3].flip(0))
    assert not sheet[0, :3, 4:].any()
    assert OrthogonalSlices(mask)(mask)[3:, :4].tolist() == [[0, 0, 0, 1], [0, 0, 0, 0]]


def test_sides_are_in_proportion_to_the_spacing() -> None:
    mask = torch.zeros(4, 10, 20, dtype=torch.int64)
    sheet = OrthogonalSlices(mask, (5.0, 1.0, 2.0))(torch.rand(1, 4, 10, 20))
    assert sheet.shape == (1, 10 + 4 * 5, 20 * 2 + 10)


def test_a_large_volume_is_reduced_and_a_smaller_mask_is_centred() -> None:
    mask = torch.ones(4, 4, 4, dtype=torch.int64)
    assert OrthogonalSlices(mask)(torch.rand(1, 4, 4, 4)).shape == (1, 8, 8)
    wide = torch.ones(30, 2000, 2000, dtype=torch.uint8)
    assert max(OrthogonalSlices(wide)(wide).shape) <= 514
    shown = OrthogonalSlices(mask)
    assert shown(torch.ones(2, 2, 2, dtype=torch.int64)).shape == (8, 8)
