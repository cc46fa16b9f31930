"""A shadow is a victim's config on the other half of the data, from another seed."""

import json
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import LightningDataModule, LightningModule

from seg_mia.cli import main
from seg_mia.config.options import Layer, options_in
from seg_mia.config.parsing import plain_settings
from seg_mia.errors import InputError
from seg_mia.experiment.lightning_cli import Experiment
from seg_mia.experiment.plan import plan
from seg_mia.experiment.request import requested
from seg_mia.experiment.roles import in_role, of_shadow

HALF = "--data.role=shadow"
FIRST = "--seed_everything=10000"


def layer(**content: Any) -> Layer:
    return Layer(json.dumps(content), content)


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The settings of what `fit` would have trained."""
    seen = list[dict[str, Any]]()

    def fit(self: Experiment, model: LightningModule, datamodule: LightningDataModule) -> None:
        del model, datamodule
        settings = plain_settings(self.config["fit"])
        seen.append({name: value for name, value in settings.items() if name != "config"})

    monkeypatch.setattr(Experiment, "fit", fit)
    return seen


def test_a_role_sets_half_and_seed_and_nothing_else(built: list[dict[str, Any]]) -> None:
    for words in ([], ["--role", "shadow"]):
        assert main(["fit", "--config", "phantom_victim", *words]) == 0
    victim, shadow = built
    assert (victim["seed_everything"], victim["data"]["init_args"]["role"]) == (0, "victim")
    victim["seed_everything"], victim["data"]["init_args"]["role"] = 10_000, "shadow"
    assert shadow == victim
    assert Path("runs/phantom_victim-shadow/version_0").is_dir()


def test_the_shipped_shadow_is_the_victim_in_that_role_for_longer(built: list[dict[str, Any]]) -> None:
    assert main(["fit", "--config", "kvasir_shadow"]) == 0
    assert main(["fit", "--config", "kvasir_victim", "--role=shadow", "--trainer.max_epochs=30"]) == 0
    assert built[0] == built[1]
    assert Path("runs/kvasir_shadow/version_0").is_dir()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--data.size=3"], [FIRST, HALF, "--data.size=3"]),
        (["--seed_everything=5"], [FIRST, HALF, "--seed_everything=5"]),
        (["--data.role=victim"], [FIRST, HALF, "--data.role=victim"]),
        (["--model.lr=1", "--data", "Kvasir", "--data.size=3"],
         [FIRST, "--model.lr=1", "--data", "Kvasir", HALF, "--data.size=3"]),
        (["--data=Kvasir"], [FIRST, "--data=Kvasir", HALF]),
    ],
)  # fmt: skip
def test_what_the_command_line_says_wins(options: list[str], expected: list[str]) -> None:
    given = options_in(options)
    assert in_role([], given, "shadow") == options_in(expected)
    assert in_role([], given, None) == given


@pytest.mark.parametrize(
    ("seeds", "option"),
    [([0], [FIRST]), ([7], ["--seed_everything=10007"]), ([7, 3], ["--seed_everything=10003"]),
     ([True], []), ([None], [FIRST])],
)  # fmt: skip
def test_the_seed_follows_from_the_last_configs(seeds: list[object], option: list[str]) -> None:
    layers = [layer(seed_everything=seed) for seed in seeds]
    assert in_role(layers, [], "shadow") == options_in([*option, HALF])


def test_a_config_may_name_its_role() -> None:
    assert of_shadow([layer(role="shadow")])
    assert of_shadow([layer(data={"init_args": {"role": "shadow"}})])
    assert not of_shadow([layer(role="shadow", data={"init_args": {"role": "victim"}})])
    assert not of_shadow([layer(data={"init_args": {"size": 3}})])
    assert in_role([layer(role="shadow")], [], None) == options_in([FIRST, HALF])
    with pytest.raises(InputError, match="role must be shadow, got 'victim'; leave it out for a victim"):
        in_role([layer(role="victim")], [], None)


@pytest.mark.parametrize(
    "words", [["test", "--attack", "asma"], ["validate"], ["fit", "--resume", "runs/a/version_0"]]
)
def test_a_role_is_for_a_training(words: list[str]) -> None:
    with pytest.raises(InputError, match="--role does not apply to"):
        plan(requested([*words, "--role", "shadow"]))


def test_no_other_role(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--config", "phantom_victim", "--role", "victim"]) == 2
    assert "--role: invalid choice: 'victim'" in capsys.readouterr().err
