"""The networks of segmentation-models-pytorch (smp): any of its architectures on any of its encoders."""

import difflib
import inspect
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import segmentation_models_pytorch as smp
import timm
from torch import Tensor, nn

from seg_mia.errors import InputError
from seg_mia.models.adapter import InputAdapter, require_positive
from seg_mia.models.group_norm import with_group_norm

_ARCHITECTURES: dict[str, type[nn.Module]] = {
    each.__name__: each for each in smp.MODEL_ARCHITECTURES_MAPPING.values()
}
_RGB = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
# Encoders whose weights were not trained on the usual ImageNet mean and std. smp asks its hub for these numbers;
# a checkpoint must rebuild its network offline.
_OTHER_RGB = {
    "dpn": ((124 / 255, 117 / 255, 104 / 255), (1 / (0.0167 * 255),) * 3),
    "inception": ((0.5,) * 3, (0.5,) * 3),
    "xception": ((0.5,) * 3, (0.5,) * 3),
    "timm-tf_efficientnet_lite": ((0.5,) * 3, (0.5,) * 3),
}
# Set by the constructor, or: the network would no longer return logits alone.
_OWN_OPTIONS = {
    "encoder_name", "encoder_depth", "encoder_weights", "in_channels", "classes", "decoder_channels", "activation",
    "aux_params", "kwargs",
}  # fmt: skip
# timm also takes options that download or read files; a checkpoint's settings must not reach those.
_TIMM_OPTIONS = {"img_size", "strict_img_size", "dynamic_img_size", "drop_rate", "drop_path_rate"}


class Smp(InputAdapter):
    """A network of segmentation-models-pytorch with random weights; `load_encoder` brings pre-trained ones.

    Takes images in [0, 1] of any size: they are normalised, and padded to what the encoder can halve, inside.

    Args:
        architecture: class name in smp: Unet, UnetPlusPlus, MAnet, Linknet, FPN, PSPNet, DeepLabV3,
            DeepLabV3Plus, PAN, UPerNet, Segformer or DPT.
        encoder: smp's encoder name, `resnet34`, or any timm model as `tu-NAME`; `encoder_names()` lists them.
        channels: channels of an image.
        classes: maps in the output: 1 is one logit of a binary network, K one for each of K classes.
        normalise: subtract and divide by the mean and std of the encoder's ImageNet weights, averaged over RGB
            unless there are three channels; `none` passes images on in [0, 1].
        size: side of the square to which images are resized inside; None keeps their size.
        norm: `group` replaces every BatchNorm2d by GroupNorm, as DP-SGD needs.
        dropout: probability that a channel of the last decoder map is dropped in training, in [0, 1).
        decoder_channels: widths of the decoder of Unet, UnetPlusPlus or MAnet, deepest first, one for each level;
            None takes the last `depth` of 256, 128, 64, 32, 16.
        depth: how often the encoder halves the image; smp's own default is 5, but 3 for PSPNet and 4 for DPT.
        options: further arguments of the architecture, as smp names them: {"decoder_attention_type": "scse"}.
            For `tu-` encoders also img_size, strict_img_size, dynamic_img_size, drop_rate and drop_path_rate.

    Raises:
        InputError: an unknown name, a setting out of range, or a combination that smp refuses.
    """

    def __init__(
        self,
        architecture: str = "Unet",
        encoder: str = "resnet34",
        channels: int = 1,
        classes: int = 1,
        normalise: Literal["imagenet", "none"] = "imagenet",
        size: int | None = None,
        norm: Literal["batch", "group"] = "batch",
        dropout: float = 0.0,
        decoder_channels: list[int] | None = None,
        depth: int = 5,
        options: dict[str, Any] | None = None,
    ) -> None:
        _require_known("architecture", architecture, architecture_names())
        if not (encoder.startswith("tu-") and timm.is_model(encoder.removeprefix("tu-"))):
            _require_known("encoder", encoder, encoder_names())
        require_positive(channels=channels, classes=classes, depth=depth)
        settings = _settings(architecture, encoder, decoder_channels, depth, options or {})
        network = _quietly(
            f"{architecture} with encoder {encoder}",
            lambda: _ARCHITECTURES[architecture](in_channels=channels, classes=classes, **settings),
        )
        network = with_group_norm(network) if norm == "group" else network
        _add_dropout(network, dropout)
        mean, std = _statistics(encoder, channels) if normalise == "imagenet" else ((0.0,), (1.0,))
        stride = int(network.encoder.output_stride)  # type: ignore[union-attr, arg-type]
        super().__init__(network, mean=mean, std=std, size=size, multiple=stride, channels=channels)
        self.encoder_name = encoder
        self._depth = depth

    @property
    def encoder(self) -> nn.Module:
        """The part that pre-trained weights are loaded into: maps (N, C, H, W) to a list of feature maps."""
        return self.network.get_submodule("encoder")

    def imagenet_encoder(self) -> dict[str, Tensor]:
        """Download the encoder's ImageNet weights for RGB, or take them from the local cache, as a state dict.

        Raises:
            InputError: the encoder has no such weights, or they cannot be reached.
        """
        weights = True if self.encoder_name.startswith("tu-") else "imagenet"
        try:
            encoder = _quietly(
                f"the ImageNet weights of encoder {self.encoder_name}",
                lambda: smp.encoders.get_encoder(self.encoder_name, depth=self._depth, weights=weights),
            )
        except OSError as error:
            raise InputError(
                f"the ImageNet weights of encoder {self.encoder_name} must be downloaded once and could not be "
                "reached; connect to the network, or give the path of a local state dict"
            ) from error
        return encoder.state_dict()


