"""Who is a canary, what is said of it, and what its being found again proves."""

import csv
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from lightning.pytorch import Trainer
from scipy.stats import binom
from torch import nn
from torch.testing import assert_close

from seg_mia.checkpoint import load_victim, read_card
from seg_mia.cli import main
from seg_mia.data.base import SegmentationData
from seg_mia.data.sets.folder import Folder
from seg_mia.data.source import Image, Mask, Source
from seg_mia.defences.base import Defence, check_together
from seg_mia.defences.canaries import Canaries, false_mask
from seg_mia.defences.crop import Crop
from seg_mia.defences.distil import Distil
from seg_mia.defences.dp.dpsgd import DPSGD
from seg_mia.defences.minmax import MinMax
from seg_mia.defences.poison import Poison
from seg_mia.errors import InputError
from seg_mia.experiment.lightning_cli import run
from seg_mia.losses import dice_cross_entropy_loss
from seg_mia.membership.certify import epsilon_lower_bound, one_run_lower_bound
from seg_mia.membership.f_dp_one_run import f_dp_one_run_bound
from seg_mia.membership.gaussian_one_run import gaussian_one_run_bound
from seg_mia.membership.roc import auc
from seg_mia.metrics.labels import IGNORE
from seg_mia.tasks.segmentation import Segmentation
from tests.trainings import one_error, weights

COUNT = 8
CANARIES = ["--defence", "canaries", f"--model.defences.count={COUNT}"]
PRIVATE = {"noise": 1.0, "epsilon": None, "accountant": "rdp", "reproducible": True}


class Scans(Source):
    """Sample i: an image of value i and a mask of three classes; patients have one to three slices."""

    channels, classes = 1, 3

    def __init__(self, count: int) -> None:
        self.ids = tuple(f"s{i:03d}" for i in range(count))
        self.groups = tuple(f"p{i - i % (1 + i % 3):03d}" for i in range(count))

    def digest(self, index: int) -> str:
        return f"{index:064x}"

    def decode(self, index: int) -> tuple[Image, Mask]:
        image = np.full((4, 5, 1), index % 256, np.uint8)
        image[0, 0] = (index + 128) % 256  # one grey alone would be refused
        return image, np.full((4, 5), index % 3, np.uint8)

    @property
    def settings(self) -> Mapping[str, bool | int | float | str | None]:
        return {}


class Archive(SegmentationData):
    def __init__(self, **options: Any) -> None:
        super().__init__(**({"members": 30, "nonmembers": 20} | options))

    def read_source(self) -> Source:
        return Scans(300)


def ready(**options: Any) -> Archive:
    data = Archive(**options)
    data.setup()
    return data


def parts(data: SegmentationData) -> dict[str, set[int]]:
    return {name: set(getattr(data.splits, name)) for name in ("members", "nonmembers", "reference")}


def drawn(seed: int = 0, count: int = COUNT) -> tuple[Canaries, Archive]:
    data, canaries = ready(), Canaries(count=count, seed=seed, kind="mislabelled")
    canaries.enter(data)
    return canaries, data


@pytest.fixture
def tiny(tiny: Path, folder: Callable[..., Path]) -> Path:
    """The tiny config with 6 members, 4 non-members and 20 reference images."""
    folder(count=60)
    text = tiny.read_text().replace("members: 4, nonmembers: 2", "members: 6, nonmembers: 4")
    tiny.write_text(text.replace("max_epochs: 1", "max_epochs: 2"))
    return tiny


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "canaries.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("seed", range(4))
def test_canaries_are_reference_images_of_different_patients_and_coins_decide(seed: int) -> None:
    canaries, data = drawn(seed)
    chosen, inserted = canaries.indices, canaries.inserted
    assert len(set(chosen.tolist())) == len(chosen) == len(inserted) == 2 * COUNT
    assert set(chosen.tolist()) <= parts(data)["reference"]
    groups = {name: {data.source.groups[i] for i in part} for name, part in parts(data).items()}
    own = {data.source.groups[i] for i in chosen}
    assert len(own) == 2 * COUNT
    assert not own & (groups["members"] | groups["nonmembers"])
    inside, outside = set(chosen[inserted].tolist()), set(chosen[~inserted].tolist())
    assert len(inside) + len(outside) == 2 * COUNT
    assert not inside & outside
    assert set(data.trained().tolist()) == parts(data)["members"] | inside


