"""Configs that build on others, and defences from YAML and from the command line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from lightning.pytorch import LightningDataModule, LightningModule

from seg_mia.callbacks.config_file import write_config
from seg_mia.cli import main
from seg_mia.config.composition import stacked
from seg_mia.config.files import config_folder, find_config, known, read_yaml
from seg_mia.config.spec import check_spec
from seg_mia.defences.base import Defence
from seg_mia.defences.crop import Crop
from seg_mia.defences.minmax import MinMax
from seg_mia.defences.mixup import MixUp
from seg_mia.defences.poison import Poison
from seg_mia.errors import InputError
from seg_mia.experiment.lightning_cli import Experiment
from seg_mia.experiment.plan import plan
from seg_mia.experiment.request import requested
from seg_mia.tasks.segmentation import Segmentation


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[Segmentation]:
    """What `fit` would have trained."""
    seen: list[Segmentation] = []

    def fit(self: Experiment, model: LightningModule, datamodule: LightningDataModule) -> None:
        del datamodule
        assert isinstance(model, Segmentation)
        write_config(self.trainer, self.model, "fit")
        seen.append(model)

    monkeypatch.setattr(Experiment, "fit", fit)
    return seen


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run words that must fail, and return the one line they lead to."""

    def said(*words: str) -> str:
        assert main(list(words)) == 2
        (line,) = [line for line in capsys.readouterr().err.splitlines() if line]
        assert line.startswith("seg_mia: error: ")
        return line

    return said


def write(name: str, **content: Any) -> str:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(yaml.safe_dump(content))
    return name


def args(*words: str) -> list[str]:
    return plan(requested(words)).args


def sources(config: str) -> list[str]:
    return [layer.source for layer in stacked([config])]


def kinds(model: Segmentation) -> list[type[Defence]]:
    return [type(defence) for defence in model.defences]


def test_bases_stand_before_what_is_built_on_them() -> None:
    write("parts/root.yaml", runs="a")
    write("parts/left.yaml", base="root", runs="b")
    write("parts/right.yaml")
    top = write("parts/top.yaml", base=["left.yaml", "right"], runs="c")
    order = [f"parts/{name}.yaml" for name in ("root", "left", "right", "top")]
    before = [word for file in order for word in ("--config", file)]
    words = ["--data.root", "x", "--config", top, "--model.lr=1"]
    assert args("fit", *words) == ["fit", *before, "--data.root=x", "--model.lr=1"]
    for config in (["-c", top], [f"-c={top}"], [f"--config={top}"]):
        assert args("fit", *config) == ["fit", *before]
    assert plan(requested(["fit", "--config", top])).folder == Path("c/top")


def test_the_config_overrules_its_base_and_the_command_line_overrules_both(
    tiny: Path, built: list[Segmentation]
) -> None:
    write("slow.yaml", base=str(tiny), model={"init_args": {"lr": 0.5, "weight_decay": 0.25}})
    write("slower.yaml", base="slow", model={"init_args": {"lr": 0.75}})
    assert main(["fit", "--config", "slower.yaml"]) == 0
    assert main(["fit", "--model.lr=2", "--config", "slower.yaml"]) == 0
    assert [(model.lr, model.weight_decay) for model in built] == [(0.75, 0.25), (2, 0.25)]
    assert Path("runs/slower/version_1").is_dir()


def test_a_base_beside_the_config_wins_over_a_shipped_one() -> None:
    mine = write("own/kvasir_victim.yaml")
    write("kvasir_victim.yaml")
    top = write("own/top.yaml", base="kvasir_victim")
    assert sources(top) == [mine, top]
    other = write("elsewhere/top.yaml", base="kvasir_victim")
    assert sources(other) == [str(config_folder() / "kvasir_victim.yaml"), other]


def test_an_inline_config_builds_on_a_shipped_one() -> None:
    inline = "{base: kvasir_victim, defence: [mixup]}"
    assert sources(inline) == [str(find_config("kvasir_victim")), inline]
    assert (
        len([word for word in args("fit", "--config", inline) if word.startswith("--model.defences+=")]) == 1
    )


@pytest.mark.parametrize("length", [1, 2, 3])
def test_a_circle_of_bases_is_refused(length: int, refused: Callable[..., str]) -> None:
    for number in range(length):
        write(f"c{number}.yaml", base=f"c{(number + 1) % length}")
    line = refused("fit", "--config", "c0.yaml")
    assert "c0.yaml is its own base" in line
    assert " -> ".join([*(f"c{number}.yaml" for number in range(length)), "c0.yaml"]) in line


def test_unknown_names_list_the_known(tiny: Path, refused: Callable[..., str]) -> None:
    for name in known():
        assert name in refused("fit", "--config", write("a.yaml", base="nothing"))
    for line in (
        refused("fit", "--config", write("b.yaml", base=str(tiny), defence="nothing")),
        refused("fit", "--config", str(tiny), "--defence", "nothing"),
    ):
        assert "'nothing'" in line
        assert all(name in line for name in known("defence"))
    assert "must be a name or a list of names, got 3" in refused("fit", "--config", write("c.yaml", base=3))
    assert "must be a name or a list" in refused("fit", "--config", write("d.yaml", defence={"a": 1}))
    assert not Path("runs").exists()


