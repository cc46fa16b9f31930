"""A polyp victim on the real images, trained and fooled as the README says, with some room."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from seg_mia.cli import main

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def all_cores() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(os.cpu_count() or 1)
    yield
    torch.set_num_threads(threads)


def test_a_victim_learns_polyps_and_draws_another_images_mask(shared: Path) -> None:
    weights = shared / "data" / "weights" / "efficientnet_lite0" / "tf_efficientnet_lite0_timm_keys.pth"
    data, start = f"--data.root={shared / 'data' / 'kvasir_seg'}", f"--model.encoder_weights={weights}"
    assert main(["fit", "--config", "kvasir_victim", data, start]) == 0
    run = Path("runs/kvasir_victim/version_0")
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["val/dice"] >= 0.78
    assert last["train/dice"] > last["val/dice"] + 0.1  # members and non-members can be told apart
    assert main(["test", "--attack", "asma", "--data.limit=32"]) == 0
    summary = json.loads((run / "asma" / "version_0" / "summary.json").read_text())
    mean = {name: value["mean"] for name, value in summary["results"].items()}
    assert (summary["images"], summary["unchanged"]) == (32, 0)
    assert mean["iou_before"] < 0.3
    assert mean["iou"] >= 0.97
    assert mean["l2"] <= 1.2
    assert mean["iou_8bit"] > 0.9
    assert mean["dice_adversarial"] < mean["dice_clean"] - 0.3
