"""Features computed again give the same gradients and statistics; channels last give the same numbers."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from seg_mia.attacks.pgd import pgd
from seg_mia.errors import InputError
from seg_mia.losses import dice_cross_entropy_loss
from seg_mia.models.memory import recompute_features, to_channels_last
from seg_mia.models.nnunet.unet import Architecture, UNet
from seg_mia.models.smp import Smp
from seg_mia.models.unet3d import UNet3d
from seg_mia.models.unpadded_unet import UnpaddedUNet

PLAN = Architecture.read(
    {
        "kind": "plain",
        "features": [4, 8],
        "kernels": [3, 3],
        "strides": [1, 2],
        "blocks": [1, 1],
        "decoder": [1],
    }
)


class Wrapped(nn.Module):
    """An nnU-Net within another module."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = UNet(PLAN, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.inner(x)
        return logits


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "smp": (lambda: Smp(encoder="resnet18", channels=1, dropout=0.5), (2, 1, 32, 32)),
    "volumes": (lambda: UNet3d(width=4, levels=2, norm="batch"), (2, 1, 4, 8, 8)),
    "unpadded": (lambda: UnpaddedUNet(channels=1, widths=(4, 8)), (2, 1, 28, 28)),
    "nnunet": (Wrapped, (2, 1, 16, 16)),
}


def built(name: str) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    make, shape = NETWORKS[name]
    return make(), torch.rand(shape)


def gradients(
    network: nn.Module, x: Tensor, *, training: bool = True
) -> tuple[dict[str, Tensor | None], Tensor, int]:
    """Return gradients of the weights and the image, and the bytes held for the backward pass."""
    image, held = x.clone().requires_grad_(), 0
    network.train(training).zero_grad()

    def counted(tensor: Tensor) -> Tensor:
        nonlocal held
        held += tensor.nbytes
        return tensor

    torch.manual_seed(1)
    with torch.autograd.graph.saved_tensors_hooks(counted, lambda tensor: tensor):
        loss = network(image).sigmoid().square().sum()
    loss.backward()
    assert image.grad is not None
    return {name: weight.grad for name, weight in network.named_parameters()}, image.grad, held


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_and_statistics_of_recomputed_features_are_equal(name: str) -> None:
    plain, x = built(name)
    network = copy.deepcopy(plain)
    recompute_features(network)
    network = copy.deepcopy(network)  # a copy computes with its own weights
    weights, image, held = gradients(plain, x)
    again, image_again, held_again = gradients(network, x)
    assert_close(again, weights)
    assert_close(image_again, image)
    assert held_again < held
    assert_close(dict(network.named_buffers()), dict(plain.named_buffers()))
    assert network.state_dict().keys() == plain.state_dict().keys()


def test_only_networks_with_blocks_can_be_recomputed() -> None:
    with pytest.raises(InputError, match="checkpointing needs a network of blocks"):
        recompute_features(nn.Sequential(nn.Conv2d(1, 1, 1)))


@pytest.mark.parametrize("name", ["smp", "volumes"])
def test_channels_last_change_results_by_rounding(name: str) -> None:
    plain, x = built(name)
    network = copy.deepcopy(plain)
    to_channels_last(network)
    form = torch.channels_last if x.ndim == 4 else torch.channels_last_3d
    assert any(
        weight.is_contiguous(memory_format=form) and not weight.is_contiguous()
        for weight in network.parameters()
        if weight.ndim == x.ndim
    )
    with torch.no_grad():
        assert_close(network.eval()(x), plain.eval()(x), atol=1e-5, rtol=1e-5)
    # In training, batches of two of one pixel at depth would enlarge rounding without bound.
    weights, image, _ = gradients(plain, x, training=False)
    other, image_other, _ = gradients(network, x, training=False)
    assert_close(image_other, image, atol=1e-5, rtol=1e-3)
    assert_close(other, weights, atol=1e-4, rtol=1e-3)


def test_an_attack_with_channels_last_reaches_the_same_loss() -> None:
    plain, x = built("smp")
    network = copy.deepcopy(plain)
    to_channels_last(network)
    mask = (x[:, 0] > 0.5).long()
    reached = [pgd(candidate, x, mask, steps=3).images for candidate in (plain, network)]
    # The sign of a gradient near 0 may differ, of few pixels.
    assert ((reached[0] - reached[1]).abs() > 1e-5).double().mean() < 0.01
    losses = [dice_cross_entropy_loss(plain.eval()(images), mask) for images in reached]
    assert_close(losses[0], losses[1], atol=1e-3, rtol=1e-3)
