"""Base of all results: frozen plain values, validated on creation and reading, written as JSON."""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Strict, ValidationError
from pydantic.dataclasses import dataclass

from seg_mia.errors import InputError


def finite(value: Any) -> Any:
    """Return a value, None for NaN and infinity, which JSON cannot represent."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    try:
        return value if math.isfinite(value) else None
    except OverflowError:
        return None


def plain(value: Any) -> Any:
    """Return nested plain values without NaN and infinity."""
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return finite(value)


Number = Annotated[Annotated[float, Strict()] | None, BeforeValidator(finite)]
"""A finite number; None where there is none."""
Settings = Annotated[dict[str, Any], AfterValidator(plain)]
"""What a configuration says: plain values by name."""

EXACT = ConfigDict(extra="forbid")
"""No field that a model does not name."""


class Result(BaseModel):
    """A result, or a part of one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def read(cls, values: object, where: str) -> Self:
        """Return a result from plain values; raise InputError if they are none."""
        try:
            return cls.model_validate(values)
        except (ValidationError, RecursionError) as error:
            raise InputError(f"{where} {reason(error)}; repeat the audit") from None

    def plain(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return self.model_dump(mode="json", by_alias=True)


def reason(error: Exception) -> str:
    """Return in a few words what plain values lack."""
    if not isinstance(error, ValidationError):
        return "is nested too deeply"
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"])[:60]
    return f"does not fit: {name or 'its content'}: {first['msg'][:100]}"


@dataclass(frozen=True, config=EXACT)
class Measure:
    """A number with its 95 % interval; None where there is none.

    Attributes:
        value: the number.
        low: lower end of the interval.
        high: upper end.
        resolvable: whether the samples suffice to show a rate at all.
    """

    value: Number
    low: Number = None
    high: Number = None
    resolvable: bool = True


@dataclass(frozen=True, config=EXACT)
class Average:
    """A measure over the attacked images."""

    mean: Number
    std: Number
    min: Number
    median: Number
    max: Number


@dataclass(frozen=True, config=EXACT)
class Spread:
    """Five numbers that sum up the scores of one side."""

    count: int
    lowest: float
    lower_quartile: float
    median: float
    upper_quartile: float
    highest: float


@dataclass(frozen=True, config=EXACT)
class RunKey:
    """Which victim: `round` counts seeds and `row` defences, both from 0."""

    seed: int
    round: int
    row: int
    defence: str


class VictimRecord(Result):
    """What belongs to one victim of an audit.

    Attributes:
        seed: of the victim's training.
        round: which of the seeds, from 0.
        row: which of the compared victims, from 0.
        defence: what tables call it.
    """

    seed: int
    round: int
    row: int
    defence: str

    @property
    def key(self) -> RunKey:
        """Which victim."""
        return RunKey(self.seed, self.round, self.row, self.defence)

    @property
    def order(self) -> tuple[int, int]:
        """Position in the audit: seed by seed, the first victim of a seed first."""
        return self.round, self.row


class AttackRecord(VictimRecord):
    """What an audit adds to the result of one attack.

    Attributes:
        name: of the attack.
        label: the name, and what tells it from others of that name.
        victim_run: folder of the victim's training.
        folder: where the attack's files lie.
        headline: the result in words, a line each.
    """

    name: str
    label: str
    victim_run: str
    folder: str
    headline: list[str]

    @property
    def title(self) -> str:
        """The attack and, where several victims are compared, the one that it was run on."""
        return self.label if self.row == 0 else f'{self.label} on "{self.defence}"'
