from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.metadata import parse_session_start_info_plugin_data as started

from seg_mia.cli import main
from tests.trained_runs import Trained

pytestmark = pytest.mark.usefixtures("drawn")


def events(folder: Path) -> EventAccumulator:
    found = EventAccumulator(str(folder), size_guidance={"images": 0, "scalars": 0})
    found.Reload()
    return found


@pytest.fixture
def run(tiny: Path, trained: Trained) -> Path:
    return trained(tiny, "--trainer.max_epochs=2", "--trainer.log_every_n_steps=1")


def test_a_training_shows_its_curves_pictures_and_settings(run: Path) -> None:
    found = events(run)
    tags = found.Tags()
    per_epoch = {"train/loss", "train/dice", "train/iou", "val/loss", "val/dice", "val/iou"}
    assert per_epoch | {"train/loss_step"} <= set(tags["scalars"])
    for name in per_epoch:
        assert len(found.Scalars(name)) == 2, name
    assert [event.step for event in found.Scalars("train/loss_step")] == [0, 1, 2, 3]
    for name in ("train/dice", "val/dice", "val/iou"):
        assert all(0 <= event.value <= 1 for event in found.Scalars(name))

    assert set(tags["images"]) == {"val/panel"}
    pictures = found.Images("val/panel")
    assert [picture.step for picture in pictures] == [0, 1]  # the first epoch and the last
    assert pictures[0].width > 3 * 100

    content = found.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    settings = started(content).hparams
    assert settings["model.lr"].number_value == 0.01
    assert settings["data.members"].number_value == 4
    assert settings["model.network.encoder"].string_value == "tu-test_resnet"
    # An experiment of one run would hide the settings of all others.
    assert [tag for tag in tags["tensors"] if "experiment" in tag] == []


def test_an_attack_shows_its_course_and_pictures(run: Path) -> None:
    words = ["test", "--attack", "asma", "--attack.steps=4", "--attack.history_every=2"]
    assert main(words) == 0
    found = events(run / "asma" / "version_0")
    tags = found.Tags()
    assert set(tags["images"]) == {"attack/panel", "attack/history"}
    assert {"attack_steps/iou", "attack_steps/l2", "attack/iou", "attack/l2"} <= set(tags["scalars"])
    distance = found.Scalars("attack_steps/l2")
    assert [event.step for event in distance] == [0, 2, 4]
    assert distance[0].value == 0
    assert all(0 <= event.value <= 1 for event in found.Scalars("attack_steps/iou"))


def test_a_validation_shows_its_panel(run: Path) -> None:
    assert main(["validate"]) == 0
    found = events(run / "validate" / "version_0")
    assert found.Tags()["images"] == ["val/panel"]
    (score,) = found.Scalars("val/dice")
    assert score.value == pytest.approx(events(run).Scalars("val/dice")[-1].value, abs=1e-6)
