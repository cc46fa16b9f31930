"""The auto-encoders of the texture attack: shapes, VGG-19's own features, files, shared layers."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.testing import assert_close

from seg_mia.errors import InputError
from seg_mia.models.imagenet import MEAN, STD
from seg_mia.models.style_autoencoder import (
    LEVELS,
    VGG19,
    Encoder,
    TextureAutoEncoders,
    layers_of,
    load_texture,
    save_texture,
)
from seg_mia.models.vgg import PLACES, load_vgg19
from seg_mia.tasks.style_autoencoder import begin
from tests.texture_weights import by_rule

WIDTHS = (2, 3, 4, 5, 6)
RELUS = {1: 1, 2: 6, 3: 11, 4: 20, 5: 29}
"""Where relu1_1 .. relu5_1 stand in torchvision's vgg19().features."""


def narrow(*, shared: bool = False) -> TextureAutoEncoders:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        pairs = TextureAutoEncoders(widths=WIDTHS)
    if shared:
        pairs.share_encoder()
    return pairs


def noise(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def same(one: nn.Module, other: nn.Module) -> None:
    assert_close(dict(one.state_dict()), dict(other.state_dict()), rtol=0, atol=0)


@pytest.mark.parametrize("edited", [False, True])
def test_files_of_one_encoder_share_it_once_loaded(tmp_path: Path, *, edited: bool) -> None:
    pairs = narrow(shared=True)
    save_texture(pairs, tmp_path)
    if edited:
        state = torch.load(tmp_path / "E2.pth", weights_only=True)
        state["conv11.bias"][0] += 1e-3
        torch.save(state, tmp_path / "E2.pth")
    loaded = load_texture(tmp_path)
    assert loaded.shared != edited
    if not edited:
        same(loaded, pairs)
    features, images = loaded.encode_all(noise(1, 3, 32, 32)), noise(1, 3, 32, 32)
    assert_close(features, {level: loaded.encode(level, images) for level in features}, rtol=0, atol=0)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("size", [(32, 48), (64, 32)])
def test_each_level_halves_and_doubles_as_often_as_it_says(level: int, size: tuple[int, int]) -> None:
    pairs, images = narrow(), noise(2, 3, *size)
    features = pairs.encode(level, images)
    scale = 2 ** (level - 1)
    assert features.shape == (2, WIDTHS[level - 1], size[0] // scale, size[1] // scale)
    assert features.min() >= 0
    again = pairs.decode(level, features)
    assert again.shape == images.shape
    before = pairs.decode(level, features, bounded=False)
    assert before.min() < 0
    assert_close(again, before.relu(), rtol=0, atol=0)


def test_layers_by_hand() -> None:
    assert layers_of(1, VGG19) == {"conv11": 64}
    assert layers_of(3, WIDTHS) == {"conv11": 2, "conv12": 2, "conv21": 3, "conv22": 3, "conv31": 4}
    pairs = narrow()
    first, last = pairs.encoders["3"], pairs.decoders["3"]
    assert [name for name, _ in first.named_children()] == ["conv0", *layers_of(3, WIDTHS)]
    assert [name for name, _ in last.named_children()] == list(layers_of(3, WIDTHS))[::-1]
    assert {name: tuple(tensor.shape) for name, tensor in last.state_dict().items() if "weight" in name} == {
        "conv31.weight": (3, 4, 3, 3),
        "conv22.weight": (3, 3, 3, 3),
        "conv21.weight": (2, 3, 3, 3),
        "conv12.weight": (2, 2, 3, 3),
        "conv11.weight": (3, 2, 3, 3),
    }


def test_a_decoder_by_hand() -> None:
    # Every kernel passes its middle on, so level 2 repeats what it is given in squares of two by two pixels.
    pairs = TextureAutoEncoders(widths=(1, 1, 1, 1, 1))
    for layer in pairs.decoders["2"].children():
        assert isinstance(layer, nn.Conv2d)
        nn.init.zeros_(layer.weight)
        layer.weight.data[:, :, 1, 1] = 1
        assert layer.bias is not None
        nn.init.zeros_(layer.bias)
    features = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    square = torch.tensor([[1.0, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]])
    assert_close(pairs.decode(2, features), square.expand(1, 3, 4, 4).clone())


@pytest.mark.parametrize("widths", [(1, 2, 3, 4), (1, 2, 3, 4, 0), (1, 2, 3, 4, 5, 6)])
def test_widths_are_five_numbers(widths: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="five numbers of channels"):
        TextureAutoEncoders(widths=widths)


@pytest.fixture(scope="module")
def vgg(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[nn.Sequential, Path]]:
    """torchvision's VGG-19 with weights of its own drawing, without the classifier, and a file of it."""
    with torch.device("meta"):
        features = torchvision.models.vgg19(init_weights=False).features[: RELUS[5] + 1]
    features = features.to_empty(device="cpu")
    torch.manual_seed(0)
    for layer in features:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
            assert layer.bias is not None
            nn.init.uniform_(layer.bias, -0.2, 0.2)
        elif isinstance(layer, nn.ReLU):
            layer.inplace = False
    file = tmp_path_factory.mktemp("vgg") / "vgg19.pth"
    state = {f"features.{name}": tensor for name, tensor in features.state_dict().items()}
    torch.save(state | {"classifier.0.bias": torch.zeros(2)}, file)
    yield features, file
    file.unlink()


@pytest.fixture(scope="module")
def loaded(vgg: tuple[nn.Sequential, Path]) -> TextureAutoEncoders:
    pairs = TextureAutoEncoders()
    pairs.share_encoder()
    load_vgg19(pairs, str(vgg[1]))
    return pairs


def normalised(images: Tensor) -> Tensor:
    return (images - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


@pytest.mark.parametrize("level", LEVELS)
def test_the_encoder_is_vgg_19(
    vgg: tuple[nn.Sequential, Path],
    loaded: TextureAutoEncoders,
    level: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for layer in vgg[0]:
        if isinstance(layer, nn.Conv2d):  # torchvision pads with zeros; all else must be the same
            monkeypatch.setattr(layer, "padding_mode", "reflect")
    images = noise(1, 3, 32, 48)
    with torch.no_grad():
        expected = vgg[0][: RELUS[level] + 1](normalised(images))
        found = loaded.encode(level, images)
    assert_close(found, expected, rtol=1e-4, atol=1e-5 * float(expected.max()))
    assert expected.std() > 0.1


def test_far_from_the_border_the_padding_does_not_matter(
    vgg: tuple[nn.Sequential, Path], loaded: TextureAutoEncoders
) -> None:
    images = noise(1, 3, 32, 48)
    with torch.no_grad():
        for level, border in ((1, 1), (2, 2)):  # conv21 reaches 5 pixels, which are within 3 of half the size
            inner = (..., slice(border + 1, -border - 1), slice(border + 1, -border - 1))
            expected = vgg[0][: RELUS[level] + 1](normalised(images))
            assert_close(loaded.encode(level, images)[inner], expected[inner], rtol=1e-4, atol=1e-4)


def test_the_places_are_those_of_vgg_19(vgg: tuple[nn.Sequential, Path]) -> None:
    assert [n for n, layer in enumerate(vgg[0]) if isinstance(layer, nn.Conv2d)] == list(PLACES)
    official = torchvision.models.VGG19_Weights.IMAGENET1K_V1.transforms()
    assert (tuple(official.mean), tuple(official.std)) == (MEAN, STD)


def test_other_weights_than_vgg_19s_are_refused(tmp_path: Path, vgg: tuple[nn.Sequential, Path]) -> None:
    pairs = narrow(shared=True)
    before = {name: tensor.clone() for name, tensor in pairs.state_dict().items()}
    with pytest.raises(InputError, match=r"conv11.weight of \(64, 3, 3, 3\).*widths to \[64, 128, 256"):
        load_vgg19(pairs, str(vgg[1]))
    with pytest.raises(InputError, match="found none at nowhere.pth"):
        load_vgg19(pairs, "nowhere.pth")
    torch.save({"features.0.weight": torch.zeros(2, 3, 3, 3)}, tmp_path / "other.pth")
    with pytest.raises(InputError, match="must hold features.0.bias, as torchvision's vgg19 does"):
        load_vgg19(pairs, str(tmp_path / "other.pth"))
    assert_close(dict(pairs.state_dict()), before, rtol=0, atol=0)


def test_without_a_network_the_file_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: Any, **__: Any) -> None:
        raise URLError("no route")

    monkeypatch.setattr(torchvision.models.VGG19_Weights, "get_state_dict", offline)
    with pytest.raises(InputError, match="could not be downloaded.*no route.*--model.vgg FILE"):
        load_vgg19(narrow(shared=True), "imagenet")


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    pairs = narrow()
    save_texture(pairs, tmp_path / "here")
    assert sorted(file.name for file in (tmp_path / "here").iterdir()) == [
        f"{kind}{level}.pth" for kind in "DE" for level in range(1, 6)
    ]
    found = load_texture(tmp_path / "here")
    same(found, pairs)
    images = noise(1, 3, 32, 32)
    for level in LEVELS:
        again = found.decode(level, found.encode(level, images))
        assert_close(again, pairs.decode(level, pairs.encode(level, images)), rtol=0, atol=0)
    save_texture(found, tmp_path / "there")
    for file in (tmp_path / "here").iterdir():
        one, other = (torch.load(path, weights_only=True) for path in (file, tmp_path / "there" / file.name))
        assert_close(one, other, rtol=0, atol=0)


def test_shared_layers_are_saved_for_each_level(tmp_path: Path) -> None:
    pairs = narrow(shared=True)
    save_texture(pairs, tmp_path)
    same(load_texture(tmp_path), pairs)
    size = (tmp_path / "E1.pth").stat().st_size
    assert size < (tmp_path / "E5.pth").stat().st_size / 2  # not the storage of all that is shared


def test_widths_may_differ_from_level_to_level(tmp_path: Path) -> None:
    found = load_texture(by_rule(tmp_path, widths=WIDTHS, first=7))
    images = noise(1, 3, 32, 32)
    assert found.encode(1, images).shape[1] == 7
    assert found.encode(2, images).shape[1] == 3
    assert found.encoders["2"].state_dict()["conv11.weight"].shape[0] == 2


def test_a_shared_encoder_is_the_deepest_ones_beginning() -> None:
    alone, pairs = narrow(), narrow(shared=True)
    deepest = {name: tensor.clone() for name, tensor in alone.encoders["5"].state_dict().items()}
    assert_close(dict(pairs.encoders["5"].state_dict()), deepest, rtol=0, atol=0)
    assert alone.state_dict().keys() == pairs.state_dict().keys()
    for level in LEVELS:
        for name, tensor in pairs.encoders[str(level)].state_dict().items():
            assert_close(tensor, deepest[name], rtol=0, atol=0)
    own = sum(parameter.numel() for parameter in pairs.encoders.parameters())
    assert own == sum(tensor.numel() for tensor in deepest.values())

    images = noise(2, 3, 32, 32)
    together = pairs.encode_all(images)
    assert sorted(together) == sorted(LEVELS)
    for level in LEVELS:
        assert_close(pairs.encode(level, images), together[level], rtol=0, atol=0)
    unshared = narrow()
    unshared.load_state_dict(pairs.state_dict())
    assert_close(unshared.encode(3, images), together[3], rtol=0, atol=0)


def test_every_layer_begins_with_the_variance_that_relus_keep() -> None:
    pairs = TextureAutoEncoders(widths=(32, 48, 64, 64, 64))
    pairs.share_encoder()
    begin(pairs)
    for name, layer in pairs.named_modules():
        if not isinstance(layer, nn.Conv2d):
            continue
        assert layer.bias is not None
        assert not layer.bias.any()
        if name.endswith("conv0"):
            assert_close(layer.weight[..., 0, 0], torch.eye(3), rtol=0, atol=0)
            continue
        inward, count, weight = layer.in_channels * 9, layer.weight.numel(), layer.weight.detach()
        error = 2 / inward * math.sqrt(2 / count)  # of a variance, of as many normal draws
        assert abs(float(weight.square().mean()) - 2 / inward) < 5 * error, name
        assert abs(float(weight.mean())) < 5 * math.sqrt(2 / inward / count), name


def test_what_begins_does_not_fade() -> None:
    pairs = TextureAutoEncoders(widths=(32, 48, 64, 64, 64))
    torch.manual_seed(0)
    begin(pairs)
    images = noise(2, 3, 64, 64)
    for level in LEVELS:
        with torch.no_grad():
            again = pairs.decode(level, pairs.encode(level, images), bounded=False)
        assert 0.1 < float(again.square().mean() / images.square().mean()) < 30, level


def test_an_encoder_knows_its_stages() -> None:
    encoder = narrow().encoders["4"]
    assert isinstance(encoder, Encoder)
    images = noise(1, 3, 32, 32)
    stages = encoder.stages(images)
    assert list(stages) == [1, 2, 3, 4]
    assert_close(encoder(images), stages[4], rtol=0, atol=0)
