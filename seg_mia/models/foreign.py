"""What a network of the user's own raises, in a line."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from seg_mia.errors import InputError

LONGEST = 240
_NOT_THE_USERS = ("seg_mia", "torch", "lightning", "jsonargparse")


def reason(error: BaseException) -> str:
    """Return what an exception says and where in the user's files it was raised, shortened, in one line."""
    told = " ".join(str(error).split())
    told = told if len(told) <= LONGEST else f"{told[:LONGEST].rsplit(' ', 1)[0]} ..."
    named = type(error).__name__
    return f"{named}{f': {told}' if told else ''}{_place(error)}"


def _place(error: BaseException) -> str:
    """Return the last line of a file that no package brought, if one was on the way."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        installed = {"site-packages", "dist-packages"} & set(path.parts)
        if path.is_file() and not installed and not set(_NOT_THE_USERS) & set(path.parts):
            return f" ({path.name}, line {frame.lineno})"
    return ""


@contextmanager
def told(what: str, remedy: str) -> Iterator[None]:
    """Raise as an InputError what is raised inside: `what`, the reason, and the remedy.

    The exception stays as the cause; an InputError is left as it is.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{what}: {reason(error)}; {remedy}") from error
