from collections.abc import Callable, Mapping
from pathlib import Path
from shutil import copy
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image as PillowImage
from torch.testing import assert_close

from seg_mia.data.base import SegmentationData
from seg_mia.data.samples import EpochSampler
from seg_mia.data.sets.folder import Folder
from seg_mia.data.source import Image, Mask, Source
from seg_mia.errors import InputError

PARTS = ("members", "nonmembers", "reference")


class Numbers(Source):
    """Sample i: the RGB value (i, 2 i, 3 i) everywhere, foreground in the first i + 1 pixels."""

    channels, classes = 3, 2

    def __init__(self, count: int, size: int = 8) -> None:
        self.ids = self.groups = tuple(f"s{i:03d}" for i in range(count))
        self.size = size
        self.reads = 0

    def digest(self, index: int) -> str:
        return f"{index:064x}"

    def decode(self, index: int) -> tuple[Image, Mask]:
        self.reads += 1
        image = np.empty((self.size, self.size, 3), np.uint8)
        image[:] = (index, 2 * index, 3 * index)
        image[-1, -1] = 255  # one colour alone would be refused
        mask = np.arange(self.size**2).reshape(self.size, self.size) <= index
        return image, mask.astype(np.uint8)

    @property
    def settings(self) -> Mapping[str, bool | int | float | str | None]:
        return {"size": self.size}


class Counted(SegmentationData):
    def __init__(self, count: int = 40, **options: Any) -> None:
        super().__init__(**({"members": 9, "nonmembers": 5} | options))
        self.numbers = Numbers(count)

    def read_source(self) -> Source:
        return self.numbers


def ready(**options: Any) -> Counted:
    data = Counted(**options)
    data.setup()
    return data


def parts(data: SegmentationData) -> dict[str, set[int]]:
    return {name: set(getattr(data.splits, name)) for name in PARTS}


def test_a_sample_is_its_index_its_image_in_0_1_and_its_mask() -> None:
    data = ready()
    samples = data.dataset(np.array([7, 3]))
    for position, number in enumerate((7, 3)):
        image, mask, index = samples[0, position]
        expected = torch.tensor([number, 2 * number, 3 * number]) / 255
        assert image.dtype == torch.float32
        wanted = expected[:, None, None].repeat(1, 8, 8)
        wanted[:, -1, -1] = 1
        assert_close(image, wanted, rtol=0, atol=0)
        assert mask.dtype == torch.int64
        assert mask.shape == (8, 8)
        assert mask.flatten().tolist() == [1] * (number + 1) + [0] * (63 - number)
        assert int(index) == number


def test_batches_hold_every_member_once_with_its_own_image() -> None:
    data = ready(batch_size=4)
    batches = list(data.train_dataloader())
    assert [len(batch.index) for batch in batches] == [4, 4, 1]
    assert sorted(int(i) for batch in batches for i in batch.index) == sorted(data.splits.members)
    for batch in batches:
        assert_close(batch.image[:, 0, 0, 0], batch.index / 255)
        assert (batch.mask.sum((1, 2)) == batch.index + 1).all()


def test_batches_outside_of_training_are_never_larger_than_64() -> None:
    assert ready(batch_size=4).query_batch == 4
    data = ready(batch_size=300)
    assert data.train_dataloader().batch_size == 300
    assert data.val_dataloader().batch_size == data.test_dataloader().batch_size == 64


def drawn(epoch: int = 0, **options: Any) -> list[int]:
    sampler = EpochSampler(**({"count": 23, "shuffle": True, "seed": 5} | options))
    sampler.set_epoch(epoch)
    draws = list(sampler)
    assert len(draws) == len(sampler)
    assert {which for which, _ in draws} == {epoch}
    return [position for _, position in draws]


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    first = drawn()
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002  # the global generator is what must not matter
    assert drawn() == first
    assert sorted(first) == list(range(23)) != first
    orders = [drawn(epoch, seed=seed) for epoch in range(3) for seed in (5, 6)]
    assert len({tuple(order) for order in orders}) == 6


