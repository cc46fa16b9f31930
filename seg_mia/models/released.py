"""Output perturbation: deployed outputs with reduced information, expressed as equivalent logits.

With more than two classes, rounded and noisy probabilities are renormalised to sum to 1, as softmax requires.
The backward pass treats the change as the identity (Athalye et al. 2018, BPDA), so rounding does not stop
a white-box attacker. Training is unaffected.
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
"""Total probability of the other classes for a released label, which keeps its loss finite."""


class Released(Wrapper):
    """Base class of networks with perturbed output logits (N, K, h, w)."""

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return logits of the same shape; in training the network's raw output."""
        if self.training:
            output: Tensor | tuple[Tensor, ...] = self.network(x)
            return output
        logits = self.carrier(x)
        exact = logits.detach()
        released = self.released_logits(exact.float(), x.detach())
        return released + (logits - exact)

    def carrier(self, x: Tensor) -> Tensor:
        """Return the logits whose gradient an attacker is given."""
        return final(self.network(x))

    @abstractmethod
    def released_logits(self, logits: Tensor, x: Tensor) -> Tensor:
        """Return the logits equivalent to the released output for images `x`."""


class ArgmaxNetwork(Released):
    """Label-only output: the class of each pixel with near certainty."""

    def released_logits(self, logits: Tensor, x: Tensor) -> Tensor:  # noqa: ARG002
        """Return the predicted class with a probability of 1 - 1e-6."""
        return label_logits(logits)


class TopNetwork(Released):
    """Top-1 output: the most likely class and its probability; the rest is distributed evenly.

    With two classes, one probability determines the other, and nothing is hidden.
    """

    def released_logits(self, logits: Tensor, x: Tensor) -> Tensor:  # noqa: ARG002
        """Return log-probabilities; for two classes, the unchanged logits."""
        if class_count(logits) == 2:
            return logits
        remaining, label = logits.shape[1] - 1, predicted(logits).unsqueeze(1)
        p = probabilities(logits).gather(1, label)
        log_rest = (
            ((1 - p) / remaining).clamp(min=LABEL / remaining).log().minimum(p.log() - LABEL)
        )  # avoids a tie with the top class
        return log_rest.expand_as(logits).scatter(1, label, p.log())


class RoundedNetwork(Released):
    """Probabilities rounded to a number of decimal digits.

    Args:
        network: the undefended network.
        digits: 1 leaves eleven values; 0 leaves two: 1 for a class with probability above one half, else 0.
    """

    def __init__(self, network: nn.Module, *, digits: int = 1) -> None:
        super().__init__(network)
        if not 0 <= digits <= 6:
            raise InputError(f"digits must lie in 0..6, got {digits}; float32 holds no more")
        self.digits = digits

    def released_logits(self, logits: Tensor, x: Tensor) -> Tensor:  # noqa: ARG002
        """Return the logits of the rounded probabilities, with 0 and 1 as near certainty."""
        return _logits(torch.round(_single(logits), decimals=self.digits), logits)


class NoisyNetwork(Released):
    """Probabilities plus Gaussian noise, clipped to [0, 1].

    The noise is a function of the image, so repeated queries do not average it out.

    Args:
        network: the undefended network.
        sigma: standard deviation of the noise on a probability.
        seed: secret seed of the deployer.
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
        return torch.randn(shape, generator=content_generator(image, str(self.seed)))


def content_generator(image: Tensor, name: str) -> torch.Generator:
    """Return a generator on the CPU, seeded by a name and the content of an image."""
    content = image.float().cpu().contiguous().numpy().tobytes()
    digest = hashlib.sha256(f"{name} ".encode() + content).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big", signed=True))


def label_logits(logits: Tensor) -> Tensor:
    """Return logits (N, K, h, w) that assign all but 1e-6 to the predicted class of each pixel."""
    classes = class_count(logits)
    certain = math.log((1 - LABEL) * (classes - 1) / LABEL)
    labels = predicted(logits)
    if logits.shape[1] == 1:
        return (2 * labels.unsqueeze(1) - 1).float() * certain
    return functional.one_hot(labels, classes).movedim(-1, 1).float() * certain


def _single(logits: Tensor) -> Tensor:
    """Return probabilities: for two classes the foreground only, (N, 1, h, w), else one map per class."""
    p = probabilities(logits)
    return p[:, 1:] if class_count(logits) == 2 else p


def _logits(p: Tensor, like: Tensor) -> Tensor:
    """Return logits for probabilities of `_single`, with as many channels as `like`."""
    p = p.clamp(LABEL, 1 - LABEL)
    if like.shape[1] == 1:
        return p.logit()
    return torch.cat((1 - p, p), dim=1).log() if like.shape[1] == 2 else p.log()
