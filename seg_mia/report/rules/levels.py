"""Levels of evidence of a number, and their wording in a verdict."""

from typing import Literal

from seg_mia.results.report import Level

Strength = Literal[0, 1, 2]
"""Levels of evidence: nothing, something, much."""
LEVELS: tuple[Level, Level, Level] = ("good", "fair", "bad")


def strongest_of(attacks: int) -> str:
    """Return the rank of the attack behind a verdict."""
    return "the only attack" if attacks == 1 else f"the strongest of {attacks} attacks"
