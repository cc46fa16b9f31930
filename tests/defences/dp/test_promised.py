"""What is promised is what was done: the card, the accountant, the budget."""

from dataclasses import asdict
from pathlib import Path

import pytest
from torch.testing import assert_close

from seg_mia.checkpoint import read_card
from seg_mia.cli import main
from seg_mia.defences.dp.accounting import Mechanism
from tests.defences.dp.helpers import EVERYTHING, KNOWN, ONE_EPOCH, UNLIMITED, Draws, fit, opacus, privacy
from tests.trainings import log_of, weights


def test_the_card_tells_what_was_spent_and_nothing_of_the_members(tiny: Path) -> None:
    """Means over members are no function of the noisy weights: they would not keep the promise."""
    folder = fit(tiny, *UNLIMITED, ONE_EPOCH, "--model.defences.clip=0.5")
    card = read_card(folder / "checkpoints" / "last.ckpt")
    assert card.privacy == {
        "epsilon": pytest.approx(opacus(privacy(folder)), rel=1e-12),
        "replace_one": Mechanism(1.0, 1 / 3, 1 / 60, "rdp").replaced(3),
        "delta": 1 / 60,
        "budget": None,
        "unit": "image",
        "neighbours": "blank one, the number of units being public",
        "units": 6,
        "declared": False,
        "batch": 2,
        "permitted": asdict(Mechanism(1.0, 1 / 3, 1 / 60, "rdp").permitted(3)),
        "noise": 1.0,
        "clip": 0.5,
        "rate": 1 / 3,
        "steps": 3,
        "release": 0.0,
        "accountant": "rdp",
        "reproducible": True,
        "pretrained": [],
    }
    assert card.training is not None
    told = set(card.training["metrics"])
    spent = {f"privacy/{name}" for name in ("epsilon", "delta", "noise", "sampling_rate", "steps")}
    assert "val/dice" in told
    assert {name for name in told if not name.startswith("val/")} <= spent
    (logged,) = log_of(folder)
    assert "train/dice" in logged
    assert logged["privacy/epsilon"] == pytest.approx(card.privacy["epsilon"], rel=1e-6)


def test_the_tight_accountant_is_the_default_and_promises_no_more_than_was_asked(small: Path) -> None:
    folder = fit(small, EVERYTHING, "--model.defences.epsilon=4", dp=["--defence", "dp"])
    promise = privacy(folder)
    assert (promise["accountant"], promise["budget"], promise["unit"]) == ("prv", 4, "image")
    assert 3.95 < promise["epsilon"] <= 4
    assert (
        promise["epsilon"] <= opacus(promise) <= promise["epsilon"] + 0.02
    )  # the exact formula, all in a step
    assert promise["permitted"]["by"] == "gaussian"


def test_an_exported_file_keeps_the_promise_and_tells_nobody_apart(
    small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = fit(small, *UNLIMITED, ONE_EPOCH)
    assert "privacy spent: epsilon " in capsys.readouterr().out
    assert main(["export", str(folder), "public.ckpt"]) == 0
    card = read_card("public.ckpt", trust=["my_network.Plain"])
    assert card.privacy == privacy(folder)
    assert (card.split, card.training, card.data) == (None, None, None)


def test_training_stops_before_the_budget_is_exceeded_and_cannot_be_taken_up_again(
    small: Path, draws: Draws
) -> None:
    mechanism = Mechanism(1.0, 1 / 3, 1 / 60, "rdp")
    epsilon = (mechanism.spent(4) + mechanism.spent(5)) / 2
    words = ["--model.defences.noise=1", f"--model.defences.epsilon={epsilon}"]
    folder = fit(small, *words)
    promise, before = privacy(folder), weights(folder)
    assert len(draws) == promise["steps"] == 4  # in the middle of the second of three epochs
    assert promise["epsilon"] == mechanism.spent(4) <= promise["budget"] == epsilon
    assert opacus(promise, 5) > epsilon
    assert (folder / "checkpoints" / "best.ckpt").is_file()
    logged = log_of(folder)[-1]
    assert logged["privacy/steps"] == 4
    assert "val/dice" in logged
    assert main(["fit", "--resume", str(folder), "--trainer.max_epochs=5"]) == 0
    assert len(draws) == 4
    assert privacy(folder) == promise
    assert_close(weights(folder), before, rtol=0, atol=0)


def test_more_epochs_need_more_noise_and_spend_no_more(small: Path, draws: Draws) -> None:
    words = [EVERYTHING, "--model.defences.epsilon=2"]  # one step is an epoch
    short, long = (
        fit(small, *words, f"--trainer.max_epochs={epochs}", runs=f"for{epochs}") for epochs in (2, 7)
    )
    for folder in (short, long):
        assert 1.98 - 1e-9 <= privacy(folder)["epsilon"] <= 2
    assert (privacy(short)["steps"], privacy(long)["steps"]) == (2, 7)
    assert privacy(long)["noise"] > privacy(short)["noise"]
    begun = privacy(short)
    draws.clear()
    assert main(["fit", "--resume", str(short), "--trainer.max_epochs=7"]) == 0
    resumed = privacy(short)
    assert resumed["noise"] == begun["noise"]
    most = max(steps for steps in range(2, 8) if opacus(begun, steps) <= 2)
    assert resumed["steps"] == 2 + len(draws) == most
    assert resumed["epsilon"] <= 2


def test_no_epochs_at_all_are_refused(small: Path) -> None:
    assert main(["fit", "--config", str(small), *KNOWN, *UNLIMITED, "--trainer.max_epochs=0"]) == 2
