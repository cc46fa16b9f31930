import copy
import json
import socket
from typing import Any, NoReturn

import pytest
import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn

from seg_mia.errors import InputError
from seg_mia.models.smp import Smp, architecture_names, encoder_names
from seg_mia.models.weights import load_encoder

LITE = "timm-tf_efficientnet_lite0"
SMALL: dict[str, Any] = {"encoder": "tu-resnet10t", "decoder_channels": [8, 8, 4], "depth": 3}


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> NoReturn:
        raise AssertionError("a network must be built offline")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def images(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("architecture", "encoder", "channels", "depth"),
    [
        ("Unet", LITE, 1, 5),
        ("Unet", "resnet18", 2, 3),
        ("FPN", "tu-resnet10t", 3, 5),
        ("PSPNet", "tu-resnet10t", 1, 4),
        ("DeepLabV3Plus", LITE, 4, 5),
        ("Segformer", "mit_b0", 3, 5),
    ],
)
@pytest.mark.parametrize("norm", ["batch", "group"])
def test_images_of_any_size_give_finite_logits_and_gradients(
    architecture: str, encoder: str, channels: int, depth: int, norm: Any
) -> None:
    network = Smp(
        architecture=architecture, encoder=encoder, channels=channels, classes=2, depth=depth, norm=norm
    ).eval()
    x = images(2, channels, 37, 50).requires_grad_()
    logits = network(x)
    assert logits.shape == (2, 2, 37, 50)
    (gradient,) = torch.autograd.grad(logits.sum(), x)
    assert bool(logits.isfinite().all())
    assert bool(gradient.isfinite().all())
    assert float(gradient.abs().amax()) > 0


