"""Randomised smoothing: what a network predicts on images with Gaussian noise (Cohen et al., ICML 2019).

Noise is added to images in [0, 1] and not cut to that range. It is drawn on the CPU from a seed and the
content of the image, so an answer depends on neither device nor batch, and repeated queries do not average it
away. Memory is bounded by `batch` noisy images.
"""

from collections.abc import Iterator
from contextvars import copy_context
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from seg_mia.errors import InputError
from seg_mia.metrics.certificates import holm
from seg_mia.models.following import is_followed
from seg_mia.models.heads import class_count, final, predicted, probabilities
from seg_mia.models.prompts import prompt_of
from seg_mia.models.released import Released, content_generator

Output = Literal["certified", "votes"]
FIRST, DRAWS, GRADIENT = "first", "draws", "gradient"
"""Names of independent streams of noise."""


class SmoothedNetwork(Released):
    """Network that answers by the votes of its predictions on noisy copies of the image.

    Of `first` draws a pixel's class is the one predicted most often. It is released, with its share of
    `draws` further ones, where these certify it (`seg_mia.metrics.certificates.holm`); elsewhere all classes
    are equally likely, so that the background is predicted. An attacker who follows gradients is given the
    logarithm of the probabilities' mean over `gradient_draws` draws (expectation over transformation; Athalye
    et al., ICML 2018), the same for every image: one smooth function of the image, by which an attack can
    compare its iterates, whatever else is in the batch. A query, also with gradients, has the exact output.
    Activations are those of at most `batch` noisy images, computed again for the backward pass.

    Args:
        network: network from images to logits.
        sigma: standard deviation of the noise, in grey levels of [0, 1].
        tau: probability that a certified class has at least under noise.
        alpha: probability that an image has a wrong certificate, at most.
        first: draws that choose the class.
        draws: draws that test it.
        output: `certified`, or `votes`: the shares of all classes, nothing withheld.
        gradient_draws: draws behind a gradient, common to all images and iterates.
        seed: secret seed of the deployer.
        batch: noisy images at once.

    Raises:
        InputError: a number out of range.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        sigma: float = 0.25,
        tau: float = 0.75,
        alpha: float = 1e-3,
        first: int = 10,
        draws: int = 100,
        output: Output = "certified",
        gradient_draws: int = 16,
        seed: int = 0,
        batch: int = 32,
    ) -> None:
        super().__init__(network)
        check_smoothing(sigma=sigma, tau=tau, alpha=alpha, first=first, draws=draws, batch=batch)
        if gradient_draws < 1:
            raise InputError(f"gradient_draws must be at least 1, got {gradient_draws}; try 16")
        self.sigma, self.tau, self.alpha, self.first, self.draws = sigma, tau, alpha, first, draws
        self.output, self.gradient_draws, self.seed, self.batch = output, gradient_draws, seed, batch

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return logits of the same shape: of the mean over common noise for an attack that follows it."""
        if is_followed() and not self.training:
            return self._mean(x)
        return super().forward(x)

    def carrier(self, x: Tensor) -> Tensor:
        """Return the logits whose gradient an attacker is given, (N, K, *S)."""
        if not (torch.is_grad_enabled() and x.requires_grad):
            return final(self.network(x))
        return self._mean(x)

    def released_logits(self, logits: Tensor, x: Tensor) -> Tensor:
        """Return the logits of the certified classes, or of all votes."""
        classes = class_count(logits)
        counts = self._counts(x, DRAWS, self.draws)
        if self.output == "votes":
            log_p = torch.log((counts + 0.5) / (self.draws + classes / 2))
        else:
            chosen = self._counts(x, FIRST, self.first).argmax(1, True)
            votes = counts.gather(1, chosen).squeeze(1)
            valid = torch.ones_like(votes, dtype=torch.bool)
            certain = holm(votes, valid, draws=self.draws, tau=self.tau, alpha=self.alpha)
            share = ((votes + 0.5) / (self.draws + 1)).unsqueeze(1)
            log_rest = torch.log((1 - share) / (classes - 1)).expand(-1, classes, *share.shape[2:])
            log_p = log_rest.scatter(1, chosen, share.log()) * certain.unsqueeze(1)
        return (log_p[:, 1:] - log_p[:, :1] if logits.shape[1] == 1 else log_p).to(logits)

    def _counts(self, x: Tensor, stream: str, draws: int) -> Tensor:
        counts = list[Tensor]()
        ask = partial(class_votes, self.network, sigma=self.sigma, seed=self.seed, batch=self.batch)
        for row, image in enumerate(x):
            with prompt_of(row):
                counts.append(ask(image, draws=draws, stream=stream)[0])
        return torch.stack(counts)

    def _mean(self, x: Tensor) -> Tensor:
        """Return the log-odds or log-probabilities of mean probabilities, (N, K, *S), with their graph."""
        rows = []
        for row, image in enumerate(x):
            with prompt_of(row):
                parts = [self._of_part(image, noise) for noise in self._common(image)]
            log_p = torch.stack([part for part, _ in parts]).logsumexp(0)
            rows.append(log_p[1:] - log_p[:1] if parts[0][1] == 1 else log_p)
        return torch.stack(rows)

    def _common(self, image: Tensor) -> Iterator[Tensor]:
        """Yield the noise behind gradients, (n, C, *S): the same for all images of one shape."""
        of_seed = content_generator(torch.empty(0), f"{self.seed} {GRADIENT}")
        yield from noisy(torch.zeros_like(image), self.sigma, self.gradient_draws, of_seed, self.batch)

    def _of_part(self, image: Tensor, noise: Tensor) -> tuple[Tensor, int]:
        """Return the log of the class probabilities' sum over noisy copies, (classes, *S), and K."""
        if not (torch.is_grad_enabled() and image.requires_grad):
            return self._summed(image, noise)
        context = copy_context()  # prompts, which the thread of a backward pass on a GPU does not know

        def ask(shown: Tensor, added: Tensor) -> tuple[Tensor, int]:
            return context.run(self._summed, shown, added)

        summed: tuple[Tensor, int] = checkpoint(ask, image, noise, use_reentrant=False)
        return summed

    def _summed(self, image: Tensor, noise: Tensor) -> tuple[Tensor, int]:
        logits = final(self.network(image + noise)).float()
        if logits.shape[1] == 1:
            return functional.logsigmoid(torch.cat((-logits, logits), 1)).logsumexp(0), 1
        return logits.log_softmax(1).logsumexp(0), logits.shape[1]


