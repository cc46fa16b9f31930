"""What an output holds is found by its values; what could be two things is asked."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from seg_mia.data.samples import Batch
from seg_mia.errors import InputError
from seg_mia.metrics.label_sets import LabelSets
from seg_mia.models.one_head import OneHead
from seg_mia.tasks.output_choice import detected_gives, detected_resize


class Answers(nn.Module):
    """Maps grey values by a function."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(10 * (x.mean(1, keepdim=True) - 0.5))


class Two(SimpleNamespace):
    """Two images of noise, with masks of their size or another."""

    side = 16
    source = SimpleNamespace(classes=2)

    def evaluated(self) -> list[int]:
        return [0, 1]

    def dataset(self, indices: list[int]) -> Any:
        images = torch.rand(len(indices), 3, 16, 16, generator=torch.Generator().manual_seed(0))
        samples = [Batch(image, torch.zeros(self.side, self.side).long(), torch.tensor(index))
                   for index, image in zip(indices, images, strict=True)]  # fmt: skip

        class Samples:
            def __getitem__(self, key: tuple[int, int]) -> Batch:
                return samples[key[1]]

        return Samples()


def gives(function: Any, *, trained: bool = True) -> Any:
    return detected_gives(OneHead(Answers(function)), Two(), trained=trained)  # type: ignore[arg-type]


def pair(z: Tensor) -> Tensor:
    return torch.cat((-z, z), 1)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda z: z, None),
        (pair, None),
        (lambda z: 0.5 + z / 100, None),  # in [0, 1] for images in [0, 1] alone
        (lambda z: pair(z).softmax(1), "probabilities"),
        (torch.sigmoid, "sigmoid"),
        (torch.zeros_like, None),  # a last layer that begins at 0
        (lambda z: z.sigmoid().log(), None),
        (lambda z: z * torch.nan, None),
    ],
    ids=["logit", "logits", "narrow", "softmax", "sigmoid", "constant", "log", "nan"],
)
def test_values_tell_what_they_are(function: Any, expected: str | None) -> None:
    assert gives(function) == expected
    if expected != "sigmoid":
        assert gives(function, trained=False) == expected


def test_what_may_be_two_things_is_asked() -> None:
    with pytest.raises(InputError, match=r"set --model\.gives logits or --model\.gives sigmoid$"):
        gives(torch.sigmoid, trained=False)
    with pytest.raises(InputError, match="may be logits or the result of a sigmoid"):
        gives(lambda z: pair(z).sigmoid() * 0.9)


def test_images_out_of_range_may_be_refused_by_the_network() -> None:
    def strict(z: Tensor) -> Tensor:
        assert z.abs().max() <= 5
        return pair(z).softmax(1)

    assert gives(strict) == "probabilities"


@pytest.mark.parametrize(
    ("size", "side", "expected"),
    [((16, 16), 16, None), ((4, 4), 16, True), ((8, 4), 16, None), ((6, 6), 16, None), ((4, 4), 8, None)],
    ids=["same", "quarter", "two factors", "no factor", "cropped masks"],
)
def test_a_whole_fraction_of_the_image_is_enlarged(
    size: tuple[int, int], side: int, expected: bool | None
) -> None:
    network = OneHead(Answers(lambda z: nn.functional.adaptive_avg_pool2d(z, size)))
    assert detected_resize(network, Two(side=side)) is expected  # type: ignore[arg-type]


class Overlapping(Two):
    """With labels that may overlap."""

    source = SimpleNamespace(classes=LabelSets(("whole", "core")))


def of_labels(function: Any, *, trained: bool = True) -> Any:
    return detected_gives(OneHead(Answers(function)), Overlapping(), trained=trained)  # type: ignore[arg-type]


def test_logits_and_sigmoids_of_labels_that_may_overlap_are_told_apart() -> None:
    assert of_labels(pair) == of_labels(pair, trained=False) == "multilabel"
    assert of_labels(lambda z: pair(z).sigmoid()) == "multilabel_sigmoid"


@pytest.mark.parametrize(
    ("function", "trained"),
    [
        (lambda z: pair(z).sigmoid(), False),
        (lambda z: pair(z) * 0, True),
        (lambda z: pair(z) * 0 + 0.5, False),
    ],
    ids=["untrained", "zero", "half"],
)
def test_labels_that_may_be_two_things_are_asked(function: Any, *, trained: bool) -> None:
    named = r"set --model\.gives multilabel or --model\.gives multilabel_sigmoid$"
    with pytest.raises(InputError, match=named):
        of_labels(function, trained=trained)
