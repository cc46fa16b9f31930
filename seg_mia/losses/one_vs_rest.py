"""One-vs-rest logits of a network and the ground truth, the input of surrogate losses."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from seg_mia.losses.basic import check_fit
from seg_mia.metrics.labels import IGNORE
from seg_mia.metrics.shapes import axes
from seg_mia.models.heads import heads


@dataclass(frozen=True)
class OneVsRestLogits:
    """One map per averaged class, (N, C, *S): with two classes only the foreground.

    Attributes:
        log_p: log-probability of the class.
        log_q: log-probability of all other classes together.
        truth: 1 for pixels of the class, else 0; 0 for ignored pixels.
        counts: (N, 1, *S): 1 for valid pixels, 0 for ignored ones.
        averaged: (N, C): whether the class is in the mask or the prediction, and thus averaged over.
    """

    log_p: Tensor
    log_q: Tensor
    truth: Tensor
    counts: Tensor
    averaged: Tensor

    @property
    def logit(self) -> Tensor:
        """The log-odds of the class against the rest, (N, C, *S)."""
        return self.log_p - self.log_q

    @property
    def p(self) -> Tensor:
        """The probability of the class, 0 for ignored pixels."""
        return self.log_p.exp() * self.counts

    def mean(self, per_class: Tensor) -> Tensor:
        """Return the mean of (N, C) over the averaged classes, (N,)."""
        return (per_class * self.averaged).sum(1) / self.averaged.sum(1)


def one_vs_rest(output: Tensor | Sequence[Tensor], mask: Tensor) -> OneVsRestLogits:
    """Return the one-vs-rest logits of a network's output, with the heads' probabilities averaged.

    Args:
        output: logits (N, K, *S), or those of several heads, of one shape.
        mask: class indices (N, *S), 255 where ignored.

    Raises:
        InputError: incompatible logits and mask.
    """
    outputs = heads(output)
    for logits in outputs:
        check_fit(logits, mask)
    parts = [one_vs_rest_log_probabilities(logits) for logits in outputs]
    log_p, log_q = (torch.stack([part[side] for part in parts]) for side in (0, 1))
    if len(parts) > 1:
        log_p, log_q = (
            log_prob.logsumexp(0, keepdim=True) - math.log(len(parts)) for log_prob in (log_p, log_q)
        )
    return with_mask(log_p[0], log_q[0], mask)


def one_vs_rest_log_probabilities(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return log p and log(1 - p) of each class, (N, C, *S); with two classes, of the foreground."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if logits.shape[1] == 2:
        logits = logits[:, 1:] - logits[:, :1]
    if logits.shape[1] == 1:
        return functional.logsigmoid(logits), functional.logsigmoid(-logits)
    log_p = logits.log_softmax(1)
    log_rest = [
        torch.cat((log_p[:, :kind], log_p[:, kind + 1 :]), 1).logsumexp(1) for kind in range(log_p.shape[1])
    ]
    return log_p, torch.stack(log_rest, 1)


def with_mask(log_p: Tensor, log_q: Tensor, mask: Tensor) -> OneVsRestLogits:
    """Return the one-vs-rest logits with a mask (N, *S), given each class's log p and log(1 - p)."""
    ignored = (mask == IGNORE).unsqueeze(1)
    classes = log_p.shape[1]
    if classes == 1:
        truth = (mask.unsqueeze(1) == 1).to(log_p)
        averaged = truth.new_ones(truth.shape[:2])
    else:
        kinds = torch.arange(classes, device=mask.device).view(1, -1, *[1] * (log_p.ndim - 2))
        truth = (mask.unsqueeze(1) == kinds).to(log_p)
        predicted = (log_p.detach().argmax(1, keepdim=True) == kinds) & ~ignored
        averaged = ((truth + predicted).amax(axes(truth, 2)) > 0).to(log_p)
        averaged[averaged.sum(1) == 0] = 1  # all ignored: any mean of zeros
    return OneVsRestLogits(log_p, log_q, truth, (~ignored).to(log_p), averaged)
