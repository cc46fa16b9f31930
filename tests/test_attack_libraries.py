"""How the comparison with other libraries counts gradients."""

import pytest
import torch
from torch import Tensor, nn

from benchmarks.attack_libraries import Counted, in_turns
from seg_mia.attacks.apgd import apgd
from seg_mia.attacks.pgd import pgd
from tests.attacks.networks import discs, trained


def test_gradients_that_were_taken_are_counted() -> None:
    network, (x, mask) = Counted(trained()), discs(3, 5)
    with torch.no_grad():
        network(x)
    assert network.gradients == 0
    attacks = {
        "pgd": lambda: pgd(network, x, mask, steps=7).images,
        "early": lambda: apgd(network, x, mask, epsilon=0.5, steps=40).images,
    }
    runs = in_turns(attacks, network, 2)
    assert runs["pgd"].gradients == 7
    assert 0 < runs["early"].gradients < 40, "all images have a Dice of 0 before the last step"
    assert all(0 < run.seconds < float("inf") for run in runs.values())


class Failing(nn.Module):
    """A network that does not run."""

    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError(f"no images of {len(x)}\nand more")


def test_an_attack_that_stops_with_an_error_is_listed() -> None:
    network, (x, mask) = Counted(Failing()), discs(2, 5)
    runs = in_turns({"pgd": lambda: pgd(network, x, mask, steps=1).images}, network, 2)
    assert (runs["pgd"].images, runs["pgd"].error) == (None, "RuntimeError: no images of 2")


def test_an_attack_that_changes_the_network_ends_the_comparison() -> None:
    network, (x, mask) = Counted(nn.Sequential(nn.BatchNorm2d(1), trained()).eval()), discs(2, 5)

    def as_a_library_does() -> Tensor:
        network.train(network.training)  # all modules as the outermost
        return pgd(network, x, mask, steps=1).images

    in_turns({"restores": as_a_library_does}, network, 1)
    assert not any(module.training for module in network.modules())

    def careless() -> Tensor:
        network.train()(x)
        return x

    with pytest.raises(RuntimeError, match="careless changed the network"):
        in_turns({"careless": careless}, network, 1)
