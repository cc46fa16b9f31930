"""Auto-encoders of the texture attack: VGG-19 up to relu1_1 .. relu5_1, with mirrored decoders.

Layer names are those of the published weights (Li et al. 2017; Wang et al. 2020, compressed), so their state
dicts load unchanged: `E1.pth` .. `D5.pth`, or `SE1.pth` .. `SD5.pth` of the compressed set.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from seg_mia.errors import InputError
from seg_mia.models.state_files import write_tensors
from seg_mia.models.weights import read_state

LEVELS: Final = (5, 4, 3, 2, 1)
"""Order of application to an image."""

LAYERS: Final = (
    "conv11", "conv12", "conv21", "conv22", "conv31", "conv32", "conv33", "conv34",
    "conv41", "conv42", "conv43", "conv44", "conv51",
)  # fmt: skip

EXPORT: Final = "texture"
"""Folder within a run for exported auto-encoders."""

VGG19: Final = (64, 128, 256, 512, 512)
"""Channels of the five stages."""


class Encoder(nn.Module):
    """Encoder from images (N, 3, H, W) to features (N, C, H / 2^(k-1), W / 2^(k-1)) after relu{k}_1, level k.

    Args:
        outward: output channels of each layer, by name, from `conv11` on.
    """

    def __init__(self, outward: Mapping[str, int]) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(3, 3, 1)
        inward = 3
        for name, channels in outward.items():
            self.add_module(name, nn.Conv2d(inward, channels, 3))
            inward = channels
        self.names = tuple(outward)

    def forward(self, x: Tensor) -> Tensor:
        """Return the features of images; height and width must be multiples of 2^(k-1)."""
        return self.stages(x)[int(self.names[-1][4])]

    def stages(self, x: Tensor) -> dict[int, Tensor]:
        """Return the features after relu1_1, relu2_1, ... by level."""
        features = {}
        x = self.conv0(x)
        for name in self.names:
            if begins_stage(name):
                x = functional.max_pool2d(x, 2)
            x = _convolved(self.get_submodule(name), x).relu_()
            if name.endswith("1"):
                features[int(name[4])] = x
        return features


class Decoder(nn.Module):
    """Decoder from features to non-negative images (N, 3, H, W).

    Args:
        outward: output channels of each encoder layer, by name, from `conv11` on.
    """

    def __init__(self, outward: Mapping[str, int]) -> None:
        super().__init__()
        inward = 3
        layers = []
        for name, channels in outward.items():
            layers.append((name, nn.Conv2d(channels, inward, 3)))
            inward = channels
        for name, layer in reversed(layers):
            self.add_module(name, layer)
        self.names = tuple(name for name, _ in reversed(layers))

    def forward(self, x: Tensor) -> Tensor:
        """Return images."""
        return self.unbounded(x).relu_()

    def unbounded(self, x: Tensor) -> Tensor:
        """Return images before the last ReLU, for training: an image below 0 has no gradient after it."""
        for name in self.names[:-1]:
            x = _convolved(self.get_submodule(name), x).relu_()
            if begins_stage(name):
                x = functional.interpolate(x, scale_factor=2, mode="nearest")
        return _convolved(self.get_submodule(self.names[-1]), x)


class TextureAutoEncoders(nn.Module):
    """Five encoder-decoder pairs.

    Args:
        widths: channels of the five stages.

    Attributes:
        encoders: encoders by level, "1" to "5".
        decoders: decoders by level, "1" to "5".
        source: description of the weights' origin.
        shared: whether the shallow encoders are prefixes of the deepest.
    """

    def __init__(self, *, widths: Sequence[int] = VGG19) -> None:
        super().__init__()
        if len(widths) != 5 or min(widths) < 1:
            raise InputError(
                f"widths must be five numbers of channels, got {list(widths)}; VGG-19 has {VGG19}"
            )
        outward = {level: layers_of(level, widths) for level in sorted(LEVELS)}
        self.encoders = nn.ModuleDict({str(level): Encoder(channels) for level, channels in outward.items()})
        self.decoders = nn.ModuleDict({str(level): Decoder(channels) for level, channels in outward.items()})
        self.source = "untrained"
        self.shared = False

    def share_encoder(self) -> None:
        """Share layers between encoders: the shallow ones are prefixes of the deepest, as in one VGG-19."""
        deepest = self.encoders["5"]
        for part in self.encoders.values():
            for name, _ in list(part.named_children()):
                setattr(part, name, getattr(deepest, name))
        self.shared = True

    def share_equal_encoders(self) -> None:
        """Share layers between encoders if the tensors of all are those of the deepest."""
        deepest = self.encoders["5"].state_dict()
        states = [part.state_dict() for part in self.encoders.values()]
        if all(torch.equal(tensor, deepest[name]) for state in states for name, tensor in state.items()):
            self.share_encoder()

    def encode_all(self, images: Tensor) -> dict[int, Tensor]:
        """Return the features of all levels, in one pass if encoders are shared."""
        if not self.shared:
            return {level: self.encode(level, images) for level in LEVELS}
        deepest = self.encoders["5"]
        assert isinstance(deepest, Encoder)
        return deepest.stages(images)

    def encode(self, level: int, images: Tensor) -> Tensor:
        """Return features (N, C, h, w) of images (N, 3, H, W)."""
        features: Tensor = self.encoders[str(level)](images)
        return features

    def decode(self, level: int, features: Tensor, *, bounded: bool = True) -> Tensor:
        """Return images (N, 3, H, W) of features; before the decoder's last ReLU if not `bounded`."""
        decoder = self.decoders[str(level)]
        assert isinstance(decoder, Decoder)
        return decoder(features) if bounded else decoder.unbounded(features)


