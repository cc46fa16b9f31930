import pytest
import torch
from torch.testing import assert_close

from seg_mia.errors import InputError
from seg_mia.membership.views import cropped, patches, turned


def test_turning_flips_each_map_by_itself_and_changes_nothing_else() -> None:
    maps = torch.arange(64.0).repeat(200, 1).view(200, 1, 8, 8)
    views = turned(maps, torch.Generator().manual_seed(0))
    known = [maps[0], maps[0].flip(1), maps[0].flip(2), maps[0].flip(1, 2)]
    found = [next(n for n, one in enumerate(known) if torch.equal(one, view)) for view in views]
    assert sorted(set(found)) == [0, 1, 2, 3]
    assert max(found.count(n) for n in range(4)) < 80


def test_a_crop_is_a_part_of_its_own_map() -> None:
    maps = torch.arange(100.0).view(1, 1, 10, 10) + 1000 * torch.arange(50.0).view(50, 1, 1, 1)
    parts = cropped(maps, 4, torch.Generator().manual_seed(0))
    assert parts.shape == (50, 1, 4, 4)
    starts = parts[:, 0, 0, 0] - 1000 * torch.arange(50.0)
    assert_close(parts[:, 0] - parts[:, :1, :1, 0], maps[0, 0, :4, :4].expand(50, 4, 4))
    assert starts.min() >= 0
    assert len(set(starts.tolist())) > 20


def test_patches_cover_the_map_and_overlap() -> None:
    maps = torch.arange(70.0).view(1, 1, 7, 10)
    squares = patches(maps, 4)
    assert squares.shape[2:] == (1, 4, 4)
    assert set(squares.flatten().tolist()) == set(range(70))
    assert patches(maps, 7).shape[1] == 2
    assert patches(torch.rand(3, 2, 8, 8), 8).shape == (3, 1, 2, 8, 8)
    assert patches(torch.rand(3, 2, 16, 16), 8).shape == (3, 9, 2, 8, 8)


@pytest.mark.parametrize("view", [cropped, patches])
def test_a_patch_must_fit(view: object) -> None:
    assert callable(view)
    with pytest.raises(InputError, match="patch must fit into the maps of 7x10, got 8"):
        view(torch.rand(1, 1, 7, 10), 8)


def test_a_crop_of_a_volume_lies_in_the_box_of_real_voxels_or_holds_it() -> None:
    real = torch.zeros(60, 2, 9, 12, dtype=torch.bool)
    real[:, :, 2:4, 3:10] = True
    maps = torch.stack((torch.arange(12.0).expand(60, 2, 9, 12), real.float()), dim=1)
    parts = cropped(maps, 4, torch.Generator().manual_seed(0), real=real)
    lefts = set(parts[:, 0, 0, 0, 0].tolist())
    assert lefts == {3, 4, 5, 6}  # 3 to 9 hold a square of 4
    assert (parts[:, 1].flatten(2).sum(2) == 2 * 4).all()  # both rows, which are fewer than a square's
    whole = torch.ones_like(real)
    same = [cropped(maps, 4, torch.Generator().manual_seed(1), real=box) for box in (None, whole)]
    assert torch.equal(*same)
