"""Results must not depend on the number of processes that share the work."""

import csv
import json
import os
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from seg_mia.cli import main
from tests.forked import Forked, fresh
from tests.trained_runs import Trained

pytestmark = pytest.mark.slow

RUN = Path("runs/tiny/version_0")
TWO = ["--trainer.devices=2", "--trainer.accelerator=cpu", "--trainer.strategy=ddp"]
TWO_NODES = ["--trainer.devices=1", "--trainer.num_nodes=2", *TWO[1:]]
Ended = tuple[int | None, str, str]
"""Exit code, output and error stream of a process."""


def launched(*words: str, imported: bool = False) -> Ended:
    """Run a command on two ranks; Lightning starts the second, which writes into the first one's streams."""
    output, errors = Path("output"), Path("errors")
    process = (Forked if imported else fresh)(["-m", "seg_mia", *words, *TWO], output=output, errors=errors)
    return process.wait(timeout=900), output.read_text(), errors.read_text()


def on_two(*words: str) -> str:
    """Return what both ranks print. Each is told its rank, as by a cluster, and begins with all imported."""
    return "".join(of_two(*words, *TWO, name="LOCAL_RANK"))


def on_two_nodes(*words: str, imported: bool = True) -> list[str]:
    """Return what each of two processes prints that are a node each, on this machine."""
    return of_two(*words, *TWO_NODES, name="NODE_RANK", imported=imported)


def of_two(*words: str, name: str, imported: bool = True) -> list[str]:
    """Return what two processes print that are told their rank by a variable."""
    for _ in range(3):
        ended = with_a_port(words, name, imported=imported)
        if "EADDRINUSE" not in ended[0][2]:  # another process has taken the port since it was found free
            break
    return succeeded(*ended)


def succeeded(*processes: Ended) -> list[str]:
    """Return the outputs of processes that have ended without an error."""
    codes, said, told = zip(*processes, strict=True)
    ends = [errors[-4000:] for errors in told]
    assert set(codes) == {0}, ends  # of one that fails the other is ended
    assert not any("Traceback" in errors or "rror:" in errors for errors in told), ends
    return list(said)


