from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F  # noqa: N812  (torch's own name for it)
from torch import Tensor, nn
from torch.testing import assert_close

from seg_mia.errors import InputError
from seg_mia.models.heads import predicted, probabilities
from seg_mia.models.released import ArgmaxNetwork, NoisyNetwork, Released, RoundedNetwork, TopNetwork

KINDS: list[Callable[[nn.Module], Released]] = [ArgmaxNetwork, TopNetwork, RoundedNetwork, NoisyNetwork]
ALMOST = 1 - 1e-6


class Constant(nn.Module):
    """Gives the same logits for every image."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, x: Tensor) -> Tensor:
        return self.logits.expand(len(x), -1, -1, -1)


class Deep(nn.Module):
    """The final head, and one at half its resolution."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, F.avg_pool2d(x, 2)


def pixels(values: list[float] | list[list[float]]) -> Tensor:
    """Return an image of one row: of each pixel one number, or one per class."""
    rows = torch.tensor(values)
    return (rows[:, None] if rows.ndim == 1 else rows).T[None, :, None]


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def out(kind: Callable[..., Released], logits: Tensor, **settings: float) -> Tensor:
    shown = kind(nn.Identity(), **settings).eval()(logits)
    assert isinstance(shown, Tensor)
    return shown


def released(kind: Callable[..., Released], p: Tensor, **settings: float) -> Tensor:
    """Return what is released where the network says `p`: the foreground's probability, or one per class."""
    if p.shape[1] == 1:
        return out(kind, p.double().logit().float(), **settings).double().sigmoid()
    return out(kind, p.log(), **settings).double().exp()


@pytest.mark.parametrize(
    ("logits", "expected"),
    [
        ([0.3, -2.0, 0.0, 40.0], [ALMOST, 1e-6, 1e-6, ALMOST]),
        ([[0.1, 0.2], [5.0, -5.0]], [[1e-6, ALMOST], [ALMOST, 1e-6]]),
        ([[0.0, 3.0, 2.0], [0.1, 0.0, 0.0]], [[5e-7, ALMOST, 5e-7], [ALMOST, 5e-7, 5e-7]]),
    ],
)
def test_of_labels_all_but_a_millionth_is_the_predicted_classs(
    logits: list[float], expected: list[float]
) -> None:
    shown = out(ArgmaxNetwork, pixels(logits)).double()
    p = shown.sigmoid() if shown.shape[1] == 1 else shown.softmax(1)
    assert_close(p, pixels(expected).double(), rtol=1e-5, atol=0)


@pytest.mark.parametrize("maps", [1, 2, 3, 5])
def test_two_networks_with_the_same_labels_release_the_same(maps: int) -> None:
    logits = drawn(2, maps, 6, 5)
    assert torch.equal(out(ArgmaxNetwork, logits), out(ArgmaxNetwork, 4 * logits**3))
    assert len(set(out(ArgmaxNetwork, logits).flatten().tolist())) == 2


@pytest.mark.parametrize("kind", [ArgmaxNetwork, TopNetwork])
@pytest.mark.parametrize("maps", [1, 2, 3, 5])
def test_labels_and_top_class_predict_what_the_network_predicts(
    kind: Callable[[nn.Module], Released], maps: int
) -> None:
    logits = 3 * drawn(2, maps, 16, 16)
    assert torch.equal(predicted(out(kind, logits)), predicted(logits))


def test_the_top_class_keeps_its_probability_and_the_rest_is_shared_out() -> None:
    p = pixels([[0.6, 0.3, 0.1], [0.1, 0.2, 0.7], [0.25, 0.5, 0.25]])
    expected = pixels([[0.6, 0.2, 0.2], [0.15, 0.15, 0.7], [0.25, 0.5, 0.25]])
    assert_close(released(TopNetwork, p), expected.double(), rtol=1e-5, atol=0)


def test_nothing_but_the_top_class_and_its_probability_gets_out() -> None:
    one, other = pixels([[0.6, 0.3, 0.1]]), pixels([[0.6, 0.1, 0.3]])
    assert_close(released(TopNetwork, one), released(TopNetwork, other), rtol=1e-6, atol=0)


