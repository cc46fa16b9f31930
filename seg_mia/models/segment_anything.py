"""Segment Anything of transformers with a prompt from the mask (Kirillov et al., ICCV 2023)."""

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  (torch's own name for it)
from torch import Tensor, nn

from seg_mia.errors import InputError
from seg_mia.models.imagenet import MEAN, STD
from seg_mia.models.prompts import Prompt, boxes, points
from seg_mia.models.user_errors import input_errors

_KINDS = ("Sam", "SamHQ")


class SegmentAnything(nn.Module):
    """A promptable network of transformers behind its processor's steps, with random weights.

    As `SamImageProcessor` does, images are resized so that the longer side has the network's size,
    normalised, and padded with zeros at the right and bottom; of the masks it gives one (`multimask_output`
    false), and its logits are enlarged, cut and resized to the image. Prompts are derived from the true mask
    (`seg_mia.models.prompts`): whoever queries the network is thus given them. One object in each image,
    hence two classes, one logit.

    Args:
        architecture: `Sam` or `SamHQ`, before `Model` and `Config` of transformers.
        settings: values of `config.json` that are not the library's defaults: `vision_config`,
            `prompt_encoder_config`, `mask_decoder_config`.
        prompt: `box` around the foreground, or `point` in its middle.
        margin: pixels of the image by which the box is larger on each side.
        mean: of the processor's normalisation, one value for each of three channels.
        std: likewise.

    Raises:
        InputError: transformers is not installed, no such network, or settings that it does not take.
    """

    mean: Tensor
    std: Tensor
    takes_prompts = True

    def __init__(
        self,
        architecture: str = "Sam",
        *,
        settings: dict[str, Any] | None = None,
        prompt: Prompt = "box",
        margin: int = 0,
        mean: list[float] | None = None,
        std: list[float] | None = None,
    ) -> None:
        super().__init__()
        try:
            import transformers
        except ModuleNotFoundError:
            raise InputError("this network needs transformers; pip install transformers") from None
        if architecture not in _KINDS or margin < 0:
            raise InputError(
                f"architecture must be one of {', '.join(_KINDS)} and margin at least 0, got "
                f"{architecture!r} and {margin}; correct them"
            )
        kind, config = (getattr(transformers, f"{architecture}{part}") for part in ("Model", "Config"))
        with input_errors(f"{architecture}Model cannot be built", "take its settings from config.json"):
            self.network: nn.Module = kind(config(**(settings or {})))
        self.size = int(self.network.config.vision_config.image_size)
        self.prompt, self.margin = prompt, margin
        for name, values in (("mean", mean or list(MEAN)), ("std", std or list(STD))):
            self.register_buffer(name, torch.tensor(values).reshape(1, -1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, 1, H, W) of images `x` (N, 1 or 3, H, W) in [0, 1].

        Raises:
            InputError: no masks are stated for these images (`seg_mia.models.prompts.prompts_from`).
        """
        rgb = x.expand(-1, 3, -1, -1) if x.shape[1] == 1 else x
        height, width = x.shape[2:]
        scale = self.size / max(height, width)
        inner = (round(height * scale), round(width * scale))
        normal = (_interpolated(rgb, inner, smooth=True) - self.mean) / self.std
        padded = F.pad(normal, (0, self.size - inner[1], 0, self.size - inner[0]))
        prompts = self._prompts(x, inner)
        maps: Tensor = self.network(pixel_values=padded, multimask_output=False, **prompts).pred_masks
        whole = _interpolated(maps[:, 0], (self.size, self.size))
        return _interpolated(whole[..., : inner[0], : inner[1]], (height, width))

    def _prompts(self, x: Tensor, inner: tuple[int, int]) -> dict[str, Tensor]:
        """Return the prompts of images, in pixels of the resized ones."""
        scale = torch.tensor([inner[1] / x.shape[3], inner[0] / x.shape[2]]).to(x)
        if self.prompt == "box":
            return {"input_boxes": (boxes(x, self.margin) * scale.repeat(2))[:, None]}
        places = (points(x) * scale)[:, None, None]
        labels = torch.ones(len(x), 1, 1, dtype=torch.int64, device=x.device)
        return {"input_points": places, "input_labels": labels}


def _interpolated(values: Tensor, size: tuple[int, int], *, smooth: bool = False) -> Tensor:
    if tuple(values.shape[2:]) == size:
        return values
    return F.interpolate(values, size=size, mode="bilinear", align_corners=False, antialias=smooth)
