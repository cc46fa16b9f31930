"""A stage is taken as it is if, and only if, all that it was computed from is the same."""

import functools
import json
import shlex
import shutil
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from filelock import FileLock
from PIL import Image

from seg_mia.audit import stage_key
from seg_mia.audit.stage_cache import FOLDER, StageCache
from seg_mia.audit.stage_key import code_digest, key_of, remembered_digest
from seg_mia.checkpoint import load_victim
from seg_mia.cli import main
from seg_mia.data.sets.phantom import Phantom
from seg_mia.errors import InputError
from seg_mia.experiment.modules import DataModules
from seg_mia.experiment.plan import plan
from seg_mia.experiment.request import requested
from seg_mia.runs import MARK, checkpoint_file
from tests.trained_runs import Trained

ASMA = ["test", "--attack", "asma", "--attack.steps=1", "--data.limit=1"]


def key(*words: str) -> str:
    return key_of(plan(requested(words)), DataModules())


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
    cache = StageCache(Path("runs"), said.append)
    fit = ["fit", "--config", str(tiny), "--runs", "runs"]
    first = cache.run(requested(fit), "victim")
    assert not first.cached
    again = StageCache(Path("runs"), said.append).run(requested(fit), "victim")
    assert again.cached
    assert (again.folder, again.seconds, again.headline) == (first.folder, first.seconds, first.headline)
    assert cache.seconds() == {"victim": first.seconds}
    assert not said
    words = [*ASMA, "--victim", str(first.folder), "--runs", "runs"]
    attacked = cache.run(requested(words))
    assert cache.run(requested(words)).summary == attacked.summary
    fresh = StageCache(Path("runs"), said.append, fresh=True).run(requested(words))
    assert not fresh.cached
    assert fresh.folder.name == "version_1"
    assert fresh.summary["results"] == attacked.summary["results"]
    (fresh.folder / "summary.json").unlink()
    assert not cache.run(requested(words)).cached  # what it wrote is gone


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
    first = StageCache(Path("runs"), print).run(requested(fit))
    shutil.rmtree("runs/tiny")
    assert main([*fit, "--model.lr=0.5"]) == 0  # takes version_0 again
    again = StageCache(Path("runs"), print).run(requested(fit))
    assert first.folder.name == "version_0"
    assert (again.cached, again.folder.name) == (False, "version_1")
    # An unfinished record of a folder that is another's by now wipes and resumes nothing.
    notes = again.folder.with_name("version_0") / "notes.txt"
    notes.write_text("mine")
    (record,) = Path("runs", FOLDER).glob("*.json")
    half = json.loads(record.read_text()) | {"done": False, "folder": "tiny/version_0"}
    record.write_text(json.dumps(half))
    assert StageCache(Path("runs"), print).run(requested(fit)).folder.name == "version_2"
    assert notes.read_text() == "mine"


def test_a_record_that_points_elsewhere_wipes_nothing(tiny: Path, tmp_path: Path) -> None:
    fit = ["fit", "--config", str(tiny), "--runs", "runs"]
    StageCache(Path("runs"), print).run(requested(fit))
    (record,) = Path("runs", FOLDER).glob("*.json")
    for place in (tmp_path / "precious", tmp_path / "version_0"):
        place.mkdir()
        (place / "thesis.tex").write_text("all of it")
        record.write_text(json.dumps(json.loads(record.read_text()) | {"done": False, "folder": str(place)}))
        assert not StageCache(Path("runs"), print).run(requested(fit)).cached
        assert (place / "thesis.tex").read_text() == "all of it"
    linked = Path("runs/tiny/version_9")
    (place / MARK).write_text(record.stem)
    linked.symlink_to(place)
    record.write_text(
        json.dumps(json.loads(record.read_text()) | {"done": False, "folder": "tiny/version_9"})
    )
    assert not StageCache(Path("runs"), print).run(requested(fit)).cached
    assert (place / "thesis.tex").read_text() == "all of it"


def test_a_training_that_went_on_is_not_the_one_that_was_recorded(tiny: Path) -> None:
    fit = ["fit", "--config", str(tiny), "--runs", "runs"]
    first = StageCache(Path("runs"), print).run(requested(fit))
    assert main(["fit", "--resume", str(first.folder), "--trainer.max_epochs=2"]) == 0
    assert not StageCache(Path("runs"), print).run(requested(fit)).cached


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
    first = StageCache(Path("runs"), print).run(requested(fit))
    assert StageCache(Path("runs"), print).run(requested(fit)).cached
    file = first.folder / "canaries.json"
    told = json.loads(file.read_text())
    file.write_text(json.dumps(told | {"auc": 0.5}))
    again = StageCache(Path("runs"), print).run(requested(fit))
    assert (again.cached, again.folder.name) == (False, "version_1")
    assert json.loads((again.folder / "canaries.json").read_text()) == told


