"""What a distilled victim and a min-max victim are trained on, and what they never see."""

from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import yaml
from numpy.typing import NDArray
from torch import Tensor
from torch.testing import assert_close

from seg_mia.checkpoint import NETWORK, load_victim, read, read_card
from seg_mia.cli import main
from seg_mia.data.base import SegmentationData
from seg_mia.data.samples import Batch, Samples
from seg_mia.defences.distil import Distil
from seg_mia.defences.minmax import InferenceAdversary
from seg_mia.experiment.lightning_cli import Experiment, run
from seg_mia.runs import TEACHER_SEED, defence_names
from seg_mia.tasks import segmentation

MINMAX = ["--defence", "minmax", "--model.defences.architecture=test_resnet"]
RUN = Path("runs/tiny-distilled/version_0")


class Read(NamedTuple):
    """One sample that was read: for whom, which one, with which mask."""

    whom: str
    sample: int
    mask: Tensor


@pytest.fixture
def tiny(tiny: Path, folder: Callable[..., Path]) -> Path:
    """The tiny config with 6 members, 4 non-members and 10 reference images."""
    folder(count=40)
    tiny.write_text(tiny.read_text().replace("nonmembers: 2", "nonmembers: 4").replace("rs: 4,", "rs: 6,", 1))
    return tiny


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Read]:
    """Everything that is read of the data, told apart by who asks."""
    seen, loaded, asking = list[Read](), list[tuple[Samples, str]](), ["nobody"]
    plain = Samples.__getitem__

    def getitem(self: Samples, draw: tuple[int, int]) -> Batch:
        batch = plain(self, draw)
        owners = [whom for samples, whom in loaded if samples is self]
        seen.append(Read((owners or asking)[-1], int(batch.index), batch.mask))
        return batch

    def loader_of(name: str) -> None:
        original = getattr(SegmentationData, name)

        def load(self: SegmentationData) -> Any:
            loader = original(self)
            loaded.append((loader.dataset, f"{name} {sum(whom.startswith(name) for _, whom in loaded)}"))
            return loader

        monkeypatch.setattr(SegmentationData, name, load)

    @contextmanager
    def asked_by(whom: str) -> Any:
        asking.append(whom)
        yield
        asking.pop()

    def watch(owner: Any, name: str, whom: str) -> None:
        original = getattr(owner, name)

        def call(*args: Any, **settings: Any) -> Any:
            with asked_by(whom):
                return original(*args, **settings)

        monkeypatch.setattr(owner, name, call)

    monkeypatch.setattr(Samples, "__getitem__", getitem)
    loader_of("train_dataloader")
    loader_of("val_dataloader")
    watch(segmentation, "check_one_sample", "check_one_sample")
    watch(segmentation, "choose_head", "head")
    watch(segmentation, "detected_gives", "head")
    watch(segmentation, "detected_resize", "head")
    watch(Distil, "learn", "choice")
    watch(InferenceAdversary, "on_train_epoch_start", "classifier")
    return seen


def read_by(reads: list[Read], whom: str) -> list[int]:
    return [read.sample for read in reads if read.whom == whom]


def part(done: Experiment, name: Any) -> set[int]:
    return set(done.datamodule.indices(name).tolist())


def weights(folder: Path) -> dict[str, Tensor]:
    state: dict[str, Tensor] = read(folder / "checkpoints" / "last.ckpt")["state_dict"]
    return state


def losses(teacher: torch.nn.Module, data: SegmentationData, index: int) -> tuple[float, NDArray[np.bool_]]:
    """The teacher's Dice loss plus cross-entropy on one image, in float64, and its label."""
    pixels = torch.from_numpy(np.array(data.cached.images[index])).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        logits = teacher(pixels)[0, 0].double().numpy()
    p, t = 1 / (1 + np.exp(-logits)), np.array(data.cached.masks[index], np.float64)
    entropy = -np.mean(t * np.log(p) + (1 - t) * np.log(1 - p))
    return float(1 - (2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1) + entropy), logits > 0