def noisy(
    image: Tensor, sigma: float, draws: int, generator: torch.Generator, batch: int
) -> Iterator[Tensor]:
    """Yield noisy copies of an image (C, *S), at most `batch` at once."""
    for start in range(0, draws, batch):
        count = min(batch, draws - start)
        # One by one: the numbers of a larger tensor are others.
        noise = torch.stack([torch.randn(image.shape, generator=generator) for _ in range(count)])
        yield image + sigma * noise.to(image)


@torch.no_grad()
def class_votes(
    network: nn.Module, image: Tensor, *, sigma: float, draws: int, seed: int, stream: str, batch: int
) -> tuple[Tensor, Tensor]:
    """Return how often each class is predicted under noise, int64 (K, *S), and the mean probabilities.

    Args:
        network: network from images to logits, in evaluation mode.
        image: one image (C, *S) in [0, 1].
        sigma: standard deviation of the noise.
        draws: number of draws.
        seed: of the noise.
        stream: name of the stream of noise; different streams are independent.
        batch: noisy images at once.
    """
    counts, total = torch.zeros((), dtype=torch.int64), torch.zeros(())
    for copies in noisy(image, sigma, draws, content_generator(image, f"{seed} {stream}"), batch):
        logits = final(network(copies)).float()
        votes = functional.one_hot(predicted(logits), class_count(logits)).sum(0).movedim(-1, 0)
        counts, total = votes + counts.to(votes.device), probabilities(logits).sum(0) + total.to(logits)
    return counts, total / draws


def check_smoothing(*, sigma: float, tau: float, alpha: float, first: int, draws: int, batch: int) -> None:
    """Raise InputError for options out of range."""
    if not 0 < sigma < float("inf"):
        raise InputError(f"sigma must be above 0 and finite, got {sigma}; 0.25 is usual")
    if not 0.5 <= tau < 1 or not 0 < alpha < 1:
        raise InputError(
            f"tau must lie in [0.5, 1) and alpha in (0, 1), got {tau} and {alpha}; 0.75 and 0.001 are usual"
        )
    if first < 1 or draws < 1 or batch < 1:
        raise InputError(
            f"first, draws and batch must be at least 1, got {first}, {draws} and {batch}; try 10, 100 and 32"
        )
