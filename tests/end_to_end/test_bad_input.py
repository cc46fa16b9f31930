"""Whatever is put in wrong ends in one clear line and a non-zero exit, without a traceback."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from seg_mia.cli import main
from tests.trained_runs import Trained

Said = Callable[..., str]


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    """Run words that must fail, and return the one line they lead to."""

    def run(*words: str) -> str:
        capsys.readouterr()
        assert main(list(words)) == 2
        error = capsys.readouterr().err
        lines = [line.rpartition("\r")[2] for line in error.splitlines() if "seg_mia: error:" in line]
        assert len(lines) == 1, error
        assert "Traceback" not in error
        assert error.rstrip().endswith(lines[0])
        return lines[0]

    return run


@pytest.fixture
def root(tiny: Path) -> Path:
    return Path(tiny.read_text().split("root: ")[1].split(",")[0])


@pytest.fixture
def fit(tiny: Path, said: Said) -> Callable[..., str]:
    return lambda *words: said("fit", "--config", str(tiny), *words)


def save_mask(file: Path, mask: object) -> None:
    Image.fromarray(np.asarray(mask, dtype=np.uint8)).save(file)


def test_no_data_root(fit: Callable[..., str]) -> None:
    line = fit("--data.root=null")
    assert "--data.root FOLDER" in line
    assert "SEG_MIA_DATA" in line


def test_kvasir_says_where_to_get_it(said: Said) -> None:
    line = said("fit", "--config", "kvasir_victim")
    assert "datasets.simula.no" in line
    assert "images/NAME.jpg and masks/NAME.jpg" in line


def test_missing_folder(fit: Callable[..., str]) -> None:
    assert "'/nowhere'" in fit("--data.root=/nowhere")


def test_folder_without_images_inside(fit: Callable[..., str], root: Path) -> None:
    shutil.rmtree(root / "images")
    assert "images" in fit()


def test_no_images(fit: Callable[..., str], root: Path) -> None:
    for file in (root / "images").iterdir():
        file.unlink()
    assert "images" in fit()


def test_image_without_mask(fit: Callable[..., str], root: Path) -> None:
    (root / "masks" / "s03.png").unlink()
    assert "s03" in fit()


def test_mask_without_image(fit: Callable[..., str], root: Path) -> None:
    (root / "images" / "s03.png").unlink()
    assert "s03" in fit()


def test_sizes_that_differ(fit: Callable[..., str], root: Path) -> None:
    save_mask(root / "masks" / "s03.png", np.zeros((30, 32)))
    assert "s03" in fit()


def test_images_of_several_sizes_need_one(fit: Callable[..., str], root: Path) -> None:
    for part in ("images", "masks"):
        with Image.open(root / part / "s03.png") as picture:
            picture.resize((40, 40)).save(root / part / "s03.png")
    assert "size" in fit()


@pytest.mark.parametrize("part", ["images", "masks"])
def test_truncated_file(fit: Callable[..., str], root: Path, part: str) -> None:
    file = root / part / "s03.png"
    file.write_bytes(file.read_bytes()[:60])
    assert "s03.png" in fit()


def test_a_file_that_is_no_image(fit: Callable[..., str], root: Path) -> None:
    (root / "images" / "s03.png").write_text("hello")
    assert "s03.png" in fit()


def test_black_and_white_masks_need_their_threshold(fit: Callable[..., str]) -> None:
    # As class ids, 255 means ignore: nothing is left to learn from.
    assert "threshold" in fit("--data.threshold=null")


def test_unknown_class_ids(fit: Callable[..., str], root: Path) -> None:
    save_mask(root / "masks" / "s03.png", np.full((32, 32), 7))
    assert "7" in fit("--data.threshold=null")


def test_all_masks_empty(fit: Callable[..., str], root: Path) -> None:
    for file in (root / "masks").iterdir():
        save_mask(file, np.zeros((32, 32)))
    assert "empty" in fit()


def test_too_few_samples(fit: Callable[..., str]) -> None:
    line = fit("--data.members=50")
    assert "50" in line


@pytest.mark.parametrize("value", [np.nan, 3.5, -0.1])
def test_an_image_outside_its_range(fit: Callable[..., str], root: Path, value: float) -> None:
    for file in (root / "images").iterdir():
        pixels = np.full((32, 32), 0.5, np.float32)
        if file.stem == "s03":
            pixels[4, 4] = value
        file.unlink()
        tifffile.imwrite(file.with_suffix(".tif"), pixels)
    assert "s03" in fit()


def test_wrong_channel_count(fit: Callable[..., str]) -> None:
    assert "channels" in fit("--model.network.init_args.channels=1")


def test_grey_data_set_of_colour_files(fit: Callable[..., str]) -> None:
    assert "channels" in fit("--data.channels=1", "--model.network.init_args.channels=1")


def test_wrong_class_count(fit: Callable[..., str]) -> None:
    assert "classes" in fit("--model.network.init_args.classes=5")


def test_unknown_encoder(fit: Callable[..., str]) -> None:
    assert "resnet18" in fit("--model.network.init_args.encoder=resnet81")


def test_weights_that_are_not_there(fit: Callable[..., str]) -> None:
    assert "nowhere.pth" in fit("--model.encoder_weights=nowhere.pth")


@pytest.mark.parametrize(
    ("words", "telling"),
    [
        (["--model.speed=3"], "speed"),
        (["--model.lr=fast"], "lr"),
        (["--data.members=many"], "members"),
        (["--trainer.max_epoch=3"], "max_epoch"),
        (["--model.lr=0"], "lr must be above 0"),
        (["--data.batch_size=0"], "batch_size"),
        (["--nonsense"], "nonsense"),
        (["--model.class_path=seg_mia.tasks.segmentation.Nothing"], "Nothing"),
    ],
)
def test_options_that_do_not_fit(fit: Callable[..., str], words: list[str], telling: str) -> None:
    line = fit(*words)
    assert telling in line
    assert len(line) < 500


@pytest.mark.parametrize(
    ("words", "telling"),
    [
        (["--trainer.precision=nonsense"], ["64", "bf16-mixed", "32-true", "got nonsense"]),
        (["--trainer.precision=8"], ["bf16-mixed", "got 8"]),
        (["--seed_everything=banana"], ["int", "got banana"]),
        (["--trainer.max_epochs=abc"], ["int or null", "got abc"]),
        (["--trainer.max_epoch=3"], ["did you mean --trainer.max_epochs?"]),
        (["--data.member=3"], ["did you mean members? Folder takes absent_labels, altered, augment"]),
        (["--model.network.encodr=resnet18"], ["--model.network", "did you mean encoder? Smp takes"]),
        (["--data.nonmembers=0"], ["validated on them: raise --data.nonmembers"]),
        (["--data.root=nowhere", "--data.manifest=list.csv"], ["it must hold list.csv and the images"]),
    ],
)
def test_a_line_names_what_is_accepted(fit: Callable[..., str], words: list[str], telling: list[str]) -> None:
    line = fit(*words)
    for part in telling:
        assert part in line


def test_each_kind_of_file_is_told_from_the_other(said: Said, tiny: Path, tmp_path: Path) -> None:
    audits = "phantom_audit.yaml is an audit file, run by `python -m seg_mia audit --config phantom_audit"
    for command in ("fit", "prepare"):
        line = said(command, "--config", "phantom_audit")
        assert audits in line
        assert "such as its victim's, phantom_victim" in line
    own = tmp_path / "own_audit.yaml"
    own.write_text("victim: {config: phantom_dp, options: {}}\nattacks: [asma]\n")
    assert "such as its victim's, phantom_dp" in said("fit", "--config", str(own))
    line = said("audit", "--config", str(tiny))
    assert f"{tiny} is a training config, run by `python -m seg_mia fit --config {tiny}`" in line
    assert f"--victim {tiny} --attacks" in line
    assert (
        "audit needs --config NAME, or --victim and --attacks, or --predictions FILE; known names: acdc_audit"
        in said("audit")
    )
    assert "no config sets the class of LightningModule" in said("fit", "--model.lr=1")


def test_unknown_names_list_the_known(said: Said) -> None:
    assert "kvasir_victim" in said("fit", "--config", "nothing")
    assert "kvasir_victim" in said("fit")
    assert "asma" in said("test", "--attack", "nothing")
    assert "asma" in said("test", "--attack", "nothing.at.All")
    assert "audit" in said("nonsense")


def test_no_victim_yet(said: Said) -> None:
    assert "fit --config" in said("test", "--attack", "asma")
    assert "fit --config" in said("validate", "--runs", "elsewhere")


def test_a_config_that_is_no_yaml(said: Said, tmp_path: Path) -> None:
    (tmp_path / "odd.yaml").write_text("a: [1,")
    said("fit", "--config", str(tmp_path / "odd.yaml"))
    (tmp_path / "list.yaml").write_text("- 1")
    said("audit", "--config", str(tmp_path / "list.yaml"))


class TestOnAVictim:
    @pytest.fixture(autouse=True)
    def victim(self, tiny: Path, root: Path, trained: Trained) -> None:
        self.root = root
        trained(tiny)

    def test_refusals(self, said: Said, tmp_path: Path) -> None:
        assert "neither a file nor a folder" in said("test", "--attack", "asma", "--victim", "nowhere")
        (tmp_path / "empty").mkdir()
        assert "with checkpoints/last.ckpt" in said(
            "test", "--attack", "asma", "--victim", str(tmp_path / "empty")
        )
        assert "asma" in said("test")
        assert "speed" in said("test", "--attack", "asma", "--attack.speed", "3")
        assert "steps" in said("test", "--attack", "asma", "--attack.steps=-1")
        assert "--resume" in said("test", "--attack", "asma", "--resume", "runs/tiny/version_0")
        assert "--model.lr" in said("fit", "--resume", "runs/tiny/version_0", "--model.lr", "0.9")
        assert "config.yaml" in said("fit", "--resume", "runs/nowhere")
        assert "--runs" in said("fit", "--resume", "runs/tiny/version_0", "--runs", "elsewhere")
        assert "--trust" in said("fit", "--config", "phantom_victim", "--trust", "a.B")
        assert "inline config" in said("test", "--attack", "asma", "--config", "{a: [")
        assert "exists" in said("export", "runs/tiny/version_0", "runs/tiny/version_0/config.yaml")
        assert "no reference" in said("validate", "--data.subset=reference", "--data.reference=0")

    @pytest.mark.parametrize(
        ("words", "telling"),
        [
            (["fgsm", "--trainer.limit_test_batches=0"], "an attack needs images"),
            (["fgsm", "--attack.epsilon=8"], "8/255 is 0.0314"),
            (["pgd", "--attack.step_size=2"], "2/255 is 0.0078"),
            (["asma", "--attack.step=3"], "did you mean steps? Asma takes"),
            (["adain", "--attack.weights=nosuch"], "python -m seg_mia fit --config texture_phantom"),
        ],
    )
    def test_attacks_that_do_not_fit(self, said: Said, words: list[str], telling: str) -> None:
        assert telling in said("test", "--attack", *words)

    def test_another_split(self, said: Said) -> None:
        assert "split" in said("validate", "--data.split_seed=7")
        assert "split" in said("test", "--attack", "asma", "--data.members=3")

    def test_changed_data(self, said: Said) -> None:
        with Image.open(self.root / "images" / "s00.png") as picture:
            pixels = np.array(picture)
        pixels[0, 0] += 1
        Image.fromarray(pixels).save(self.root / "images" / "s00.png")
        assert "fingerprint" in said("test", "--attack", "asma")

    def test_data_that_moved_away(self, said: Said) -> None:
        self.root.rename(self.root.with_name("moved"))
        assert "data root" in said("validate")
        assert main(["validate", f"--data.root={self.root.with_name('moved')}"]) == 0

    def test_a_target_folder_with_holes(self, said: Said, tmp_path: Path) -> None:
        words = [
            "test",
            "--attack",
            "asma",
            "--attack.target=folder",
            f"--attack.target_folder={tmp_path / 'targets'}",
        ]
        assert "targets" in said(*words)
        (tmp_path / "targets").mkdir()
        save_mask(tmp_path / "targets" / "other.png", np.zeros((32, 32)))
        assert "must hold a mask for each" in said(*words)

    def test_a_folder_that_cannot_be_written(self, said: Said) -> None:
        (Path("runs/tiny/version_0") / "asma").write_text("a file where a folder should be")
        assert "runs/tiny" in said("test", "--attack", "asma", "--attack.steps=1")
