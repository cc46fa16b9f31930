"""Which groups of fields answer which paragraph of law, guidance and standards.

Only references that were met are listed. Most texts were read through summaries: such references are marked
on the page, and are to be checked before they are quoted.
"""

from typing import NamedTuple


class Reference(NamedTuple):
    """A place in a text; `verified` if the text itself was read."""

    text: str
    verified: bool = False

    @property
    def shown(self) -> str:
        """Return the place with its mark."""
        return self.text if self.verified else f"{self.text} *"


class Mapping(NamedTuple):
    """A group of fields and the places that ask for it.

    Attributes:
        number: number of the group.
        group: its name.
        anchor: end of the id of its section.
        references: the places.
    """

    number: int
    group: str
    anchor: str
    references: tuple[Reference, ...]

    @property
    def shown(self) -> str:
        """Return the places with their marks."""
        return "; ".join(reference.shown for reference in self.references)


OPINION, ACT, DP = "EDPB Opinion 28/2024", "EU AI Act", "NIST SP 800-226"
AISVS = Reference("OWASP AISVS chapter C11", verified=True)
NOTE = (
    "* Read through summaries; check paragraph and wording before quoting. Unmarked: the text was read. "
    "No paragraph is listed that was not met; numbers of requirements within chapter C11 and sections of "
    "SP 800-226 were not."
)

MAPPING = (
    Mapping(
        1,
        "Identity",
        "identity",
        (Reference(f"{OPINION}, para 58 (ratio of data to parameters)"), Reference(f"{ACT}, Annex IV")),
    ),
    Mapping(2, "Release context", "release", (Reference(f"{OPINION}, para 46"),)),
    Mapping(
        3,
        "Coverage",
        "coverage",
        (Reference(f"{OPINION}, para 55"), Reference(f"{ACT}, Art. 15(1)-(5)"), AISVS),
    ),
    Mapping(
        4,
        "Threat models and cost",
        "threats",
        (Reference(f"{OPINION}, para 58 (threat model)"), Reference(f"{DP} (trust model)")),
    ),
    Mapping(
        5, "Scope and power", "scope", (Reference(f"{OPINION}, para 55 (scope, quantity, quality of tests)"),)
    ),
    Mapping(
        6,
        "Results by patient",
        "results",
        (
            Reference(f"{OPINION}, para 55"),
            Reference("CNIL sheets of 22 July 2025 (status of the model)"),
            Reference("ICO guidance on AI (membership inference, inversion)"),
            AISVS,
        ),
    ),
    Mapping(
        7,
        "Promise of privacy",
        "promise",
        (Reference(f"{DP} (unit, parameters, trust model, side channels)"),),
    ),
    Mapping(8, "Robustness", "robustness", (Reference(f"{ACT}, Art. 15(1)-(5)"), AISVS)),
    Mapping(
        9,
        "Utility of defences",
        "utility",
        (Reference(f"{ACT}, Art. 15(1)-(5) (accuracy)"), Reference(f"{ACT}, Annex IV")),
    ),
    Mapping(
        10,
        "Limits and signatures",
        "limits",
        (
            Reference(f"{OPINION}, para 55 and 58 (advice of the officer)"),
            Reference("GDPR, Art. 5(2) (accountability)"),
        ),
    ),
)
