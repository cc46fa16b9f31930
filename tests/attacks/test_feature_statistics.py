import copy
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.testing import assert_close

from seg_mia.attacks.feature_statistics import (
    Texture,
    finished,
    levels,
    padded,
    quantised,
    retextured,
    semantic_map,
)
from seg_mia.attacks.warping import warped
from seg_mia.errors import InputError
from seg_mia.models.style_autoencoder import LEVELS, TextureAutoEncoders, load_texture
from tests.texture_weights import by_rule

HERE = Path(__file__).parent.parent / "golden"
KNOBS = tuple(Texture.__dataclass_fields__)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> TextureAutoEncoders:
    return load_texture(by_rule(tmp_path_factory.mktemp("weights"), widths=(4, 4, 6, 8, 8), first=5))


def reference(name: str, folder: Path) -> tuple[dict[str, np.ndarray], TextureAutoEncoders]:
    if (HERE / f"{name}.npz").is_file():
        file, weights = HERE / f"{name}.npz", by_rule(folder)
    else:
        root = os.environ.get("SEG_MIA_TEST_DATA")
        if root is None:
            pytest.skip("SEG_MIA_TEST_DATA is not set: vectors made on real images are not at hand")
        file = Path(root) / "golden" / f"{name}.npz"
        weights = Path(root) / "data" / "weights" / "collab_distill_vgg19_16x"
    with np.load(file) as archive:
        return dict(archive), load_texture(weights)


def sample(vectors: dict[str, np.ndarray]) -> tuple[Tensor, Tensor]:
    image = torch.from_numpy(vectors["image"])[None, None]
    return image, torch.from_numpy(vectors["label"]).long()[None]


@pytest.mark.parametrize("name", ["texture_synthetic_default", "texture_default", "texture_neutral"])
def test_reproduces_the_published_script(name: str, tmp_path: Path) -> None:
    vectors, network = reference(name, tmp_path / "weights")
    knobs = Texture(**{knob: vectors[knob].item() for knob in KNOBS})
    image, label = sample(vectors)
    with torch.no_grad():
        (stages,) = levels(network, image, label, knobs)
    height = image.shape[2]
    crop = slice(48, 80) if height == 128 else slice(112, 144)
    for level in LEVELS:
        decoded = stages[level][0]
        mean, std = decoded.mean((1, 2)), decoded.std((1, 2), correction=0)
        assert_close(mean, torch.from_numpy(vectors[f"level{level}_mean"]), rtol=1e-3, atol=1e-6)
        assert_close(std, torch.from_numpy(vectors[f"level{level}_std"]), rtol=1e-3, atol=1e-6)
        assert_close(
            decoded[:, crop, crop], torch.from_numpy(vectors[f"level{level}_crop"]), rtol=0, atol=1e-4
        )
    output = (finished(stages[1], image)[0, 0] * 255).round().numpy()
    apart = np.abs(output - vectors["output"].astype(float))
    assert (apart <= 1).mean() >= 0.999


def drawn(count: int, channels: int = 1, size: tuple[int, int] = (48, 64)) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(count, channels, *size, generator=generator)
    labels = torch.randint(0, 15, (count, *size), generator=generator)
    return images, labels


@pytest.mark.parametrize("channels", [1, 3])
def test_a_batch_gives_each_slice_what_it_gets_alone(pairs: TextureAutoEncoders, channels: int) -> None:
    images, labels = drawn(3, channels)
    with torch.no_grad():
        (together,) = retextured(pairs, images, labels, Texture())
        for n in range(3):
            (alone,) = retextured(pairs, images[n : n + 1], labels[n : n + 1], Texture())
            assert (together[n] - alone[0]).abs().max() <= 1.5 / 255
    assert together.shape == images.shape
    assert together.min() >= 0
    assert together.max() <= 1
    assert (together[..., 0, 0] == 0).all()


def test_several_strengths_are_what_each_gives_alone(pairs: TextureAutoEncoders) -> None:
    images, labels = drawn(1)
    strengths = [(0.3, 0.3), (1.0, 0.5)]
    with torch.no_grad():
        both = list(retextured(pairs, images, labels, Texture(), strengths=strengths))
        for found, (mu, sigma) in zip(both, strengths, strict=True):
            (alone,) = retextured(pairs, images, labels, Texture(noise_mu=mu, noise_sigma=sigma))
            assert_close(found, alone, rtol=0, atol=0)


