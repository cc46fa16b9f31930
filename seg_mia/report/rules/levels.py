"""How much a number shows, and how a verdict words it."""

from typing import Literal

from seg_mia.results.report import Level

Strength = Literal[0, 1, 2]
"""Of evidence: nothing, something, much."""
LEVELS: tuple[Level, Level, Level] = ("good", "fair", "bad")


def strongest_of(attacks: int) -> str:
    """Return the rank of the attack that a verdict rests on."""
    return "the only attack" if attacks == 1 else f"the strongest of {attacks} attacks"
