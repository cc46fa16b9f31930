"""What a private training draws: its batches, and the secret that batches and noise follow from."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from seg_mia.cli import main
from seg_mia.defences.dp.mechanism import DPGradient
from seg_mia.experiment.lightning_cli import run
from tests.defences.dp.helpers import (
    DP,
    KNOWN,
    ONE_EPOCH,
    UNLIMITED,
    Draws,
    differ,
    expected_draws,
    fit,
    privacy,
    same,
)
from tests.trainings import log_of, weights


def test_each_batch_is_the_one_that_was_drawn_and_some_are_empty(small: Path, draws: Draws) -> None:
    words = [*KNOWN, *UNLIMITED, "--data.batch_size=1", "--trainer.max_epochs=5"]
    done = run(["fit", "--config", str(small), *words])
    assert len(draws) == 30
    assert draws == expected_draws(done.datamodule, 5)
    assert 0 < sum(len(draw) == 1 for draw in draws) < 30
    members = set(done.datamodule.indices("members").tolist())
    assert {index for draw in draws for index in draw[1:]} == members
    assert privacy(done.folder)["steps"] == 30
    logged = log_of(done.folder)
    assert [line["privacy/steps"] for line in logged] == [6, 12, 18, 24, 30]
    assert all(math.isfinite(value) for line in logged for value in line.values())


def test_a_secret_draws_batches_and_noise_unless_they_are_to_be_reproducible(small: Path) -> None:
    words = [ONE_EPOCH, *UNLIMITED]
    secret, other = (fit(small, *words, runs=runs, dp=DP) for runs in ("a", "b"))
    known, again = (fit(small, *words, runs=runs) for runs in ("c", "d"))
    same(known, again)
    assert differ(secret, other)
    assert differ(secret, known)
    assert (privacy(secret)["reproducible"], privacy(known)["reproducible"]) == (False, True)


def test_what_a_step_draws_besides_follows_from_the_secret_and_not_from_the_run(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dropout and defences: with the run's seed, one unit would change what others draw from there on."""
    seen: list[int] = []
    step = DPGradient.step

    def watch(self: DPGradient, forward: Any, batch: Any, parameters: Any) -> Any:
        seen.append(torch.initial_seed())
        return step(self, forward, batch, parameters)

    monkeypatch.setattr(DPGradient, "step", watch)
    words = [*UNLIMITED, "--trainer.max_epochs=2"]
    for runs, dp in (("a", DP), ("b", DP), ("c", KNOWN), ("d", KNOWN)):
        fit(small, *words, runs=runs, dp=dp)
    one, other, known, again = seen[:6], seen[6:12], seen[12:18], seen[18:]
    assert len({*one, *other, *known}) == 18
    assert known == again


def test_two_runs_without_a_logger_share_no_secret_either(small: Path) -> None:
    """Equal noise would drop out of the difference of their weights."""
    words = ["fit", "--config", str(small), *DP, *UNLIMITED, ONE_EPOCH, "--trainer.logger=false"]
    found = []
    for number in range(2):
        assert main(words) == 0
        found.append(weights(Path(f"runs/tiny-dp/version_{number}")))
    assert all(not torch.equal(found[0][name], found[1][name]) for name in found[0])
