"""One large image: how often it is held in float from the file to an attack."""

import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.testing import assert_close

from benchmarks.suite.held_memory import held_bytes
from seg_mia.attacks.pgd import pgd
from seg_mia.data.base import SegmentationData
from seg_mia.data.images.reading import image_size, read_image
from seg_mia.data.sets.folder import Folder
from seg_mia.errors import InputError
from seg_mia.losses import LOSSES, LossName
from seg_mia.membership.fleet.confidences import Confidences, confidences
from seg_mia.membership.signals import ImageEntropy, ImageLoss
from seg_mia.metrics import similarity, strips
from seg_mia.metrics.label_sets import LabelSets
from seg_mia.metrics.overlap import confusion, foreground_dice_per_class
from seg_mia.metrics.similarity import mean_absolute, ssim
from seg_mia.models.tiled import Tiled
from seg_mia.models.unet3d import UNet3d
from seg_mia.results.orthogonal import OrthogonalSlices

SIDE = 1536
FLOAT = SIDE * SIDE * 3 * 4
"""Bytes of the image in float32."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> SegmentationData:
    """Four RGB images with a disc each."""
    root = tmp_path_factory.mktemp("large")
    rows, columns = np.mgrid[:SIDE, :SIDE]
    for number in range(4):
        pixels = np.stack([rows // 7 + 40 * number, columns // 5, (rows + columns) // 9], axis=-1) % 256
        mask = (rows - 700) ** 2 + (columns - 800) ** 2 < 300**2
        for folder, values in (("images", pixels), ("masks", mask)):
            (root / folder).mkdir(exist_ok=True)
            Image.fromarray(values.astype(np.uint8)).save(root / folder / f"p{number}.png", compress_level=0)
    module = Folder(
        root=str(root), members=1, nonmembers=1, batch_size=1, patch=[256, 256], augment="standard",
        cache=str(root / "cache"),
    )  # fmt: skip
    module.setup()
    return module


def tiled(channels: int = 3) -> nn.Module:
    """A small network in windows of 256x256."""
    torch.manual_seed(0)
    return Tiled(nn.Conv2d(channels, 1, 3, padding=1), patch=[256, 256], overlap=0.25, batch=2).eval()


def random(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def traced(function: object) -> int:
    """Return the bytes of NumPy arrays that a call held at once."""
    assert callable(function)
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_whole_image_is_read_into_one_float_array(data: SegmentationData) -> None:
    samples = data.dataset(data.indices("members"))
    mask = SIDE * SIDE * 8
    assert traced(lambda: samples[0, 0]) < 1.05 * FLOAT + mask
    loader = data.val_dataloader()
    assert held_bytes(lambda: next(iter(loader))) < 0.1 * FLOAT  # the batch is a view of the sample
    batch = next(iter(loader))
    assert batch.image.shape == (1, 3, SIDE, SIDE)
    expected = np.asarray(data.cached.images[int(batch.index[0])])
    assert_close(batch.image[0].movedim(0, -1) * 255, torch.from_numpy(expected.astype(np.float32)))


def test_all_levels_of_8_bits_are_divided_by_255(data: SegmentationData) -> None:
    batch = next(iter(data.val_dataloader()))
    levels = torch.from_numpy(np.array(data.cached.images[int(batch.index[0])])).movedim(-1, 0)
    assert torch.equal(batch.image[0], levels.float() / 255)


def test_a_training_patch_reads_no_whole_image(data: SegmentationData) -> None:
    samples = data.dataset(data.indices("members"), augmented=True)
    assert samples[0, 0].image.shape == (3, 256, 256)
    assert max(traced(partial(samples.__getitem__, (epoch, 0))) for epoch in range(4)) < 0.2 * FLOAT


def test_windows_hold_no_second_image() -> None:
    image, window = random(1, 3, SIDE, SIDE), 256 * 256 * 4
    with torch.no_grad():
        held = held_bytes(tiled(), image)
    logits = sums = FLOAT // 3
    assert held < logits + sums + 20 * window


def test_all_windows_share_one_gradient() -> None:
    image, network = random(1, 3, SIDE, SIDE).requires_grad_(), tiled()

    def gradient() -> None:
        (value,) = torch.autograd.grad(network(image).sum(), image)
        assert value.shape == image.shape

    assert held_bytes(gradient) < 2.2 * FLOAT  # logits, their gradient, the weights' sums, the gradient


def test_an_attack_holds_a_few_images_however_many_windows() -> None:
    image, mask = random(1, 3, SIDE, SIDE), torch.zeros(1, SIDE, SIDE, dtype=torch.int64)
    mask[:, 200:600, 300:800] = 1
    assert held_bytes(lambda: pgd(tiled(), image, mask, steps=1)) < 6.5 * FLOAT


def test_measures_and_signals_hold_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strips, "LARGEST", 2**16)
    monkeypatch.setattr(similarity, "BLOCK", 256)
    image, mask = random(1, 3, SIDE, SIDE), (random(1, SIDE, SIDE) > 0.5).long()
    logits = random(1, 1, SIDE, SIDE) - 0.5
    for function, arguments, most in (
        (ssim, (image, image / 2), 0.65),
        (mean_absolute, (image, image / 2), 0.2),
        (confusion, (mask, mask, 2), 0.7),
        (Confidences(), (logits, image, mask), 0.7),
        (ImageEntropy(), (logits, image, mask), 0.7),
        (ImageLoss(), (logits, image, mask), 1.6),
    ):
        with torch.no_grad():
            assert held_bytes(function, *arguments) < most * FLOAT, function


@pytest.mark.parametrize("loss", ["cross_entropy", "dice", "dice_cross_entropy", "label_dice_bce"])
def test_losses_of_strips_are_those_of_the_image(loss: LossName, monkeypatch: pytest.MonkeyPatch) -> None:
    logits = (random(2, 4, 37, 20).double() - 0.5).requires_grad_()
    mask = (random(2, 37, 20) * 4).long()
    mask[:, 30:] = 255

    def value_and_gradient() -> tuple[Tensor, Tensor]:
        losses = LOSSES[loss](logits, mask)
        return losses, torch.autograd.grad(losses.sum(), logits)[0]

    whole = value_and_gradient()
    monkeypatch.setattr(strips, "LARGEST", 100)
    assert_close(value_and_gradient(), whole)


def test_measures_of_strips_and_blocks_are_those_of_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = random(2, 3, 61, 47).double(), random(2, 3, 61, 47).double().flip(-1)
    logits, mask, where = random(2, 1, 61, 47) - 0.5, (random(2, 61, 47) * 2).long(), random(2, 61, 47) > 0.3
    sets, labels = (random(2, 61, 47) * 4).long(), LabelSets(["a", "b"])

    def measured() -> tuple[Tensor, ...]:
        return (
            ssim(a, b), ssim(a, b, where=where), mean_absolute(a, b), mean_absolute(a, b, where=where),
            confusion(mask, mask.flip(1), 2), foreground_dice_per_class(sets, sets.flip(1), labels),
            torch.from_numpy(confidences(logits, mask)), ImageEntropy()(logits, a, mask),
        )  # fmt: skip

    whole = measured()
    monkeypatch.setattr(strips, "LARGEST", 100)
    for block in (16, 20, 30, 45):
        monkeypatch.setattr(similarity, "BLOCK", block)
        assert_close(measured(), whole)


def test_pictures_of_large_images_leave_out_rows_and_columns() -> None:
    mask = torch.zeros(2500, 1500, dtype=torch.int64)
    shown = OrthogonalSlices(mask)
    assert shown(mask).shape == (834, 500)
    assert shown(random(3, 2500, 1500)).shape == (3, 834, 500)
    assert OrthogonalSlices(mask[:1024])(random(3, 1030, 1500)).shape == (3, 515, 750)
    assert OrthogonalSlices(mask[:1024, :700])(random(3, 1024, 700)).shape == (3, 1024, 700)


@pytest.mark.parametrize(
    ("name", "compression"), [("wide.png", None), ("wide.tif", None), ("wide.tif", "tiff_adobe_deflate")]
)
def test_a_header_of_too_many_pixels_is_refused_unless_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, compression: str | None
) -> None:
    path = tmp_path / name
    Image.new("L", (60, 40)).save(path, **({"compression": compression} if compression else {}))
    monkeypatch.setenv("SEG_MIA_LARGEST_IMAGE", "2399")
    for read in (lambda: read_image(path, 1), lambda: image_size(path)):
        with pytest.raises(InputError, match=r"at most 2399 pixels.*60x40.*SEG_MIA_LARGEST_IMAGE"):
            read()
    monkeypatch.setenv("SEG_MIA_LARGEST_IMAGE", "2400")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert read_image(path, 1).shape == (40, 60, 1)  # Pillow's own limit does not count
    with ThreadPoolExecutor(4) as threads:
        assert all(image.shape == (40, 60, 1) for image in threads.map(read_image, [path] * 40, [1] * 40))
    assert Image.MAX_IMAGE_PIXELS == 100
    monkeypatch.setenv("SEG_MIA_LARGEST_IMAGE", "many")
    with pytest.raises(InputError, match="number of pixels"):
        read_image(path, 1)


@pytest.mark.parametrize("side", [20, pytest.param(64, marks=pytest.mark.slow)])
def test_half_the_windows_at_once_give_the_same_attack(side: int) -> None:
    torch.manual_seed(0)
    network = UNet3d(width=2, levels=2).double()  # in float32 rounding decides at kinks
    volume, mask = (
        random(1, 1, side, side, side).double(),
        torch.zeros(1, side, side, side, dtype=torch.int64),
    )
    mask[:, 5:12, 5:12, 5:12] = 1
    patch = [side // 2] * 3
    attacked = [
        pgd(
            Tiled(network, patch=patch, batch=batch).eval(), volume, mask, norm="l2", epsilon=3, step_size=2,
            steps=2,
        ).images
        for batch in (4, 2)
    ]  # fmt: skip
    assert (attacked[0] - volume).abs().max() > 1e-3
    assert_close(*attacked, atol=1e-5, rtol=0)


def test_a_sum_of_two_products_holds_both() -> None:
    x = torch.ones(1000)
    assert held_bytes(lambda: x * 2 + x * 3) == 3 * 4000
