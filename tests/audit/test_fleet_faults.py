"""A fleet whose processes are killed goes on where it stopped, and gives the same numbers."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from seg_mia.cli import main
from tests.audit.test_interrupted import KILLER, ends_in, timeless, versions
from tests.audit.test_side_by_side import epochs, prepare
from tests.forked import Forked

pytestmark = pytest.mark.slow

NETWORKS = 6


@pytest.fixture
def recipe(
    tiny: Path,
    folder: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    undrawn: None,  # noqa: ARG001
) -> Path:
    """A training of six steps on 6 of 24 samples that counts its epochs and dies when it is told."""
    folder(count=24)
    prepare(tmp_path, monkeypatch)
    callback = f"callbacks: [{{class_path: fragile.Fragile, init_args: {{folder: {tmp_path}}}}}]"
    text = tiny.read_text().replace("members: 4, nonmembers: 2", "members: 6, nonmembers: 6")
    tiny.write_text(text.replace("max_epochs: 1", f"max_epochs: 2, {callback}"))
    return tiny


def nameless(content: Any) -> Any:
    """Return plain values without times, and without hashes of patients, whose salt is each folder's own."""
    if isinstance(content, dict):
        return {name: nameless(value) for name, value in timeless(content).items() if name != "exposed"}
    return [nameless(value) for value in content] if isinstance(content, list) else content


def killed(place: Path, recipe: Path, *modes: str) -> list[int]:
    """Train a fleet in a folder of its own, ended as each mode says; return how each ended."""
    place.mkdir(exist_ok=True)
    fleet = ["fleet", "--config", str(recipe), "--count", str(NETWORKS), "--attacks", "mia-calibrated"]
    words = [str(KILLER), ",".join(modes), *fleet, "--workers", "1", "--threads", "1"]
    begun(words, place).wait(timeout=1800)
    return ends_in(place / "fork.out")


def begun(words: list[str], place: Path) -> Forked:
    """Begin a program in a folder; its streams are fork.out and fork.err there."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    output, errors = place / "fork.out", place / "fork.err"
    return Forked(words, folder=place, output=output, errors=errors, environment=environment)


def told(place: Path) -> tuple[Any, list[tuple[int, int]]]:
    """Return a fleet's audit, and the numbers and seeds of its networks.

    Their folders may have other numbers: an error, unlike a kill, gives up the folder of its training.
    """
    (folder,) = (place / "runs" / "tiny-fleet").iterdir()
    record, audit = (json.loads((folder / name).read_text()) for name in ("fleet.json", "recipe.json"))
    return nameless(audit), [(network["shadow"], network["seed"]) for network in record["networks"]]


@pytest.mark.slow(60)
def test_a_fleet_killed_anywhere_ends_as_it_would_have(recipe: Path, tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "interrupted"  # "broken" makes `Fragile` raise
    assert killed(whole, recipe, "") == [0]
    # Within a training, after the optimiser is dropped and before the signals are kept, around a record, and
    # with a disk that takes no checkpoint.
    modes = ["step:2", "finish:1", "record:2", "disk:20000", "finish:2", "record-before:3", "step:5", ""]
    ends = killed(broken, recipe, *modes)
    assert ends == [-9, -9, -9, 2, -9, -9, -9, 0]
    assert told(broken) == told(whole)
    (tmp_path / "epochs").unlink()
    assert killed(broken, recipe, "step:1") == [0]  # nothing is trained again
    assert not (tmp_path / "epochs").exists()


@pytest.mark.slow(70)
def test_an_audit_with_a_fleet_survives_its_worker_and_its_driver(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    audit = tmp_path / "tiny_audit.yaml"
    fleet = f"fleet: {{count: {NETWORKS}}}, attacks: [mia-calibrated]"
    audit.write_text(f"{{version: 1, victim: {recipe}, {fleet}}}")
    words = ["audit", "--config", str(audit), "--workers", "2", "--threads", "1"]

    def outcome(name: str) -> tuple[Any, list[str]]:
        (tmp_path / name).mkdir(exist_ok=True)
        monkeypatch.chdir(tmp_path / name)
        assert main(words) == 0
        (folder,) = (tmp_path / name / "runs" / "tiny_audit").iterdir()
        return nameless(json.loads((folder / "audit.json").read_text())), versions(tmp_path / name)

    alone, trained = outcome("alone"), epochs(tmp_path)
    assert len(trained) == 2 * (1 + NETWORKS)
    (tmp_path / "epochs").unlink()
    (tmp_path / "worker").touch()
    assert outcome("worker_killed") == alone
    assert not (tmp_path / "worker").exists()
    assert len(epochs(tmp_path)) == len(trained) + 1  # the epoch of the kill was begun twice, no other
    (tmp_path / "epochs").unlink()
    (tmp_path / "driver").touch()
    (tmp_path / "driver_killed").mkdir()
    assert begun(["-m", "seg_mia", *words], tmp_path / "driver_killed").wait() == -9
    assert outcome("driver_killed") == alone
    again = epochs(tmp_path)
    assert set(again) == set(trained)
    assert len(again) <= len(trained) + 2  # two trainings ran, each in one epoch
