"""Attacks, losses, metrics and signals on volumes: each compared with the same pixels laid out flat."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from seg_mia.attacks.asma import asma
from seg_mia.attacks.ball import Norm
from seg_mia.attacks.base import Adversarial
from seg_mia.attacks.medis import medis
from seg_mia.attacks.pgd import fgsm, pgd
from seg_mia.attacks.targets import mean_iou_matrix
from seg_mia.attacks.trigger import emptied, stamped, trigger
from seg_mia.errors import InputError
from seg_mia.losses import LOSSES, SURROGATES, LossName, SurrogateName, per_pixel_cross_entropy
from seg_mia.membership.signals import (
    ImageAndMask,
    ImageEntropy,
    ImageLoss,
    LossMap,
    Posterior,
    PosteriorAndMask,
    Signal,
)
from seg_mia.metrics.distance import l2_norm, linf_norm
from seg_mia.metrics.labels import IGNORE
from seg_mia.metrics.overlap import confusion, foreground_dice, foreground_iou, mean_iou, pixel_accuracy
from seg_mia.metrics.similarity import mean_absolute, ssim
from seg_mia.models.heads import at_size, class_count, class_logits, predicted, probabilities

SIZE = (3, 4, 5)
every_channels = pytest.mark.parametrize("channels", [1, 2, 4])
NEAR: set[SurrogateName] = {"structure", "combined"}
"""Losses that look at a pixel's neighbours: flat, a pixel has other ones."""


