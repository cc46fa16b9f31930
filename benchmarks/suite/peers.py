"""Other libraries as their documentation calls them; a library that is not installed is left out.

python -m pip install --no-deps torchattacks==3.5.1 adv-lib==0.2.8 visdom
"""

import warnings
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.suite.asma_pairs import Victim
from benchmarks.suite.attacks import victim
from benchmarks.suite.pairs import Pair
from benchmarks.suite.sizes import Sizes
from seg_mia.attacks.asma import asma
from seg_mia.attacks.pgd import pgd
from seg_mia.grad_sample.clipping import clipped_sum
from seg_mia.models.heads import class_logits, predicted
from seg_mia.models.smp import Smp

LIBRARIES = {"torchattacks": "torchattacks", "adv_lib.attacks.segmentation": "adv-lib", "opacus": "opacus"}
"""Package names by module."""
CLIP = 1.0
TAU = 1e-6


def missing(module: str) -> str | None:
    """Return why a module cannot be imported; None if it can."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import_module(module)
    except ImportError as error:
        return f"{LIBRARIES[module]}: {error} (python -m pip install {LIBRARIES[module]})"
    return None


def skipped() -> list[str]:
    """Return a reason for each library that is not measured."""
    return [reason for module in LIBRARIES if (reason := missing(module))]


def pairs(sizes: Sizes) -> Iterator[Pair]:
    """Yield the pairs with the installed libraries."""
    trained = victim(sizes)
    makers: tuple[Callable[[Victim, Sizes], Pair], ...] = (_pgd_pair, _asma_pair, _private_pair)
    for module, maker in zip(LIBRARIES, makers, strict=True):
        if missing(module) is None:
            yield maker(trained, sizes)


class TwoClasses(nn.Module):
    """A network of one logit with one map per class, as other libraries expect."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, 2, H, W)."""
        return class_logits(self.network(x))


def _pgd_pair(trained: Victim, sizes: Sizes) -> Pair:
    """Return PGD without a random start; a mean over the batch has the signs of a mean for each image."""
    model, (images, masks) = TwoClasses(trained.model).eval(), (trained.images, trained.targets)
    library: Any = import_module("torchattacks")
    other = library.PGD(model, eps=8 / 255, alpha=2 / 255, steps=sizes.steps, random_start=False)
    return Pair(
        "PGD, torchattacks",
        lambda: pgd(model, images, masks, epsilon=8 / 255, step_size=2 / 255, steps=sizes.steps).images,
        lambda: other(images, masks),
        "torchattacks.PGD, which does not evaluate its result",
        0.9,
        _other_pixels,
        0.01,
    )


def _asma_pair(trained: Victim, sizes: Sizes) -> Pair:
    """Return ASMA with constant steps: the library's IoU counts the background and is that of the batch.

    It keeps the best iterate by pixel accuracy, which is compared.
    """
    model, targets = TwoClasses(trained.model).eval(), trained.targets
    images = 0.25 + trained.images / 2
    other = import_module("adv_lib.attacks.segmentation").asma
    steps = sizes.steps

    @torch.no_grad()
    def accuracy(adversarial: Tensor) -> float:
        return float((predicted(model(adversarial)) == targets).double().mean())

    return Pair(
        "ASMA, adversarial-library",
        lambda: asma(model, images, targets, steps=steps - 1, tau=TAU, beta=0.0, keep="last").images,
        lambda: other(model, images, targets, targeted=True, num_steps=steps, τ=TAU, β=0.0),
        "adv_lib.attacks.segmentation.asma, constant steps",
        0.9,
        lambda ours, theirs: abs(accuracy(ours) - accuracy(theirs)),
        0.02,
    )


def _private_pair(trained: Victim, sizes: Sizes) -> Pair:
    """Return one step of clipped gradients, without noise, in float32."""
    torch.manual_seed(0)
    images = trained.images.repeat(4, 1, 1, 1)[..., : sizes.side // 2, : sizes.side // 2]
    masks = trained.targets.repeat(4, 1, 1)[:, : sizes.side // 2, : sizes.side // 2].unsqueeze(1).float()
    network = _without_inplace(Smp(encoder="resnet18", channels=1, norm="group"))
    parameters = dict(network.named_parameters())

    def losses(logits: Tensor, rows: Tensor) -> Tensor:
        maps = functional.binary_cross_entropy_with_logits(logits, masks[rows], reduction="none")
        return maps.flatten(1).mean(1)

    def ours() -> Tensor:
        clipped = clipped_sum(
            lambda rows: losses(network(images[rows]), rows),
            parameters,
            torch.arange(len(images)),
            clip=CLIP,
            physical=len(images),
            mode="fused",
        )
        return torch.cat([clipped.sums[name].flatten() for name in parameters])

    return Pair(
        "DP-SGD step, Opacus",
        ours,
        _opacus_step(network, images, losses),
        "opacus.GradSampleModule with hooks, gradients clipped and summed",
        2.0,
        lambda ours, theirs: float((ours - theirs).norm() / theirs.norm()),
        1e-3,
    )


def _opacus_step(
    network: nn.Module, images: Tensor, losses: Callable[[Tensor, Tensor], Tensor]
) -> Callable[[], Tensor]:
    """Return a step by Opacus on a copy of the network, in which nothing is changed in place."""
    import copy

    from benchmarks.private_step import OutOfPlace

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        watched = import_module("opacus").GradSampleModule(
            copy.deepcopy(network), loss_reduction="sum", strict=False
        )

    def step() -> Tensor:
        watched.zero_grad()
        with OutOfPlace():
            loss = losses(watched(images), torch.arange(len(images))).sum()
        torch.autograd.backward(loss)
        samples = [parameter.grad_sample.flatten(1) for parameter in watched._module.parameters()]
        norms = torch.stack([part.norm(dim=1) for part in samples]).norm(dim=0)
        factors = (CLIP / norms).clamp(max=1)
        return torch.cat([factors @ part for part in samples])

    return step


def _without_inplace(network: nn.Module) -> nn.Module:
    for module in network.modules():
        if hasattr(module, "inplace"):
            module.inplace = False  # type: ignore[assignment]  # of activations
    return network


def _other_pixels(ours: Tensor, theirs: Tensor) -> float:
    """Return the share of pixels that differ: rounding may turn the sign of a tiny gradient."""
    return float(((ours - theirs).abs() > 1e-4).double().mean())
