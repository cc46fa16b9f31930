"""No change within the radius contradicts a certificate; networks whose smoothed class is known exactly."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from seg_mia.attacks.apgd import apgd
from seg_mia.attacks.base import Adversarial
from seg_mia.attacks.certify import Certification, certify
from seg_mia.attacks.pgd import pgd
from seg_mia.errors import InputError
from seg_mia.metrics.certificates import abstained, needed, radius
from seg_mia.metrics.labels import IGNORE
from seg_mia.models.heads import predicted

SIGMA, TAU = 0.25, 0.75
RADIUS = radius(SIGMA, TAU)


class Linear(nn.Module):
    """One logit per pixel that is linear in the whole image: P(foreground) = Phi(z / (sigma |a|))."""

    def __init__(self, pixels: int, generator: torch.Generator) -> None:
        super().__init__()
        self.weight = torch.randn(pixels, pixels, generator=generator, dtype=torch.float64)
        self.offset = torch.randn(pixels, generator=generator, dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        logits = x.flatten(1).double() @ self.weight.T + self.offset
        return logits.view(len(x), 1, *x.shape[2:])


class Curve(nn.Module):
    """Logits of four classes that are waves of one grey value."""

    def __init__(self, generator: torch.Generator, classes: int = 4) -> None:
        super().__init__()
        self.rate, self.phase = 3 * torch.rand(2, classes, generator=generator, dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        waves = torch.sin(self.rate.view(-1, 1, 1) * x.double() + self.phase.view(-1, 1, 1))
        return waves.view(len(x), -1, *x.shape[2:])


def test_no_attack_within_the_radius_changes_a_class_of_a_linear_network() -> None:
    generator = torch.Generator().manual_seed(0)
    certain = 0
    for number in range(1000):
        network = Linear(9, generator)
        x = torch.rand(1, 1, 3, 3, generator=generator)
        mask = torch.zeros(1, 3, 3, dtype=torch.int64)
        found = certify(network, x, mask, sigma=SIGMA, tau=TAU, first=20, draws=100, seed=number, batch=128)
        clean = network(x)[0, 0].flatten()
        # The strongest change of a pixel's class is along its weights.
        steps = RADIUS * network.weight / network.weight.norm(dim=1, keepdim=True)
        attacked = (x.double().flatten() - clean.sign().unsqueeze(1) * steps).view(9, 1, 3, 3)
        moved = network(attacked).view(9, 9).diagonal()
        sure = ~abstained(found.possible)[0].flatten()
        assert torch.equal((moved[sure] > 0).long(), found.prediction[0].flatten()[sure])
        assert torch.equal(found.possible[0, 1].flatten()[sure], moved[sure] > 0)
        certain += int(sure.sum())
    assert certain > 1000  # of 9000


class Averaged(nn.Module):
    """Logarithm of the mean probabilities of a network on given noise: what an attacker of votes follows."""

    def __init__(self, network: nn.Module, noise: Tensor) -> None:
        super().__init__()
        self.network, self.noise = network, noise

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.network(image + self.noise).softmax(1).mean(0) for image in x]).log()


@pytest.mark.parametrize("count", [60, pytest.param(1000, marks=pytest.mark.slow)])
def test_no_attack_contradicts_the_certificate_of_a_random_network(count: int) -> None:
    generator = torch.Generator().manual_seed(4)
    noise = SIGMA * torch.randn(1024, 1, 4, 4, generator=generator)
    certain = moved = 0
    for number in range(count):
        with torch.random.fork_rng():
            torch.manual_seed(number)
            layers = nn.Conv2d(1, 5, 3, padding=1), nn.Tanh(), nn.Conv2d(5, 3, 3, padding=1)
        network = nn.Sequential(*layers).eval()
        nn.init.normal_(layers[0].weight, std=1.5, generator=generator)
        nn.init.normal_(layers[2].weight, generator=generator)
        x = torch.rand(1, 1, 4, 4, generator=generator)
        found = certify(network, x, torch.zeros(1, 4, 4).long(), sigma=SIGMA, tau=TAU, seed=number, batch=128)
        sure, label = ~abstained(found.possible), found.prediction
        averaged = Averaged(network.requires_grad_(False), noise[:16])
        clean = (predicted(network(x + noise)) == label).float().mean(0)
        attacks: tuple[Callable[..., Adversarial], ...] = (apgd, partial(pgd, step_size=RADIUS / 4))
        for attack in attacks:
            images = attack(averaged, x, label, norm="l2", epsilon=RADIUS, steps=5, loss="margin").images
            assert (images - x).norm() <= RADIUS * (1 + 1e-5)
            votes = (predicted(network(images + noise)) == label).float().mean(0)
            # Were the class of a certified pixel another one, its share of the votes would be below half.
            assert (votes[sure[0]] > 0.5 - 4 * 0.5 / len(noise) ** 0.5).all()
            moved += int((votes < clean - 0.05).sum())
        certain += int(sure.sum())
    assert certain > count  # of 16 pixels each
    assert moved > count


def test_false_certificates_of_whole_images_are_as_rare_as_promised() -> None:
    # Each pixel's logit is beyond 0 by just so much that its class has the probability tau: all are false.
    x, mask, alpha, images = torch.full((1, 1, 3, 3), 0.5 + RADIUS), torch.zeros(1, 3, 3).long(), 0.2, 250
    false = 0
    for seed in range(images):
        found = certify(Threshold(), x, mask, sigma=SIGMA, tau=TAU, alpha=alpha, seed=seed, batch=128)
        false += not abstained(found.possible).all()
    assert alpha / 4 < false / images
    assert stats.binom.sf(false - 1, images, alpha) > 0.01


class Threshold(nn.Module):
    """Class 1 above 0.5."""

    def forward(self, x: Tensor) -> Tensor:
        return x - 0.5


GRID = torch.linspace(-5, 5, 401, dtype=torch.float64)
WEIGHT = torch.exp(-(GRID**2) / 2) / torch.exp(-(GRID**2) / 2).sum()


def smoothed(network: nn.Module, grey: Tensor) -> Tensor:
    """The exact probability of every class under noise, (n, K), at grey values (n,)."""
    copies = (grey.view(-1, 1) + SIGMA * GRID).view(-1, 1, 1, 1)
    classes = predicted(network(copies)).view(len(grey), -1)
    return torch.stack([((classes == c).double() * WEIGHT).sum(1) for c in range(4)], 1)


@pytest.mark.parametrize("groups", [[], [[[0, 1], [2, 3]], [[0], [1, 2, 3]]]], ids=["classes", "groups"])
def test_no_grey_value_within_the_radius_changes_what_is_certified(groups: list[Any]) -> None:
    generator = torch.Generator().manual_seed(1)
    singles = larger = 0
    for number in range(300):
        network, x = Curve(generator), torch.rand(1, 1, 1, 1, generator=generator)
        thresholds = [0.3, 0.1][: len(groups)]
        found = certify(
            network, x, torch.zeros(1, 1, 1, dtype=torch.int64), sigma=SIGMA, tau=TAU, draws=150, seed=number,
            groups=groups, thresholds=thresholds, batch=160,
        )  # fmt: skip
        possible = found.possible[0, :, 0, 0]
        if possible.all():
            continue
        near = float(x) + torch.linspace(-RADIUS, RADIUS, 21, dtype=torch.float64)
        chance = smoothed(network, near)[:, possible].sum(1)
        assert (chance >= 0.5 - 1e-3).all()  # the certified set holds the majority everywhere
        singles, larger = singles + int(possible.sum() == 1), larger + int(possible.sum() > 1)
    assert singles > 20
    assert (larger > 10) == bool(groups)


class Wave(nn.Module):
    """Three classes by grey value: below 0.4, up to 0.6, above."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((0.4 - x, 0.1 - (x - 0.5).abs(), x - 0.6), 1) * 20


