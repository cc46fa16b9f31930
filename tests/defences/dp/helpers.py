"""What tests of private trainings share: how they are started, and what they have left behind."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from opacus.accountants import create_accountant

from seg_mia.checkpoint import read_card
from seg_mia.cli import main
from seg_mia.data.base import SegmentationData
from seg_mia.data.poisson import PoissonBatches
from tests import trainings
from tests.trainings import content, one_error, weights

Draws = list[tuple[int, ...]]

DP = ["--defence", "dp", "--model.defences.accountant=rdp"]
KNOWN = [*DP, "--model.defences.reproducible=true"]
UNLIMITED = ["--model.defences.noise=1", "--model.defences.epsilon=.inf"]
ONE_EPOCH = "--trainer.max_epochs=1"
EVERYTHING = "--data.batch_size=6"
SGD = ["--model.optimizer=sgd", "--model.lr=0.1"]


def with_network(config: Path, path: str, **arguments: Any) -> Path:
    """Write a config beside another one that has another network, under its name."""
    read = yaml.safe_load(config.read_text())
    read["model"]["init_args"]["network"] = {"class_path": path, "init_args": arguments}
    file = config.with_name("other") / config.name
    file.parent.mkdir(exist_ok=True)
    file.write_text(yaml.safe_dump(read))
    return file


def option(name: str, value: object) -> str:
    """Return the word that sets an option of DP-SGD."""
    return f"--model.defences.{name}={value}"


def fit(config: Path, *words: str, runs: str = "runs", dp: Sequence[str] = KNOWN) -> Path:
    """Train, and return the run's folder."""
    assert main(["fit", "--config", str(config), *dp, "--runs", runs, *words]) == 0
    return Path(runs) / "tiny-dp" / "version_0"


def privacy(folder: Path) -> dict[str, Any]:
    found = read_card(folder / "checkpoints" / "last.ckpt", trust=["my_network.Plain"]).privacy
    assert found is not None
    return found


def opacus(promise: dict[str, Any], steps: int | None = None) -> float:
    """Return what Opacus says of a promise's mechanism, step by step."""
    books = create_accountant(mechanism=promise["accountant"])
    for _ in range(promise["steps"] if steps is None else steps):
        books.step(noise_multiplier=promise["noise"], sample_rate=promise["rate"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own numerics, on the safe side
        return float(books.get_epsilon(delta=promise["delta"]))


def same(one: Path, other: Path) -> None:
    """Weights, optimiser, log and accounting are equal to the bit."""
    trainings.same(one, other)
    first, second = content(one), content(other)
    assert first["callbacks"]["DPCallback"] == second["callbacks"]["DPCallback"]
    assert privacy(one) == privacy(other)


def differ(one: Path, other: Path) -> bool:
    first, second = weights(one), weights(other)
    return all(not torch.equal(first[name], second[name]) for name in first)


def refusal(words: Sequence[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run words that must fail, and return the one line they lead to; nothing was trained."""
    capsys.readouterr()
    assert main(list(words)) == 2
    line = one_error(capsys)
    assert not list(Path("runs").glob("**/*.ckpt"))
    assert not list(Path("runs").glob("**/metrics.jsonl"))
    return line


def expected_draws(data: SegmentationData, epochs: int) -> Draws:
    """What the sampler says is drawn in so many epochs."""
    loaded = data.train_dataloader().batch_sampler
    assert isinstance(loaded, PoissonBatches)
    sampler = PoissonBatches(loaded.population, key=loaded.key)
    found = Draws()
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        for step in range(len(sampler)):
            drawn = np.isin(sampler.population.units, sampler.drawn(step))
            found.append((len(found), *data.trained()[drawn].tolist()))
    return found
