"""Per-sample weight gradients of supported layers.

A layer is a function of an input x (N, ...) and its parameters. Its backward pass has x and the gradient g
of its output, from which follow, without another pass through the network,

- the gradient of each sample, (N, *shape of the weight), or
- only its squared norm (N,), by the Gram matrices of x and g over positions ("ghost norm", Li et al. 2022,
  arXiv:2110.05679; for convolutions Bu, Mao, Xu 2022, arXiv:2205.10683), and
- the gradient of the whole batch, for a g in which each sample has been scaled.

Ghost norms cost L^2 (D + O) products where the gradients themselves cost L D O, for L positions, D inputs and
O outputs to each; `ghost_pays` selects the cheaper. A sample may have several rows (augmented copies), which
follow one another: its gradient is the sum over them, as if their positions were those of one row.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


class Layer(ABC):
    """One layer's arithmetic, with its settings bound."""

    @abstractmethod
    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return the layer's output."""

    def takes(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:  # noqa: ARG002
        """Return whether these shapes are known."""
        return True

    @abstractmethod
    def back(self, x: Tensor, g: Tensor, weight: Tensor) -> Tensor:
        """Return the gradient of the input."""

    @abstractmethod
    def weight_grad_sample(self, x: Tensor, g: Tensor, weight: Tensor) -> Tensor:
        """Return the weight's gradient of each sample, (N, *weight.shape)."""

    @abstractmethod
    def bias_grad_sample(self, g: Tensor) -> Tensor:
        """Return the bias's gradient of each sample, (N, *bias.shape)."""

    def ghost_pays(self, x: Tensor, g: Tensor, weight: Tensor, copies: int = 1) -> bool:  # noqa: ARG002
        """Return whether the squared norm is cheaper than the gradient."""
        return False

    def squared_norm(self, x: Tensor, g: Tensor, weight: Tensor, copies: int = 1) -> Tensor:
        """Return the squared norm of the weight's gradient of each sample, (N / copies,)."""
        gradients = summed_copies(self.weight_grad_sample(x, g, weight), copies)
        return gradients.flatten(1).square().sum(1)

    def weight_gradient(self, x: Tensor, g: Tensor, weight: Tensor) -> Tensor:
        """Return the weight's gradient of the batch."""
        return self.weight_grad_sample(x, g, weight).sum(0)


def summed_copies(gradients: Tensor, copies: int) -> Tensor:
    """Return gradients (N, ...) summed over the rows of each sample, (N / copies, ...)."""
    return gradients if copies == 1 else gradients.reshape(-1, copies, *gradients.shape[1:]).sum(1)


def _joined(rows: Tensor, copies: int) -> Tensor:
    """Return rows (N, D, L) with the positions of each sample's copies as one, (N / copies, D, copies L)."""
    if copies == 1:
        return rows
    return rows.reshape(-1, copies, *rows.shape[1:]).transpose(1, 2).flatten(2)


def _gram(inputs: Tensor, gradients: Tensor, copies: int) -> Tensor:
    """Return the squared norm of each sample's sum of outer products, of (N, D, L) and (N, O, L)."""
    inputs, gradients = _joined(inputs, copies), _joined(gradients, copies)
    inner, outer = (torch.bmm(factor.transpose(1, 2), factor) for factor in (inputs, gradients))
    bound = inner.diagonal(dim1=1, dim2=2).sum(1) * outer.diagonal(dim1=1, dim2=2).sum(1)
    slack = 8 * torch.finfo(inner.dtype).eps * bound  # rounding must not make a norm too small
    return (inner * outer).sum((1, 2)).clamp(min=0) + slack


@dataclass(frozen=True)
class Linear(Layer):
    """x (N, ..., D), weight (O, D)."""

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return x W^T + b."""
        return functional.linear(x, weight, bias)

    def takes(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
        """Return whether these shapes are known."""
        return x.ndim > 1 and weight.ndim == 2 and (bias is None or bias.shape == weight.shape[:1])

    def back(self, x: Tensor, g: Tensor, weight: Tensor) -> Tensor:  # noqa: ARG002
        """Return g W."""
        return g @ weight

    def weight_grad_sample(self, x: Tensor, g: Tensor, weight: Tensor) -> Tensor:  # noqa: ARG002
        """Return the sum over positions of outer products."""
        inputs, gradients = self._positions(x, g)
        return torch.bmm(gradients, inputs.transpose(1, 2))

    def bias_grad_sample(self, g: Tensor) -> Tensor:
        """Return the sum over positions."""
        return g.flatten(1, -2).sum(1) if g.ndim > 2 else g

    def ghost_pays(self, x: Tensor, g: Tensor, weight: Tensor, copies: int = 1) -> bool:
        """Compare the products needed."""
        return 2 * copies * x[0, ..., 0].numel() * (x.shape[-1] + g.shape[-1]) <= weight.numel()

    def squared_norm(self, x: Tensor, g: Tensor, weight: Tensor, copies: int = 1) -> Tensor:  # noqa: ARG002
        """By Gram matrices over positions."""
        return _gram(*self._positions(x, g), copies)

    def weight_gradient(self, x: Tensor, g: Tensor, weight: Tensor) -> Tensor:  # noqa: ARG002
        """As one product."""
        return g.flatten(0, -2).T @ x.flatten(0, -2)

    @staticmethod
    def _positions(x: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
        inputs, gradients = (
            tensor.reshape(len(tensor), -1, tensor.shape[-1]).transpose(1, 2) for tensor in (x, g)
        )
        return inputs, gradients


@dataclass(frozen=True)
class Convolution(Layer):
    """x (N, C, *S), with the settings of torch's convolution in two or three axes, transposed or not."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    transposed: bool = False
    output_padding: tuple[int, ...] = (0, 0)

    def takes(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:  # noqa: ARG002
        """Return whether these shapes are known."""
        return x.ndim == len(self.stride) + 2

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return the convolution."""
        return torch.convolution(
            x,
            weight,
            bias,
            self.stride,
            self.padding,
            self.dilation,
            self.transposed,
            self.output_padding if self.transposed else [0] * len(self.stride),
            self.groups,
        )

    def back(self, x: Tensor, g: Tensor, weight: Tensor) -> Tensor:
        """Return the gradient of the input alone."""
        return self._backward(x, g, weight, self.groups, of_input=True)

    def weight_grad_sample(self, x: Tensor, g: Tensor, weight: Tensor) -> Tensor:
        """Use the library's kernel, per sample or for all samples as groups of one convolution.

        Kernels of one position are a product of matrices, as in a linear layer.
        """
        if self._channelwise(x, weight):
            return (x * g).flatten(2).sum(2).view(len(x), *weight.shape)
        if self._pointwise(weight):
            inputs = x.movedim(1, -1).flatten(1, -2)  # a view of features with their channels last
            return torch.bmm(g.flatten(2), inputs).view(len(x), *weight.shape)
        if self.groups == 1 and not x.is_cuda:  # measured: as fast as the gradient of the whole batch
            return torch.stack([self.weight_gradient(x[[i]], g[[i]], weight) for i in range(len(x))])
        many = weight.repeat(len(x), *[1] * (weight.ndim - 1))
        rows, outputs = (tensor.reshape(1, -1, *tensor.shape[2:]) for tensor in (x, g))
        gradients = self._backward(rows, outputs, many, self.groups * len(x), of_input=False)
        return gradients.view(len(x), *weight.shape)

    def _pointwise(self, weight: Tensor) -> bool:
        """Return whether each output position has one input position, its own."""
        one, none = {1, *weight.shape[2:], *self.stride}, {0, *self.padding, *self.output_padding}
        return self.groups == 1 and not self.transposed and len(one) == len(none) == 1

    def _channelwise(self, x: Tensor, weight: Tensor) -> bool:
        """Return whether each channel is scaled alone: a kernel of one position to each."""
        one, none = {1, *weight.shape[1:], *self.stride}, {0, *self.padding, *self.output_padding}
        single = len(one) == len(none) == 1
        return single and not self.transposed and self.groups == x.shape[1] == weight.shape[0]

    def bias_grad_sample(self, g: Tensor) -> Tensor:
        """Return the sum over positions."""
        return g.flatten(2).sum(2)

    def ghost_pays(self, x: Tensor, g: Tensor, weight: Tensor, copies: int = 1) -> bool:
        """Compare the products needed; torch unfolds images alone, no volumes."""
        if x.ndim > 4:
            return False
        fixed = x if self.transposed else g  # the side that is not unfolded
        positions, outputs = copies * fixed[0, 0].numel(), fixed.shape[1]
        inputs = weight.numel() // max(outputs, 1)
        return self.groups == 1 and 2 * positions * (inputs + outputs) <= weight.numel()

    def squared_norm(self, x: Tensor, g: Tensor, weight: Tensor, copies: int = 1) -> Tensor:
        """By Gram matrices over positions; a transposed convolution is one with x and g exchanged."""
        wide, fixed = (g, x) if self.transposed else (x, g)
        unfolded = functional.unfold(
            wide, weight.shape[2:], dilation=self.dilation, padding=self.padding, stride=self.stride
        )
        if unfolded.shape[2] != fixed[0, 0].numel():  # output padding beyond the stride
            return super().squared_norm(x, g, weight, copies)
        return _gram(unfolded, fixed.flatten(2), copies)

    def weight_gradient(self, x: Tensor, g: Tensor, weight: Tensor) -> Tensor:
        """Return the weight's gradient of the batch alone."""
        return self._backward(x, g, weight, self.groups, of_input=False)

    def _backward(self, x: Tensor, g: Tensor, weight: Tensor, groups: int, *, of_input: bool) -> Tensor:
        gradients = torch.ops.aten.convolution_backward(
            g,
            x,
            weight,
            None,
            self.stride,
            self.padding,
            self.dilation,
            self.transposed,
            self.output_padding if self.transposed else [0] * len(self.stride),
            groups,
            [of_input, not of_input, False],
        )
        gradient: Tensor = gradients[0 if of_input else 1]
        return gradient


@dataclass(frozen=True)
class GroupNorm(Layer):
    """x (N, C, ...) normalised over groups of channels, weight (C,)."""

    groups: int
    eps: float

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return the normalised input, scaled and shifted."""
        return functional.group_norm(x, self.groups, weight, bias, self.eps)

    def back(self, x: Tensor, g: Tensor, weight: Tensor) -> Tensor:
        """Return the gradient of the input alone."""
        count, channels = x.shape[:2]
        x, positions = x.contiguous(), x[0, 0].numel()
        _, mean, scale = torch.native_group_norm(
            x, weight, None, count, channels, positions, self.groups, self.eps
        )
        gradients = torch.ops.aten.native_group_norm_backward(
            g.contiguous(),
            x,
            mean,
            scale,
            weight,
            count,
            channels,
            positions,
            self.groups,
            [True, False, False],
        )
        gradient: Tensor = gradients[0]
        return gradient

    def weight_grad_sample(self, x: Tensor, g: Tensor, weight: Tensor) -> Tensor:  # noqa: ARG002
        """Return the sum over positions of g times the normalised input."""
        normal = functional.group_norm(x, self.groups, None, None, self.eps)
        return (g * normal).reshape(*g.shape[:2], -1).sum(2)

    def bias_grad_sample(self, g: Tensor) -> Tensor:
        """Return the sum over positions."""
        return g.reshape(*g.shape[:2], -1).sum(2)


@dataclass(frozen=True)
class LayerNorm(Layer):
    """x (N, ..., *shape) normalised over its last axes, weight of that shape."""

    shape: tuple[int, ...]
    eps: float

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return the normalised input, scaled and shifted."""
        return functional.layer_norm(x, self.shape, weight, bias, self.eps)

    def back(self, x: Tensor, g: Tensor, weight: Tensor) -> Tensor:
        """Return the gradient of the input alone."""
        x = x.contiguous()
        _, mean, scale = torch.native_layer_norm(x, self.shape, weight, None, self.eps)
        gradients = torch.ops.aten.native_layer_norm_backward(
            g.contiguous(), x, list(self.shape), mean, scale, weight, None, [True, False, False]
        )
        gradient: Tensor = gradients[0]
        return gradient

    def weight_grad_sample(self, x: Tensor, g: Tensor, weight: Tensor) -> Tensor:  # noqa: ARG002
        """Return the sum over positions of g times the normalised input."""
        return self.bias_grad_sample(g * functional.layer_norm(x, self.shape, None, None, self.eps))

    def bias_grad_sample(self, g: Tensor) -> Tensor:
        """Return the sum over positions."""
        return g.reshape(len(g), -1, *self.shape).sum(1)