def test_an_edit_of_prose_keeps_the_key_and_an_edit_of_code_changes_it(tmp_path: Path) -> None:
    module = tmp_path / "package" / "module.py"
    module.parent.mkdir()
    code = '''"""A module."""

LIMIT = 3
"""Of something."""


class Thing:
    """A thing."""

    def double(self, x: int) -> int:
        """Return twice as much."""
        return 2 * x  # twice
'''
    module.write_text(code)
    first = code_digest(module.parent)
    for prose in ("A module.", "Of something.", "A thing.", "Return twice as much.", "  # twice"):
        module.write_text(code.replace(prose, "" if prose.startswith(" ") else "Other words."))
        assert code_digest(module.parent) == first, prose
    for line, edited in (("2 * x", "3 * x"), ("LIMIT = 3", "LIMIT = 4"), ("x: int)", "x: float)")):
        module.write_text(code.replace(line, edited))
        assert code_digest(module.parent) != first, line
    module.write_text(code)
    (module.parent / "another.py").write_text("")
    assert code_digest(module.parent) != first


def test_code_is_parsed_once_for_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module, cache = tmp_path / "package" / "module.py", tmp_path / "cache"
    module.parent.mkdir()
    module.write_text("LIMIT = 3  # of something")
    first = code_digest(module.parent)
    assert remembered_digest(module.parent, cache) == first
    with monkeypatch.context() as patch:
        patch.setattr(stage_key, "code_digest", lambda _: pytest.fail("parsed again"))
        assert remembered_digest(module.parent, cache) == first
    module.write_text("LIMIT = 4  # of something")
    assert remembered_digest(module.parent, cache) == code_digest(module.parent) != first
    module.rename(module.with_name("renamed.py"))
    assert remembered_digest(module.parent, cache) == code_digest(module.parent)


@pytest.mark.parametrize("content", [b"", b"\xff", b"0" * 63])
def test_a_damaged_digest_is_computed_again(tmp_path: Path, content: bytes) -> None:
    module, cache = tmp_path / "package" / "module.py", tmp_path / "cache"
    module.parent.mkdir()
    module.write_text("LIMIT = 3")
    remembered_digest(module.parent, cache)
    (file,) = cache.iterdir()
    file.write_bytes(content)
    assert remembered_digest(module.parent, cache) == code_digest(module.parent)
    assert file.read_text().split()[0] == code_digest(module.parent)


def test_a_digest_of_other_code_in_its_place_is_computed_again(tmp_path: Path) -> None:
    modules = [tmp_path / name / "module.py" for name in ("one", "other")]
    for number, module in enumerate(modules):
        module.parent.mkdir()
        module.write_text(f"LIMIT = {number}")
        remembered_digest(module.parent, tmp_path / "cache")
    one, other = (tmp_path / "cache").iterdir()
    one.write_bytes(other.read_bytes())
    for module in modules:
        assert remembered_digest(module.parent, tmp_path / "cache") == code_digest(module.parent)


def test_code_that_changes_while_it_is_read_is_not_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, cache = tmp_path / "package" / "module.py", tmp_path / "cache"
    module.parent.mkdir()
    module.write_text("LIMIT = 3")
    read = stage_key.code_digest

    def changed(root: Path) -> str:
        module.write_text("LIMIT = 4")
        return read(root)

    with monkeypatch.context() as patch:
        patch.setattr(stage_key, "code_digest", changed)
        remembered_digest(module.parent, cache)
    module.write_text("LIMIT = 3")
    assert remembered_digest(module.parent, cache) == code_digest(module.parent)


def test_a_cache_that_cannot_be_written_keeps_no_digest_from_being_computed(tmp_path: Path) -> None:
    module = tmp_path / "package" / "module.py"
    module.parent.mkdir()
    module.write_text("LIMIT = 3")
    assert remembered_digest(module.parent, module) == code_digest(module.parent)


