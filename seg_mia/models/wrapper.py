"""Base class of networks that wrap another network."""

from collections.abc import Callable

from torch import nn


class Wrapper(nn.Module):
    """Network that queries an inner network, its attribute `network`."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network


def bare(network: nn.Module) -> nn.Module:
    """Return the innermost network, which has the encoder and the weights."""
    while isinstance(network, Wrapper):
        network = network.network
    return network


def around_bare(network: nn.Module, make: Callable[[nn.Module], nn.Module]) -> nn.Module:
    """Return the network with its innermost network wrapped by `make`."""
    holder, inner = None, network
    while isinstance(inner, Wrapper):
        holder, inner = inner, inner.network
    if holder is None:
        return make(inner)
    holder.network = make(inner)
    return network
