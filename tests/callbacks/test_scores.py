import csv
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from torch import nn

from seg_mia.callbacks.scores import Scores, measures
from seg_mia.data.base import SegmentationData
from seg_mia.data.source import Image, Mask, Source
from seg_mia.tasks.segmentation import Segmentation

HITS = [(4, 4, 4), (4, 4, 0), (2, 6, 1), (0, 3, 0), (0, 0, 0)]
"""Pixels of the true mask, of the predicted one and of both, image by image; 16 pixels in all."""
DICE = [1.0, 0.0, 2 / 8, 0.0, 1.0]
IOU = [1.0, 0.0, 1 / 7, 0.0, 1.0]
ACCURACY = [1.0, 8 / 16, 10 / 16, 13 / 16, 1.0]


class Known(Source):
    """Images that are white where the network will see foreground."""

    ids = groups = ("a", "b", "c", "d", "e")
    channels, classes = 1, 2

    def digest(self, index: int) -> str:
        return f"{index:064x}"

    def decode(self, index: int) -> tuple[Image, Mask]:
        true, seen, both = HITS[index]
        mask, image = np.zeros(16, np.uint8), np.zeros(16, np.uint8)
        mask[:true] = 1
        image[true - both : true - both + seen] = 255
        return image.reshape(4, 4, 1), mask.reshape(4, 4)

    @property
    def settings(self) -> Mapping[str, bool | int | float | str | None]:
        return {}


class KnownData(SegmentationData):
    def read_source(self) -> Source:
        return Known()


class Threshold(nn.Module):
    """Logit 4 for white and -4 for black; the parameter lets an optimiser do nothing of note."""

    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(8.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x - 0.5) * self.slope


@pytest.fixture
def data() -> KnownData:
    """All five images, in batches of 2, 2 and 1."""
    return KnownData(members=5, nonmembers=0, shadow_share=0.0, subset="members", batch_size=2)


def trainer(place: Path, **options: int) -> Trainer:
    return Trainer(
        accelerator="cpu",
        logger=False,
        default_root_dir=place,
        callbacks=[Scores()],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        **options,  # type: ignore[arg-type]  # Lightning declares each option apart
    )


def task() -> Segmentation:
    # From a config the arguments are plain values; Lightning warns of a module given in Python.
    with pytest.warns(UserWarning, match="already saved during checkpointing"):
        return Segmentation(Threshold(), loss="cross_entropy", lr=1e-9)


def cross_entropy() -> list[float]:
    """The mean over 16 pixels of log(1 + exp(-+4)), image by image."""
    right, wrong = float(np.log1p(np.exp(-4))), float(np.log1p(np.exp(4)))
    return [share * right + (1 - share) * wrong for share in ACCURACY]


def test_validation_logs_means_over_images_and_not_over_batches(data: KnownData, tmp_path: Path) -> None:
    run = trainer(tmp_path)
    run.validate(task(), datamodule=data, verbose=False)
    logged = {name: value.item() for name, value in run.callback_metrics.items()}
    expected = {"dice": DICE, "iou": IOU, "pixel_accuracy": ACCURACY, "loss": cross_entropy()}
    assert set(logged) == {f"val/{name}" for name in expected}
    for name, values in expected.items():
        assert logged[f"val/{name}"] == pytest.approx(np.mean(values), abs=1e-6)
        # The mean of the batches' means is another number, or this test would show nothing.
        assert abs(np.mean([np.mean(values[i : i + 2]) for i in (0, 2, 4)]) - np.mean(values)) > 0.01


def test_validation_writes_each_image_and_the_means(data: KnownData, tmp_path: Path) -> None:
    trainer(tmp_path).validate(task(), datamodule=data, verbose=False)
    with (tmp_path / "per_image.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == ["a", "b", "c", "d", "e"]
    for name, values in (("dice", DICE), ("iou", IOU), ("loss", cross_entropy())):
        assert [float(row[name]) for row in rows] == pytest.approx(values, rel=1e-5)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["images"] == 5
    assert summary["dice"] == pytest.approx(np.mean(DICE))


def test_training_logs_means_over_images(data: KnownData, tmp_path: Path) -> None:
    run = trainer(tmp_path, max_epochs=2, limit_val_batches=0)
    run.fit(task(), datamodule=data)
    logged = {name: value.item() for name, value in run.callback_metrics.items()}
    for name, values in (("dice", DICE), ("iou", IOU), ("loss", cross_entropy())):
        assert logged[f"train/{name}"] == pytest.approx(np.mean(values), abs=1e-5)


def test_several_classes_are_averaged_over_the_foreground_and_told_apart() -> None:
    mask = torch.tensor([[[0, 1, 1, 2]], [[0, 0, 0, 1]]])
    prediction = torch.tensor([[[0, 1, 2, 2]], [[0, 0, 1, 1]]])
    values = measures({"prediction": prediction}, mask, 3)
    assert values["dice"].tolist() == pytest.approx([2 / 3, 2 / 3])
    assert values["iou"].tolist() == pytest.approx([1 / 2, 1 / 2])
    assert values["pixel_accuracy"].tolist() == [0.75, 0.75]
    assert values["dice_class1"].tolist() == pytest.approx([2 / 3, 2 / 3])
    assert values["dice_class2"][0].item() == pytest.approx(2 / 3)
    assert values["dice_class2"][1].isnan()  # the class is in neither map
    assert "dice_class0" not in values
