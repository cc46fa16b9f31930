"""Membership classifier on segmentation maps: any timm classifier."""

import difflib
from pathlib import Path
from typing import Any, Literal, assert_never, cast

import timm
import torch
from torch import Tensor, nn

from seg_mia.errors import InputError, reason_of
from seg_mia.models.adapter import require_positive
from seg_mia.models.weights import fitted_state, read_state, with_channels

Adapter = Literal["convolution", "first_layer"]


class MembershipClassifier(nn.Module):
    """timm classifier with one logit and an input adapter for the channels of a signal.

    Weights are random; `load_classifier` loads pre-trained ones, after which both adapters start as the same
    function: one channel as its RGB replication, channel c of C as RGB channel c % 3, times 3 / C. Signals
    are not standardised here. Convolutional models accept maps of any size; most vision transformers require
    a fixed size.

    Args:
        architecture: name of a timm model, `resnet34` as published (Chobola et al. 2022, arXiv:2212.01082);
            with a tag, `resnet34.a1_in1k`, "imagenet" refers to those weights.
        channels: channels of the signal.
        adapter: `convolution` prepends a 1x1 convolution to 3 channels, as published; `first_layer` changes
            the number of inputs of the first convolution, as in the published code for Cityscapes.
        dropout: dropout probability of features before the last layer in training, in [0, 1).

    Raises:
        InputError: an unknown name, a setting out of range, or a combination rejected by timm.
    """

    def __init__(
        self,
        *,
        architecture: str = "resnet34",
        channels: int,
        adapter: Adapter = "convolution",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        _require_known(architecture)
        require_positive(channels=channels)
        if not 0 <= dropout < 1:
            raise InputError(f"dropout must lie in [0, 1), got {dropout}; use 0 for none")
        self.architecture = architecture
        self.channels = channels
        match adapter:
            case "convolution":
                self.adapter: nn.Module = _to_rgb(channels)
                self.network = _built(architecture, dropout, channels=3)
            case "first_layer":
                self.adapter = nn.Identity()
                self.network = _built(architecture, dropout, channels=channels)
            case _:
                assert_never(adapter)

    def forward(self, x: Tensor, counted: Tensor | None = None) -> Tensor:
        """Return logits (N,) of signals `x` (N, C, H, W); higher means more likely a member.

        A signal of a volume (N, C, D, H, W) has the mean logit of its D slices.

        Args:
            x: signals.
            counted: which slices of volumes are classified, bool (N, D), as opposed to padding; all if not
                given, or of a volume that has none.

        Raises:
            InputError: `x` is not a batch of signals with the right channels.
        """
        if x.ndim not in (4, 5) or x.shape[1] != self.channels:
            raise InputError(
                f"signals must have shape (N, {self.channels}, H, W) or (N, {self.channels}, D, H, W), got "
                f"{tuple(x.shape)}; build the classifier with the channels of the signal"
            )
        if x.ndim == 5:
            shape = (len(x), x.shape[2])
            counted = x.new_ones(shape, dtype=torch.bool) if counted is None else counted
            counted = counted | ~counted.any(1, keepdim=True)
            slices = x.transpose(1, 2)[counted].contiguous(memory_format=torch.channels_last)
            votes: Tensor = self(slices)
            return votes.new_zeros(shape).masked_scatter(counted, votes).sum(1) / counted.sum(1)
        logits: Tensor = self.network(self.adapter(x))
        return logits.squeeze(1)


def load_classifier(network: MembershipClassifier, source: str | Path) -> None:
    """Load pre-trained weights into the classifier, in place: every tensor except the head, or none.

    `source` is "imagenet" (timm's weights of the architecture, downloaded) or a local state dict (.pth, .pt
    or .safetensors) with timm's key names. The source's head is dropped; the one-output head and a 1x1
    adapter do not change. A first convolution for RGB is adapted to other numbers of channels as in
    `load_encoder`.

    Raises:
        InputError: no such weights, or they do not match the architecture.
    """
    imagenet = str(source) == "imagenet"
    state = _imagenet(network.architecture) if imagenet else read_state(Path(source))
    current, head = network.network.state_dict(), _head(network.network)
    expected = {key: tensor for key, tensor in current.items() if not key.startswith(head)}
    problem = f"{source} does not fit classifier {network.architecture}"
    fitted = fitted_state(state, expected, problem, unused=lambda key: key.startswith(head))
    network.network.load_state_dict(current | fitted)


def _require_known(architecture: str) -> None:
    if timm.is_model(architecture):
        return
    close = difflib.get_close_matches(architecture.lower(), timm.list_models(), n=5)
    raise InputError(
        f"architecture must be a model of timm, got {architecture!r}; "
        f"close to it: {', '.join(close) or 'none'}; "
        'all: python -c "import timm; print(timm.list_models())"'
    )


def _built(architecture: str, dropout: float, *, channels: int) -> nn.Module:
    try:
        return timm.create_model(architecture, num_classes=1, drop_rate=dropout, in_chans=channels)
    except (ValueError, TypeError, LookupError, RuntimeError, AssertionError, AttributeError) as error:
        reason = reason_of(error)
        raise InputError(
            f"a classifier {architecture} with one logit cannot be built by timm: "
            f"{type(error).__name__}: {reason}; change the settings or take another architecture"
        ) from error


def _to_rgb(channels: int) -> nn.Conv2d:
    """Return a 1x1 convolution equivalent to `with_channels` on RGB weights."""
    layer, identity = nn.Conv2d(channels, 3, 1), torch.eye(3)[:, :, None, None]
    layer.load_state_dict({"weight": with_channels(identity, layer.weight), "bias": torch.zeros(3)})
    return layer


def _head(network: nn.Module) -> tuple[str, ...]:
    """Return the key prefixes of the classification layers; some models have two."""
    names = cast(Any, network).pretrained_cfg.get("classifier") or ()
    return tuple(f"{name}." for name in ((names,) if isinstance(names, str) else names))


def _imagenet(architecture: str) -> dict[str, Tensor]:
    trained = timm.get_pretrained_cfg(architecture)
    if trained is None or not trained.has_weights:
        raise InputError(
            f"timm must offer weights for {architecture} to load imagenet, got none; "
            "give the path of a local state dict, or take another architecture"
        )
    try:
        return timm.create_model(architecture, pretrained=True).state_dict()
    except OSError as error:
        raise InputError(
            f"the ImageNet weights of classifier {architecture} must be downloaded once and could not be "
            "reached; connect to the network, or give the path of a local state dict"
        ) from error
