"""Attacks on networks of other shapes: several heads, smaller outputs, one logit or many; ignored pixels."""

from itertools import combinations

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from seg_mia.attacks.adain import Adain
from seg_mia.attacks.base import Perturbation
from seg_mia.attacks.certify import Certification
from seg_mia.attacks.targets import Targeted
from seg_mia.attacks.transfer import Transfer
from seg_mia.attacks.universal import Universal
from seg_mia.attacks.white_box import WhiteBox
from seg_mia.audit.attacks import built_attack
from seg_mia.config.files import find_config, known
from seg_mia.config.options import options_of
from seg_mia.experiment.attack_classes import is_certification
from seg_mia.metrics.labels import IGNORE
from tests.attacks.networks import discs, trained
from tests.attacks.test_contract import configured
from tests.attacks.test_contract_volumes import NAMES
from tests.texture_weights import by_rule

SHAPE = (36, 32)


class Net(nn.Module):
    """A smooth network; `heads` auxiliary outputs of half the size behind the final one.

    Args:
        classes: number of logits.
        heads: auxiliary heads.
        padded: whether outputs are as large as images; otherwise two pixels are lost on each side.
    """

    def __init__(self, classes: int, *, heads: int = 0, padded: bool = True) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.first = nn.Parameter(torch.randn(4, 3, 5, 5, generator=generator, dtype=torch.float64) / 4)
        self.last = nn.Parameter(3 * torch.randn(classes, 4, 1, 1, generator=generator, dtype=torch.float64))
        self.heads, self.padding = heads, 2 if padded else 0

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        hidden = torch.conv2d(x - 0.5, self.first, padding=self.padding).tanh()
        logits = torch.conv2d(hidden, self.last)
        if not self.heads:
            return logits
        return logits, *[nn.functional.avg_pool2d(logits, 2) for _ in range(self.heads)]


NETWORKS = {
    "auxiliary heads": Net(3, heads=2),
    "smaller output": Net(3, padded=False),
    "one logit": Net(1),
    "two logits": Net(2),
    "five logits": Net(5),
}


