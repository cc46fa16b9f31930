import csv
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from seg_mia.errors import InputError
from seg_mia.results.files import write_csv, write_json, write_rows, write_text


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    folder = tmp_path / "empty"
    folder.mkdir()
    return folder


def test_values_come_back_by_name_in_the_order_of_the_images(empty: Path) -> None:
    values = {"dice": torch.tensor([0.25, 1.0]), "l2": torch.tensor([1 / 3, 1e-9], dtype=torch.float64)}
    write_rows(empty / "new" / "t.csv", ["a", "b,with comma", "c"], torch.tensor([1, 2]), values)
    with (empty / "new" / "t.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows == [
        {"id": "b,with comma", "dice": "0.25", "l2": "0.333333"},
        {"id": "c", "dice": "1", "l2": "1e-09"},
    ]


def test_json_has_null_where_there_is_no_number(empty: Path) -> None:
    content: dict[str, Any] = {
        "a": math.nan,
        "b": [1.5, math.inf, {"c": -math.inf, "d": "NaN"}],
        "e": (True, None, 3),
    }
    write_json(empty / "s.json", content)

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    read = json.loads((empty / "s.json").read_text(), parse_constant=refuse)
    assert read == {"a": None, "b": [1.5, None, {"c": None, "d": "NaN"}], "e": [True, None, 3]}


def test_a_file_is_replaced_and_nothing_else_is_left(empty: Path) -> None:
    for text in ("first, and longer", "second"):
        write_text(empty / "t.txt", text)
    assert (empty / "t.txt").read_text() == "second"
    assert [file.name for file in empty.iterdir()] == ["t.txt"]


def test_a_reader_never_sees_half_a_file(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = empty / "t.txt"
    write_text(file, "before")
    seen: list[str] = []
    replace = Path.replace

    def watched(self: Path, target: Path) -> Path:
        seen.extend([file.read_text(), self.read_text()])
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", watched)
    write_text(file, "after")
    assert seen == ["before", "after"]
    assert file.read_text() == "after"


@pytest.mark.parametrize("step", ["open", "replace"])
def test_a_full_disk_leaves_the_old_file_and_no_part_of_the_new(
    empty: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    write_text(empty / "t.csv", "before")

    whole = Path.open

    def full(self: Path, *_: object, **__: object) -> None:
        with whole(self, "w") as file:
            file.write("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, step, full)
    with pytest.raises(InputError, match=r"cannot write .*t\.csv: No space left.*--runs"):
        write_csv(empty / "t.csv", ["a"], [[1]])
    monkeypatch.undo()
    assert (empty / "t.csv").read_text() == "before"
    assert [file.name for file in empty.iterdir()] == ["t.csv"]


def test_a_folder_that_cannot_be_made_is_one_line(empty: Path) -> None:
    (empty / "file").write_text("no folder")
    with pytest.raises(InputError, match=r"cannot write .*--runs"):
        write_json(empty / "file" / "s.json", {})
    assert (empty / "file").read_text() == "no folder"


def test_a_target_that_is_a_folder_is_refused_and_no_part_left(empty: Path) -> None:
    (empty / "t.csv").mkdir()
    with pytest.raises(InputError, match="directory"):
        write_csv(empty / "t.csv", ["a"], [[1]])
    assert [file.name for file in empty.iterdir()] == ["t.csv"]


def test_rows_that_fail_half_way_write_nothing(empty: Path) -> None:
    with pytest.raises(IndexError):
        write_rows(empty / "t.csv", ["a"], torch.tensor([0, 5]), {"dice": torch.ones(2)})
    assert not list(empty.iterdir())
