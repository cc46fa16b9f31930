"""What Lightning's trainer is asked for: refused in one line where nothing would be learnt or kept."""

import shutil
import signal
from pathlib import Path
from typing import Union

import pytest
import torch
from jsonargparse import ArgumentParser

from seg_mia.cli import main
from seg_mia.errors import InputError
from seg_mia.experiment.arguments import take_whole_numbers
from seg_mia.experiment.trainer_checks import note_precision
from seg_mia.tasks.segmentation import Segmentation
from tests.trained_runs import Trained


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--trainer.enable_checkpointing=false"], "--trainer.enable_checkpointing must not be False"),
        (["--trainer.max_epochs=0"], "--trainer.max_epochs must be positive to train, got 0"),
        (["--trainer.max_steps=0"], "--trainer.max_steps must be positive to train, got 0"),
        (["--trainer.max_epochs=-3"], "--trainer.max_epochs must be positive to train, got -3"),
        (["--trainer.limit_train_batches=0"], "--trainer.limit_train_batches must be positive"),
        (["--trainer.limit_train_batches=1.5"], "invalid value 1.5 for limit_train_batches"),
        (["--trainer.accumulate_grad_batches=0"], "--trainer.accumulate_grad_batches must be positive"),
        (["--trainer.check_val_every_n_epoch=0"], "--trainer.check_val_every_n_epoch must be positive"),
        (["--trainer.gradient_clip_val=-1"], "--trainer.gradient_clip_val must be positive to train, got -1"),
        (["--trainer.val_check_interval=1000"], "`val_check_interval` (1000) must be less than or equal"),
        (["--seed_everything=-1"], "seed_everything must lie between 0 and 4294967295, got -1"),
        (
            ["--seed_everything", "4294967296"],
            "seed_everything must lie between 0 and 4294967295, got 4294967296",
        ),
        (["--trainer.overfit_batches=1"], "--trainer.overfit_batches must be 0, got 1"),
        (["--trainer.accelerator=gpu"], "No supported gpu backend found"),
        (["--trainer.strategy=nonsense"], "invalid strategy name"),
        (["--trainer.profiler=nonsense"], "`profiler`"),
        (["--trainer.num_nodes=0"], "`num_nodes` must be a positive integer, but got 0"),
        (["--data.root=nowhere"], "nowhere"),
        (["--data.members=1000"], "1000"),
    ],
)
def test_refused_in_one_line_and_nothing_left_behind(
    tiny: Path, words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", "--config", str(tiny), *words]) == 2
    (line,) = [one for one in capsys.readouterr().err.splitlines() if "seg_mia: error:" in one]
    assert told in line
    assert not list(Path("runs").rglob("*"))


def test_what_was_there_before_stays(tiny: Path, trained: Trained) -> None:
    trained(tiny)
    kept = sorted(Path("runs").rglob("*"))
    assert main(["fit", "--config", str(tiny), "--trainer.val_check_interval=1000"]) == 2
    assert main(["test", "--attack", "asma", "--data.limit=0"]) == 2
    assert sorted(Path("runs").rglob("*")) == kept


def test_a_try_run_keeps_nothing_and_offers_nothing(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--config", str(tiny), "--trainer.fast_dev_run=true"]) == 0
    said = capsys.readouterr().out
    assert "no files were written" in said
    assert "next:" not in said
    assert not list(Path("runs").iterdir())


def test_without_a_logger_each_run_has_a_folder_of_its_own(tiny: Path) -> None:
    for number in (0, 1):
        assert main(["fit", "--config", str(tiny), "--trainer.logger=false"]) == 0
        assert Path(f"runs/tiny/version_{number}/checkpoints/last.ckpt").is_file()
    assert main(["validate", "--data.limit=1"]) == 0  # the newest victim is found


def test_a_run_is_not_resumed_to_end_before_it_is(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--config", str(tiny), "--trainer.max_epochs=3"]) == 0
    config = Path("runs/tiny/version_0/config.yaml").read_text()
    assert main(["fit", "--resume", "runs/tiny/version_0", "--trainer.max_epochs=2"]) == 2
    assert "--trainer.max_epochs must exceed the 3 epochs" in capsys.readouterr().err
    assert Path("runs/tiny/version_0/config.yaml").read_text() == config
    assert main(["fit", "--resume", "runs/tiny/version_0"]) == 0
    assert "has completed all of its 3 epochs" in capsys.readouterr().err
    assert main(["fit", "--resume", "runs/tiny/version_0", "--trainer.max_epochs=4"]) == 0


@pytest.mark.usefixtures("undrawn")
def test_an_exported_networks_results_stay_among_the_runs(tiny: Path, trained: Trained) -> None:
    assert main(["export", str(trained(tiny)), "given.ckpt"]) == 0
    words = ["--victim", "given.ckpt", "--config", str(tiny), "--data.limit=1"]
    assert main(["test", "--attack", "fgsm", *words]) == 0
    assert Path("runs/given/fgsm/version_0/summary.json").is_file()


def test_an_interrupt_is_no_failed_gate(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Segmentation, "training_step", interrupted)
    assert main(["fit", "--config", str(tiny)]) == 130
    assert "interrupted; resume a training with `fit --resume RUN`" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_error_begins_a_line_of_its_own(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*_: object) -> None:
        raise InputError("no")

    monkeypatch.setattr(Segmentation, "training_step", refused)
    assert main(["fit", "--config", str(tiny), "--trainer.enable_progress_bar=true"]) == 2
    said = capsys.readouterr()
    assert said.out.endswith("\n")
    assert said.err.splitlines()[-1].endswith("seg_mia: error: no")


@pytest.mark.usefixtures("undrawn")
def test_a_shadow_is_attacked_by_means_of_the_victim(
    tiny: Path, trained: Trained, capsys: pytest.CaptureFixture[str]
) -> None:
    trained(tiny)
    assert main(["fit", "--config", str(tiny), "--data.role=shadow", "--seed_everything=7"]) == 0
    assert "mia-type2 --shadow runs/tiny/version_1" in capsys.readouterr().out
    words = ["test", "--attack", "mia-global-loss", "--victim", "runs/tiny/version_1"]
    assert main(words) == 0
    assert "shadow: runs/tiny/version_0/" in capsys.readouterr().out
    shutil.rmtree("runs/tiny/version_0")
    assert main(words) == 2
    assert "--data.role victim --seed_everything 10007" in capsys.readouterr().err


def test_adopt_refuses_what_it_would_not_do(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, told in (
        (["--trainer.max_epochs", "3"], "adopt trains nothing; leave out --trainer.max_epochs"),
        (["--trust", "a.B"], "--trust a.B does not apply to adopt"),
        (["--resume", "runs/a/version_0"], "--resume does not apply to adopt"),
    ):
        assert main(["adopt", "--config", str(tiny), *words]) == 2
        assert told in capsys.readouterr().err


def test_one_is_a_whole_number_whichever_way_round_its_types_are_kept() -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--limit", type=Union[float, int, None])  # noqa: UP007 - as another library may leave it
    assert isinstance(parser.parse_args(["--limit=1"]).limit, float)
    take_whole_numbers(parser)
    for text, value in (("1", 1), ("1.0", 1.0), ("0.5", 0.5), ("null", None)):
        parsed = parser.parse_args([f"--limit={text}"]).limit
        assert (parsed, type(parsed)) == (value, type(value))


@pytest.mark.parametrize(
    ("precision", "device", "instructions", "converts", "warned"),
    [
        ("bf16-mixed", "cpu", "AVX2", False, True),
        ("bf16-true", "cpu", "DEFAULT", False, True),
        ("bf16-mixed", "cpu", "AVX2", True, False),
        ("bf16-mixed", "cpu", "AVX512", False, False),
        ("bf16-mixed", "cuda", "AVX2", False, False),
        ("32-true", "cpu", "AVX2", False, False),
    ],
)
def test_bfloat16_without_its_instructions_is_called_slow(
    precision: str,
    device: str,
    instructions: str,
    converts: bool,  # a column of the table
    warned: bool,  # a column of the table
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: instructions)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx_ne_convert": converts})
    note_precision(precision, torch.device(device))
    assert ("many times slower" in caplog.text) == warned