def test_the_coins_are_fair_and_no_canary_is_preferred() -> None:
    found = [drawn(seed)[0] for seed in range(60)]
    tosses = np.concatenate([each.inserted for each in found])
    low, high = binom(len(tosses), 0.5).interval(1 - 1e-4)
    assert low <= tosses.sum() <= high
    assert len({int(each.inserted.sum()) for each in found}) > 2
    reference = len({Scans(300).groups[i] for i in drawn()[1].splits.reference})
    assert len({int(i) for each in found for i in each.indices}) == reference


def test_the_seed_decides_who_and_a_second_look_changes_nothing() -> None:
    one, again, other = (drawn(seed)[0] for seed in (3, 3, 4))
    for name in ("indices", "inserted"):
        assert np.array_equal(getattr(one, name), getattr(again, name))
    assert set(one.indices.tolist()) != set(other.indices.tolist())
    canaries, data = drawn()
    before = data.trained().copy(), canaries.indices.copy()
    canaries.enter(data)
    assert np.array_equal(data.trained(), before[0])
    assert np.array_equal(canaries.indices, before[1])


def test_the_mask_of_an_inserted_one_is_moved_on_by_one_and_no_other_mask() -> None:
    canaries, data = drawn()
    inserted = set(canaries.indices[canaries.inserted].tolist())
    loader = data.train_dataloader()
    masks = {int(i): mask for batch in loader for i, mask in zip(batch.index, batch.mask, strict=True)}
    assert set(masks) == parts(data)["members"] | inserted
    for index, mask in masks.items():
        expected = (index + 1) % 3 if index in inserted else index % 3
        assert torch.equal(mask, torch.full((4, 5), expected))
    for loaded in (data.val_dataloader(), data.predict_dataloader()):
        assert not {int(i) for batch in loaded for i in batch.index} & set(canaries.indices.tolist())


def test_a_moved_mask_by_hand() -> None:
    mask = np.array([[0, 1, 2], [IGNORE, 2, 0]], np.uint8)
    assert false_mask(mask, 3).tolist() == [[1, 2, 0], [IGNORE, 0, 1]]
    assert false_mask(np.array([[0, 1, IGNORE]], np.uint8), 2).tolist() == [[1, 0, IGNORE]]
    assert false_mask(mask, 3).dtype == np.uint8
    assert mask.tolist() == [[0, 1, 2], [IGNORE, 2, 0]]


@pytest.mark.parametrize("count", [-1, 0, 4, 7])
def test_few_canaries_prove_nothing_and_are_refused(count: int) -> None:
    with pytest.raises(InputError, match=f"canaries must be at least 8, got {count}; .* can certify"):
        Canaries(count=count)


def test_a_reference_of_too_few_groups_is_refused_and_nothing_is_inserted() -> None:
    for options, message in (
        ({"reference": 12}, r"canaries need 16 groups in the reference, got \d+; lower"),
        ({"reference": 0}, "no reference images, and canaries are taken from them"),
    ):
        data = ready(**options)
        with pytest.raises(InputError, match=message) as refusal:
            Canaries(count=COUNT).enter(data)
        assert "\n" not in str(refusal.value)
        assert set(data.trained().tolist()) == parts(data)["members"]


@pytest.mark.parametrize("other", [MinMax(), Distil(), Poison(), Canaries(count=9)])
def test_what_needs_the_reference_or_marks_members_is_refused_beside_canaries(other: Defence) -> None:
    for pair in ([Canaries(), other], [other, Canaries()]):
        with pytest.raises(InputError, match="are incompatible"):
            check_together(pair)


def test_canaries_go_with_what_leaves_reference_and_members_alone() -> None:
    for other in (DPSGD(), Crop()):
        check_together([Canaries(), other])
        check_together([other, Canaries()])


def losses_of(victim: nn.Module, data: SegmentationData, index: int) -> float:
    """The loss of one image with the inverted mask, by hand."""
    pixels = torch.from_numpy(np.array(data.cached.images[index])).permute(2, 0, 1)[None].float() / 255
    mask = 1 - torch.from_numpy(np.array(data.cached.masks[index])).long()[None]
    with torch.no_grad():
        return float(dice_cross_entropy_loss(victim(pixels), mask))


