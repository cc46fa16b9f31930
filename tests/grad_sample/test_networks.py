"""The sum of clipped gradients of whole networks: one mode against the other, and against Opacus."""

import copy
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from seg_mia.grad_sample.clipping import Clipped, Mode
from seg_mia.models.smp import Smp
from seg_mia.models.unpadded_unet import UnpaddedUNet
from tests.grad_sample.helpers import (
    MODES,
    Uses,
    assert_same,
    clipped,
    every_mode,
    images,
    losses_of,
    trained,
)


def test_residuals_and_activations_in_place() -> None:
    def block(own: Uses, x: Tensor) -> Tensor:
        out: Tensor = own.b(own.a(x).relu_())
        out += x
        return out.relu_()

    torch.manual_seed(0)
    network = Uses(block, a=nn.Conv2d(2, 2, 3, padding=1), b=nn.Conv2d(2, 2, 3, padding=1)).double()
    objective, parameters = losses_of(network, images()), trained(network)
    fused, loop = (clipped(objective, parameters, 5, mode=mode) for mode in MODES)
    assert_same(fused, loop)


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "U-Net, ResNet-18": lambda: Smp(encoder="resnet18", norm="group"),
    "U-Net, EfficientNet-Lite0": lambda: Smp(encoder="tu-tf_efficientnet_lite0", norm="group"),
    "DeepLabV3+, ResNet-18": lambda: Smp(architecture="DeepLabV3Plus", encoder="resnet18", norm="group"),
    "FPN, MobileNetV2": lambda: Smp(architecture="FPN", encoder="mobilenet_v2", norm="group"),
    "SegFormer, MiT-B0": lambda: Smp(architecture="Segformer", encoder="mit_b0", norm="group"),
    "unpadded U-Net": lambda: UnpaddedUNet(channels=1, classes=1, widths=(8, 16)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_real_networks_both_ways(name: str) -> None:
    torch.manual_seed(0)
    network = NETWORKS[name]().double()
    for module in network.modules():
        module.training &= "Drop" not in type(module).__name__
    x = torch.rand(3, 1, 64, 64, dtype=torch.float64)
    mask = (torch.rand(3, 1, 64, 64) > 0.5).double()

    def objective(rows: Tensor) -> Tensor:
        logits: Tensor = network(x[rows])
        true = mask[rows, :, : logits.shape[2], : logits.shape[3]]
        costs = functional.binary_cross_entropy_with_logits(logits, true, reduction="none")
        return costs.flatten(1).mean(1)

    parameters = trained(network)
    loop = clipped(objective, parameters, 3, clip=1e-2, mode="loop")
    assert (loop.norms > 1e-2).all()
    assert_same(clipped(objective, parameters, 3, clip=1e-2, physical=2), loop)


@contextmanager
def quiet() -> Iterator[None]:
    """Import Opacus without its handler on everybody's log, and without its warnings."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


@every_mode
def test_opacus_finds_the_same(mode: Mode) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(2, 8, 3, stride=2, padding=1),
        nn.GroupNorm(4, 8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=4),
        nn.Flatten(2),
        nn.LayerNorm(16),
        nn.Linear(16, 5),
    ).double()
    x = torch.randn(6, 2, 8, 8, dtype=torch.float64) * torch.arange(1, 7).view(-1, 1, 1, 1)
    with quiet():
        from opacus.grad_sample import GradSampleModule

        watched = GradSampleModule(copy.deepcopy(network), loss_reduction="sum")
        torch.autograd.backward(losses_of(watched, x)(torch.arange(6)).sum())
    samples = {name: each.grad_sample for name, each in watched._module.named_parameters()}
    norms = sum(each.flatten(1).square().sum(1) for each in samples.values()).sqrt()
    clip = norms.median().item()
    factors = (clip / norms).clamp(max=1)
    sums = {name: torch.tensordot(factors, each, 1) for name, each in samples.items()}
    found = clipped(losses_of(network, x), trained(network), 6, clip=clip, mode=mode)
    assert_same(found, Clipped(sums, norms))
