"""What is met in a forward and a backward pass, against autograd of single samples."""

import copy
from typing import Literal

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations

from seg_mia.errors import InputError
from seg_mia.grad_sample.recording import GradSampleRecord, Recording, UnknownUseError
from tests.grad_sample.helpers import Parameters, Uses, close, draw, parameter


def losses(network: nn.Module, x: Tensor) -> Tensor:
    output: Tensor = network(x).flatten(1)
    return (output * torch.linspace(0.5, 1.5, output.shape[1], dtype=output.dtype)).sin().sum(1)


def record(network: nn.Module, x: Tensor, parameters: Parameters) -> GradSampleRecord:
    ledger = GradSampleRecord({parameter: name for name, parameter in parameters.items()}, len(x))
    with Recording(ledger):
        found = losses(network, x)
    torch.autograd.grad(found.sum(), list(parameters.values()), allow_unused=True)
    return ledger


def single(network: nn.Module, x: Tensor, parameters: Parameters) -> dict[str, Tensor]:
    """Return each parameter's gradient of each sample, by autograd, (N, *shape)."""
    each = [
        torch.autograd.grad(losses(network, x[[i]]).sum(), list(parameters.values()), materialize_grads=True)
        for i in range(len(x))
    ]
    return {name: torch.stack(each) for name, each in zip(parameters, zip(*each, strict=True), strict=True)}


def assert_recorded(network: nn.Module, x: Tensor, parameters: Parameters | None = None) -> None:
    """Compare norms and sums; a sum with one factor of 1 among zeros is one sample's gradient."""
    network = network.double()
    parameters = dict(network.named_parameters()) if parameters is None else parameters
    ledger = record(network, x, parameters)
    expected = single(network, x, parameters)
    norms = ledger.squared_norms()
    assert norms is not None
    close(norms, sum(each.flatten(1).square().sum(1) for each in expected.values()))
    for factors in (*torch.eye(len(x), dtype=torch.float64), draw(len(x), seed=2)):
        found = ledger.weighted(factors)
        for name, each in expected.items():
            sums = found.get(parameters[name], torch.zeros_like(each[0]))
            close(sums, torch.tensordot(factors, each, 1))


def every_kind() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),
        nn.GroupNorm(4, 8),
        nn.ReLU(inplace=True),
        nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False),
        nn.ConvTranspose2d(8, 6, 2, stride=2),
        nn.Hardswish(inplace=True),
        nn.Conv2d(6, 40, 4, stride=4),
        nn.Flatten(2),
        nn.LayerNorm(4),
        nn.Linear(4, 5),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(200, 3, bias=False),
    )


def test_a_network_of_every_known_layer() -> None:
    assert_recorded(every_kind(), draw(3, 3, 8, 8))


def test_memory_in_another_order() -> None:
    network = every_kind().to(memory_format=torch.channels_last)
    assert_recorded(network, draw(3, 3, 8, 8).contiguous(memory_format=torch.channels_last))


def test_settings_by_keyword_and_by_position() -> None:
    w, b = parameter(4, 4, 3, 3), parameter(4)

    def forward(own: Uses, x: Tensor) -> Tensor:
        x = functional.conv2d(x, own.w, None, 2, (1, 0), 1, 1)
        x = functional.conv2d(bias=own.b, weight=own.w, input=x, padding=[2, 2], dilation=2)
        x = functional.conv_transpose2d(x, own.w, own.b, 2, 1, 1, 1, 1)
        x = functional.conv_transpose2d(input=x, weight=own.w, bias=None, stride=(2, 1), dilation=2)
        x = functional.group_norm(input=x, num_groups=2, weight=own.b, bias=own.b, eps=1e-2)
        x = functional.group_norm(x, 4, own.b, None)
        x = functional.layer_norm(input=x.transpose(1, 3), normalized_shape=[4], weight=own.b, eps=1e-2)
        x = functional.layer_norm(x, (4,), own.b, own.b, 1e-3)
        return functional.linear(input=x, weight=own.s, bias=own.b)

    assert_recorded(Uses(forward, w=w, b=b, s=parameter(4, 4)), draw(3, 4, 6, 7))


@pytest.mark.parametrize("padding", ["same", "valid", 0, 2, (2, 1)])
@pytest.mark.parametrize("mode", ["zeros", "reflect", "circular"])
def test_paddings(
    padding: str | int | tuple[int, int], mode: Literal["zeros", "reflect", "circular"]
) -> None:
    network = nn.Conv2d(3, 4, (3, 5), padding=padding, dilation=(2, 1), padding_mode=mode)
    assert_recorded(network, draw(3, 3, 7, 8))