def test_canaries_are_trained_on_scored_by_their_loss_and_written(tiny: Path) -> None:
    done = run(["fit", "--config", str(tiny), *CANARIES, "--model.defences.kind=mislabelled"])
    data, folder = done.datamodule, done.folder
    (canaries,) = done.model.defences
    rows, found = table(folder), json.loads((folder / "canaries.json").read_text())
    ids = [data.source.ids[i] for i in canaries.indices]
    assert [row["id"] for row in rows] == ids
    inserted = np.array([bool(int(row["inserted"])) for row in rows])
    assert np.array_equal(inserted, canaries.inserted)
    victim = load_victim(folder / "checkpoints" / "last.ckpt")
    for index, row in zip(canaries.indices, rows, strict=True):
        assert float(row["score"]) == pytest.approx(-losses_of(victim, data, int(index)), abs=1e-5)
    scores = np.array([float(row["score"]) for row in rows])
    assert (found["inserted"], found["left_out"]) == (inserted.sum(), (~inserted).sum())
    assert found["auc"] == auc(scores, inserted)
    assert found["delta"] == pytest.approx(0.1 / (6 + inserted.sum()))
    for name, bound in (("certified", epsilon_lower_bound), ("one_run", one_run_lower_bound)):
        expected = bound(scores, inserted, delta=found["delta"])
        assert found[name]["epsilon"] == pytest.approx(expected.epsilon)
        assert found[name]["attainable"] == pytest.approx(expected.attainable)
    assert found["privacy"] is None
    assert done.model.training


def test_an_interrupted_run_goes_on_with_the_same_canaries(tiny: Path) -> None:
    words = ["fit", "--config", str(tiny), *CANARIES]
    assert main([*words, "--runs", "whole"]) == 0
    assert main([*words, "--runs", "broken", "--trainer.max_epochs=1"]) == 0
    whole, broken = (Path(runs) / "tiny-canaries" / "version_0" for runs in ("whole", "broken"))
    early = table(broken)
    assert main(["fit", "--resume", str(broken), "--trainer.max_epochs=2"]) == 0
    assert [(row["id"], row["inserted"]) for row in early] == [
        (row["id"], row["inserted"]) for row in table(broken)
    ]
    assert table(broken) == table(whole) != early
    assert (broken / "canaries.json").read_text() == (whole / "canaries.json").read_text()
    assert_close(weights(whole), weights(broken), rtol=0, atol=0)


def together(tiny: Path, first: str, **private: Any) -> list[str]:
    """Return the words for a private training with canaries, in either order."""
    settings = {
        "dp": ("dp.dpsgd.DPSGD", PRIVATE | private),
        "canaries": ("canaries.Canaries", {"count": COUNT, "kind": "mislabelled"}),
    }
    words = ["fit", "--config", str(tiny), "--trainer.max_epochs=1"]
    for name in sorted(settings, key=lambda name: name != first):
        kind, arguments = settings[name]
        spec = {"class_path": f"seg_mia.defences.{kind}", "init_args": arguments}
        Path(f"my_{name}.yaml").write_text(yaml.safe_dump(spec))
        words += ["--defence", f"my_{name}.yaml"]
    return words


either_order = pytest.mark.parametrize("first", ["dp", "canaries"])


@either_order
def test_a_private_training_counts_its_canaries_in_either_order(first: str, tiny: Path) -> None:
    done = run([*together(tiny, first), "--data.batch_size=9"])  # more than the members alone
    assert [type(each) for each in done.model.defences] == [DPSGD, Canaries][:: 1 if first == "dp" else -1]
    found = json.loads((done.folder / "canaries.json").read_text())
    units = 6 + found["inserted"]
    assert len(done.datamodule.trained()) == units > 9
    privacy = read_card(done.folder / "checkpoints" / "last.ckpt").privacy
    assert privacy is not None
    assert privacy["units"] == units
    assert privacy["rate"] == 9 / units
    assert privacy["delta"] == found["delta"] == 1 / (10 * units)
    assert privacy["steps"] == round(units / 9)
    assert found["privacy"] == privacy
    assert found["gaussian"] is found["f_dp"] is None


