"""Networks of segmentation-models-pytorch (smp): any architecture with any encoder."""

import difflib
import inspect
import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any, Literal, assert_never, cast

import segmentation_models_pytorch as smp
import timm
from torch import Tensor, nn

from seg_mia.errors import InputError
from seg_mia.models.adapter import InputAdapter, require_positive
from seg_mia.models.encoder_adapters import Kind, add_adapters
from seg_mia.models.group_norm import with_group_norm
from seg_mia.models.hypercolumn import Hypercolumn
from seg_mia.models.imagenet import MEAN, STD
from seg_mia.models.user_errors import reason_with_location

Statistics = tuple[tuple[float, ...], tuple[float, ...]]  # mean and std

_RGB: Statistics = (MEAN, STD)
# Encoders whose weights were not trained on the usual ImageNet mean and std. smp asks its hub for these
# numbers; a checkpoint must rebuild its network offline.
_OTHER_RGB: dict[str, Statistics] = {
    "dpn": ((124 / 255, 117 / 255, 104 / 255), (1 / (0.0167 * 255),) * 3),
    "inception": ((0.5,) * 3, (0.5,) * 3),
    "xception": ((0.5,) * 3, (0.5,) * 3),
    "timm-tf_efficientnet_lite": ((0.5,) * 3, (0.5,) * 3),
}
# Set by the constructor, or: the network would no longer return logits alone.
_OWN_OPTIONS = {
    "encoder_name", "encoder_depth", "encoder_weights", "in_channels", "classes", "activation", "aux_params",
    "kwargs",
}  # fmt: skip
# timm also takes options that download or read files; a checkpoint's settings must not reach those.
_TIMM_OPTIONS = {"img_size", "strict_img_size", "dynamic_img_size", "drop_rate", "drop_path_rate"}


