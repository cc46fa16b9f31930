from pathlib import Path

import pytest
from torch import nn

from seg_mia.audit.settings import Defended, Settings, Training, row_key, rows
from seg_mia.checkpoint import Card
from seg_mia.defences.release import Labels
from seg_mia.errors import InputError
from seg_mia.runs import defence_names
from seg_mia.tasks.segmentation import Segmentation


def said(*defences: str | Defended, victim: str | Training = "phantom_victim", shadow: str = "s") -> Settings:
    return Settings(victim=victim, attacks=[], defences=list(defences), shadow=shadow)


def test_a_name_is_a_defence_a_release_or_none() -> None:
    found = rows(
        said("none", "argmax", "crop", Defended(defence=["mixup"], release="rounded", adaptive=True))
    )
    assert [row.called for row in found] == ["none", "argmax", "crop", "mixup + rounded"]
    assert found[1].release == "argmax"
    assert found[1].trained == found[0].trained != found[2].trained
    assert row_key(found[3]) == ("mixup + rounded", True)
    assert rows(said()) == [Defended()]


def test_rows_that_say_what_is_not_done_are_refused(tmp_path: Path) -> None:
    run = str(tmp_path)
    for settings, telling in (
        (said("nothing"), "known names are none, canaries, crop"),
        (said("crop", "crop"), "must differ"),
        (said(Defended(release="argmax", adaptive=True)), "no defence that a shadow could be trained with"),
        (said(Defended(config="no_such")), "no_such"),
        (said("crop", victim=run), "is trained already"),
        (said("crop", victim=Training(run)), "is trained already"),
        (said(Defended(options={"model.lr": 1.0}), victim=run), "is trained already"),
        (said(Defended(defence=["crop"], adaptive=True), shadow=run), "is trained already"),
    ):
        with pytest.raises(InputError, match=telling):
            rows(settings)
    assert len(rows(said("none", "argmax", victim=run, shadow=run))) == 2
    assert len(rows(said(Defended(config="phantom_dp"), Defended(config="phantom_dp", adaptive=True)))) == 2


@pytest.mark.filterwarnings("ignore:.*is an instance of `nn.Module`.*")  # a config names it instead
def test_a_release_is_no_part_of_a_training() -> None:
    with pytest.raises(InputError, match="--release NAME"):
        Segmentation(nn.Conv2d(1, 1, 1), defences=[Labels()])


def test_defences_of_a_card_that_holds_anything_are_read() -> None:
    for model in ({}, {"init_args": None}, {"init_args": {"defences": 3}}):
        assert defence_names(Card(model, 2, 1)) == []
    listed = [{"class_path": "seg_mia.defences.crop.Crop"}, 7]
    assert defence_names(Card({"init_args": {"defences": listed}}, 2, 1)) == ["Crop"]
