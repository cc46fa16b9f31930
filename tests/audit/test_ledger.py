"""A stage is taken as it is if, and only if, all that it was computed from is the same."""

import json
import shutil
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from PIL import Image

from seg_mia.audit.inputs import key_of
from seg_mia.audit.ledger import FOLDER, Ledger
from seg_mia.checkpoint import load_victim
from seg_mia.cli import main
from seg_mia.errors import InputError
from seg_mia.experiment.plan import plan
from seg_mia.runs import MARK, checkpoint_file
from tests.trained_runs import Trained

ASMA = ["test", "--attack", "asma", "--attack.steps=1", "--data.limit=1"]


def key(*words: str) -> str:
    return key_of(plan(list(words)), {})


def test_a_trainings_key_holds_all_that_decides_it(tiny: Path, tmp_path: Path) -> None:
    fit = ["fit", "--config", str(tiny)]
    first = key(*fit)
    assert key(*fit) == first
    assert key(*fit, "--data.cache", str(tmp_path / "cache")) == first
    assert key(*fit, f"--data.cache={tmp_path / 'cache'}", "--data.workers=1") == first
    assert key(*fit, "--runs", "elsewhere") == first
    assert key(*fit, "--model.lr=0.5") != first
    assert key(*fit, "--seed_everything", "1") != first
    weights = tmp_path / "start.pth"
    torch.save({"a": torch.zeros(1)}, weights)
    started = key(*fit, f"--model.weights={weights}")
    torch.save({"a": torch.ones(1)}, weights)
    assert key(*fit, f"--model.weights={weights}") != started
    assert key("adopt", *fit[1:], f"--model.weights={weights}") != key(*fit, f"--model.weights={weights}")
    tiny.write_text(tiny.read_text().replace("lr: 0.01", "lr: 0.02"))
    assert key(*fit) != first


def test_a_changed_image_or_mask_is_another_key(tiny: Path, folder: Callable[..., Path]) -> None:
    fit = ["fit", "--config", str(tiny)]
    first = key(*fit)
    for part in ("images", "masks"):
        file = min((folder() / part).iterdir())
        pixels = np.array(Image.open(file))
        pixels[:4] = 255 - pixels[:4]
        Image.fromarray(pixels).save(file)
        assert key(*fit) != first
        first = key(*fit)


def test_an_attacks_key_holds_the_victim(tiny: Path, trained: Trained) -> None:
    file = checkpoint_file(trained(tiny))
    first = key(*ASMA)
    assert key(*ASMA, "--attack.tau=1e-3") != first
    content = torch.load(file, weights_only=True)
    name = next(name for name in content["state_dict"] if name.endswith("weight"))
    content["state_dict"][name] = content["state_dict"][name] * 1.001
    torch.save(content, file)
    assert key(*ASMA) != first


def test_a_class_of_ones_own_is_known_by_its_source(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "own_network.py"
    code = "from torch import nn\n\nclass Own(nn.Conv2d):\n"
    code += "    def __init__(self):\n        super().__init__(3, 1, {})\n"
    file.write_text(code.format(1))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "own_network", raising=False)
    before = tiny.read_text()
    start = before.index("      class_path: seg_mia.models.smp.Smp")
    end = before.index("    lr:")
    tiny.write_text(before[:start] + "      class_path: own_network.Own\n" + before[end:])
    first = key("fit", "--config", str(tiny))
    file.write_text(code.format(3))
    second = key("fit", "--config", str(tiny))
    assert second != first
    (tmp_path / "helper_of_it.py").write_text("")  # which it may import
    assert key("fit", "--config", str(tiny)) != second


def test_what_was_run_is_taken(tiny: Path) -> None:
    said = list[str]()
    ledger = Ledger(Path("runs"), said.append)
    fit = ["fit", "--config", str(tiny), "--runs", "runs"]
    first = ledger.run(fit, "victim")
    assert not first.kept
    again = Ledger(Path("runs"), said.append).run(fit, "victim")
    assert again.kept
    assert (again.folder, again.seconds, again.headline) == (first.folder, first.seconds, first.headline)
    assert ledger.seconds() == {"victim": first.seconds}
    assert not said
    words = [*ASMA, "--victim", str(first.folder), "--runs", "runs"]
    attacked = ledger.run(words)
    assert ledger.run(words).summary == attacked.summary
    fresh = Ledger(Path("runs"), said.append, fresh=True).run(words)
    assert not fresh.kept
    assert fresh.folder.name == "version_1"
    assert fresh.summary["results"] == attacked.summary["results"]
    (fresh.folder / "summary.json").unlink()
    assert not ledger.run(words).kept  # what it wrote is gone


def test_files_that_words_name_in_any_way_count(tiny: Path, trained: Trained) -> None:
    """A folder of masks by one word, weights inside a mapping, a defence's options."""
    trained(tiny)
    Path("targets").mkdir()
    mask, start = Path("targets/m.png"), Path("start.pth")
    inlined = '{"model": {"init_args": {"weights": "start.pth"}}}'
    for words, file in (
        ([*ASMA, "--attack.target=folder", "--attack.target_folder=targets"], mask),
        (
            ["fit", "--config", str(tiny), "--config", inlined],
            start,
        ),
        (["fit", "--config", str(tiny), '--model.options=["start.pth"]'], start),
    ):
        file.write_bytes(b"one")
        first = key(*words)
        file.write_bytes(b"two")
        assert key(*words) != first, words


def test_results_beside_a_surrogates_weights_do_not_count(tiny: Path, trained: Trained) -> None:
    trained(tiny)
    words = [*ASMA, "--attack.surrogate=runs/tiny/version_0"]
    first = key(*words)
    Path("runs/tiny/version_0/notes.txt").write_text("seen")
    assert key(*words) == first


