"""A linear classifier of pixels by one private release of second moments, in place of DP-SGD.

python benchmarks/private_least_squares.py --root FOLDER --weights FILE --size 96

Of each image, the mean of u u^T and of the label times u over its pixels, foreground and background with
equal weight, are summed over the members, and Gaussian noise is added to both sums once (Dwork et al. 2014,
"Analyze Gauss"; the ridge follows from the noise, as in AdaSSP, Wang 2018). u is the pixel's features, scaled
to a norm of 1 at most, and a constant. `raw` are the features of `kvasir_dp`, else they are first centred and
whitened by the leading components of synthetic textures, which are public. Printed is the Dice on held-out
images for the best of several ridges and thresholds, which favours the method.
"""

import argparse
import math
import statistics
from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from seg_mia.data.sets.kvasir import Kvasir
from seg_mia.defences.canary_patterns import distinct_canaries
from seg_mia.models.hypercolumn import _enlarged, _standardised
from seg_mia.models.smp import Smp
from seg_mia.models.weights import load_encoder

LEVELS = (5, 4, 3, 2)
TEXTURES = 60
THRESHOLDS = (-0.1, -0.05, 0.0, 0.05, 0.1)


class Moments(NamedTuple):
    """Sums over images of second moments (D, D) and of labels times features (D,)."""

    second: Tensor
    first: Tensor


@torch.no_grad()
def features(network: Smp, images: Tensor) -> Tensor:
    """Return the features of each pixel of the finest level, (N, h, w, D)."""
    maps, total = network.encoder(images), None
    for level in LEVELS:
        one = _standardised(maps[level])
        total = one if total is None else torch.cat([_enlarged(total, one.shape[-2:]), one], 1)
    assert total is not None
    return total.movedim(1, -1)


def scaled(rows: Tensor, projection: tuple[Tensor, Tensor]) -> Tensor:
    """Return projected features of a norm of at most 1, and a constant, over sqrt 2."""
    mean, matrix = projection
    moved = (rows - mean) @ matrix
    moved = moved / moved.norm(dim=-1, keepdim=True).clamp(min=1)
    return torch.cat([moved, torch.ones_like(moved[..., :1])], -1) / math.sqrt(2)


def projections(public: Tensor, dimensions: Sequence[int]) -> dict[str, tuple[Tensor, Tensor]]:
    """Return mean and matrix of each kind of features, from public ones (n, D)."""
    width = public.shape[1]
    kinds = {"raw": (torch.zeros(width), torch.eye(width) / math.sqrt(width))}
    mean = public.mean(0)
    values, vectors = torch.linalg.eigh(torch.cov((public - mean).T).double())
    for dimension in dimensions:
        matrix = (vectors[:, -dimension:] / values[-dimension:].sqrt()).float()
        kinds[f"{dimension} components"] = (mean, matrix / ((public - mean) @ matrix).norm(dim=1).median())
    return kinds


def moments(rows: Tensor, masks: Tensor, projection: tuple[Tensor, Tensor]) -> Moments:
    """Return the sums over images of features (N, h, w, D) and masks (N, H, W)."""
    shares = functional.adaptive_avg_pool2d(masks[:, None].float(), (rows.shape[1], rows.shape[2])).flatten(1)
    sums: list[Tensor] = []
    for image, share in zip(rows, shares, strict=True):
        u = scaled(image.flatten(0, 1).float(), projection)
        inside, outside = (part / part.sum().clamp(min=1e-6) / 2 for part in (share, 1 - share))
        sums.append(
            torch.cat([(u * (inside + outside)[:, None]).T @ u, ((inside - outside) @ u)[None]]).double()
        )
    total = torch.stack(sums).sum(0)
    return Moments(total[:-1], total[-1])


