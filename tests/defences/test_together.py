"""What every defence keeps: who goes with whom, what a card says of it, what is refused."""

from collections.abc import Callable
from copy import deepcopy
from itertools import combinations, product
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from seg_mia.checkpoint import build
from seg_mia.config.files import config_folder, read_yaml
from seg_mia.config.spec import ClassSpec
from seg_mia.data.base import SegmentationData
from seg_mia.data.samples import Batch
from seg_mia.defences.adversarial import AdversarialTraining
from seg_mia.defences.base import Defence, check_together, traits_of, wrapped, wrapped_spec
from seg_mia.defences.canaries import Canaries
from seg_mia.defences.crop import Crop
from seg_mia.defences.distil import Distil
from seg_mia.defences.dp.dpsgd import DPSGD
from seg_mia.defences.minmax import MinMax
from seg_mia.defences.mixup import MixUp
from seg_mia.defences.noise import GaussianNoise
from seg_mia.defences.poison import Poison
from seg_mia.defences.release import (
    ArgmaxRelease,
    NoisyRelease,
    RoundedRelease,
    SmoothedRelease,
    TopRelease,
)
from seg_mia.defences.traits import RULES, Trait
from seg_mia.errors import InputError

RELEASES: list[type[Defence]] = [ArgmaxRelease, TopRelease, RoundedRelease, NoisyRelease, SmoothedRelease]
ALL: list[type[Defence]] = [
    Crop,
    MixUp,
    MinMax,
    Distil,
    Poison,
    Canaries,
    DPSGD,
    AdversarialTraining,
    GaussianNoise,
    *RELEASES,
]
REFUSED: list[tuple[type[Defence], type[Defence], str]] = [
    (MinMax, Crop, "compares whole members with reference images, but crops show a part of each image"),
    (MinMax, MixUp, "compares whole members .*, but mix-up shows two images side by side"),
    (MinMax, AdversarialTraining, "compares whole members .*, but adversarial training shows perturbed"),
    (MinMax, GaussianNoise, "compares whole members .*, but noise changes every image"),
    (
        AdversarialTraining,
        GaussianNoise,
        r"adversarial training perturbs images within \[0, 1\], but noise leads out of it",
    ),
    (
        MinMax,
        Distil,
        "can serve one purpose, (?=.*classifier takes them for non-members).*student learns from",
    ),
    (
        MinMax,
        Canaries,
        "can serve one purpose, (?=.*classifier takes them for non-members).*canaries are taken from",
    ),
    (
        Distil,
        Canaries,
        "can serve one purpose, (?=.*student learns from them).*canaries are taken from",
    ),
    (
        Poison,
        Distil,
        "the trigger is inserted into members, but the student learns only from reference images",
    ),
    (
        Poison,
        Canaries,
        "the trigger is inserted into members, but canaries are trained on but are not members",
    ),
    (DPSGD, MixUp, "must not depend on others, but each image is mixed with another of its batch"),
    (DPSGD, MinMax, "must not depend on others, but the min-max classifier is trained on all members"),
    (DPSGD, Distil, "the teacher was trained on the members without noise, and epsilon would be"),
    *((first, second, "a victim has one kind of output") for first, second in combinations(RELEASES, 2)),
    *((kind, kind, "it may be given only once") for kind in ALL),
]
"""Every pair that does not go together, and what the line says of it."""
NETWORK: ClassSpec = {
    "class_path": "seg_mia.models.smp.Smp",
    "init_args": {"encoder": "tu-test_resnet", "channels": 1, "classes": 3, "depth": 3},
}


def without_reference(masks: tuple[int, int] = (6, 8)) -> SegmentationData:
    """Stand in for a data module of one image of 6x8 whose half has no reference images."""
    stored = SimpleNamespace(images=np.zeros((1, 6, 8, 3)), masks=np.zeros((1, *masks)))
    parts = {"members": np.array([0]), "reference": np.array([], dtype=np.int64)}
    part = parts.__getitem__
    return cast(
        SegmentationData, SimpleNamespace(cached=stored, indices=part, scored=part, role="victim", patch=None)
    )


def test_all_that_ships_is_tried() -> None:
    files = [file for kind in ("defence", "release") for file in (config_folder() / kind).glob("*.yaml")]
    assert {read_yaml(str(file))["class_path"].rpartition(".")[2] for file in files} == {
        kind.__name__ for kind in ALL
    }


def test_exactly_these_pairs_are_refused_in_either_order() -> None:
    expected = {pair for first, second, _ in REFUSED for pair in ((first, second), (second, first))}
    refused = set()
    for first, second in product(ALL, ALL):
        try:
            check_together([first(), second()])
        except InputError:
            refused.add((first, second))
    assert refused == expected


@pytest.mark.parametrize(("first", "second", "reason"), REFUSED)
def test_why_a_pair_is_refused_is_one_line(first: type[Defence], second: type[Defence], reason: str) -> None:
    for pair in ((first, second), (second, first)):
        names = " and ".join(kind.__name__ for kind in pair)
        line = f"^{names} are incompatible: [^{{}}\n]*{reason}[^{{}}\n]*; leave one out$"
        with pytest.raises(InputError, match=line):
            check_together([kind() for kind in pair])


