"""Attacks against the published loops."""

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.suite import asma_pairs, published
from benchmarks.suite.asma_pairs import Victim
from benchmarks.suite.pairs import Pair
from benchmarks.suite.sizes import Sizes
from seg_mia.attacks.feature_statistics import Texture, retextured
from seg_mia.attacks.medis import ALL, medis
from seg_mia.attacks.targets import random_other
from seg_mia.data.sets.phantom import Phantom
from seg_mia.losses import dice_cross_entropy_loss
from seg_mia.models.smp import Smp
from seg_mia.models.style_autoencoder import TextureAutoEncoders

COMPRESSED = (16, 32, 64, 128, 128)
"""Channels of the compressed texture auto-encoders (Wang et al. 2020)."""
SHORT = 5
"""Steps of MedIS where every run is followed to its end."""
GRID = (0.3, 0.6, 1.0)
"""Factors of mean and deviation in the comment of `lightning_configs/attack/adain.yaml`."""
Strengths = Sequence[tuple[float, float]]


def victim(sizes: Sizes, device: str = "cpu") -> Victim:
    """Return a network that segments the phantom's liver after a minute of training on the processor."""
    torch.manual_seed(0)
    count = sizes.images
    data = Phantom(size=sizes.side, patients=4 * (32 + count), slices=1, members=32, nonmembers=count)
    data.setup()
    model = Smp(encoder="resnet18", channels=1, classes=1).to(device)
    optimizer = torch.optim.NAdam(model.parameters(), lr=1e-3)
    images, masks = _samples(data, "members")
    order = np.random.default_rng(0)
    for _ in range(sizes.training_steps):
        rows = torch.from_numpy(order.choice(len(images), 8, replace=False))
        shown, truth = images[rows].to(device), masks[rows].to(device)
        optimizer.zero_grad()
        dice_cross_entropy_loss(model(shown), truth).mean().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    images, masks = _samples(data, "nonmembers")
    return Victim(model.eval(), images.to(device), masks[random_other(len(masks), 0)].to(device))


def pairs(sizes: Sizes) -> Iterator[Pair]:
    """Yield the pairs of ASMA, MedIS and texture."""
    trained = victim(sizes)
    yield from asma_pairs.pairs(trained, sizes.steps)
    yield from medis_pairs(trained)
    yield from texture_pairs(2 * sizes.side, -(-sizes.images // 2))


def medis_pairs(trained: Victim) -> Iterator[Pair]:
    """Yield the pairs of runs that end at success, which the published ones outlast, and of equally long.

    The target is foreground everywhere, which no image meets before the attack. The image returned is that of
    the first success, which does not depend on later steps.
    """
    model, images, _ = trained
    target = torch.ones(len(images), *images.shape[2:], dtype=torch.int64, device=images.device)
    what = "one image and loss after the other, weights differentiated, IoU by scikit-learn"
    for name, history, steps, aim in (("to success", False, 10, 4.0), ("equal steps", True, SHORT, 2.0)):
        yield Pair(
            name=f"MedIS, six losses, {name}",
            ours=partial(_medis_notes, model, images, target, history=history, steps=steps),
            baseline=partial(published.medis, model, images, target, losses=ALL, steps=steps),
            what=f"{what}; to a mean IoU of 0.95 or {steps} steps",
            target=aim,
            difference=partial(_other_counts, steps=steps),
            allowed=0.0,
            images=len(images),
        )


def _medis_notes(
    model: nn.Module, images: Tensor, target: Tensor, *, history: bool, steps: int
) -> dict[str, Tensor]:
    return medis(model, images, target, history=history, steps=steps).notes


def _other_counts(ours: dict[str, Tensor], theirs: dict[str, list[int]], *, steps: int) -> float:
    """Return of how many runs the number of steps to success differs."""
    differing = 0
    for name, counts in theirs.items():
        taken = torch.where(ours[f"{name}.success"] > 0, ours[f"{name}.steps"], steps + 1)
        differing += int((taken.long().cpu() != torch.tensor(counts)).sum())
    return float(differing)


@torch.no_grad()
def texture_pairs(side: int, count: int, device: str = "cpu") -> Iterator[Pair]:
    """Yield the pairs of the published strength and of the grid that the attack's config names.

    Slices are twice as wide as elsewhere: patches are searched on features of a sixteenth of the size.
    """
    torch.manual_seed(0)
    autoencoders = TextureAutoEncoders(widths=COMPRESSED).to(device).eval()
    data = Phantom(size=side, patients=4 * count, slices=1, members=count, nonmembers=count)
    data.setup()
    images, masks = (part.to(device) for part in _samples(data, "nonmembers"))
    organs = masks * 6
    published_strength = (Texture().noise_mu, Texture().noise_sigma)
    grid = [(mu, sigma) for mu in GRID for sigma in GRID]
    for name, strengths in (("published strength", [published_strength]), ("nine strengths", grid)):
        yield Pair(
            f"texture, {name}",
            partial(_retextured, autoencoders, images, organs, strengths),
            partial(_published_texture, autoencoders, images, organs, strengths),
            "one slice and strength at a time, each map encoded for itself, one filter for each patch",
            3.0,
            _off_level,
            1e-3,
            images=len(images),
        )


@torch.no_grad()
def _retextured(
    autoencoders: TextureAutoEncoders, images: Tensor, organs: Tensor, strengths: Strengths
) -> Tensor:
    return torch.stack(list(retextured(autoencoders, images, organs, Texture(), strengths=strengths)))


@torch.no_grad()
def _published_texture(
    autoencoders: TextureAutoEncoders, images: Tensor, organs: Tensor, strengths: Strengths
) -> Tensor:
    results = [published.texture(autoencoders, images, organs, strength=strength) for strength in strengths]
    return torch.stack(results)


def _off_level(ours: Tensor, theirs: Tensor) -> float:
    """Return the share of pixels that differ by more than one grey level."""
    return float(((ours - theirs).abs() > 1.5 / 255).double().mean())


def _samples(data: Phantom, subset: str) -> tuple[Tensor, Tensor]:
    samples = data.dataset(data.indices(subset))  # type: ignore[arg-type]
    batch = [samples[0, row] for row in range(len(samples))]
    return torch.stack([row.image for row in batch]), torch.stack([row.mask for row in batch])