class Pointwise(nn.Module):
    """A network that looks at each pixel alone, so that it does not know how pixels are laid out."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        self.weights = torch.randn(classes, 2, generator=generator, dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("kc,nc...->nk...", 4 * self.weights, x - 0.5)


class Shifted(nn.Module):
    """The logit of each pixel is its value less a half, so that a bright pixel is foreground."""

    def forward(self, x: Tensor) -> Tensor:
        return x - 0.5


def flat(volumes: Tensor) -> Tensor:
    """Return volumes (..., D, H, W) as (..., D, H * W)."""
    return volumes.flatten(-2)


def drawn(channels: int = 3, count: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    """Return images (N, 2, D, H, W), logits and masks with ignored pixels."""
    generator = torch.Generator().manual_seed(channels)
    images = torch.rand(count, 2, *SIZE, generator=generator, dtype=torch.float64)
    logits = 3 * torch.randn(count, channels, *SIZE, generator=generator, dtype=torch.float64)
    masks = torch.randint(max(2, channels), (count, *SIZE), generator=generator)
    return images, logits, masks.masked_fill(torch.rand(masks.shape, generator=generator) < 0.2, IGNORE)


ATTACKS: dict[str, Callable[..., Adversarial]] = {
    "fgsm": lambda *data: fgsm(*data, epsilon=0.05),
    "pgd": lambda *data: pgd(*data, epsilon=0.05, step_size=0.02, steps=4),
    "pgd_l2": lambda *data: pgd(*data, norm="l2", epsilon=0.5, step_size=0.2, steps=4, targeted=True),
    "asma": lambda *data: asma(*data, steps=20, tau=1e-3, beta=1e-3, history_every=5),
    "medis": lambda *data: medis(*data, losses=[name for name in SURROGATES if name not in NEAR], steps=4),
    "trigger": lambda *data: trigger(*data, shape="line", size=1, value=1.0),
}


@pytest.mark.parametrize("name", sorted(set(ATTACKS) - {"trigger"}))
def test_a_volume_gets_what_its_pixels_get_laid_out_flat(name: str) -> None:
    x, _, target = drawn()
    solid = ATTACKS[name](Pointwise(), x, target)
    plain = ATTACKS[name](Pointwise(), flat(x), flat(target))
    assert solid.images.shape == x.shape
    assert (solid.images != x).any()
    assert_close(flat(solid.images), plain.images, rtol=0, atol=1e-12)
    assert_close(solid.notes, plain.notes, rtol=0, atol=1e-12)
    assert_close(solid.history, plain.history, rtol=0, atol=1e-12)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_one_step_on_a_volume_by_hand(norm: Norm) -> None:
    # One logit, x - 1/2, of truth 1 everywhere: each of 12 values falls by 0.1, or by 0.1 / sqrt(12).
    x, truth = torch.full((1, 1, 2, 2, 3), 0.5), torch.ones(1, 2, 2, 3, dtype=torch.int64)
    result = fgsm(nn.Identity(), x, truth, norm=norm, epsilon=0.1)
    assert_close(result.images, x - 0.1 / (1 if norm == "linf" else 12**0.5))


def test_the_structure_loss_is_followed_in_a_volume() -> None:
    x, target = torch.full((1, 1, 2, 2, 3), 0.49), torch.ones(1, 2, 2, 3, dtype=torch.int64)
    result = medis(Shifted(), x, target, losses=["structure"], steps=1, step_size=0.1, success=1.0, stop=1.0)
    assert_close(result.images, x + 0.1)


def test_a_trigger_is_stamped_on_every_slice() -> None:
    x = torch.zeros(1, 2, *SIZE)
    marked = stamped(x, shape="line", size=1, value=1.0)
    assert_close(
        marked, torch.stack([stamped(x[:, :, n], shape="line", size=1, value=1.0) for n in range(3)], 2)
    )
    assert emptied(torch.zeros(1, *SIZE, dtype=torch.int64)).sum() == 3
    result = trigger(
        Pointwise(), x.double(), torch.zeros(1, *SIZE, dtype=torch.int64), shape="line", value=1.0
    )
    assert result.images.sum() == 2 * 3 * 5


@every_channels
@pytest.mark.parametrize("name", sorted(set(LOSSES) - NEAR))
def test_losses_are_those_of_the_pixels(name: LossName, channels: int) -> None:
    _, logits, masks = drawn(channels)
    assert_close(LOSSES[name](logits, masks), LOSSES[name](flat(logits), flat(masks)), rtol=1e-12, atol=0)


def test_the_structure_loss_of_an_empty_volume_is_that_of_its_pixels() -> None:
    # Box means of an empty mask are 0, so every pixel weighs 1, however they are laid out.
    _, logits, _ = drawn(1)
    empty = torch.zeros(3, *SIZE, dtype=torch.int64)
    expected = LOSSES["structure"](flat(logits), flat(empty))
    assert_close(LOSSES["structure"](logits, empty), expected, rtol=1e-12, atol=0)


def test_the_structure_loss_of_a_full_volume_by_hand() -> None:
    # A box of 31 x 31 x 31 around any voxel holds all 60 of this volume: its mean is 60 / 29791.
    _, logits, _ = drawn(1)
    weight = 1 + 5 * (1 - 60 / 31**3)
    p = logits.sigmoid().flatten(1)
    both, either = weight * p.sum(1), weight * (p + 1).sum(1)
    expected = -p.log().mean(1) + 1 - (both + 1) / (either - both + 1)
    full = torch.ones(3, *SIZE, dtype=torch.int64)
    assert_close(LOSSES["structure"](logits, full), expected, rtol=1e-10, atol=0)


@every_channels
def test_heads_and_maps_keep_their_layout(channels: int) -> None:
    _, logits, masks = drawn(channels)
    for read in (class_logits, probabilities, predicted):
        assert_close(flat(read(logits)), read(flat(logits)))
    assert class_count(logits) == max(2, channels)
    assert_close(
        flat(per_pixel_cross_entropy(logits, masks)), per_pixel_cross_entropy(flat(logits), flat(masks))
    )
    small = at_size(torch.ones(1, 2, 2, 2, 2), torch.zeros(1, 2, *SIZE))
    assert_close(small, torch.ones(1, 2, *SIZE))


@pytest.mark.parametrize("metric", [confusion, foreground_dice, foreground_iou, mean_iou, pixel_accuracy])
def test_overlaps_are_those_of_the_pixels(metric: Callable[[Tensor, Tensor, int], Tensor]) -> None:
    _, logits, masks = drawn(4)
    assert_close(metric(predicted(logits), masks, 4), metric(flat(predicted(logits)), flat(masks), 4))


def test_dice_and_iou_of_a_volume_by_hand() -> None:
    # 8 voxels of truth, 4 of prediction inside: Dice 2 * 4 / 12, IoU 4 / 8.
    truth, prediction = torch.zeros(2, 1, 4, 4, 4, dtype=torch.int64)
    truth[0, :2, :2, :2] = 1
    prediction[0, :1, :2, :2] = 1
    assert foreground_dice(prediction, truth, 2).item() == pytest.approx(2 / 3)
    assert foreground_iou(prediction, truth, 2).item() == pytest.approx(1 / 2)
    assert mean_iou_matrix(torch.cat((truth, prediction)), 2)[0, 1].item() == pytest.approx(
        (56 / 60 + 0.5) / 2
    )


def test_distances_of_volumes() -> None:
    x, _, masks = drawn()
    for distance in (l2_norm, linf_norm):
        assert_close(distance(x), distance(flat(x)))
    where = masks == 1
    assert_close(mean_absolute(x, 0 * x), x.mean((1, 2, 3, 4)))
    assert_close(mean_absolute(x, 0 * x, where=where), mean_absolute(flat(x), 0 * flat(x), where=flat(where)))


@every_channels
@pytest.mark.parametrize(
    "signal",
    [Posterior(entropy=True), PosteriorAndMask(), LossMap(), ImageLoss(), ImageEntropy(), ImageAndMask()],
)
def test_signals_are_those_of_the_pixels(signal: Signal, channels: int) -> None:
    images, logits, masks = drawn(channels)
    solid, plain = signal(logits, images, masks), signal(flat(logits), flat(images), flat(masks))
    assert_close(flat(solid) if signal.maps else solid, plain, rtol=1e-6, atol=1e-7)


def test_the_central_part_of_a_volume_that_its_mask_covers() -> None:
    image = torch.arange(5.0).view(1, 1, 5, 1, 1).expand(1, 1, 5, 3, 3)
    part = ImageAndMask()(torch.zeros(1, 2, 3, 1, 3), image, torch.zeros(1, 3, 1, 3, dtype=torch.int64))
    assert part.shape == (1, 2, 3, 1, 3)
    assert part[0, 0, :, 0, 0].tolist() == [1, 2, 3]


def test_ssim_of_a_volume_is_the_mean_over_its_slices() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.rand(2, 1, 3, 12, 13, generator=generator, dtype=torch.float64) for _ in range(2))
    slices = torch.stack([ssim(a[:, :, depth], b[:, :, depth]) for depth in range(3)])
    assert_close(ssim(a, b), slices.mean(0))
    where = torch.rand(2, 3, 12, 13, generator=generator) < 0.5
    parts = [ssim(a[:, :, depth], b[:, :, depth], where=where[:, depth]) for depth in range(3)]
    counts = where.flatten(2).sum(2).T
    assert_close(ssim(a, b, where=where), (torch.stack(parts) * counts).sum(0) / counts.sum(0))


@pytest.mark.parametrize(
    ("x", "target", "message"),
    [
        (torch.zeros(1, 3, 4), torch.zeros(1, 4).long(), r"\(N, C, D, H, W\)"),
        (torch.zeros(1, 2, *SIZE), torch.zeros(1, 4, 5).long(), "3 spatial axes"),
        (torch.zeros(1, 2, *SIZE).double(), torch.zeros(1, 3, 4, 4).long(), "logits must be"),
    ],
)
def test_volumes_and_masks_that_do_not_fit_are_refused(x: Any, target: Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        fgsm(Pointwise(), x, target)
