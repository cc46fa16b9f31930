"""Small trained additions to a frozen encoder."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from seg_mia.errors import InputError
from seg_mia.grad_sample.clipping import clipped_sum
from seg_mia.models.encoder_adapters import LowRank, ScaleShift, add_adapters
from seg_mia.models.smp import Smp
from seg_mia.models.weights import load_encoder

HEAD: dict[str, Any] = {"architecture": "Hypercolumn", "encoder": "resnet18", "channels": 3, "classes": 1}
KINDS: list[dict[str, Any]] = [
    {"adapters": "scale_shift", "adapted": ["layer4.*.conv2", "layer3.1.conv1"]},
    {"adapters": "low_rank", "adapted": ["layer4.*.conv?"], "rank": 3},
]
every_kind = pytest.mark.parametrize("kind", KINDS, ids=["scale_shift", "low_rank"])


def images() -> Tensor:
    return torch.rand(3, 3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def network(kind: dict[str, Any], *, drawn: bool = False) -> Smp:
    """Return a network in evaluation mode whose encoder is frozen."""
    torch.manual_seed(0)
    made = Smp(**HEAD, **kind).double().eval()
    made.encoder.requires_grad_(False)
    if drawn:
        assert made.adapters is not None
        for parameter in made.adapters.parameters():
            nn.init.normal_(parameter, std=0.1)
    return made


@every_kind
def test_a_network_begins_as_without_adapters_and_has_the_same_encoder(kind: dict[str, Any]) -> None:
    plain, adapted = network({}), network(kind)
    adapted.load_state_dict(plain.state_dict(), strict=False)
    assert_close(adapted(images()), plain(images()), rtol=0, atol=0)
    assert adapted.encoder.state_dict().keys() == plain.encoder.state_dict().keys()


def test_scale_and_shift_by_hand() -> None:
    layer = nn.Conv2d(2, 2, 1, bias=False)
    adapter = ScaleShift(layer)
    layer.register_forward_hook(adapter.add)
    x = torch.rand(1, 2, 3, 3)
    with torch.no_grad():
        layer.weight.copy_(torch.eye(2)[..., None, None])
        adapter.affine.weight.copy_(torch.tensor([1.0, -0.5])[:, None, None, None])
        assert adapter.affine.bias is not None
        adapter.affine.bias.copy_(torch.tensor([0.25, 4.0]))
    assert_close(layer(x), torch.stack([2 * x[:, 0] + 0.25, 0.5 * x[:, 1] + 4], 1))


def test_a_low_rank_term_is_a_second_convolution_of_that_rank() -> None:
    layer = nn.Conv2d(4, 6, 3, stride=2, padding=1, bias=False)
    adapter = LowRank(layer, 2)
    nn.init.normal_(adapter.up.weight)
    x = torch.rand(2, 4, 8, 8)
    change = torch.einsum("or,rikl->oikl", adapter.up.weight[..., 0, 0], adapter.down.weight)
    plain = layer(x)
    layer.register_forward_hook(adapter.add)
    other = nn.functional.conv2d(x, layer.weight + change, stride=2, padding=1)
    assert_close(layer(x), other)
    assert not torch.equal(layer(x), plain)
    assert torch.linalg.matrix_rank(change.flatten(1)) == 2


@every_kind
def test_a_copy_has_adapters_of_its_own(kind: dict[str, Any]) -> None:
    first = network(kind, drawn=True)
    second = copy.deepcopy(first)
    before = first(images())
    assert second.adapters is not None
    for parameter in second.adapters.parameters():
        nn.init.zeros_(parameter)
    assert_close(first(images()), before, rtol=0, atol=0)
    assert not torch.allclose(second(images()), before)


@every_kind
def test_gradients_of_single_images_are_found_together(kind: dict[str, Any]) -> None:
    made = network(kind, drawn=True)
    trained = {name: each for name, each in made.named_parameters() if each.requires_grad}
    assert any(name.startswith("adapters.") for name in trained)
    x = images()

    def objective(rows: Tensor) -> Tensor:
        logits: Tensor = made(x[rows])
        return logits.square().flatten(1).mean(1)

    fused, loop = (
        clipped_sum(objective, trained, torch.arange(3), clip=0.1, physical=3, mode=mode)
        for mode in ("fused", "loop")
    )
    assert_close(fused.norms, loop.norms)
    assert_close(fused.sums, loop.sums)
    assert all(bool(gradient.any()) for name, gradient in fused.sums.items() if "down" not in name)


@every_kind
def test_encoder_weights_load_as_before(kind: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    stored = Smp(**HEAD).encoder.state_dict()
    monkeypatch.setattr(Smp, "imagenet_encoder", lambda _: stored)
    made = Smp(**HEAD, **kind)
    load_encoder(made, "imagenet")
    assert_close(made.encoder.state_dict(), stored, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("settings", "telling"),
    [
        ({"adapters": "low_rank"}, "belong together"),
        ({"adapted": ["layer4.*"]}, "belong together"),
        ({"adapters": "scale_shift", "adapted": ["layer4.*"], "rank": 2}, "rank to low_rank"),
        ({"adapters": "low_rank", "adapted": ["layer4.*"], "rank": 0}, "must be at least 1, got 0"),
        ({"adapters": "low_rank", "adapted": ["layer9.*"]}, "got 'layer9.*'; low_rank fits conv1"),
    ],
)
def test_what_does_not_fit_is_refused(settings: dict[str, Any], telling: str) -> None:
    with pytest.raises(InputError, match=None) as caught:
        Smp(**HEAD, **settings)
    assert telling in str(caught.value)


def test_grouped_convolutions_have_no_low_rank_term() -> None:
    encoder = nn.Sequential(nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 8, 1))
    assert list(add_adapters(encoder, "low_rank", ["*"], None)) == ["1"]
    assert list(add_adapters(encoder, "scale_shift", ["*"], None)) == ["0", "1"]


def test_padding_by_other_values_than_zero_has_no_low_rank_term() -> None:
    encoder = nn.Sequential(
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"), nn.Conv2d(4, 8, 3, padding=1)
    )
    assert list(add_adapters(encoder, "low_rank", ["*"], None)) == ["1"]
    with pytest.raises(InputError, match="got '0'; low_rank fits 1"):
        add_adapters(encoder, "low_rank", ["0"], None)


def test_layers_whose_names_differ_in_dots_alone_are_refused() -> None:
    encoder = nn.ModuleDict({"a": nn.ModuleDict({"b": nn.Conv2d(1, 1, 1)}), "a_b": nn.Conv2d(1, 1, 1)})
    with pytest.raises(InputError, match="got two for a_b") as caught:
        add_adapters(encoder, "scale_shift", ["*"], None)
    assert "\n" not in str(caught.value)
    assert list(add_adapters(encoder, "scale_shift", ["a.*"], None)) == ["a_b"]
