"""The error for invalid input, with advice."""

import errno
import re
import struct
import zipfile
import zlib
from collections.abc import Sequence
from tokenize import TokenError
from typing import Final

_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class InputError(ValueError):
    """Invalid input; its one-line message states the requirement, the actual value and the remedy.

    The command line shows only the message, without a traceback. From Python it is a `ValueError`. Line
    breaks and other control characters, for example from file names or text, are escaped.
    """

    def __init__(self, message: str) -> None:
        super().__init__(_CONTROLS.sub(lambda match: match[0].encode("unicode_escape").decode(), message))


def name_some(names: Sequence[str], limit: int = 3) -> str:
    """Return the first of some names as a list, with the number of the others."""
    remainder = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + remainder


NUMPY_ERRORS: Final = (
    OSError,
    ValueError,
    EOFError,
    KeyError,
    TypeError,
    IndexError,
    AttributeError,
    SyntaxError,
    RuntimeError,
    OverflowError,
    MemoryError,
    struct.error,
    zlib.error,
    zipfile.BadZipFile,
    TokenError,
)
"""What `numpy.load` raises for damaged .npy and .npz files."""


def reason_of(error: BaseException, limit: int = 200) -> str:
    """Return the beginning of an exception's message in one line; its type if it has none."""
    return " ".join(str(error).split())[:limit] or type(error).__name__


def unwritable(path: object, error: OSError, option: str = "--runs") -> InputError:
    """Return the line on a file or folder that cannot be written.

    Args:
        path: the file or folder.
        error: the failure.
        option: the option that names the folder.
    """
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        advice = f"free space and run the same command again, or choose another folder with {option}"
    else:
        advice = f"choose another folder with {option}"
    return InputError(f"cannot write to {path}: {error.strerror}; {advice}")


def refuse_idle(reason: str, **settings: tuple[object, object]) -> None:
    """Raise InputError for a setting that is given where another one leaves it without effect.

    Args:
        reason: where it has none, to follow "has no effect".
        settings: value and default of each setting by name; the default counts as not given.
    """
    for name, (value, usual) in settings.items():
        if value != usual:
            neutral = "null" if usual is None else usual
            raise InputError(f"{name}={value} has no effect {reason}; leave it out, or set it to {neutral}")
