"""Averages of weights: what is evaluated and deployed in place of the last step's."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from seg_mia.checkpoint import NETWORK
from seg_mia.cli import main
from seg_mia.defences.dp.average import WeightAverage, share_of_newest
from seg_mia.tasks.segmentation import Segmentation
from tests.defences.dp.helpers import EVERYTHING, KNOWN, SGD, UNLIMITED, fit, option, privacy, same
from tests.trainings import content, killed, weights

WORDS = [*UNLIMITED, *SGD]
Steps = list[dict[str, Tensor]]


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    """The weights after each step, before they are averaged."""
    found: Steps = []
    end = WeightAverage.on_train_batch_end

    def watch(self: WeightAverage, trainer: Any, pl_module: Any, *rest: Any) -> None:
        found.append({name: each.detach().clone() for name, each in pl_module.trained_parameters().items()})
        end(self, trainer, pl_module, *rest)

    monkeypatch.setattr(WeightAverage, "on_train_batch_end", watch)
    return found


def of(folder: Path, names: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return these weights of a run's last checkpoint."""
    found = {name.replace(NETWORK, ""): value for name, value in weights(folder).items()}
    return {name: found[name.replace(NETWORK, "")] for name in names}


def mean(steps: Steps, shares: list[float]) -> dict[str, Tensor]:
    return {
        name: torch.stack([share * step[name] for share, step in zip(shares, steps, strict=True)]).sum(0)
        for name in steps[0]
    }


def test_shares_by_hand() -> None:
    assert [share_of_newest(count, None) for count in (1, 2, 4)] == [1, 0.5, 0.25]
    # w_1, w_2, w_3 at 0.5: (w_1 / 4 + w_2 / 2 + w_3) / (7 / 4), of which the newest has 4 / 7.
    assert [share_of_newest(count, 0.5) for count in (1, 2, 3)] == pytest.approx([1, 2 / 3, 4 / 7])


@pytest.mark.parametrize(
    ("word", "shares"),
    [
        (option("ema", 0.5), [2.0**-5, 2.0**-4, 2.0**-3, 2.0**-2, 2.0**-1, 1.0]),
        (option("tail", 0.5), [0.0, 0.0, 0.0, 1.0, 1.0, 1.0]),
        (option("tail", 1), [1.0] * 6),
        (option("tail", 0.01), [0.0] * 5 + [1.0]),
    ],
)
def test_the_checkpoint_has_the_average_and_training_goes_on_from_the_last(
    word: str, shares: list[float], small: Path, steps: Steps
) -> None:
    limit = ["--trainer.max_epochs=2", "--trainer.precision=64-true"]
    averaged = fit(small, *WORDS, *limit, word)
    assert len(steps) == 6
    expected = mean(steps, [share / sum(shares) for share in shares])
    assert_close(of(averaged, expected), expected, rtol=1e-12, atol=1e-12)
    plain = fit(small, *WORDS, *limit, runs="plain")
    assert_close(of(plain, steps[-1]), steps[-1], rtol=0, atol=0)
    current = content(averaged)["callbacks"]["WeightAverage"]["current"]
    assert_close(current, steps[-1], rtol=0, atol=0)
    assert privacy(averaged) == privacy(plain)


def test_validation_sees_the_average(small: Path, steps: Steps, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: Steps = []
    step = Segmentation.validation_step

    def watch(self: Segmentation, *given: Any) -> Any:
        seen.append({name: each.detach().clone() for name, each in self.trained_parameters().items()})
        return step(self, *given)

    monkeypatch.setattr(Segmentation, "validation_step", watch)
    folder = fit(small, *WORDS, EVERYTHING, option("tail", 1), "--trainer.num_sanity_val_steps=0")
    assert_close(seen[-1], mean(steps, [1 / 3] * 3))
    assert_close(of(folder, seen[-1]), seen[-1], rtol=0, atol=0)


@pytest.mark.parametrize("word", [option("ema", 0.9), option("tail", 0.5)])
def test_a_killed_run_goes_on_as_if_nothing_had_happened(
    word: str, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [*UNLIMITED, "--trainer.max_epochs=3", word]
    whole, broken = fit(tiny, *words, runs="whole"), Path("broken/tiny-dp/version_0")
    killed(["fit", "--config", str(tiny), *KNOWN, *words, "--runs", "broken"], monkeypatch)
    assert main(["fit", "--resume", str(broken)]) == 0
    same(broken, whole)
    averages = [content(run)["callbacks"]["WeightAverage"] for run in (broken, whole)]
    assert averages[0]["count"] == averages[1]["count"] > 0
    assert_close(averages[0]["current"], averages[1]["current"], rtol=0, atol=0)


def test_cached_features_change_no_average(head: Path) -> None:
    words = ["--model.frozen=[encoder]", *WORDS, EVERYTHING, option("ema", 0.5)]
    words += ["--model.encoder_weights=imagenet", option("batch_norm", "fixed")]
    same(fit(head, *words, runs="plain"), fit(head, *words, "--model.cache_features=true", runs="cached"))