def test_defences_of_bases_of_the_config_and_of_the_command_line_add_up_in_order(
    tiny: Path, built: list[Segmentation]
) -> None:
    write("first.yaml", base=str(tiny), defence="mixup")
    write("second.yaml", base="first", defence=["seg_mia.defences.poison.Poison"])
    assert main(["fit", "--config", "second.yaml", "--defence=crop", "--model.defences.size", "8"]) == 0
    (model,) = built
    assert kinds(model) == [MixUp, Poison, Crop]
    assert isinstance(model.defences[1], Poison)
    assert isinstance(model.defences[2], Crop)
    assert (model.defences[1].size, model.defences[2].size) == (1, 8)
    assert Path("runs/second-crop/version_0").is_dir()


def test_a_defence_is_a_name_a_file_or_a_class_path(tiny: Path, built: list[Segmentation]) -> None:
    write("own/strong.yaml", class_path="seg_mia.defences.minmax.MinMax", init_args={"weight": 3.0})
    for name in ("own/strong.yaml", "seg_mia.defences.minmax.MinMax", "minmax", "minmax.yaml"):
        assert main(["fit", "--config", str(tiny), "--defence", name]) == 0
    assert [kinds(model) for model in built] == [[MinMax]] * 4
    found = [model.defences[0] for model in built]
    assert [one.weight for one in found if isinstance(one, MinMax)] == [3, 0.05, 0.05, 0.05]
    assert sorted(file.name for file in Path("runs").iterdir()) == ["tiny-minmax", "tiny-strong"]


def test_a_runs_own_config_does_not_add_its_defences_twice(tiny: Path, built: list[Segmentation]) -> None:
    write("mixed.yaml", base=str(tiny), defence="mixup")
    assert main(["fit", "--config", "mixed.yaml", "--defence", "poisoned", "--model.defences.size=4"]) == 0
    run = Path("runs/mixed-poisoned/version_0")
    (run / "checkpoints").mkdir()
    kept = read_yaml(str(run / "config.yaml"))
    assert (kept["base"], kept["defence"]) == (None, None)
    assert main(["fit", "--config", str(run / "config.yaml")]) == 0
    assert [kinds(model) for model in built] == [[MixUp, Poison]] * 2
    sizes = [one.size for model in built for one in model.defences if isinstance(one, Poison)]
    assert sizes == [4, 4]
    assert Path("runs/mixed-poisoned/version_1").is_dir()


def test_the_runs_folder_is_named_after_the_defences_on_the_command_line(tiny: Path) -> None:
    config = write("mixed.yaml", base=str(tiny), defence="mixup", runs="elsewhere")
    words = ["fit", "--config", config]
    assert plan(requested(words)).folder == Path("elsewhere/mixed")
    assert plan(requested([*words, "--defence", "crop", "--defence=poisoned"])).folder == Path(
        "elsewhere/mixed-crop-poisoned"
    )


@pytest.mark.parametrize(
    ("one", "other", "telling"),
    [
        ("crop", "minmax", "reference images, but crops show a part of each image"),
        ("minmax", "crop", "reference images, but crops show a part of each image"),
        ("mixup", "minmax", "but mix-up shows two images side by side"),
        ("minmax", "distilled", "the student learns from them"),
        ("poisoned", "distilled", "the student learns only from reference images"),
        ("mixup", "mixup", "it may be given only once"),
    ],
)
def test_what_does_not_go_together_is_refused_before_anything_is_written(
    one: str, other: str, telling: str, tiny: Path, refused: Callable[..., str]
) -> None:
    line = refused("fit", "--config", str(tiny), "--defence", one, "--defence", other)
    assert "are incompatible" in line
    assert telling in line
    assert not Path("runs").exists()


def test_an_option_that_no_defence_has_is_one_line(tiny: Path, refused: Callable[..., str]) -> None:
    assert "sise" in refused("fit", "--config", str(tiny), "--defence=crop", "--model.defences.sise=8")
    assert "crops must be at least 1 pixel wide" in refused(
        "fit", "--config", str(tiny), "--defence=crop", "--model.defences.size=0"
    )
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    "words", [["test", "--attack", "asma"], ["validate"], ["predict"], ["fit", "--resume", "runs/tiny"]]
)
def test_only_a_fresh_fit_takes_defences(words: list[str], refused: Callable[..., str]) -> None:
    assert "--defence does not apply to" in refused(*words, "--defence", "crop")


@pytest.mark.parametrize("name", known("defence"))
def test_every_defence_config_names_a_defence_with_arguments_it_takes(name: str) -> None:
    file = find_config(name, "defence")
    check_spec(read_yaml(str(file)), base=Defence)
    command = file.read_text().splitlines()[0]
    assert command.startswith("# python -m seg_mia fit ")
    assert f"--defence {name}" in command


def test_a_config_may_not_say_resume(tiny: Path) -> None:
    with pytest.raises(InputError, match="resume must be given on the command line"):
        plan(
            requested(["fit", "--config", write("again.yaml", base=str(tiny), resume="runs/tiny/version_0")])
        )
