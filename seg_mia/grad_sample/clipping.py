"""Sum of clipped gradients of privacy units (Abadi et al. 2016, arXiv:1607.00133, algorithm 1)."""

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple, assert_never

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import CheckpointError

from seg_mia.grad_sample.recording import GradSampleRecord, Recording, UnknownUseError

Objective = Callable[[Tensor], Tensor]
"""Function from row numbers (n,) of a batch to the differentiable losses (n,) of these rows."""

Mode = Literal["fused", "loop"]
Clipping = Literal["bound", "normalise"]

STABILITY = 0.01
"""Added to norms by `normalise`: a gradient far below it keeps its relation to others (Bu et al. 2023)."""

Parameters = Mapping[str, nn.Parameter]
Factors = Callable[[Tensor], Tensor]
"""Function from norms of gradients to their factors, of the same shape."""


class Clipped(NamedTuple):
    """The sum over units of gradients of norm at most the clip, and the units' norms (U,) before clipping."""

    sums: dict[str, Tensor]
    norms: Tensor


def clipped_sum(
    objective: Objective,
    parameters: Parameters,
    units: Tensor,
    *,
    clip: float,
    physical: int,
    mode: Mode,
    clipping: Clipping = "bound",
) -> Clipped:
    """Return the sum over units of gradients of norm at most `clip`; g_u is that of the unit's mean loss.

    `bound` takes g_u min(1, clip / |g_u|); `normalise` takes clip g_u / (|g_u| + 0.01), so that units with
    small gradients count as much (AUTO-S, Bu et al. 2023, arXiv:2206.07136). `.grad` is neither read nor
    written.

    Args:
        objective: per-row loss of the batch.
        parameters: trained parameters by name.
        units: unit of each row, (N,) int64 in [0, U); without rows the sum is 0.
        clip: the greatest norm of a unit's gradient.
        physical: maximum number of rows per forward pass; `fused` takes the rows of one unit together.
        mode: `fused` processes units of equal numbers of rows together; `loop` processes one unit after
            another, of any size and with any layers.
        clipping: rule that limits the norms.

    Raises:
        UnknownUseError: fused, and a parameter has a use without supported per-sample gradients.
        ValueError: fused, and units have different numbers of rows; a parameter with two names; losses of
            another shape.
    """
    sums = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
    if len(set(parameters.values())) < len(parameters):
        raise ValueError("each parameter must have one name")

    def factors(norms: Tensor) -> Tensor:
        return _FACTORS[clipping](norms, clip)

    if not len(units):
        return Clipped(sums, torch.zeros(0, device=units.device))
    match mode:
        case "fused":
            norms = _together(objective, parameters, units, physical=physical, factors=factors, sums=sums)
        case "loop":
            rows = torch.arange(len(units), device=units.device)
            part_norms = [
                _alone(
                    objective, parameters, rows[units == unit], factors=factors, physical=physical, sums=sums
                )
                for unit in torch.unique(units)
            ]
            norms = torch.stack(part_norms)
        case _:
            assert_never(mode)
    return Clipped(sums, norms)


def _bounding(norms: Tensor, clip: float) -> Tensor:
    return (clip / norms.clamp(min=torch.finfo(norms.dtype).tiny)).clamp(max=1)


def _normalising(norms: Tensor, clip: float) -> Tensor:
    return clip / (norms + STABILITY)


_FACTORS: dict[Clipping, Callable[[Tensor, float], Tensor]] = {"bound": _bounding, "normalise": _normalising}


def _together(
    objective: Objective,
    parameters: Parameters,
    units: Tensor,
    *,
    physical: int,
    factors: Factors,
    sums: dict[str, Tensor],
) -> Tensor:
    """Add the clipped gradients of units of equal numbers of rows; return their norms (U,)."""
    _, counts = torch.unique(units, return_counts=True)
    copies = int(counts[0])
    if bool((counts != copies).any()):
        raise ValueError("fused clipping needs units of equal numbers of rows; use loop")
    by_unit = units.argsort(stable=True)
    rows = by_unit if copies > 1 else torch.arange(len(units), device=units.device)
    part_norms = [
        _fused(objective, parameters, part, copies=copies, factors=factors, sums=sums)
        for part in torch.split(rows, max(physical // copies, 1) * copies)
    ]
    norms = torch.cat(part_norms)
    return norms if copies > 1 else norms[by_unit]


def _fused(
    objective: Objective,
    parameters: Parameters,
    rows: Tensor,
    *,
    copies: int,
    factors: Factors,
    sums: dict[str, Tensor],
) -> Tensor:
    """Add the clipped gradients of units whose rows follow one another, `copies` each; return their norms."""
    record = GradSampleRecord({parameter: name for name, parameter in parameters.items()}, len(rows), copies)
    with Recording(record):
        losses = _losses(objective, rows)
    if losses.requires_grad:
        try:
            total = losses.sum() / copies
            escaped = torch.autograd.grad(total, list(parameters.values()), allow_unused=True)
        except CheckpointError as error:
            raise UnknownUseError("layers are checkpointed") from error
        for name, gradient in zip(parameters, escaped, strict=True):
            if gradient is not None:
                raise UnknownUseError(f"parameter {name} is used outside the recorded layers")
    squared = record.squared_norms()
    norms = torch.zeros_like(losses[::copies]).detach() if squared is None else squared.sqrt()
    for parameter, gradient in record.weighted(factors(norms)).items():
        sums[record.names[parameter]] += gradient
    record.contributions.clear()
    return norms


def _losses(objective: Objective, rows: Tensor) -> Tensor:
    losses = objective(rows)
    if losses.shape != rows.shape:
        raise ValueError(
            f"losses must have one value per row, got {tuple(losses.shape)} for {len(rows)} rows"
        )
    return losses


def _alone(
    objective: Objective,
    parameters: Parameters,
    rows: Tensor,
    *,
    factors: Factors,
    physical: int,
    sums: dict[str, Tensor],
) -> Tensor:
    total: dict[str, Tensor] = {}
    for part in torch.split(rows, physical):
        loss = _losses(objective, part).sum() / len(rows)
        if not loss.requires_grad:
            continue
        gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
        for name, gradient in zip(parameters, gradients, strict=True):
            if gradient is not None:
                total[name] = gradient if name not in total else total[name] + gradient
    if not total:
        return loss.detach() * 0
    norm = torch.stack([gradient.square().sum() for gradient in total.values()]).sum().sqrt()
    factor = factors(norm)
    for name, gradient in total.items():
        sums[name] += gradient * factor
    return norm
