"""One-line messages for unforeseen exceptions: the error, its origin, and advice."""

import re
import sysconfig
import traceback
from pathlib import Path

import seg_mia
from seg_mia.errors import InputError

DEBUG = "--debug"
"""Option of every command: also print the traceback of an error."""
LIMIT = 600
"""Maximum length of a message in the line."""
AGAIN = f"run again with {DEBUG} for the traceback"
_PACKAGE = Path(seg_mia.__file__).resolve().parent
_LIBRARIES = tuple(
    Path(path).resolve()
    for name in ("stdlib", "platstdlib", "purelib", "platlib")
    if (path := sysconfig.get_path(name))
)
_WORKER = re.compile(r"Caught \w+ in .*?process \d+\.(?:\n|\\n)Original Traceback", re.DOTALL)
"""Prefix of torch's exceptions from a data loading process, whose message is the whole traceback."""

_LOST_RANK = re.compile(
    r"gloo/transport|NCCL|Connection (?:closed|reset) by peer|Timed out waiting", re.IGNORECASE
)
"""Words of torch's exceptions where another process of a distributed run has ended or hangs."""


def in_one_line(error: BaseException) -> str:
    """Return the line that the command line prints for an exception, with its traceback."""
    match error:
        case InputError():
            return without_worker(error)
        case OSError() if not from_users_code(error):
            return f"{error}; check that the disk has space and the folder is writable"
        case _:
            return failure(error)


def failure(error: BaseException) -> str:
    """Return a line on an exception: type, message, file, line and advice.

    The location is in the user's own code if the exception passed through any, such as a network, a logger or
    a callback of a config; otherwise it is the innermost line of this package.

    Args:
        error: the caught exception, with its traceback.
    """
    cause = _cause(error)
    frames = _frames(cause)
    theirs = [frame for frame in frames if _is_users(frame)]
    package_frames = [frame for frame in frames if _within(frame, _PACKAGE)]
    summary = f"{type(cause).__name__}: {message(cause)}"
    if type(cause).__name__ in {"OutOfMemoryError", "MemoryError"}:
        return f"{summary}; lower --data.batch_size or --data.size, or {AGAIN}"
    if isinstance(cause, RuntimeError) and _LOST_RANK.search(str(cause)):
        return f"a rank has failed, so the run ends: {summary}; correct that rank's error, or {AGAIN}"
    if theirs:
        return f"{summary} ({_place(theirs[-1])}); correct it there, or {AGAIN}"
    return (
        f"{summary} ({_place((package_frames or frames)[-1])}); unexpected error: {AGAIN}, and report it if "
        "your input is correct"
    )


def message(error: BaseException) -> str:
    """Return an exception's message in one line, shortened between words; for a loading process, its last."""
    words = " ".join(without_worker(error).split()) or "no message"
    if len(words) <= LIMIT:
        return words
    return f"{words[: LIMIT + 1].rpartition(' ')[0] or words[:LIMIT]} ..."


def without_worker(error: BaseException) -> str:
    """Return an exception's message, without the traceback that torch adds in data loading processes."""
    text = str(error)
    if not _WORKER.match(text):
        return text
    last = [line for line in re.split(r"\n|\\n", text) if line.strip()][-1]
    return last.partition(": ")[2] or last


def from_users_code(error: BaseException) -> bool:
    """Return whether an exception passed through code outside this package and libraries."""
    return any(map(_is_users, _frames(error)))


def _frames(error: BaseException) -> list[traceback.FrameSummary]:
    """Return the frames of an exception, the innermost last, including those of a data loading process."""
    frames = list(traceback.extract_tb(error.__traceback__))
    if _WORKER.match(str(error)):
        frames += [
            traceback.FrameSummary(file, int(line), name)
            for file, line, name in re.findall(r'File "([^"]+)", line (\d+), in (\S+)', str(error))
        ]
    return frames


def _cause(error: BaseException) -> BaseException:
    """Return the innermost cause of an exception that passed through a user's code, else itself.

    A parser wraps a constructor's exception in its own message.
    """
    culprit, known = error, set[int]()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in known:
        known.add(id(cause))
        culprit = cause if from_users_code(cause) else culprit
        cause = cause.__cause__ or cause.__context__
    return culprit


def _is_users(frame: traceback.FrameSummary) -> bool:
    if frame.filename.startswith("<") or _within(frame, _PACKAGE):
        return False
    return not any(_within(frame, folder) for folder in _LIBRARIES)


def _within(frame: traceback.FrameSummary, place: Path) -> bool:
    return Path(frame.filename).resolve().is_relative_to(place)


def _place(frame: traceback.FrameSummary) -> str:
    """Return a frame's file, relative to the working folder if below it, its line and function."""
    file = Path(frame.filename).resolve()
    for parent, base in ((_PACKAGE, _PACKAGE.parent), (Path.cwd(), Path.cwd())):
        if file.is_relative_to(parent):
            file = file.relative_to(base)
            break
    scope = "" if frame.name == "<module>" else f", in {frame.name}"
    return f"{file}, line {frame.lineno}{scope}"
