"""Private training on the cached features of a frozen encoder."""

from pathlib import Path

import pytest

from seg_mia.cli import main
from tests.defences.dp.helpers import EVERYTHING, SGD, UNLIMITED, fit, option, refusal
from tests.trainings import same, weights

FROZEN = ["--model.frozen=[encoder]", option("clipping", "normalise"), *UNLIMITED, *SGD, EVERYTHING]


def test_the_cache_changes_no_weight(head: Path, encoded: list[int]) -> None:
    words = [*FROZEN, "--model.encoder_weights=imagenet", option("batch_norm", "fixed")]
    plain = fit(head, *words, runs="plain")
    without = sum(encoded)
    encoded.clear()
    cached = fit(head, *words, "--model.cache_features=true", runs="cached")
    assert sum(encoded) <= without - 2 * 6  # of three epochs with six members, one computes them
    same_weights = weights(plain), weights(cached)
    assert same_weights[0].keys() == same_weights[1].keys()
    same(plain, cached)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data.augment=flip"], "got --data.augment flip"),
        (["--model.frozen=null"], "got conv1.weight in training; set --model.frozen"),
    ],
)
def test_what_would_change_is_refused(
    head: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["fit", "--config", str(head), "--model.frozen=[encoder]", "--model.cache_features=true", *words]
    assert message in refusal(given, capsys)


def test_adapters_of_the_encoder_are_refused(head: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["fit", "--config", str(head), "--model.frozen=[encoder]", "--model.cache_features=true"]
    words += ["--model.network.adapters=scale_shift", "--model.network.adapted=[layer4.*]"]
    assert "got one with trained adapters" in refusal(words, capsys)


def test_batch_statistics_are_refused(head: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["fit", "--config", str(head), "--model.frozen=[encoder]", "--model.cache_features=true"]
    assert "(BatchNorm2d) in training mode; for batch normalisation set" in refusal(words, capsys)


def test_a_defence_that_changes_images_is_refused(head: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["fit", "--config", str(head), "--defence", "crop", "--model.frozen=[encoder]"]
    assert main([*words, "--model.cache_features=true"]) == 2
    assert "got defence Crop, which changes them" in capsys.readouterr().err