def test_equals_smp_on_normalised_padded_images() -> None:
    network = Smp(architecture="Unet", encoder="resnet18", channels=3, classes=2).eval()
    twin = smp.Unet("resnet18", encoder_weights=None, classes=2).eval()
    twin.load_state_dict({key.removeprefix("network."): each for key, each in network.state_dict().items()})
    x = images(1, 3, 64, 96)
    mean, std = (
        torch.tensor(each).reshape(1, 3, 1, 1) for each in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    torch.testing.assert_close(network(x), twin((x - mean) / std))


@pytest.mark.parametrize(
    ("settings", "mean", "std"),
    [
        ({"encoder": "resnet18", "channels": 3}, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ({"encoder": "resnet18"}, [0.449], [0.226]),
        ({"encoder": LITE}, [0.5], [0.5]),
        ({"encoder": "tu-tf_efficientnet_lite0", "channels": 3}, [0.5] * 3, [0.5] * 3),
        ({"encoder": "tu-resnet10t"}, [0.449], [0.226]),
        ({"encoder": "resnet18", "normalise": "none"}, [0.0], [1.0]),
    ],
)
def test_normalises_as_the_weights_of_the_encoder_expect(
    settings: dict[str, Any], mean: list[float], std: list[float]
) -> None:
    network = Smp(**settings)
    assert network.mean.flatten().tolist() == pytest.approx(mean)
    assert network.std.flatten().tolist() == pytest.approx(std)


def test_resizes_inside() -> None:
    network = Smp(**SMALL, size=24).eval()
    shapes: list[torch.Size] = []
    hook = network.encoder.register_forward_pre_hook(lambda _, inputs: shapes.append(inputs[0].shape))
    assert network(images(1, 1, 70, 30)).shape == (1, 1, 70, 30)
    hook.remove()
    assert shapes == [(1, 1, 24, 24)]


@pytest.mark.parametrize("encoder", ["resnet18", LITE, "tu-tf_efficientnet_lite0"])
def test_group_norm_leaves_no_batch_norm_and_keeps_the_weights(encoder: str) -> None:
    plain, grouped = Smp(encoder=encoder), Smp(encoder=encoder, norm="group")
    layers = [layer for layer in grouped.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    assert layers == []
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    assert [key for key in plain.state_dict() if not key.endswith(statistics)] == list(grouped.state_dict())


def test_group_norm_makes_a_sample_independent_of_its_batch_in_training() -> None:
    grouped = Smp(**SMALL, norm="group").double().train()
    x = images(3, 1, 32, 32).double()
    torch.testing.assert_close(grouped(x)[:1], grouped(x[:1]), rtol=0, atol=1e-9)
    plain = Smp(**SMALL).double().train()
    assert not torch.allclose(plain(x)[:1], plain(x[:1]), rtol=0, atol=1e-3)


def test_dropout_acts_in_training_only_and_keeps_the_keys() -> None:
    network = Smp(**SMALL, norm="group", dropout=0.5)
    assert list(network.state_dict()) == list(Smp(**SMALL, norm="group").state_dict())
    x = images(1, 1, 16, 16)
    torch.manual_seed(0)
    assert any(not torch.equal(network.train()(x), network(x)) for _ in range(5))
    assert torch.equal(network.eval()(x), network(x))


def test_rebuilds_from_plain_settings_and_a_state_dict() -> None:
    settings = json.loads(
        json.dumps({**SMALL, "classes": 3, "options": {"decoder_interpolation": "bilinear"}})
    )
    network, x = Smp(**settings).eval(), images(1, 1, 20, 20)
    twin = Smp(**settings).eval()
    twin.load_state_dict(network.state_dict())
    assert torch.equal(network(x), twin(x))
    assert torch.equal(network(x), copy.deepcopy(network)(x))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"architecture": "unet"}, "got 'unet'; close to it: Unet, .*smp.architecture_names"),
        ({"encoder": "resnet33"}, "got 'resnet33'; close to it: resnet34, .*encoder_names"),
        ({"encoder": "timm-regnety_008"}, "close to it: tu-regnety_008"),
        ({"encoder": "tu-hf-hub:someone/resnet18"}, "encoder must be a name"),
        ({"encoder": "zzzzqqqq"}, "close to it: none"),
        ({"channels": 0}, "channels must be at least 1"),
        ({"classes": 0}, "classes must be at least 1"),
        ({"depth": 9, "decoder_channels": [8] * 9}, "resnet34 cannot be built .*depth"),
        ({"dropout": 1.0}, r"dropout must lie in \[0, 1\), got 1.0"),
        ({"decoder_channels": [8, 8]}, "got 2 for depth 5"),
        ({"architecture": "FPN", "decoder_channels": [8]}, "got them for FPN; .*decoder_pyramid_channels"),
        ({"architecture": "Linknet", "encoder": "mit_b0"}, "Linknet with encoder mit_b0 cannot be built"),
        (
            {"options": {"decoder_atention_type": "scse"}},
            "got decoder_atention_type; use decoder_attention_type",
        ),
        ({"options": {"aux_params": {"classes": 2}}}, "got aux_params"),
        ({"options": {"encoder_weights": "imagenet"}}, "got encoder_weights"),
        ({"encoder": "tu-resnet10t", "options": {"checkpoint_path": "x.pth"}}, "got checkpoint_path"),
    ],
)
def test_refuses_in_one_line_with_the_remedy(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        Smp(**settings)
    assert "\n" not in str(caught.value)


def test_refuses_other_channels_than_it_was_built_for() -> None:
    with pytest.raises(
        InputError, match=r"takes 1 channel, got images of 3; set --model\.network\.channels 3"
    ):
        Smp(**SMALL)(images(1, 3, 16, 16))


def test_names_are_those_of_smp_and_timm() -> None:
    assert {"Unet", "DeepLabV3Plus"} <= set(architecture_names())
    assert {"resnet34", LITE, "tu-resnet10t", "tu-tf_efficientnet_lite0"} <= set(encoder_names())


@pytest.mark.parametrize("encoder", ["resnet18", LITE, "tu-resnet10t"])
def test_imagenet_weights_are_asked_of_smp(encoder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    offered = smp.encoders.get_encoder
    asked: list[Any] = []

    def local(name: str, *, depth: int, weights: Any) -> nn.Module:
        asked.append((name, weights))
        twin: nn.Module = offered(name, depth=depth, weights=None)
        for each in twin.parameters():
            nn.init.constant_(each, 0.25)
        return twin

    network = Smp(encoder=encoder)
    monkeypatch.setattr(smp.encoders, "get_encoder", local)
    load_encoder(network, "imagenet")
    assert asked == [(encoder, True if encoder.startswith("tu-") else "imagenet")]
    first, *others = network.encoder.parameters()
    assert first.shape[1] == 1
    assert bool((first == 0.75).all())
    assert all(bool((each == 0.25).all()) for each in others)


def test_imagenet_weights_out_of_reach_are_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> NoReturn:
        raise FileNotFoundError("no connection")

    network = Smp(**SMALL)
    monkeypatch.setattr(smp.encoders, "get_encoder", unreachable)
    with pytest.raises(
        InputError, match="tu-resnet10t must be downloaded once .* path of a local state dict"
    ):
        load_encoder(network, "imagenet")


def test_imagenet_weights_that_do_not_exist_are_refused() -> None:
    with pytest.raises(InputError, match="imagenet"):
        load_encoder(Smp(encoder="resnext101_32x4d"), "imagenet")
