"""Attacks against the published loops."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache, partial

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.suite import asma_pairs, published
from benchmarks.suite.asma_pairs import Victim
from benchmarks.suite.pairs import Pair
from benchmarks.suite.published import MedisRuns
from benchmarks.suite.sizes import Sizes
from seg_mia.attacks.base import Adversarial
from seg_mia.attacks.feature_statistics import Texture, retextured
from seg_mia.attacks.medis import ALL, medis
from seg_mia.attacks.targets import random_other
from seg_mia.data.sets.phantom import LIVER, Phantom
from seg_mia.losses import dice_cross_entropy_loss
from seg_mia.models.smp import Smp
from seg_mia.models.style_autoencoder import VGG19, TextureAutoEncoders

COMPRESSED = (16, 32, 64, 128, 128)
"""Channels of the compressed texture auto-encoders (Wang et al. 2020)."""
CONTRAST = 0.15
"""Of MedIS' images: ten steps of 1/255 then reach another mask, as they do in the paper."""
TRAINED = 60
"""Steps of training after which most runs of MedIS succeed."""
SHORT = 5
"""Steps of MedIS where every run is followed to its end."""
ROUNDED = 0.1
"""Allowed share of runs of MedIS that succeed a step sooner or later: gradients near 0 change sign."""
OFF_OVERLAP = 0.01
"""Allowed difference of the mean IoU that MedIS reaches in them, and the least change that counts as one."""
GRID = (0.3, 0.6, 1.0)
"""Factors of mean and deviation in the comment of `lightning_configs/attack/adain.yaml`."""
PUBLISHED = (Texture().noise_mu, Texture().noise_sigma)
Strengths = Sequence[tuple[float, float]]


@cache
def victim(sizes: Sizes, device: str = "cpu", contrast: float = 1.0) -> Victim:
    """Return a network that segments the phantom's liver after a minute of training on the processor."""
    torch.manual_seed(0)
    count = sizes.images
    data = Phantom(size=sizes.side, patients=4 * (32 + count), slices=1, members=32, nonmembers=count)
    data.setup()
    model = Smp(encoder=sizes.encoder, channels=1, classes=1).to(device)
    optimizer = torch.optim.NAdam(model.parameters(), lr=1e-3)
    images, masks = _samples(data, "members", contrast)
    order = np.random.default_rng(0)
    for _ in range(sizes.training_steps):
        rows = torch.from_numpy(order.choice(len(images), 8, replace=False))
        shown, truth = images[rows].to(device), masks[rows].to(device)
        optimizer.zero_grad()
        dice_cross_entropy_loss(model(shown), truth).mean().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    images, masks = _samples(data, "nonmembers", contrast)
    return Victim(model.eval(), images.to(device), masks[random_other(len(masks), 0)].to(device))