@pytest.mark.parametrize("patch", [1, 2, 3])
def test_at_level_5_each_patch_is_nearest_to_itself(pairs: TextureAutoEncoders, patch: int) -> None:
    images, labels = drawn(2)
    images[..., :24, :] = 0  # patches that are the same, as in the air around a body
    labels[:, :24] = 0
    pairs = copy.deepcopy(pairs).double()
    images = images.double()
    with torch.no_grad():
        (stages,) = levels(pairs, images, labels, Texture())
        style, semantic = (
            grey.expand(-1, 3, -1, -1) for grey in (quantised(images), semantic_map(labels, images))
        )
        features, labelled = pairs.encode(5, style), pairs.encode(5, semantic)
        swapped = warped(features, features, labelled, weight=50.0, patch=patch)
        assert_close(stages[5], pairs.decode(5, swapped))


def test_shared_encoders_give_what_separate_ones_do() -> None:
    images, labels = drawn(2)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        shared = TextureAutoEncoders(widths=(4, 4, 6, 8, 8))
        for layer in shared.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    shared.share_encoder()
    separate = copy.deepcopy(shared)
    separate.shared = False
    with torch.no_grad():
        together, apart = (next(levels(network, images, labels, Texture())) for network in (shared, separate))
    assert_close(together, apart, rtol=0, atol=0)


def test_sizes_that_do_not_divide_are_padded_and_cut_back(pairs: TextureAutoEncoders) -> None:
    images, labels = drawn(1, size=(50, 33))
    with torch.no_grad():
        (found,) = retextured(pairs, images, labels, Texture())
    assert found.shape == images.shape
    assert padded(images).shape[2:] == (64, 48)
    assert_close(padded(images)[..., 63, 47], images[..., 49, 32])


def test_a_constant_image_stays_finite(pairs: TextureAutoEncoders) -> None:
    with torch.no_grad():
        (found,) = retextured(
            pairs, torch.full((1, 1, 32, 32), 0.5), torch.zeros(1, 32, 32).long(), Texture()
        )
    assert found.isfinite().all()


def test_the_semantic_map_by_hand() -> None:
    images = torch.tensor([[[[0.0, 0.5, 0.0, 0.5]]]])
    labels = torch.tensor([[[0, 0, 6, 6]]])
    grey = semantic_map(labels, images)[0, 0, 0] * 255
    # background is 14 where there is an image and 0 where it is black; 6 / 14 of 255 is 109.28
    assert_close(grey, torch.tensor([0.0, 255.0, 109.0, 109.0]))


def test_reading_at_8_bits_truncates() -> None:
    assert_close(
        (quantised(torch.tensor([0.9999, 1.0, 0.5])) * 255).round(), torch.tensor([254.0, 255.0, 127.0])
    )


def test_the_luma_is_that_of_pillow() -> None:
    decoded = torch.rand(1, 3, 40, 40, generator=torch.Generator().manual_seed(3))
    bytes_ = (decoded / (decoded.max() + 1e-5) * 255).to(torch.uint8)[0].numpy().transpose(1, 2, 0)
    grey = np.asarray(Image.fromarray(bytes_).convert("L")).astype(int)
    expected = np.abs(grey - grey[0, 0])
    found = (finished(decoded, torch.zeros(1, 1, 40, 40))[0, 0] * 255).round().numpy()
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (torch.zeros(1, 2, 32, 32), torch.zeros(1, 32, 32).long(), r"\(N, 1 or 3, H, W\)"),
        (torch.zeros(1, 1, 32, 32).byte(), torch.zeros(1, 32, 32).long(), "floats"),
        (torch.zeros(1, 1, 32, 32), torch.zeros(1, 32, 31).long(), "organ ids must be int64"),
        (torch.zeros(1, 1, 32, 32), torch.zeros(1, 32, 32), "organ ids must be int64"),
        (torch.zeros(1, 1, 32, 32), torch.full((1, 32, 32), 15), r"0 \.\. 14"),
        (torch.zeros(1, 1, 31, 40), torch.zeros(1, 31, 40).long(), "at least 32"),
    ],
)
def test_refuses_what_it_would_misread(
    pairs: TextureAutoEncoders, images: Tensor, labels: Tensor, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        list(retextured(pairs, images, labels, Texture()))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fine_alpha": 1.5}, "fine_alpha"),
        ({"enhance_alpha": -0.1}, "enhance_alpha"),
        ({"noise_mu": float("nan")}, "noise_mu"),
        ({"fine_psize": 0}, "fine_psize"),
    ],
)
def test_refuses_knobs_outside_their_range(settings: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Texture(**settings)  # type: ignore[arg-type]


def test_a_patch_larger_than_the_features_is_refused(pairs: TextureAutoEncoders) -> None:
    images, labels = drawn(1)
    with pytest.raises(InputError, match="a patch of 9"):
        list(retextured(pairs, images, labels, Texture(fine_psize=9)))
