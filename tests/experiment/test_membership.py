"""Membership inference on networks whose leak is known: all of it, or none."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from seg_mia.callbacks.membership_curves import MembershipCurves
from seg_mia.callbacks.membership_results import summarise
from seg_mia.callbacks.randomness import EpochSeed
from seg_mia.data.samples import run_seed
from seg_mia.data.sets.folder import Folder
from seg_mia.data.splits import Split
from seg_mia.data.trained_model import TrainedModel, judged_data
from seg_mia.errors import InputError
from seg_mia.experiment.membership import infer
from seg_mia.membership.base import Membership
from seg_mia.membership.scorers import Classifier, Scorer, Threshold
from seg_mia.membership.signals import (
    ImageAndMask,
    ImageEntropy,
    ImageLoss,
    LossMap,
    Posterior,
    PosteriorAndMask,
    Signal,
)

MAPS = [Posterior(), PosteriorAndMask(), LossMap()]
NUMBERS = [ImageLoss(), ImageEntropy()]
PER_SIDE = 16


class Memory(nn.Module):
    """Answers with the truth about images that it holds, and with noise about others."""

    def __init__(self, images: Tensor, masks: Tensor, classes: int = 2) -> None:
        super().__init__()
        self.images, self.masks, self.classes = images, masks, classes

    def forward(self, x: Tensor) -> Tensor:
        answers = []
        for image in x:
            noise = torch.randn(
                self.classes,
                *image.shape[1:],
                generator=torch.Generator().manual_seed(int(image.sum() * 1000)),
            )
            known = [n for n, own in enumerate(self.images) if torch.equal(own, image)]
            truth = nn.functional.one_hot(self.masks[known[0]], self.classes) if known else None
            answers.append(noise if truth is None else 12.0 * truth.movedim(-1, 0) - 6)
        return torch.stack(answers)


class Random(nn.Module):
    """A network that never saw anything."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.layer = nn.Conv2d(3, 1, 5, padding=2)

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = 4 * self.layer(x)
        return answer


def classifier(**settings: object) -> Classifier:
    return Classifier(architecture="test_resnet", epochs=12, lr=3e-3, batch_size=8, **settings)  # type: ignore[arg-type]


def trainer(_number: int = 0) -> Trainer:
    return Trainer(
        max_epochs=12,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[EpochSeed(run_seed()), MembershipCurves()],
    )


@pytest.fixture
def root(folder: Callable[..., Path]) -> Path:
    return folder(count=4 * PER_SIDE, size=16)


def half(root: Path, role: str, **settings: object) -> Folder:
    sizes = {"members": PER_SIDE, "nonmembers": PER_SIDE} | settings
    data = Folder(root=str(root), **({"threshold": 127, "role": role} | sizes))  # type: ignore[arg-type]
    data.setup()
    return data


def side(root: Path, role: str, network: nn.Module | None = None, **settings: object) -> TrainedModel:
    """Return one half, and by default a network that knows its members by heart."""
    data = half(root, role, **settings)
    members = data.dataset(data.indices("members"))
    known = [members[0, row] for row in range(len(members))]
    memory = Memory(torch.stack([one.image for one in known]), torch.stack([one.mask for one in known]))
    file = root.parent / f"{role}.ckpt"
    file.write_text(f"{role} {type(network).__name__}")
    return TrainedModel(lambda: network or memory, data, file)


def measured(
    signal: Signal, scorer: Scorer, victim: TrainedModel, shadow: TrainedModel, *, control: bool = False
) -> dict[str, float]:
    attack = Membership(signal=signal, scorer=scorer)
    found = infer(attack, victim, [shadow], trainer=trainer, seed=0, control=control)
    results = summarise(found).results.plain()
    return dict(results["auc"]) | {"balanced_accuracy": results["balanced_accuracy"]["value"]}


