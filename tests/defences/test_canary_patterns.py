"""Canaries that resemble neither the data nor each other."""

from itertools import combinations

import numpy as np
import pytest
import torch
import yaml
from numpy.typing import NDArray

from seg_mia.config.files import config_folder
from seg_mia.data.sets.phantom import Phantom
from seg_mia.data.source import Image, Mask
from seg_mia.defences.canaries import Canaries, Kind
from seg_mia.defences.canary_patterns import distinct_canaries
from seg_mia.losses import dice_cross_entropy_loss
from seg_mia.metrics.labels import IGNORE
from seg_mia.models.smp import Smp

SIDE, COUNT = 48, 24


def drawn(
    count: int = 6, classes: int = 2, dtype: type = np.uint8, shape: tuple[int, ...] = (20, 24, 3)
) -> tuple[list[Image], list[Mask], list[tuple[Image, Mask]]]:
    generator = np.random.default_rng(0)
    images: list[Image] = [
        (generator.random(shape) * (200 if dtype is np.uint8 else 0.8)).astype(dtype)
    ] * count
    masks = [np.zeros(shape[:-1], np.uint8)] * count
    return images, masks, distinct_canaries(images, masks, classes=classes, seed=0)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("shape", [(20, 24, 3), (20, 24, 1), (6, 16, 20, 1)])
def test_shapes_values_and_classes_are_those_of_the_sample(dtype: type, shape: tuple[int, ...]) -> None:
    images, masks, canaries = drawn(classes=4, dtype=dtype, shape=shape)
    for image, mask, (changed, labels) in zip(images, masks, canaries, strict=True):
        assert changed.shape == image.shape
        assert changed.dtype == image.dtype
        assert labels.shape == mask.shape
        assert labels.dtype == np.uint8
        assert image.min() <= changed.min() < changed.max() <= image.max()
        found, counts = np.unique(labels, return_counts=True)
        assert len(found) == 2
        assert found.max() < 4
        assert 0.25 < counts[0] / labels.size < 0.75
    assert len({labels.tobytes() for _, labels in canaries}) == len(canaries)


def test_the_textures_of_a_canary_meet_at_its_outline_and_no_two_canaries_are_alike() -> None:
    _, _, canaries = drawn(count=40, shape=(32, 32, 3))
    apart = []
    for image, mask in canaries:
        inside, outside = image[mask == mask[0, 0]].astype(float), image[mask != mask[0, 0]].astype(float)
        apart.append(np.abs(inside.mean(0) - outside.mean(0)).max())
    assert np.median(apart) > 20
    spectra = [spectrum(image) for image, _ in canaries]
    likeness = [float(first @ second) for first, second in combinations(spectra, 2)]
    assert np.median(likeness) < 0.6


def spectrum(image: Image) -> NDArray[np.float64]:
    """Return the power of an image at each frequency, of length 1."""
    grey = image.astype(float).mean(-1)
    power = np.abs(np.fft.rfft2(grey - grey.mean())).ravel()
    return np.asarray(power / np.linalg.norm(power), dtype=np.float64)


def test_ignored_pixels_keep_their_values_and_a_smaller_mask_is_the_centre() -> None:
    image = np.arange(400, dtype=np.uint8).reshape(20, 20, 1)
    mask = np.zeros((20, 20), np.uint8)
    mask[:, :5] = IGNORE
    ((changed, labels),) = distinct_canaries([image], [mask], classes=2, seed=1)
    assert np.array_equal(changed[:, :5], image[:, :5])
    assert (labels[:, :5] == IGNORE).all()
    assert not (labels[:, 5:] == IGNORE).any()
    ((_, whole),) = distinct_canaries([image], [np.zeros((20, 20), np.uint8)], classes=2, seed=1)
    ((_, part),) = distinct_canaries([image], [np.zeros((12, 12), np.uint8)], classes=2, seed=1)
    assert np.array_equal(part, whole[4:16, 4:16])


def test_the_seed_decides() -> None:
    images, masks, canaries = drawn()
    again = distinct_canaries(images, masks, classes=2, seed=0)
    other = distinct_canaries(images, masks, classes=2, seed=1)
    for (first, _), (second, _), (third, _) in zip(canaries, again, other, strict=True):
        assert np.array_equal(first, second)
        assert not np.array_equal(first, third)


def gradients(kind: Kind) -> NDArray[np.float64]:
    """Return the normalised gradients of canaries on the phantom, for a classifier of a fixed encoder."""
    data = Phantom(size=SIDE, patients=260, slices=1, members=20, nonmembers=10)
    data.setup()
    canaries = Canaries(count=COUNT, kind=kind)
    canaries.enter(data)
    torch.manual_seed(0)
    network = Smp(architecture="Hypercolumn", encoder="resnet18", channels=1, classes=1).eval()
    weights = [value for name, value in network.named_parameters() if "encoder" not in name]
    samples, rows = canaries.samples(data), []
    for row in range(len(samples)):
        image, mask, _ = samples[0, row]
        loss = dice_cross_entropy_loss(network(image[None]), mask[None]).sum()
        rows.append(torch.cat([part.flatten() for part in torch.autograd.grad(loss, weights)]).double())
    stacked = torch.stack(rows).numpy()
    return np.asarray(stacked / np.linalg.norm(stacked, axis=1, keepdims=True))


def test_distinct_canaries_are_farther_apart_in_gradients_than_mislabelled_ones() -> None:
    cosines, ranks = {}, {}
    for kind in ("mislabelled", "distinct"):
        rows = gradients(kind)
        product = rows @ rows.T
        cosines[kind] = np.abs(product[~np.eye(len(rows), dtype=bool)]).mean()
        values = np.linalg.eigvalsh(product)
        ranks[kind] = values.sum() ** 2 / (values**2).sum()  # participation ratio
    assert cosines["distinct"] < 0.75 * cosines["mislabelled"]
    assert ranks["distinct"] > 1.5 * ranks["mislabelled"]


def test_distinct_canaries_are_the_default_of_class_and_config() -> None:
    assert Canaries().kind == "distinct"
    spec = yaml.safe_load((config_folder() / "defence" / "canaries.yaml").read_text())
    assert spec["init_args"] == {"count": 100, "kind": "distinct"}
