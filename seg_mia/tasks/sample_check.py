"""Check of a network on a few samples before training or attack."""

import torch
from torch import Tensor, nn

from seg_mia.data.base import SegmentationData
from seg_mia.errors import InputError
from seg_mia.metrics.label_sets import label_names
from seg_mia.models.heads import class_count, heads
from seg_mia.models.one_head import maps
from seg_mia.models.user_errors import reason_with_location

MOST = 32
"""Number of checked images."""
_SIDES = (32, 64, 128, 224, 256, 512)


def check_one_sample(network: nn.Module, data: SegmentationData) -> None:
    """Run one sample; raise InputError if image, network and mask are incompatible."""
    image, mask, _ = data.dataset(data.evaluated()[:1])[0, 0]
    output = tried(network, image)
    try:
        outputs = heads(output)  # type: ignore[arg-type]  # what it is, is asked here
    except TypeError as error:
        raise InputError(str(error)) from None
    if outputs[0].shape[2:] != mask.shape:
        raise InputError(
            f"the network's logits are {tuple(outputs[0].shape[2:])} where the masks are "
            f"{tuple(mask.shape)}; set --model.resize true to enlarge them, or crop the masks to the output "
            "of a network with unpadded convolutions, or wrap it in seg_mia.models.adapter.InputAdapter with "
            "its divisor as `multiple`"
        )
    for logits in outputs:
        names = label_names(data.source.classes)
        if names and class_count(logits) != data.source.classes:
            raise InputError(
                f"the network has {logits.shape[1]} channels, the data has {len(names)} labels that may "
                f"overlap ({', '.join(names)}); set --model.network.classes to {len(names)}, a logit for each"
            )
        if class_count(logits) != data.source.classes:
            raise InputError(
                f"the network has {class_count(logits)} classes (logits {tuple(logits.shape)}), the data has "
                f"{data.source.classes}; set --model.network.classes to {data.source.classes} (1 logit for 2 "
                "classes)"
            )


def tried(network: nn.Module, image: Tensor) -> object:
    """Return a network's output for one image (C, H, W); its exceptions become one line with a remedy."""
    try:
        return answered(network, image[None])
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"the network cannot take an image of channels, height, width {tuple(image.shape)}: "
            f"{reason_with_location(error)}; {_remedy(network, image)}"
        ) from error


def answered(network: nn.Module, images: Tensor) -> object:
    """Return the output for images (N, C, H, W) in evaluation mode, then restore the network's mode."""
    modes = [(module, module.training) for module in network.modules()]
    device = next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
    network.eval()
    try:
        with torch.no_grad():
            return network(images.to(device))
    finally:
        for module, training in modes:
            module.training = training


def _remedy(network: nn.Module, image: Tensor) -> str:
    """Return a remedy, found by testing inputs that the network accepts."""
    channels, height, width = image.shape
    for count in (1, 3, 2, 4):
        if count != channels and _takes(network, (1, count, height, width)):
            return (
                f"it takes {count} channel{'s'[: count != 1]}: set its channels, or --data.channels {count}"
            )
    for side in _SIDES:
        rounded = (-(-height // side) * side, -(-width // side) * side)
        if rounded != (height, width) and _takes(network, (1, channels, *rounded)):
            return (
                f"it takes {rounded[0]}x{rounded[1]}: set its size or --data.size, or wrap it in "
                f"seg_mia.models.adapter.InputAdapter with multiple {side}"
            )
    if _takes(network, (1, channels, 32, 32, 32)) or _takes(network, (1, channels, 64, 64, 64)):
        return "it takes volumes, and networks in 3-D are not supported: give one that predicts slices"
    return "set its channels or size, or wrap it in seg_mia.models.adapter.InputAdapter"


def _takes(network: nn.Module, shape: tuple[int, ...]) -> bool:
    try:
        return bool(maps(answered(network, torch.zeros(shape))))
    except Exception:  # noqa: BLE001  (whatever it raises, it does not take them)
        return False


def labelled(data: SegmentationData) -> tuple[Tensor, Tensor]:
    """Return up to 32 evaluated images (n, C, H, W) and their masks (n, h, w).

    Images with foreground come first.
    """
    chosen = data.evaluated()
    samples = data.dataset(chosen)
    drawn = [samples[0, position] for position in range(min(len(chosen), 4 * MOST))]
    drawn.sort(key=lambda sample: not bool(((sample.mask > 0) & (sample.mask < 255)).any()))
    selected = drawn[:MOST]
    return torch.stack([sample.image for sample in selected]), torch.stack(
        [sample.mask for sample in selected]
    )