def layers_of(level: int, widths: Sequence[int]) -> dict[str, int]:
    """Return the output channels of each layer of a level's encoder."""
    names = LAYERS[: LAYERS.index(f"conv{level}1") + 1]
    return {name: widths[int(name[4]) - 1] for name in names}


def begins_stage(name: str) -> bool:
    """Whether a layer follows a pooling in the encoder, or precedes an upsampling in the decoder."""
    return name.endswith("1") and name != "conv11"


def load_texture(folder: str | Path) -> TextureAutoEncoders:
    """Load the pairs from a folder with E1..5.pth and D1..5.pth, or SE1..5.pth and SD1..5.pth.

    Channels are taken from the files and may differ between levels; `*_aux` layers are ignored.

    Raises:
        InputError: missing or damaged files, or tensors that do not form such an encoder or decoder.
    """
    folder = Path(folder)
    prefix = _prefix(folder)
    pairs = TextureAutoEncoders(widths=(1, 1, 1, 1, 1))
    for level in LEVELS:
        files = {kind: folder / f"{prefix}{kind}{level}.pth" for kind in ("E", "D")}
        states = {kind: _read(file) for kind, file in files.items()}
        outward = _outward(states["E"], level, files["E"])
        encoder, decoder = Encoder(outward), Decoder(outward)
        _load(encoder, states["E"], files["E"])
        _load(decoder, states["D"], files["D"])
        pairs.encoders[str(level)], pairs.decoders[str(level)] = encoder, decoder
    pairs.share_equal_encoders()
    pairs.source = f"{prefix}E1..5.pth and {prefix}D1..5.pth in {folder}"
    return pairs.eval()


def save_texture(pairs: TextureAutoEncoders, folder: str | Path) -> None:
    """Write the pairs as E1..5.pth and D1..5.pth, the format of `load_texture`."""
    folder = Path(folder)
    for kind, parts in (("E", pairs.encoders), ("D", pairs.decoders)):
        for level, part in parts.items():
            state = {name: tensor.detach().cpu().clone() for name, tensor in part.state_dict().items()}
            write_tensors(folder / f"{kind}{level}.pth", state)


def _prefix(folder: Path) -> str:
    for prefix in ("", "S"):
        files = [folder / f"{prefix}{kind}{level}.pth" for kind in ("E", "D") for level in LEVELS]
        present = [file for file in files if file.is_file()]
        if present and len(present) < len(files):
            missing = sorted(file.name for file in files if file not in present)
            raise InputError(f"{folder} must hold all ten files, {', '.join(missing)} are missing; add them")
        if present:
            return prefix
    raise InputError(
        f"texture weights must be a folder of E1..5.pth and D1..5.pth (or SE1.. and SD1..), {folder} holds "
        "none; train some with `python -m seg_mia fit --config texture_phantom`"
    )


def _read(file: Path) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in read_state(file).items() if "_aux." not in name}


def _outward(state: Mapping[str, Tensor], level: int, file: Path) -> dict[str, int]:
    outward = {}
    for name in layers_of(level, VGG19):
        weight = state.get(f"{name}.weight")
        if weight is None or weight.ndim != 4 or weight.shape[2:] != (3, 3):
            shape = "none" if weight is None else tuple(weight.shape)
            raise InputError(
                f"{file} must hold {name}.weight of shape (out, in, 3, 3), got {shape}; it is no encoder of "
                f"level {level}"
            )
        outward[name] = len(weight)
    return outward


def _load(part: nn.Module, state: dict[str, Tensor], file: Path) -> None:
    expected = part.state_dict()
    wrong = [
        f"{name} {tuple(state[name].shape) if name in state else 'missing'}"
        for name in expected
        if name not in state or state[name].shape != expected[name].shape
    ]
    wrong += [f"{name} is unknown" for name in state if name not in expected]
    if wrong:
        raise InputError(
            f"{file} does not fit the {type(part).__name__.lower()} of its level: {wrong[0]}"
            f"{f' and {len(wrong) - 1} more' if len(wrong) > 1 else ''}; take files of one set"
        )
    part.load_state_dict(state)


def _convolved(layer: nn.Module, x: Tensor) -> Tensor:
    features: Tensor = layer(functional.pad(x, (1, 1, 1, 1), mode="reflect"))
    return features
