import os
from pathlib import Path
from typing import Any

import pytest
import torch

from seg_mia.checkpoint import FORMAT, KEY
from seg_mia.errors import InputError
from seg_mia.runs import checkpoint_file, newest, newest_fitting, run_of, shadow_files

RUNS = Path("runs")


def make(name: str, *, age: int, role: str | None = "victim", kind: str = "last", **card: Any) -> Path:
    """Write a run's checkpoint, `age` seconds old."""
    file = RUNS / name / "checkpoints" / f"{kind}.ckpt"
    file.parent.mkdir(parents=True, exist_ok=True)
    split = {} if role is None else {"split": {"role": role}}
    torch.save({KEY: {"format": FORMAT} | split | card, "state_dict": {}}, file)
    os.utime(file, (1_700_000_000 - age,) * 2)
    return file


def test_the_newest_run_of_a_role_is_meant() -> None:
    make("old/version_0", age=30)
    victim = make("a/version_1", age=20)
    shadow = make("b/version_0", age=10, role="shadow")
    assert newest(RUNS, "victim") == victim
    assert newest(RUNS, "shadow") == shadow


def test_time_counts_and_not_the_name() -> None:
    make("z/version_9", age=30)
    assert newest(RUNS, "victim") != make("a/version_0", age=40)
    assert newest(RUNS, "victim") == RUNS / "z/version_9/checkpoints/last.ckpt"
    assert newest(RUNS, "victim") != make("z/version_10", age=5, kind="best")  # its last one was not written


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04 cut short"])
def test_broken_and_foreign_files_are_passed_over(content: bytes) -> None:
    good = make("good/version_0", age=50)
    make("broken/version_0", age=10).write_bytes(content)
    torch.save({"state_dict": {}}, make("foreign/version_0", age=10))
    make("public/version_0", age=10, role=None)
    make("odd/version_0", age=10, role=None, split=["victim"])
    assert newest(RUNS, "victim") == good


def test_without_any_the_remedy_is_named() -> None:
    make("b/version_0", age=10, role="shadow")
    with pytest.raises(InputError, match=r"no victim found under runs/; .*fit --config .*--victim PATH"):
        newest(RUNS, "victim")
    with pytest.raises(InputError, match="no shadow found under nowhere"):
        newest(Path("nowhere"), "shadow")


def test_a_folder_a_file_and_nothing() -> None:
    last, best = make("a/version_0", age=1), make("a/version_0", age=0, kind="best")
    assert checkpoint_file("runs/a/version_0") == last
    assert checkpoint_file(RUNS / "a" / "version_0" / "checkpoints") == last
    assert checkpoint_file(str(best)) == best
    with pytest.raises(InputError, match="neither a file nor a folder"):
        checkpoint_file("runs/a/version_1")
    with pytest.raises(InputError, match=r"with checkpoints/last\.ckpt"):
        checkpoint_file("runs/a")


def test_results_go_to_the_run_or_beside_a_lone_file() -> None:
    assert run_of(make("a/version_0", age=1)) == RUNS / "a" / "version_0"
    assert run_of(Path("elsewhere/public.ckpt")) == Path("elsewhere")


def numbered(name: str, *, age: int, number: int, pool: str = "shadow") -> Path:
    """Write a numbered shadow's checkpoint."""
    split = {"role": "shadow", "shadow": number, "pool": pool}
    return make(name, age=age, role=None, split=split, data=DATA)


DATA = {"class_path": "some.Data", "init_args": {"size": 8}}


def test_a_folder_of_runs_is_all_of_its_shadows_in_their_order() -> None:
    files = [numbered(f"fleet/version_{n}", age=n, number=n) for n in (10, 9, 2)]
    assert shadow_files("runs/fleet") == files[::-1]
    assert shadow_files("runs/fleet/version_9") == [files[1]]
    assert shadow_files(files[2]) == [files[2]]
    make("fleet/version_9/teacher", age=1)  # of a run's own
    assert shadow_files("runs/fleet/version_9") == [files[1]]
    with pytest.raises(InputError, match="neither a file nor a folder"):
        shadow_files("runs/none")


def test_the_newest_fitting_fleet_lies_beside_the_newest_shadow() -> None:
    victim = make("victim/version_0", age=90, data=DATA)
    elsewhere = numbered("other/version_0", age=50, number=5)
    older = numbered("fleet/version_0", age=40, number=0)
    first, second = (numbered(f"fleet/version_{n}", age=30 - n, number=n - 1) for n in (1, 2))
    inside = numbered("fleet/version_3", age=60, number=7, pool="victim")
    assert newest_fitting(RUNS, None, []) == (victim, [second])
    assert newest_fitting(RUNS, None, [], most=None) == (victim, [second, first])
    assert newest_fitting(RUNS, None, [], most=None, apart=False) == (victim, [second, first])
    assert newest_fitting(RUNS, None, [older, elsewhere], most=None) == (victim, [older, elsewhere])
    with pytest.raises(InputError, match="no victim under runs/ matches shadow"):
        newest_fitting(RUNS, None, [inside])
    assert newest_fitting(RUNS, None, [inside], apart=False) == (victim, [inside])


def test_the_command_for_a_first_numbered_shadow_is_told() -> None:
    make("victim/version_0", age=9, data=DATA)
    with pytest.raises(InputError, match=r"--role shadow --data.shadow 0`"):
        newest_fitting(RUNS, None, [], most=None, apart=False)
