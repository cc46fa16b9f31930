"""The texture attack on a victim: what it changes, which strength it keeps, and what it says of it."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn
from torch.testing import assert_close

from seg_mia.attacks.adain import Adain, adain, feathered, organ_ids, strengths_of, strongest
from seg_mia.attacks.feature_statistics import Texture, retextured
from seg_mia.errors import InputError
from seg_mia.metrics.labels import IGNORE
from seg_mia.metrics.overlap import foreground_dice
from seg_mia.metrics.similarity import mean_absolute, ssim
from seg_mia.models.style_autoencoder import TextureAutoEncoders, load_texture
from seg_mia.results.strengths import COLUMNS as STRENGTH_COLUMNS
from tests.texture_weights import by_rule

GRID: dict[str, Any] = {"noise_mu": [0.3, 1.0], "noise_sigma": [0.3, 1.0]}
STRENGTHS = [(0.3, 0.3), (0.3, 1.0), (1.0, 0.3), (1.0, 1.0)]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> TextureAutoEncoders:
    return load_texture(by_rule(tmp_path_factory.mktemp("weights"), widths=(6, 6, 6, 6, 6), first=6))


class Bright(nn.Module):
    """Calls foreground what is brighter than its image; `margin` pixels at each border are not predicted."""

    def __init__(self, margin: int = 0) -> None:
        super().__init__()
        self.margin, self.asked = margin, 0

    def forward(self, x: Tensor) -> Tensor:
        self.asked += 1
        height, width = x.shape[2:]
        bright = x.mean(1, keepdim=True) - x.mean((1, 2, 3), keepdim=True)
        return 8 * bright[..., self.margin : height - self.margin, self.margin : width - self.margin]


def discs(count: int = 3, channels: int = 1, size: tuple[int, int] = (48, 64)) -> tuple[Tensor, Tensor]:
    """Noisy images with a brighter disc each, and masks of the discs."""
    generator = torch.Generator().manual_seed(0)
    rows, columns = torch.meshgrid(torch.arange(size[0]), torch.arange(size[1]), indexing="ij")
    masks = torch.stack(
        [((rows - 20 - n).square() + (columns - 24).square() < (7 + n) ** 2).long() for n in range(count)]
    )
    noise = torch.rand(count, channels, *size, generator=generator)
    return (0.3 * noise + 0.1 + 0.5 * masks.unsqueeze(1)).clamp(0, 1), masks


def test_organ_ids_by_hand() -> None:
    masks = torch.tensor([[[0, 1, 2], [IGNORE, 2, 1]]])
    found = organ_ids(masks, [6, 3], 3, (2, 3))
    assert found.tolist() == [[[0, 6, 3], [0, 3, 6]]]


def test_the_mask_of_an_unpadded_network_lies_in_the_middle() -> None:
    found = organ_ids(torch.ones(1, 2, 2, dtype=torch.int64), [6], 2, (5, 5))
    assert found[0].tolist() == [[0] * 5, [0, 6, 6, 0, 0], [0, 6, 6, 0, 0], [0] * 5, [0] * 5]


@pytest.mark.parametrize("organs", [[6], [6, 3, 2]])
def test_each_foreground_class_needs_an_organ(organs: list[int]) -> None:
    with pytest.raises(InputError, match="each of the 2 foreground classes needs an organ id"):
        organ_ids(torch.zeros(1, 2, 2, dtype=torch.int64), organs, 3, (2, 2))


def test_a_feather_of_one_pixel_by_hand() -> None:
    # The left half is inside. A pixel's share is the part of its bell, cut off at 4 pixels, that lies there.
    inside = torch.zeros(1, 12, 20, dtype=torch.bool)
    inside[..., :10] = True
    bell = np.exp(-0.5 * np.arange(-4, 5) ** 2)
    bell /= bell.sum()
    expected = [float(bell[: max(0, min(9, 14 - column))].sum()) for column in range(20)]
    for row in feathered(inside, 1.0)[0, 0].tolist():
        assert row == pytest.approx(expected, abs=1e-6)


def test_volumes_with_slices_too_small_for_a_similarity_are_refused_before_any_work() -> None:
    x, network = torch.rand(1, 1, 48, 8, 48), Bright()
    with pytest.raises(InputError, match=r"at least 11 x 11 pixels, got \(1, 1, 48, 8, 48\)"):
        adain(network, x, torch.zeros(1, 48, 8, 48).long(), pairs=TextureAutoEncoders(), axis="coronal")
    assert network.asked == 0


@pytest.mark.parametrize("sigma", [0.5, 2.0, 4.0])
def test_a_feather_is_a_blurred_mask(sigma: float) -> None:
    inside = torch.rand(2, 40, 30, generator=torch.Generator().manual_seed(1)) > 0.5
    reach = int(3 * sigma) + 1
    for found, mask in zip(feathered(inside, sigma)[:, 0], inside.numpy(), strict=True):
        blurred = gaussian_filter(mask.astype(float), sigma, mode="nearest", radius=reach)
        np.testing.assert_allclose(found.numpy(), blurred, atol=1e-6)


def test_a_feather_keeps_the_area_and_stays_between_0_and_1() -> None:
    inside = torch.zeros(2, 40, 40, dtype=torch.bool)
    inside[0, 18:24, 17:25] = True
    share = feathered(inside, 3.0)
    assert share.shape == (2, 1, 40, 40)
    assert float(share[0].sum()) == pytest.approx(48, rel=1e-5)
    assert not share[1].any()
    assert share.min() >= 0
    assert share.max() <= 1 + 1e-6  # sums of weights round otherwise from one processor to another
    assert_close(feathered(torch.ones(1, 16, 16, dtype=torch.bool), 5.0), torch.ones(1, 1, 16, 16))
    assert_close(feathered(inside, 0)[:, 0], inside.float(), rtol=0, atol=0)


def test_the_strongest_by_hand() -> None:
    dice = torch.tensor([[0.9, 0.1, 0.5, 0.2], [0.4, 0.3, 0.5, 0.1], [0.2, 0.0, 0.5, 0.3]])
    similarity = torch.tensor([[0.8, 0.7, 0.9, 0.3], [0.6, 0.6, 0.9, 0.1], [0.4, 0.5, 0.9, 0.2]])
    # at 0.5: 0.4 and not 0.2, whose SSIM is below; exactly at the floor counts; the first of equals; none
    # is above, so the most similar
    assert strongest(dice, similarity, 0.5).tolist() == [1, 2, 0, 0]
    assert strongest(dice, similarity, -1.0).tolist() == [2, 2, 0, 1]
    assert strongest(dice, similarity, 1.0).tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("channels", [1, 3])
def test_one_strength_is_the_published_image(pairs: TextureAutoEncoders, channels: int) -> None:
    x, masks = discs(channels=channels)
    found = adain(Bright(), x, masks, pairs=pairs)
    with torch.no_grad():
        (expected,) = retextured(pairs, x, masks * 6, Texture())
    assert_close(found.images, expected, rtol=0, atol=0)
    assert (found.images.std((1, 2, 3)) > 5 / 255).all()
    assert found.notes["noise_mu"].tolist() == [0.3] * 3
    assert found.notes["noise_sigma"].tolist() == [0.3] * 3
    assert not found.history
    inside = masks == 1
    for name, where in (("inside", inside), ("outside", ~inside)):
        assert_close(found.notes[f"ssim_{name}"].float(), ssim(expected, x, where=where))
        assert_close(found.notes[f"change_{name}"].float(), mean_absolute(expected, x, where=where))


def test_several_strengths_are_noted_and_the_strongest_kept(pairs: TextureAutoEncoders) -> None:
    x, masks = discs()
    victim = Bright()
    found = adain(victim, x, masks, pairs=pairs, **GRID)
    assert victim.asked == 1 + len(STRENGTHS)
    assert set(found.history) == set(STRENGTH_COLUMNS[1:])
    for column, name in enumerate(("noise_mu", "noise_sigma")):
        assert found.history[name].tolist() == [[pair[column]] * 3 for pair in STRENGTHS]
    with torch.no_grad():
        each = list(retextured(pairs, x, masks * 6, Texture(), strengths=STRENGTHS))
    dice = torch.stack([foreground_dice((victim(image) > 0)[:, 0].long(), masks, 2) for image in each])
    assert_close(found.history["dice"].float(), dice)
    assert all(len(each.unique()) == len(STRENGTHS) for each in dice.T)
    assert_close(found.history["ssim"].float(), torch.stack([ssim(image, x) for image in each]))
    for n, best in enumerate(dice.argmin(0).tolist()):
        assert_close(found.images[n], each[best][n], rtol=0, atol=0)
        assert (found.notes["noise_mu"][n], found.notes["noise_sigma"][n]) == STRENGTHS[best]
    assert found.notes["above_floor"].tolist() == [1, 1, 1]


def test_what_is_too_unlike_is_not_kept(pairs: TextureAutoEncoders) -> None:
    x, masks = discs()
    free = adain(Bright(), x, masks, pairs=pairs, **GRID)
    similarity = free.history["ssim"]
    floor = float(similarity.max(0).values.min())  # the image that is changed most, at its most similar
    found = adain(Bright(), x, masks, pairs=pairs, **GRID, ssim_floor=floor)
    assert found.notes["above_floor"].tolist() == [1, 1, 1]
    assert (ssim(found.images, x) >= floor - 1e-6).all()
    least = torch.where(similarity >= floor, free.history["dice"], torch.inf).min(0).values
    after = foreground_dice((Bright()(found.images) > 0)[:, 0].long(), masks, 2)
    assert_close(after.double(), least)

    none = adain(Bright(), x, masks, pairs=pairs, **GRID, ssim_floor=1.0)
    assert none.notes["above_floor"].tolist() == [0, 0, 0]
    assert_close(ssim(none.images, x).double(), similarity.max(0).values)


@pytest.mark.parametrize("feather", [0.0, 1.0, 2.0])
def test_the_organ_alone(pairs: TextureAutoEncoders, feather: float) -> None:
    x, masks = discs(channels=3)
    whole = adain(Bright(), x, masks, pairs=pairs)
    found = adain(Bright(), x, masks, pairs=pairs, region="organ", feather=feather)
    share = feathered(masks == 1, feather)
    assert_close(found.images, share * whole.images + (1 - share) * x, rtol=0, atol=1e-6)
    reach = int(3 * feather) + 1 if feather else 0
    near = nn.functional.max_pool2d(masks.unsqueeze(1).float(), 2 * reach + 1, 1, reach) > 0
    far = ~near.expand_as(x)
    assert far.any()
    assert_close(found.images[far], x[far], rtol=0, atol=0)
    assert (found.images[~far] != x[~far]).any()
    if not feather:
        inside = (masks == 1).unsqueeze(1).expand_as(x)
        assert_close(found.images[inside], whole.images[inside], rtol=0, atol=0)
        assert found.notes["change_outside"].tolist() == [0, 0, 0]


def test_a_victim_that_predicts_less_than_the_image(pairs: TextureAutoEncoders) -> None:
    x, masks = discs()
    inner = masks[:, 8:-8, 8:-8]
    found = adain(Bright(margin=8), x, inner, pairs=pairs, **GRID, region="organ", feather=0)
    full = adain(Bright(), x, masks, pairs=pairs, **GRID, region="organ", feather=0)
    assert_close(found.images, full.images, rtol=0, atol=0)  # the discs lie within what is predicted
    assert found.images.shape == x.shape
    outside = organ_ids(inner, [6], 2, x.shape[2:]).unsqueeze(1) == 0
    assert_close(found.images[outside], x[outside], rtol=0, atol=0)


def test_ignored_pixels_are_background(pairs: TextureAutoEncoders) -> None:
    x, masks = discs()
    ignored = masks.clone()
    ignored[:, :18][ignored[:, :18] == 1] = IGNORE
    cut = masks.clone()
    cut[:, :18] = 0
    found, other = (adain(Bright(), x, own, pairs=pairs, region="organ") for own in (ignored, cut))
    assert_close(found.images, other.images, rtol=0, atol=0)
    assert_close(found.notes, other.notes, rtol=0, atol=0)


def test_an_image_without_the_organ(pairs: TextureAutoEncoders) -> None:
    x, masks = discs()
    masks[1] = 0
    found = adain(Bright(), x, masks, pairs=pairs, **GRID)
    assert found.notes["ssim_inside"].isnan().tolist() == [False, True, False]
    assert found.notes["change_inside"].isnan().tolist() == [False, True, False]
    assert not any(rows.isnan().any() for name, rows in found.history.items() if "inside" not in name)
    assert found.history["change_inside"].isnan().any(0).tolist() == [False, True, False]
    assert not any(note.isnan().any() for name, note in found.notes.items() if "inside" not in name)
    assert not torch.equal(found.images[1], x[1])
    alone = adain(Bright(), x, masks, pairs=pairs, **GRID, region="organ")
    assert_close(alone.images[1], x[1], rtol=0, atol=0)
    assert alone.history["ssim"][:, 1].tolist() == pytest.approx([1] * len(STRENGTHS))


def test_an_image_that_is_all_organ(pairs: TextureAutoEncoders) -> None:
    x, masks = discs()
    found = adain(Bright(), x, torch.ones_like(masks), pairs=pairs, region="organ")
    assert found.notes["ssim_outside"].isnan().all()
    assert_close(found.images, adain(Bright(), x, torch.ones_like(masks), pairs=pairs).images)


def test_several_classes(pairs: TextureAutoEncoders) -> None:
    x, masks = discs()
    masks[:, :, 40:] = 2
    three = nn.Conv2d(1, 3, 1)
    found = adain(three, x, masks, pairs=pairs, organs=[6, 3])
    with torch.no_grad():
        (expected,) = retextured(pairs, x, torch.tensor([0, 6, 3])[masks], Texture())
    assert_close(found.images, expected, rtol=0, atol=0)


def test_the_callers_auto_encoders_are_left_as_found(pairs: TextureAutoEncoders) -> None:
    pairs.train()
    pairs.decoders["3"].requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in pairs.state_dict().items()}
    flags = [parameter.requires_grad for parameter in pairs.parameters()]
    x, masks = discs(1)
    single = adain(Bright(), x, masks, pairs=pairs, **GRID)
    double = adain(Bright(), x.double(), masks, pairs=pairs, **GRID)
    assert double.images.dtype == torch.float64
    assert (double.images - single.images).abs().max() <= 1.5 / 255
    assert {tensor.dtype for tensor in pairs.state_dict().values()} == {torch.float32}
    assert_close(dict(pairs.state_dict()), before, rtol=0, atol=0)
    assert [parameter.requires_grad for parameter in pairs.parameters()] == flags
    assert all(module.training for module in pairs.modules())
    assert all(parameter.grad is None for parameter in pairs.parameters())
    pairs.requires_grad_(True).eval()


@pytest.mark.parametrize(
    "settings",
    [
        {"organs": []},
        {"organs": [0]},
        {"organs": [15]},
        {"ssim_floor": 1.5},
        {"ssim_floor": float("nan")},
        {"feather": -1.0},
        {"feather": float("inf")},
    ],
)
def test_settings_outside_their_range_are_refused(
    pairs: TextureAutoEncoders, settings: dict[str, Any]
) -> None:
    (name,) = settings
    x, masks = discs(1)
    with pytest.raises(InputError, match=name):
        adain(Bright(), x, masks, pairs=pairs, **settings)
    with pytest.raises(InputError, match=name):
        Adain(**settings)


@pytest.mark.parametrize("strength", [(-1.0, 0.3), (0.3, float("nan")), (float("inf"), 0.3)])
def test_strengths_outside_their_range_are_refused(
    pairs: TextureAutoEncoders, strength: tuple[float, float]
) -> None:
    with pytest.raises(InputError, match="noise_"):
        Adain(noise_mu=[0.3, strength[0]], noise_sigma=[0.3, strength[1]])
    with pytest.raises(InputError, match="noise_"):
        adain(Bright(), *discs(1), pairs=pairs, noise_mu=[0.3, strength[0]], noise_sigma=[0.3, strength[1]])


def test_all_pairs_of_two_lists_are_tried() -> None:
    attack = Adain(noise_mu=[0.3, 1.0], noise_sigma=[0.5, 0.7])
    assert strengths_of([0.3, 1.0], [0.5, 0.7]) == [(0.3, 0.5), (0.3, 0.7), (1.0, 0.5), (1.0, 0.7)]
    assert attack.attacker_knowledge == "true mask, labels"  # the victim is asked which strength is best
    assert Adain().attacker_knowledge == Adain(noise_mu=[0.3]).attacker_knowledge == "true mask"
    assert strengths_of([0.3, 0.6], 0.5) == [(0.3, 0.5), (0.6, 0.5)]
    with pytest.raises(InputError, match="at least one factor each"):
        Adain(noise_mu=[])
    with pytest.raises(InputError, match="at least one factor each"):
        Adain(noise_sigma=[])
