"""The error that means: what was put in does not fit, and here is what to do."""

import re

_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class InputError(ValueError):
    """Input outside a contract; its message is one line: what must hold, what came, what to do.

    The command line shows the message alone, without a traceback. From Python it is a `ValueError`. Line
    breaks and other control characters, as a file's name or text may hold them, are written as escapes.
    """

    def __init__(self, message: str) -> None:
        super().__init__(_CONTROLS.sub(lambda match: match[0].encode("unicode_escape").decode(), message))
