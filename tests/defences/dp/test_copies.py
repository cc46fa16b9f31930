"""Augmented copies of an image in a step: their mean gradient is clipped, and the promise stays."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from seg_mia.data.poisson import PoissonBatches, Population
from seg_mia.data.samples import Batch
from seg_mia.defences.dp.checks import choose_mode
from seg_mia.defences.dp.mechanism import DPGradient
from tests.defences.dp.helpers import (
    DP,
    EVERYTHING,
    ONE_EPOCH,
    SGD,
    UNLIMITED,
    fit,
    option,
    privacy,
    refusal,
    same,
)

FLIPS = ["--data.augment=flip", option("copies", 4)]
POPULATION = Population(np.arange(3), 3, 1.0, 2)


def test_copies_follow_one_another_and_are_drawn_anew_in_each_epoch() -> None:
    batches = PoissonBatches(POPULATION, key=0, copies=2)
    assert next(iter(batches)) == [(0, 0), (1, 0), (0, 1), (1, 1), (0, 2), (1, 2)]
    batches.set_epoch(3)
    assert next(iter(batches)) == [(6, 0), (7, 0), (6, 1), (7, 1), (6, 2), (7, 2)]


def test_copies_that_repeat_are_the_same_in_each_epoch() -> None:
    batches = PoissonBatches(POPULATION, key=0, epoch=5, copies=2, repeats=True)
    assert list(batches) == [[(0, 0), (1, 0), (0, 1), (1, 1), (0, 2), (1, 2)]] * 2


@pytest.mark.parametrize(
    ("way", "words"),
    [
        ("fused", [option("gradients", "fused")]),
        ("loop", [option("gradients", "loop")]),
        ("loop", [option("gradients", "loop"), option("physical_batch", 3)]),
        ("loop", [option("gradients", "auto"), option("physical_batch", 3)]),
    ],
)
def test_a_step_sums_the_clipped_means_over_copies(
    way: str, words: list[str], small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against a loop over units and copies, each with a backward pass of its own."""
    steps: list[int] = []
    step = DPGradient.step

    def compared(self: DPGradient, forward: Any, batch: Batch, parameters: Any) -> Any:
        output = step(self, forward, batch, parameters)
        assert self.mode == way
        expected = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
        for index in torch.unique(batch.index):
            rows = torch.nonzero(batch.index == index)[:, 0].tolist()
            assert len(rows) == 4
            assert rows == list(range(rows[0], rows[0] + 4))
            gradients = []
            for row in rows:
                loss = forward(Batch(*(part[[row]] for part in batch)))[0].sum()
                gradients.append(torch.autograd.grad(loss, list(parameters.values())))
            mean = [torch.stack(parts).mean(0) for parts in zip(*gradients, strict=True)]
            norm = torch.cat([part.flatten() for part in mean]).norm()
            for name, part in zip(expected, mean, strict=True):
                expected[name] += part * min(1.0, 0.01 / float(norm))
        assert_close(self.sums, expected, rtol=1e-9, atol=1e-12)
        images = batch.image.flatten(1)
        assert (images[0] != images[1:4]).any()  # four draws of a flip are hardly ever one and the same
        assert_close(images[0].sort().values, images[1].sort().values, rtol=0, atol=0)
        steps.append(len(batch.index))
        return output

    monkeypatch.setattr(DPGradient, "step", compared)
    words = [*words, *UNLIMITED, *SGD, EVERYTHING, *FLIPS, option("clip", 0.01)]
    folder = fit(small, *words, "--trainer.precision=64-true")
    assert steps == [24] * 3
    assert (privacy(folder)["steps"], privacy(folder)["batch"]) == (3, 6)


def test_fused_gradients_are_tried_with_as_many_copies(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []

    def seen(task: Any, data: Any, copies: int) -> str:
        tried.append(copies)
        return choose_mode(task, data, copies)

    monkeypatch.setattr("seg_mia.defences.dp.callback.choose_mode", seen)
    fit(small, *UNLIMITED, EVERYTHING, *FLIPS, ONE_EPOCH)
    assert tried == [4]


def test_the_noise_does_not_depend_on_the_copies(small: Path) -> None:
    with_copies, without = (
        privacy(fit(small, "--trainer.max_epochs=2", *words, runs=f"runs{len(words)}"))
        for words in (FLIPS, ["--data.augment=flip"])
    )
    assert with_copies == without


def test_copies_are_cached_and_change_no_weight(head: Path, encoded: list[int]) -> None:
    """In the first epoch, copies that repeat are those that would have been drawn."""
    words = [
        "--model.frozen=[encoder]",
        option("clipping", "normalise"),
        *UNLIMITED,
        *SGD,
        EVERYTHING,
        *FLIPS,
    ]
    words += ["--model.encoder_weights=imagenet", option("batch_norm", "fixed")]
    plain = fit(head, *words, ONE_EPOCH, runs="plain")
    cached = fit(head, *words, ONE_EPOCH, "--model.cache_features=true", runs="cached")
    same(plain, cached)
    encoded.clear()
    fit(head, *words, "--model.cache_features=true", runs="longer")
    assert encoded.count(24) == 1  # four copies of six images in three epochs


def test_features_of_single_copies_are_not_cached(head: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["fit", "--config", str(head), *DP, "--model.frozen=[encoder]", "--model.cache_features=true"]
    words += ["--model.encoder_weights=imagenet", option("batch_norm", "fixed"), "--data.augment=flip"]
    assert "got --data.augment flip" in refusal(words, capsys)


def test_equal_copies_are_refused(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = refusal(["fit", "--config", str(small), *DP, option("copies", 4)], capsys)
    assert "4 copies of each image need augmentation, got none" in line


def test_keys_of_copies_differ_from_all_indices(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys: list[Tensor] = []
    begin = DPGradient.step

    def seen(self: DPGradient, forward: Any, batch: Batch, parameters: Any) -> Any:
        keys.append(self.private.drawn.copy_keys(batch.index))
        return begin(self, forward, batch, parameters)

    monkeypatch.setattr(DPGradient, "step", seen)
    fit(small, *UNLIMITED, EVERYTHING, *FLIPS, ONE_EPOCH)
    (found,) = keys
    assert len(torch.unique(found)) == len(found) == 24
    assert int(found.min()) >= 40  # as many samples has the folder
