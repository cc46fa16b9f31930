"""An image without a labelled pixel is undefined: it teaches nothing, and counts in no mean and no score."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.testing import assert_close

from seg_mia.cli import main
from seg_mia.data.samples import Batch
from seg_mia.data.sets.folder import Folder
from seg_mia.losses import LOSSES, LossName
from seg_mia.metrics.labels import IGNORE, labelled
from seg_mia.tasks.segmentation import Segmentation

# A task is built by hand here, of which no checkpoint is written.
pytestmark = pytest.mark.filterwarnings("ignore:Attribute 'network' is an instance")
RUN = Path("runs/tiny/version_0")


class Single(nn.Module):
    """One convolution, without anything that images share."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.layer(x)
        return answer


def batch(count: int, bare: int) -> Batch:
    generator = torch.Generator().manual_seed(1)
    image = torch.rand(count, 1, 6, 6, generator=generator)
    mask = (image[:, 0] > 0.5).long()
    mask[:bare] = IGNORE
    return Batch(image, mask, torch.arange(count))


def gradient(task: Segmentation, drawn: Batch) -> tuple[Tensor, Tensor]:
    task.zero_grad()
    output = task.training_step(drawn, 0)
    output["loss"].backward()  # type: ignore[no-untyped-call]
    found = [each.grad.flatten() for each in task.parameters() if each.grad is not None]
    return output["losses"], torch.cat(found)


def test_which_masks_are_labelled() -> None:
    mask = torch.full((3, 2, 2), IGNORE)
    mask[1, 0, 0], mask[2] = 0, 1
    assert labelled(mask).tolist() == [False, True, True]
    assert labelled(mask[:0]).tolist() == []


@pytest.mark.parametrize("loss", list(LOSSES))
def test_it_has_no_say_in_a_batch(loss: LossName) -> None:
    task, whole = Segmentation(Single(), loss=loss), batch(4, 1)
    losses, found = gradient(task, whole)
    assert losses.isnan().tolist() == [True, False, False, False]
    rest = Batch(*(part[1:] for part in whole))
    alone, wanted = gradient(task, rest)
    assert_close(losses[1:], alone)
    assert_close(found, wanted)


@pytest.mark.parametrize("loss", list(LOSSES))
def test_a_batch_of_nothing_else_moves_nothing(loss: LossName) -> None:
    losses, found = gradient(Segmentation(Single(), loss=loss), batch(2, 2))
    assert losses.isnan().all()
    assert found.eq(0).all()


@pytest.fixture
def half_bare(tiny: Path, folder: Callable[..., Path]) -> tuple[Path, set[str]]:
    """Write masks of class ids, of which half of the victim's non-members are ignored as a whole."""
    root = folder(count=16)
    for file in (root / "masks").iterdir():
        Image.fromarray((np.asarray(Image.open(file)) > 127).astype(np.uint8)).save(file)
    data = Folder(root=str(root), members=4, nonmembers=4)
    data.setup()
    names = {data.source.ids[i] for i in data.splits.nonmembers[:2]}
    for name in names:
        Image.fromarray(np.full((32, 32), IGNORE, np.uint8)).save(root / "masks" / f"{name}.png")
    tiny.write_text(
        tiny.read_text().replace("threshold: 127, members: 4, nonmembers: 2", "members: 4, nonmembers: 4")
    )
    return tiny, names


def test_it_counts_in_no_mean_of_a_training_a_validation_or_an_attack(
    half_bare: tuple[Path, set[str]], capfd: pytest.CaptureFixture[str]
) -> None:
    config, bare = half_bare
    assert main(["fit", "--config", str(config)]) == 0
    assert "2 of 8 samples have no labelled pixel" in capfd.readouterr().err
    assert main(["validate"]) == 0
    with (RUN / "validate/version_0/per_image.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["id"] for row in rows if row["dice"] == row["iou"] == row["loss"] == ""} == bare
    summary = json.loads((RUN / "validate/version_0/summary.json").read_text())
    assert (summary["images"], summary["undefined"]) == (4, 2)
    for name in ("dice", "loss", "pixel_accuracy"):
        own = [float(row[name]) for row in rows if row["id"] not in bare]
        assert summary[name] == pytest.approx(np.mean(own), rel=1e-4)
    for attack in (["asma", "--attack.steps=1"], ["medis", "--attack.targeted=false", "--attack.steps=1"]):
        assert main(["test", "--attack", *attack]) == 0
        folder = RUN / attack[0] / "version_0"
        with (folder / "per_image.csv").open() as file:
            attacked = {row["id"] for row in csv.DictReader(file)}
        assert len(attacked) == 2
        assert not attacked & bare
        found = json.loads((folder / "summary.json").read_text())
        assert (found["images"], found["undefined"]) == (2, 2)
