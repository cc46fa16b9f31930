"""Segmentation networks of torchvision and transformers by name, without downloads."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from seg_mia.errors import InputError
from seg_mia.models.user_errors import input_errors

_KINDS = ("ForSemanticSegmentation", "ForUniversalSegmentation")


class Torchvision(nn.Module):
    """A network of `torchvision.models.segmentation`, with random weights.

    Images of one channel are shown as RGB. Normalisation belongs around it
    (`seg_mia.models.adapter.InputAdapter`).

    Args:
        architecture: name of the function, such as `deeplabv3_resnet50`, `fcn_resnet50` or
            `lraspp_mobilenet_v3_large`.
        classes: number of classes, including background.
        aux_loss: whether an auxiliary head is built and trained, as in torchvision's own weights.

    Raises:
        InputError: no such network.
    """

    def __init__(
        self, architecture: str = "deeplabv3_resnet50", *, classes: int = 2, aux_loss: bool = False
    ) -> None:
        super().__init__()
        from torchvision.models import list_models, segmentation

        known = list_models(segmentation)
        if architecture not in known:
            raise InputError(
                f"architecture must be one of torchvision's {', '.join(known)}, got {architecture!r}"
            )
        auxiliary = {"aux_loss": True} if aux_loss else {}
        with input_errors(f"torchvision's {architecture} cannot be built", "leave out aux_loss"):
            self.network: nn.Module = getattr(segmentation, architecture)(
                weights=None, weights_backbone=None, num_classes=classes, **auxiliary
            )

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return logits (N, K, H, W) of images `x` (N, 1 or 3, H, W); in training also an auxiliary map."""
        rgb = x.expand(-1, 3, -1, -1) if x.shape[1] == 1 else x
        outputs: Mapping[str, Tensor] = self.network(rgb)
        auxiliary = [outputs["aux"]] if "aux" in outputs and self.training else []
        return (outputs["out"], *auxiliary) if auxiliary else outputs["out"]


class Transformers(nn.Module):
    """A segmentation network of transformers, with random weights, from the values of its `config.json`.

    Its logits have a quarter of the image's size, or another; `--model.resize true`, detected, enlarges them.
    Weights of `save_pretrained` (model.safetensors) fit as they are. Needs `pip install transformers`.

    Args:
        architecture: class of the network, such as `SegformerForSemanticSegmentation`.
        classes: number of classes, including background: `num_labels`.
        channels: image channels: `num_channels`.
        settings: further values of the configuration, as in `config.json`.

    Raises:
        InputError: transformers is not installed, no such network, or settings that it does not take.
    """

    def __init__(
        self,
        architecture: str = "SegformerForSemanticSegmentation",
        *,
        classes: int = 2,
        channels: int = 3,
        settings: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        try:
            import transformers
        except ModuleNotFoundError:
            raise InputError("this network needs transformers; pip install transformers") from None
        kind = getattr(transformers, architecture, None) if architecture.endswith(_KINDS) else None
        config = getattr(kind, "config_class", None)
        if config is None:
            raise InputError(
                f"architecture must be a network of transformers named ...{' or ...'.join(_KINDS)}, got "
                f"{architecture!r}; take it from config.json"
            )
        if named := {"backbone", "use_pretrained_backbone"} & set(settings or {}):
            raise InputError(
                f"settings must not name weights or a backbone to download, got {', '.join(sorted(named))}; "
                "give backbone_config"
            )
        with input_errors(f"{architecture} cannot be built", "take its settings from config.json"):
            self.network: nn.Module = kind(  # type: ignore[misc]  # a class: it has a config_class
                config(**(settings or {}), num_labels=classes, num_channels=channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (N, K, h, w) of images `x` (N, C, H, W)."""
        logits: Tensor = self.network(x).logits
        return logits
