"""Initial weights of a linear pixel classifier by one private release of second moments.

With u the features of a pixel, scaled to a norm of 1 at most, image i contributes A_i, the mean of u u^T, and
b_i, the mean of u times its target, where each class present has equal weight. The Gaussian mechanism
releases sum A_i and sum b_i once (Dwork et al. 2014, "Analyze Gauss"), and the weights are those of ridge
regression with a ridge that follows from the noise (AdaSSP, Wang 2018, arXiv:1803.02596). A unit of several
images contributes their mean. One unit changes A by at most 1 in the Frobenius norm, and b by at most 1 in
the Euclidean one.
"""

import logging
import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from seg_mia.data.base import SegmentationData
from seg_mia.data.samples import stacked
from seg_mia.defences.dp.checks import Trained
from seg_mia.defences.dp.mechanism import DPTraining, number
from seg_mia.errors import InputError
from seg_mia.metrics.labels import IGNORE
from seg_mia.models.hypercolumn import Hypercolumn
from seg_mia.models.smp import Smp
from seg_mia.models.wrapper import bare

log = logging.getLogger(__name__)

SENSITIVITY = math.sqrt(2)
"""Of A and b together: the most by which one unit changes them."""
LEAST_RIDGE = 0.1
"""Ridge without noise, beside a trace of A of about the number of units."""
NORM = 1.0
"""Norm of the weights given to the classifier, a constant: the release has no scale of its own."""


class Moments(NamedTuple):
    """Sums over units of second moments A (D, D) and of targets times features b (K, D), float64."""

    second: Tensor
    first: Tensor


def image_moments(columns: Tensor, shares: Tensor, maps: int) -> Moments:
    """Return A and b of one image.

    Args:
        columns: features (D, h, w), standardised within each level, so that their norm is sqrt(D) at most.
        shares: share of each class in each position, (C, h, w); pixels without a label belong to none.
        maps: output maps K of the classifier: 1 for the second of two classes, else one for each class.
    """
    width = len(columns)
    rows = columns.flatten(1).T / math.sqrt(width)
    rows = rows / rows.norm(dim=1, keepdim=True).clamp(min=1)
    u = torch.cat([rows, torch.ones_like(rows[:, :1])], 1) / math.sqrt(2)
    flat = shares.flatten(1)
    totals = flat.sum(1, keepdim=True)
    weights = flat / totals.clamp(min=1e-12) / (totals > 0).sum().clamp(min=1)
    means = weights @ u
    first = means[1:2] - means[:1] if maps == 1 else means
    return Moments((((u * weights.sum(0)[:, None]).T) @ u).double(), first.double())


def released(exact: Moments, mu: float, seed: int) -> tuple[Moments, float]:
    """Return moments with noise of mu-Gaussian privacy, and its standard deviation; exact for mu infinite."""
    if math.isinf(mu):
        return exact, 0.0
    deviation = SENSITIVITY / mu
    generator = np.random.default_rng(seed)
    square = torch.from_numpy(deviation * generator.standard_normal(exact.second.shape))
    row = torch.from_numpy(deviation * generator.standard_normal(exact.first.shape))
    above = torch.triu(square, 1) / math.sqrt(2)  # an entry off the diagonal counts twice in the norm
    noise = above + above.T + torch.diag(square.diagonal())
    return Moments(exact.second + noise, exact.first + row), deviation


def solved(moments: Moments, deviation: float) -> Tensor:
    """Return weights (K, D) of ridge regression from noisy moments, whose negative eigenvalues count as 0."""
    ridge = max(2 * deviation * math.sqrt(len(moments.second)), LEAST_RIDGE)
    values, vectors = torch.linalg.eigh(moments.second)
    weights: Tensor = (moments.first @ vectors / (values.clamp(min=0) + ridge)) @ vectors.T
    return weights


def begin_at_least_squares(task: Trained, data: SegmentationData, private: DPTraining) -> None:
    """Write the released classifier into the task's network, before the first step.

    Args:
        task: task whose network is a linear `Hypercolumn` of `Smp`.
        data: data module after setup.
        private: private training that has begun; its mechanism has the mu of the release.

    Raises:
        InputError: another network, one that resizes its images, or features that are not finite.
    """
    network, classifier = _classifier(task)
    total: Moments | None = None
    counts = torch.bincount(private.drawn.unit_of[torch.from_numpy(data.trained())])
    for image, mask, index in _images(data):
        share = 1 / int(counts[private.drawn.unit_of[index]])
        columns = _columns(network, classifier, image.to(task.device))
        shares = _shares(mask, columns, network, data.source.classes)
        parts = [share * part.cpu() for part in image_moments(columns, shares, classifier.maps)]
        if not all(bool(torch.isfinite(part).all()) for part in parts):
            raise InputError(
                f"least_squares needs finite features, got others of {data.source.ids[index]}; check the "
                "image and --model.encoder_weights, or leave least_squares out"
            )
        total = Moments(*parts) if total is None else Moments(*map(torch.add, total, parts))
    assert total is not None
    mu = private.mechanism.release
    noisy, deviation = released(total, mu, number(private.secret, "least squares"))
    weights = solved(noisy, deviation)
    scaled = weights[:, :-1] / math.sqrt(weights.shape[1] - 1)
    factor = NORM / float(scaled.norm().clamp(min=1e-12))
    classifier.assign(factor * scaled, factor * weights[:, -1])
    log.info("initial weights of the classifier by a private release with mu %.3g", mu)


def _classifier(task: Trained) -> tuple[Smp, Hypercolumn]:
    network = bare(task.network)
    classifier = network.network if isinstance(network, Smp) else None
    if not isinstance(network, Smp) or not isinstance(classifier, Hypercolumn) or not classifier.linear:
        raise InputError(
            "least_squares begins a linear classifier of pixels, got another network; take architecture "
            "Hypercolumn without hidden layer, or leave least_squares out"
        )
    if network.size is not None:
        raise InputError(
            f"least_squares needs features at the place of their pixels, got size {network.size}; set "
            "--data.size instead"
        )
    return network, classifier


def _images(data: SegmentationData) -> Iterator[tuple[Tensor, Tensor, int]]:
    """Yield image (1, C, H, W), mask (H, W) and index of all training samples, as they are."""
    training = data.training_set()
    samples = data.dataset(training.indices, labels=training.labels, images=training.images)
    for position in range(len(samples)):
        image, mask, index = stacked([samples[0, position]])
        yield image, mask[0], int(index)


@torch.no_grad()
def _columns(network: Smp, classifier: Hypercolumn, image: Tensor) -> Tensor:
    """Return the features (D, h, w) of one image at the finest level."""
    seen: list[list[Tensor]] = []
    handle = network.encoder.register_forward_hook(lambda layer, inputs, output: seen.append(output))  # noqa: ARG005
    try:
        network(image)
    finally:
        handle.remove()
    return classifier.columns(seen[0])[0]


def _shares(mask: Tensor, columns: Tensor, network: Smp, classes: int) -> Tensor:
    """Return the share of each class (C, h, w) at the positions of features, of a mask (H, W)."""
    height, width = (-(-side // network.multiple) * network.multiple for side in mask.shape)
    padded = functional.pad(mask, (0, width - mask.shape[1], 0, height - mask.shape[0]), value=IGNORE)
    labels = torch.stack([padded == value for value in range(classes)]).to(columns)
    return functional.adaptive_avg_pool2d(labels, (columns.shape[1], columns.shape[2]))
