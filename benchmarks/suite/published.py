"""The published loops, written anew as their code does the work.

One image at a time, gradients of the weights with those of the image, metrics on the processor through NumPy
and scikit-learn, another pass through the network wherever the published code has one.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import jaccard_score
from torch import Tensor, nn
from torch.nn import functional

from seg_mia.losses import SURROGATES, SurrogateName
from seg_mia.models.style_autoencoder import TextureAutoEncoders

Labels = NDArray[np.int64]


def asma(model: nn.Module, images: Tensor, targets: Tensor, *, steps: int, tau: float, beta: float) -> Tensor:
    """Return the last iterates of Ozbulak et al. 2019 for networks of two classes.

    Each iteration takes a backward pass through weights and image, and a second forward pass for the IoU of
    the iterate before it is clipped.
    """
    results = list[Tensor]()
    for original, target in zip(images, targets, strict=True):
        image, step = original.clone(), tau
        wanted = target.cpu().numpy()
        for _ in range(steps):
            image = image.detach().requires_grad_()
            model.zero_grad()
            logits = _two_classes(model(image[None]))
            prediction = logits.argmax(1)[0].cpu().numpy()
            missing = [torch.from_numpy((wanted == kind) & (prediction != kind)).to(image) for kind in (0, 1)]
            reached = sum((logits[0, kind] * missing[kind]).sum() for kind in (0, 1))
            (reached - (image - original).square().sum()).backward()
            assert image.grad is not None
            moved = image.detach() + step * image.grad
            with torch.no_grad():
                prediction = _two_classes(model(moved[None])).argmax(1)[0].cpu().numpy()
            change = (moved - original).cpu().numpy()
            np.linalg.norm(change), np.abs(change).max()
            step = beta * _overlap(prediction, wanted) + tau
            image = moved.clamp(0, 1)
        results.append(image.detach())
    return torch.stack(results)


class MedisRuns(NamedTuple):
    """Steps to success of each loss and image, more than all steps for none, and the mean IoU at the end."""

    counts: dict[str, list[int]]
    overlaps: dict[str, list[float]]


def medis(
    model: nn.Module, images: Tensor, targets: Tensor, *, losses: Sequence[SurrogateName], steps: int = 10
) -> MedisRuns:
    """Shukla et al. 2023: one loss and image after the other, to a mean IoU of 0.95 or to the last step."""
    runs = MedisRuns({}, {})
    for name in losses:
        for original, target in zip(images, targets, strict=True):
            image, reached = original.clone(), steps + 1
            for step in range(steps + 1):
                image = image.detach().requires_grad_()
                model.zero_grad()
                logits = model(image[None])
                prediction = _two_classes(logits.detach()).argmax(1)[0].cpu().numpy()
                overlap = _mean_overlap(target.cpu().numpy(), prediction)
                if overlap >= 0.45:
                    reached = min(reached, step)
                if overlap >= 0.95 or step == steps:
                    break
                SURROGATES[name]((logits,), target[None]).sum().backward()  # type: ignore[no-untyped-call]
                assert image.grad is not None
                image = (image.detach() - image.grad.sign() / 255).clamp(0, 1)
            runs.counts.setdefault(name, []).append(reached)
            runs.overlaps.setdefault(name, []).append(overlap)
    return runs


def texture(
    pairs: TextureAutoEncoders, images: Tensor, labels: Tensor, *, strength: tuple[float, float] = (0.3, 0.3)
) -> Tensor:
    """Lee et al. 2024, on the code of Wang et al. 2022, for grey slices: the results, (N, 1, H, W).

    Content, style and both semantic maps pass the encoders each for itself, also where they are the same;
    patches are compared by a convolution with one filter for each, and pasted by its transpose.
    """
    results, (mu, sigma) = [], strength
    for image, organs in zip(images, labels, strict=True):
        style = (image[None] * 255).floor().div(255).expand(1, 3, -1, -1)
        semantic = _semantic(organs, image).expand(1, 3, -1, -1)
        content = style.clone()
        for level, patch in ((5, 0), (4, 3)):
            features = [pairs.encode(level, part) for part in (content, style, semantic, semantic.clone())]
            content = pairs.decode(level, _warped(features, patch or min(features[0].shape[2:]) - 1))
        for level in (3, 2, 1):
            features = [pairs.encode(level, part) for part in (content, style)]
            mean, deviation = _moments(features[0])
            style_mean, style_deviation = _moments(features[1])
            changed = (features[0] - mean) / deviation * (sigma * style_deviation) + mu * style_mean
            content = pairs.decode(level, changed)
        results.append(_grey(content))
    return torch.cat(results)


def _two_classes(logits: Tensor) -> Tensor:
    """Return the logits of background and foreground of one logit."""
    return torch.cat([-logits / 2, logits / 2], 1)


def _overlap(prediction: Labels, target: Labels) -> float:
    """Return the IoU of the foreground, through scikit-learn."""
    return float(jaccard_score(target.ravel(), prediction.ravel(), zero_division=1.0))


def _mean_overlap(target: Labels, prediction: Labels) -> float:
    """Return the mean IoU over the classes of the target, through scikit-learn."""
    present = np.unique(target)
    values = jaccard_score(
        target.ravel(), prediction.ravel(), labels=present, average=None, zero_division=1.0
    )
    return float(np.mean(values))


def _semantic(organs: Tensor, image: Tensor) -> Tensor:
    """Return organ ids as grey values, (1, 1, H, W)."""
    labels = organs.cpu().numpy()
    values = np.where(labels == 0, 14, labels)
    values[image[0].cpu().numpy() == 0] = 0
    return torch.from_numpy(np.uint8(values / 14 * 255)).to(image).div(255)[None, None]


def _moments(features: Tensor) -> tuple[Tensor, Tensor]:
    flat = features.flatten(2)
    return flat.mean(2)[..., None, None], (flat.var(2) + 1e-5).sqrt()[..., None, None]


def _warped(features: Sequence[Tensor], patch: int) -> Tensor:
    """Return the content's features from the style's patches, found with semantic maps of weight 50."""
    content, style, content_map, style_map = features
    fused = []
    for part, semantic in ((content, content_map), (style, style_map)):
        mean, deviation = _moments(part)
        fused.append(torch.cat([(part - mean) / deviation, 50 * semantic], 1))
    filters = _patches(fused[1], patch)
    lengths = filters.flatten(1).norm(dim=1).view(-1, 1, 1, 1) + 1e-7
    scores = functional.conv2d(fused[0], filters / lengths)
    chosen = torch.zeros_like(scores).scatter_(1, scores.argmax(1, keepdim=True), 1)
    pasted = functional.conv_transpose2d(chosen, _patches(style, patch))
    times = functional.conv_transpose2d(torch.ones_like(scores[:, :1]), scores.new_ones(1, 1, patch, patch))
    return pasted / times


def _patches(features: Tensor, patch: int) -> Tensor:
    """Return all patches, (n, C, p, p)."""
    columns = functional.unfold(features, patch)[0].T
    return columns.reshape(len(columns), features.shape[1], patch, patch)


def _grey(decoded: Tensor) -> Tensor:
    """Return the published output: luma of 8 bits, and its distance to the first pixel, in [0, 1]."""
    values = (decoded / (decoded.max() + 1e-5) * 255).clamp(0, 255).to(torch.int64)[0]
    luma = (values[0] * 19595 + values[1] * 38470 + values[2] * 7471 + 0x8000) >> 16
    return (luma - luma[0, 0]).abs().float().div(255)[None, None]
