"""What is predicted under noise, against networks whose votes are known in closed form."""

import math
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from seg_mia.attacks.apgd import apgd
from seg_mia.attacks.base import attack_mode
from seg_mia.attacks.best import mask_dice
from seg_mia.attacks.objectives import ObjectiveName
from seg_mia.errors import InputError
from seg_mia.metrics.certificates import needed
from seg_mia.metrics.overlap import foreground_dice
from seg_mia.models.heads import predicted
from seg_mia.models.smoothing import SmoothedNetwork, class_votes, noisy
from tests.attacks.networks import discs, trained


class Threshold(nn.Module):
    """One logit per pixel, 10 (x - 0.5): foreground where the grey value is above a half."""

    def forward(self, x: Tensor) -> Tensor:
        return 10 * (x - 0.5)


class Both(nn.Module):
    """The same in two logits."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((5 * (0.5 - x), 5 * (x - 0.5)), 1)


class Recording(Threshold):
    """The first network, which records how many images it is shown."""

    def __init__(self, sizes: list[int]) -> None:
        super().__init__()
        self.sizes = sizes

    def forward(self, x: Tensor) -> Tensor:
        self.sizes.append(len(x))
        return super().forward(x)


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


def test_an_attack_sees_the_same_function_at_every_iterate() -> None:
    """Common random numbers: the output at an image depends on nothing but the image."""
    torch.manual_seed(0)
    x = torch.rand(3, 1, 4, 5)
    for network in (Threshold(), Both()):
        smoothed = SmoothedNetwork(network, draws=20).eval()
        with attack_mode(smoothed):
            moved = x.clone().requires_grad_()
            together = smoothed(moved)
            (gradient,) = torch.autograd.grad(together.sum(), moved)
            alone = x[2:].clone().requires_grad_()
            again = smoothed(alone)
            (gradient_alone,) = torch.autograd.grad(again.sum(), alone)
            assert torch.equal(together[2:], again)
            assert torch.equal(gradient[2:], gradient_alone)
            assert torch.equal(smoothed(x).detach(), together.detach()), "without a gradient, too"
            # With the same noise, foreground never becomes less likely as the grey value grows.
            levels = torch.linspace(0, 1, 200).view(200, 1, 1, 1).expand(200, 1, 4, 5)
            odds = smoothed(levels)[:, -1:] - (smoothed(levels)[:, :1] if together.shape[1] == 2 else 0)
            assert (odds.diff(dim=0) >= 0).all()
        with attack_mode(smoothed, queries=True):
            assert torch.equal(smoothed(x), smoothed(x.clone().requires_grad_()).detach())
            assert not torch.equal(smoothed(x), together)


def test_gradients_are_the_same_in_parts_of_any_size() -> None:
    torch.manual_seed(0)
    x, gradients = torch.rand(2, 1, 4, 5), list[Tensor]()
    for batch in (16, 5, 1):
        sizes = list[int]()
        network = Recording(sizes)
        smoothed = SmoothedNetwork(network, batch=batch).eval()
        with attack_mode(smoothed):
            moved = x.clone().requires_grad_()
            gradients += torch.autograd.grad(smoothed(moved).sum(), moved)
        assert max(sizes) == batch
        assert sum(sizes) == 2 * 2 * 16, (
            "16 draws for each image, once forward and once again for the gradient"
        )
    for gradient in gradients[1:]:
        assert_close(gradient, gradients[0])


@pytest.mark.parametrize("loss", ["dice", "balanced_cross_entropy"])
def test_what_an_attack_keeps_is_best_on_the_function_it_followed(loss: ObjectiveName) -> None:
    x, mask = discs(2, seed=3, size=16)
    smoothed = SmoothedNetwork(trained(), sigma=0.05, draws=8, first=3).eval()
    seen = list[Tensor]()

    class Watched(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            logits: Tensor = smoothed(image)
            seen.append(foreground_dice(predicted(logits.detach()), mask, 2))
            return logits

    result = apgd(Watched(), x, mask, epsilon=0.06, steps=8, loss=loss)
    assert torch.equal(result.notes["dice"], torch.stack(seen).amin(0))
    with attack_mode(smoothed):
        assert torch.equal(mask_dice(smoothed(result.images), mask), result.notes["dice"])


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
