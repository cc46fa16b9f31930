"""Benchmarks say in one line what they were given wrong."""

import json
import runpy
import shutil
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.mark.parametrize(
    ("name", "words", "telling"),
    [
        ("asma_settings", ["nosuch"], "victim 'nosuch' is neither"),
        ("membership_settings", ["nosuch", "s", "--weights=w"], "victim 'nosuch' is neither"),
        ("medis_fusion", ["nosuch"], "victim 'nosuch' is neither"),
        ("defended_strength", ["nosuch"], "victim 'nosuch' is neither"),
        ("audit_table", ["nosuch"], "error: nosuch holds no report.json"),
        ("audit_table", ["."], "error: . holds no report.json"),
    ],
)
def test_what_is_not_there_is_one_line(
    name: str,
    words: list[str],
    telling: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *words])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")
    line = ended.value.code if isinstance(ended.value.code, str) else capsys.readouterr().err.rstrip()
    assert line.startswith(f"{name}.py: error: ")
    assert telling in line
    assert "\n" not in line


def test_the_newest_version_of_an_audit_is_taken() -> None:
    newest = runpy.run_path(str(FOLDER / "audit_table.py"))["newest"]
    for number in (2, 10, 9):
        folder = Path(f"runs/a/version_{number}")
        folder.mkdir(parents=True)
        (folder / "report.json").write_text("{}")
    assert newest(Path("runs/a")) == Path("runs/a/version_10/report.json")
    assert newest(Path("runs/a/version_2")) == Path("runs/a/version_2/report.json")
    shutil.rmtree("runs/a/version_10")
    Path("runs/a/version_10").mkdir()  # of an audit that has not ended
    assert newest(Path("runs/a")) == Path("runs/a/version_9/report.json")


def test_an_interrupted_preprocessing_of_nnunet_is_done_again(monkeypatch: pytest.MonkeyPatch) -> None:
    file, failing, used = Path("Dataset/nnUNetPlans.json"), [True, False], list[object]()
    file.parent.mkdir()

    def plan_experiments(_: list[int]) -> None:
        architecture = {"arch_kwargs": {"features": 512}}
        plans = {"configurations": {"2d": {"patch_size": [512, 512], "architecture": architecture}}}
        file.write_text(json.dumps(plans))

    def preprocess(*_: object, **__: object) -> None:
        if failing.pop(0):
            raise KeyboardInterrupt
        used.append(json.loads(file.read_text())["configurations"]["2d"]["patch_size"])

    api = ModuleType("nnunetv2.experiment_planning.plan_and_preprocess_api")
    vars(api).update(
        extract_fingerprints=lambda *_, **__: None, plan_experiments=plan_experiments, preprocess=preprocess
    )
    for name in ("nnunetv2", "nnunetv2.experiment_planning"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, api.__name__, api)
    planned = runpy.run_path(str(FOLDER / "nnunet_training.py"))["plan"]
    task = SimpleNamespace(
        dataset="Dataset", number=1, configuration="2d", patch=(32, 32), batch=2, architecture={"features": 8}
    )
    with pytest.raises(KeyboardInterrupt):
        planned(task, Path())
    assert file.is_file()
    plans = planned(task, Path())
    assert used == [[32, 32]]
    assert plans["configurations"]["2d"]["architecture"]["arch_kwargs"] == {"features": 8}
    assert planned(task, Path()) == plans
    assert len(used) == 1  # what is done is kept


def test_signals_of_parts_are_chosen_on_other_patients_than_they_are_attacked_on() -> None:
    module = runpy.run_path(str(FOLDER / "fleet_attacks.py"))
    generator = np.random.default_rng(0)
    halves = [generator.permuted(np.arange(80) < 40) for _ in range(3)]
    inside = np.stack([row for half in halves for row in (half, ~half)]).repeat(2, axis=1)
    patients = np.array([f"p{number // 2:02}" for number in range(160)])
    parts = generator.normal(size=(6, 160, 12))
    parts[..., 6] += 9 * inside  # of the worst lesion
    parts[:, 0, 6] = parts[:, 5, 3] = np.nan
    plain = generator.normal(size=(6, 160, 4))
    signals = module["Signals"](inside, *[plain] * 6, parts, patients)
    names = (*module["REGIONS"], *module["AGREEMENTS"])
    rows = dict(zip(names, np.moveaxis(parts, 2, 0), strict=True))
    (alone, before, attack), (joined, after, _) = module["best_few"](rows, signals)
    assert alone == "mia-lira, on 80 remaining"
    assert joined.startswith("mia-lira + worst_lesion + ")
    remaining = np.isfinite(after).all(axis=(0, 2))
    assert {int(name[1:]) % 2 for name in patients[remaining]} == {1}
    assert float(module["cell"](before, inside, attack, 4).split(",")[0]) < 0.65
    assert float(module["cell"](after, inside, attack, 4).split(",")[0]) > 0.75
    members = inside[:, ::2]
    found = {name: (values, attack) for name, values, attack in module["of_patients"](signals)}
    assert found["largest image_logit, LiRA"][0].shape == (6, 80)
    lesions, lira = found["worst_lesion, LiRA"]
    assert float(module["cell"](lesions, members, lira, 4).split(",")[0]) > 0.9