def released(exact: Moments, mu: float, seed: int) -> tuple[Moments, float]:
    """Return noisy moments of mu-Gaussian privacy and the deviation; one image changes them by sqrt 2."""
    deviation = math.sqrt(2) / mu if math.isfinite(mu) else 0.0
    generator = torch.Generator().manual_seed(seed)
    drawn = deviation * torch.randn(exact.second.shape, generator=generator, dtype=torch.float64)
    above = torch.triu(drawn, 1) / math.sqrt(2)  # each entry off the diagonal counts twice in the norm
    first = deviation * torch.randn(exact.first.shape, generator=generator, dtype=torch.float64)
    return Moments(
        exact.second + above + above.T + torch.diag(drawn.diagonal()), exact.first + first
    ), deviation


def dice(scores: Tensor, masks: Tensor, threshold: float) -> float:
    """Return the mean Dice of scores (N, h, w), enlarged to masks (N, H, W)."""
    called = _enlarged(scores[:, None], masks.shape[1:])[:, 0] > threshold
    both, sizes = (called & masks).sum((1, 2)), called.sum((1, 2)) + masks.sum((1, 2))
    return float((2 * both / sizes.clamp(min=1)).mean())


def best(exact: Moments, mu: float, seed: int, held_out: Tensor, masks: Tensor) -> float:
    """Return the best Dice over ridges and thresholds."""
    noisy, deviation = released(exact, mu, seed)
    size = len(noisy.first)
    ridges = (
        [factor * deviation * math.sqrt(2 * size) for factor in (0.5, 1, 2, 4)] if deviation else [0.1, 1]
    )
    results = []
    for ridge, threshold in product(ridges, THRESHOLDS):
        weights = torch.linalg.solve(noisy.second + ridge * torch.eye(size, dtype=torch.float64), noisy.first)
        results.append(dice(held_out @ weights.float(), masks, threshold))
    return max(results)


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", required=True, help="folder of Kvasir-SEG")
    parser.add_argument("--weights", required=True, help="weights of the encoder, a file")
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--held_out", type=int, default=100)
    parser.add_argument("--dimensions", nargs="+", type=int, default=[32, 64])
    parser.add_argument("--mu", nargs="+", type=float, default=[0.8, 2.05, math.inf])
    parser.add_argument("--seeds", type=int, default=3, help="draws of the noise")
    given = parser.parse_args()
    data = Kvasir(root=given.root, size=given.size)
    data.setup()
    network = Smp(architecture="Hypercolumn", encoder="tu-tf_efficientnet_lite0", channels=3, classes=1)
    load_encoder(network, given.weights)
    network.eval()

    def read(indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        images = torch.stack([torch.from_numpy(np.array(data.cached.images[i])) for i in indices])
        rows = [
            features(network, part.movedim(-1, 1) / 255)
            for part in torch.chunk(images, max(len(images) // 20, 1))
        ]
        masks = torch.stack([torch.from_numpy(np.array(data.cached.masks[i])) for i in indices]) > 0
        return torch.cat(rows), masks

    members, member_masks = read(data.indices("members").tolist())
    held_out, masks = read(data.indices("nonmembers")[: given.held_out].tolist())
    blank = np.zeros((given.size, given.size, 3), np.uint8)
    blank[0, 0] = 255  # textures take the range of an image's values
    drawn = distinct_canaries([blank] * TEXTURES, [blank[..., 0]] * TEXTURES, classes=2, seed=0)
    textures = torch.stack([torch.from_numpy(image) for image, _ in drawn])
    public = features(network, textures.movedim(-1, 1) / 255).flatten(0, 2)
    print(
        "| features | "
        + " | ".join(f"mu {mu:g}" for mu in given.mu)
        + " |\n|"
        + " --- |" * (1 + len(given.mu))
    )
    for name, projection in projections(public, given.dimensions).items():
        exact, rows = moments(members, member_masks, projection), scaled(held_out, projection)
        values = [
            [best(exact, mu, seed, rows, masks) for seed in range(given.seeds if math.isfinite(mu) else 1)]
            for mu in given.mu
        ]
        print(
            f"| {name} | " + " | ".join(f"{statistics.fmean(row):.3f}" for row in values) + " |", flush=True
        )


if __name__ == "__main__":
    main()
