"""Recording of all parameter uses in a forward pass, for per-sample gradients."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from seg_mia.errors import InputError
from seg_mia.grad_sample.layers import Convolution, GroupNorm, Layer, LayerNorm, Linear, summed_copies

Settings = tuple[int, ...]


class UnknownUseError(InputError):
    """A parameter is used in an operation without a supported per-sample gradient."""


@dataclass
class _Contribution:
    """Contribution to one parameter's gradient: per-sample gradients, or norms with their inputs."""

    grad_sample: Tensor | None = None
    norm: Tensor | None = None
    ingredients: tuple[Layer, Tensor, Tensor] | None = None


@dataclass
class GradSampleRecord:
    """Per-sample gradient record of a forward and a backward pass.

    Attributes:
        names: names of the trained parameters.
        samples: number of rows of the batch.
        copies: rows of each sample, which follow one another; gradients are summed over them.
    """

    names: dict[nn.Parameter, str]
    samples: int
    copies: int = 1
    uses: dict[nn.Parameter, int] = field(default_factory=dict)
    contributions: dict[nn.Parameter, _Contribution] = field(default_factory=dict)
    listening: bool = False

    def squared_norms(self) -> Tensor | None:
        """Return the squared norm of each sample's whole gradient, (N,), after the backward pass."""
        parts = [
            record.norm if record.norm is not None else _grad_sample(record).flatten(1).square().sum(1)
            for record in self.contributions.values()
        ]
        return torch.stack(parts).sum(0) if parts else None

    def weighted(self, factors: Tensor) -> dict[nn.Parameter, Tensor]:
        """Return the sum of the samples' gradients, each times its factor (N,), for each parameter met."""
        return {
            parameter: _weighted(parameter, record, factors, self.copies)
            for parameter, record in self.contributions.items()
        }

    def meet(self, layer: Layer, weight: Tensor, bias: Tensor | None, x: Tensor, g: Tensor) -> None:
        """Record a layer's input and the gradient of its output."""
        if not self.listening:  # a backward pass within the objective, such as an attack's
            return
        if isinstance(weight, nn.Parameter) and weight in self.names:
            if self.uses[weight] == 1 and layer.ghost_pays(x, g, weight, self.copies):
                norm = layer.squared_norm(x, g, weight, self.copies)
                self.contributions[weight] = _Contribution(norm=norm, ingredients=(layer, x, g))
            else:
                self._add(weight, layer.weight_grad_sample(x, g, weight))
        if isinstance(bias, nn.Parameter) and bias in self.names:
            self._add(bias, layer.bias_grad_sample(g))

    def _add(self, parameter: nn.Parameter, gradients: Tensor) -> None:
        record = self.contributions.setdefault(parameter, _Contribution())
        gradients = summed_copies(gradients, self.copies)
        record.grad_sample = gradients if record.grad_sample is None else record.grad_sample + gradients


def _grad_sample(record: _Contribution) -> Tensor:
    assert record.grad_sample is not None
    return record.grad_sample


def _weighted(parameter: nn.Parameter, record: _Contribution, factors: Tensor, copies: int) -> Tensor:
    if record.ingredients is None:
        gradients = _grad_sample(record)
        return (factors @ gradients.flatten(1)).view(gradients.shape[1:])
    layer, x, g = record.ingredients
    scaled = g * factors.repeat_interleave(copies).view(-1, *[1] * (g.ndim - 1))
    return layer.weight_gradient(x, scaled, parameter.detach())


class Recording(TorchFunctionMode):
    """Context in which layers report to the record instead of computing parameter gradients.

    Raises:
        UnknownUseError: a trained parameter is used by anything else, or a layer's first axis is not the
            batch.
    """

    def __init__(self, ledger: GradSampleRecord) -> None:
        super().__init__()
        self.ledger = ledger

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run the function, or its recorded twin."""
        del types
        kwargs = kwargs or {}
        used = [tensor for tensor in _tensors((*args, *kwargs.values())) if self._trained(tensor)]
        if used and func in _TWINS:
            return _TWINS[func](self, *args, **kwargs)
        output = func(*args, **kwargs)
        if used and any(made.requires_grad and not self._trained(made) for made in _tensors((output,))):
            name = self.ledger.names[used[0]]
            raise UnknownUseError(
                "per-sample gradients are implemented for linear layers, convolutions, group and layer "
                f"norms; parameter {name} is used by {getattr(func, '__name__', func)}"
            )
        return output

    def __exit__(self, *error: Any) -> None:
        """Record gradients from now on; those within the objective are not recorded."""
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        self.ledger.listening = True

    def _trained(self, tensor: Tensor | None) -> TypeGuard[nn.Parameter]:
        return isinstance(tensor, nn.Parameter) and tensor in self.ledger.names

    def run(self, layer: Layer, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return the layer's output, recorded in the backward pass."""
        if not torch.is_grad_enabled():
            return layer.forward(x, weight, bias)
        self._require_known(layer, x, weight, bias)
        if len(x) != self.ledger.samples:
            name = next(self.ledger.names[p] for p in (weight, bias) if self._trained(p))
            raise UnknownUseError(
                f"the input of a layer must have the batch's {self.ledger.samples} samples along its first "
                f"axis, that of parameter {name} has {len(x)}"
            )
        for parameter in (weight, bias):
            if isinstance(parameter, nn.Parameter):
                self.ledger.uses[parameter] = self.ledger.uses.get(parameter, 0) + 1
        output: Tensor = _Recorded.apply(self.ledger, layer, x, weight, bias)
        return output

    def _require_known(self, layer: Layer, x: Tensor, weight: Tensor, bias: Tensor | None) -> None:
        name = next(self.ledger.names[p] for p in (weight, bias, x) if self._trained(p))
        if self._trained(x):
            raise UnknownUseError(f"parameter {name} is the input of a layer")
        if any(p is not None and p.grad_fn is not None for p in (weight, bias)):
            raise UnknownUseError(f"a layer has computed weights beside parameter {name}")
        if not layer.takes(x, weight, bias):
            raise UnknownUseError(f"the layer of parameter {name} has unknown shapes")


