"""One-line reports of exceptions in a user's own network."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from seg_mia.errors import InputError

LONGEST = 240
_NOT_THE_USERS = ("seg_mia", "torch", "lightning", "jsonargparse", "lightning_fabric")


def reason_with_location(error: BaseException) -> str:
    """Return message and location (in the user's files) of an exception, shortened, in one line."""
    error = _first_raised(error)
    message = " ".join(str(error).split())
    message = message if len(message) <= LONGEST else f"{message[:LONGEST].rsplit(' ', 1)[0]} ..."
    named = type(error).__name__
    return f"{named}{f': {message}' if message else ''}{_location(error)}"


def _first_raised(error: BaseException) -> BaseException:
    """Return the original exception behind one of jsonargparse."""
    while (before := error.__cause__ or error.__context__) is not None:
        frames = traceback.extract_tb(error.__traceback__)
        if not frames or "jsonargparse" not in Path(frames[-1].filename).parts:
            break
        error = before
    return error


def _location(error: BaseException) -> str:
    """Return the last traceback line in a file outside all packages, if any."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        installed = {"site-packages", "dist-packages"} & set(path.parts)
        function = "" if frame.name == "<module>" else f", in {frame.name}"
        if path.is_file() and not installed and not set(_NOT_THE_USERS) & set(path.parts):
            return f" ({path.name}, line {frame.lineno}{function})"
    return ""


@contextmanager
def input_errors(problem: str, remedy: str) -> Iterator[None]:
    """Convert exceptions to an InputError of `what`, the reason and the remedy.

    The exception remains as the cause; an InputError passes unchanged. Braces in `what` are replaced by the
    name of the class under construction. For a missing package, the remedy is its installation.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        missing = _missing(error)
        remedy = f"pip install {missing}" if missing else remedy
        raise InputError(
            f"{problem.format(_builder(error))}: {reason_with_location(error)}; {remedy}"
        ) from error


def _builder(error: BaseException) -> str:
    """Return the first non-framework class with its constructor in the traceback."""
    trace = _first_raised(error).__traceback__
    while trace is not None:
        owner = trace.tb_frame.f_locals.get("self")
        kind = type(owner)
        if (
            trace.tb_frame.f_code.co_name == "__init__"
            and kind.__module__.partition(".")[0] not in _NOT_THE_USERS
        ):
            return kind.__name__
        trace = trace.tb_next
    return "what the settings name"


def _missing(error: BaseException | None) -> str | None:
    """Return the missing package that caused an exception, if any."""
    while error is not None:
        if isinstance(error, ModuleNotFoundError) and error.name:
            return error.name.partition(".")[0]
        error = error.__cause__ or error.__context__
    return None
