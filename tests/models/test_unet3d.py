"""The package's own network for volumes."""

from typing import Any

import pytest
import torch
from torch.testing import assert_close

from seg_mia.errors import InputError
from seg_mia.models.unet3d import UNet3d


@pytest.mark.parametrize("norm", ["group", "instance", "batch", "none"])
@pytest.mark.parametrize(("classes", "size"), [(1, (8, 8, 8)), (3, (5, 9, 6))])
def test_logits_have_the_volumes_size_and_every_weight_a_gradient(
    norm: Any, classes: int, size: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    network = UNet3d(channels=2, classes=classes, width=4, levels=3, norm=norm)
    logits = network(torch.rand(2, 2, *size))
    assert logits.shape == (2, classes, *size)
    logits.square().sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_strides_of_one_keep_slices_apart_at_depth() -> None:
    network = UNet3d(width=2, levels=3, strides=[[1, 2, 2], [1, 2, 2]], norm="none")
    assert network(torch.rand(1, 1, 1, 8, 8)).shape == (1, 1, 1, 8, 8)
    shapes = [tuple(weight.shape[2:]) for weight in network.enlarge.parameters() if weight.ndim == 5]
    assert shapes == [(1, 2, 2), (1, 2, 2)]


def test_each_volume_counts_alone() -> None:
    network = UNet3d(width=4, levels=2)
    x = torch.rand(3, 1, 4, 6, 8)
    assert_close(network(x)[1:2], network(x[1:2]))


@pytest.mark.parametrize(
    "settings", [{"levels": 0}, {"width": 0}, {"strides": [[2, 2, 2]]}, {"levels": 2, "strides": [[2, 2]]}]
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="must be"):
        UNet3d(**settings)


def test_images_and_other_channels_are_refused() -> None:
    for shape in ((1, 1, 8, 8), (1, 2, 8, 8, 8)):
        with pytest.raises(InputError, match="volumes must have shape"):
            UNet3d(width=2, levels=2)(torch.rand(*shape))