def test_few_positions_take_the_way_of_gram_matrices() -> None:
    wide = nn.Sequential(
        nn.Conv2d(16, 64, 3, padding=1),
        nn.Tanh(),
        nn.ConvTranspose2d(64, 16, 3, stride=2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 64),
    )
    assert_recorded(wide, draw(3, 16, 2, 2))
    ledger = record(wide, draw(3, 16, 2, 2), dict(wide.named_parameters()))
    ways = {ledger.names[each]: kept.grad_sample is None for each, kept in ledger.contributions.items()}
    assert [name for name, by_norm in ways.items() if by_norm] == ["5.weight", "2.weight", "0.weight"]


@pytest.mark.parametrize("layer", [nn.Linear(6, 6), nn.Linear(64, 64), nn.LayerNorm(6)])
def test_a_layer_used_twice(layer: nn.Module) -> None:
    network = nn.Sequential(layer, nn.Tanh(), layer)
    assert_recorded(network, draw(3, 64 if layer.get_parameter("bias").numel() == 64 else 6))


def test_a_layer_used_twice_of_which_one_use_counts() -> None:
    def dead(own: Uses, x: Tensor) -> Tensor:
        own.layer(3 * x)
        return own.layer(own.layer(x).detach())  # type: ignore[no-any-return]

    assert_recorded(Uses(dead, layer=nn.Linear(64, 64)), draw(3, 64))


def test_a_parameter_of_two_layers() -> None:
    one, two, other = nn.Linear(5, 5), nn.Linear(5, 5, bias=False), nn.LayerNorm(5)
    two.weight = one.weight
    other.weight = other.bias = one.bias
    assert_recorded(nn.Sequential(one, nn.Tanh(), two, other), draw(3, 4, 5))


@pytest.mark.parametrize("kept", ["weight", "bias"])
@pytest.mark.parametrize("frozen", [False, True])
def test_weights_without_biases_and_the_other_way_round(kept: str, frozen: bool) -> None:
    network = every_kind().double()
    for name, each in network.named_parameters():
        each.requires_grad_(not frozen or name.endswith(kept))
    chosen = {name: each for name, each in network.named_parameters() if name.endswith(kept)}
    assert_recorded(network, draw(3, 3, 8, 8), chosen)


def test_parameters_outside_the_ledger_are_left_to_torch() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.PReLU(), nn.BatchNorm2d(4).eval(), nn.Conv2d(4, 2, 1))
    chosen = {name: each for name, each in network.double().named_parameters() if name.startswith("3.")}
    assert_recorded(network, draw(3, 3, 6, 6), chosen)


def test_a_parameter_that_the_output_does_not_depend_on() -> None:
    unused = Uses(lambda own, x: own.layer(x), layer=nn.Linear(5, 2), other=nn.Linear(5, 2))
    assert_recorded(unused, draw(3, 5))


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv2d(4, 4, 3, padding=1), (3, 4, 5, 5)),
        (nn.ConvTranspose2d(4, 4, 3, padding=1), (3, 4, 5, 5)),
        (nn.GroupNorm(2, 4), (3, 4, 5, 5)),
        (nn.LayerNorm(4), (3, 5, 4)),
        (nn.Linear(4, 4), (3, 4)),
        (nn.Linear(4, 4), (3, 5, 4)),
        (nn.Linear(4, 4, bias=False), (3, 2, 5, 4)),
    ],
)
def test_outputs_may_be_changed_in_place(layer: nn.Module, shape: tuple[int, ...]) -> None:
    def residual(own: Uses, x: Tensor) -> Tensor:
        identity = own.first(x)
        out: Tensor = own.second(identity)
        out += identity
        return out.relu_()

    assert_recorded(nn.Sequential(layer, nn.ReLU(inplace=True)), draw(*shape))
    assert_recorded(Uses(residual, first=layer, second=copy.deepcopy(layer)), draw(*shape))


def test_an_input_changed_after_use_is_an_error() -> None:
    def forward(own: Uses, x: Tensor) -> Tensor:
        inner: Tensor = own.first(x).tanh() * 1
        out: Tensor = own.second(inner)
        inner.mul_(2)
        return out

    network = Uses(forward, first=nn.Linear(5, 5), second=nn.Linear(5, 2)).double()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        record(network, draw(3, 5), dict(network.named_parameters()))


def test_outputs_are_those_of_torch_and_the_recording_ends() -> None:
    network, x = every_kind().double(), draw(3, 3, 8, 8)
    ledger = GradSampleRecord({each: name for name, each in network.named_parameters()}, 3)
    with Recording(ledger):
        recorded = network(x)
    close(recorded, network(x))
    assert set(ledger.uses.values()) == {1}
    (gradient,) = torch.autograd.grad(network(x).sum(), network.get_parameter("0.weight"))
    assert gradient.any()
    assert not ledger.contributions


