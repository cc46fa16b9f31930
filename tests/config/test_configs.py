import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from jsonargparse import ArgumentParser
from lightning.pytorch import LightningDataModule, LightningModule
from torch import nn

from seg_mia.attacks.base import Perturbation
from seg_mia.attacks.certify import Certification
from seg_mia.audit.rows import rows
from seg_mia.audit.settings import AttackEntry, NnUNetVictim, read_settings
from seg_mia.cli import main
from seg_mia.config import files as configs
from seg_mia.config.files import BARE, config_folder, find_config, known, read_yaml
from seg_mia.config.options import options_in, taken, words_of
from seg_mia.config.parsing import plain_settings
from seg_mia.config.spec import check_spec
from seg_mia.data.base import SegmentationData
from seg_mia.defences.base import Defence
from seg_mia.defences.release import Release
from seg_mia.errors import InputError
from seg_mia.experiment.attack_classes import is_certification, is_membership
from seg_mia.experiment.lightning_cli import Experiment
from seg_mia.membership.base import Membership
from seg_mia.tasks.segmentation import Segmentation
from seg_mia.tasks.style_autoencoder import TextureTraining

AUDITS = known("audit")
EXPERIMENTS = [name for name in known() if name not in AUDITS]


KINDS = [*BARE, "attack", "defence", "release"]


def test_every_folder_is_a_kind_and_a_bare_name_means_one_file() -> None:
    folders = {
        file.parent.relative_to(config_folder()).as_posix() for file in config_folder().rglob("*.yaml")
    }
    assert folders == set(KINDS)
    assert len(set(known())) == len(known()) == sum(len(known(kind)) for kind in BARE)
    for name in known():
        assert find_config(name) == find_config(f"{name}.yaml") in config_folder().rglob("*.yaml")


@pytest.mark.parametrize("kind", KINDS)
def test_a_bare_name_a_file_name_and_a_path_are_the_same_file(kind: str) -> None:
    for name in known(kind):
        file = config_folder() / kind / f"{name}.yaml"
        assert file.is_file()
        assert find_config(name, kind) == find_config(f"{name}.yaml", kind) == find_config(str(file), kind)
        assert find_config(name, kind) == file
    assert known(kind)


def test_the_users_own_file_wins_over_a_shipped_name() -> None:
    Path("kvasir_victim.yaml").write_text("mine: 1")
    assert find_config("kvasir_victim.yaml") == Path("kvasir_victim.yaml")
    assert find_config("kvasir_victim") == config_folder() / "kvasir_victim.yaml"


@pytest.mark.parametrize("kind", ["", "attack", "defence", "release"])
def test_an_unknown_name_lists_the_known(kind: str) -> None:
    with pytest.raises(InputError) as caught:
        find_config("nothing", kind)
    assert "'nothing'" in str(caught.value)
    for name in known(kind):
        assert name in str(caught.value)
    with pytest.raises(InputError, match="known names: "):
        taken(options_in(["--config"]), "config", kind)


def test_names_after_a_flag_become_files_and_other_words_stay() -> None:
    file = str(config_folder() / "kvasir_victim.yaml")
    words = ["x", "--config", "kvasir_victim", "-c=kvasir_victim.yaml", "--data.root", "kvasir_victim"]
    files, others = taken(options_in(words), "config")
    assert files == [file, file]
    assert words_of(others) == ["x", "--data.root=kvasir_victim"]
    path = "seg_mia.attacks.asma.Asma"
    assert taken(options_in(["--attack", path]), "attack", "attack")[0] == [path]
    inline = '{"seed_everything": 1}'
    assert taken(options_in([f"--config={inline}"]), "config")[0] == [inline]