@pytest.mark.parametrize("maps", [3, 4, 9])
def test_the_released_top_class_is_a_distribution(maps: int) -> None:
    logits = 5 * drawn(2, maps, 8, 8)
    shown = out(TopNetwork, logits)
    assert_close(shown.exp().sum(1), torch.ones(2, 8, 8), rtol=0, atol=3e-6)
    assert_close(probabilities(shown).amax(1), probabilities(logits).amax(1), rtol=0, atol=3e-6)


def test_a_certain_top_class_leaves_a_millionth_to_the_rest() -> None:
    shown = out(TopNetwork, pixels([[200.0, 0.0, 0.0]]))
    assert_close(shown.exp(), pixels([[1.0, 5e-7, 5e-7]]), rtol=1e-5, atol=0)


@pytest.mark.parametrize("maps", [1, 2])
def test_of_two_classes_the_top_one_tells_everything(maps: int) -> None:
    logits = drawn(2, maps, 4, 4)
    assert torch.equal(out(TopNetwork, logits), logits)


@pytest.mark.parametrize(
    ("digits", "p", "expected"),
    [
        (1, [0.04, 0.06, 0.5, 0.58, 0.97], [1e-6, 0.1, 0.5, 0.6, ALMOST]),
        (2, [0.004, 0.123, 0.996], [1e-6, 0.12, ALMOST]),
        (0, [0.2, 0.49, 0.51], [1e-6, 1e-6, ALMOST]),
        (1, [[0.23, 0.77], [0.98, 0.02]], [[0.2, 0.8], [ALMOST, 1e-6]]),
        (1, [[0.62, 0.31, 0.07], [0.34, 0.33, 0.33]], [[0.6, 0.3, 0.1], [0.3, 0.3, 0.3]]),
        (2, [[0.624, 0.312, 0.064]], [[0.62, 0.31, 0.06]]),
    ],
)
def test_rounded_probabilities_are_these(digits: int, p: list[float], expected: list[float]) -> None:
    assert_close(
        released(RoundedNetwork, pixels(p), digits=digits), pixels(expected).double(), rtol=1e-5, atol=1e-12
    )


@pytest.mark.parametrize("digits", [0, 1, 2])
def test_rounding_leaves_the_decimals_and_nothing_between(digits: int) -> None:
    p = torch.linspace(0.0001, 0.9999, 5000).view(1, 1, 50, 100)
    steps = torch.arange(10**digits + 1) / 10**digits
    assert_close(torch.unique(released(RoundedNetwork, p, digits=digits)).float(), steps.clamp(1e-6, ALMOST))


def test_noise_follows_from_the_image_alone() -> None:
    noisy, x = NoisyNetwork(nn.Identity(), seed=5).eval(), drawn(4, 3, 6, 5)
    together, state = noisy(x), torch.get_rng_state()
    assert torch.equal(noisy(x), together)
    assert torch.equal(NoisyNetwork(nn.Identity(), seed=5).eval()(x), together)
    assert torch.equal(noisy(x.flip(0)).flip(0), together)
    for n in range(4):
        assert torch.equal(noisy(x[n : n + 1]), together[n : n + 1])
    assert torch.equal(noisy(torch.cat((x[:1], x[:1]))), together[:1].expand(2, -1, -1, -1))
    assert torch.equal(torch.get_rng_state(), state)


def test_noise_is_another_for_another_image_or_seed() -> None:
    network, x = Constant(torch.zeros(1, 1, 16, 16)), torch.zeros(1, 3, 16, 16)
    other = x.clone()
    other[0, 2, 7, 7] = 1 / 255
    first = NoisyNetwork(network).eval()(x)
    assert (NoisyNetwork(network).eval()(other) != first).float().mean() > 0.95
    assert (NoisyNetwork(network, seed=1).eval()(x) != first).float().mean() > 0.95


