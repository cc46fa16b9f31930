"""What a deployed network gives out instead of its logits, written as logits that say just as much.

With more than two classes rounded and noisy probabilities are shared out anew so that they sum to 1, as every
reader of logits does. Backward the change counts as the identity (Athalye et al. 2018, BPDA),
so that an attacker who holds the weights is not stopped by a rounding. In training nothing is changed.
"""

import hashlib
import math
from abc import abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional

from seg_mia.errors import InputError
from seg_mia.models.heads import class_count, final, predicted, probabilities
from seg_mia.models.wrapper import Wrapper

LABEL = 1e-6
"""What a released label leaves to the other classes together, so that its loss stays finite."""


class Released(Wrapper):
    """A network whose logits (N, K, h, w) are replaced by what is given out of them."""

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return logits of the same shape; in training whatever the network gives."""
        if self.training:
            output: Tensor | tuple[Tensor, ...] = self.network(x)
            return output
        logits = final(self.network(x))
        exact = logits.detach()
        released = self.released_logits(exact.float(), x.detach())
        return released + (logits - exact)

    @abstractmethod
    def released_logits(self, logits: Tensor, x: Tensor) -> Tensor:
        """Return the logits that stand for what is released on images `x`."""


class ArgmaxNetwork(Released):
    """Labels alone: each pixel's class as if it were almost certain."""

    def released_logits(self, logits: Tensor, x: Tensor) -> Tensor:  # noqa: ARG002
        """Return the predicted class with a probability of 1 - 1e-6."""
        return label_logits(logits)


class TopNetwork(Released):
    """The most likely class and its probability; the rest is unknown, so it is shared out evenly.

    Of two classes the one probability tells the other: nothing is held back.
    """

    def released_logits(self, logits: Tensor, x: Tensor) -> Tensor:  # noqa: ARG002
        """Return log-probabilities, of two classes the logits as they were."""
        if class_count(logits) == 2:
            return logits
        remaining, label = logits.shape[1] - 1, predicted(logits).unsqueeze(1)
        p = probabilities(logits).gather(1, label)
        log_rest = (
            ((1 - p) / remaining).clamp(min=LABEL / remaining).log().minimum(p.log() - LABEL)
        )  # no tie with the top
        return log_rest.expand_as(logits).scatter(1, label, p.log())


class RoundedNetwork(Released):
    """Probabilities rounded to a number of decimal digits.

    Args:
        network: what is asked.
        digits: 1 leaves eleven values; 0 leaves two: 1 for a class that has more than half, else 0.
    """

    def __init__(self, network: nn.Module, *, digits: int = 1) -> None:
        super().__init__(network)
        if not 0 <= digits <= 6:
            raise InputError(f"digits must lie in 0..6, got {digits}; float32 holds no more")
        self.digits = digits

    def released_logits(self, logits: Tensor, x: Tensor) -> Tensor:  # noqa: ARG002
        """Return the logits of the rounded probabilities, 0 and 1 meaning almost."""
        return _logits(torch.round(_single(logits), decimals=self.digits), logits)


class NoisyNetwork(Released):
    """Probabilities plus Gaussian noise, cut to [0, 1].

    The noise follows from the image, so that asking again does not average it away.

    Args:
        network: what is asked.
        sigma: standard deviation of the noise on a probability.
        seed: a secret of whoever deploys the network.
    """

    def __init__(self, network: nn.Module, *, sigma: float = 0.1, seed: int = 0) -> None:
        super().__init__(network)
        if not 0 < sigma < float("inf"):
            raise InputError(f"sigma must be above 0 and finite, got {sigma}; leave it out for no noise")
        self.sigma, self.seed = sigma, seed

    def released_logits(self, logits: Tensor, x: Tensor) -> Tensor:
        """Return the logits of the noisy probabilities."""
        p = _single(logits)
        noise = torch.stack([self._draw(image, part.shape) for image, part in zip(x, p, strict=True)])
        return _logits(p + self.sigma * noise.to(p), logits)

    def _draw(self, image: Tensor, shape: torch.Size) -> Tensor:
        content = image.float().cpu().contiguous().numpy().tobytes()
        digest = hashlib.sha256(f"{self.seed} ".encode() + content).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big", signed=True))
        return torch.randn(shape, generator=generator)


def label_logits(logits: Tensor) -> Tensor:
    """Return logits (N, K, h, w) that leave all but 1e-6 to the predicted class of each pixel."""
    classes = class_count(logits)
    certain = math.log((1 - LABEL) * (classes - 1) / LABEL)
    labels = predicted(logits)
    if logits.shape[1] == 1:
        return (2 * labels.unsqueeze(1) - 1).float() * certain
    return functional.one_hot(labels, classes).movedim(-1, 1).float() * certain


def _single(logits: Tensor) -> Tensor:
    """Return probabilities: of two classes the foreground's alone, (N, 1, h, w), else one map per class."""
    p = probabilities(logits)
    return p[:, 1:] if class_count(logits) == 2 else p


def _logits(p: Tensor, like: Tensor) -> Tensor:
    """Return logits, as many as `like` has, for what `_single` returns."""
    p = p.clamp(LABEL, 1 - LABEL)
    if like.shape[1] == 1:
        return p.logit()
    return torch.cat((1 - p, p), dim=1).log() if like.shape[1] == 2 else p.log()