def test_a_folder_that_somebody_else_took_is_left_alone(tiny: Path) -> None:
    fit = ["fit", "--config", str(tiny), "--runs", "runs"]
    first = Ledger(Path("runs"), print).run(fit)
    shutil.rmtree("runs/tiny")
    assert main([*fit, "--model.lr=0.5"]) == 0  # takes version_0 again
    again = Ledger(Path("runs"), print).run(fit)
    assert first.folder.name == "version_0"
    assert (again.kept, again.folder.name) == (False, "version_1")
    # An unfinished record of a folder that is another's by now wipes and resumes nothing.
    notes = again.folder.with_name("version_0") / "notes.txt"
    notes.write_text("mine")
    (record,) = Path("runs", FOLDER).glob("*.json")
    half = json.loads(record.read_text()) | {"done": False, "folder": "tiny/version_0"}
    record.write_text(json.dumps(half))
    assert Ledger(Path("runs"), print).run(fit).folder.name == "version_2"
    assert notes.read_text() == "mine"


def test_a_record_that_points_elsewhere_wipes_nothing(tiny: Path, tmp_path: Path) -> None:
    fit = ["fit", "--config", str(tiny), "--runs", "runs"]
    Ledger(Path("runs"), print).run(fit)
    (record,) = Path("runs", FOLDER).glob("*.json")
    for place in (tmp_path / "precious", tmp_path / "version_0"):
        place.mkdir()
        (place / "thesis.tex").write_text("all of it")
        record.write_text(json.dumps(json.loads(record.read_text()) | {"done": False, "folder": str(place)}))
        assert not Ledger(Path("runs"), print).run(fit).kept
        assert (place / "thesis.tex").read_text() == "all of it"
    linked = Path("runs/tiny/version_9")
    (place / MARK).write_text(record.stem)
    linked.symlink_to(place)
    record.write_text(
        json.dumps(json.loads(record.read_text()) | {"done": False, "folder": "tiny/version_9"})
    )
    assert not Ledger(Path("runs"), print).run(fit).kept
    assert (place / "thesis.tex").read_text() == "all of it"


def test_a_training_that_went_on_is_not_the_one_that_was_recorded(tiny: Path) -> None:
    fit = ["fit", "--config", str(tiny), "--runs", "runs"]
    first = Ledger(Path("runs"), print).run(fit)
    assert main(["fit", "--resume", str(first.folder), "--trainer.max_epochs=2"]) == 0
    assert not Ledger(Path("runs"), print).run(fit).kept


def test_canaries_that_were_edited_are_not_what_was_computed(tiny: Path, folder: Callable[..., Path]) -> None:
    folder(count=60)
    fit = [
        "fit",
        "--config",
        str(tiny),
        "--runs",
        "runs",
        "--defence",
        "canaries",
        "--model.defences.count=8",
    ]
    first = Ledger(Path("runs"), print).run(fit)
    assert Ledger(Path("runs"), print).run(fit).kept
    file = first.folder / "canaries.json"
    told = json.loads(file.read_text())
    file.write_text(json.dumps(told | {"auc": 0.5}))
    again = Ledger(Path("runs"), print).run(fit)
    assert (again.kept, again.folder.name) == (False, "version_1")
    assert json.loads((again.folder / "canaries.json").read_text()) == told


def test_commands_name_no_samples(tiny: Path) -> None:
    fit = ["fit", "--config", str(tiny), '--data.duplicates=[["s00", "s01"]]', "--runs", "runs"]
    assert "s00" not in Ledger(Path("runs"), print).run(fit).command
    assert all("s00" not in file.read_text() for file in Path("runs", FOLDER).glob("*.json"))


def test_what_is_refused_leaves_nothing_behind(tiny: Path) -> None:
    ledger = Ledger(Path("runs"), print)
    with pytest.raises(InputError, match="members"):
        ledger.run(["fit", "--config", str(tiny), "--data.members=100"])
    assert not list(Path("runs").glob("tiny/*"))
    assert not list(Path("runs", FOLDER).glob("*.json"))


def test_a_folder_that_cannot_be_written_is_one_line(tiny: Path) -> None:
    Path("runs").write_text("a file")
    with pytest.raises(InputError, match=r"cannot write to runs.*--runs"):
        Ledger(Path("runs"), print).run(["fit", "--config", str(tiny)])


def test_whoever_comes_second_waits_and_takes_it(tiny: Path) -> None:
    said = list[str]()
    fit = ["fit", "--config", str(tiny), "--runs", "runs"]
    first = Ledger(Path("runs"), said.append).run(fit)
    held, file = threading.Event(), next(Path("runs", FOLDER).glob("*.lock"))

    def hold() -> None:
        with FileLock(file):
            held.set()
            time.sleep(1.5)

    threading.Thread(target=hold).start()
    assert held.wait(10)
    begun = time.monotonic()
    assert Ledger(Path("runs"), said.append).run(fit).folder == first.folder
    assert time.monotonic() - begun > 1
    assert said == ["  another audit is at this very stage: waiting for what it makes"]


def test_a_damaged_record_is_no_record(tiny: Path) -> None:
    fit = ["fit", "--config", str(tiny), "--runs", "runs"]
    Ledger(Path("runs"), print).run(fit)
    (record,) = Path("runs", FOLDER).glob("*.json")
    assert json.loads(record.read_text())["done"]
    whole = json.loads(record.read_text())
    for text in ("{half", "[1]", '{"folder": "x"}', json.dumps(whole | {"format": 0})):
        record.write_text(text)
        ledger = Ledger(Path("runs"), print)
        assert ledger.seconds() == {}
        again = ledger.run(fit)
        assert not again.kept
        assert load_victim(checkpoint_file(again.folder)) is not None
