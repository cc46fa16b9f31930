"""Gradients of a loss with respect to images, and whether all of them were numbers."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

from seg_mia.errors import InputError

EVERY = 64
"""Gradients of one attack between two looks at whether all were finite; each look waits for the device."""


class _Watch:
    """Collects on the device whether gradients are finite, and looks at it now and then."""

    def __init__(self) -> None:
        self.finite: Tensor | None = None
        self.unseen = 0

    def add(self, gradient: Tensor) -> None:
        finite = gradient.isfinite().all()
        if self.finite is not None:
            finite = finite & self.finite.to(finite.device)
        self.finite, self.unseen = finite, self.unseen + 1
        if self.unseen == EVERY:
            self.look()

    def look(self) -> None:
        if self.finite is not None:
            _check(self.finite)
        self.finite, self.unseen = None, 0


_WATCH: ContextVar[_Watch | None] = ContextVar("watch", default=None)


@contextmanager
def watched() -> Iterator[None]:
    """Look at whether gradients are finite at the end, and at every 64th, instead of at each.

    A look waits for the device, which an attack would otherwise do in each iteration.

    Raises:
        InputError: NaN or infinity in one of them.
    """
    watch = _Watch()
    token = _WATCH.set(watch)
    try:
        yield
    except Exception:
        watch.look()  # what a gradient that is no number has brought about is told as that
        raise
    finally:
        _WATCH.reset(token)
    watch.look()


def input_gradient(loss: Tensor, images: Tensor, *, again: bool = False) -> Tensor:
    """Return the gradient of a sum over images; zero if the network blocks gradients.

    Args:
        loss: a scalar.
        images: leaves that require gradients.
        again: keep the graph for another call.

    Raises:
        InputError: NaN or infinity; inside of `watched` perhaps later.
    """
    if not loss.requires_grad:
        return torch.zeros_like(images)
    (gradient,) = torch.autograd.grad(loss, images, retain_graph=again)
    watch = _WATCH.get()
    if watch is None:
        _check(gradient.isfinite().all())
    else:
        watch.add(gradient)
    return gradient


def _check(finite: Tensor) -> None:
    if not finite:
        raise InputError(
            "the network's gradient must be finite, got NaN or infinity; attack in full precision "
            "(--trainer.precision 32-true), or find the overflow in the network"
        )
