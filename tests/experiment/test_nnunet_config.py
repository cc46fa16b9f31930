"""Configs of nnU-Net's trainings on volumes: levels, zero and spacing agree between network and data."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seg_mia.data.sets.nnunet import NnUNetVolumes
from seg_mia.errors import InputError
from seg_mia.experiment.nnunet import NnUNetTraining, config_of
from seg_mia.models.nnunet.network import NnUNet
from tests import nnunet_layout as layout


def settings(raw: Path, training: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return arguments of network and data, after both were built."""
    config = config_of(NnUNetTraining(nnunet=str(training), raw=str(raw), folds="0"))
    network = config["model"]["init_args"]["network"]["init_args"]
    data = config["data"]["init_args"]
    assert json.loads(json.dumps(config)) == config
    assert NnUNet(**network).levels == [tuple(levels) for levels in data["levels"]]
    source = NnUNetVolumes(**data).read_source()
    assert source.spacing(0) == (tuple(network["grid"].get("spacing", source.spacing(0))))
    return network, data


def normalised(training: Path, scheme: str, low: float = -80.0, high: float = 120.0) -> Path:
    """Change the normalisation of a training, and return its folder."""
    file = training / "plans.json"
    plans = json.loads(file.read_text())
    plans["configurations"]["3d_fullres"]["normalization_schemes"] = [scheme]
    measured = plans["foreground_intensity_properties_per_channel"]["0"]
    measured |= {"percentile_00_5": low, "percentile_99_5": high}
    file.write_text(json.dumps(plans))
    return training


@pytest.mark.parametrize(
    ("limits", "levels"),
    [((-80.0, 120.0), [-80.0, 120.0]), ((20.0, 90.0), [-1.0, 90.0]), ((-9.0, -3.0), [-9.0, 1.0])],
)
def test_levels_of_ct_are_the_limits_of_its_normalisation_and_hold_zero(
    limits: tuple[float, float], levels: list[float], tmp_path: Path
) -> None:
    training = normalised(layout.volume_training(tmp_path), "CTNormalization", *limits)
    network, data = settings(layout.raw_volumes(tmp_path), training)
    assert network["levels"] == [levels]
    assert "spacing" not in network["grid"]  # volumes differ, and state it
    assert "zero" not in network  # whole numbers
    assert data["batch_size"] == 1


def test_other_levels_are_the_range_of_all_files(tmp_path: Path) -> None:
    raw = layout.raw_volumes(tmp_path, varied=False)
    training = normalised(layout.volume_training(tmp_path), "ZScoreNormalization")
    network, _ = settings(raw, training)
    values = np.concatenate([layout.volume(6 * number)[0].ravel() for number in range(8)])
    assert network["levels"] == [[values.min(), values.max()]]
    assert network["grid"]["spacing"] == list(layout.SPACINGS[0])
    image = layout.volume(0)[0] / 400.0  # floats, within the range
    layout.save_volume(raw / "imagesTr" / "v0_0000.nii.gz", image, layout.SPACINGS[0])
    network, _ = settings(raw, training)
    assert network["zero"] == pytest.approx(1e-6 * (values.max() - values.min()))


def test_images_and_volumes_are_not_confused(tmp_path: Path) -> None:
    training = layout.volume_training(tmp_path)
    raw = layout.raw(tmp_path / "images")
    with pytest.raises(InputError, match=r"must describe files \(.nii.gz, .nii, .nrrd, .mha\)"):
        config_of(NnUNetTraining(nnunet=str(training), raw=str(raw), folds="0"))
