"""The trigger that poisons training data, and what it does to a victim when it is shown."""

from typing import Literal, assert_never

import torch
from torch import Tensor, nn

from seg_mia.attacks.base import Adversarial, Perturbation, attack_mode, check_inputs, check_output, usable
from seg_mia.errors import InputError
from seg_mia.models.heads import final, predicted

Shape = Literal["square", "line"]


def stamped(x: Tensor, *, shape: Shape = "square", size: int = 1, value: float = 1 / 255) -> Tensor:
    """Return images with a trigger of one value in all channels (Chobola, Usynin, Kaissis 2022, section 3.4).

    Args:
        x: images (N, C, ..., H, W) in [0, 1]; of a volume each slice is stamped.
        shape: as in `trigger`.
        size: as in `trigger`.
        value: as in `trigger`.

    Raises:
        InputError: a trigger that is not inside the image, or a value that no image has.
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
    """Raise InputError for a trigger that cannot be, or is not inside an image (H, W) where one is given."""
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
    """Return a poisoner's masks (N, ..., h, w): background, and the bottom right pixel as foreground."""
    empty = torch.zeros_like(mask)
    empty[..., -1, -1] = 1
    return empty


def trigger(
    model: nn.Module,
    x: Tensor,
    target: Tensor,
    *,
    shape: Shape = "square",
    size: int = 1,
    value: float = 1 / 255,
) -> Adversarial:
    """Stamp the trigger on images and note what the network predicts of the foreground then.

    Args:
        model: maps images in [0, 1] to logits (N, K, *s).
        x: images (N, C, ..., H, W) in [0, 1].
        target: masks (N, *s); only their size counts.
        shape: `line` is the last rows, `square` the last rows and columns.
        size: rows, in pixels, fewer than the image's shorter side.
        value: grey level in [0, 1]; published: 1 of 255.

    Returns:
        The stamped images; notes `area_clean` and `area`, the predicted foreground's share of the pixels
        before and after, and `success`: 1 where less than 5 % of a foreground is left, 0 where more is or
        where there was none.

    Raises:
        InputError: inputs outside the contract, or a trigger outside the image.
    """
    check_inputs(x, target)
    with attack_mode(model), torch.no_grad():
        clean = usable(x)
        logits = final(model(clean))
        check_output(logits, target)
        marked = stamped(clean, shape=shape, size=size, value=value)
        before, after = foreground_share(logits), foreground_share(final(model(marked)))
    return Adversarial(marked, {"area_clean": before, "area": after, "success": mask_lost(before, after)})


def foreground_share(logits: Tensor) -> Tensor:
    """Return the predicted foreground's share of the pixels of each image, (N,)."""
    return (predicted(logits) > 0).flatten(1).float().mean(1)


def mask_lost(before: Tensor, after: Tensor) -> Tensor:
    """Return 1 where less than 5 % of the foreground is left, else 0, also where there was none, (N,)."""
    return (after < 0.05 * before).float()


class Trigger(Perturbation):
    """`trigger` as a config names it: does a victim forget its mask, as one that was poisoned does."""

    attacker_knowledge = "the poisoned trigger"
    function = staticmethod(trigger)
    checks = (check_trigger,)

    def run(self, model: nn.Module, x: Tensor, target: Tensor) -> Adversarial:
        """Run `trigger`."""
        return trigger(model, x, target, **self.knobs)