def with_a_port(words: Sequence[str], name: str, *, imported: bool) -> list[Ended]:
    """Return how two processes end that meet at a port that was free; one that fails ends the other."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    processes, until = list[Forked | subprocess.Popen[bytes]](), time.monotonic() + 900
    outputs, errors = ([Path(f"rank{rank}.{end}") for rank in range(2)] for end in ("out", "err"))
    try:
        for rank in range(2):
            start = partial(Forked, hashing=rank) if imported else fresh
            process = start(
                ["-m", "seg_mia", *words],
                output=outputs[rank],
                errors=errors[rank],
                environment=os.environ | address | {name: str(rank)},
            )
            processes.append(process)
        while None in (codes := [process.poll() for process in processes]):
            if any(codes) or time.monotonic() > until:
                break
            time.sleep(0.1)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    ended = zip(processes, outputs, errors, strict=True)
    return [(process.returncode, out.read_text(), err.read_text()) for process, out, err in ended]


def table(folder: Path, name: str = "per_image.csv") -> list[dict[str, str]]:
    with (folder / name).open() as file:
        return list(csv.DictReader(file))


def assert_same_table(one: list[dict[str, str]], other: list[dict[str, str]]) -> None:
    assert [row["id"] for row in one] == [row["id"] for row in other]
    assert len({row["id"] for row in one} if "step" not in one[0] else one) == len(one)
    for mine, theirs in zip(one, other, strict=True):
        assert set(mine) == set(theirs)
        for name in set(mine) - {"id"}:
            assert float(mine[name]) == pytest.approx(float(theirs[name]), rel=1e-5, abs=1e-5), name


def assert_same(one: Any, other: Any, *, to: float = 1e-4) -> None:
    """Compare plain values, numbers to a relative and absolute difference."""
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert set(one) == set(other)
        for name in one:
            assert_same(one[name], other[name], to=to)
    elif isinstance(one, list):
        assert len(one) == len(other)
        for mine, theirs in zip(one, other, strict=True):
            assert_same(mine, theirs, to=to)
    elif isinstance(one, float):
        assert one == pytest.approx(other, rel=to, abs=to, nan_ok=True)
    else:
        assert one == other


@pytest.fixture
def config(tiny: Path, folder: Callable[..., Path]) -> Path:
    """Five members and five non-members: two ranks cannot share either evenly."""
    folder(count=20)
    tiny.write_text(tiny.read_text().replace("members: 4, nonmembers: 2", "members: 5, nonmembers: 5"))
    return tiny


def versions(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    "words",
    [["validate"], ["test", "--attack", "asma", "--attack.steps=4", "--attack.history_every=2"]],
    ids=["validate", "asma"],
)
def test_two_processes_measure_what_one_does(config: Path, trained: Trained, words: list[str]) -> None:
    trained(config)
    assert main(words) == 0
    name = "asma" if "asma" in words else "validate"
    (said,) = succeeded(launched(*words)) if name == "asma" else [on_two(*words)]
    results = RUN / name
    assert versions(results) == ["version_0", "version_1"]
    one, two = results / "version_0", results / "version_1"
    assert len(table(one)) == 5
    assert_same_table(table(one), table(two))
    summaries = [json.loads((folder / "summary.json").read_text()) for folder in (one, two)]
    assert summaries[0]["images"] == 5
    assert_same(*summaries)
    assert {file.name for file in one.iterdir() if not file.name.startswith("events")} == {
        file.name for file in two.iterdir() if not file.name.startswith("events")
    }
    assert said.count("written to") == 1
    if name == "asma":
        assert_same_table(table(one, "history.csv"), table(two, "history.csv"))


EXACT = {
    "asma": ["--attack.steps=4", "--attack.history_every=2"],
    "medis": ["--attack.steps=2"],
    "sea": ["--attack.steps=3", "--attack.sanity_images=0"],  # the check gathers the images of one rank
    "certify": ["--attack.first=4", "--attack.draws=20"],
}
"""Attacks, with options that keep them short. The scores of mia-global-loss are compared below."""


@pytest.mark.parametrize("name", EXACT)
def test_in_double_precision_two_processes_give_the_numbers_of_one(
    config: Path, trained: Trained, name: str
) -> None:
    trained(config)
    words = ["test", "--attack", name, *EXACT[name], "--trainer.precision=64-true"]
    assert main(words) == 0
    on_two(*words)
    one, two = (RUN / name / version for version in versions(RUN / name))
    tables = sorted(file.name for file in one.glob("*.csv"))
    assert tables
    for table_name in tables:  # six digits of each number
        assert (one / table_name).read_text() == (two / table_name).read_text(), table_name
    assert_same(*(json.loads((folder / "summary.json").read_text()) for folder in (one, two)), to=1e-9)


def test_one_image_is_enough_for_two_processes(config: Path, trained: Trained) -> None:
    trained(config)
    on_two("validate", "--data.limit=1")
    assert len(table(RUN / "validate" / "version_0")) == 1


def test_two_processes_predict_every_image_into_one_folder(config: Path, trained: Trained) -> None:
    trained(config)
    on_two("predict")
    assert versions(RUN / "predict") == ["version_0"]
    assert len(list((RUN / "predict" / "version_0" / "masks").glob("*.png"))) == 5


@pytest.mark.parametrize("defence", ["poisoned", "minmax"])
def test_two_processes_train_one_defended_victim(
    config: Path, folder: Callable[..., Path], defence: str
) -> None:
    folder(count=40)
    on_two("fit", "--config", str(config), "--defence", defence, "--data.reference=4")
    run = Path(f"runs/tiny-{defence}")
    assert versions(run) == ["version_0"]
    assert versions(run / "version_0" / "checkpoints") == ["best.ckpt", "last.ckpt"]


def test_two_processes_train_one_victim_in_one_folder(config: Path) -> None:
    (said,) = succeeded(launched("fit", "--config", str(config), "--trainer.max_epochs=2"))
    assert versions(Path("runs/tiny")) == ["version_0"]
    assert versions(RUN / "checkpoints") == ["best.ckpt", "last.ckpt"]
    assert said.count("written to") == 1
    lines = [json.loads(line) for line in (RUN / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [0, 1]
    # Five members in batches of two: one process takes 3 steps an epoch, each of two takes 3 images in 2.
    content = torch.load(RUN / "checkpoints" / "last.ckpt", weights_only=True)
    assert content["global_step"] == 4
    assert len(content["seg_mia"]["split"]["members"]) == 5
    # The victim belongs to its run: the split is checked against the salt, on one process as on two.
    assert main(["validate"]) == 0
    (again,) = (RUN / "validate").iterdir()
    assert_same(json.loads((again / "summary.json").read_text())["dice"], lines[-1]["val/dice"])


def test_two_nodes_train_and_measure_in_one_folder(config: Path) -> None:
    training = ("fit", "--config", str(config))
    assert [said.count("written to") for said in on_two_nodes(*training, imported=False)] == [1, 0]
    assert versions(Path("runs/tiny")) == ["version_0"]
    content = torch.load(RUN / "checkpoints" / "last.ckpt", weights_only=True)
    assert content["global_step"] == 2  # five members in batches of two: 3 images in 2 steps on each node
    words = ("test", "--attack", "asma", "--attack.steps=4")
    assert main(words) == 0
    on_two_nodes(*words)
    one, two = (RUN / "asma" / version for version in versions(RUN / "asma"))
    assert len(table(one)) == 5
    assert_same_table(table(one), table(two))


FAILS_ON_THE_SECOND = """
from lightning.pytorch import Callback