def test_configs_inside_an_installed_package_come_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "site" / "seg_mia"
    (package / "lightning_configs").mkdir(parents=True)
    monkeypatch.setattr(configs, "__file__", str(package / "config" / "files.py"))
    assert config_folder() == package / "lightning_configs"
    (package / "lightning_configs").rmdir()
    assert config_folder() == tmp_path / "site" / "lightning_configs"


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[tuple[LightningModule, LightningDataModule]]:
    """What `fit` would have trained."""
    seen: list[tuple[LightningModule, LightningDataModule]] = []

    def fit(self: Experiment, model: LightningModule, datamodule: LightningDataModule) -> None:
        for part, kind in (("model", nn.Module), ("data", LightningDataModule)):
            check_spec(plain_settings(self.config["fit"][part]), base=kind)  # as a checkpoint's card
        seen.append((model, datamodule))

    monkeypatch.setattr(Experiment, "fit", fit)
    return seen


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_builds_its_network_and_data_and_could_be_read_back(
    name: str, built: list[tuple[LightningModule, LightningDataModule]]
) -> None:
    assert main(["fit", "--config", name]) == 0
    ((model, data),) = built
    assert isinstance(model, TextureTraining if name.startswith("texture_") else Segmentation)
    assert isinstance(model.network, nn.Module)
    assert isinstance(data, SegmentationData)
    assert Path("runs", name, "version_0").is_dir()


@pytest.mark.parametrize("name", EXPERIMENTS + AUDITS)
def test_every_config_opens_with_its_command(name: str) -> None:
    first = find_config(name).read_text().splitlines()[0]
    command = "audit" if name in AUDITS else "fit"
    assert first.startswith(f"# python -m seg_mia {command} --config {name}.yaml")


def parse_attack(file: str, settings: Mapping[str, object]) -> None:
    """Raise an error unless a file names an attack with arguments that it takes."""
    parser = ArgumentParser(exit_on_error=False)
    family = Certification if is_certification(file) else Perturbation
    parser.add_subclass_arguments(Membership if is_membership(file) else family, "attack")
    parser.parse_args([f"--attack={file}", *(f"--attack.{name}={value}" for name, value in settings.items())])


@pytest.mark.parametrize("name", AUDITS)
def test_every_audit_names_trainings_and_attacks_that_exist(name: str) -> None:
    settings = read_settings(["--config", name])
    assert settings.name == name
    for what in (settings.victim, settings.shadow):
        if what is not None:
            assert not isinstance(what, NnUNetVictim)
            assert find_config(what if isinstance(what, str) else what.config).stem in EXPERIMENTS
    assert settings.attacks
    assert rows(settings)
    for entry in settings.attacks:
        stage = AttackEntry(entry) if isinstance(entry, str) else entry
        parse_attack(str(find_config(stage.attack, "attack")), stage.settings)


@pytest.mark.parametrize("name", known("attack"))
def test_every_attack_config_names_an_attack_with_arguments_it_takes(name: str) -> None:
    file = find_config(name, "attack")
    parse_attack(str(file), {})
    command, _, options = file.read_text().splitlines()[0].partition(f" --attack {name}")
    assert command == "# python -m seg_mia test"
    assert not options or options.startswith(" --attack.")


@pytest.mark.parametrize(("kind", "base"), [("defence", Defence), ("release", Release)])
def test_every_defence_and_release_names_its_class_and_opens_with_its_command(kind: str, base: type) -> None:
    for name in known(kind):
        file = find_config(name, kind)
        check_spec(read_yaml(str(file)), base=base)
        first = file.read_text().splitlines()[0]
        assert first.startswith("# python -m seg_mia ")
        assert f"--{kind} {name}" in first


@pytest.mark.slow
def test_the_wheel_holds_every_config_inside_the_package(tmp_path: Path) -> None:
    root = Path(configs.__file__).resolve().parents[2]
    if not (root / "pyproject.toml").is_file():
        pytest.skip("the package is installed, there is nothing to build from")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", str(tmp_path), str(root)],
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    shipped = {file.relative_to(root).as_posix() for file in (root / "lightning_configs").rglob("*.yaml")}
    assert {f"seg_mia/{name}" for name in shipped} <= names
    modules = {file.relative_to(root).as_posix() for file in (root / "seg_mia").rglob("*.py")}
    assert modules <= names
    assert not [name for name in names if name.startswith(("tests/", "runs/"))]
