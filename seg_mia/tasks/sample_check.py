"""Check of a network on a few samples before training or attack."""

import torch
from torch import Tensor, nn

from seg_mia.data.base import SegmentationData
from seg_mia.errors import InputError
from seg_mia.metrics.label_sets import label_names
from seg_mia.models.heads import class_count, heads
from seg_mia.models.one_head import maps
from seg_mia.models.prompts import whole_image_prompts
from seg_mia.models.user_errors import reason_with_location

MOST = 32
"""Number of checked images."""
_SIDES = {2: (32, 64, 128, 224, 256, 512), 3: (8, 16, 32, 64, 96, 128)}
"""Multiples of an image's and a volume's lengths to try."""


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
    """Return a network's output for one image (C, *S); its exceptions become one line with a remedy."""
    try:
        return answered(network, image[None])
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"the network cannot take {_kind(image)} {tuple(image.shape)}: "
            f"{reason_with_location(error)}; {_remedy(network, image)}"
        ) from error


def _kind(image: Tensor) -> str:
    if image.ndim == 3:
        return "an image of channels, height, width"
    return "a volume of channels, depth, height, width"


def answered(network: nn.Module, images: Tensor) -> object:
    """Return the output for images (N, C, *S) in evaluation mode, then restore the network's mode."""
    modes = [(module, module.training) for module in network.modules()]
    device = next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
    network.eval()
    try:
        with torch.no_grad(), whole_image_prompts():
            return network(images.to(device))
    finally:
        for module, training in modes:
            module.training = training


def _remedy(network: nn.Module, image: Tensor) -> str:
    """Return a remedy, found by testing inputs that the network accepts."""
    channels, lengths = len(image), tuple(image.shape[1:])
    for count in (1, 3, 2, 4):
        if count != channels and _takes(network, (1, count, *lengths)):
            return (
                f"it takes {count} channel{'s'[: count != 1]}: set its channels, or --data.channels {count}"
            )
    for side in _SIDES[len(lengths)]:
        rounded = tuple(-(-length // side) * side for length in lengths)
        if rounded != lengths and _takes(network, (1, channels, *rounded)):
            return (
                f"it takes {'x'.join(map(str, rounded))}: set its size or --data.size, or wrap it in "
                f"seg_mia.models.adapter.InputAdapter with multiple {side}"
            )
    if len(lengths) == 2 and _takes(network, (1, channels, 64, 64, 64)):
        return "it takes volumes: use a data set of volumes, such as seg_mia.data.sets.volumes.VolumeFiles"
    if len(lengths) == 3 and _takes(network, (1, channels, *lengths[1:])):
        return "it takes slices: use a data set of slices, or a network in 3-D (seg_mia.models.unet3d.UNet3d)"
    return "set its channels or size, or wrap it in seg_mia.models.adapter.InputAdapter"


def _takes(network: nn.Module, shape: tuple[int, ...]) -> bool:
    try:
        return bool(maps(answered(network, torch.zeros(shape)), len(shape)))
    except Exception:  # noqa: BLE001  (whatever it raises, it does not take them)
        return False


def labelled(data: SegmentationData) -> tuple[Tensor, Tensor]:
    """Return up to 32 evaluated images (n, C, *S) and their masks (n, *s).

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