@pytest.mark.parametrize("signal", NUMBERS, ids=lambda signal: type(signal).__name__)
def test_a_number_gives_away_a_network_that_knows_its_members_by_heart(root: Path, signal: Signal) -> None:
    auc = measured(signal, Threshold(rule="shadow_roc"), side(root, "victim"), side(root, "shadow"))
    assert auc["value"] == 1
    assert auc["balanced_accuracy"] == 1
    assert auc["low"] > 0.75
    assert auc["high"] == 1


@pytest.mark.parametrize("signal", MAPS, ids=lambda signal: type(signal).__name__)
def test_a_classifier_gives_it_away_too(root: Path, signal: Signal) -> None:
    auc = measured(signal, classifier(), side(root, "victim"), side(root, "shadow"))
    assert auc["value"] == 1
    assert auc["balanced_accuracy"] > 0.9


@pytest.mark.parametrize("signal", [PosteriorAndMask(), LossMap()], ids=lambda signal: type(signal).__name__)
def test_a_shadow_of_one_logit_teaches_about_a_victim_of_two(root: Path, signal: Signal) -> None:
    class OneLogit(nn.Module):
        def __init__(self, network: nn.Module) -> None:
            super().__init__()
            self.network = network

        def forward(self, x: Tensor) -> Tensor:
            pair: Tensor = self.network(x)
            return pair[:, 1:] - pair[:, :1]

    shadow = side(root, "shadow")
    network = OneLogit(shadow.network)
    shadow = replace(shadow, load=lambda: network)
    assert measured(signal, classifier(), side(root, "victim"), shadow)["value"] == 1


def unlabelled(root: Path, data: Folder, indices: Sequence[int]) -> None:
    for index in indices:
        Image.fromarray(np.full((16, 16), 255, np.uint8)).save(
            root / "masks" / f"{data.source.ids[index]}.png"
        )


def test_images_without_a_labelled_pixel_are_not_scored(root: Path) -> None:
    for file in (root / "masks").iterdir():  # class ids, 255 to ignore
        Image.fromarray((np.asarray(Image.open(file)) > 127).astype(np.uint8)).save(file)
    before = half(root, "victim", threshold=None)
    bare = [before.splits.members[0], *before.splits.nonmembers[:2]]
    unlabelled(root, before, bare)
    victim, shadow = side(root, "victim", threshold=None), side(root, "shadow", threshold=None)
    assert victim.data.splits == before.splits
    attack = Membership(signal=ImageLoss(), scorer=Threshold(rule="shadow_roc"))
    found = infer(attack, victim, [shadow], trainer=trainer, seed=0)
    assert not set(found.samples.indices.tolist()) & set(bare)
    results = summarise(found).results
    assert (results.members, results.nonmembers) == (PER_SIDE - 1, PER_SIDE - 2)
    assert victim.left_out == {"unlabelled": 3, "untrained": 0}


def test_members_that_were_never_trained_on_are_on_neither_side(root: Path) -> None:
    victim, shadow = side(root, "victim"), side(root, "shadow")
    victim = replace(victim, unseen=victim.data.splits.members[:3])
    shadow = replace(shadow, unseen=shadow.data.splits.members[3:4])
    attack = Membership(signal=ImageLoss(), scorer=Threshold(rule="shadow_roc"))
    found = infer(attack, victim, [shadow], trainer=trainer, seed=0)
    assert found.samples.indices[found.samples.members].tolist() == list(victim.data.splits.members[3:])
    assert found.samples.indices[~found.samples.members].tolist() == list(victim.data.splits.nonmembers)
    left = {"victim": {"unlabelled": 0, "untrained": 3}, "shadow": {"unlabelled": 0, "untrained": 1}}
    assert judged_data(victim, [shadow])["left_out"] == left
    nobody = replace(victim, unseen=victim.data.splits.members[1:])
    with pytest.raises(InputError, match=r"has 1, \d+ untrained left out; .* and on all of them"):
        infer(attack, nobody, [shadow], trainer=trainer, seed=0)


def test_patches_that_vote_give_it_away_too(root: Path) -> None:
    auc = measured(LossMap(), classifier(patch=8), side(root, "victim"), side(root, "shadow"))
    assert auc["value"] == 1


