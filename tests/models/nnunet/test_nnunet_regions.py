"""nnU-Net's regions: a sigmoid for each, on raw data whose ids become sets of regions."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from seg_mia.checkpoint import load_victim, read_card
from seg_mia.cli import main
from seg_mia.data.images.nnunet_source import NnUNetSource
from seg_mia.data.nnunet_cases import IMAGES, read_labels
from seg_mia.data.sets.nnunet import NnUNetRaw
from seg_mia.errors import InputError
from seg_mia.experiment.folds import fold_signals
from seg_mia.experiment.nnunet import NnUNetTraining, config_of
from seg_mia.metrics.label_sets import label_names
from seg_mia.metrics.overlap import foreground_dice_per_class
from seg_mia.models.heads import predicted
from seg_mia.models.nnunet.network import NnUNet
from seg_mia.models.one_head import OneHead
from seg_mia.models.wrapper import bare
from tests import nnunet_layout as layout

REGIONS = {"background": 0, "whole": [1, 2], "core": 2, "ignore": 3}
FINAL = "checkpoint_final.pth"


def rewrite(file: Path) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | {"labels": REGIONS}))


def folders(place: Path, folds: int = 1) -> tuple[Path, Path]:
    """A training whose first region is the bright square, the second nowhere; squares are core in part."""
    raw, training = layout.raw(place), layout.training(place, folds=folds)
    for folder in (raw, training):
        rewrite(folder / "dataset.json")
    for file in (*raw.glob("labelsTr/*.png"), *raw.glob("labelsTs/*.png")):
        ids = np.array(Image.open(file))
        core = slice(np.flatnonzero(ids.any(0))[4], None)  # all but four columns of the square
        ids[:, core][ids[:, core] == 1] = 2
        ids[0, 0] = 3
        Image.fromarray(ids).save(file)
    for fold in range(folds):
        state = layout.weights(fold)
        state["decoder.seg_layers.0.weight"][:, 0, 0, 0] = torch.tensor([2.0, 0.0])
        state["decoder.seg_layers.0.bias"][:] = torch.tensor([-2.4, -5.0])
        layout.save_checkpoint(training / f"fold_{fold}" / FINAL, state)
    return raw, training


def test_ids_become_sets_of_regions(tmp_path: Path) -> None:
    source = NnUNetSource(folders(tmp_path)[0])
    assert label_names(source.classes) == ("whole", "core")
    ids = np.array(Image.open(source.cases[0].mask))
    expected = np.array([0, 0b01, 0b11, 255], np.uint8)[ids]
    assert set(np.unique(ids)) == {0, 1, 2, 3}
    assert np.array_equal(source.decode(0)[1], expected)
    assert np.array_equal(source.reference(ids), expected)


@torch.no_grad()
def test_the_adopted_network_gives_each_region(tmp_path: Path) -> None:
    raw, training = folders(tmp_path)
    splits = str(tmp_path / "nnUNet_preprocessed" / layout.NAME / "splits_final.json")
    config = config_of(NnUNetTraining(nnunet=str(training), raw=str(raw), splits=splits, folds="0"))
    task = config["model"]["init_args"]
    assert (task["gives"], task["loss"]) == ("multilabel", "label_dice_bce")
    network = NnUNet(**task["network"]["init_args"]).eval()
    network.read_weights(training)
    source = NnUNetSource(raw)
    image, mask = (torch.from_numpy(values) for values in source.decode(0))
    logits = OneHead(network, gives="multilabel").eval()(image.permute(2, 0, 1)[None] / 255)[0]
    dice = foreground_dice_per_class(predicted(logits), mask[None].long(), source.classes)[0]
    assert logits.shape == (1, 4, *mask.shape)
    assert dice[0] > 0.9
    assert dice[1] == 0  # never predicted
    # Outside the crop every region has probability 0, and the empty set 1.
    assert logits[0, :, 0, 1].softmax(0)[0] > 1 - 1e-6


@pytest.mark.parametrize(
    "labels",
    [
        {"background": 0, "core": 2, "whole": [1, 2], "ignore": 3},
        {"background": 0, "whole": [1, 2], "centre": 2, "ignore": 3},
        {"background": 0, "whole": [1, 2], "core": 1, "ignore": 3},
        {"background": 0, "a": 1, "b": 2, "c": 4, "ignore": 3},
    ],
    ids=["order", "names", "ids", "exclusive"],
)
def test_raw_data_with_other_regions_is_refused(tmp_path: Path, labels: dict[str, int | list[int]]) -> None:
    raw, training = folders(tmp_path)
    file = raw / "dataset.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"labels": labels}))
    with pytest.raises(InputError, match=r"must have the regions of the training.*correct --raw$"):
        config_of(NnUNetTraining(nnunet=str(training), raw=str(raw), folds="0"))


@torch.no_grad()
def test_folds_are_measured_by_region(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _, training = folders(tmp_path, folds=3)
    assert main(["adopt", f"--nnunet={training}", "--folds", "all", r"--data.patient=(p\d+)_"]) == 0
    (file,) = Path("runs").glob("*/*/checkpoints/last.ckpt")
    card = read_card(file)
    assert card.data is not None
    data = NnUNetRaw(**card.data["init_args"])
    data.prepare_data()
    data.setup()
    signals = fold_signals(file, card, data, torch.device("cpu"))
    network = bare(load_victim(file))
    assert isinstance(network, NnUNet)
    samples = data.dataset(np.arange(8))
    for position in range(3):
        for case in range(8):
            image, mask, _ = samples[0, case]
            bits = (network.of_fold(position)(image[None]) > 0).long()[0]
            dice = foreground_dice_per_class(
                (bits[0] + 2 * bits[1])[None], mask[None].long(), data.source.classes
            )
            assert signals.dice[position, case] == pytest.approx(float(dice.mean()), abs=1e-6)


@torch.no_grad()
def test_one_region_is_a_network_of_one_channel() -> None:
    plan = {"kind": "plain", "features": [3, 4], "kernels": [3, 3], "strides": [1, 2], "blocks": [1, 1]}
    network = NnUNet(
        architecture={**plan, "decoder": [1], "norm_settings": {"eps": 1e-5, "affine": True}},
        channels=1,
        classes=1,
        patch=[16, 16],
        normalisation=[{"scheme": "ZScoreNormalization"}],
        folds=["0"],
        regions=True,
    )
    logits = OneHead(network.eval(), gives="multilabel").eval()(torch.rand(1, 1, 16, 16))[0]
    assert logits.shape == (1, 2, 16, 16)


def test_more_regions_than_six_are_named(tmp_path: Path) -> None:
    file = tmp_path / "dataset.json"
    names = {f"r{number}": [number, 8] for number in range(1, 8)}
    file.write_text(json.dumps(layout.labels(labels={"background": 0} | names)))
    with pytest.raises(InputError, match="labels that overlap must be 1 to 6 different names"):
        read_labels(file, IMAGES)


@pytest.mark.parametrize("number", ["1e999", "[1, 1e999]"])
def test_numbers_without_end_are_refused(tmp_path: Path, number: str) -> None:
    raw, training = folders(tmp_path)
    for folder in (raw, training):
        file = folder / "dataset.json"
        file.write_text(file.read_text().replace('"core": 2', f'"core": {number}'))
    with pytest.raises(InputError, match=r"must be the dataset.json of nnU-Net v2, got OverflowError"):
        read_labels(raw / "dataset.json", IMAGES)
    with pytest.raises(InputError, match="must hold plans and labels of nnU-Net v2"):
        config_of(NnUNetTraining(nnunet=str(training), raw=str(raw), folds="0"))
