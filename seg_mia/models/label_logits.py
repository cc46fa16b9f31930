"""Logits of labels that may overlap, and those of their sets; see `seg_mia.metrics.label_sets`."""

import torch
from torch import Tensor

from seg_mia.errors import InputError
from seg_mia.metrics.label_sets import MOST
from seg_mia.models.heads import class_logits


def set_logits(labels: Tensor) -> Tensor:
    """Return the logits of all sets of labels, (N, 2^L, *S), from those of the labels, (N, L, *S).

    The logit of a set is the sum of its labels' logits z_k, so that its softmax is the product of the
    labels' sigmoids: prod sigmoid(z_k) over labels in the set times prod sigmoid(-z_k) over the others.

    Raises:
        InputError: more than 6 labels.
    """
    if labels.shape[1] > MOST:
        raise InputError(
            f"labels that overlap must be at most {MOST}, got logits of {labels.shape[1]}; train on fewer"
        )
    sets = torch.zeros_like(labels[:, :1])
    for z in labels.unbind(1):
        sets = torch.cat((sets, sets + z.unsqueeze(1)), dim=1)
    return sets


def label_log_probabilities(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return log p and log(1 - p) of each label, (N, L, *S), from logits of their sets, (N, 2^L, *S).

    p is the sum of the softmax over the sets with the label; of `set_logits(z)` it is sigmoid(z). Computed in
    float32 at least.

    Raises:
        InputError: a number of channels that is no power of 2 from 2 to 64.
    """
    logits = class_logits(logits)  # one logit is that of one label
    labels = logits.shape[1].bit_length() - 1
    if not 1 <= labels <= MOST or logits.shape[1] != 1 << labels:
        raise InputError(
            f"logits of label sets must have 2, 4, ... or {1 << MOST} channels, got {logits.shape[1]}; "
            "use losses of labels only with data whose labels may overlap (regions)"
        )
    log_p = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(dim=1)
    sets = torch.arange(1 << labels, device=logits.device)
    marginals = [
        [log_p[:, (sets >> label & 1) == bit].logsumexp(dim=1) for label in range(labels)] for bit in (1, 0)
    ]
    having, lacking = (torch.stack(parts, dim=1) for parts in marginals)
    return having, lacking


def label_logits_of(logits: Tensor) -> Tensor:
    """Return the log-odds of labels, (N, L, *S), from logits of their sets: the inverse of `set_logits`."""
    having, lacking = label_log_probabilities(logits)
    return having - lacking
