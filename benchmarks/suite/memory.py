"""Memory that the tensors of an attack hold at once, counted exactly, and what checkpointing saves of it."""

import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.suite.held_memory import held_bytes
from benchmarks.suite.pairs import Figure
from benchmarks.suite.sizes import Sizes
from seg_mia.attacks.adain import adain
from seg_mia.attacks.alma_prox import alma_prox
from seg_mia.attacks.apgd import apgd
from seg_mia.attacks.asma import asma
from seg_mia.attacks.certify import certify
from seg_mia.attacks.frequency import frequency
from seg_mia.attacks.medis import medis
from seg_mia.attacks.pgd import cospgd, fgsm, pgd, segpgd
from seg_mia.attacks.robustness_curve import robustness_curve
from seg_mia.attacks.sea import sea
from seg_mia.attacks.square import square
from seg_mia.attacks.transfer import transfer
from seg_mia.attacks.trigger import trigger
from seg_mia.attacks.universal import universal
from seg_mia.models.memory import recompute_features
from seg_mia.models.smp import Smp
from seg_mia.models.style_autoencoder import TextureAutoEncoders

COMPRESSED = (16, 32, 64, 128, 128)
"""Channels of the compressed texture auto-encoders (Wang et al. 2020)."""
STEPS = 3
"""Of an attack: each holds the same memory."""
MIB = 2**20
CHECKPOINTED = "pgd, --model.checkpointing true"
Attack = Callable[[nn.Module, Tensor, Tensor], object]


@torch.no_grad()
def answered(model: nn.Module, x: Tensor, target: Tensor) -> None:  # noqa: ARG001
    """Query the network."""
    model(x)


def textured(model: nn.Module, x: Tensor, target: Tensor) -> None:
    """Run `adain` with compressed auto-encoders of random weights."""
    adain(model, x, target, pairs=TextureAutoEncoders(widths=COMPRESSED).eval())


def checkpointed(model: nn.Module, x: Tensor, target: Tensor) -> None:
    """Run `pgd` on a network that computes its features again for the gradient."""
    recompute_features(model)
    pgd(model, x, target, steps=STEPS)


ATTACKS: Mapping[str, Attack] = {
    "a query, for comparison": answered,
    "fgsm": fgsm,
    "pgd": partial(pgd, steps=STEPS),
    CHECKPOINTED: checkpointed,
    "segpgd": partial(segpgd, steps=STEPS),
    "cospgd": partial(cospgd, steps=STEPS),
    "apgd": partial(apgd, steps=STEPS),
    "sea": partial(sea, steps=STEPS),
    "alma-prox": partial(alma_prox, steps=STEPS),
    "asma": partial(asma, steps=STEPS),
    "medis, six losses": partial(medis, steps=STEPS),
    "frequency": partial(frequency, steps=STEPS),
    "universal": partial(universal, epochs=1, tiles=(16,)),
    "transfer": partial(transfer, steps=STEPS),
    "robustness-curve": partial(robustness_curve, steps=1, radii=(1.0, 8.0)),
    "square": partial(square, queries=STEPS),
    "adain": textured,
    "trigger": trigger,
    "certify, 32 copies at once": partial(certify, first=2, draws=32, batch=32),
}
"""Attacks by the name of their config, with what follows a comma; all but the membership attacks."""


def network() -> nn.Module:
    """Return the attacked network, with random weights."""
    torch.manual_seed(0)
    return Smp(encoder="resnet18", channels=1, classes=1).eval()


def samples(side: int, count: int) -> tuple[Tensor, Tensor]:
    """Return images of noise, (N, 1, H, W), whose masks are a square."""
    draw = torch.Generator().manual_seed(0)
    target = torch.zeros(count, side, side, dtype=torch.int64)
    target[:, side // 4 : side // 2, side // 4 : side // 2] = 1
    return torch.rand(count, 1, side, side, generator=draw), target


def held(attack: Attack, side: int, count: int) -> float:
    """Return the MiB that tensors made by an attack hold at once, network and images not included."""
    return held_bytes(attack, network(), *samples(side, count)) / MIB


def figures(sizes: Sizes, repeats: int) -> Iterator[Figure]:
    """Yield what an image takes in attacks with gradients, and what checkpointing saves and costs."""
    few, many = sizes.images, 2 * sizes.images
    each = {
        name: (held(ATTACKS[name], sizes.side, many) - held(ATTACKS[name], sizes.side, few)) / (many - few)
        for name in ("pgd", CHECKPOINTED, "medis, six losses")
    }
    for name in ("pgd", CHECKPOINTED):
        yield Figure(f"memory of a further image, {name}", "MiB", [each[name]])
    share = each["medis, six losses"] / each["pgd"]
    yield Figure("memory of a further image, six losses of MedIS by PGD", "", [share], limit=1.5)
    yield Figure("time of PGD, checkpointed by plain", "", slower(sizes, repeats))


def slower(sizes: Sizes, repeats: int) -> list[float]:
    """Return how many times as long PGD takes with features computed again, in processor time."""
    plain, again = network(), network()
    recompute_features(again)
    images = samples(sizes.side, sizes.images)
    for model in (plain, again):  # the first pass prepares kernels
        pgd(model, *images, steps=1)
    ratios = []
    for _ in range(repeats):
        spent = []
        for model in (plain, again):
            begun = time.process_time()
            pgd(model, *images, steps=STEPS)
            spent.append(time.process_time() - begun)
        ratios.append(spent[1] / spent[0])
    return sorted(ratios)