class Penalising(Defence):
    """Adds to the loss, and declares no trait."""

    def penalty(self, logits: Tensor, batch: Batch, network: nn.Module) -> Tensor:
        del batch, network
        return logits.flatten(1).mean(1)


class Taught(Defence):
    """Has a teacher, and declares no trait."""

    teacher = "tutor"


def test_what_follows_from_a_hook_need_not_be_declared() -> None:
    assert set(traits_of(Penalising())) == {Trait.ADDS_PENALTY}
    with pytest.raises(InputError, match="a penalty on the whole batch"):
        check_together([Penalising(), DPSGD()])
    with pytest.raises(InputError, match="the tutor was trained on the members without noise"):
        check_together([DPSGD(), Taught()])
    check_together([Penalising(), Taught(), Defence()])


def test_every_trait_is_in_a_rule() -> None:
    assert {trait for rule in RULES for trait in (rule.first, rule.second)} == set(Trait)


def test_a_pair_is_refused_wherever_it_stands() -> None:
    check_together([])
    check_together([Crop(), MixUp(), Poison(), ArgmaxRelease()])
    with pytest.raises(InputError, match="^Distil and Poison are incompatible: .*; leave one out$"):
        check_together([Distil(), Crop(), ArgmaxRelease(), Poison()])
    with pytest.raises(
        InputError, match="^NoisyRelease and NoisyRelease are incompatible: it may be given only once"
    ):
        check_together([NoisyRelease(seed=1), Crop(), NoisyRelease(seed=2)])


@pytest.mark.parametrize(
    "defences",
    [
        [Crop()],
        [Crop(size=9), RoundedRelease(digits=2)],
        [NoisyRelease(sigma=0.3, seed=4), Crop(size=16)],
        [MixUp(), TopRelease(), Poison()],
        [ArgmaxRelease()],
    ],
)
def test_the_specification_describes_what_is_built(defences: list[Defence]) -> None:
    given = deepcopy(NETWORK)
    made = wrapped(build(given), defences)
    again = build(wrapped_spec(given, defences))
    assert given == NETWORK
    assert [type(part) for part in again.modules()] == [type(part) for part in made.modules()]
    again.load_state_dict(made.state_dict())
    x = torch.rand(2, 1, 32, 40, generator=torch.Generator().manual_seed(0))
    assert torch.equal(again.eval()(x), made.eval()(x))


def test_the_first_defence_stands_innermost_and_some_stand_nowhere() -> None:
    spec = wrapped_spec(NETWORK, [Crop(size=5), MixUp(), ArgmaxRelease()])
    inner = {"class_path": "seg_mia.models.stitched.Stitched", "init_args": {"network": NETWORK, "size": 5}}
    assert spec == {"class_path": "seg_mia.models.released.ArgmaxNetwork", "init_args": {"network": inner}}
    network, bare = nn.Identity(), [MixUp(), MinMax(), Poison(), Distil()]
    assert wrapped_spec(NETWORK, bare) == NETWORK
    assert wrapped(network, bare) is network


NAN = float("nan")
BAD: list[tuple[type[Defence], str, list[float]]] = [
    (Crop, "size", [0, -1]),
    (MixUp, "alpha", [0.0, -1.0, float("inf"), NAN]),
    (Poison, "size", [0]),
    (Poison, "value", [-0.1, 1.1, NAN]),
    (Poison, "probability", [-0.1, 1.1, NAN]),
    (MinMax, "weight", [0.0, NAN]),
    (MinMax, "lr", [-1.0, NAN]),
    (MinMax, "batch_size", [1]),
    (Distil, "max_loss", [0.0, NAN]),
    (RoundedRelease, "digits", [-1, 7]),
    (NoisyRelease, "sigma", [0.0, NAN]),
    (GaussianNoise, "sigma", [0.0, -1.0, NAN]),
    (AdversarialTraining, "epsilon", [0.0, NAN]),
    (AdversarialTraining, "step_size", [-0.1, NAN]),
    (AdversarialTraining, "steps", [0]),
    (SmoothedRelease, "sigma", [0.0, NAN]),
    (SmoothedRelease, "tau", [0.4, 1.0, NAN]),
]


@pytest.mark.parametrize(("kind", "name", "value"), [(k, n, value) for k, n, bad in BAD for value in bad])
def test_settings_that_mean_nothing_are_refused_in_one_line(
    kind: Callable[..., Defence], name: str, value: float
) -> None:
    with pytest.raises(InputError, match=rf"must .*got .*{value}") as refusal:
        kind(**{name: value})
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("defence", "where", "message"),
    [
        (Crop(size=6), without_reference(), "smaller than the images of 6x8, got size 6"),
        (Crop(), without_reference(masks=(4, 8)), "masks as large as the images"),
        (Poison(size=6), without_reference(), "inside the image of 6x8, got size 6"),
        (MinMax(), without_reference(), "no reference images, and the min-max classifier"),
        (Distil(), without_reference(), "no reference images, and distillation"),
    ],
)
def test_data_that_do_not_allow_a_defence_are_refused(
    defence: Defence, where: SegmentationData, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        defence.check(where)
