"""The classifier of pixels on an encoder's features, and the memory of these features."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812  (torch's own name for it)
from torch import Tensor, nn
from torch.testing import assert_close

from seg_mia.errors import InputError
from seg_mia.models.feature_cache import FeatureCache
from seg_mia.models.hypercolumn import Hypercolumn
from seg_mia.models.smp import Smp
from seg_mia.models.unpadded_unet import UnpaddedUNet


def smp(**options: Any) -> Smp:
    torch.manual_seed(0)
    return Smp(architecture="Hypercolumn", encoder="resnet18", channels=3, classes=2, options=options).eval()


def images(count: int = 3, side: int = 64) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(1))


def test_equals_the_sum_of_level_scores_computed_apart() -> None:
    network = Hypercolumn("resnet18", classes=2, levels=[2, 4]).eval()
    x = images()
    features = network.encoder(x)
    scores = []
    for level in (2, 4):
        f = features[level].movedim(1, -1)
        standard = (f - f.mean(-1, keepdim=True)) / (f.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
        layer = network.classifiers[str(level)]
        assert isinstance(layer, nn.Conv2d)
        weighted = standard @ layer.weight[:, :, 0, 0].T
        scores.append((weighted if layer.bias is None else weighted + layer.bias).movedim(-1, 1))
    finest = scores[0] + F.interpolate(scores[1], scores[0].shape[-2:], mode="bilinear")
    assert_close(network(x), F.interpolate(finest, (64, 64), mode="bilinear"))


@pytest.mark.parametrize(
    ("options", "weights"),
    [({}, 2 * (64 + 128 + 256 + 512) + 2), ({"levels": [5], "hidden": 8}, 513 * 8 + 9 * 2)],
)
def test_trains_few_weights(options: dict[str, Any], weights: int) -> None:
    network = smp(**options)
    inside = {id(weight) for weight in network.encoder.parameters()}
    assert sum(weight.numel() for weight in network.parameters() if id(weight) not in inside) == weights
    assert network(images(side=50)).shape == (3, 2, 50, 50)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"levels": [0]}, "levels must lie between 1 and 5"),
        ({"levels": [6]}, "got \\[6\\]"),
        ({"hidden": -1}, "hidden must be 0"),
    ],
)
def test_refuses_in_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        smp(**options)


class Counted(nn.Module):
    """An encoder that counts the images it computes."""

    def __init__(self, *, image_first: bool) -> None:
        super().__init__()
        self.layer, self.image_first, self.computed = nn.Conv2d(3, 4, 1).requires_grad_(False), image_first, 0

    def forward(self, x: Tensor) -> list[Tensor]:
        self.computed += len(x)
        maps = [self.layer(x), self.layer(x[..., ::2, ::2])]
        return [x, *maps] if self.image_first else maps


@pytest.mark.parametrize("image_first", [True, False])
def test_each_image_is_computed_once_and_answered_in_any_order(image_first: bool) -> None:
    encoder, x = Counted(image_first=image_first), images(5)
    expected, cache = encoder(x), FeatureCache(encoder)
    encoder.computed = 0
    for rows in ([0, 1, 2], [2, 4, 0], [3, 3, 1], [4, 3, 2, 1, 0]):
        cache.select(torch.tensor(rows) + 100)
        with cache.serving():
            found = encoder(x[rows])
        assert_close(found, [maps[rows] for maps in expected])
    assert encoder.computed <= 6  # 3 twice in one batch
    assert "forward" not in vars(encoder)
    assert len(encoder(x)) == len(expected)


def test_feature_maps_that_are_not_read_take_no_memory() -> None:
    encoder, x = Counted(image_first=True), images(5)
    cache, expected = FeatureCache(encoder), encoder(x)
    cache.read = [2]
    rows = torch.tensor([4, 0, 2])
    for _ in range(2):
        cache.select(rows)
        with cache.serving():
            image, unread, read = encoder(x[rows])
        assert_close(read, expected[2][rows])
        assert_close(image, x[rows])
        assert unread.shape == expected[1][rows].shape
    kept = [level.untyped_storage().nbytes() for levels in cache._maps.values() for level in levels]
    assert min(kept) == 4, "one number for all images"


def test_only_the_classifier_itself_declares_what_it_reads() -> None:
    class Auxiliary(Hypercolumn):
        """Has a head on another level, in training alone."""

        def forward(self, x: Tensor) -> Tensor:
            features = self.encoder(x)
            logits = self.classified(features, x.shape[-2:])
            return logits + features[1].mean() if self.training else logits

    assert Hypercolumn("resnet18", levels=[2, 4]).read_levels == [2, 4]
    assert smp(levels=[3]).read_levels == [3]
    assert Auxiliary("resnet18", levels=[2, 4]).read_levels is None
    assert Smp(architecture="Unet", encoder="resnet18", channels=3, classes=2).read_levels is None


def test_an_encoder_is_itself_again_after_an_error() -> None:
    encoder = Counted(image_first=True)
    cache = FeatureCache(encoder)
    cache.select(torch.tensor([0]))
    with pytest.raises(ValueError, match="select an index for each image, got 1 for 2"), cache.serving():
        encoder(images(2))
    assert "forward" not in vars(encoder)


def test_only_constant_features_are_cached() -> None:
    with pytest.raises(InputError, match=r"frozen, got weight in training; set --model.frozen"):
        FeatureCache(nn.Conv2d(3, 4, 1))
    frozen = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).requires_grad_(False)
    with pytest.raises(InputError, match=r"got 1 \(BatchNorm2d\) in training mode"):
        FeatureCache(frozen)
    FeatureCache(frozen.eval())
    with pytest.raises(InputError, match="Dropout2d"):
        FeatureCache(nn.Sequential(nn.Dropout2d(0.5)))
    FeatureCache(nn.Sequential(nn.Dropout2d(0.0)))


def test_other_networks_have_no_encoder() -> None:
    from seg_mia.tasks.cached_features import feature_cache

    class Unchanging:
        augment, patch = "none", None

    with pytest.raises(InputError, match="a network with an `encoder`, got UnpaddedUNet"):
        feature_cache(UnpaddedUNet(channels=3, classes=1), [], Unchanging())  # type: ignore[arg-type]