def test_an_epoch_can_be_drawn_again_after_a_later_one() -> None:
    sampler = EpochSampler(23, shuffle=True, seed=5)
    orders = []
    for epoch in (0, 1, 0):
        sampler.set_epoch(epoch)
        orders.append([position for _, position in sampler])
    assert orders[0] == orders[2] != orders[1]


@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
def test_evaluation_shares_the_samples_out_without_repeating_one(ranks: int) -> None:
    shares = [drawn(shuffle=False, rank=rank, ranks=ranks) for rank in range(ranks)]
    assert sorted(position for share in shares for position in share) == list(range(23))
    assert all(share == sorted(share) for share in shares)


def test_no_rank_is_left_without_a_sample() -> None:
    shares = [drawn(count=2, shuffle=False, rank=rank, ranks=5) for rank in range(5)]
    assert shares == [[0], [1], [0], [1], [0]]


@pytest.mark.parametrize("ranks", [1, 2, 3, 5, 7])
def test_in_training_all_ranks_draw_equally_often_and_together_everything(ranks: int) -> None:
    shares = [drawn(2, rank=rank, ranks=ranks) for rank in range(ranks)]
    assert {len(share) for share in shares} == {-(-23 // ranks)}
    assert {position for share in shares for position in share} == set(range(23))
    # Interleaved again, the ranks' shares are what a single rank draws, but for the start-over at the end.
    together = [share[turn] for turn in range(len(shares[0])) for share in shares]
    assert together[:23] == drawn(2)
    assert together[23:] == drawn(2)[: len(together) - 23]


@pytest.mark.parametrize("seed", range(5))
def test_parts_and_roles_are_disjoint_and_as_large_as_asked(seed: int) -> None:
    roles = [parts(ready(split_seed=seed, reference=4, role=role)) for role in ("victim", "shadow")]
    every = [part for role in roles for part in role.values()]
    assert [len(part) for part in every] == [9, 5, 4] * 2
    assert len(set.union(*every)) == 36


def test_reference_takes_what_is_left_and_nothing_is_lost() -> None:
    every = [part for role in ("victim", "shadow") for part in parts(ready(role=role)).values()]
    assert set.union(*every) == set(range(40))
    assert sum(map(len, every)) == 40


def test_the_subset_is_what_is_evaluated_in_a_fixed_order() -> None:
    data = ready()
    for subset in ("members", "nonmembers", "reference"):
        chosen = ready(subset=subset).evaluated().tolist()
        assert chosen == sorted(getattr(data.splits, subset))
    every = ready(subset="all").evaluated().tolist()
    assert every == sorted([*data.splits.members, *data.splits.nonmembers, *data.splits.reference])


def test_the_limit_takes_the_first_and_leaves_training_alone() -> None:
    data, whole = ready(limit=3, batch_size=2), ready()
    for loader in (data.val_dataloader(), data.test_dataloader(), data.predict_dataloader()):
        seen = [int(i) for batch in loader for i in batch.index]
        assert seen == whole.evaluated()[:3].tolist()
    assert len(data.train_dataloader().dataset) == 9  # type: ignore[arg-type]  # a Dataset need not have one
    assert len(ready(limit=1000).evaluated()) == 5


def test_a_subset_without_samples_is_refused() -> None:
    with pytest.raises(InputError, match="no reference in this split"):
        ready(reference=0, subset="reference").evaluated()


def test_a_limit_takes_of_as_many_patients_as_there_can_be() -> None:
    data = ready()
    data.source.groups = tuple("aaaabbbccd" + "e" * 90)[: len(data.source.ids)]
    whole = np.arange(10)
    data.limit = 4
    assert sorted(data.source.groups[i] for i in data.limited(whole)) == ["a", "b", "c", "d"]
    data.limit = 8
    chosen = data.limited(whole)
    assert sorted(data.source.groups[i] for i in chosen) == ["a", "a", "a", "b", "b", "c", "c", "d"]
    assert chosen.tolist() == sorted(chosen.tolist())
    assert data.limited(whole).tolist() == chosen.tolist()
    data.limit = 10
    assert data.limited(whole).tolist() == whole.tolist()


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"workers": -1}, {"limit": 0}])
def test_numbers_out_of_range_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(InputError, match="at least"):
        Counted(**options)


