"""Losses of labels that may overlap, from logits of their sets; see `seg_mia.metrics.label_sets`."""

from torch import Tensor

from seg_mia.losses.basic import check_fit, cross_entropy_loss, soft_dice_loss
from seg_mia.metrics.label_sets import label_masks
from seg_mia.metrics.labels import IGNORE
from seg_mia.metrics.strips import summed
from seg_mia.models.heads import class_count
from seg_mia.models.label_logits import label_log_probabilities


def label_dice_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """Return 1 - (2 sum pt + 1) / (sum p + sum t + 1) of each label, averaged over labels, (N,).

    Args:
        logits: of label sets, (N, 2^L, *S).
        mask: label sets, (N, *S), 255 where ignored.
    """
    check_fit(logits, mask)
    return soft_dice_loss(*summed(_overlap_sums, logits, mask))


def label_dice_bce_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """Return `label_dice_loss` plus the binary cross-entropy, averaged over labels and pixels, (N,).

    The cross-entropy over sets is the sum of the labels' binary cross-entropies if labels are independent
    given the image, as of a network with a sigmoid for each.
    """
    labels = class_count(logits).bit_length() - 1
    return label_dice_loss(logits, mask) + cross_entropy_loss(logits, mask) / labels


def _overlap_sums(logits: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
    """Return the sums over pixels of p t, p and t of each label, (N, L)."""
    log_p, _ = label_log_probabilities(logits)
    truth = label_masks(mask, log_p.shape[1])
    ignored = truth == IGNORE
    p, t = (maps.masked_fill(ignored, 0).flatten(2) for maps in (log_p.exp(), truth.to(log_p)))
    return (p * t).sum(dim=2), p.sum(dim=2), t.sum(dim=2)
