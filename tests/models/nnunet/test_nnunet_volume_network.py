"""nnU-Net on volumes: equal to its own predictor, whatever the spacing; bounded, differentiable, unpadded."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.testing import assert_close

from seg_mia.errors import InputError
from seg_mia.models.nnunet.folder import read_folder
from seg_mia.models.nnunet.network import NnUNet
from seg_mia.models.nnunet.resampling import Grid, nearest, resampled
from seg_mia.models.nnunet.sample_geometry import (
    SampleGeometry,
    slices_needed,
    state_geometry,
    stated_geometry,
)
from seg_mia.models.nnunet.specification import network_spec
from tests import nnunet_layout as layout

GOLDEN = Path(__file__).parents[2] / "golden" / "nnunet_volumes.npz"
CASES = ("separate", "splined", "slices", "regions")
LOW, HIGH = -400.0, 600.0


class Stored:
    """A case of nnU-Net's predictions: the network, its volumes in file values, and the probabilities."""

    def __init__(self, name: str, place: Path, **changes: Any) -> None:
        with np.load(GOLDEN) as file:
            content = {
                key.removeprefix(f"{name}/"): file[key] for key in file.files if key.startswith(f"{name}/")
            }
        configuration = "2d" if name == "slices" else "3d_fullres"
        path = place / layout.TRAINING.replace("__2d", f"__{configuration}")
        path.mkdir(parents=True)
        for key, target in (("plans", "plans.json"), ("labels", "dataset.json")):
            (path / target).write_text(str(content[key]))
        folds = sorted({key.split("/")[0].removeprefix("fold_") for key in content if key[:5] == "fold_"})
        axes = content["axes"].tolist() or None
        for fold in folds:
            state = {
                key.removeprefix(f"fold_{fold}/"): torch.from_numpy(value)
                for key, value in content.items()
                if key.startswith(f"fold_{fold}/")
            }
            file_ = path / f"fold_{fold}" / "checkpoint_final.pth"
            layout.save_checkpoint(file_, state, axes=axes, configuration=configuration)
        spec = network_spec(read_folder(path), folds, checkpoint="checkpoint_final.pth")
        self.arguments: dict[str, Any] = spec["init_args"]
        self.arguments["levels"] = [[LOW, HIGH]] * self.arguments["channels"]
        grid = self.arguments["grid"] | changes.pop("grid", {})
        self.network = NnUNet(**self.arguments | {"grid": grid} | changes).eval()
        self.network.read_weights(path)
        self.images = [content[f"image_{number}"] for number in range(2)]
        self.spacings = [content[f"spacing_{number}"].tolist() for number in range(2)]
        self.expected = [
            torch.from_numpy(content[f"probabilities_{number}"].astype(np.float32) / 65535)
            for number in range(2)
        ]

    def probabilities(self, number: int) -> Tensor:
        """Return the network's probabilities (K, D, H, W), after a look at the padding's logits."""
        image = self.images[number]
        logits: Tensor = self.network(sample(image, self.spacings[number])[None])[0]
        size = tuple(slice(length) for length in image.shape[1:])
        inside = logits[(slice(None), *size)]
        return inside.sigmoid() if self.network.regions else inside.softmax(dim=0)


def sample(image: NDArray[np.int16], spacing: list[float], padding: int = 3) -> Tensor:
    """Return a sample (C, D, H, W) in [0, 1], padded and with its geometry."""
    size = image.shape[1:]
    whole = [length + padding for length in size]
    whole[0] += slices_needed(whole[1:])
    values = np.full((*whole, len(image)), 0.7, np.float32)
    scaled = (image.astype(np.float32) - LOW) / (HIGH - LOW)
    values[: size[0], : size[1], : size[2]] = np.moveaxis(scaled, 0, -1)
    state_geometry(values, SampleGeometry(size, tuple(spacing)))
    return torch.from_numpy(values).movedim(-1, 0)


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_probabilities_are_those_of_nnunet(name: str, number: int, tmp_path: Path) -> None:
    # The reference is of nnunetv2 2.8.1, with sums in single precision: benchmarks/nnunet_volume_reference.py
    case = Stored(name, tmp_path)
    answer, expected = case.probabilities(number), case.expected[number]
    assert_close(answer, expected, rtol=0, atol=1e-4)
    assert (answer.argmax(0) == expected.argmax(0)).float().mean() > 0.999


@pytest.mark.parametrize(
    "change",
    [
        {"crop": False},
        {"mirrored": []},
        {"step": 0.3},
        {"levels": [[LOW, HIGH + 50]]},
        {"grid": {"target": [4.0, 1.1, 1.0]}},
        {"grid": {"separate": False}},
        {"grid": {"image_order": 1}},
        {"grid": {"transpose": [0, 2, 1]}},
    ],
    ids=lambda change: str(*change),
)
@torch.no_grad()
def test_another_adapter_is_another_network(change: dict[str, Any], tmp_path: Path) -> None:
    right, other = Stored("separate", tmp_path / "right"), Stored("separate", tmp_path / "other", **change)
    errors = [
        max((case.probabilities(number) - case.expected[number]).abs().max() for number in range(2))
        for case in (right, other)
    ]
    assert errors[1] > 50 * errors[0]


