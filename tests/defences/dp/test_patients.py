"""A promise for patients: all slices of one are drawn, clipped and counted together."""

from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
import yaml
from torch.testing import assert_close

from seg_mia.cli import main
from seg_mia.defences.dp.mechanism import DPGradient
from seg_mia.experiment.lightning_cli import run
from seg_mia.losses import LOSSES
from tests.defences.dp.helpers import KNOWN, ONE_EPOCH, SGD, UNLIMITED, Draws, expected_draws, privacy


@pytest.fixture
def grouped(small: Path, folder: Callable[..., Path]) -> Path:
    """A config of twelve members: four patients with three slices each."""
    rows = [f"images/s{i:02d}.png,masks/s{i:02d}.png,p{i // 3}\n" for i in range(40)]
    root = folder(count=40)
    (root / "list.csv").write_text("image,mask,patient\n" + "".join(rows))
    read = yaml.safe_load(small.read_text())
    read["data"]["init_args"] |= {
        "manifest": "list.csv",
        "group_column": "patient",
        "members": 12,
        "nonmembers": 6,
        "batch_size": 2,
        "images": ".",
        "masks": ".",
    }
    small.write_text(yaml.safe_dump(read))
    return small


PATIENT = "--model.defences.unit=patient"


def test_a_promise_for_patients_draws_clips_and_counts_patients(
    grouped: Path, draws: Draws, caplog: pytest.LogCaptureFixture
) -> None:
    done = run(["fit", "--config", str(grouped), *KNOWN, *UNLIMITED, PATIENT])
    promise = privacy(done.folder)
    assert "the guarantee is per image" not in caplog.text
    assert (promise["unit"], promise["units"], promise["delta"]) == ("patient", 4, 1 / 40)
    assert (promise["rate"], promise["steps"]) == (0.5, 6)
    whose = done.datamodule.source.groups
    members = done.datamodule.indices("members").tolist()
    for _, *drawn in draws:
        patients = {whose[index] for index in drawn}
        assert drawn == [index for index in members if whose[index] in patients]
    assert draws == expected_draws(done.datamodule, 3)
    assert len(cast(DPGradient, done.model.gradient_computer).norms) == len({whose[i] for i in draws[-1][1:]})


def test_a_step_over_patients_by_hand(grouped: Path) -> None:
    """All four patients in one step of SGD: the mean of their gradients, each clipped to norm 0.01."""
    clip, words = 0.01, [*SGD, ONE_EPOCH, "--data.batch_size=4", "--model.defences.physical_batch=2"]
    exact = ["--model.defences.noise=0", "--model.defences.epsilon=.inf", f"--model.defences.clip={clip}"]
    done = run(["fit", "--config", str(grouped), *KNOWN, PATIENT, *words, *exact])
    start = run(["fit", "--config", str(grouped), ONE_EPOCH, "--model.optimizer=sgd", "--model.lr=1e-12"])
    network, data = start.model.network, done.datamodule
    patients: dict[str, list[int]] = {}
    for index in data.indices("members").tolist():
        patients.setdefault(data.source.groups[index], []).append(index)
    total = [torch.zeros_like(each) for each in network.parameters()]
    for own in patients.values():
        samples = data.dataset(np.array(own))
        rows = [samples[0, row] for row in range(len(own))]
        image, mask = (torch.stack([row[part] for row in rows]) for part in (0, 1))
        loss = LOSSES["dice_cross_entropy"](network(image), mask).mean()
        found = torch.autograd.grad(loss, list(network.parameters()))
        norm = torch.cat([each.flatten() for each in found]).norm()
        assert norm > clip
        total = [kept + each * clip / norm for kept, each in zip(total, found, strict=True)]
    after = list(done.model.network.parameters())
    for weight, before, summed in zip(after, network.parameters(), total, strict=True):
        assert_close(weight, before - 0.1 * summed / 4, rtol=0, atol=1e-7)


def test_a_promise_for_images_warns_where_patients_have_several(
    grouped: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", "--config", str(grouped), *KNOWN, *UNLIMITED, ONE_EPOCH]) == 0
    said = capsys.readouterr().err
    assert "the guarantee is per image, but groups (patients) have up to 3 images" in said
