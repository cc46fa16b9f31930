"""A fleet: networks of one recipe on random halves of one pool, and the audit of that recipe."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from seg_mia.checkpoint import read
from seg_mia.cli import main
from seg_mia.errors import InputError
from seg_mia.runs import FLEET, shadow_files
from tests.trained_runs import Trained

RUNS = Path("runs/tiny-shadow")
FOLDER = Path("runs/tiny-fleet/version_0")


@pytest.fixture
def recipe(tiny: Path, folder: Callable[..., Path]) -> Path:
    """A training of two epochs on 12 of 24 samples."""
    folder(count=24)
    tiny.write_text(tiny.read_text().replace("members: 4, nonmembers: 2", "members: 6, nonmembers: 6"))
    return tiny


def split_of(run: Path) -> dict[str, object]:
    split: dict[str, object] = read(run / "checkpoints" / "last.ckpt")["seg_mia"]["split"]
    return split


def times(folder: Path) -> dict[str, int]:
    return {str(file): file.stat().st_mtime_ns for file in folder.rglob("*") if file.is_file()}


@pytest.mark.usefixtures("undrawn")
class TestFleet:
    def test_networks_are_numbered_kept_and_attacked_in_turn(
        self, recipe: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        words = ["fleet", "--config", str(recipe), "--attacks", "mia-global-loss", "--attacks", "mia-base"]
        assert main([*words, "--count", "6"]) == 0
        printed = capsys.readouterr().out
        splits = [split_of(RUNS / f"version_{number}") for number in range(6)]
        assert [len(split["members"]) for split in splits] == [6] * 6  # type: ignore[arg-type]
        assert [split["shadow"] for split in splits] == [0, 1, 2, 3, 4, 5]
        assert [split["pool"] for split in splits] == ["victim"] * 6
        assert "mia-global-loss" in printed
        assert "mia-base" in printed
        assert shadow_files(FOLDER) == [
            (RUNS / f"version_{number}" / "checkpoints" / "last.ckpt").resolve() for number in range(6)
        ]

        # Hashes have a salt that does not tell of a training in the fleet's own folder.
        assert {"identities.csv", "identities.salt"} <= {file.name for file in FOLDER.iterdir()}
        assert not (FOLDER / "salt").exists()

        before = times(RUNS)
        assert main([*words, "--count", "8"]) == 0
        assert [path.name for path in FOLDER.parent.iterdir()] == [FOLDER.name]
        assert len(shadow_files(FOLDER)) == 8
        assert {file: time for file, time in times(RUNS).items() if file in before} == before

    def test_a_finished_network_holds_weights_and_no_optimiser(
        self, recipe: Path, trained: Trained, capsys: pytest.CaptureFixture[str]
    ) -> None:
        run = trained(recipe, "--role", "shadow", "--data.shadow", "0", "--data.shadow_pool", "victim")
        assert [file.name for file in (run / "checkpoints").iterdir()] == ["last.ckpt"]
        assert read(run / "checkpoints" / "last.ckpt")["optimizer_states"] == []
        whole = trained(recipe, "--role", "shadow")
        size, with_states = ((each / "checkpoints" / "last.ckpt").stat().st_size for each in (run, whole))
        assert size < 0.6 * with_states
        # Ended between the last epoch and its record in the fleet: begun again, it has nothing to train.
        assert main(["fit", "--resume", str(run)]) == 0
        assert main(["fit", "--resume", str(run), "--trainer.max_epochs=3"]) == 2
        assert "train another fleet with more" in capsys.readouterr().err

    def test_a_network_that_stopped_early_may_go_on(self, recipe: Path, trained: Trained) -> None:
        run = trained(recipe, "--role", "shadow", "--data.shadow", "0", "--data.shadow_pool", "victim",
                      "--trainer.max_epochs=5", "--trainer.max_steps=4")  # fmt: skip
        assert read(run / "checkpoints" / "last.ckpt")["optimizer_states"]

    def test_patients_are_compared_by_columns_and_altered_samples_alone(
        self, recipe: Path, folder: Callable[..., Path], capsys: pytest.CaptureFixture[str]
    ) -> None:
        root = folder(count=40)
        names = sorted(file.stem for file in (root / "images").iterdir())
        rows = [f"{name}.png,{'north' if number % 2 else 'south'}" for number, name in enumerate(names)]
        (root / "list.csv").write_text("\n".join(["image,site", *rows]))
        words = ["fleet", "--config", str(recipe), "--count", "8", "--attacks", "mia-global-loss"]
        words += ["--data.members", "10", "--data.nonmembers", "10", "--data.manifest", "list.csv"]
        words += ["--trainer.max_epochs", "4", "--data.altered", "0.25", "--subgroups"]
        assert main([*words, "sex"]) == 2
        assert "columns of the manifest, site, altered, got sex" in capsys.readouterr().err
        assert not RUNS.exists()
        assert main([*words, "site"]) == 0
        assert "altered samples: AUC" in capsys.readouterr().out
        (file,) = RUNS.parent.glob("tiny-fleet/*/recipe*.json")
        (result,) = json.loads(file.read_text())["recipes"]
        groups = result["risk"]["subgroups"]
        assert {group["value"] for group in groups if group["column"] == "site"} == {"north", "south"}
        # Squares have one size, so that foreground tells the emptied masks from the others alone.
        assert {group["column"] for group in groups} == {"site", "altered", "foreground"}
        assert result["altered"]["samples"] >= 2

    def test_a_fleet_stands_for_its_networks(
        self, recipe: Path, trained: Trained, capsys: pytest.CaptureFixture[str]
    ) -> None:
        victim = trained(recipe)
        assert main(["fleet", "--config", str(recipe), "--count", "4", "--attacks", "mia-base"]) == 0
        signals = times(RUNS)
        test = ["test", "--attack", "mia-lira", "--victim", str(victim), "--shadow"]
        capsys.readouterr()
        assert main([*test, str(FOLDER)]) == 0
        assert "4 shadows, 6 members, 6 non-members: AUC" in capsys.readouterr().out
        assert times(RUNS) == signals  # no network is queried again
        assert main([*test, *" --shadow ".join(map(str, sorted(RUNS.iterdir()))).split()]) == 0
        scores = [
            np.genfromtxt(victim / "mia-lira" / f"version_{n}" / "scores.csv", delimiter=",", skip_header=1)
            for n in (0, 1)
        ]
        np.testing.assert_array_equal(scores[0][:, 3], scores[1][:, 3])


@pytest.mark.parametrize(
    ("words", "telling"),
    [
        (["--count", "1"], "2 networks or more, got --count 1"),
        (["--count", "many"], "--count"),
        (["--attacks", "mia-type2"], "compare networks, got mia-type2"),
        (["--attacks", "asma"], "compare networks, got asma"),
        (["--attacks", "mia-quantile"], "compare networks, got mia-quantile"),
        (["--data.shadow", "3"], "leave out --data.shadow"),
        (["--pool", "both"], "--pool"),
    ],
)
def test_invalid_words_are_one_line(
    words: list[str], telling: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fleet", "--config", "phantom_victim", *words]) == 2
    error = capsys.readouterr().err
    assert telling in error
    assert error.count("\n") == 1
    assert not Path("runs").exists()


def test_a_record_names_runs_beside_it_only(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "x-fleet" / "version_0"
    folder.mkdir(parents=True)
    network = {"run": "../elsewhere", "shadow": 0, "seed": 0}
    (folder / FLEET).write_text(json.dumps({"command": "", "pool": "victim", "networks": [network]}))
    with pytest.raises(InputError, match="names a run outside"):
        shadow_files(folder)
    (folder / FLEET).write_text("{}")
    with pytest.raises(InputError, match="no record of a fleet"):
        shadow_files(folder)


def test_help_names_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fleet", "--help"]) == 0
    printed = capsys.readouterr().out
    for option in ("--config", "--count", "--pool", "--attacks", "--defence", "--runs", "--trust", "--fresh"):
        assert option in printed
