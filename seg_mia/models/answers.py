"""Networks that answer without gradients, and batches of the size that a network takes."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from seg_mia.errors import InputError


class AnswersOnly(nn.Module):
    """A network that gives outputs but no gradients, such as an ONNX file or a service."""


def check_gradients(network: nn.Module, attack: str) -> None:
    """Raise InputError if a network contains a part without gradients, which `attack` needs."""
    for module in network.modules():
        if isinstance(module, AnswersOnly):
            raise InputError(
                f"{attack} needs gradients, and {type(module).__name__} gives answers only; use --attack "
                "square (queries) or adain (texture), or craft on a network of your own: --attack.surrogate "
                "RUN"
            )


def gives_gradients(network: nn.Module) -> bool:
    """Return whether no part of a network lacks gradients."""
    return not any(isinstance(module, AnswersOnly) for module in network.modules())


def in_batches(ask: Callable[[Tensor], Any], x: Tensor, most: int | None, *, exact: bool = False) -> Any:
    """Return the outputs of `ask` for images `x`, asked at most `most` at a time and joined.

    Args:
        ask: function of images; gives a tensor, or a tuple, list or mapping of tensors.
        x: images (N, C, *S).
        most: images in one call; None for all.
        exact: whether every call must have `most` images; the last is filled up with repetitions.
    """
    if most is None or (len(x) <= most and not exact):
        return ask(x)
    outputs = []
    for part in torch.split(x, most):
        lacking = most - len(part) if exact else 0
        filled = torch.cat([part, part[-1:].expand(lacking, *part.shape[1:])]) if lacking else part
        outputs.append(_first(ask(filled), len(part)))
    return _joined(outputs)


def _first(output: Any, count: int) -> Any:
    if isinstance(output, Tensor):
        return output[:count]
    if isinstance(output, Mapping):
        return {name: _first(value, count) for name, value in output.items()}
    return tuple(_first(value, count) for value in output)


def _joined(outputs: list[Any]) -> Any:
    first = outputs[0]
    if isinstance(first, Tensor):
        return torch.cat(outputs)
    if isinstance(first, Mapping):
        return {name: _joined([output[name] for output in outputs]) for name in first}
    return tuple(_joined(list(parts)) for parts in zip(*outputs, strict=True))
