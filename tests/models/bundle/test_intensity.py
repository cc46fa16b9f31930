"""MONAI's intensity transforms, by hand, and against MONAI where it is installed."""

from typing import Any

import pytest
import torch
from torch.testing import assert_close

from seg_mia.errors import InputError
from seg_mia.models.bundle.intensity import step_of
from tests.peers import imported

IMAGE = torch.tensor([[[0.0, 2.0], [4.0, 10.0]], [[0.0, 0.0], [6.0, 6.0]]])


CASES: list[tuple[dict[str, Any], list[Any]]] = [
    (
        {
            "transform": "ScaleIntensityRange",
            "a_min": 2,
            "a_max": 4,
            "b_min": -1,
            "b_max": 1,
            "clip": True,
        },
        [[[-1.0, -1.0], [1.0, 1.0]], [[-1.0, -1.0], [1.0, 1.0]]],
    ),
    ({"transform": "ScaleIntensity"}, [[[0.0, 0.2], [0.4, 1.0]], [[0.0, 0.0], [0.6, 0.6]]]),
    (
        {"transform": "ScaleIntensity", "channel_wise": True, "maxv": 2},
        [[[0.0, 0.4], [0.8, 2.0]], [[0.0, 0.0], [2.0, 2.0]]],
    ),
    (  # of the first channel 2, 4, 10: mean 16/3; a constant channel has deviation 0, divided by 1
        {"transform": "NormalizeIntensity", "nonzero": True, "channel_wise": True},
        [[[0.0, -0.98058], [-0.39223, 1.37281]], [[0.0, 0.0], [0.0, 0.0]]],
    ),
    (
        {
            "transform": "NormalizeIntensity",
            "subtrahend": [2, 3],
            "divisor": [2, 3],
            "channel_wise": True,
        },
        [[[-1.0, 0.0], [1.0, 4.0]], [[-1.0, -1.0], [1.0, 1.0]]],
    ),
    (  # the 25th percentile of 0 0 0 2 4 6 6 10 is 0, the 75th 6
        {"transform": "ScaleIntensityRangePercentiles", "lower": 25, "upper": 75, "b_min": 0, "b_max": 3},
        [[[0.0, 1.0], [2.0, 5.0]], [[0.0, 0.0], [3.0, 3.0]]],
    ),
    ({"transform": "Resize", "spatial_size": [1, 2]}, [[[2.0, 6.0]], [[3.0, 3.0]]]),
]
NAMES = ["range", "extremes", "by_channel", "nonzero", "stated", "percentiles", "resize"]


@pytest.mark.parametrize(("settings", "expected"), CASES, ids=NAMES)
def test_steps_by_hand(settings: dict[str, Any], expected: list[Any]) -> None:
    assert_close(step_of(settings)(IMAGE), torch.tensor(expected), atol=1e-4, rtol=0)


@pytest.mark.peers("monai")
@pytest.mark.parametrize("settings", [settings for settings, _ in CASES], ids=NAMES)
def test_steps_are_those_of_monai(settings: dict[str, Any]) -> None:
    transforms = imported("monai.transforms")
    arguments = {name: value for name, value in settings.items() if name != "transform"}
    theirs = getattr(transforms, settings["transform"])(**arguments)(IMAGE.clone())
    assert_close(step_of(settings)(IMAGE), torch.as_tensor(theirs.as_tensor()), atol=1e-5, rtol=0)


def test_gradients_pass_through_the_statistics() -> None:
    image = torch.rand(1, 4, 4, dtype=torch.float64, requires_grad=True)
    for name in ("ScaleIntensity", "NormalizeIntensity"):
        assert torch.autograd.gradcheck(step_of({"transform": name}), (image,))


def test_unknown_transforms_and_arguments_are_refused() -> None:
    with pytest.raises(InputError, match="transform must be one of ScaleIntensityRange"):
        step_of({"transform": "Lambda"})
    with pytest.raises(
        InputError, match="ScaleIntensity takes minv, maxv, factor, channel_wise, got 'other'"
    ):
        step_of({"transform": "ScaleIntensity", "other": 1})
