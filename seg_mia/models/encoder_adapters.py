"""Small trained additions to the convolutions of a frozen encoder: scale and shift, or low-rank terms.

An adapter adds to the output of a convolution of the encoder, whose own weights stay as they are:

- `scale_shift`: y + a * y + b with a value a and b for each channel of the output y (FiLM, Perez et al. 2018,
  arXiv:1709.07871; in private transfer learning Tobaben et al. 2023, arXiv:2302.01190),
- `low_rank`: y + B (A * x) with a convolution A of the same kernel to `rank` maps and a 1x1 convolution B
  (LoRA, Hu et al. 2022, arXiv:2106.09685).

Both are 0 at the start, so that a network begins as the pre-trained one. All layers are convolutions, whose
per-sample gradients are known (`seg_mia.grad_sample`).
"""

from fnmatch import fnmatch
from typing import Literal, assert_never

from torch import Tensor, nn

from seg_mia.errors import InputError, name_some

Kind = Literal["scale_shift", "low_rank"]


class ScaleShift(nn.Module):
    """Scale and shift of each channel of a convolution's output.

    Args:
        convolution: adapted layer.
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        channels = convolution.out_channels
        self.affine = nn.Conv2d(channels, channels, 1, groups=channels)
        nn.init.zeros_(self.affine.weight)
        assert self.affine.bias is not None
        nn.init.zeros_(self.affine.bias)

    def add(self, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:  # noqa: ARG002
        """Return the output (N, C, h, w) of a layer with its change added; a forward hook."""
        change: Tensor = self.affine(output)
        return output + change


class LowRank(nn.Module):
    """A second convolution of low rank beside a convolution.

    Args:
        convolution: adapted layer, not grouped, padded with zeros.
        rank: maps between the two factors.
    """

    def __init__(self, convolution: nn.Conv2d, rank: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(
            convolution.in_channels,
            rank,
            convolution.kernel_size,  # type: ignore[arg-type]  # a tuple of two, by its constructor
            stride=convolution.stride,  # type: ignore[arg-type]
            padding=convolution.padding,  # type: ignore[arg-type]
            dilation=convolution.dilation,  # type: ignore[arg-type]
            bias=False,
        )
        self.up = nn.Conv2d(rank, convolution.out_channels, 1, bias=False)
        nn.init.zeros_(self.up.weight)

    def add(self, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:  # noqa: ARG002
        """Return the output (N, C, h, w) of a layer with its change added; a forward hook."""
        change: Tensor = self.up(self.down(inputs[0]))
        return output + change


def add_adapters(encoder: nn.Module, kind: Kind, layers: list[str], rank: int | None) -> nn.ModuleDict:
    """Register an adapter for each convolution of an encoder whose name fits a pattern, and return them.

    The adapters are no part of the encoder, whose names of weights do not change. A copy of a network that
    has both keeps them together.

    Args:
        encoder: encoder, changed in place by forward hooks.
        kind: `scale_shift` or `low_rank`.
        layers: patterns of names, such as `model.blocks.[56].*`, with the wildcards of file names.
        rank: rank of `low_rank`, 2 if not given.

    Raises:
        InputError: a pattern that no suitable convolution fits, a rank below 1, or layers whose names differ
            in dots and underscores alone.
    """
    rank = 2 if rank is None else rank
    if rank < 1:
        raise InputError(f"the rank of adapters must be at least 1, got {rank}")
    suitable = {name: layer for name, layer in encoder.named_modules() if _suitable(layer, kind)}
    for pattern in layers:
        if not any(fnmatch(name, pattern) for name in suitable):
            raise InputError(
                f"adapters need names of convolutions of the encoder, got {pattern!r}; "
                f"{kind} fits {name_some(list(suitable), 6)}"
            )
    adapters = nn.ModuleDict()
    for name, layer in suitable.items():
        if any(fnmatch(name, pattern) for pattern in layers):
            key = name.replace(".", "_")  # a key of modules holds no dot
            if key in adapters:
                raise InputError(
                    f"adapters are named after their convolutions, got two for {key} ({name} is one); give "
                    "patterns that fit one of them"
                )
            adapter = _adapter(kind, layer, rank)
            layer.register_forward_hook(adapter.add)  # a bound method: deep copies bind it to their own
            adapters[key] = adapter
    return adapters


def _suitable(layer: nn.Module, kind: Kind) -> bool:
    """Return whether a layer may be adapted: low rank needs no groups, and padding by explicit zeros."""
    if not isinstance(layer, nn.Conv2d):
        return False
    return kind == "scale_shift" or (_is_plain(layer))


def _is_plain(layer: nn.Conv2d) -> bool:
    return type(layer) is nn.Conv2d and layer.groups == 1 and layer.padding_mode == "zeros"


def _adapter(kind: Kind, layer: nn.Module, rank: int) -> ScaleShift | LowRank:
    assert isinstance(layer, nn.Conv2d)
    match kind:
        case "scale_shift":
            return ScaleShift(layer)
        case "low_rank":
            return LowRank(layer, rank)
        case _:
            assert_never(kind)