def test_the_test_counts_all_of_its_draws_at_every_level() -> None:
    # At n trials the count that is needed is known; with n - first trials it would be lower.
    x = torch.linspace(0, 1, 40).view(1, 1, 5, 8)
    mask = torch.zeros(1, 5, 8, dtype=torch.int64)
    found = certify(
        Wave(), x, mask, sigma=0.2, draws=60, first=20, groups=[[[0, 1], [2]]], thresholds=[0.9], alpha=0.05
    )
    assert set(found.level.flatten().tolist()) == {0, 1}
    sure = ~abstained(found.possible)
    strict, lax = (needed(trials, TAU, 0.05, 40) for trials in (60, 40))
    assert (found.votes[sure] >= needed(60, TAU, 0.05, 1)).all()
    assert sure[found.votes >= strict].all()
    assert not sure[found.votes < needed(60, TAU, 0.05, 1)].any()
    assert ((found.votes >= lax) & ~sure).any()
    assert (found.level[sure] == 1).any()


def test_ignored_pixels_are_neither_tested_nor_certified() -> None:
    x = torch.rand(2, 1, 4, 4, generator=torch.Generator().manual_seed(3))
    mask = torch.full((2, 4, 4), IGNORE)
    mask[:, 0] = 0
    found = certify(Wave(), x, mask, draws=50, batch=64)
    assert abstained(found.possible)[:, 1:].all()


def test_the_network_is_left_as_it_was() -> None:
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Dropout(), nn.Conv2d(4, 1, 1)
    )
    before = {name: value.clone() for name, value in network.state_dict().items()}
    x, mask = torch.rand(1, 1, 5, 5), torch.zeros(1, 5, 5, dtype=torch.int64)
    first, second = (certify(network, x, mask, draws=20).votes for _ in range(2))
    assert torch.equal(first, second)
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sigma": 0}, "sigma must be above 0"),
        ({"tau": 0.3}, "tau must lie in"),
        ({"draws": 0}, "draws and batch must be at least 1"),
        ({"groups": [[[0], [1, 2]]]}, "one for each of 1 partitions"),
        ({"groups": [[[0], [1]], [[0, 1]]], "thresholds": [0.1, 0.2]}, "falling"),
    ],
)
def test_settings_that_mean_nothing_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Certification(**options)


def test_groups_that_are_no_partition_are_refused() -> None:
    x, mask = torch.rand(1, 1, 2, 2), torch.zeros(1, 2, 2, dtype=torch.int64)
    with pytest.raises(InputError, match="each of the classes 0 to 2 once"):
        certify(Wave(), x, mask, groups=[[[0], [1]]], thresholds=[0.5])