UNKNOWN: dict[str, tuple[nn.Module, str, str]] = {
    "a product": (Uses(lambda own, x: x @ own.w.T, w=parameter(2, 6)), "w", "__get__"),
    "einsum": (Uses(lambda own, x: torch.einsum("nd,od->no", x, own.w), w=parameter(2, 6)), "w", "einsum"),
    "a factor": (Uses(lambda own, x: own.a(x) * own.w, a=nn.Linear(6, 6), w=parameter(6)), "w", "mul"),
    "a summand in place": (
        Uses(lambda own, x: own.a(x).add_(own.w), a=nn.Linear(6, 6), w=parameter(6)), "w", "add_"
    ),
    "a list": (Uses(lambda own, x: torch.cat([x, own.w]), w=parameter(1, 6)), "w", "cat"),
    "a shape": (Uses(lambda own, x: functional.linear(x, own.w.view(2, 6)), w=parameter(12)), "w", "view"),
    "weight norm": (
        parametrizations.weight_norm(nn.Linear(6, 2)), "parametrizations.weight.original1", "_weight_norm"
    ),
    "spectral norm": (
        parametrizations.spectral_norm(nn.Linear(6, 2)), "parametrizations.weight.original", "__get__"
    ),
    "standardised weights": (
        Uses(lambda own, x: functional.linear(x, own.w - own.w.mean()), w=parameter(2, 6)), "w", "mean"
    ),
    "embedding": (Uses(lambda own, x: own.e((x > 0).long()), e=nn.Embedding(2, 3)), "e.weight", "embedding"),
    "prelu": (nn.PReLU(), "weight", "prelu"),
    "batch norm": (nn.BatchNorm1d(6), "weight", "batch_norm"),
    "bilinear": (Uses(lambda own, x: own.b(x, x), b=nn.Bilinear(6, 6, 2)), "b.weight", "bilinear"),
    "one-dimensional convolution": (
        Uses(lambda own, x: own.c(x[:, None]), c=nn.Conv1d(1, 2, 3)), "c.weight", "conv1d"
    ),
    "attention": (
        Uses(lambda own, x: own.m(*[x[:, None]] * 3)[0], m=nn.MultiheadAttention(6, 2)),
        "m.in_proj_weight",
        "multi_head_attention_forward",
    ),
    "lstm": (Uses(lambda own, x: own.r(x[:, None])[0], r=nn.LSTM(6, 2)), "r.weight_ih_l0", "lstm"),
}  # fmt: skip


@pytest.mark.parametrize("kind", UNKNOWN)
def test_other_uses_are_refused_by_name(kind: str) -> None:
    network, name, function = UNKNOWN[kind]
    network = network.double()
    with pytest.raises(UnknownUseError, match=f"norms; parameter {name} is used by {function}$"):
        record(network, draw(3, 6), dict(network.named_parameters()))
    assert issubclass(UnknownUseError, InputError)


def test_looking_at_a_parameter_is_no_use() -> None:
    def forward(own: Uses, x: Tensor) -> Tensor:
        weight: nn.Parameter = own.a.weight
        assert weight.requires_grad
        same: Tensor = own.a(x.to(weight.dtype).to(weight.device)) * weight.detach().abs().mean()
        return same * len(weight)

    assert_recorded(Uses(forward, a=nn.Linear(6, 2)), draw(3, 6))


@pytest.mark.parametrize(
    "windows",
    [
        Uses(lambda own, x: own.a(x.reshape(-1, 3)).view(len(x), -1), a=nn.Linear(3, 2)),
        Uses(lambda own, x: own.a(x.reshape(-1, 3)).view(len(x), -1), a=nn.LayerNorm(3)),
        Uses(lambda own, x: own.a(x.mean(0, keepdim=True)).expand(len(x), -1), a=nn.Linear(6, 2)),
        Uses(lambda own, x: own.a(x[None])[0], a=nn.Linear(6, 2)),
        Uses(lambda own, x: own.a(x.T[..., None, None])[:3, :, 0, 0], a=nn.Conv2d(3, 2, 1)),
    ],
)
def test_another_axis_than_the_batch_is_refused(windows: nn.Module) -> None:
    network = windows.double()
    with pytest.raises(UnknownUseError, match="the batch's 3 samples .* parameter a.weight has (1|6)$"):
        record(network, draw(3, 6), dict(network.named_parameters()))


def test_uneven_padding_is_refused() -> None:
    network = nn.Conv2d(3, 4, 2, padding="same").double()
    with pytest.raises(UnknownUseError, match="uneven `same` padding"):
        record(network, draw(3, 3, 5, 5), dict(network.named_parameters()))
