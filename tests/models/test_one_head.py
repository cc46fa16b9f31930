"""Which of a network's maps is given out, and in which order."""

from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from seg_mia.errors import InputError
from seg_mia.models.one_head import OneHead, maps

A, B, C = (torch.full((2, 1, 4, 4), float(value)) for value in (1, 2, 3))
SMALL, FEATURES, LABEL = torch.zeros(2, 1, 2, 2), torch.zeros(2, 7, 4, 4), torch.zeros(2, 5)
Pair = namedtuple("Pair", ["coarse", "fine"])


@dataclass
class Output:
    """As libraries return it."""

    logits: Tensor
    loss: Tensor | None = None


class Fixed(nn.Module):
    """Returns the same whatever it is given."""

    def __init__(self, output: Any) -> None:
        super().__init__()
        self.output = output

    def forward(self, x: Tensor) -> Any:  # noqa: ARG002
        return self.output


@pytest.mark.parametrize(
    ("output", "names"),
    [
        (A, [""]),
        ((A, B), ["0", "1"]),
        ([A, LABEL, B], ["0", "2"]),
        (OrderedDict(out=A, aux=B), ["out", "aux"]),
        (Output(A), ["logits"]),
        (
            SimpleNamespace(pred_masks=torch.stack([A, B], 1), iou_scores=LABEL),
            ["pred_masks.0", "pred_masks.1"],
        ),
        (Pair(A, B), ["coarse", "fine"]),
        ({"out": A, "deep": [B, SMALL]}, ["out", "deep.0", "deep.1"]),
        (torch.stack([A, B, C], dim=1), ["0", "1", "2"]),
        ({"labels": A.long(), "score": LABEL, "text": "x"}, []),
        (None, []),
    ],
)
def test_maps_are_known_by_their_places(output: object, names: list[str]) -> None:
    assert list(maps(output)) == names


@pytest.mark.parametrize(
    ("output", "head", "expected"),
    [
        ((A, B, C), 0, [1, 2, 3]),
        ((A, B, C), -1, [3, 1, 2]),
        ((A, B, C), 1, [2, 1, 3]),
        ({"aux": A, "out": B}, "out", [2, 1]),
        ({"out": A, "deep": [B, C]}, "deep.1", [3, 1, 2]),
        (torch.stack([A, B], dim=1), 1, [2, 1]),
        ((FEATURES, B, LABEL), 1, [2]),
        (Output(B), "logits", [2]),
        (A, 3, [1]),  # one alone in evaluation, of a network with more in training
    ],
)
def test_the_deciding_map_comes_first(output: object, head: int | str, expected: list[float]) -> None:
    found = OneHead(Fixed(output), head=head).eval()(torch.zeros(2, 1, 4, 4))
    assert [float(each.mean()) for each in found] == expected


def test_smaller_maps_learn_and_do_not_answer() -> None:
    network = OneHead(Fixed((SMALL, B)), head=1)
    assert [each.shape[-1] for each in network.train()(A)] == [4, 2]
    assert [each.shape[-1] for each in network.eval()(A)] == [4]


@pytest.mark.parametrize("head", [2, -3, "out", True])
def test_a_head_that_is_not_there_is_refused_with_those_that_are(head: int | str) -> None:
    with pytest.raises(InputError, match=r"must be among the network's maps 0, 1, got"):
        OneHead(Fixed((A, B)), head=head)(A)
