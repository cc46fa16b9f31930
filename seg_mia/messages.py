"""Long messages of jsonargparse in one line that says what to do."""

import re
import sys

from seg_mia.errors import InputError
from seg_mia.spec import parameters

NOISE = re.compile(
    r"^(Does not validate|Subtypes:|Errors:|Given value|Parser key|Problem with|"
    r"Expected a <class 'NoneType'>)"
)
LIMIT = 400


def one_line(message: str) -> str:
    """Return the most specific line of a message, with the option's name and the names accepted."""
    lines = [line.strip(" -") for line in message.splitlines() if line.strip(" -")]
    telling = [line for line in lines if not NOISE.match(line)] or lines or ["the arguments do not fit"]
    keys = ".".join(re.findall(r'Parser key "([^"]+)"', message))
    line = telling[0].replace("<class '", "").replace("'>", "")
    return f"{f'--{keys}: ' if keys else ''}{line}{_accepted(message)}"[:LIMIT]


def _accepted(message: str) -> str:
    path = re.search(r"given class_path '([\w.]+)'", message)
    if path is None or "is not accepted" not in message:
        return ""
    module, _, name = path.group(1).rpartition(".")
    kind = getattr(sys.modules.get(module), name, None)  # a name in an error text is no reason to import it
    return f"; {name} takes {', '.join(sorted(parameters(kind)))}" if isinstance(kind, type) else ""


def refusal(error: BaseException) -> InputError | None:
    """Return the InputError that led to `error`, if one did."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, InputError):
            return cause
        cause = cause.__cause__ or cause.__context__
    return None
