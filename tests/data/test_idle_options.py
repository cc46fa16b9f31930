"""An option that another one leaves without effect is one line, not silence."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from seg_mia.attacks.asma import Asma
from seg_mia.attacks.pgd import Pgd
from seg_mia.config.spec import ClassSpec
from seg_mia.data.sets.btcv import Btcv
from seg_mia.data.sets.folder import Folder
from seg_mia.data.sets.nifti import Nifti
from seg_mia.data.volumes.windows import Windows, windows_of
from seg_mia.errors import InputError, refuse_idle
from seg_mia.experiment.idle import read_resumed, without_idle
from seg_mia.membership.fleet.scorers import Lira


def test_a_setting_at_its_default_counts_as_not_given() -> None:
    refuse_idle("here", size=(3, 3), name=(None, None))
    with pytest.raises(InputError, match="size=4 has no effect here; leave it out, or set it to 3"):
        refuse_idle("here", name=(None, None), size=(4, 3))


@pytest.mark.parametrize(
    ("level", "width", "windows", "percentiles", "telling"),
    [
        (60.0, 400.0, None, [0.5, 99.5], "level=60.0 has no effect beside percentiles"),
        (40.0, 150.0, [[40, 400], [300, 1500]], None, "width=150.0 has no effect beside windows"),
        (60.0, None, [None, [40, 400]], [1, 99], "level=60.0 has no effect beside windows"),
    ],
)
def test_windows_and_percentiles_replace_level_and_width(
    level: float, width: float, windows: Any, percentiles: Any, telling: str
) -> None:
    with pytest.raises(InputError, match=telling):
        windows_of(level, width, windows, percentiles)


def test_null_is_the_usual_window_and_goes_with_both() -> None:
    assert windows_of(None, None, None, None) == windows_of(40.0, 400.0, None, None)
    assert windows_of(None, None, None, [1, 99]) == windows_of(40.0, 400.0, None, [1, 99])
    assert windows_of(None, 300.0, None, None, usual=(75.0, 400.0)).clause.startswith(
        "level 75 with width 300"
    )
    Nifti(root="scans", members=1, nonmembers=1, organs=[[1]], percentiles=[1, 99])
    for given in ({}, {"level": None}, {"level": 75.0, "width": 400.0}):  # earlier runs store what is usual
        assert Btcv(root="scans", members=1, nonmembers=1, percentiles=[1, 99], **given).slicing.windows == (
            Windows(level=75.0, width=400.0, percentiles=(1, 99))
        )
    with pytest.raises(InputError, match=r"level=40\.0 has no effect beside percentiles; .* set it to null"):
        Btcv(root="scans", members=1, nonmembers=1, level=40.0, percentiles=[1, 99])


def test_the_usual_window_of_a_reader_stands_where_none_is_given() -> None:
    assert Btcv(root="scans", members=1, nonmembers=1).slicing.windows == Windows(level=75.0, width=400.0)
    nifti = Nifti(root="scans", members=1, nonmembers=1, organs=[[1]])
    assert nifti.slicing.windows == Windows(level=40.0, width=400.0)


def test_what_is_idle_in_an_earlier_runs_metadata_is_taken_back(tmp_path: Path) -> None:
    def of_card(name: str, **given: Any) -> dict[str, Any]:
        spec: ClassSpec = {"class_path": f"seg_mia.data.sets.{name}", "init_args": given}
        return dict(without_idle(spec)["init_args"])

    folder = {
        "manifest": None,
        "image_column": "x",
        "mask_column": "y",
        "patch": None,
        "patch_foreground": 0.5,
    }
    neutral = {"image_column": "image", "mask_column": "mask", "patch_foreground": 0.33}
    assert of_card("folder.Folder", **folder) == folder | neutral
    used = {"manifest": "list.csv", "image_column": "x", "patch": [8, 8], "patch_foreground": 0.5}
    assert of_card("folder.Folder", **used) == used
    shown = {"level": 60.0, "width": 150.0, "percentiles": [1, 99]}
    assert of_card("btcv.Btcv", **shown) == shown | {"level": None, "width": None}
    assert of_card("btcv.Btcv", **(shown | {"percentiles": None})) == shown | {"percentiles": None}
    assert of_card("stacked.StackedSlices", image_column="x") == {"image_column": "x"}
    other: ClassSpec = {"class_path": "own.Data", "init_args": folder}
    assert without_idle(other) == other
    config = tmp_path / "config.yaml"
    config.write_text(
        yaml.safe_dump({"data": {"class_path": "seg_mia.data.sets.folder.Folder", "init_args": folder}})
    )
    assert read_resumed(config).content["data"]["init_args"] == folder | neutral
    config.write_text("model: {}")
    assert read_resumed(config).source == str(config)


def test_columns_need_a_manifest(folder: Callable[..., Path]) -> None:
    data = Folder(root=str(folder(8)), threshold=127, members=1, nonmembers=1, mask_column="truth")
    with pytest.raises(InputError, match="mask_column=truth has no effect without a manifest"):
        data.prepare_data()


def test_a_share_of_patches_needs_patches() -> None:
    with pytest.raises(InputError, match=r"patch_foreground=0\.5 has no effect without patch"):
        Folder(root="x", members=1, nonmembers=1, patch_foreground=0.5)


@pytest.mark.parametrize(
    ("attack", "settings", "telling"),
    [
        (Asma, {"target_class": 2}, "target_class=2 has no effect on target 'random'"),
        (Asma, {"target": "black", "target_seed": 3}, "target_seed=3 has no effect on target 'black'"),
        (Pgd, {"target_class": 2}, "target_class=2 has no effect on an attack without a target"),
        (Pgd, {"target_seed": 1}, "target_seed=1 has no effect on an attack without a target"),
    ],
)
def test_settings_of_another_target(attack: Any, settings: dict[str, Any], telling: str) -> None:
    with pytest.raises(InputError, match=telling):
        attack(**settings)
    attack(**{name: value for name, value in settings.items() if name == "target"})


def test_a_target_is_taken_back_by_its_neutral_value() -> None:
    with pytest.raises(InputError, match="add targeted true, or set target to random"):
        Pgd(target="black")
    Pgd(target="random", target_class=1, target_seed=0)


def test_the_bayesian_density_has_its_own_centre() -> None:
    for mode in ("online", "offline"):
        with pytest.raises(InputError, match="centre=median has no effect with variance bayesian"):
            Lira(mode=mode, centre="median")
        Lira(mode=mode, centre="median", variance="per_sample")


def test_an_effect_is_guessed_offline_with_its_own_density() -> None:
    with pytest.raises(InputError, match="guess=True has no effect with variance fixed"):
        Lira(mode="offline", guess=True, variance="fixed")
    with pytest.raises(InputError, match="guess=True has no effect with mode online"):
        Lira(guess=True)