def test_the_control_asks_a_network_that_saw_neither_part(root: Path) -> None:
    victim, shadow = side(root, "victim"), side(root, "shadow")
    for signal, scorer in ((ImageLoss(), Threshold()), (PosteriorAndMask(), classifier())):
        auc = measured(signal, scorer, victim, shadow, control=True)
        assert auc["low"] < 0.5 < auc["high"]


@pytest.mark.parametrize("kind", ["number", "classifier", "blind"])
def test_a_network_trained_on_neither_part_is_guessed_about_by_chance(root: Path, kind: str) -> None:
    attacks: dict[str, tuple[Signal, Scorer]] = {
        "number": (ImageLoss(), Threshold()),
        "classifier": (PosteriorAndMask(), classifier()),
        "blind": (ImageAndMask(), classifier()),
    }
    missed = 0
    for seed in range(5):
        pair = [side(root, role, Random(), split_seed=seed) for role in ("victim", "shadow")]
        auc = measured(*attacks[kind], *pair)
        missed += not auc["low"] <= 0.5 <= auc["high"]
    assert missed <= 1


def test_shuffled_labels_leave_chance(root: Path) -> None:
    attack = Membership(signal=ImageLoss(), scorer=Threshold())
    found = infer(attack, side(root, "victim"), [side(root, "shadow")], trainer=trainer, seed=0)
    missed = 0
    for seed in range(5):
        found.samples.members[:] = np.random.default_rng(seed).permutation(found.samples.members)
        auc = summarise(found).results.auc
        assert auc.low is not None
        assert auc.high is not None
        missed += not auc.low <= 0.5 <= auc.high
    assert missed <= 1


