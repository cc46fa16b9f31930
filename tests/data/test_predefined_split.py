"""A split that the data itself states: for a network whose members are known."""

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from seg_mia.cli import main
from seg_mia.data.sets.folder import Folder
from seg_mia.data.splits import predefined_split
from seg_mia.errors import InputError

PARTS = ["train"] * 4 + ["test"] * 3 + ["reference"] * 1 + ["shadow"] * 4


def manifest(root: Path, parts: list[str], groups: list[str] | None = None) -> Path:
    """Write a CSV file with a part for each sample."""
    names = sorted(file.stem for file in (root / "images").iterdir())
    groups = groups or names
    with (root / "list.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "group", "set"])
        writer.writerows(zip((f"{name}.png" for name in names), groups, parts, strict=True))
    return root / "list.csv"


def data(root: Path, *, members: int = 4, nonmembers: int = 3, **settings: object) -> Folder:
    known = {"root": str(root), "threshold": 127, "manifest": "list.csv", "split_column": "set"}
    return Folder(members=members, nonmembers=nonmembers, **(known | settings))  # type: ignore[arg-type]


def names(module: Folder, part: str) -> list[str]:
    return [module.source.ids[i] for i in getattr(module.splits, part)]


def test_the_victims_half_is_what_the_file_says(folder: Callable[..., Path]) -> None:
    root = folder()
    manifest(root, PARTS)
    victim = data(root)
    victim.setup()
    every = list(victim.source.ids)
    assert names(victim, "members") == every[:4]
    assert names(victim, "nonmembers") == every[4:7]
    assert names(victim, "reference") == every[7:8]
    shadow = data(root, members=2, nonmembers=1, role="shadow")
    shadow.setup()
    drawn = names(shadow, "members") + names(shadow, "nonmembers") + names(shadow, "reference")
    assert sorted(drawn) == every[8:]
    assert len(names(shadow, "members")) == 2


def test_what_the_file_says_is_part_of_the_fingerprint(folder: Callable[..., Path]) -> None:
    root, prints = folder(), set()
    for parts in (PARTS, PARTS[::-1]):
        manifest(root, parts)
        module = data(root)
        module.setup()
        prints.add(module.fingerprint)
    drawn = data(root, nonmembers=2, split_column=None)
    drawn.setup()
    assert len(prints | {drawn.fingerprint}) == 3


@pytest.mark.parametrize(
    ("parts", "groups", "settings", "message"),
    [
        (["val", *PARTS[1:]], None, {}, r"line 2 must have one of train, test, reference, shadow .*'val'"),
        (PARTS, ["p"] * 5 + list("abcdefg"), {}, "in train and .* in test, which makes membership undefined"),
        (
            PARTS,
            None,
            {"members": 3},
            "4 samples are in the part train and 3 in test, but members and nonmembers are 3",
        ),
        (PARTS, None, {"split_column": "none"}, "must have a column 'none'"),
        (PARTS, None, {"manifest": None}, "split_column=set needs a manifest"),
        (PARTS, None, {"role": "shadow", "members": 9}, "samples are needed, 4 in 4 groups"),
    ],
)
def test_what_a_stated_split_may_not_be(
    folder: Callable[..., Path],
    parts: list[str],
    groups: list[str] | None,
    settings: dict[str, object],
    message: str,
) -> None:
    root = folder()
    manifest(root, parts, groups)
    with pytest.raises(InputError, match=message) as caught:
        data(root, **settings).setup()  # type: ignore[arg-type]
    assert len(str(caught.value).splitlines()) == 1


def test_duplicates_are_in_one_part() -> None:
    ids = ["a", "b", "c"]
    half, shadow = predefined_split(["train", "test", "shadow"], ids, ids, members=1, nonmembers=1)
    assert (half.members, half.nonmembers, shadow) == ((0,), (1,), (2,))
    with pytest.raises(InputError, match="got a in train and b in test"):
        predefined_split(
            ["train", "test", "shadow"], ids, ids, members=1, nonmembers=1, duplicates=[["a", "b"]]
        )


def test_a_membership_attack_on_a_stated_split(tiny: Path, folder: Callable[..., Path]) -> None:
    manifest(folder(), PARTS)
    text = tiny.read_text().replace("members: 4, nonmembers: 2", "members: 4, nonmembers: 3")
    tiny.write_text(text.replace("threshold: 127,", "threshold: 127, manifest: list.csv, split_column: set,"))
    assert main(["fit", "--config", str(tiny)]) == 0
    shadow = ["--data.role=shadow", "--data.members=2", "--data.nonmembers=2"]
    assert main(["fit", "--config", str(tiny), *shadow]) == 0
    assert main(["test", "--attack", "mia-global-loss"]) == 0
    with next(Path("runs/tiny/version_0/mia-global-loss").glob("*/scores.csv")).open() as file:
        found = {row["id"]: row["member"] for row in csv.DictReader(file)}
    assert list(found.values()) == ["1"] * 4 + ["0"] * 3
