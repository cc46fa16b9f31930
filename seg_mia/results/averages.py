"""Averages over images."""

from torch import Tensor

from seg_mia.results.base import Average


def average(values: Tensor) -> Average:
    """Return the summary of values (n,), ignoring NaN such as a structure absent from an image."""
    values = values[~values.isnan()]
    if not len(values):
        return Average(None, None, None, None, None)
    return Average(
        mean=float(values.mean()),
        std=float(values.std(correction=0)),
        min=float(values.min()),
        median=float(values.median()),
        max=float(values.max()),
    )
