"""Whether a network answers an attacker who follows gradients, or one who sends a query."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_FOLLOWED: ContextVar[bool] = ContextVar("followed", default=False)


@contextmanager
def followed(by_gradients: bool) -> Iterator[None]:
    """Let networks whose output is random answer with the function of the image that gradients belong to.

    An attacker with the weights compares the iterates of one search by that function, which does not change
    from one to the next. Without effect on networks whose output is not random.

    Args:
        by_gradients: whether an attack follows gradients; otherwise outputs are those of a query.
    """
    token = _FOLLOWED.set(by_gradients)
    try:
        yield
    finally:
        _FOLLOWED.reset(token)


def is_followed() -> bool:
    """Return whether an attack that follows gradients asks."""
    return _FOLLOWED.get()
