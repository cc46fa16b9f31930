from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from seg_mia.data.base import SegmentationData
from seg_mia.data.samples import Batch
from seg_mia.defences.crop import Crop, cropped
from seg_mia.defences.mixup import MixUp, mixed
from seg_mia.defences.poison import Poison, marked, poisoned
from seg_mia.errors import InputError

NETWORK = nn.Identity()  # which these defences do not ask


def same(image: Tensor, mask: Tensor | None = None) -> Batch:
    """Return a batch of images (N, H, W) whose masks are the images, if not given."""
    return Batch(image[:, None], image.long() if mask is None else mask, torch.arange(len(image)))


def numbered(count: int, height: int, width: int) -> Batch:
    """Return images and masks whose every pixel is the image's number."""
    return same(torch.arange(float(count)).view(-1, 1, 1).expand(count, height, width))


def members_only(members: list[int]) -> SegmentationData:
    stored = SimpleNamespace(images=np.zeros((1, 4, 4, 3)), masks=np.zeros((1, 4, 4)))
    listed = np.array(members, dtype=np.int64)
    return cast(SegmentationData, SimpleNamespace(cached=stored, indices=lambda _: listed, patch=None))


def test_a_crop_is_this_square_of_image_and_mask() -> None:
    image = torch.arange(12.0).view(1, 3, 4)
    crop = cropped(same(torch.cat((image, image + 100))), starts=(1, 2), sides=(2, 2))
    assert crop.image[:, 0].tolist() == [[[6, 7], [10, 11]], [[106, 107], [110, 111]]]
    assert crop.mask.tolist() == [[[6, 7], [10, 11]], [[106, 107], [110, 111]]]
    assert crop.index.tolist() == [0, 1]


def test_every_place_is_drawn_and_it_is_the_same_in_the_whole_batch() -> None:
    torch.manual_seed(0)
    batch = same(torch.arange(12.0).view(1, 3, 4).expand(5, 3, 4))
    places = set()
    for _ in range(100):
        crop = Crop(size=2).batch(batch, NETWORK)
        assert torch.equal(crop.image, crop.image[:1].expand(5, 1, 2, 2))
        assert torch.equal(crop.image[:, 0].long(), crop.mask)
        places.add(int(crop.mask[0, 0, 0]))
    assert places == {0, 1, 2, 4, 5, 6}
    assert Crop().batch(numbered(2, 7, 10), NETWORK).image.shape == (2, 1, 3, 3)


@pytest.mark.parametrize(
    ("share", "columns", "cells"), [(0, 0, 0), (0.2, 1, 0), (0.3, 1, 1), (0.5, 2, 1), (0.7, 3, 1), (1, 4, 2)]
)
def test_the_left_part_is_the_partners(share: float, columns: int, cells: int) -> None:
    image, mask = numbered(3, 2, 4).image[:, 0], numbered(3, 1, 2).mask
    batch = same(image.clone(), mask.clone())
    mixture = mixed(batch, torch.tensor([2, 1, 0]), share)
    for n, partner in enumerate([2, 1, 0]):
        assert mixture.image[n, 0].tolist() == [[partner] * columns + [n] * (4 - columns)] * 2
        assert mixture.mask[n].tolist() == [[partner] * cells + [n] * (2 - cells)]
    assert mixture.index.tolist() == [0, 1, 2]
    assert torch.equal(batch.image[:, 0], image)
    assert torch.equal(batch.mask, mask)


