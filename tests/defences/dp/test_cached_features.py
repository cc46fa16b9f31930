"""Private training on the cached features of a frozen encoder."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from seg_mia.cli import main
from seg_mia.models.smp import Smp
from tests.defences.dp.helpers import EVERYTHING, SGD, UNLIMITED, fit, option, refusal
from tests.trainings import same, weights

HEAD: dict[str, Any] = {"architecture": "Hypercolumn", "encoder": "resnet18", "channels": 3, "classes": 1}
FROZEN = ["--model.frozen=[encoder]", option("clipping", "normalise"), *UNLIMITED, *SGD, EVERYTHING]


@pytest.fixture
def head(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny config with a pixel classifier on a pre-trained encoder."""
    read = yaml.safe_load(tiny.read_text())
    read["model"]["init_args"]["network"] = {"class_path": "seg_mia.models.smp.Smp", "init_args": HEAD}
    file = tiny.with_name("other") / tiny.name
    file.parent.mkdir(exist_ok=True)
    file.write_text(yaml.safe_dump(read))
    pretrained = Smp(**HEAD).encoder
    for name, buffer in pretrained.named_buffers():
        if name.endswith("running_var"):
            buffer.fill_(0.5)
    monkeypatch.setattr(Smp, "imagenet_encoder", lambda _: pretrained.state_dict())
    return file


def test_the_cache_changes_no_weight(head: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    computed = []
    forward = type(Smp(**HEAD).encoder).forward

    def counted(self: Any, x: Any) -> Any:
        computed.append(len(x))
        return forward(self, x)

    monkeypatch.setattr(type(Smp(**HEAD).encoder), "forward", counted)
    words = [*FROZEN, "--model.encoder_weights=imagenet", option("batch_norm", "fixed")]
    plain = fit(head, *words, runs="plain")
    without = sum(computed)
    computed.clear()
    cached = fit(head, *words, "--model.cache_features=true", runs="cached")
    assert sum(computed) <= without - 2 * 6  # of three epochs with six members, one computes them
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


def test_batch_statistics_are_refused(head: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["fit", "--config", str(head), "--model.frozen=[encoder]", "--model.cache_features=true"]
    assert "(BatchNorm2d) in training mode; for batch normalisation set" in refusal(words, capsys)


def test_a_defence_that_changes_images_is_refused(head: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["fit", "--config", str(head), "--defence", "crop", "--model.frozen=[encoder]"]
    assert main([*words, "--model.cache_features=true"]) == 2
    assert "got defence Crop, which changes them" in capsys.readouterr().err
