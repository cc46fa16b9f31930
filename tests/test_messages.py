import argparse

import pytest
from jsonargparse import ArgumentParser

from seg_mia.attacks.base import Perturbation
from seg_mia.data.base import SegmentationData
from seg_mia.errors import InputError
from seg_mia.messages import LIMIT, one_line, refusal


class Numbers:
    def __init__(self, steps: int = 3, sizes: list[int] | None = None) -> None:
        self.steps, self.sizes = steps, sizes


def message(*words: str) -> str:
    """What jsonargparse says of words that do not fit."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(Perturbation, "attack")
    parser.add_subclass_arguments(SegmentationData, "data", required=False)
    parser.add_class_arguments(Numbers, "numbers")
    with pytest.raises(argparse.ArgumentError) as caught:
        parser.parse_args(["--attack=seg_mia.attacks.asma.Asma", *words])
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
        (["--attack=seg_mia.data.phantom.Phantom"], ["Phantom"]),
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


def test_types_are_shown_as_they_are_written() -> None:
    assert one_line("Expected a <class 'int'>. Got value: many") == "Expected a int. Got value: many"