@torch.no_grad()
def test_padding_is_never_read(tmp_path: Path) -> None:
    case = Stored("splined", tmp_path)
    image, spacing = case.images[0], case.spacings[0]
    whole = sample(image, spacing)
    answer = case.network(whole[None])[0]
    size = tuple(slice(length) for length in image.shape[1:])
    shifted = whole + 0.3 * torch.rand_like(whole)  # bits survive changes below half of the range
    shifted[(slice(None), *size)] = whole[(slice(None), *size)]
    assert_close(case.network(shifted[None])[0], answer)
    outside = torch.ones(whole.shape[1:], dtype=torch.bool)
    outside[size] = False
    assert answer.softmax(0)[0, outside].min() > 1 - 1e-6  # certain background
    shifted[:, -1] = 0.5
    with pytest.raises(InputError, match="must end in slices that state its size and spacing"):
        case.network(shifted[None])


@torch.no_grad()
def test_a_stated_spacing_is_that_of_the_grid(tmp_path: Path) -> None:
    case = Stored("separate", tmp_path / "stated")
    fixed = Stored("separate", tmp_path / "fixed", grid={"spacing": case.spacings[0]})
    whole = torch.from_numpy(case.images[0].astype(np.float32) - LOW) / (HIGH - LOW)
    answer = fixed.network(whole[None])[0].softmax(0)
    assert_close(answer, case.probabilities(0))


def test_gradients_pass_resampling_and_stay_out_of_padding(tmp_path: Path) -> None:
    case = Stored("separate", tmp_path)
    network = case.network.double()
    x = sample(case.images[1], case.spacings[1]).double()[None].requires_grad_()
    (gradient,) = torch.autograd.grad(network(x)[0, 1, 4, 6, 7], x)
    bright = x > (50 - LOW) / (
        HIGH - LOW
    )  # zeros are the common least of a slice, where its limit has a kink
    largest = (gradient.abs() * bright).argmax()
    shift = torch.zeros_like(x)
    shift.view(-1)[largest] = 1e-6
    with torch.no_grad():
        difference = network(x + shift)[0, 1, 4, 6, 7] - network(x - shift)[0, 1, 4, 6, 7]
    assert gradient.view(-1)[largest].item() == pytest.approx(difference.item() / 2e-6, rel=1e-3)
    assert difference.item() != 0
    depth, height, width = case.images[1].shape[1:]
    assert gradient.abs().sum() == gradient[..., :depth, :height, :width].abs().sum()


@pytest.mark.parametrize(
    ("before", "after", "axis"),
    [
        ((3.0, 1.0, 1.0), (1.0, 1.0, 1.0), None),  # three times is not more than three times
        ((3.1, 1.0, 1.0), (1.0, 1.0, 1.0), 0),
        ((1.0, 1.0, 1.0), (1.0, 1.0, 4.0), 2),
        ((1.0, 5.0, 1.0), (4.0, 1.0, 1.0), 1),  # the former decides
        ((5.0, 5.0, 1.0), (1.0, 1.0, 1.0), None),  # no single coarse axis
    ],
)
def test_slices_far_apart_are_resampled_alone(
    before: tuple[float, ...], after: tuple[float, ...], axis: int | None
) -> None:
    assert Grid(target=after).separated(before, after) == axis
    assert Grid(target=after, separate=False).separated(before, after) is None


def test_separate_slices_are_repeated_and_limited_each() -> None:
    values = torch.zeros(2, 4, 4)
    values[1, :2] = 9
    bigger = resampled(values, (5, 9, 9), 3, axis=0)
    assert nearest(2, 5).tolist() == [0, 0, 1, 1, 1]
    assert_close(bigger[2], bigger[4])
    assert [float(value) for value in (bigger[0].abs().max(), bigger[4].min(), bigger[4].max())] == [0, 0, 9]
    assert_close(resampled(values, (2, 9, 9), 3, axis=0), bigger[[0, 4]])


@pytest.mark.parametrize("plane", [(200, 3), (4, 5)])
def test_geometry_is_stated_in_any_plane(plane: tuple[int, int]) -> None:
    geometry = SampleGeometry((65535, 1, 300), (0.1, 1 / 3, 5.0))
    values = np.full((2 + slices_needed(plane), *plane, 2), 0.4, np.float32)
    state_geometry(values, geometry)
    assert stated_geometry(torch.from_numpy(values).movedim(-1, 0)) == geometry
    assert (values[:2] == np.float32(0.4)).all()


@pytest.mark.parametrize(
    ("grid", "telling"),
    [
        ({"target": [1, 1]}, "a grid must have 3 distances"),
        ({"target": [1, 1, 0]}, "distances above 0"),
        ({"target": [1, 1, 1], "transpose": [0, 0, 1]}, "each axis once"),
        ({"target": [1, 1, 1], "zoom": 2}, "got zoom; leave it out"),
    ],
)
def test_grids_are_checked(grid: dict[str, Any], telling: str, tmp_path: Path) -> None:
    case = Stored("separate", tmp_path)
    with pytest.raises(InputError, match=telling):
        NnUNet(**case.arguments | {"grid": grid})
