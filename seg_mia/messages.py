"""Long messages of libraries in one line that says what to do."""

import re

LIMIT = 400


def one_line(message: str) -> str:
    """Return the most telling line of a message of jsonargparse."""
    lines = [line.strip(" -") for line in message.splitlines() if line.strip(" -")]
    telling = [
        line
        for line in lines
        if re.search(r"not accepted|[Ee]xpected|[Nn]ot a valid|does not|[Rr]equired", line)
    ]
    chosen = telling[-1] if telling else lines[0] if lines else "the arguments do not fit"
    return chosen[:LIMIT]