def test_equal_answers_are_ties(root: Path) -> None:
    class Same(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.new_ones(len(x), 1, *x.shape[2:]) - 2

    found = measured(
        ImageEntropy(), Threshold(), *(side(root, role, Same()) for role in ("victim", "shadow"))
    )
    assert found["value"] == 0.5
    assert found["low"] < 0.5 < found["high"]


def brightest_first(data: Folder) -> Split:
    """Split this half by brightness, which no fair split would."""
    mine: NDArray[np.int64] = np.array(sorted(data.splits))
    order = mine[np.argsort(data.cached.images[mine].mean((1, 2, 3)))]
    return Split(tuple(order[PER_SIDE:].tolist()), tuple(order[:PER_SIDE].tolist()))


def test_the_blind_baseline_sees_through_a_split_by_brightness(root: Path) -> None:
    for number, file in enumerate(sorted((root / "images").iterdir())):
        Image.fromarray(np.asarray(Image.open(file)) // (1 + number % 5)).save(file)
    pair = [side(root, role, Random()) for role in ("victim", "shadow")]
    for one in pair:
        one.data.splits = brightest_first(one.data)  # type: ignore[arg-type]
    auc = measured(ImageAndMask(), classifier(), *pair)
    assert auc["low"] > 0.6


def test_several_seeds_are_told_apart_and_averaged(root: Path) -> None:
    attack = Membership(signal=PosteriorAndMask(), scorer=classifier(seeds=2))
    found = infer(
        attack, side(root, "victim", Random()), [side(root, "shadow", Random())], trainer=trainer, seed=0
    )
    (first, _), (second, _) = found.seeds
    assert not np.allclose(first, second)
    np.testing.assert_allclose(found.scores, (first + second) / 2)
    seeds = summarise(found).seeds
    assert seeds is not None
    assert len(seeds.auc.values) == 2
    again = infer(
        attack, side(root, "victim", Random()), [side(root, "shadow", Random())], trainer=trainer, seed=0
    )
    np.testing.assert_array_equal(found.scores, again.scores)


def test_scores_do_not_depend_on_the_samples_order_or_batch(root: Path) -> None:
    victim, shadow = side(root, "victim", Random()), side(root, "shadow", Random())
    attack = Membership(signal=ImageLoss(), scorer=Threshold())
    found = infer(attack, victim, [shadow], trainer=trainer, seed=0)
    for row in (0, 5, 2 * PER_SIDE - 1):
        batch = found.samples[0, row]
        logits = victim.network(batch.image[None])  # the stored ones have half precision
        loss = ImageLoss()(logits, batch.image[None], batch.mask[None])
        assert found.scores[row] == pytest.approx(-loss.item(), rel=1e-5)
        assert bool(batch.member) == (row < PER_SIDE)


class TestRefusals:
    def refused(self, victim: TrainedModel, shadow: TrainedModel, telling: str) -> None:
        attack = Membership(signal=ImageLoss(), scorer=Threshold())
        with pytest.raises(InputError, match=telling):
            infer(attack, victim, [shadow], trainer=trainer, seed=0)

    def test_the_same_half(self, root: Path) -> None:
        victim = side(root, "victim", Random())
        self.refused(victim, side(root, "victim", Random()), "disjoint, got 32 shared samples or groups")

    def test_another_split_of_the_same_data(self, root: Path) -> None:
        self.refused(
            side(root, "victim", Random()),
            side(root, "shadow", Random(), split_seed=5),
            "must be disjoint",
        )

    def test_other_data(self, root: Path) -> None:
        victim = side(root, "victim", Random())
        for file in (root / "images").iterdir():
            file.rename(file.with_name(f"b{file.name}"))
            mask = root / "masks" / file.name
            mask.rename(mask.with_name(f"b{file.name}"))
        self.refused(victim, side(root, "shadow", Random()), "was trained on other data")

    def test_too_few(self, root: Path) -> None:
        shadow = side(root, "shadow", Random())
        one = side(root, "victim", Random(), nonmembers=1)
        self.refused(one, shadow, "at least 2 nonmembers in each half, .* the victim's half has 1")

    def test_other_sizes(self, root: Path) -> None:
        self.refused(
            side(root, "victim", Random()),
            side(root, "shadow", Random(), size=24),
            "images and masks of one size, got",
        )

    def test_a_network_of_other_classes(self, root: Path) -> None:
        class Three(Random):
            def forward(self, x: Tensor) -> Tensor:
                return super().forward(x).expand(-1, 3, -1, -1)

        self.refused(
            side(root, "victim", Random()),
            side(root, "shadow", Three()),
            "same classes, got 3 and 2",
        )

    def test_a_classifier_for_other_maps(self, root: Path) -> None:
        attack = Membership(signal=Posterior(), scorer=Classifier(architecture="vit_tiny_patch16_224"))
        with pytest.raises(InputError, match="cannot take maps of .16, 16.: .* name another"):
            infer(attack, side(root, "victim"), [side(root, "shadow")], trainer=trainer, seed=0)

    def test_a_classifier_that_was_not_trained_to_the_end(self, root: Path) -> None:
        attack = Membership(signal=Posterior(), scorer=Classifier(architecture="test_resnet", epochs=13))
        with pytest.raises(InputError, match="must train for 13 epochs of 7 steps, got 84 steps"):
            infer(attack, side(root, "victim"), [side(root, "shadow")], trainer=trainer, seed=0)

    def test_answers_that_are_no_numbers(self, root: Path) -> None:
        class Broken(Random):
            def forward(self, x: Tensor) -> Tensor:
                return super().forward(x) * float("nan")

        self.refused(side(root, "victim", Broken()), side(root, "shadow", Random()), "logits must be finite")

    def test_a_classifier_that_diverges(self, root: Path) -> None:
        attack = Membership(signal=Posterior(), scorer=Classifier(architecture="test_resnet", lr=1e30))
        with pytest.raises(InputError, match="loss must be finite, got .*; lower --attack.scorer.lr"):
            infer(attack, side(root, "victim"), [side(root, "shadow")], trainer=trainer, seed=0)

    def test_signal_and_scorer_that_do_not_fit(self) -> None:
        with pytest.raises(InputError, match="ImageLoss, a number, and Classifier, which takes a map"):
            Membership(signal=ImageLoss(), scorer=Classifier())
        with pytest.raises(InputError, match="LossMap, a map, and Threshold, which takes a number"):
            Membership(signal=LossMap(), scorer=Threshold())