def test_setting_up_twice_changes_and_reads_nothing() -> None:
    data = Counted()
    data.prepare_data()
    data.setup("fit")
    splits, cached, reads = data.splits, data.cached, data.numbers.reads
    data.prepare_data()
    data.setup("test")
    assert data.splits is splits
    assert data.cached is cached
    assert data.numbers.reads == reads == 40


def test_a_second_data_module_reads_the_first_ones_cache() -> None:
    first, second = ready(), ready()
    assert second.numbers.reads == 0
    assert second.fingerprint == first.fingerprint


def squares(root: Path, **options: Any) -> Folder:
    settings: dict[str, Any] = {"root": str(root), "threshold": 127, "members": 3, "nonmembers": 2}
    data = Folder(**(settings | options))
    data.setup()
    return data


def test_one_file_under_two_names_stays_on_one_side(folder: Callable[..., Path]) -> None:
    root = folder(count=14)
    for part in ("images", "masks"):
        copy(root / part / "s00.png", root / part / "copy_of_s00.png")
    for seed in range(25):
        sides = [
            {data.source.ids[i] for i in part}
            for role in ("victim", "shadow")
            for data in [squares(root, role=role, split_seed=seed)]
            for part in parts(data).values()
        ]
        assert sum(bool({"s00", "copy_of_s00"} & side) for side in sides) <= 1


def test_equal_images_with_different_masks_stay_on_one_side(folder: Callable[..., Path]) -> None:
    root = folder(count=14)
    copy(root / "images" / "s00.png", root / "images" / "s01.png")
    for seed in range(25):
        half = squares(root, split_seed=seed).splits
        parts = (half.members, half.nonmembers, half.reference)
        assert all(len({0, 1} & set(part)) in {0, 2} for part in parts)


def batches_of(root: Path, workers: int, epoch: int) -> list[torch.Tensor]:
    loader = squares(
        root, members=5, nonmembers=1, batch_size=2, workers=workers, augment="standard"
    ).train_dataloader()
    assert isinstance(loader.sampler, EpochSampler)
    loader.sampler.set_epoch(epoch)
    return [tensor for batch in loader for tensor in batch]


def test_the_number_of_workers_does_not_change_an_augmented_batch(folder: Callable[..., Path]) -> None:
    root = folder(count=14)
    alone, helped = batches_of(root, 0, 1), batches_of(root, 2, 1)
    assert len(alone) == 9
    for one, other in zip(alone, helped, strict=True):
        assert_close(one, other, rtol=0, atol=0)
    assert not torch.equal(alone[0], batches_of(root, 0, 2)[0])


def test_evaluation_is_never_augmented(folder: Callable[..., Path]) -> None:
    root = folder(count=14)
    for mine, plain in zip(
        squares(root, augment="standard").val_dataloader(), squares(root).val_dataloader(), strict=True
    ):
        for one, other in zip(mine, plain, strict=True):
            assert_close(one, other, rtol=0, atol=0)


def test_sixteen_bits_arrive_in_full(tmp_path: Path) -> None:
    values: list[NDArray[np.uint16]] = []
    for number in range(8):
        pixels = np.arange(number, number + 64, dtype=np.uint16).reshape(8, 8) * np.uint16(900)
        pixels[0, 0], pixels[7, 7] = 0, 65535
        values.append(pixels)
        for part, array in (("images", pixels), ("masks", (pixels > 9000).astype(np.uint8) * np.uint8(255))):
            (tmp_path / "deep" / part).mkdir(parents=True, exist_ok=True)
            PillowImage.fromarray(array).save(tmp_path / "deep" / part / f"s{number}.png")
    data = squares(tmp_path / "deep", channels=1, members=2, nonmembers=1)
    samples = data.dataset(np.arange(8))
    for number, pixels in enumerate(values):
        image, _, _ = samples[0, number]
        assert image.dtype == torch.float32
        assert image.min() == 0
        assert image.max() == 1
        assert_close(image[0].double(), torch.from_numpy(pixels / 65535), rtol=0, atol=1e-7)
