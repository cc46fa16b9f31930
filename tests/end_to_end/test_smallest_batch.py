"""A batch that a normalisation layer refuses is found before the first epoch, not after it."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn
from torch.testing import assert_close

from seg_mia.cli import main
from seg_mia.data.sets.folder import Folder
from seg_mia.errors import InputError
from seg_mia.tasks.smallest_batch import check_batches

Squares = Callable[..., Path]


class Pooled(nn.Module):
    """Logits that a pooled branch shifts, after a normalisation over what is left of an image: one value."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.body, self.norm = nn.Conv2d(3, 1, 1), norm

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.body(x)
        shift: Tensor = self.norm(logits.mean((2, 3), keepdim=True))
        return logits + shift


def data(root: Path, members: int, batch: int) -> Folder:
    found = Folder(root=str(root), threshold=127, members=members, nonmembers=2, batch_size=batch)
    found.prepare_data()
    found.setup()
    return found


def trainer() -> Trainer:
    return Trainer(accelerator="cpu", devices=1, logger=False, enable_checkpointing=False)


# Batches of an epoch: 2 2 1, 4 1, 3 2, 5, 1 1 1 1 1, 1; the largest size up to the one asked for that leaves
# no batch of one; where all do, the next.
@pytest.mark.parametrize(
    ("members", "batch", "remedy"),
    [(5, 2, "batch_size 3"), (5, 4, "batch_size 3"), (5, 3, None), (5, 8, None), (5, 1, "batch_size 3"),
     (1, 4, "more --data.members")],
)  # fmt: skip
def test_a_batch_of_one_is_refused_with_the_size_that_leaves_none(
    folder: Squares, members: int, batch: int, remedy: str | None
) -> None:
    found = data(folder(count=20), members, batch)
    if remedy is None:
        check_batches(Pooled(nn.BatchNorm2d(1)), found, trainer())
        return
    with pytest.raises(InputError, match="leave a batch of one image") as refused:
        check_batches(Pooled(nn.BatchNorm2d(1)), found, trainer())
    assert remedy in str(refused.value)


def test_where_no_batch_would_do_the_size_of_images_is_named(folder: Squares) -> None:
    with pytest.raises(InputError, match="batches of 4 images of 32x32.*raise --data.size"):
        check_batches(Pooled(nn.InstanceNorm2d(1)), data(folder(count=20), 4, 4), trainer())


def test_the_network_stays_as_it_was(folder: Squares) -> None:
    network = Pooled(nn.BatchNorm2d(1)).eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    torch.manual_seed(3)
    state = torch.get_rng_state()
    check_batches(network, data(folder(count=20), 6, 3), trainer())
    assert not network.training
    assert torch.equal(torch.get_rng_state(), state)
    for name, value in network.state_dict().items():
        assert_close(value, before[name], rtol=0, atol=0)


def test_no_epoch_is_begun(tiny: Path, folder: Squares, capsys: pytest.CaptureFixture[str]) -> None:
    folder(count=20)
    before, after = "members: 4, nonmembers: 2", "size: 8, members: 5, nonmembers: 2"
    tiny.write_text(tiny.read_text().replace(before, after))
    assert main(["fit", "--config", str(tiny)]) == 2  # three stages halve 8 pixels to one
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "seg_mia: error:" in line]
    assert "5 images in batches of 2 leave a batch of one image" in line
    assert not Path("runs/tiny").exists()
