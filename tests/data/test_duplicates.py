"""Duplicates that the user lists or `prepare` found stay on one side, whatever the data set."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

from seg_mia.checkpoint import KEY, card_of, without_machine
from seg_mia.cli import main
from seg_mia.data.base import SegmentationData
from seg_mia.data.duplicates import join_duplicates
from seg_mia.data.sets.folder import Folder
from seg_mia.data.sets.phantom import Phantom
from seg_mia.data.split_settings import Role
from seg_mia.data.trained_model import TrainedModel
from seg_mia.errors import InputError
from seg_mia.experiment.membership import check_pair
from seg_mia.membership.answers import Fleet
from seg_mia.runs import newest_fitting

ROLES: tuple[Role, ...] = ("victim", "shadow")


@pytest.fixture
def root(folder: Callable[..., Path]) -> Path:
    return folder()


def small(root: Path, **options: Any) -> Folder:
    settings: dict[str, Any] = {"root": str(root), "threshold": 127, "members": 3, "nonmembers": 2}
    data = Folder(**(settings | options))
    data.setup()
    return data


def phantom(**options: Any) -> Phantom:
    data = Phantom(**({"patients": 16, "size": 32, "members": 6, "nonmembers": 4} | options))
    data.setup()
    return data


def parts(data: SegmentationData) -> list[set[str]]:
    ids, splits = data.source.ids, data.splits
    return [{ids[i] for i in part} for part in (splits.members, splits.nonmembers, splits.reference)]


def reported(data: SegmentationData, *pairs: tuple[str, str], **changes: Any) -> str:
    """Write what `prepare` writes about pairs, and return the file."""
    rows = [{"first": one, "second": other, "together": False} for one, other in pairs]
    content = {
        "config": "mine", "samples": len(data.source), "fingerprint": data.fingerprint,
        "near": {"across_groups": rows},
    }  # fmt: skip
    Path("prepare.json").write_text(json.dumps(content | changes))
    return "prepare.json"


def test_any_data_set_keeps_duplicates_on_one_side() -> None:
    sets = [
        ["patient00001_slice00", "patient00004_slice01"],
        ["patient00004_slice00", "patient00009_slice00"],
    ]
    patients = {"patient00001", "patient00004", "patient00009"}
    for seed in range(12):
        every = [
            part for role in ROLES for part in parts(phantom(duplicates=sets, split_seed=seed, role=role))
        ]
        assert sum(any(name.split("_")[0] in patients for name in part) for part in every) <= 1


def test_what_prepare_found_is_kept_together_and_told_apart_again(root: Path) -> None:
    pairs = (("s00", "s05"), ("s05", "s07"), ("s02", "s03"))
    file = reported(small(root), *pairs)
    for seed in range(12):
        every = [
            part
            for role in ROLES
            for part in parts(small(root, near_duplicates=file, split_seed=seed, role=role))
        ]
        assert all(sum(bool(set(pair) & part) for part in every) <= 1 for pair in pairs)
    assert small(root, near_duplicates=file).duplicate_positions == [[0, 5, 7], [2, 3]]
    together = small(root, near_duplicates=file, duplicates=[["s07", "s11"]])
    assert together.duplicate_positions == [[0, 5, 7, 11], [2, 3]]


def test_nothing_said_changes_nothing(root: Path) -> None:
    plain = small(root)
    assert plain.duplicate_positions is None
    nothing = small(root, near_duplicates=reported(plain), duplicates=[], duplicate_positions=[])
    assert nothing.splits == plain.splits
    assert nothing.duplicate_positions is None
    assert plain.splits.members == (2, 8, 11)  # as before there were these options


def test_a_checkpoint_keeps_places_and_no_names(root: Path) -> None:
    file = reported(small(root), ("s02", "s03"))
    data = small(root, near_duplicates=file, duplicates=[["s00", "s05"]])
    kept = without_machine({"class_path": "seg_mia.data.sets.folder.Folder", "init_args": dict(data.hparams)})
    assert "s0" not in json.dumps(kept["init_args"] | {"root": ""})
    Path(file).unlink()
    again = Folder(**kept["init_args"])
    again.setup()
    assert again.splits == data.splits
    assert again.duplicate_positions == data.duplicate_positions == [[0, 5], [2, 3]]


def test_a_strangers_card_names_no_file_to_read() -> None:
    arguments = {"members": 1, "near_duplicates": "secret.json", "stratify": 4}
    kept = without_machine({"class_path": "seg_mia.data.sets.phantom.Phantom", "init_args": arguments})
    assert kept["init_args"] == {"members": 1, "stratify": 4}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"fingerprint": "0" * 64},
            r"was made for other data \(mine, 12 samples, fingerprint 0{12}\) than this",
        ),
        ({"fingerprint": 3}, "must hold names and a fingerprint as text, got others; run"),
        (
            {"near": {"across_groups": [{"first": "s00", "second": "x"}]}},
            "must name samples .*, got 'x'; run",
        ),
        (
            {"near": {"across_groups": [{"first": "s00", "second": 1}]}},
            "must hold names and a fingerprint as",
        ),
        ({"near": {"across_groups": [{"first": "s00"}]}}, r"another file \(KeyError\); name"),
        ({"near": []}, r"another file \(TypeError\); name"),
        ({"near": {"across_groups": 3}}, r"another file \(TypeError\); name"),
    ],
)
def test_a_report_that_does_not_fit_is_one_line(root: Path, changes: dict[str, Any], message: str) -> None:
    file = reported(small(root), **changes)
    with pytest.raises(InputError, match=f"prepare.json {message}|{message}"):
        small(root, near_duplicates=file)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100000])
def test_what_is_no_report_is_one_line(root: Path, content: bytes) -> None:
    Path("prepare.json").write_bytes(content)
    with pytest.raises(InputError, match=r"prepare.json must be a prepare.json, .* got another"):
        small(root, near_duplicates="prepare.json")
    with pytest.raises(InputError, match=r"must be a prepare.json, 'none' is no file; write it with"):
        small(root, near_duplicates="none")
    with pytest.raises(InputError, match="is no file; write it"):
        small(root, near_duplicates=".")


def test_unknown_names_and_places_are_refused(root: Path) -> None:
    with pytest.raises(InputError, match="duplicates must list ids of this data set, such as 's00', got 'x'"):
        small(root, duplicates=[["s00", "x"]])
    for place in (12, -1):
        with pytest.raises(
            InputError, match="duplicate_positions must be positions among 12 samples, got others"
        ):
            small(root, duplicate_positions=[[0, place]])


def test_places_are_those_among_sorted_ids_whatever_the_order() -> None:
    for ids in (["a", "b", "c", "d"], ["d", "a", "c", "b"]):
        found = join_duplicates(ids, duplicates=[["d", "a"]], near=[["b", "b"]], duplicate_positions=[[2]])
        assert found == [[0, 3]]


def test_a_shadow_of_other_ties_or_strata_does_not_fit(root: Path) -> None:
    victim, shadow = (small(root, role=role, members=2) for role in ROLES)
    for changes in ({"duplicates": [["s00", "s05"]]}, {"stratify": 2}):
        other = small(root, role="shadow", members=2, **changes)
        with pytest.raises(
            InputError, match="must have the same split, .* --data.near_duplicates and --data.strat"
        ):
            check_pair(side(victim), side(other), Fleet())
    check_pair(side(victim), side(shadow), Fleet())


def side(data: Folder) -> TrainedModel:
    return TrainedModel(torch.nn.Identity, data, Path("x.ckpt"))


@pytest.mark.usefixtures("undrawn")
def test_a_run_finds_its_shadow_by_what_is_tied(tiny: Path, root: Path) -> None:
    pixels = np.asarray(PillowImage.open(root / "images" / "s04.png"))
    PillowImage.fromarray(pixels // 2 + 9).save(root / "images" / "s05.png")
    assert main(["prepare", "--config", str(tiny), "--out", "seen"]) == 0
    assert "`--data.near_duplicates seen/prepare.json`" in Path("seen/prepare.md").read_text()
    option = "--data.near_duplicates=seen/prepare.json"
    for role, options in (("shadow", [option]), ("shadow", []), ("victim", [option])):
        assert main(["fit", "--config", str(tiny), f"--data.role={role}", *options]) == 0
    runs = Path("runs/tiny")
    victim, (shadow,) = newest_fitting(Path("runs"), None, [])
    assert (victim.parts[-3], shadow.parts[-3]) == ("version_2", "version_0")
    content = torch.load(runs / "version_2/checkpoints/last.ckpt", weights_only=True)
    card = card_of(content, "x")
    assert card.data is not None
    assert card.data["init_args"]["duplicate_positions"] == [[4, 5]]
    assert {"duplicates", "near_duplicates"}.isdisjoint(card.data["init_args"])
    assert "prepare.json" not in str(content[KEY]) + str(content["datamodule_hyper_parameters"])
    Path("seen/prepare.json").unlink()
    attack = ["test", "--attack=mia-global-loss", "--victim", str(victim), "--shadow", str(shadow)]
    assert main(attack) == 0
    assert main([*attack[:-1], str(runs / "version_1")]) == 2
