"""Norm balls around an image: steepest steps, projections, checks of radius and step."""

from typing import Literal, assert_never

import torch
from torch import Tensor

from seg_mia.errors import InputError
from seg_mia.metrics.distance import l2_norm, linf_norm
from seg_mia.metrics.shapes import per_image

Norm = Literal["linf", "l2"]


def direction(gradient: Tensor, norm: Norm) -> Tensor:
    """Return the steepest ascent of unit length in a norm; 0 for a zero gradient."""
    match norm:
        case "linf":
            return gradient.sign()
        case "l2":
            largest = per_image(linf_norm(gradient), gradient)
            scaled = torch.where(largest > 0, gradient / largest, 0)  # 1e-26 squared would be 0 in float32
            return torch.where(largest > 0, scaled / per_image(l2_norm(scaled), scaled), 0)
        case _:
            assert_never(norm)


def within(change: Tensor, norm: Norm, epsilon: float) -> Tensor:
    """Return the projection of a change onto the ball of radius epsilon."""
    match norm:
        case "linf":
            return change.clamp(-epsilon, epsilon)
        case "l2":
            length = per_image(l2_norm(change), change)
            return change * torch.where(length > epsilon, epsilon / length, 1)
        case _:
            assert_never(norm)


def projected(moved: Tensor, x: Tensor, norm: Norm, epsilon: float) -> Tensor:
    """Return images moved into the ball of radius epsilon around `x`, then into [0, 1]."""
    return (x + within(moved - x, norm, epsilon)).clamp(0, 1)


def check_ball(epsilon: float, step_size: float, steps: int, norm: Norm) -> None:
    """Raise InputError for options out of range."""
    if not (0 < epsilon < float("inf") and 0 < step_size < float("inf")) or steps < 1:
        raise InputError(
            f"epsilon and step_size must be above 0 and finite, steps at least 1, got {epsilon}, {step_size} "
            f"and {steps}; 8/255 is 0.0314"
        )
    for name, value in (("epsilon", epsilon), ("step_size", step_size)):
        if norm == "linf" and value > 1:
            raise InputError(
                f"{name} must be at most 1 in L-infinity, for images in [0, 1], got {value:g}; "
                f"{value:g}/255 is {value / 255:.4f}"
            )


def check_radius(epsilon: float, norm: Norm) -> None:
    """Raise InputError for a radius out of range."""
    check_ball(epsilon, epsilon, 1, norm)