def test_the_student_sees_chosen_reference_images_with_the_teachers_labels(
    tiny: Path, reads: list[Read]
) -> None:
    done = run(["fit", "--config", str(tiny), "--defence", "distilled", "--trainer.max_epochs=2"])
    data = done.datamodule
    teacher = load_victim(RUN / "teacher" / "checkpoints" / "last.ckpt")
    told = {index: losses(teacher, data, index) for index in part(done, "reference")}
    bound = np.mean([loss for loss, _ in told.values()])
    chosen = sorted(index for index, (loss, _) in told.items() if loss <= bound)
    assert 0 < len(chosen) < len(told) == 10
    assert sorted(read_by(reads, "train_dataloader 1")) == sorted(2 * chosen)
    assert sorted(read_by(reads, "choice")) == sorted(told)
    assert sorted(read_by(reads, "train_dataloader 0")) == sorted(2 * list(part(done, "members")))
    taught = [read for read in reads if read.whom == "train_dataloader 1"]
    for one in taught:
        np.testing.assert_array_equal(one.mask.numpy(), told[one.sample][1])
    truth = [torch.from_numpy(np.array(data.cached.masks[one.sample])) for one in taught]
    assert any(not torch.equal(one.mask, true) for one, true in zip(taught, truth, strict=True))
    judges = {one.whom for one in reads if one.sample in part(done, "nonmembers")}
    assert judges == {"val_dataloader 0", "val_dataloader 1", "check_one_sample", "head"}


def test_a_bound_of_ones_own_chooses_otherwise(tiny: Path, reads: list[Read]) -> None:
    words = ["--trainer.max_epochs=1", "--model.defences.max_loss=9", "--model.defences.loss=dice"]
    done = run(["fit", "--config", str(tiny), "--defence", "distilled", *words])
    assert sorted(read_by(reads, "train_dataloader 1")) == sorted(part(done, "reference"))


def test_the_teacher_is_an_undefended_training_and_stays_out_of_the_students_file(tiny: Path) -> None:
    assert main(["fit", "--config", str(tiny), "--defence", "distilled"]) == 0
    assert main(["fit", "--config", str(tiny), f"--seed_everything={TEACHER_SEED}"]) == 0
    teacher, student = weights(RUN / "teacher"), weights(RUN)
    assert_close(teacher, weights(Path("runs/tiny/version_0")), rtol=0, atol=0)
    network = load_victim(RUN / "checkpoints" / "last.ckpt")
    assert set(student) == {NETWORK + name for name in network.state_dict()}
    floats = [name for name, value in student.items() if value.is_floating_point()]
    assert not [name for name in floats if any(torch.equal(student[name], t) for t in teacher.values())]
    cards = [read_card(folder / "checkpoints" / "last.ckpt") for folder in (RUN, RUN / "teacher")]
    assert [defence_names(card) for card in cards] == [["Distil"], []]
    assert [(card.training or {})["seed"] for card in cards] == [0, TEACHER_SEED]
    assert cards[0].split is not None
    assert cards[1].split is not None
    assert cards[0].split["digest"] == cards[1].split["digest"]
    settings = [yaml.safe_load((folder / "config.yaml").read_text()) for folder in (RUN, RUN / "teacher")]
    assert [one["seed_everything"] for one in settings] == [0, TEACHER_SEED]
    assert settings[1]["model"]["init_args"].pop("defences") is None
    assert len(settings[0]["model"]["init_args"].pop("defences")) == 1
    assert settings[0]["model"] == settings[1]["model"]


def test_the_min_max_classifier_sees_members_and_reference_images_once_an_epoch(
    tiny: Path, reads: list[Read]
) -> None:
    done = run(["fit", "--config", str(tiny), *MINMAX, "--trainer.max_epochs=2"])
    members, reference = sorted(part(done, "members")), sorted(part(done, "reference"))
    assert sorted(read_by(reads, "classifier")) == sorted(2 * (members + reference))
    assert sorted(read_by(reads, "train_dataloader 0")) == sorted(2 * members)
    judges = {one.whom for one in reads if one.sample in part(done, "nonmembers")}
    assert judges == {"val_dataloader 0", "check_one_sample", "head"}
    lines = Path("runs/tiny-minmax/version_0/metrics.jsonl").read_text().splitlines()
    assert all("minmax/classifier_loss" in line and "minmax/classifier_accuracy" in line for line in lines)
    assert not [name for name in weights(Path("runs/tiny-minmax/version_0")) if "classifier" in name]


@pytest.mark.parametrize(
    ("words", "telling"),
    [
        (["distilled", "--model.defences.max_loss", "1e-9"], "selects none of 10 reference images"),
        (["distilled", "--model.defences.max_loss=0"], "max_loss must be above 0, got 0"),
        (["distilled", "--data.reference=0"], "no reference images, and distillation"),
        (["minmax", "--data.reference=0"], "no reference images, and the min-max classifier"),
        (["minmax", "--model.defences.architecture=resnet3"], "resnet3"),
        (["poisoned", "--model.defences.size=32"], "inside the image of 32x32"),
        (["crop", "--model.defences.size=32"], "smaller than the images of 32x32"),
    ],
)
def test_what_the_data_does_not_allow_is_one_line(
    words: list[str], telling: str, tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", "--config", str(tiny), "--defence", *words]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "seg_mia: error:" in line]
    assert telling in line
    assert not list(Path("runs").glob("*/*/checkpoints"))