class Smp(InputAdapter):
    """Network of segmentation-models-pytorch with random weights; see `load_encoder` for pre-trained ones.

    Input images in [0, 1] may have any size: normalisation and padding to the encoder's stride are internal.

    Args:
        architecture: class name in smp: Unet, UnetPlusPlus, MAnet, Linknet, FPN, PSPNet, DeepLabV3,
            DeepLabV3Plus, PAN, UPerNet, Segformer or DPT; or Hypercolumn, this package's classifier of single
            pixels on the encoder's features, of a few hundred weights (options: levels, hidden).
        encoder: smp's encoder name, `resnet34`, or any timm model as `tu-NAME`; `encoder_names()` lists them.
            smp's own `timm-` EfficientNets pad evenly and normalise with another epsilon than the TensorFlow
            weights they load; `tu-tf_efficientnet_lite0` gives timm's features exactly.
        channels: image channels.
        classes: output maps: 1 for a single logit of a binary network, K for one logit per class.
        normalise: `imagenet` uses the mean and std of the encoder's ImageNet weights, averaged over RGB
            unless there are three channels; `none` passes images on in [0, 1].
        size: side of the square for internal resizing; None keeps the image size.
        norm: `group` replaces every BatchNorm2d by GroupNorm, as required by DP-SGD.
        dropout: dropout probability of channels of the last decoder map in training, in [0, 1).
        decoder_channels: widths of the decoder of Unet, UnetPlusPlus or MAnet, deepest first, one for each
            level; None takes the last `depth` of 256, 128, 64, 32, 16.
        depth: number of downsampling stages of the encoder; smp's default is 5, 3 for PSPNet, 4 for DPT.
        options: further smp arguments of the architecture, such as {"decoder_attention_type": "scse"}.
            For `tu-` encoders also img_size, strict_img_size, dynamic_img_size, drop_rate and drop_path_rate.
        adapters: small trained additions to convolutions of the encoder, which the rest of it can be frozen
            beside (`seg_mia.models.encoder_adapters`): `scale_shift` or `low_rank`. None for none.
        adapted: convolutions of the encoder that get an adapter, by patterns of their names such as
            `model.blocks.[56].*`; needed with adapters.
        rank: rank of `low_rank` adapters, 2 if not given.

    Raises:
        InputError: an unknown name, a setting out of range, or a combination rejected by smp.
    """

    def __init__(
        self,
        *,
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
        options: dict[str, bool | int | float | str | list[int] | None] | None = None,
        adapters: Kind | None = None,
        adapted: list[str] | None = None,
        rank: int | None = None,
    ) -> None:
        _require_known("architecture", architecture, architecture_names())
        if not (encoder.startswith("tu-") and timm.is_model(encoder.removeprefix("tu-"))):
            _require_known("encoder", encoder, encoder_names())
        require_positive(channels=channels, classes=classes, depth=depth)
        settings = _settings(architecture, encoder, decoder_channels, depth, options or {})
        network = _quietly(
            f"{architecture} with encoder {encoder}",
            lambda: _architectures()[architecture](in_channels=channels, classes=classes, **settings),
        )
        match norm:
            case "group":
                with_group_norm(network)
            case "batch":
                pass
            case _:
                assert_never(norm)
        _add_dropout(network, dropout)
        mean, std = _statistics(normalise, encoder, channels)
        stride = int(cast(Any, network).encoder.output_stride)
        super().__init__(network, mean=mean, std=std, size=size, multiple=stride, channels=channels)
        self.encoder_name = encoder
        self._depth = depth
        if (adapters is None) != (not adapted) or (rank is not None and adapters != "low_rank"):
            raise InputError(
                f"adapters and adapted belong together, and rank to low_rank, got {adapters}, {adapted} and "
                f"{rank}; give those that belong together, or none"
            )
        self.adapters = add_adapters(self.encoder, adapters, adapted, rank) if adapters and adapted else None

    @property
    def encoder(self) -> nn.Module:
        """Encoder for pre-trained weights: maps (N, C, H, W) to a list of feature maps."""
        return self.network.get_submodule("encoder")

    @property
    def read_levels(self) -> list[int] | None:
        """The feature maps of the encoder whose values are ever read, where the network declares them."""
        return getattr(self.network, "read_levels", None) if type(self) is Smp else None

    def imagenet_encoder(self) -> dict[str, Tensor]:
        """Return the encoder's ImageNet weights for RGB, from the local cache or downloaded.

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
                f"the ImageNet weights of encoder {self.encoder_name} must be downloaded once and could not "
                "be reached; connect to the network, or give the path of a local state dict"
            ) from error
        return encoder.state_dict()


def _architectures() -> dict[str, type[nn.Module]]:
    """Return the classes by name; smp is asked when a network is built, not when this module is imported."""
    classes = (*smp.MODEL_ARCHITECTURES_MAPPING.values(), Hypercolumn)
    return {architecture.__name__: architecture for architecture in classes}


def architecture_names() -> tuple[str, ...]:
    """Return the names valid for `Smp(architecture=...)`."""
    return tuple(sorted(_architectures()))


def encoder_names() -> tuple[str, ...]:
    """Return the names valid for `Smp(encoder=...)`: smp's own encoders, then timm models as `tu-NAME`.

    Some timm models do not provide feature maps to smp; building them raises an error.
    """
    return (*sorted(smp.encoders.get_encoder_names()), *(f"tu-{name}" for name in timm.list_models()))


def _require_known(kind: str, name: str, known: Sequence[str]) -> None:
    if name in known:
        return
    spelling = {candidate.lower(): candidate for candidate in known}
    close = [spelling[candidate] for candidate in difflib.get_close_matches(name.lower(), spelling, n=5)]
    raise InputError(
        f"{kind} must be a name in segmentation-models-pytorch, got {name!r}; "
        f"close to it: {', '.join(close) or 'none'}; "
        f'all: python -c "from seg_mia.models import smp; print(smp.{kind}_names())"'
    )


def _settings(
    architecture: str,
    encoder: str,
    decoder_channels: list[int] | None,
    depth: int,
    options: Mapping[str, object],
) -> dict[str, object]:
    parameters = inspect.signature(_architectures()[architecture]).parameters
    default = parameters["decoder_channels"].default if "decoder_channels" in parameters else None
    allowed = set(parameters) - _OWN_OPTIONS | (_TIMM_OPTIONS if encoder.startswith("tu-") else set())
    settings: dict[str, object] = {"encoder_name": encoder, "encoder_depth": depth, "encoder_weights": None}
    if isinstance(default, tuple):
        allowed.remove("decoder_channels")
        settings["decoder_channels"] = _widths(decoder_channels or default[-depth:], depth)
    elif decoder_channels is not None:
        raise InputError(
            f"decoder_channels apply to Unet, UnetPlusPlus and MAnet, got them for {architecture}; leave "
            f"them out and use options: {', '.join(sorted(allowed))}"
        )
    # smp passes unknown arguments on to encoders that ignore them: a misspelt option would do nothing.
    if unknown := sorted(options.keys() - allowed):
        raise InputError(
            f"options must be arguments of {architecture} with encoder {encoder}, got {', '.join(unknown)}; "
            f"use {', '.join(sorted(allowed))}"
        )
    return settings | dict(options)


def _widths(widths: Sequence[int], depth: int) -> list[int]:
    require_positive(decoder_channels=min(widths))
    if len(widths) != depth:
        raise InputError(
            f"decoder_channels must be as many as the depth, got {len(widths)} for depth {depth}; "
            f"give {depth} widths, deepest first"
        )
    return list(widths)


def _quietly(description: str, build: Callable[[], nn.Module]) -> nn.Module:
    """Return the result of `build`, its errors converted to InputError."""
    with warnings.catch_warnings():
        # smp calls its timm- encoders deprecated, yet some weights load into these alone.
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            return build()
        except (ValueError, TypeError, LookupError, RuntimeError, AssertionError, AttributeError) as error:
            raise InputError(
                f"{description} cannot be built by segmentation-models-pytorch: "
                f"{reason_with_location(error)}; change the settings or take another encoder"
            ) from error


def _add_dropout(network: nn.Module, probability: float) -> None:
    """Add channel dropout before the last convolution; weight keys of the head do not change."""
    if not 0 <= probability < 1:
        raise InputError(f"dropout must lie in [0, 1), got {probability}; use 0 for none")
    if probability:
        layers = network.get_submodule("segmentation_head").named_children()
        network.segmentation_head = nn.Sequential(
            OrderedDict([("dropout", nn.Dropout2d(probability)), *layers])
        )


def _statistics(normalise: Literal["imagenet", "none"], encoder: str, channels: int) -> Statistics:
    match normalise:
        case "none":
            return (0.0,), (1.0,)
        case "imagenet":
            mean, std = _imagenet_statistics(encoder)
            return (mean, std) if channels == 3 else ((fmean(mean),), (fmean(std),))
        case _:
            assert_never(normalise)


def _imagenet_statistics(encoder: str) -> Statistics:
    if encoder.startswith("tu-"):
        trained = timm.get_pretrained_cfg(encoder.removeprefix("tu-"), allow_unregistered=True)
        return (tuple(trained.mean), tuple(trained.std)) if trained else _RGB
    return next((rgb for prefix, rgb in _OTHER_RGB.items() if encoder.startswith(prefix)), _RGB)
