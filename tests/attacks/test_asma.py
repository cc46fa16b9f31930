import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from seg_mia.attacks.asma import Asma, asma
from seg_mia.attacks.base import Adversarial
from seg_mia.errors import InputError
from seg_mia.metrics.distance import l2_norm
from seg_mia.metrics.overlap import foreground_iou
from seg_mia.models.heads import class_count, predicted

HERE = Path(__file__).parent.parent / "golden"


def shared_golden(name: str) -> Path:
    root = os.environ.get("SEG_MIA_TEST_DATA")
    if root is None:
        pytest.skip("SEG_MIA_TEST_DATA is not set: the reference vectors made on real images are not at hand")
    return Path(root) / "golden" / name


def three_convolutions(vectors: dict[str, np.ndarray]) -> nn.Module:
    layers: list[nn.Module] = []
    for number in range(3):
        weight = torch.from_numpy(vectors[f"conv{number}_weight"])
        convolution = nn.Conv2d(weight.shape[1], weight.shape[0], 5, padding=2)
        bias = torch.from_numpy(vectors[f"conv{number}_bias"])
        convolution.load_state_dict({"weight": weight, "bias": bias})
        layers += [convolution, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


@pytest.mark.parametrize("name", ["asma_synthetic.npz", "asma_binary_interior.npz", "asma_three_class.npz"])
def test_reproduces_the_published_trajectory(name: str) -> None:
    file = HERE / name if (HERE / name).is_file() else shared_golden(name)
    with np.load(file) as archive:
        vectors = dict(archive)
    model = three_convolutions(vectors)
    x, target = torch.from_numpy(vectors["x"])[None], torch.from_numpy(vectors["target"])[None]
    result = asma(
        model,
        x,
        target,
        steps=int(vectors["iterations"]),
        tau=float(vectors["tau"]),
        beta=float(vectors["beta"]),
        keep="last",
        history_every=1,
    )
    assert_close(result.images[0], torch.from_numpy(vectors["final"]), atol=1e-6, rtol=0)
    if vectors["beta"] > 0:  # for three classes the reference's IoU is not meaningful
        reference = torch.from_numpy(vectors["iou_per_iteration"]).float()
        assert_close(result.history["iou"][1:, 0].float(), reference, atol=1e-6, rtol=0)


class Linear(nn.Module):
    """One logit per pixel, 8 (x - 0.5): what an attack must do to it is known by hand."""

    def forward(self, x: Tensor) -> Tensor:
        return 8 * (x[:, :1] - 0.5)


def reached(model: nn.Module, result: Adversarial, target: Tensor) -> Tensor:
    """Return the foreground IoU of what a network predicts of an attack's images with the target."""
    with torch.no_grad():
        logits = model(result.images)
    return foreground_iou(predicted(logits), target, class_count(logits))


def test_a_linear_network_by_hand() -> None:
    # The pair is (-4 (x - .5), 4 (x - .5)); a pixel of 0.45 that should be 1 climbs by a * 4 while it is
    # wrong,
    # and falls back by a * 2 (x - x0) at every step. One step of tau = 0.01 gives 0.45 + 0.04.
    x = torch.full((1, 1, 2, 2), 0.45)
    target = torch.ones(1, 2, 2, dtype=torch.int64)
    once = asma(Linear(), x, target, steps=1, tau=0.01, beta=0, keep="last")
    assert_close(once.images, torch.full_like(x, 0.49))
    twice = asma(Linear(), x, target, steps=2, tau=0.01, beta=0, keep="last")
    assert_close(twice.images, torch.full_like(x, 0.49 + 0.01 * (4 - 2 * 0.04)))
    assert reached(Linear(), twice, target).item() == 1
    # All pixels are right now: the third step only shrinks the perturbation.
    thrice = asma(Linear(), x, target, steps=3, tau=0.01, beta=0, keep="last")
    assert_close(l2_norm(thrice.images - x), l2_norm(twice.images - x) * (1 - 0.02))


def test_the_step_grows_with_the_overlap_from_the_second_iteration() -> None:
    x = torch.tensor([[[[0.6, 0.45]]]])
    target = torch.ones(1, 1, 2, dtype=torch.int64)
    # IoU is 1/2 at the start; a_0 = tau all the same, and a_1 = tau + beta / 2.
    result = asma(Linear(), x, target, steps=2, tau=0.001, beta=0.002, keep="last")
    first = 0.45 + 0.001 * 4
    second = first + (0.001 + 0.002 * 0.5) * (4 - 2 * (first - 0.45))
    assert_close(result.images, torch.tensor([[[[0.6, second]]]]))


def test_keeps_the_best_iterate() -> None:
    x = torch.full((1, 1, 2, 2), 0.45)
    target = torch.ones(1, 2, 2, dtype=torch.int64)
    # 0.45 + 0.06 crosses at the first step; each later one lies closer to x, until the prediction would flip
    # back.
    best = asma(Linear(), x, target, steps=30, tau=0.015, beta=0)
    last = asma(Linear(), x, target, steps=30, tau=0.015, beta=0, keep="last")
    assert reached(Linear(), best, target).item() == 1
    assert l2_norm(best.images - x) <= l2_norm(last.images - x)
    assert 1 <= int(best.notes["steps"]) <= 30


def test_ignored_pixels_are_left_alone() -> None:
    x = torch.full((1, 1, 1, 3), 0.45)
    target = torch.tensor([[[1, 255, 0]]])
    result = asma(Linear(), x, target, steps=1, tau=0.01, beta=0, keep="last")
    assert_close(result.images, torch.tensor([[[[0.49, 0.45, 0.45]]]]))
    assert reached(Linear(), result, target).item() == 0


def test_an_unpadded_network_is_attacked_through_its_smaller_output() -> None:
    network = nn.Conv2d(3, 3, 5)
    x, target = torch.rand(2, 3, 12, 12), torch.randint(0, 3, (2, 8, 8))
    result = asma(network, x, target, steps=40, tau=1e-3, beta=1e-3)
    assert result.images.shape == x.shape
    before = foreground_iou(network(x).argmax(1), target, 3)
    assert (reached(network, result, target) >= before).all()


def test_history_and_callback_cover_every_iterate() -> None:
    seen: list[int] = []
    result = asma(
        Linear(),
        torch.full((2, 1, 3, 3), 0.4),
        torch.ones(2, 3, 3, dtype=torch.int64),
        steps=7,
        tau=0.01,
        history_every=3,
        on_step=lambda n, image, prediction: seen.append(n),  # noqa: ARG005
    )
    assert seen == list(range(8))
    assert result.history["step"][:, 0].tolist() == [0, 3, 6, 7]
    assert {"iou", "pixel_accuracy", "l2", "linf"} <= set(result.history)
    assert result.history["l2"].shape == (4, 2)


class Counting(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.calls = inner, 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += torch.is_grad_enabled()
        output: Tensor = self.inner(x)
        return output


def test_one_forward_an_iteration_and_one_more_for_the_last() -> None:
    network = Counting(nn.Conv2d(1, 2, 3, padding=1))
    asma(network, torch.rand(1, 1, 8, 8), torch.ones(1, 8, 8, dtype=torch.int64), steps=10, tau=1e-3)
    assert network.calls == 11


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"steps": -1}, "steps"),
        ({"tau": -1.0}, "tau"),
        ({"beta": float("nan")}, "tau and beta"),
        ({"keep": "x"}, "keep must be best or last, got 'x'"),
    ],
)
def test_refuses_knobs(knobs: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        asma(Linear(), torch.zeros(1, 1, 2, 2), torch.zeros(1, 2, 2, dtype=torch.int64), **knobs)
    with pytest.raises(InputError, match=message):
        Asma(**knobs)