class Fails(Callback):
    def on_fit_end(self, trainer, pl_module):
        if trainer.global_rank == 1:
            raise LookupError("no such thing")
"""


def test_a_rank_that_fails_at_the_end_is_no_success(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("late.py").write_text(FAILS_ON_THE_SECOND)
    monkeypatch.setenv("PYTHONPATH", str(Path.cwd()), prepend=os.pathsep)
    words = ("fit", "--config", str(config), "--trainer.callbacks=late.Fails")
    code, _, told = launched(*words)
    assert code == 2, told[-4000:]
    assert "Traceback" not in told, told[-4000:]
    assert "LookupError: no such thing (late.py, line 7, in on_fit_end)" in told
    assert "rank 1 of 2 failed (exit code 2)" in told


KILLED = """
import os, time
from pathlib import Path
from lightning.pytorch import Callback

class Killed(Callback):
    def on_train_batch_end(self, trainer, *_):
        if trainer.global_rank == 1:
            Path("killed").write_text(str(time.time()))
            os.kill(os.getpid(), 9)

    on_test_batch_end = on_train_batch_end
"""


@pytest.mark.parametrize("command", ["fit", "test"])
def test_a_rank_that_is_killed_ends_the_run_within_a_minute(
    command: str, config: Path, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [command, "--config", str(config)]
    if command == "test":
        trained(config)
        words = [command, "--attack", "asma", "--attack.steps=4"]
    Path("sudden.py").write_text(KILLED)
    monkeypatch.setenv("PYTHONPATH", str(Path.cwd()), prepend=os.pathsep)
    # The command of the training is started anew, that of the attack with everything imported.
    code, _, told = launched(*words, "--trainer.callbacks=sudden.Killed", imported=command == "test")
    assert time.time() - float(Path("killed").read_text()) < 60
    assert code in {2, -9}  # whoever notices first: the connection, or Lightning, which kills all
    assert "seg_mia: error: a rank has failed, so the run ends: " in told


def test_two_processes_guess_about_every_sample_once(config: Path, trained: Trained) -> None:
    for words in ([], ["--data.role=shadow", "--seed_everything=1"]):
        trained(config, *words)
    small = [
        "--attack.scorer.architecture=test_resnet",
        "--attack.scorer.epochs=2",
        "--attack.scorer.batch_size=2",
    ]
    for name, words in (("mia-type2", small), ("mia-global-loss", [])):
        assert main(["test", "--attack", name, *words]) == 0
        said = on_two("test", "--attack", name, *words)
        assert said.count("written to") == 1
        assert versions(RUN / name) == ["version_0", "version_1"]
        one, two = (table(RUN / name / version, "scores.csv") for version in versions(RUN / name))
        assert len({row["id"] for row in two}) == 10
        keys = ("id", "group", "member") if words else tuple(one[0])  # two ranks take other training steps
        assert [[row[key] for key in keys] for row in one] == [[row[key] for key in keys] for row in two]


def test_two_nodes_guess_as_one_machine_does(config: Path, trained: Trained) -> None:
    for words in ([], ["--data.role=shadow", "--seed_everything=1"]):
        trained(config, *words)
    small = [
        "--attack.scorer.architecture=test_resnet",
        "--attack.scorer.epochs=2",
        "--attack.scorer.batch_size=2",
    ]
    for name, words in (("mia-type2", small), ("mia-global-loss", [])):
        command = ("test", "--attack", name, *words)
        assert main(command) == 0
        assert [said.count("written to") for said in on_two_nodes(*command)] == [1, 0]
        assert versions(RUN / name) == ["version_0", "version_1"]
        if words:  # a step of two ranks takes two batches: the classifier is that of two ranks of one machine
            on_two(*command)
        alone, nodes, *machine = (
            table(RUN / name / version, "scores.csv") for version in versions(RUN / name)
        )
        assert len({row["id"] for row in nodes}) == len(nodes) == 10
        keys = ("id", "group", "member")
        assert [[row[key] for key in keys] for row in alone] == [[row[key] for key in keys] for row in nodes]
        for mine, theirs in zip(nodes, machine[0] if words else alone, strict=True):
            assert float(mine["score"]) == pytest.approx(float(theirs["score"]), rel=1e-6, abs=1e-6)
            assert mine["called_member"] == theirs["called_member"]


PRIVATE = [
    "--defence=dp",
    "--model.defences.accountant=rdp",
    "--model.defences.reproducible=true",
    "--model.optimizer=sgd",
    "--trainer.precision=64-true",  # in 32 bits, sums in another order change which side of 0 a ReLU is on
]


def trained_privately(config: Path, folder: Callable[..., Path], unit: str) -> tuple[Path, Path]:
    """Train on eight slices of four patients on one process and on two, and return both folders."""
    root = folder(count=40)
    rows = [f"images/s{i:02d}.png,masks/s{i:02d}.png,p{i // 2}\n" for i in range(40)]
    (root / "list.csv").write_text("image,mask,patient\n" + "".join(rows))
    size = 4 if unit == "image" else 2  # units in a batch
    before, after = "members: 5, nonmembers: 5, batch_size: 2", "members: 8, nonmembers: 4, batch_size: "
    config.write_text(config.read_text().replace(before, f"{after}{size}"))
    grouped = ["--data.manifest=list.csv", "--data.group_column=patient", "--data.images=.", "--data.masks=."]
    limit = ["--model.defences.epsilon=8", f"--model.defences.unit={unit}", "--trainer.max_epochs=3"]
    words = ["fit", "--config", str(config), *PRIVATE, *grouped, *limit]
    assert main([*words, "--runs=one"]) == 0
    on_two(*words, "--runs=two")
    return Path("one/tiny-dp/version_0"), Path("two/tiny-dp/version_0")


def logged(run: Path) -> list[dict[str, Any]]:
    """Return what was logged each epoch, without what the first process says of its part of a batch."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    own = ("train/clipped", "train/median_norm")
    return [{name: value for name, value in line.items() if name not in own} for line in lines]


