"""Probabilities become logits that state the same, and maps of any size those of the image."""

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from seg_mia.errors import InputError
from seg_mia.models.adapter import InputAdapter
from seg_mia.models.heads import predicted, probabilities
from seg_mia.models.one_head import OneHead
from seg_mia.models.output_form import Gives, as_logits, resized

X = torch.rand(2, 3, 8, 8)


class Fixed(nn.Module):
    def __init__(self, output: object) -> None:
        super().__init__()
        self.output = output

    def forward(self, x: Tensor) -> object:  # noqa: ARG002
        return self.output


def logits(channels: int, seed: int = 0) -> Tensor:
    return 5 * torch.randn(2, channels, 8, 8, generator=torch.Generator().manual_seed(seed))


def test_softmax_outputs_state_the_same_probabilities() -> None:
    z = logits(4)
    assert_close(probabilities(as_logits(z.softmax(1), "probabilities")), z.softmax(1))
    assert torch.equal(predicted(as_logits(z.softmax(1), "probabilities")), predicted(z))


@pytest.mark.parametrize("gives", ["sigmoid", "probabilities"])
def test_one_channel_of_probabilities_is_its_logit(gives: Gives) -> None:
    z = logits(1).double()
    assert_close(as_logits(z.sigmoid(), gives), z)


def test_sigmoid_channels_are_their_logits_and_logits_stay() -> None:
    z = logits(3).double()
    assert_close(as_logits(z.sigmoid(), "sigmoid"), z)
    assert as_logits(z, "logits") is z


@pytest.mark.parametrize("gives", ["sigmoid", "probabilities"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("channels", [1, 2])
def test_saturated_probabilities_stay_finite_with_their_gradients(
    gives: Gives, dtype: torch.dtype, channels: int
) -> None:
    p = torch.tensor([0, 1, 1e-35], dtype=dtype).reshape(1, 1, 1, 3).repeat(1, channels, 1, 1)
    p.requires_grad_()
    z = as_logits(p, gives)
    (gradient,) = torch.autograd.grad(z.sum(), p)
    assert z.isfinite().all()
    assert gradient.isfinite().all()
    assert z.dtype == torch.promote_types(dtype, torch.float32)


def test_the_deployed_map_is_enlarged_and_converted() -> None:
    p = logits(2).softmax(1)
    wrapped = OneHead(
        Fixed({"aux": p, "out": p[..., ::4, ::4]}), head="out", gives="probabilities", resize=True
    )
    (first, *_) = wrapped.eval()(X)
    assert_close(first.exp(), resized(p[..., ::4, ::4], (8, 8)))


def test_no_head_is_the_first_map() -> None:
    z = logits(1)
    assert torch.equal(OneHead(Fixed((z, z + 1)), head=None).eval()(X)[0], z)


@pytest.mark.parametrize("output", ["out", 1, -1])
def test_an_adapter_returns_the_map_that_is_named(output: int | str) -> None:
    z = logits(2)
    content = {"aux": z - 1, "out": z} if output == "out" else [z - 1, z]
    assert torch.equal(InputAdapter(Fixed(content), output=output)(X), z)
    with pytest.raises(InputError, match="network's maps aux, out, got 'logits'; set output"):
        InputAdapter(Fixed({"aux": z, "out": z}), output="logits")(X)


def test_an_adapter_converts_and_enlarges() -> None:
    p = logits(2).softmax(1)[..., :3, :3]
    assert_close(InputAdapter(Fixed(p), gives="probabilities", resize=True)(X).exp(), resized(p, (8, 8)))
    assert InputAdapter(Fixed(p))(X).shape == p.shape
