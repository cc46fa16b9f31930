"""Shipped private configs: what they promise, and for how many units."""

import csv
from pathlib import Path
from typing import Any

import pytest

from seg_mia.config.files import config_folder, read_yaml
from seg_mia.data.splits import divide, victim_shadow_split

BY_PATIENT = {"acdc_dp": 74, "liver_dp": 87}


def settings(name: str) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Return a private config's arguments of the task, of DP-SGD and of the data."""
    content = read_yaml(str(config_folder() / "defended" / f"{name}.yaml"))
    task, data = content["model"]["init_args"], content["data"]["init_args"]
    (defence,) = task["defences"]
    return task, defence["init_args"], data


@pytest.mark.parametrize(("name", "patients"), BY_PATIENT.items())
def test_data_of_patients_are_private_by_patient_and_all_of_them_are_in_each_step(
    name: str, patients: int
) -> None:
    task, private, data = settings(name)
    assert private["unit"] == "patient"
    assert private["population"] == data["batch_size"] == patients
    assert (task["frozen"], task["cache_features"]) == (["encoder"], True)
    assert task["network"]["init_args"]["architecture"] == "Hypercolumn"


@pytest.mark.parametrize(("name", "folder"), [("acdc_dp", "acdc"), ("liver_dp", "liver_ct")])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_declared_population_is_close_to_the_patients_of_the_members(
    name: str, folder: str, seed: int, shared: Path
) -> None:
    _, private, data = settings(name)
    with (shared / "data" / folder / "index.csv").open() as file:
        rows = list(csv.DictReader(file))
    ids, groups = [Path(row["file"]).stem for row in rows], [row["patient"] for row in rows]
    victim, _ = victim_shadow_split(ids, groups, seed=seed, shadow_share=data["shadow_share"])
    split = divide(victim, ids, groups, seed=seed, members=data["members"], nonmembers=data["nonmembers"])
    patients = len({groups[i] for i in split.members})
    assert patients == pytest.approx(private["population"], rel=0.1)