@pytest.mark.parametrize("maps", [1, 2, 3])
@pytest.mark.parametrize("sigma", [0.01, 0.1])
def test_the_noise_is_gaussian_of_the_deviation_asked_for(maps: int, sigma: float) -> None:
    network = Constant(torch.zeros(1, maps, 64, 64))
    shown = NoisyNetwork(network, sigma=sigma).eval()(torch.zeros(2, 1, 64, 64)).double()
    noise = (shown.sigmoid() - 0.5) if maps == 1 else (shown.exp() - 1 / maps)
    for part in noise[0]:
        assert abs(part.mean().item()) < 5 * sigma / 64
        assert part.std().item() == pytest.approx(sigma, rel=0.06)
        assert (part.abs() < sigma).double().mean().item() == pytest.approx(0.6827, abs=0.04)
    if maps == 2:
        assert_close(noise[0, 0], -noise[0, 1], rtol=0, atol=1e-6)  # the two still sum to 1
    if maps > 2:
        assert torch.corrcoef(noise[0].flatten(1))[0, 1].abs() < 0.1


def test_noisy_probabilities_are_cut_to_what_a_probability_can_be() -> None:
    shown = out(NoisyNetwork, drawn(1, 1, 8, 8), sigma=1e6).double().sigmoid()
    assert_close(torch.unique(shown), torch.tensor([1e-6, ALMOST]).double(), rtol=1e-5, atol=0)


def test_noise_fits_logits_smaller_than_the_image() -> None:
    noisy = NoisyNetwork(nn.Conv2d(1, 2, 3)).eval()
    assert noisy(drawn(2, 1, 8, 9)).shape == (2, 2, 6, 7)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("maps", [1, 2, 3])
def test_backward_the_change_is_the_identity(kind: Callable[[nn.Module], Released], maps: int) -> None:
    network = nn.Sequential(nn.Conv2d(2, maps, 3, padding=1), nn.Tanh()).double()
    x, direction = drawn(2, 2, 5, 4).double().requires_grad_(), drawn(2, maps, 5, 4, seed=1).double()
    inputs = [x, *network.parameters()]
    plain = torch.autograd.grad((network(x) * direction).sum(), inputs)
    assert_close(torch.autograd.grad((kind(network).eval()(x) * direction).sum(), inputs), plain)


@pytest.mark.parametrize("kind", KINDS)
def test_in_training_nothing_is_changed_and_later_the_final_head_counts(
    kind: Callable[[nn.Module], Released],
) -> None:
    x = drawn(2, 3, 4, 4)
    given = kind(Deep()).train()(x)
    assert isinstance(given, tuple)
    for mine, expected in zip(given, Deep()(x), strict=True):
        assert torch.equal(mine, expected)
    assert torch.equal(kind(Deep()).eval()(x), out(kind, x))


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_released_is_finite_and_of_full_precision(kind: Callable[[nn.Module], Released]) -> None:
    for maps in (1, 2, 3):
        logits = (100 * drawn(1, maps, 4, 4)).bfloat16()
        with torch.inference_mode():
            shown = out(kind, logits.clone())
        assert (shown.dtype, shown.shape) == (torch.float32, logits.shape)
        assert torch.isfinite(shown).all()


@pytest.mark.parametrize("digits", [-1, 7])
def test_digits_that_no_float_holds_are_refused(digits: int) -> None:
    with pytest.raises(InputError, match=rf"digits must lie in 0\.\.6, got {digits}"):
        RoundedNetwork(nn.Identity(), digits=digits)


@pytest.mark.parametrize("sigma", [0.0, -0.1, float("nan"), float("inf")])
def test_noise_that_is_none_is_refused(sigma: float) -> None:
    with pytest.raises(InputError, match=f"sigma must be above 0 and finite, got {sigma}"):
        NoisyNetwork(nn.Identity(), sigma=sigma)


def test_the_top_of_a_near_tie_is_the_networks_own() -> None:
    logits = torch.tensor([0.0, 1e-9, -5.0]).view(1, 3, 1, 1)
    assert predicted(out(TopNetwork, logits)).item() == predicted(logits).item() == 1


def test_noise_weighs_alike_on_one_logit_and_on_two() -> None:
    z, image = drawn(1, 1, 5, 4), torch.zeros(1, 1, 5, 4)
    one, two = (NoisyNetwork(Constant(part)).eval()(image) for part in (z, torch.cat((-z / 2, z / 2), dim=1)))
    assert_close((two[:, 1:] - two[:, :1]).sigmoid(), one.sigmoid(), rtol=1e-4, atol=1e-6)
