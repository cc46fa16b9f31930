"""Statistics of randomised smoothing of segmentation, and what is certain of a prediction.

SegCertify: Fischer, Baader, Vechev, ICML 2021. Each pixel's class is tested to be predicted under noise with
a probability of at least tau. If it is, the smoothed prediction of that pixel keeps this class for every
change of the image of an L2 norm below sigma * Phi^-1(tau).

A certificate states the classes that a pixel's smoothed prediction may take: bool (N, K, *S), one class where
it is certified, all where nothing is, several where a group of classes is.
"""

import torch
from scipy import stats
from torch import Tensor

from seg_mia.metrics.label_sets import label_masks, label_names
from seg_mia.metrics.labels import IGNORE


def p_values(draws: int, tau: float) -> Tensor:
    """Return P[Bin(draws, tau) >= k] of each count k, float64 (draws + 1,)."""
    return torch.from_numpy(stats.binom.sf(torch.arange(-1, draws).numpy(), draws, tau))


def needed(draws: int, tau: float, alpha: float, tests: int) -> int:
    """Return the least count out of `draws` that rejects the first of `tests` hypotheses by Holm's method.

    It is `draws` + 1 if none does.
    """
    return int((p_values(draws, tau) > alpha / tests).sum())


def holm(counts: Tensor, valid: Tensor, *, draws: int, tau: float, alpha: float) -> Tensor:
    """Return the pixels whose class has a probability of at least tau, bool (N, *S).

    Exact one-sided binomial tests; Holm (1979) bounds by alpha the probability that any pixel of an image is
    returned wrongly, whatever the dependence of its pixels.

    Args:
        counts: how many of the draws predict the tested class, int64 (N, *S). The class must not have been
            chosen by these draws.
        valid: pixels that are tested, bool (N, *S).
        draws: number of draws.
        tau: probability under the null hypothesis.
        alpha: probability of an error in an image.
    """
    flat, tested = counts.flatten(1), valid.flatten(1)
    histogram = torch.zeros(len(counts), draws + 1, dtype=torch.int64, device=counts.device)
    histogram.scatter_add_(1, flat, tested.long())
    from_here = histogram.flip(1).cumsum(1).flip(1)
    remaining = histogram.sum(1, keepdim=True) - from_here + histogram  # hypotheses that are not yet rejected
    small = p_values(draws, tau).to(counts.device) <= alpha / remaining.clamp(min=1)
    rejected = (small | (histogram == 0)).flip(1).long().cumprod(1).flip(1).bool()
    return rejected.gather(1, flat).view_as(counts) & valid


def radius(sigma: float, tau: float) -> float:
    """Return sigma * Phi^-1(tau), the L2 norm below which no change of an image alters a certified class."""
    return float(sigma * stats.norm.ppf(tau))


def certified_dice_per_class(possible: Tensor, mask: Tensor) -> Tensor:
    """Return the least Dice of any prediction that a certificate allows, (N, K); NaN of a class in neither.

    2 TP / (2 TP + FP + FN), where a pixel counts as missed if it may be another class than the true one, and
    as a false alarm for every class that it may wrongly be.

    Args:
        possible: a certificate, bool (N, K, *S).
        mask: true classes (N, *S), 255 where ignored.
    """
    truth = _one_hot(mask, possible.shape[1])
    may = possible & (mask != IGNORE).unsqueeze(1)
    certain = may & (possible.sum(1, keepdim=True) == 1)
    hits = (certain & truth).flatten(2).sum(2)
    false_alarms = (may & ~truth).flatten(2).sum(2)
    return 2 * hits / (hits + false_alarms + truth.flatten(2).sum(2))


def foreground_certified_dice(possible: Tensor, mask: Tensor, classes: int | None = None) -> Tensor:
    """Return `certified_dice_per_class` of the foreground classes, (N, K - 1), or of labels, (N, L).

    A label of sets is certain in a pixel if all sets that the pixel may take have it, or none has.

    Args:
        possible: a certificate, bool (N, K, *S).
        mask: true classes (N, *S), 255 where ignored.
        classes: `LabelSets` where classes are sets of labels.
    """
    if classes is None or not (names := label_names(classes)):
        return certified_dice_per_class(possible, mask)[:, 1:]
    sets, truth = torch.arange(possible.shape[1], device=possible.device), label_masks(mask, len(names))
    per_label = list[Tensor]()
    for label in range(len(names)):
        having = sets >> label & 1 == 1
        pair = torch.stack([possible[:, ~having].any(1), possible[:, having].any(1)], dim=1)
        per_label.append(certified_dice_per_class(pair, truth[:, label])[:, 1])
    return torch.stack(per_label, dim=1)


def certified_dice(possible: Tensor, mask: Tensor, classes: int | None = None) -> Tensor:
    """Return the least `seg_mia.metrics.overlap.foreground_dice` that a certificate allows, at most, (N,).

    The mean over foreground classes, or labels, that are in the mask or may be predicted; 1 if there is none,
    NaN without a labelled pixel. Arguments as of `foreground_certified_dice`.
    """
    per_class = foreground_certified_dice(possible, mask, classes)
    unlabelled = (mask == IGNORE).flatten(1).all(1)
    return per_class.nanmean(1).nan_to_num(nan=1.0).masked_fill(unlabelled, torch.nan)


def abstained(possible: Tensor) -> Tensor:
    """Return the pixels of which nothing is certified, bool (N, *S)."""
    return possible.all(1)


def certified_correct(possible: Tensor, mask: Tensor) -> Tensor:
    """Return the share of valid pixels certified to be in their true class, (N,)."""
    certain = possible & _one_hot(mask, possible.shape[1]) & (possible.sum(1, keepdim=True) == 1)
    return _share(certain.any(1), mask != IGNORE)


def information(possible: Tensor, mask: Tensor) -> Tensor:
    """Return the certified information gain, the mean of 1 - log(classes left) / log(K), (N,) in [0, 1].

    Over valid pixels, 0 where the true class is not among the classes left (Anani, Lorenz, Schiele, Fritz,
    ICML 2024, relative to log K). Without groups of classes it equals `certified_correct`.
    """
    classes = possible.shape[1]
    gain = 1 - possible.sum(1).clamp(min=1).double().log() / torch.tensor(classes).double().log()
    right = (possible & _one_hot(mask, classes)).any(1)
    return _share(gain * right, mask != IGNORE)


def _share(values: Tensor, valid: Tensor) -> Tensor:
    return (values * valid).flatten(1).double().sum(1) / valid.flatten(1).sum(1)


def _one_hot(mask: Tensor, classes: int) -> Tensor:
    numbers = torch.arange(classes, device=mask.device).view(1, -1, *[1] * (mask.ndim - 1))
    return mask.unsqueeze(1) == numbers
