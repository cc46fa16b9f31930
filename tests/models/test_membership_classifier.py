from pathlib import Path
from typing import Any, NoReturn

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from seg_mia.errors import InputError
from seg_mia.models.membership_classifier import Adapter, MembershipClassifier, load_classifier

SMALL = "test_resnet"
FIRST = "conv1.0.weight"  # of test_resnet
LITE = "tf_efficientnet_lite0"


def signals(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def built(channels: int, adapter: Adapter = "convolution", architecture: str = SMALL) -> MembershipClassifier:
    return MembershipClassifier(architecture=architecture, channels=channels, adapter=adapter).eval()


def timm_model(architecture: str = SMALL) -> Any:
    """Build timm's own model for RGB, every tensor random: fresh norms are all alike."""
    torch.manual_seed(1)
    model: Any = timm.create_model(architecture).eval()
    state = {
        key: torch.rand_like(each) + 0.5 if each.is_floating_point() else each
        for key, each in model.state_dict().items()
    }
    model.load_state_dict(state)
    return model


def copied(network: nn.Module) -> dict[str, Tensor]:
    return {key: tensor.clone() for key, tensor in network.state_dict().items()}


def assert_same(state: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert state.keys() == expected.keys()
    for key, tensor in state.items():
        assert torch.equal(tensor, expected[key]), key


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "weights.pth"


@pytest.mark.parametrize("architecture", [SMALL, "test_efficientnet"])
@pytest.mark.parametrize("adapter", ["convolution", "first_layer"])
@pytest.mark.parametrize("channels", [1, 2, 8])
def test_gives_one_logit_for_each_signal_of_any_size(
    channels: int, adapter: Adapter, architecture: str
) -> None:
    network = built(channels, adapter, architecture)
    for count, height, width in [(1, 32, 32), (3, 32, 32), (2, 45, 70)]:
        logits = network(signals(count, channels, height, width))
        assert logits.shape == (count,)
        logits.sum().backward()
    assert all(each.grad is not None for each in network.parameters())


def test_the_published_network_is_the_default() -> None:
    network = MembershipClassifier(channels=2)
    twin = timm.create_model("resnet34", num_classes=1)
    assert network.network.state_dict().keys() == twin.state_dict().keys()
    assert isinstance(network.adapter, nn.Conv2d)
    assert (network.adapter.weight.shape, network.adapter.bias is None) == ((3, 2, 1, 1), False)


def test_a_signal_is_judged_alone() -> None:
    network, x = built(2).double(), signals(4, 2, 32, 32).double()
    torch.testing.assert_close(network(x)[2:3], network(x[2:3]))


def test_one_channel_starts_as_its_rgb_replication() -> None:
    x = signals(2, 1, 5, 7)
    assert torch.equal(built(1).adapter(x), x.expand(-1, 3, -1, -1))


def test_three_channels_start_as_they_are() -> None:
    x = signals(2, 3, 5, 7)
    assert torch.equal(built(3).adapter(x), x)


def test_other_channels_start_as_rgb_in_turn() -> None:
    x = signals(2, 5, 5, 7)
    expected = torch.stack([x[:, 0] + x[:, 3], x[:, 1] + x[:, 4], x[:, 2]], 1) * 3 / 5
    torch.testing.assert_close(built(5).adapter(x), expected)


@pytest.mark.parametrize("channels", [1, 2, 3, 8])
def test_both_adapters_start_as_the_same_function_of_pretrained_weights(path: Path, channels: int) -> None:
    torch.save(timm_model().state_dict(), path)
    networks = [built(channels, adapter).double() for adapter in ("convolution", "first_layer")]
    for each in networks:
        load_classifier(each, path)
    x = signals(2, channels, 32, 32).double()
    ours, theirs = (each.network.forward_features(each.adapter(x)) for each in networks)  # type: ignore[operator]
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("dropout", "differs"), [(0.0, False), (0.5, True)])
def test_dropout_acts_in_training_alone(dropout: float, differs: bool) -> None:
    torch.manual_seed(0)
    network = MembershipClassifier(architecture=SMALL, channels=1, dropout=dropout)
    x = signals(4, 1, 32, 32)
    assert torch.equal(network(x), network(x)) != differs
    network.eval()
    assert torch.equal(network(x), network(x))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"architecture": "resnet_34"}, r"architecture must be a model of timm, got 'resnet_34'; .*resnet34"),
        ({"architecture": "ResNet34"}, "close to it: resnet34"),
        ({"architecture": "zzzzqqqq"}, "close to it: none; .*list_models"),
        ({"architecture": "hf-hub:someone/resnet18"}, "architecture must be a model of timm"),
        ({"architecture": "resnet34.nobody"}, r"resnet34.nobody .* cannot be built .*\(nobody\)"),
        ({"channels": 0}, "channels must be at least 1, got 0"),
        ({"dropout": 1.0}, r"dropout must lie in \[0, 1\), got 1.0"),
    ],
)
def test_refuses_in_one_line_with_the_remedy(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        MembershipClassifier(**{"architecture": SMALL, "channels": 1, **settings})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("shape", [(2, 32, 32), (1, 3, 32, 32)])
@pytest.mark.parametrize("adapter", ["convolution", "first_layer"])
def test_refuses_signals_of_another_shape(adapter: Adapter, shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"must have shape \(N, 2, H, W\) or .*, got \("):
        built(2, adapter)(signals(*shape))


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("architecture", ["resnet10t", "test_efficientnet"])
def test_a_file_brings_everything_but_the_head(tmp_path: Path, architecture: str, suffix: str) -> None:
    source, network = timm_model(architecture).state_dict(), built(2, architecture=architecture)
    file = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save({"state_dict": {f"module.{key}": tensor for key, tensor in source.items()}}, file)
    else:
        save_file(source, file)
    before = copied(network)
    load_classifier(network, str(file))
    head = {key for key in before if key.startswith(("adapter.", "network.fc.", "network.classifier."))}
    assert len(head) == 4
    assert_same(copied(network), {key: before[key] if key in head else source[key[8:]] for key in before})


def test_a_file_without_a_head_is_enough(path: Path) -> None:
    source = timm_model().state_dict()
    torch.save({key: tensor for key, tensor in source.items() if not key.startswith("fc.")}, path)
    network = built(3, "first_layer")
    load_classifier(network, path)
    assert torch.equal(network.network.state_dict()[FIRST], source[FIRST])


def test_only_the_layer_of_the_classes_is_fresh(path: Path) -> None:
    source, network = timm_model("convnext_atto").state_dict(), built(1, architecture="convnext_atto")
    torch.save(source, path)
    load_classifier(network, path)
    for key in ("head.norm.weight", "head.norm.bias"):
        assert torch.equal(network.network.state_dict()[key], source[key])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bn1.weight": None}, "does not fit classifier test_resnet: missing: bn1.weight;"),
        ({"other.weight": torch.ones(1)}, "unexpected: other.weight;"),
        ({"conv_head.weight": torch.ones(1)}, "unexpected: conv_head.weight;"),
        ({"bn1.weight": torch.ones(5)}, r"other shape: bn1.weight \(5,\) for \(\d+,\);"),
    ],
)
def test_refuses_weights_of_another_network_and_leaves_ours_alone(
    path: Path, change: dict[str, Tensor | None], message: str
) -> None:
    changed = {**timm_model().state_dict(), **change}
    torch.save({key: tensor for key, tensor in changed.items() if tensor is not None}, path)
    network = built(1)
    before = copied(network)
    with pytest.raises(InputError, match=message) as caught:
        load_classifier(network, path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert_same(copied(network), before)


def test_weights_for_another_norm_are_refused(path: Path) -> None:
    torch.save(timm_model("resnet50").state_dict(), path)
    with pytest.raises(InputError, match="does not fit classifier resnet50_gn: unexpected: bn1.running_mean"):
        load_classifier(built(1, architecture="resnet50_gn"), path)


def test_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="found none at .*nowhere.pth"):
        load_classifier(built(1), tmp_path / "nowhere.pth")