def test_a_stages_command_asks_for_just_the_same(tiny: Path) -> None:
    config = tiny.with_name("built_on.yaml")
    config.write_text("{base: tiny, defence: mixup}")
    trained = requested(["fit", "--config", str(config), "--defence=crop", "--role", "shadow",
                         "--model.defences.size=8", "--runs", "runs", "--data.members", "3"])  # fmt: skip
    victim = StageCache(Path("runs"), print).run(requested(["fit", "--config", str(tiny), "--runs", "runs"]))
    attack = requested([*ASMA, "--victim", str(victim.folder), "--release=argmax", "--trust", "a.B"])
    for request in (trained, attack):
        planned = plan(request)
        python, option, package, *words = shlex.split(
            shlex.join(["python", "-m", "seg_mia", *planned.request.words])
        )
        assert (python, option, package) == ("python", "-m", "seg_mia")
        pasted = plan(requested(words))
        assert (pasted.settings, pasted.folder) == (planned.settings, planned.folder)
        assert key_of(pasted, DataModules()) == key_of(planned, DataModules())
    assert main(shlex.split(victim.command)[3:]) == 0


@pytest.mark.usefixtures("undrawn")
def test_an_audit_of_one_attack_builds_its_data_module_and_lists_its_samples_at_most_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counts = {"built": 0, "read": 0}

    def counted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **settings: Any) -> Any:
            counts[name] += 1
            return function(*args, **settings)

        return functools.wraps(function)(call)

    monkeypatch.setattr(Phantom, "__init__", counted("built", Phantom.__init__))
    monkeypatch.setattr(Phantom, "read_source", counted("read", Phantom.read_source))
    words = ["audit", "--victim={config: phantom_victim, options: {trainer.max_epochs: 1}}",
             "--attacks=[{attack: fgsm, data: {limit: 2}}]",
             "--data={size: 32, patients: 24, members: 6, nonmembers: 6}"]  # fmt: skip
    assert main(words) == 0
    assert 1 <= counts["built"] <= 2
    assert 1 <= counts["read"] <= 2
    logged = [file.read_text() for file in Path("runs").rglob("hparams.yaml")]
    assert logged  # not with the data's settings, which may name samples
    assert not any("duplicates" in text for text in logged)


def test_commands_name_no_samples(tiny: Path) -> None:
    fit = ["fit", "--config", str(tiny), '--data.duplicates=[["s00", "s01"]]', "--runs", "runs"]
    assert "s00" not in StageCache(Path("runs"), print).run(requested(fit)).command
    assert all("s00" not in file.read_text() for file in Path("runs", FOLDER).glob("*.json"))


def test_what_is_refused_leaves_nothing_behind(tiny: Path) -> None:
    cache = StageCache(Path("runs"), print)
    with pytest.raises(InputError, match="members"):
        cache.run(requested(["fit", "--config", str(tiny), "--data.members=100"]))
    assert not list(Path("runs").glob("tiny/*"))
    assert not list(Path("runs", FOLDER).glob("*.json"))


def test_a_folder_that_cannot_be_written_is_one_line(tiny: Path) -> None:
    Path("runs").write_text("a file")
    with pytest.raises(InputError, match=r"cannot write to runs.*--runs"):
        StageCache(Path("runs"), print).run(requested(["fit", "--config", str(tiny)]))


def test_whoever_comes_second_waits_and_takes_it(tiny: Path) -> None:
    said = list[str]()
    fit = ["fit", "--config", str(tiny), "--runs", "runs"]
    first = StageCache(Path("runs"), said.append).run(requested(fit))
    held, file = threading.Event(), next(Path("runs", FOLDER).glob("*.lock"))

    def hold() -> None:
        with FileLock(file):
            held.set()
            time.sleep(1.5)

    threading.Thread(target=hold).start()
    assert held.wait(10)
    begun = time.monotonic()
    assert StageCache(Path("runs"), said.append).run(requested(fit)).folder == first.folder
    assert time.monotonic() - begun > 1
    assert len(said) == 1
    assert "another audit" in said[0]


def test_a_damaged_record_is_no_record(tiny: Path) -> None:
    fit = ["fit", "--config", str(tiny), "--runs", "runs"]
    StageCache(Path("runs"), print).run(requested(fit))
    (record,) = Path("runs", FOLDER).glob("*.json")
    assert json.loads(record.read_text())["done"]
    whole = json.loads(record.read_text())
    for text in ("{half", "[1]", '{"folder": "x"}', json.dumps(whole | {"format": 0})):
        record.write_text(text)
        cache = StageCache(Path("runs"), print)
        assert cache.seconds() == {}
        again = cache.run(requested(fit))
        assert not again.cached
        assert load_victim(checkpoint_file(again.folder)) is not None
