"""Canaries in private trainings on sampled batches: what their noisy sums give away, and what they prove."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn
from torch.testing import assert_close

from seg_mia.data.sets.folder import Folder
from seg_mia.defences.base import Defence
from seg_mia.defences.canaries import Canaries
from seg_mia.defences.crop import Crop
from seg_mia.defences.dp.coin_estimates import SampledUnits
from seg_mia.defences.dp.dpsgd import DPSGD
from seg_mia.defences.dp.mechanism import DPGradient
from seg_mia.results.privacy import CanaryResult
from seg_mia.results.text import canary_headline
from seg_mia.tasks.segmentation import Segmentation

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*is an instance of `nn.Module`.*"),  # a config names it instead
    pytest.mark.filterwarnings("ignore:Attribute 'defences' removed from hparams.*"),  # the same
]
Step = tuple[Tensor, Tensor, float]
"""Products, projections and variance of one step."""


class Dropped(nn.Module):
    """Classifier of pixels with dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.drop, self.last = nn.Dropout(0.5), nn.Conv2d(3, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.last(self.drop(x))
        return logits


@pytest.fixture
def data(folder: Callable[..., Path]) -> Callable[..., Folder]:
    """Make a data module of twelve members, of patients with two images each, for steps of ten units."""
    root = folder(count=120)
    rows = [f"images/s{i:02d}.png,masks/s{i:02d}.png,p{i // 2:02d}\n" for i in range(120)]
    (root / "list.csv").write_text("image,mask,patient\n" + "".join(rows))

    def make(**settings: Any) -> Folder:
        listed = {"manifest": "list.csv", "group_column": "patient", "images": ".", "masks": "."}
        sizes = {"members": 12, "nonmembers": 4, "batch_size": 10}
        made = Folder(root=str(root), threshold=127, **(listed | sizes | settings))
        made.setup()
        return made

    return make


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[Step]:
    """What is added to the estimate of the coins, step by step."""
    seen: list[Step] = []
    add = SampledUnits.add

    def watched(self: SampledUnits, products: Tensor, projections: Tensor, variance: float) -> None:
        seen.append((products, projections, variance))
        add(self, products, projections, variance)

    monkeypatch.setattr(SampledUnits, "add", watched)
    return seen


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """Which images each step was taken on."""
    seen: list[list[int]] = []
    step = DPGradient.step

    def watched(self: DPGradient, forward: Any, batch: Any, parameters: Any) -> Any:
        seen.append(batch.index.tolist())
        return step(self, forward, batch, parameters)

    monkeypatch.setattr(DPGradient, "step", watched)
    return seen


def train(
    data: Folder, *further: Defence, network: nn.Module | None = None, epochs: int = 6, **private: Any
) -> tuple[Canaries, CanaryResult]:
    """Train on steps of half of twenty declared units each, two to an epoch, with eight canaries or so."""
    canaries = Canaries(count=8)
    settings = {"noise": 0.01, "epsilon": None, "accountant": "rdp", "reproducible": True, "population": 20}
    task = Segmentation(
        nn.Conv2d(3, 1, 3, padding=1) if network is None else network,
        optimizer="sgd",
        lr=0.05,
        defences=[DPSGD(**(settings | private)), canaries, *further],
    )
    quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    torch.manual_seed(0)
    trainer = Trainer(max_epochs=epochs, accelerator="cpu", enable_checkpointing=False, **quiet)
    trainer.fit(task, datamodule=data)
    return canaries, CanaryResult.model_validate(json.loads(Path("canaries.json").read_text()))


def test_little_noise_gives_sampled_canaries_away_and_only_pairs_are_bounded(
    data: Callable[..., Folder],
) -> None:
    _, found = train(data())
    assert found.white_box is not None
    assert found.white_box.auc == 1  # a canary is in none of twelve steps with a chance of 1/4096
    assert found.gaussian is found.f_dp is found.white_box.gaussian is found.white_box.f_dp is None
    assert found.white_box.one_run is not None
    assert found.white_box.one_run.rule == "one_run"
    assert found.white_box.one_run.epsilon == found.white_box.one_run.attainable
    assert list(found.bounds) == [
        "by a threshold, if samples are independent",
        "by the number of correct guesses",
        "from the noisy sums of sampled steps, by the number of correct guesses",
    ]
    assert f"proved by the coins >= {found.white_box.one_run.epsilon:.2f}" in canary_headline(found)


@pytest.mark.parametrize("unit", ["image", "patient"])
def test_without_noise_a_sum_without_members_is_that_of_the_canaries_drawn(
    unit: str, data: Callable[..., Folder], steps: list[Step], batches: list[list[int]]
) -> None:
    """Of patients, too, whose images are one clipped gradient; a canary is a patient with one image."""
    canaries, _ = train(data(), noise=0.0, unit=unit, epochs=2)
    assert len(steps) == len(batches) == 4
    sizes = set()
    for (products, projections, variance), batch in zip(steps, batches, strict=True):
        present = torch.from_numpy(canaries.inserted & np.isin(canaries.indices, batch)).double()
        assert_close(projections, products @ present, rtol=0, atol=1e-5)
        assert float(products.diagonal().max()) <= 1 + 1e-5  # clipped
        assert variance == pytest.approx(1e-6)
        sizes.add(int(present.sum()))
    assert len(sizes) > 1
    assert max(sizes) < int(canaries.inserted.sum())


def test_scores_follow_the_noise_and_the_divisor_of_the_update(
    data: Callable[..., Folder], steps: list[Step]
) -> None:
    """Over many canaries and steps the noise of a projection has its variance times that of the gradient."""
    train(data(), noise=50.0, epochs=6)
    standard = [
        projections / (variance * products.diagonal()).sqrt() for products, projections, variance in steps
    ]
    values = torch.cat(standard)
    assert {variance for _, _, variance in steps} == {2500.0}
    assert 0.7 < float(values.std()) < 1.3  # 192 of them, which hang together


@pytest.mark.parametrize("kind", ["dropout", "crop", "flip"])
def test_gradients_that_cannot_be_computed_again_have_no_score(
    kind: str, data: Callable[..., Folder], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    further = [Crop()] if kind == "crop" else []
    settings = {"augment": "flip"} if kind == "flip" else {}
    network = Dropped() if kind == "dropout" else None
    _, found = train(data(**settings), *further, network=network, epochs=1)
    assert found.white_box is None
    assert caplog.text.count("canaries have no white-box score") == 1