def test_imagenet_weights_are_asked_of_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    network, offered = built(1, "first_layer"), timm_model()
    asked: list[Any] = []

    def local(architecture: str, *, pretrained: bool) -> nn.Module:
        asked.append((architecture, pretrained))
        model: nn.Module = offered
        return model

    monkeypatch.setattr(timm, "create_model", local)
    load_classifier(network, "imagenet")
    assert asked == [(SMALL, True)]
    expected = offered.state_dict()[FIRST].sum(1, keepdim=True)
    assert torch.equal(network.network.state_dict()[FIRST], expected)


def test_imagenet_weights_out_of_reach_are_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> NoReturn:
        raise FileNotFoundError("no\nconnection")

    network = built(1)
    before = copied(network)
    monkeypatch.setattr(timm, "create_model", unreachable)
    with pytest.raises(InputError, match="test_resnet must be downloaded once .* local state dict$"):
        load_classifier(network, "imagenet")
    assert_same(copied(network), before)


def test_imagenet_weights_that_do_not_exist_are_refused() -> None:
    name = next(each for each in timm.list_models("resnet*") if not timm.is_model_pretrained(each))
    with pytest.raises(InputError, match=f"must offer weights for {name} .*, got none"):
        load_classifier(built(1, architecture=name), "imagenet")


