"""Number and time formats of the page: the filters of its templates."""

import math
from datetime import UTC, datetime

from seg_mia.report.evidence.attacks import OF_RECIPE
from seg_mia.results.base import Average, Measure
from seg_mia.results.evidence import Statement
from seg_mia.results.report import Verdict
from seg_mia.results.tables import interval

NONE, MINUS = "\u2013", "\u2212"


def measure(value: Measure | None) -> str:
    """Return a number with its interval."""
    return NONE if value is None or value.value is None else interval(value)


def number(value: float | None, digits: int = 3) -> str:
    """Return a number, or a dash if there is none."""
    return NONE if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def amount(value: float | None) -> str:
    """Return a count, or an expected one, to three significant digits."""
    return NONE if value is None or not math.isfinite(value) else f"{value:.3g}"


def signed(value: Measure | None) -> str:
    """Return a difference with its sign and interval."""
    if value is None or value.value is None or value.low is None or value.high is None:
        return NONE
    return f"{value.value:+.3f} [{value.low:+.3f}, {value.high:+.3f}]".replace("-", MINUS)


def bound(verdict: Verdict | Statement) -> str:
    """Return the number behind a verdict; an epsilon to three significant digits."""
    value = verdict.measure.value if verdict.measure else None
    if verdict.measures == "epsilon" and value is not None:
        return f"{value:.3g}"
    return measure(verdict.measure)


def percent(value: float | None) -> str:
    """Return a fraction in percent, to two significant digits; above 99 % rounded down: 100 % is all."""
    if value is None:
        return NONE
    if value > 0.99:
        return f"{math.floor(1000 * value + 1e-9) / 10:g} %"
    return f"{100 * value:.2g} %"


def average(value: Average | None, digits: int = 3, factor: float = 1.0) -> str:
    """Return a mean over images."""
    return NONE if value is None or value.mean is None else f"{value.mean * factor:.{digits}f}"


def duration(seconds: float | None) -> str:
    """Return a duration in words."""
    if seconds is None:
        return NONE
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def moment(created: str) -> str:
    """Return a time in readable form; other text is returned unchanged."""
    try:
        when = datetime.fromisoformat(created).astimezone(UTC)
    except (ValueError, OverflowError):
        return created
    return f"{when.day} {when:%B %Y, %H:%M} UTC"


def method(name: str) -> str:
    """Return the name of a method for a list with commas."""
    return f"{name.removesuffix(OF_RECIPE)} (recipe)" if name.endswith(OF_RECIPE) else name


FILTERS = {
    filter_.__name__: filter_
    for filter_ in (amount, measure, number, percent, average, duration, moment, signed, bound, method)
}
"""By name in templates."""
