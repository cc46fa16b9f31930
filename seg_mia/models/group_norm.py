"""Normalisation without batch statistics, as required for per-sample gradients."""

import math
from collections.abc import Collection
from typing import Self

from torch import Tensor, nn

from seg_mia.errors import InputError
from seg_mia.models.wrapper import Wrapper, bare


class ActivatedGroupNorm(nn.GroupNorm):
    """GroupNorm followed by the dropout and activation that some libraries fuse into BatchNorm."""

    def __init__(
        self, groups: int, channels: int, *, drop: nn.Module, act: nn.Module, **kwargs: float | bool
    ) -> None:
        super().__init__(groups, channels, **kwargs)  # type: ignore[arg-type]
        self.drop = drop
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` (N, C, H, W) normalised, then activated."""
        activated: Tensor = self.act(self.drop(super().forward(x)))
        return activated


def with_group_norm(network: nn.Module, *, groups: int = 32, but: Collection[nn.Module] = ()) -> nn.Module:
    """Replace every BatchNorm2d of `network`, in place, by a GroupNorm that keeps its affine weights.

    Layers in `but` do not change. A layer of C channels gets gcd(groups, C) groups (Wu and He 2018 use 32).
    Call before creating an optimiser. Returns `network`, or the new layer if `network` itself is a
    BatchNorm2d.

    Raises:
        InputError: unsupported subclass of BatchNorm2d.
    """
    if isinstance(network, nn.BatchNorm2d):
        return _group_norm(network, groups)
    replaced: dict[nn.Module, nn.Module] = {}  # a layer used twice stays one layer
    for name, layer in list(network.named_modules(remove_duplicate=False)):
        if isinstance(layer, nn.BatchNorm2d) and layer not in but:
            parent, _, attribute = name.rpartition(".")
            new = replaced.setdefault(layer, _group_norm(layer, groups))
            setattr(network.get_submodule(parent), attribute, new)
    return network


class PerSampleNorm(Wrapper):
    """Wrapper of a network without batch statistics in its BatchNorm2d layers.

    Args:
        network: any network.
        fixed: freeze the BatchNorm2d layers of the network's `encoder`: they normalise with pre-trained
            statistics and affine weights and are not trained. All others become GroupNorm, see
            `with_group_norm`.

    Attributes:
        fixed: layers with frozen statistics.

    Raises:
        InputError: `fixed` for a network without an encoder with BatchNorm2d.
    """

    def __init__(self, network: nn.Module, *, fixed: bool = False) -> None:
        encoder = getattr(bare(network), "encoder", None)
        modules = encoder.modules() if fixed and isinstance(encoder, nn.Module) else ()
        batch_norms = [layer for layer in modules if isinstance(layer, nn.BatchNorm2d)]
        if fixed and not batch_norms:
            name = type(bare(network)).__name__
            raise InputError(f"fixed statistics need an encoder with BatchNorm2d, {name} has none; use group")
        super().__init__(with_group_norm(network, but=batch_norms))
        self.fixed = tuple(batch_norms)
        for layer in self.fixed:
            layer.requires_grad_(False)
        self.train(network.training)

    def train(self, mode: bool = True) -> Self:
        """Set the mode of all layers except the frozen ones."""
        super().train(mode)
        for layer in self.fixed:
            layer.eval()
        return self

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return the network's output for `x` (N, C, H, W)."""
        answer: Tensor | tuple[Tensor, ...] = self.network(x)
        return answer


def _group_norm(norm: nn.BatchNorm2d, groups: int) -> nn.GroupNorm:
    count = math.gcd(groups, norm.num_features)
    layer: nn.GroupNorm
    if type(norm) is nn.BatchNorm2d:
        layer = nn.GroupNorm(count, norm.num_features, eps=norm.eps, affine=norm.affine)
    elif isinstance(drop := getattr(norm, "drop", None), nn.Module) and isinstance(norm.act, nn.Module):
        layer = ActivatedGroupNorm(
            count, norm.num_features, drop=drop, act=norm.act, eps=norm.eps, affine=norm.affine
        )
    else:
        raise InputError(
            f"GroupNorm must replace every BatchNorm2d, got an unsupported {type(norm).__name__}; replace it "
            "in the network"
        )
    if norm.affine:
        layer.weight, layer.bias = norm.weight, norm.bias
    return layer.train(norm.training)