def data(network: Net) -> tuple[Tensor, Tensor]:
    """Return three images, and masks of the output's size with ignored pixels, in the last image all."""
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(3, 3, *SHAPE, generator=generator, dtype=torch.float64)
    lost = 4 - 2 * network.padding
    shape = (3, SHAPE[0] - lost, SHAPE[1] - lost)
    target = torch.randint(0, max(2, network.last.shape[0]), shape, generator=generator)
    target[:, 2:5] = IGNORE
    target[2] = IGNORE
    return x, target


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Very narrow auto-encoders."""
    return str(by_rule(tmp_path_factory.mktemp("weights"), widths=(2, 2, 3, 4, 4), first=2))


def attack_of(name: str, weights: str, classes: int) -> Perturbation:
    """Return an attack as its config names it, shortened."""
    attack = configured(name)
    if isinstance(attack, Universal):
        return configured(name, epochs=1, tiles="[8]")
    if isinstance(attack, Adain):
        return configured(name, weights=weights, organs=str(list(range(1, max(2, classes)))))
    short: dict[str, float] = {"steps": 3, "queries": 8, "tau": 0.01, "beta": 0.01}
    return configured(name, **{key: value for key, value in short.items() if key in attack.settings})


@pytest.mark.parametrize("network", NETWORKS.values(), ids=list(NETWORKS))
@pytest.mark.parametrize("name", NAMES)
def test_every_attack_runs_on_every_kind_of_network(name: str, network: Net, weights: str) -> None:
    attack, (x, target) = attack_of(name, weights, network.last.shape[0]), data(network)
    if isinstance(attack, Universal):
        attack.fit(network, x, target)
    result = attack.run(network, x, target)
    assert result.images.shape == x.shape
    assert result.images.isfinite().all()
    assert result.images.min() >= 0
    assert result.images.max() <= 1
    if isinstance(attack, WhiteBox):
        assert (result.images[:2] != x[:2]).flatten(1).any(1).all(), "each image with a mask is changed"
    assert all(note.shape == (3,) for note in result.notes.values())
    if not isinstance(attack, Universal):
        alone = attack.run(network, x[:1], target[:1])
        assert_close(result.images[:1], alone.images, atol=1e-9, rtol=0)


class Elsewhere(nn.Module):
    """A network with another prediction in the rows that are ignored."""

    def __init__(self, network: Net) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        logits = self.network(x)
        assert isinstance(logits, Tensor)
        other = torch.zeros(1, logits.shape[1], *logits.shape[2:], dtype=logits.dtype)
        other[:, 0, 2:5] = 30
        return logits + other


@pytest.mark.parametrize("name", NAMES)
def test_predictions_of_ignored_pixels_have_no_influence(name: str, weights: str) -> None:
    network = Net(3)
    attack, (x, target) = attack_of(name, weights, 3), data(network)
    if isinstance(attack, Transfer):
        attack = configured(name, steps=3, diverse=0.0)  # a smaller copy moves the ignored pixels
    found = []
    for model in (network, Elsewhere(network)):
        if isinstance(attack, Universal):
            attack.fit(model, x[:2], target[:2])
        found.append(attack.run(model, x[:2], target[:2]).images)
    assert_close(found[0], found[1], atol=1e-9, rtol=0)


CERTIFICATIONS = [name for name in known("attack") if is_certification(str(find_config(name, "attack")))]


def certification(name: str) -> Certification:
    """Return a certification as its config names it, with fewer draws."""
    options = options_of("attack.", {"draws": 60, "sigma": 0.02})
    built = built_attack(str(find_config(name, "attack")), options)
    assert isinstance(built, Certification)
    return built


@pytest.mark.parametrize("network", NETWORKS.values(), ids=list(NETWORKS))
@pytest.mark.parametrize("name", CERTIFICATIONS)
def test_every_certification_runs_on_every_kind_of_network(name: str, network: Net) -> None:
    attack, (x, target) = certification(name), data(network)
    found = attack.run(network, x, target)
    assert found.possible.shape == (3, max(2, network.last.shape[0]), *target.shape[1:])
    assert found.prediction.shape == found.votes.shape == found.level.shape == target.shape
    single = found.possible.sum(1) == 1
    assert single[:2].any(), "some pixels are certified"
    assert not single[target == IGNORE].any(), "pixels that are ignored are not tested"
    assert found.possible.gather(1, found.prediction.unsqueeze(1)).all()
    alone = attack.run(network, x[:1], target[:1])
    for part in ("possible", "prediction", "votes", "level"):
        assert torch.equal(getattr(found, part)[:1], getattr(alone, part))


@pytest.mark.parametrize("name", CERTIFICATIONS)
def test_ignored_pixels_have_no_influence_on_certificates(name: str) -> None:
    network = Net(3)
    x, target = data(network)
    first, second = (certification(name).run(model, x, target) for model in (network, Elsewhere(network)))
    tested = target != IGNORE
    assert torch.equal(first.votes[tested], second.votes[tested])
    assert torch.equal(first.possible.movedim(1, -1)[tested], second.possible.movedim(1, -1)[tested])


class FirstChannel(nn.Module):
    """A network of one channel for images of several."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.network(x[:, :1])
        return output


def test_no_two_attacks_return_the_same_images(weights: str) -> None:
    # Of these images `sea` keeps another loss than that of `apgd` for some, else the two may be equal.
    grey, truth = discs(6, 5, size=32)
    x, network = grey.expand(-1, 3, -1, -1).contiguous(), FirstChannel(trained())
    images = dict[str, Tensor]()
    for name in NAMES:
        attack = attack_of(name, weights, 1)
        if isinstance(attack, Universal):
            attack.fit(network, x, truth)
        images[name] = attack.run(network, x, truth.flip(0) if isinstance(attack, Targeted) else truth).images
    same = [pair for pair in combinations(images, 2) if torch.equal(images[pair[0]], images[pair[1]])]
    assert same == []
    assert [name for name, changed in images.items() if torch.equal(changed, x)] == []
