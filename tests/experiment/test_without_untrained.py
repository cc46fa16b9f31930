"""Shadows that did not train are found by the Dice on their own members, and left out of comparisons."""

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from seg_mia.data.trained_model import TrainedModel
from seg_mia.experiment import recipe


class Side:
    """A network with a Dice on its members, samples 0 and 1, and another on the others."""

    def __init__(self, name: str, dice: float) -> None:
        self.file, self.dice = Path(name), dice
        self.data = SimpleNamespace(source=SimpleNamespace(classes=2), augment="none")

    def judged(self, part: str) -> np.ndarray:
        assert part == "members"
        return np.array([0, 1])


def fleet(*dice: float) -> list[TrainedModel]:
    return cast("list[TrainedModel]", [Side(f"n{number}", value) for number, value in enumerate(dice)])


@pytest.fixture(autouse=True)
def answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four samples, of which the last two are nobody's members and well segmented."""

    def values(side: Any, *_: object, **__: object) -> list[np.ndarray]:
        return [1 - np.array([side.dice, side.dice, 1.0, 1.0])]

    monkeypatch.setattr(recipe, "signal_values", values)
    monkeypatch.setattr(recipe, "pool_of", lambda _: np.arange(4))


def test_a_network_far_below_the_others_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    shadows = fleet(0.9, 0.91, 0.1, 0.92, 0.9, 0.89)
    with caplog.at_level(logging.WARNING):
        assert recipe.without_untrained(shadows, torch.device("cpu")) == [*shadows[:2], *shadows[3:]]
    assert "n2 did not train (Dice 0.100 on its members) and is left out" in caplog.text


def test_networks_that_differ_a_little_or_are_few_stay() -> None:
    for shadows in (fleet(0.9, 0.91, 0.86, 0.92, 0.9, 0.89), fleet(0.9, 0.91, 0.1, 0.92, 0.9)):
        assert recipe.without_untrained(shadows, torch.device("cpu")) == shadows
