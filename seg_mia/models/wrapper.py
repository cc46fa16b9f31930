"""A network around a network."""

from collections.abc import Callable

from torch import nn


class Wrapper(nn.Module):
    """What asks another network when it is asked, and holds it as `network`."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network


def bare(network: nn.Module) -> nn.Module:
    """Return the network inside all wrappers: the one that has an encoder and weights."""
    while isinstance(network, Wrapper):
        network = network.network
    return network


def around_bare(network: nn.Module, make: Callable[[nn.Module], nn.Module]) -> nn.Module:
    """Return the network with what `make` puts around the one inside all wrappers."""
    holder, inner = None, network
    while isinstance(inner, Wrapper):
        holder, inner = inner, inner.network
    if holder is None:
        return make(inner)
    holder.network = make(inner)
    return network