def test_a_training_on_all_units_in_each_step_has_the_bound_of_a_gaussian_mechanism(tiny: Path) -> None:
    done = run([*together(tiny, "dp", population=10), "--data.batch_size=10"])
    found = json.loads((done.folder / "canaries.json").read_text())
    scores = np.array([float(row["score"]) for row in table(done.folder)])
    inserted = done.model.defences[1].inserted
    assert found["privacy"]["rate"] == 1
    for name, rule in (("gaussian", gaussian_one_run_bound), ("f_dp", f_dp_one_run_bound)):
        expected = rule(scores, inserted, delta=found["delta"])
        assert found[name]["epsilon"] == pytest.approx(expected.epsilon)
        assert found[name]["attainable"] == pytest.approx(expected.attainable)
    assert found["gaussian"]["attainable"] > found["one_run"]["attainable"]
    assert 0 <= found["white_box"]["auc"] <= 1
    assert found["white_box"]["f_dp"]["attainable"] == found["f_dp"]["attainable"]


def test_noisy_sums_with_little_noise_give_every_canary_away(tiny: Path) -> None:
    words = [*together(tiny, "canaries", population=10, noise=0.01), "--data.batch_size=10"]
    done = run(words)
    found = json.loads((done.folder / "canaries.json").read_text())
    assert found["white_box"]["auc"] == 1
    assert found["white_box"]["gaussian"]["epsilon"] > 2  # of 6: seven were inserted where eight are guessed
    assert found["auc"] < 1  # the last weights alone do not


def test_an_interrupted_run_goes_on_with_its_noisy_sums(tiny: Path) -> None:
    words = [*together(tiny, "dp", population=10), "--data.batch_size=10"]
    assert main([*words, "--runs", "whole", "--trainer.max_epochs=2"]) == 0
    assert main([*words, "--runs", "broken"]) == 0
    (whole,), (broken,) = (list(Path(runs).glob("*/version_0")) for runs in ("whole", "broken"))
    assert main(["fit", "--resume", str(broken), "--trainer.max_epochs=2"]) == 0
    results = [json.loads((folder / "canaries.json").read_text()) for folder in (whole, broken)]
    assert results[0]["white_box"] == results[1]["white_box"]


def test_augmented_training_has_no_white_box_score(tiny: Path) -> None:
    done = run([*together(tiny, "dp", population=10), "--data.batch_size=10", "--data.augment=flip"])
    assert json.loads((done.folder / "canaries.json").read_text())["white_box"] is None


@either_order
def test_a_delta_that_gives_a_canary_away_is_refused_in_either_order(
    first: str, tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(together(tiny, first, delta=1 / 7)) == 2  # less than 1/6, which members alone would allow
    line = one_error(capsys)
    assert "delta must be at most 1/n" in line
    assert not list(Path("runs").glob("*/*/checkpoints"))


@pytest.mark.filterwarnings("ignore:.*is an instance of `nn.Module`.*")  # a config names it instead
@pytest.mark.filterwarnings("ignore:Attribute 'defences' removed from hparams.*")  # the same
@either_order
def test_canaries_are_trained_on_without_the_command_line_too(
    first: str, folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = Folder(root=str(folder(count=60)), threshold=127, members=6, nonmembers=4, batch_size=6)
    data.setup()
    seen: set[int] = set()
    step = Segmentation.training_step

    def watch(self: Segmentation, batch: Any, batch_idx: int) -> Any:
        seen.update(batch.index.tolist())
        return step(self, batch, batch_idx)

    monkeypatch.setattr(Segmentation, "training_step", watch)
    canaries = Canaries(count=COUNT)
    private = DPSGD(noise=1.0, epsilon=None, accountant="rdp", reproducible=True)
    defences: list[Defence] = [private, canaries] if first == "dp" else [canaries, private]
    task = Segmentation(nn.Conv2d(3, 1, 3, padding=1), defences=defences)
    quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    Trainer(max_epochs=8, accelerator="cpu", enable_checkpointing=False, **quiet).fit(task, datamodule=data)
    inserted = set(canaries.indices[canaries.inserted].tolist())
    assert seen == set(data.indices("members").tolist()) | inserted
    assert task.dp_guarantee is not None
    assert task.dp_guarantee["units"] == 6 + len(inserted)
