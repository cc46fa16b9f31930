"""Labels that may overlap: a network with a sigmoid for each, trained, attacked and scored on the phantom."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch import Tensor, nn
from torch.testing import assert_close

from seg_mia.attacks.adain import check_channels, organ_ids
from seg_mia.attacks.base import Adversarial, Perturbation
from seg_mia.attacks.best import mask_dice
from seg_mia.attacks.pgd import pgd
from seg_mia.callbacks.scores import measures
from seg_mia.data.predictions import is_reproducible
from seg_mia.data.reference_masks import reference_ids
from seg_mia.data.sets.phantom import Phantom
from seg_mia.data.signal_values import _described, _paths
from seg_mia.errors import InputError
from seg_mia.losses import LOSSES, label_dice_bce_loss
from seg_mia.membership.label_signals import PerLabel, of_classes
from seg_mia.membership.signals import (
    ImageAndMask,
    ImageDice,
    ImageLoss,
    LossMap,
    Posterior,
    PosteriorAndMask,
)
from seg_mia.metrics.label_sets import LabelSets, label_masks, label_names
from seg_mia.metrics.overlap import foreground_dice_per_class
from seg_mia.models.heads import class_count, measuring, predicted
from seg_mia.models.label_logits import set_logits
from seg_mia.models.one_head import OneHead
from seg_mia.tasks.head_choice import choose_head
from seg_mia.tasks.perturbation import PerturbationTest
from seg_mia.tasks.sample_check import check_one_sample
from seg_mia.tasks.sanity_check import warning
from seg_mia.tasks.segmentation import Segmentation
from seg_mia.tasks.targets import without

pytestmark = pytest.mark.filterwarnings("ignore:.*already saved during checkpointing")

CONFIGS = Path(__file__).resolve().parents[2] / "lightning_configs"
REGIONS: Any = {"organs": [1, 2, 3, 4, 5], "liver": [4]}
SETS = LabelSets(tuple(REGIONS))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Phantom:
    folder = tmp_path_factory.mktemp("cache")
    module = Phantom(
        patients=32,
        slices=1,
        size=32,
        task="organs",
        regions=REGIONS,
        members=8,
        nonmembers=8,
        cache=str(folder),
    )
    module.prepare_data()
    module.setup()
    return module


def network(labels: int = 2) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 16, 5, padding=2),
        nn.ReLU(),
        nn.Conv2d(16, 16, 5, padding=4, dilation=2),
        nn.ReLU(),
        nn.Conv2d(16, labels, 5, padding=4, dilation=2),
    )


def samples(data: Phantom) -> tuple[Tensor, Tensor]:
    chosen = data.dataset(data.indices("members"))
    drawn = [chosen[0, position] for position in range(8)]
    return torch.stack([sample.image for sample in drawn]), torch.stack([sample.mask for sample in drawn])


@pytest.fixture(scope="module")
def victim(data: Phantom) -> nn.Module:
    model = OneHead(network(), gives="multilabel")
    images, masks = samples(data)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(120):
        optimizer.zero_grad()
        label_dice_bce_loss(model(images)[0], masks).mean().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return model.eval()


def test_masks_are_the_sets_of_regions(data: Phantom) -> None:
    assert data.source.classes == 4
    plain = Phantom(patients=32, slices=1, size=32, task="organs", members=8, nonmembers=8).read_source()
    organs, sets = plain.decode(3)[1], data.source.decode(3)[1]
    assert (sets & 1 == (organs > 0)).all()
    assert (sets >> 1 & 1 == (organs == 4)).all()
    assert set(data.source.settings) == {"size", "task", "regions"}


def test_training_learns_each_label(data: Phantom, victim: nn.Module) -> None:
    images, masks = samples(data)
    with torch.no_grad():
        prediction = predicted(victim(images)[0])
    values = measures({"prediction": prediction}, masks, data.source.classes)
    assert {"dice", "iou", "pixel_accuracy", "dice_organs", "dice_liver"} == set(values)
    assert values["dice_organs"].mean() > 0.7
    assert values["dice_liver"].mean() > 0.7
    assert_close(values["dice"].mean(), (values["dice_organs"] + values["dice_liver"]).mean() / 2)


def test_an_attack_on_one_label_lowers_its_dice_and_the_other_less(data: Phantom, victim: nn.Module) -> None:
    images, masks = samples(data)
    target = without(masks, 0b01, data.source.classes)
    assert not (target & 1).any()
    assert torch.equal(target >> 1, masks >> 1)
    attacked = pgd(victim, images, target, targeted=True, epsilon=0.2, step_size=0.01, steps=60).images
    with torch.no_grad():
        before, after = (
            foreground_dice_per_class(predicted(victim(x)[0]), masks, data.source.classes).nanmean(0)
            for x in (images, attacked)
        )
    organs, liver = (before - after).tolist()
    assert organs > 0.15
    assert liver < organs / 2


def test_of_exclusive_classes_one_class_is_removed() -> None:
    masks = torch.tensor([[[0, 1, 2, 255]]])
    assert without(masks, 2, 3).tolist() == [[[0, 1, 0, 255]]]
    assert without(torch.tensor([[[0, 3, 2, 255]]]), 0b10, SETS).tolist() == [[[0, 1, 0, 255]]]


def test_a_sigmoid_for_each_label_is_detected(data: Phantom) -> None:
    task = Segmentation(network(), loss="label_dice_bce")
    task.check(data)
    task.choose_output(data, trained=False)
    assert (task.gives, task.hparams["gives"]) == ("multilabel", "multilabel")
    check_one_sample(task.network, data)
    with torch.no_grad():
        assert task(torch.rand(1, 1, 32, 32)).shape == (1, 4, 32, 32)
    assert choose_head(network(), data, trained=False) is None


def test_losses_that_compare_sets_as_classes_are_refused(data: Phantom) -> None:
    with pytest.raises(InputError, match=r"may overlap \(organs, liver\).*set --model.loss label_dice_bce"):
        Segmentation(network(), loss="dice").check(data)
    exclusive = Phantom(patients=32, slices=1, size=32, task="organs", members=8, nonmembers=8)
    exclusive.setup()
    with pytest.raises(InputError, match="exclude each other"):
        Segmentation(network(), loss="label_dice_bce").check(exclusive)


def test_a_network_of_other_channels_is_refused(data: Phantom) -> None:
    with pytest.raises(InputError, match=r"has 3 channels, the data has 2 labels .* to 2, a logit for each"):
        check_one_sample(network(3), data)


def test_signals_are_those_of_each_label_as_a_binary_network() -> None:
    draw = torch.Generator().manual_seed(0)
    z = torch.randn((3, 2, 5, 6), generator=draw)
    mask = torch.randint(0, 4, (3, 5, 6), generator=draw)
    image, bits = torch.rand(3, 1, 5, 6), label_masks(mask, 2)
    maps = of_classes(Posterior(), SETS)(set_logits(z), image, mask)
    assert_close(maps, z.sigmoid())
    both = of_classes(PosteriorAndMask(), SETS)(set_logits(z), image, mask)
    assert_close(both[:, [0, 2]], z.sigmoid())
    assert_close(both[:, [1, 3]], bits.float())
    assert of_classes(LossMap(), SETS)(set_logits(z), image, mask).shape == (3, 2, 5, 6)
    loss = of_classes(ImageLoss(loss="dice_cross_entropy"), SETS)(set_logits(z), image, mask)
    assert_close(loss, label_dice_bce_loss(set_logits(z), mask))
    dice = of_classes(ImageDice(), SETS)(set_logits(z), image, mask)
    hits = foreground_dice_per_class(predicted(set_logits(z)), mask, SETS)
    assert_close(1 - dice, hits.mean(1))
    blind = ImageAndMask()
    assert of_classes(blind, SETS) is blind
    assert of_classes(Posterior(), 4) == Posterior()
    assert isinstance(of_classes(Posterior(), SETS), PerLabel)


def test_a_set_is_not_a_label_for_the_loss_of_sets() -> None:
    # One pixel with both labels, of which one is predicted: sets disagree, one of two labels agrees.
    z, mask = torch.tensor([20.0, -20.0]).view(1, 2, 1, 1), torch.full((1, 1, 1), 3)
    assert LOSSES["dice"](set_logits(z), mask).item() > 0.3
    assert_close(
        LOSSES["label_dice"](set_logits(z), mask), torch.tensor([(0 + 1 / 2) / 2]), atol=1e-5, rtol=0
    )


def test_the_config_builds_the_regions(tmp_path: Path) -> None:  # as of the file of the same name
    content = yaml.safe_load((CONFIGS / "phantom_regions_victim.yaml").read_text())
    options = content["data"]["init_args"] | {"cache": str(tmp_path)}
    assert Phantom(**options).read_source().classes == 8


def test_overlaps_inside_attacks_are_those_of_labels() -> None:
    draw = torch.Generator().manual_seed(0)
    logits = set_logits(torch.randn((2, 2, 5, 6), generator=draw))
    mask = torch.randint(0, 4, (2, 5, 6), generator=draw)
    of_sets = mask_dice(logits, mask)
    of_labels = foreground_dice_per_class(predicted(logits), mask, SETS).mean(1)
    with measuring(SETS):
        assert_close(mask_dice(logits, mask), of_labels)
        assert type(class_count(torch.zeros(1, 3, 2, 2))) is int  # of another network
    assert not torch.isclose(of_sets, of_labels).any()
    assert_close(mask_dice(logits, mask), of_sets)


def test_the_texture_attack_is_refused() -> None:
    with pytest.raises(InputError, match=r"labels that may overlap \(organs, liver\) have none"):
        organ_ids(torch.zeros(1, 16, 16, dtype=torch.int64), [6], SETS, (16, 16))
    with pytest.raises(InputError, match="grey or RGB images, got 4 channels"):
        check_channels(torch.zeros(1, 4, 16, 16))


def test_a_deployed_systems_ids_become_sets(data: Phantom, tmp_path: Path) -> None:
    ids = np.array([[0, 1, 4], [5, 9, 2]], np.uint16)
    Image.fromarray(ids).save(tmp_path / "mask.png")
    read = reference_ids(tmp_path / "mask.png", (2, 3), data.source)
    assert read.tolist() == ids.tolist()
    assert data.source.reference(read).tolist() == [[0, 1, 3], [1, 0, 1]]
    np.save(tmp_path / "maps.npy", np.zeros((4, 2, 3), np.float32))
    with pytest.raises(InputError, match="label ids"):
        reference_ids(tmp_path / "maps.npy", (2, 3), data.source)


def test_regions_of_the_phantom_list_its_classes() -> None:
    for label in (6, 256, 70):
        with pytest.raises(InputError, match="must list its classes, 0 to 5"):
            Phantom(
                patients=2,
                slices=1,
                size=32,
                task="organs",
                members=1,
                nonmembers=1,
                regions={"a": [1, label]},
            ).read_source()


def test_a_signal_of_labels_is_cached_by_the_class_of_the_nested_one() -> None:
    class Own(ImageDice):
        pass

    _, options = _described(PerLabel(ImageDice(), 2))
    assert options["signal"] == ("seg_mia.membership.signals.ImageDice", {"released": "labels"})
    paths = [{"class_path": path} for path in _paths(PerLabel(Own(), 2))]
    assert not is_reproducible(paths)
    assert is_reproducible([{"class_path": path} for path in _paths(PerLabel(ImageDice(), 2))])


def test_a_constant_prediction_is_named_by_its_labels(data: Phantom) -> None:
    class Constant(nn.Module):
        def __init__(self, chosen: int) -> None:
            super().__init__()
            self.chosen = chosen

        def forward(self, x: Tensor) -> Tensor:
            return torch.eye(4)[self.chosen].view(1, 4, 1, 1).expand(len(x), 4, *x.shape[2:])

    for chosen, words in ((0, "no label"), (2, "liver"), (3, "organs and liver")):
        line = warning(Constant(chosen), data)
        assert line is not None
        assert f"predicts {words} for every pixel" in line


def test_an_attack_is_fitted_to_labels_not_to_their_sets(data: Phantom, victim: nn.Module) -> None:
    counts: list[int] = []

    class Fitted(Perturbation):
        attacker_knowledge = "the network"
        function = staticmethod(lambda: None)  # type: ignore[assignment]

        def fit(self, model: nn.Module, images: Tensor, masks: Tensor) -> dict[str, Tensor]:  # noqa: ARG002
            counts.append(class_count(model(images)[0]))
            return {}

        def run(self, model: nn.Module, x: Tensor, target: Tensor) -> Adversarial:  # noqa: ARG002
            return Adversarial(x)

    task = PerturbationTest(victim, Fitted())
    task.fitting = np.array([0, 1])
    task._trainer = SimpleNamespace(datamodule=data, is_global_zero=False)  # type: ignore[assignment]
    task.on_test_start()
    assert [label_names(count) for count in counts] == [("organs", "liver")]