def architecture_names() -> tuple[str, ...]:
    """Return the names that `Smp(architecture=...)` takes."""
    return tuple(sorted(_ARCHITECTURES))


def encoder_names() -> tuple[str, ...]:
    """Return the names that `Smp(encoder=...)` takes: smp's own encoders, then timm's models as `tu-NAME`.

    smp cannot cut every timm model into feature maps; building such a one is refused.
    """
    return (*sorted(smp.encoders.get_encoder_names()), *(f"tu-{name}" for name in timm.list_models()))


def _require_known(kind: str, name: str, known: Sequence[str]) -> None:
    if name in known:
        return
    spelling = {each.lower(): each for each in known}
    close = [spelling[each] for each in difflib.get_close_matches(name.lower(), spelling, n=5, cutoff=0.5)]
    raise InputError(
        f"{kind} must be one that segmentation-models-pytorch knows, got {name!r}; "
        f"{'close names: ' + ', '.join(close) if close else 'no name is close'}; "
        f"all: python -c 'from seg_mia.models.smp import *; print({kind}_names())'"
    )


def _settings(
    architecture: str, encoder: str, decoder_channels: list[int] | None, depth: int, options: dict[str, Any]
) -> dict[str, Any]:
    parameters = inspect.signature(_ARCHITECTURES[architecture]).parameters
    known = set(parameters) - _OWN_OPTIONS
    if "decoder_channels" in parameters:
        default = parameters["decoder_channels"].default
        if isinstance(default, Sequence):
            widths = decoder_channels or list(default[-depth:])
            options = {"decoder_channels": widths} | options
        else:  # one width for the whole decoder: an option like others
            known |= {"decoder_channels"}
    if decoder_channels and "decoder_channels" not in options:
        raise InputError(
            f"decoder_channels are widths of the levels of Unet, UnetPlusPlus or MAnet, got them for {architecture}; "
            "leave them out, or see options"
        )
    return {
        "encoder_name": encoder, "encoder_depth": depth, "encoder_weights": None,
        **options,
    }  # fmt: skip


def _quietly[T](what: str, build: Callable[[], T]) -> T:
    ...


def _statistics(encoder: str, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    ...
