"""Who is a member of which network, and what a table may not say."""

from collections.abc import Callable
from pathlib import Path

import pytest

from seg_mia.data.prediction_files.table import read_table
from seg_mia.errors import InputError
from tests.data.prediction_files.releases import BOTH_NAMES, four, table

Rows = list[dict[str, str]]


def with_files(root: Path, rows: Rows) -> Path:
    for name in BOTH_NAMES:
        (root / name).write_bytes(b"")
    return table(root, rows)


def changed(number: int, **cells: str) -> Callable[[Rows], Rows]:
    def change(rows: Rows) -> Rows:
        rows[number] |= cells
        return rows

    return change


def references(rows: Rows) -> Rows:
    """Add two networks, the second trained on the others."""
    further = [
        row | {"network": network, "part": part}
        for network, parts in (("a", ("train", "test") * 2), ("b", ("test", "train") * 2))
        for row, part in zip(rows, parts, strict=True)
    ]
    return [row | {"network": "victim"} for row in rows] + further


def test_a_table_says_who_was_trained_on_what(tmp_path: Path) -> None:
    rows = references(four(*BOTH_NAMES))
    shadow = [row | {"network": "", "patient": f"s{i}", "case": f"s{i}", "part": f"shadow_{row['part']}"}
              for i, row in enumerate(rows[:4])]  # fmt: skip
    read = read_table(with_files(tmp_path, rows + shadow), tmp_path)
    assert read.references == ["a", "b"]
    members = {network: [row.member for row in found] for network, found in read.rows.items()}
    assert members == {
        "victim": [True, True, False, False],
        "a": [True, False, True, False],
        "b": [False, True, False, True],
        "shadow": [True, True, False, False],
    }


def test_a_case_is_named_by_its_mask(tmp_path: Path) -> None:
    (tmp_path / "p.npy").write_bytes(b"")
    rows = four("p.npy", "")
    for number, (row, name) in enumerate(
        zip(rows, ("a.nii.gz", "b.v1.png", "d/c.npy", "e.nii"), strict=True)
    ):
        del row["case"]
        row["mask"] = name
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(bytes(number))
    read = read_table(table(tmp_path, rows), tmp_path)
    assert [row.case for row in read.rows["victim"]] == ["a", "b.v1", "d/c", "e"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (changed(0, part="val"), r"line 2 must have a part of train, test, shadow_train, .*, got 'val'"),
        (changed(1, prediction=""), r"line 3 must have a value for 'prediction'"),
        (changed(2, mask="nowhere.npy"), r"line 4: .*nowhere.npy must be a file"),
        (changed(3, prediction="../p.npy"), r"line 5: paths must stay inside"),
        (changed(2, patient="p0"), r"line 4 must have the part of its patient's other rows, got .*'p0'"),
        (changed(1, case="c0"), r"line 3 must list a case once for each network, got 'c0' as in .*line 2"),
        (changed(1, patient="p0"), "at least 2 patients it was trained on and 2 others, got 1 and 2"),
        (lambda rows: [row | {"image": row["mask"] * (row["case"] == "c1")} for row in rows], "line 2 must"),
        (lambda rows: [row | {"network": "a"} for row in rows], "must list predictions of the victim"),
        (lambda rows: references(rows)[:-1], "network 'b' must predict each case .*, 1 of 4 .*c3"),
        (lambda rows: changed(5, patient="p9")(references(rows)), "line 7: a reference must predict"),
        (lambda rows: [row | {"network": "shadow"} for row in rows], "the shadow's parts are"),
        (
            lambda rows: [*rows, *(row | {"part": f"shadow_{row['part']}", "case": f"s{i}"}
                                   for i, row in enumerate(rows))],
            r"line 6: the shadow's patients must not be the victim's, got 'p0' as in .*line 2",
        ),
        (lambda rows: [{"prediction": "p.npy", "mask": "m.npy", "part": "test"} for _ in rows],
         "must have the columns prediction, mask, patient, part once each"),
    ],
)  # fmt: skip
def test_what_a_table_may_not_say(tmp_path: Path, change: Callable[[Rows], Rows], message: str) -> None:
    file = with_files(tmp_path, change(four(*BOTH_NAMES)))
    with pytest.raises(InputError, match=message) as refused:
        read_table(file, tmp_path)
    assert len(str(refused.value).splitlines()) == 1
