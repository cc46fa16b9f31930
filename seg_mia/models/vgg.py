"""Loading of torchvision's VGG-19 weights into the texture auto-encoders."""

from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from seg_mia.errors import InputError
from seg_mia.models.imagenet import MEAN, STD
from seg_mia.models.style_autoencoder import LAYERS, VGG19, TextureAutoEncoders
from seg_mia.models.weights import read_state

PLACES: Final = (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28)
"""Convolutions up to relu5_1 in `torchvision.models.vgg19().features`."""


def load_vgg19(network: TextureAutoEncoders, source: str) -> None:
    """Load weights of the deepest encoder, in place; image normalisation becomes `conv0`.

    Args:
        network: pairs of VGG-19 widths with shared encoders.
        source: "imagenet" (torchvision's weights, downloaded) or a local file of them.

    Raises:
        InputError: missing file, layers that differ from VGG-19, or pairs of other widths.
    """
    state = _downloaded() if source == "imagenet" else read_state(Path(source))
    encoder_state = {}
    for name, position in zip(LAYERS, PLACES, strict=True):
        for part in ("weight", "bias"):
            tensor = state.get(f"features.{position}.{part}")
            if tensor is None:
                raise InputError(
                    f"{source} must hold features.{position}.{part}, as torchvision's vgg19 does; give its "
                    "state dict"
                )
            encoder_state[f"{name}.{part}"] = tensor
    std = torch.tensor(STD)
    encoder_state["conv0.weight"] = torch.diag(1 / std).view(3, 3, 1, 1)
    encoder_state["conv0.bias"] = -torch.tensor(MEAN) / std
    deepest = network.encoders["5"]
    expected = deepest.state_dict()
    wrong = [name for name in expected if expected[name].shape != encoder_state[name].shape]
    if wrong:
        raise InputError(
            f"{source} has {wrong[0]} of {tuple(encoder_state[wrong[0]].shape)}, the encoder "
            f"{tuple(expected[wrong[0]].shape)}; set its widths to {list(VGG19)}"
        )
    deepest.load_state_dict(encoder_state)


def _downloaded() -> dict[str, Tensor]:
    from torchvision.models import VGG19_Weights

    try:
        state: dict[str, Tensor] = VGG19_Weights.IMAGENET1K_V1.get_state_dict(progress=True)
    except OSError as error:
        raise InputError(
            f"VGG-19's weights could not be downloaded ({error}); give a file: --model.vgg FILE"
        ) from None
    return state
