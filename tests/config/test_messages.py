import argparse
from importlib import import_module
from typing import Literal

import pytest
from jsonargparse import ArgumentParser
from torch import nn

from seg_mia.attacks.base import Perturbation
from seg_mia.config.messages import LIMIT, one_line, refusal
from seg_mia.data.base import SegmentationData
from seg_mia.errors import InputError
from seg_mia.membership.base import Membership


class Numbers:
    def __init__(
        self,
        steps: int = 3,
        sizes: list[int] | None = None,
        limit: int | None = None,
        kind: Literal[64, 32] | Literal["half", "bf16-mixed"] | None = None,
        flag: bool | float = False,
    ) -> None:
        self.steps, self.sizes, self.limit, self.kind, self.flag = steps, sizes, limit, kind, flag


@pytest.fixture
def trainer_is_there() -> None:
    """Its options are known once it is imported."""
    import_module("lightning.pytorch")


NAMED = [
    "--guess=seg_mia.membership.base.Membership",
    "--guess.signal=seg_mia.membership.signals.ImageLoss",
    "--guess.scorer=seg_mia.membership.scorers.Threshold",
    "--network=torch.nn.Module",
]


def message(*words: str) -> str:
    """What jsonargparse says of words that do not fit."""
    parser = ArgumentParser(exit_on_error=False, allow_abbrev=False)
    parser.add_subclass_arguments(Perturbation, "attack")
    parser.add_subclass_arguments(SegmentationData, "data", required=False)
    parser.add_subclass_arguments(Membership, "guess", required=False)
    parser.add_subclass_arguments(nn.Module, "network", required=False)
    parser.add_class_arguments(Numbers, "numbers")
    with pytest.raises(argparse.ArgumentError) as caught:
        parser.parse_args(["--attack=seg_mia.attacks.asma.Asma", *NAMED, *words])
    return str(caught.value)


@pytest.mark.parametrize(
    ("words", "telling"),
    [
        (["--numbers.steps=many"], ["steps", "many"]),
        (["--numbers.sizes=[1,two]"], ["sizes", "two"]),
        (["--numbers.size=1"], ["size"]),
        (["--nonsense"], ["nonsense"]),
        (["--attack.steps=many"], ["steps", "many"]),
        (["--attack.keep=worst"], ["keep", "worst"]),
        (["--attack.speed=3"], ["speed", "beta", "tau"]),
        (["--attack=seg_mia.attacks.asma.Nothing"], ["Nothing"]),
        (["--attack=seg_mia.data.sets.phantom.Phantom"], ["Phantom"]),
        (["--data=Phantom", "--data.pateints=3"], ["pateints", "patients", "split_seed"]),
    ],
)
def test_a_long_message_becomes_one_line_that_tells(words: list[str], telling: list[str]) -> None:
    line = one_line(message(*words))
    assert "\n" not in line
    assert 10 < len(line) <= LIMIT
    assert "<class '" not in line
    for word in telling:
        assert word in line


def test_the_options_name_comes_first() -> None:
    line = one_line(message("--numbers.steps=many"))
    assert line.startswith("--numbers.steps: ")


@pytest.mark.parametrize("text", ["", "\n - \n", "Errors:\n"])
def test_a_message_without_a_telling_line_is_still_a_line(text: str) -> None:
    assert one_line(text)


def test_the_refusal_is_found_below_what_others_raised_over_it() -> None:
    def nested(*, hidden: bool) -> BaseException:
        try:
            try:
                raise InputError("lr must be above 0")
            except InputError as inner:
                if hidden:
                    raise ValueError("while building") from None
                raise TypeError("while building") from inner
        except (TypeError, ValueError) as outer:
            return outer

    for error in (nested(hidden=True), nested(hidden=False), InputError("lr must be above 0")):
        assert str(refusal(error)) == "lr must be above 0"
    assert refusal(ValueError("something else")) is None


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--numbers.steps=many"], "--numbers.steps: expected int, got many"),
        (["--numbers.limit=many"], "--numbers.limit: expected int or null, got many"),
        (["--numbers.kind=8"], "--numbers.kind: expected 64, 32, half, bf16-mixed or null, got 8"),
        (["--numbers.sizes=many"], "--numbers.sizes: expected list[int] or null, got many"),
        (["--numbers.flag=maybe"], "--numbers.flag: expected bool or float, got maybe"),
        (["--attack.keep=worst"], "--attack.keep: expected best or last, got worst"),
        (["--attack.steps=many"], "--attack.steps: expected int, got many"),
        (["--data=Phantm"], "--data: no class 'Phantm', write its path, module.Class, did you mean Phantom?"),
        (["--numbers.size=1"], "unrecognized arguments: --numbers.size=1, did you mean --numbers.sizes?"),
        (["--trainer.max_epoch=1"], "unrecognized arguments: --trainer.max_epoch=1, did you mean "
                                    "--trainer.max_epochs?"),
        (["--xyz=1"], "unrecognized arguments: --xyz=1"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("trainer_is_there")
def test_a_line_shows_all_that_is_accepted_and_what_came(words: list[str], line: str) -> None:
    assert one_line(message(*words), ["numbers.sizes", "numbers.steps"]) == line


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--attack.step=3"], "--attack: Option 'step' is not accepted, did you mean steps? Asma takes beta"),
        (
            ["--guess.scorer.epochs=3"],
            "--guess.scorer: Option 'epochs' is not accepted; Threshold takes rule",
        ),
        (["--network.lr=3"], "--network: Option 'lr' is not accepted: no config sets the class of Module"),
    ],
)
def test_the_class_that_refuses_an_option_says_what_it_takes(words: list[str], line: str) -> None:
    assert one_line(message(*words)).startswith(line)


def test_an_option_that_a_config_has_wrong_is_compared_with_those_known() -> None:
    line = one_line("Subcommand 'fit' does not accept option 'trainer.max_epoch'")
    assert line.endswith("did you mean trainer.max_epochs?")
    assert one_line("Option 'tust' is not accepted") == "Option 'tust' is not accepted"
