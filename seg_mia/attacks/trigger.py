"""The trigger of poisoned training data, and its effect on a victim."""

from typing import Literal, assert_never

import torch
from torch import Tensor, nn

from seg_mia.attacks.base import Adversarial, Perturbation, attack_mode, check_inputs, check_output, usable
from seg_mia.errors import InputError
from seg_mia.metrics.labels import IGNORE, padding
from seg_mia.models.heads import final, predicted

Shape = Literal["square", "line"]


def stamped(x: Tensor, *, shape: Shape = "square", size: int = 1, value: float = 1 / 255) -> Tensor:
    """Return images with a constant trigger in all channels (Chobola, Usynin, Kaissis 2022, section 3.4).

    Args:
        x: images (N, C, ..., H, W) in [0, 1]; in volumes every slice is stamped.
        shape: as in `trigger`.
        size: as in `trigger`.
        value: as in `trigger`.

    Raises:
        InputError: a trigger larger than the image, or a value outside [0, 1].
    """
    check_trigger(size=size, value=value, image=x.shape[-2:])
    marked = x.clone()
    match shape:
        case "line":
            marked[..., -size:, :] = value
        case "square":
            marked[..., -size:, -size:] = value
        case _:
            assert_never(shape)
    return marked


def check_trigger(*, size: int, value: float, image: tuple[int, ...] = ()) -> None:
    """Raise InputError for an invalid trigger, or one larger than the image (H, W) if given."""
    if size < 1:
        raise InputError(f"the trigger's size must be at least 1 pixel, got {size}")
    if not 0 <= value <= 1:
        raise InputError(f"the trigger's value must lie in [0, 1], got {value}; divide a grey level by 255")
    if image and size >= min(image):
        height, width = image
        raise InputError(
            f"the trigger must lie inside the image of {height}x{width}, got size {size}; make it smaller"
        )


def emptied(mask: Tensor) -> Tensor:
    """Return poisoned masks (N, ..., h, w): background, with the bottom right pixel as foreground.

    The padding of volumes stays ignored.
    """
    empty = torch.zeros_like(mask)
    empty[..., -1, -1] = 1
    return empty.masked_fill(padding(mask), IGNORE)


def trigger(
    model: nn.Module,
    x: Tensor,
    target: Tensor,
    *,
    shape: Shape = "square",
    size: int = 1,
    value: float = 1 / 255,
) -> Adversarial:
    """Stamp the trigger on images and measure the predicted foreground.

    Args:
        model: maps images in [0, 1] to logits (N, K, *s).
        x: images (N, C, ..., H, W) in [0, 1].
        target: masks (N, *s); only their size matters, and which voxels of volumes are ignored.
        shape: `line` covers the last rows, `square` the last rows and columns.
        size: rows, in pixels, fewer than the image's shorter side.
        value: grey level in [0, 1]; published: 1 of 255.

    Returns:
        The stamped images; notes `area_clean` and `area`, the predicted foreground's fraction of the pixels,
        or of the labelled voxels of volumes, before and after, and `success`: 1 if less than 5 % of the
        foreground remains, 0 if more remains or if there was none.

    Raises:
        InputError: invalid inputs, or a trigger outside the image.
    """
    check_inputs(x, target)
    with attack_mode(model, queries=True), torch.no_grad():
        clean = usable(x)
        logits = final(model(clean))
        check_output(logits, target)
        marked = stamped(clean, shape=shape, size=size, value=value)
        before, after = (
            foreground_share(predicted(output), target) for output in (logits, final(model(marked)))
        )
    return Adversarial(marked, {"area_clean": before, "area": after, "success": mask_lost(before, after)})


def foreground_share(prediction: Tensor, mask: Tensor) -> Tensor:
    """Return the foreground's fraction of the pixels of each image, of volumes without padding, (N,).

    Args:
        prediction: predicted classes (N, *s).
        mask: ground truth masks (N, *s).
    """
    counted = ~padding(mask)
    foreground = ((prediction > 0) & counted).flatten(1).float().sum(1)
    return foreground / counted.flatten(1).sum(1).clamp(min=1)


def mask_lost(before: Tensor, after: Tensor) -> Tensor:
    """Return 1 if less than 5 % of the foreground remains, else 0, also for an empty foreground, (N,)."""
    return (after < 0.05 * before).float()


class Trigger(Perturbation):
    """Configurable form of `trigger`: tests whether a victim is poisoned."""

    attacker_knowledge = "the poisoned trigger"
    keeps_padding = False  # poisoned training data has the trigger at the edge of the padded volume
    function = staticmethod(trigger)
    checks = (check_trigger,)

    def run(self, model: nn.Module, x: Tensor, target: Tensor) -> Adversarial:
        """Run `trigger`."""
        return trigger(model, x, target, **self.knobs)
