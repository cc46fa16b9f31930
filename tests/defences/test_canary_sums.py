"""Canaries in private trainings on sampled batches: what their noisy sums give away, and what they prove."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor, nn

from seg_mia.cli import main
from seg_mia.data.sets.folder import Folder
from seg_mia.defences.canaries import Canaries
from seg_mia.defences.crop import Crop
from seg_mia.defences.dp.canary_gradients import GradientScores
from seg_mia.defences.dp.coin_estimates import CoinEstimate, SampledUnits
from seg_mia.defences.dp.dpsgd import DPSGD
from seg_mia.membership.certify import one_run_lower_bound
from seg_mia.results.privacy import CanaryResult
from seg_mia.results.text import canary_headline

COUNT = 8
STEPS = "--trainer.max_epochs=6"
"""Epochs of two steps at rate 1/2: a canary is in none of them with a chance of 1/4096."""


class Dropped(nn.Module):
    """Pixel classifier with dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.last, self.drop = nn.Conv2d(3, 1, 3, padding=1), nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.drop(x))


@pytest.fixture
def sampled(tiny: Path, folder: Callable[..., Path]) -> Path:
    """Six patients with three members in all, canaries, and steps of half of twenty declared units."""
    root = folder(count=60)
    rows = [f"images/s{i:02d}.png,masks/s{i:02d}.png,p{i // 2:02d}\n" for i in range(60)]
    (root / "list.csv").write_text("image,mask,patient\n" + "".join(rows))
    text = tiny.read_text().replace("members: 4, nonmembers: 2", "members: 6, nonmembers: 4")
    tiny.write_text(text)
    return tiny


def words(config: Path, **private: Any) -> list[str]:
    """Return the words for a private training of sampled steps with canaries."""
    settings = {"noise": 0.01, "epsilon": None, "accountant": "rdp", "reproducible": True, "population": 20}
    parts = {"dp.dpsgd.DPSGD": settings | private, "canaries.Canaries": {"count": COUNT}}
    found = ["fit", "--config", str(config), "--data.batch_size=10", STEPS]
    for number, (name, arguments) in enumerate(parts.items()):
        spec = {"class_path": f"seg_mia.defences.{name}", "init_args": arguments}
        Path(f"part{number}.yaml").write_text(yaml.safe_dump(spec))
        found += ["--defence", f"part{number}.yaml"]
    return found


def result(runs: str = "runs") -> CanaryResult:
    (file,) = Path(runs).glob("*/version_0/canaries.json")
    return CanaryResult.model_validate(json.loads(file.read_text()))