class TestEfficientNetLite:
    """ImageNet weights in timm's key names, as a file brings them."""

    @pytest.fixture
    def file(self, shared: Path) -> Path:
        return shared / "data/weights/efficientnet_lite0/tf_efficientnet_lite0_timm_keys.pth"

    @pytest.fixture
    def reference(self, file: Path) -> Any:
        model: Any = timm.create_model(LITE).eval()
        model.load_state_dict(torch.load(file, weights_only=True))
        return model

    @pytest.mark.parametrize("adapter", ["convolution", "first_layer"])
    def test_features_are_those_of_timm(self, file: Path, reference: Any, adapter: Adapter) -> None:
        network = built(3, adapter, LITE)
        head = copied(network.network.get_submodule("classifier"))
        load_classifier(network, file)
        assert_same(copied(network.network.get_submodule("classifier")), head)
        x = signals(1, 3, 64, 64)
        inner: Any = network.network
        with torch.no_grad():
            features = inner.forward_features(network.adapter(x))
            assert torch.equal(features, reference.forward_features(x))
            expected = inner.classifier(
                reference.forward_head(reference.forward_features(x), pre_logits=True)
            )
            assert torch.equal(network(x), expected[:, 0])

    @pytest.mark.parametrize("adapter", ["convolution", "first_layer"])
    def test_a_single_map_is_seen_as_its_rgb_replication(
        self, file: Path, reference: Any, adapter: Adapter
    ) -> None:
        network = built(1, adapter, LITE).double()
        load_classifier(network, file)
        x = signals(2, 1, 64, 64).double()
        inner: Any = network.network
        with torch.no_grad():
            ours = inner.forward_features(network.adapter(x))
            theirs = reference.double().forward_features(x.expand(-1, 3, -1, -1))
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)

    def test_another_classifier_is_refused(self, file: Path) -> None:
        with pytest.raises(InputError, match="does not fit classifier test_resnet: missing: "):
            load_classifier(built(1), file)


def test_a_volume_has_the_mean_logit_of_its_counted_slices() -> None:
    network, x = built(2), signals(2, 2, 4, 32, 32)
    alone = network(x.transpose(1, 2).flatten(0, 1)).view(2, 4)
    torch.testing.assert_close(network(x), alone.mean(1))
    counted = torch.tensor([[False, True, True, False], [False] * 4])
    expected = torch.stack([alone[0, 1:3].mean(), alone[1].mean()])
    torch.testing.assert_close(network(x, counted), expected)
    network(x, counted).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