@pytest.mark.parametrize("unit", ["image", "patient"])
def test_two_processes_keep_one_promise_with_the_same_weights(
    unit: str, config: Path, folder: Callable[..., Path]
) -> None:
    one, two = trained_privately(config, folder, unit)
    first, second = (torch.load(run / "checkpoints" / "last.ckpt", weights_only=True) for run in (one, two))
    promise = first["seg_mia"]["privacy"]
    assert promise == second["seg_mia"]["privacy"]
    assert (promise["unit"], promise["units"]) == (unit, 8 if unit == "image" else 4)
    assert first["global_step"] == second["global_step"] == promise["steps"] == 6
    assert set(first["state_dict"]) == set(second["state_dict"])
    for name, weight in first["state_dict"].items():
        torch.testing.assert_close(second["state_dict"][name], weight, rtol=1e-4, atol=1e-4)
    # An image that was drawn twice in an epoch counts once, whichever process drew it.
    judged = {name for name in logged(one)[0] if unit == "image" or not name.startswith("train/")}
    assert {"val/dice", "privacy/epsilon", "privacy/steps"} <= judged
    assert ("train/dice" in judged) == (unit == "image")
    for mine, theirs in zip(logged(one), logged(two), strict=True):
        assert set(mine) == set(theirs)
        assert_same({name: mine[name] for name in judged}, {name: theirs[name] for name in judged})


def test_a_process_that_never_draws_a_unit_keeps_nobody_waiting(config: Path) -> None:
    before, after = "members: 5, nonmembers: 5, batch_size: 2", "members: 1, nonmembers: 5, batch_size: 1"
    config.write_text(config.read_text().replace(before, after))
    limit = ["--model.defences.noise=1", "--model.defences.epsilon=.inf", "--model.defences.delta=0.1"]
    on_two("fit", "--config", str(config), *PRIVATE, *limit, "--trainer.max_epochs=2", "--runs=two")
    run = Path("two/tiny-dp/version_0")
    content = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert content["seg_mia"]["privacy"]["steps"] == 2
    assert [line["epoch"] for line in logged(run)] == [0, 1]
