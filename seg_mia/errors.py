"""The error that means: what was put in does not fit, and here is what to do."""

import re
from collections.abc import Sequence

_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class InputError(ValueError):
    """Input outside a contract; its message is one line: what must hold, what came, what to do.

    The command line shows the message alone, without a traceback. From Python it is a `ValueError`. Line
    breaks and other control characters, as a file's name or text may hold them, are written as escapes.
    """

    def __init__(self, message: str) -> None:
        super().__init__(_CONTROLS.sub(lambda match: match[0].encode("unicode_escape").decode(), message))


def name_some(names: Sequence[str], limit: int = 3) -> str:
    """Return the first of some names as a list, and how many more there are."""
    remainder = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + remainder


def reason_of(error: BaseException, limit: int = 200) -> str:
    """Return the beginning of an exception's message in one line; its type where it has none."""
    return " ".join(str(error).split())[:limit] or type(error).__name__
