"""Which members a training has come to see, as its checkpoints tell it."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from seg_mia.callbacks.seen_samples import SeenSamples, unseen_members
from seg_mia.checkpoint import read_card
from seg_mia.cli import main
from seg_mia.data.sets.folder import Folder
from seg_mia.errors import InputError

RUN = Path("runs/tiny/version_0")


def unseen(run: Path = RUN, name: str = "last") -> list[int] | None:
    split = read_card(run / "checkpoints" / f"{name}.ckpt").split
    assert split is not None
    found: list[int] | None = split.get("unseen")
    return found


def opened(root: Path, **options: Any) -> Folder:
    settings: dict[str, Any] = {"root": str(root), "threshold": 127, "members": 4, "nonmembers": 2}
    data = Folder(**(settings | options))
    data.setup()
    return data


@pytest.fixture
def root(folder: Callable[..., Path]) -> Path:
    return folder()


def test_a_whole_epoch_sees_every_member(tiny: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--config", str(tiny)]) == 0
    assert unseen() == []
    assert "never trained on" not in capfd.readouterr().err


@pytest.mark.parametrize("limit", ["max_steps", "limit_train_batches"])
def test_a_limit_leaves_members_out_until_a_resumed_run_comes_to_them(
    tiny: Path, root: Path, capfd: pytest.CaptureFixture[str], limit: str
) -> None:
    assert main(["fit", "--config", str(tiny), f"--trainer.{limit}=1"]) == 0
    assert "2 of 4 members were never trained on" in capfd.readouterr().err
    data, missing = opened(root), unseen()
    assert missing is not None
    assert len(missing) == 2
    ids = sorted(data.source.ids)
    members = {data.source.ids[i] for i in data.splits.members}
    assert {ids[place] for place in missing} < members
    left = [data.source.ids[i] for i in unseen_members({"unseen": missing}, data)]
    assert sorted(left) == [ids[place] for place in missing]
    more = ["--trainer.max_epochs=3", "--trainer.max_steps=-1", "--trainer.limit_train_batches=1.0"]
    assert main(["fit", "--resume", str(RUN), *more]) == 0
    assert unseen() == []


def test_what_a_resumed_run_saw_before_stays_seen(tiny: Path) -> None:
    # One batch of two in each of six epochs, all of which are shuffled anew: together they see everyone.
    assert main(["fit", "--config", str(tiny), "--trainer.limit_train_batches=1"]) == 0
    first = unseen()
    assert main(["fit", "--resume", str(RUN), "--trainer.max_epochs=6"]) == 0
    second = unseen()
    assert first is not None
    assert second is not None
    assert len(first) == 2
    assert set(second) < set(first)


def test_where_all_may_be_drawn_all_are_members(tiny: Path) -> None:
    """Poisson sampling leaves some out by chance, and its promise is about them as well."""
    options = ["--defence", "dp", "--model.defences.noise=1.0", "--trainer.limit_train_batches=1"]
    assert main(["fit", "--config", str(tiny), *options]) == 0
    assert unseen(Path("runs/tiny-dp/version_0")) == []


def test_ranks_know_of_each_other(root: Path) -> None:
    data = opened(root)
    one, other = SeenSamples(), SeenSamples()
    members = list(data.splits.members)
    for own, mine in ((one, members[:1]), (other, members[2:])):
        own.seen = torch.zeros(len(data.source), dtype=torch.bool)
        own.seen[mine] = True

    def reduce(_: torch.Tensor, reduce_op: str) -> torch.Tensor:
        assert reduce_op == "sum"
        assert one.seen is not None
        assert other.seen is not None
        return one.seen.long() + other.seen.long()

    trainer: Any = SimpleNamespace(strategy=SimpleNamespace(reduce=reduce))
    one.on_train_epoch_end(trainer, SimpleNamespace())  # type: ignore[arg-type]
    places = {name: place for place, name in enumerate(sorted(data.source.ids))}
    assert one.unseen(data) == [places[data.source.ids[members[1]]]]


def test_a_student_has_the_members_that_its_teacher_saw(root: Path) -> None:
    data = opened(root, reference=0)
    seen = SeenSamples()
    assert seen.unseen(data) is None  # nothing was trained: an adopted network
    seen.seen = torch.zeros(len(data.source), dtype=torch.bool)
    strangers = [i for i in range(len(data.source)) if i not in set(data.splits)]
    data.teach(data.indices("reference")[:0], {i: data.cached.masks[i] for i in strangers})
    assert seen.unseen(data) == []
    data.untrained = (data.splits.members[1],)
    assert seen.unseen(data) == [sorted(data.source.ids).index(data.source.ids[data.splits.members[1]])]


def test_a_card_that_names_others_is_refused(root: Path) -> None:
    data = opened(root)
    assert unseen_members({}, data) == ()
    for places in ([len(data.source)], [-1], ["a"]):
        with pytest.raises(InputError, match="must be members of this data"):
            unseen_members({"unseen": places}, data)
    other = sorted(data.source.ids).index(data.source.ids[data.splits.nonmembers[0]])
    with pytest.raises(InputError, match="must be members of this data"):
        unseen_members({"unseen": [other]}, data)
