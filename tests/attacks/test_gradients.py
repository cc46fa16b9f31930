import pytest
import torch
from torch import Tensor

from seg_mia.attacks.gradients import EVERY, input_gradient, watched
from seg_mia.errors import InputError


def gradient(value: float = 1.0) -> Tensor:
    images = torch.ones(2, 1, 2, 2, requires_grad=True)
    return input_gradient((value * images).sum(), images)


def test_a_gradient_alone_is_looked_at_at_once() -> None:
    assert (gradient(3) == 3).all()
    with pytest.raises(InputError, match="gradient must be finite"):
        gradient(torch.nan)


def attack(values: list[float], taken: list[float]) -> None:
    with watched():
        for value in values:
            gradient(value)
            taken.append(value)
        if len(values) == 1:
            raise ZeroDivisionError


@pytest.mark.parametrize("position", [0, 1, 4])
def test_one_of_several_that_is_no_number_is_told_at_the_end(position: int) -> None:
    values, taken = [1.0] * 5, list[float]()
    values[position] = torch.inf
    with pytest.raises(InputError, match="gradient must be finite"):
        attack(values, taken)
    assert len(taken) == 5


def test_an_attack_goes_on_for_so_many_gradients_at_most() -> None:
    values, taken = [1.0] * 3 * EVERY, list[float]()
    values[EVERY + 1] = torch.nan
    with pytest.raises(InputError, match="gradient must be finite"):
        attack(values, taken)
    assert len(taken) == 2 * EVERY - 1


def test_another_error_is_told_as_it_is_unless_a_gradient_was_no_number() -> None:
    with pytest.raises(ZeroDivisionError):
        attack([1.0], [])
    with pytest.raises(InputError, match="gradient must be finite") as raised:
        attack([torch.nan], [])
    assert isinstance(raised.value.__context__, ZeroDivisionError)


def test_gradients_of_an_attack_within_another_are_its_own() -> None:
    with watched():
        gradient()
        with pytest.raises(InputError, match="gradient must be finite"), watched():
            gradient(torch.nan)
        gradient()
    assert (gradient() == 1).all()