def pairs(sizes: Sizes) -> Iterator[Pair]:
    """Yield the pairs of ASMA, MedIS and texture."""
    trained = victim(sizes)
    yield from asma_pairs.pairs(trained, sizes.steps)
    yield from medis_pairs(medis_victim(sizes))
    yield from texture_pairs(2 * sizes.side, -(-sizes.images // 2))
    yield wide_texture_pair(sizes.side)


def medis_victim(sizes: Sizes, device: str = "cpu") -> Victim:
    """Return a network of images of little contrast, and as targets the masks of others, moved to the side.

    Livers lie in the same place in all images, so that another one's mask alone would be met unattacked.
    """
    steps = max(sizes.training_steps, TRAINED)
    model, images, targets = victim(replace(sizes, training_steps=steps), device, CONTRAST)
    return Victim(model, images, targets.roll(targets.shape[-1] // 2, -1))


def medis_pairs(trained: Victim) -> Iterator[Pair]:
    """Yield the pairs of runs that end at success, which the published ones outlast, and of equally long.

    The image returned is that of the first success, which does not depend on later steps.
    """
    model, images, target = trained
    what = "one image and loss after the other, weights differentiated, IoU by scikit-learn"
    forms: tuple[tuple[str, bool, int, float, Callable[..., float], float], ...] = (
        ("to success", False, 10, 4.0, other_counts, ROUNDED),
        ("equal steps", True, SHORT, 2.0, off_overlap, OFF_OVERLAP),
    )
    for name, history, steps, aim, difference, allowed in forms:
        yield Pair(
            name=f"MedIS, six losses, {name}",
            ours=partial(medis, model, images, target, history=history, steps=steps),
            baseline=partial(published.medis, model, images, target, losses=ALL, steps=steps),
            what=f"{what}; to a mean IoU of 0.95 or {steps} steps",
            target=aim,
            difference=partial(difference, steps=steps),
            allowed=allowed,
            images=len(images),
        )


def other_counts(ours: Adversarial, theirs: MedisRuns, *, steps: int) -> float:
    """Return the share of runs whose number of steps to success differs.

    Infinity if one differs by more than a step, or if less than half of the runs succeed after the first step
    and before the last one: the others are equally long in both ways.
    """
    counts = torch.tensor(list(theirs.counts.values()))
    if ((counts > 0) & (counts < steps)).double().mean() < 0.5:
        return torch.inf
    notes = ours.notes
    taken = [
        torch.where(notes[f"{name}.success"] > 0, notes[f"{name}.steps"], steps + 1).long().cpu()
        for name in theirs.counts
    ]
    off = (torch.stack(taken) - counts).abs()
    return torch.inf if (off > 1).any() else float((off > 0).double().mean())


def off_overlap(ours: Adversarial, theirs: MedisRuns, *, steps: int) -> float:
    """Return the largest difference of the mean IoU that a run reaches in so many steps.

    Infinity if ours recorded another number of steps, or if less than half of the runs changed theirs.
    """
    rows = torch.stack([ours.history[f"{name}.mean_iou"].cpu() for name in theirs.overlaps])
    wanted = torch.tensor(list(theirs.overlaps.values()), dtype=rows.dtype)
    if rows.shape[1] != steps + 1 or ((wanted - rows[:, 0]).abs() > OFF_OVERLAP).double().mean() < 0.5:
        return torch.inf
    return float((rows[:, -1] - wanted).abs().max())


def texture_pairs(side: int, count: int, device: str = "cpu") -> Iterator[Pair]:
    """Yield the pairs of the published strength and of the grid that the attack's config names.

    Slices are twice as wide as elsewhere: patches are searched on features of a sixteenth of the size.
    """
    found = _texture(COMPRESSED, side, count, device)
    grid = [(mu, sigma) for mu in GRID for sigma in GRID]
    for name, strengths in (("published strength", [PUBLISHED]), ("nine strengths", grid)):
        yield _texture_pair(name, *found, strengths)


def wide_texture_pair(side: int) -> Pair:
    """Return the pair of the published strength with auto-encoders of VGG-19's own widths, on one slice."""
    return _texture_pair("VGG-19's widths", *_texture(VGG19, side, 1, "cpu"), [PUBLISHED])


def _texture(
    widths: Sequence[int], side: int, count: int, device: str
) -> tuple[TextureAutoEncoders, Tensor, Tensor]:
    """Return auto-encoders of one encoder's prefixes, slices and organ ids."""
    torch.manual_seed(0)
    autoencoders = TextureAutoEncoders(widths=widths).eval()
    for layer in autoencoders.modules():
        if isinstance(layer, nn.Conv2d):  # with torch's own draw the deep decoders return nothing but 0
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    autoencoders.to(device).share_encoder()
    data = Phantom(size=side, patients=4 * count, slices=1, members=count, nonmembers=count)
    data.setup()
    images, masks = (part.to(device) for part in _samples(data, "nonmembers"))
    return autoencoders, images, masks * LIVER


def _texture_pair(
    name: str, autoencoders: TextureAutoEncoders, images: Tensor, organs: Tensor, strengths: Strengths
) -> Pair:
    return Pair(
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
    """Return the share of pixels that differ by more than one grey level; infinity if all are the same."""
    if (theirs == theirs.flatten()[0]).all():
        return torch.inf
    return float(((ours - theirs).abs() > 1.5 / 255).double().mean())


def _samples(data: Phantom, subset: str, contrast: float = 1.0) -> tuple[Tensor, Tensor]:
    samples = data.dataset(data.indices(subset))  # type: ignore[arg-type]
    batch = [samples[0, row] for row in range(len(samples))]
    images = torch.stack([row.image for row in batch])
    return 0.5 + contrast * (images - 0.5), torch.stack([row.mask for row in batch])