class _Recorded(torch.autograd.Function):
    """Layer without parameter gradients."""

    @staticmethod
    def forward(
        ctx: Any, ledger: GradSampleRecord, layer: Layer, x: Tensor, weight: Tensor, bias: Tensor | None
    ) -> Tensor:
        ctx.ledger, ctx.layer, ctx.bias, ctx.weight = ledger, layer, bias, weight
        ctx.address = x.data_ptr()
        ctx.save_for_backward(x, weight)  # an input changed in place since is an error, not a wrong gradient
        return layer.forward(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[None, None, Tensor | None, None, None]:
        x, _ = ctx.saved_tensors
        if x.data_ptr() != ctx.address:
            raise UnknownUseError("the input of a layer was recomputed or moved, as by checkpointing")
        if torch.is_grad_enabled():
            raise UnknownUseError("the loss contains a gradient, which must itself be differentiated")
        with torch.no_grad():  # detached, or the ledger would keep the graph that keeps the ledger
            ctx.ledger.meet(ctx.layer, ctx.weight, ctx.bias, x.detach(), g.detach())
            back = ctx.layer.back(x, g, ctx.weight) if ctx.needs_input_grad[2] else None
        return None, None, back, None, None


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


def _per_axis(value: int | Sequence[int], weight: Tensor) -> Settings:
    """Return a convolution's setting for each spatial axis."""
    count = weight.ndim - 2
    values = (value,) if isinstance(value, int) else tuple(map(int, value))
    return values * count if len(values) == 1 else values


def _padding(padding: str | int | Sequence[int], weight: Tensor, dilation: Settings) -> Settings:
    if padding == "valid":
        return (0,) * len(dilation)
    if padding == "same":
        reach = [spread * (side - 1) for spread, side in zip(dilation, weight.shape[2:], strict=True)]
        if any(total % 2 for total in reach):
            raise UnknownUseError("a convolution with uneven `same` padding is not supported")
        return tuple(total // 2 for total in reach)
    assert not isinstance(padding, str)
    return _per_axis(padding, weight)


def _convolution(
    mode: Recording,
    input: Tensor,  # noqa: A002  # as torch names it
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: str | int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Tensor:
    spread = _per_axis(dilation, weight)
    layer = Convolution(_per_axis(stride, weight), _padding(padding, weight, spread), spread, groups)
    return mode.run(layer, input, weight, bias)


def _transposed_convolution(
    mode: Recording,
    input: Tensor,  # noqa: A002  # as torch names it
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    output_padding: int | Sequence[int] = 0,
    groups: int = 1,
    dilation: int | Sequence[int] = 1,
) -> Tensor:
    places = (_per_axis(stride, weight), _per_axis(padding, weight), _per_axis(dilation, weight))
    layer = Convolution(*places, groups, True, _per_axis(output_padding, weight))
    return mode.run(layer, input, weight, bias)


def _linear(mode: Recording, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:  # noqa: A002
    return mode.run(Linear(), input, weight, bias)


def _group_norm(
    mode: Recording,
    input: Tensor,  # noqa: A002  # as torch names it
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    if weight is None:
        raise UnknownUseError("a group norm without weight has a trained bias or input")
    return mode.run(GroupNorm(num_groups, eps), input, weight, bias)


def _layer_norm(
    mode: Recording,
    input: Tensor,  # noqa: A002  # as torch names it
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    if weight is None:
        raise UnknownUseError("a layer norm without weight has a trained bias or input")
    return mode.run(LayerNorm(tuple(normalized_shape), eps), input, weight, bias)


_TWINS: dict[Callable[..., Any], Callable[..., Tensor]] = {
    torch.conv2d: _convolution,
    torch.conv3d: _convolution,
    torch.conv_transpose2d: _transposed_convolution,
    torch.conv_transpose3d: _transposed_convolution,
    functional.linear: _linear,
    functional.group_norm: _group_norm,
    functional.layer_norm: _layer_norm,
}