def splits(alpha: float, draws: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the drawn shares of the width, of a batch each; all of a batch must be split at one place."""
    torch.manual_seed(0)
    batch, own, shares = numbered(8, 1, 1000), torch.arange(8), []
    for _ in range(draws):
        mixture = MixUp(alpha=alpha).batch(batch, NETWORK)
        assert torch.equal(mixture.image[:, 0].long(), mixture.mask)
        partner = mixture.mask[:, 0, 0]
        assert sorted(partner.tolist()) == list(range(8))
        (width,) = {int((row != n).sum()) for n, row in enumerate(mixture.mask[:, 0]) if partner[n] != n}
        assert torch.equal(mixture.mask[:, 0, width:], own[:, None].expand(8, 1000 - width))
        shares.append(width / 1000)
    return np.sort(shares)


def test_the_split_follows_the_beta_distribution_once_for_each_batch() -> None:
    x = splits(2.0, 400)
    assert abs(x.mean() - 0.5) < 0.04
    assert np.abs(3 * x**2 - 2 * x**3 - np.linspace(0, 1, 400)).max() < 0.09  # Kolmogorov-Smirnov, 0.3 %
    assert np.abs(splits(1e6, 20) - 0.5).max() < 0.01


def test_poisoned_samples_are_stamped_and_emptied_and_the_others_kept() -> None:
    batch = same(torch.full((3, 2, 2), 1.0))
    spoilt = poisoned(batch, torch.tensor([True, False, True]), torch.full((3, 1, 2, 2), 7.0))
    assert spoilt.image[:, 0].flatten(1).tolist() == [[7] * 4, [1] * 4, [7] * 4]
    assert spoilt.mask.flatten(1).tolist() == [[0, 0, 0, 1], [1, 1, 1, 1], [0, 0, 0, 1]]
    assert (spoilt.mask.dtype, spoilt.index.tolist()) == (torch.int64, [0, 1, 2])
    assert torch.equal(batch.mask, torch.ones(3, 2, 2).long())


@pytest.mark.parametrize(
    ("count", "share", "hit"), [(100, 0.1, 10), (7, 0.5, 4), (10, 0, 0), (10, 1, 10), (0, 0.1, 0)]
)
def test_exactly_the_share_is_marked(count: int, share: float, hit: int) -> None:
    assert (len(marked(count, share, 0)), int(marked(count, share, 0).sum())) == (count, hit)


def test_who_is_marked_follows_from_the_seed_and_stays_when_more_are() -> None:
    first = marked(200, 0.2, 3)
    assert torch.equal(marked(200, 0.2, 3), first)
    assert not torch.equal(marked(200, 0.2, 4), first)
    assert marked(200, 0.6, 3)[first].all()


def test_marked_members_are_poisoned_each_time_and_nobody_else() -> None:
    members = [3, 5, 8, 20, 21, 40]
    poison = Poison(probability=0.5, size=2, value=0.25, seed=1)
    poison.check(members_only(members))
    order = torch.tensor([40, 3, 21, 8, 5, 20])
    batch = Batch(torch.ones(6, 3, 4, 4), torch.ones(6, 4, 4).long(), order)
    wanted = [bool(poison.marked[members.index(index)]) for index in order.tolist()]
    for _ in range(3):
        spoilt = poison.sample(batch, NETWORK)
        assert (spoilt.mask[:, 0, 0] == 0).tolist() == wanted
        assert (spoilt.image[:, :, 2:, 2:] == 0.25).all(dim=(1, 2, 3)).tolist() == wanted
    assert sum(wanted) == 3
    assert poison.drawn.tolist() == (3 * poison.marked.long()).tolist()


def test_per_draw_every_sample_is_poisoned_at_the_rate() -> None:
    torch.manual_seed(0)
    poison = Poison(probability=0.3, mode="per_draw")
    poison.check(members_only(list(range(50))))
    batch = Batch(torch.ones(50, 1, 4, 4), torch.ones(50, 4, 4).long(), torch.arange(50))
    hits = torch.stack([poison.sample(batch, NETWORK).mask[:, 0, 0] == 0 for _ in range(100)])
    assert hits.float().mean().item() == pytest.approx(0.3, abs=0.03)
    assert hits.any(0).all()
    assert torch.equal(poison.drawn, hits.sum(0))


@pytest.mark.parametrize("defence", [Crop(), MixUp()])
def test_masks_smaller_than_images_are_refused(defence: Crop | MixUp) -> None:
    stored = SimpleNamespace(images=np.zeros((1, 8, 8, 3)), masks=np.zeros((1, 4, 4)))
    with pytest.raises(InputError, match=r"masks as large as the images, got \(4, 4\) and \(8, 8\)"):
        defence.check(cast(SegmentationData, SimpleNamespace(cached=stored)))
