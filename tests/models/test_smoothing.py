"""What is predicted under noise, against networks whose votes are known in closed form."""

import math
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from seg_mia.errors import InputError
from seg_mia.metrics.certificates import needed
from seg_mia.models.heads import predicted
from seg_mia.models.smoothing import SmoothedNetwork, class_votes, noisy


class Threshold(nn.Module):
    """One logit per pixel, 10 (x - 0.5): foreground where the grey value is above a half."""

    def forward(self, x: Tensor) -> Tensor:
        return 10 * (x - 0.5)


class Both(nn.Module):
    """The same in two logits."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((5 * (0.5 - x), 5 * (x - 0.5)), 1)


def upper(z: float) -> float:
    """The normal distribution's function."""
    return 0.5 * (1 + math.erf(z / math.sqrt(2)))


def test_votes_have_the_probability_of_the_noise() -> None:
    image = torch.tensor([0.3, 0.5, 0.6, 0.9]).repeat_interleave(500).view(1, 40, 50)
    votes, p = class_votes(Threshold(), image, sigma=0.25, draws=40, seed=0, stream="draws", batch=16)
    assert votes.shape == (2, 40, 50)
    assert (votes.sum(0) == 40).all()
    shares = votes[1].flatten().view(4, 500).double().mean(1) / 40
    expected = [upper((grey - 0.5) / 0.25) for grey in (0.3, 0.5, 0.6, 0.9)]
    assert_close(shares, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=0.015)
    assert_close(p.sum(0), torch.ones(40, 50))


def test_noise_follows_from_image_seed_and_stream_alone() -> None:
    torch.manual_seed(0)
    images = torch.rand(3, 1, 6, 7)
    network = SmoothedNetwork(Threshold(), draws=30, output="votes").eval()
    together = network(images)
    torch.manual_seed(5)
    assert torch.equal(network(images[1:2]), together[1:2])
    ask = partial(class_votes, Threshold(), images[0], sigma=0.25, draws=30)
    votes = {
        (seed, stream, batch): ask(seed=seed, stream=stream, batch=batch)[0]
        for seed, stream, batch in [(0, "draws", 30), (0, "draws", 7), (1, "draws", 30), (0, "first", 30)]
    }
    first, chunked, *others = votes.values()
    assert torch.equal(first, chunked)
    assert not any(torch.equal(first, other) for other in others)


def test_no_more_noisy_images_at_once_than_allowed() -> None:
    sizes = [len(part) for part in noisy(torch.zeros(1, 2, 2), 1.0, 10, torch.Generator(), 4)]
    assert sizes == [4, 4, 2]


@pytest.mark.parametrize("network", [Threshold(), Both()])
def test_certified_classes_are_released_and_the_rest_is_withheld(network: nn.Module) -> None:
    image = torch.tensor([0.0, 0.45, 0.55, 1.0]).view(1, 1, 1, 4).expand(1, 1, 8, 4)
    released = SmoothedNetwork(network, draws=200).eval()(image)
    logit = released[:, -1] - (released[:, 0] if released.shape[1] == 2 else 0)
    assert (logit[..., 0] < -3).all()
    assert (logit[..., 3] > 3).all()
    assert (logit[..., 1:3] == 0).all()
    assert predicted(released)[0, 0].tolist() == [0, 0, 0, 1]
    votes = class_votes(network, image[0], sigma=0.25, draws=200, seed=0, stream="draws", batch=32)[0]
    least = needed(200, 0.75, 1e-3, 32)
    assert torch.equal(logit[0] != 0, votes.amax(0) >= least)
    share = (votes[1, :, 3] + 0.5) / 201
    assert_close(logit[0, :, 3], share.logit())


def test_an_attackers_gradient_is_the_mean_probabilitys() -> None:
    network = SmoothedNetwork(Threshold(), draws=20, gradient_draws=4000).eval()
    x = torch.tensor([[[[0.4, 0.6]]]], requires_grad=True)
    logits = network(x)
    assert torch.equal(logits, network(x.detach()))
    (gradient,) = torch.autograd.grad(logits.sum(), x)
    grid = torch.linspace(-6, 6, 4001, dtype=torch.float64)
    weight = torch.exp(-(grid**2) / 2)

    def odds(grey: Tensor) -> Tensor:
        p = (torch.sigmoid(10 * (grey + 0.25 * grid - 0.5)) * weight).sum() / weight.sum()
        return p.logit()

    for n, grey in enumerate((0.4, 0.6)):
        at = torch.tensor(grey, dtype=torch.float64, requires_grad=True)
        (expected,) = torch.autograd.grad(odds(at), at)
        assert gradient[0, 0, 0, n].item() == pytest.approx(expected.item(), rel=0.1)


def test_training_is_that_of_the_network() -> None:
    x = torch.rand(2, 1, 3, 3)
    assert torch.equal(SmoothedNetwork(Threshold()).train()(x), Threshold()(x))


@pytest.mark.parametrize(
    ("name", "value"),
    [("sigma", 0.0), ("tau", 0.4), ("tau", 1.0), ("alpha", 0.0), ("first", 0), ("draws", 0), ("batch", 0),
     ("gradient_draws", 0)],
)  # fmt: skip
def test_settings_that_mean_nothing_are_refused(name: str, value: float) -> None:
    with pytest.raises(InputError, match=rf"{name}.* got .*{value}"):
        SmoothedNetwork(Threshold(), **{name: value})  # type: ignore[arg-type]
