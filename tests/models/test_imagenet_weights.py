"""ImageNet weights in timm's key names, as a file brings them."""

import os
from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from seg_mia.errors import InputError
from seg_mia.models.smp import Smp
from seg_mia.models.weights import load_encoder

LITE = "timm-tf_efficientnet_lite0"  # of smp
TU_LITE = "tu-tf_efficientnet_lite0"  # of timm
TEST_DATA = os.environ.get("SEG_MIA_TEST_DATA")

pytestmark = pytest.mark.skipif(TEST_DATA is None, reason="SEG_MIA_TEST_DATA names no folder of real data")


@pytest.fixture
def file() -> Path:
    return Path(str(TEST_DATA), "data/weights/efficientnet_lite0/tf_efficientnet_lite0_timm_keys.pth")


@pytest.mark.parametrize("encoder", [LITE, TU_LITE])
def test_every_tensor_of_the_encoder_is_that_of_the_file(file: Path, encoder: str) -> None:
    network = Smp(encoder=encoder, channels=3)
    load_encoder(network, file)
    state = torch.load(file, weights_only=True)
    named = {**state, **{f"model.{key}": tensor for key, tensor in state.items()}}
    for key, tensor in network.get_submodule("encoder").state_dict().items():
        assert torch.equal(tensor, named[key]), key


def test_features_are_those_of_timm(file: Path) -> None:
    network = Smp(encoder=TU_LITE, channels=3).eval()
    load_encoder(network, file)
    reference: Any = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    reference.load_state_dict(torch.load(file, weights_only=True))
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        expected = reference.forward_intermediates(x, intermediates_only=True)
        features = network.encoder(x)
    for mine, theirs in zip(features[1:], expected, strict=True):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("encoder", [LITE, TU_LITE])
def test_a_grey_image_is_seen_as_its_rgb_replication(file: Path, encoder: str) -> None:
    grey, colour = (Smp(encoder=encoder, channels=c, normalise="none").double().eval() for c in (1, 3))
    load_encoder(grey, file)
    load_encoder(colour, file)
    x = torch.rand(2, 1, 64, 64).double()
    with torch.no_grad():
        pairs = zip(grey.encoder(x)[1:], colour.encoder(x.expand(-1, 3, -1, -1))[1:], strict=True)
    for mine, theirs in pairs:
        torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-6)


def test_another_encoder_is_refused(file: Path) -> None:
    with pytest.raises(InputError, match="does not fit encoder resnet18: missing: conv1.weight"):
        load_encoder(Smp(encoder="resnet18"), file)
