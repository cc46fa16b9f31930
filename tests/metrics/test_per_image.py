import torch
from torch.testing import assert_close

from seg_mia.metrics.per_image import PerImage


def test_rows_come_out_by_index_and_once() -> None:
    gathered = PerImage()
    gathered.update(
        torch.tensor([4, 1]), {"dice": torch.tensor([0.4, 0.1]), "loss": torch.tensor([4.0, 1.0])}
    )
    gathered.update(
        torch.tensor([2, 4]), {"dice": torch.tensor([0.2, 0.4]), "loss": torch.tensor([2.0, 4.0])}
    )
    index, values = gathered.table()
    assert index.tolist() == [1, 2, 4]
    assert_close(values["dice"], torch.tensor([0.1, 0.2, 0.4]).double())
    assert_close(gathered.means()["loss"], 7 / 3)


def test_one_image_stays_a_table() -> None:
    gathered = PerImage()
    gathered.update(torch.tensor([3]), {"dice": torch.tensor([0.5])})
    index, values = gathered.table()
    assert index.shape == values["dice"].shape == (1,)


def test_what_is_not_defined_for_an_image_does_not_count() -> None:
    gathered = PerImage()
    gathered.update(torch.tensor([0, 1]), {"dice_class2": torch.tensor([0.5, torch.nan])})
    assert gathered.means() == {"dice_class2": 0.5}
