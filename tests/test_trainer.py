"""What Lightning's trainer is asked for: refused in one line where nothing would be learnt or kept."""

from pathlib import Path

import pytest

from seg_mia.cli import main


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


def test_what_was_there_before_stays(tiny: Path) -> None:
    assert main(["fit", "--config", str(tiny)]) == 0
    kept = sorted(Path("runs").rglob("*"))
    assert main(["fit", "--config", str(tiny), "--trainer.val_check_interval=1000"]) == 2
    assert main(["test", "--attack", "asma", "--data.limit=0"]) == 2
    assert sorted(Path("runs").rglob("*")) == kept


def test_a_try_run_keeps_nothing_and_offers_nothing(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--config", str(tiny), "--trainer.fast_dev_run=true"]) == 0
    assert "attack with it" not in capsys.readouterr().out
    assert not list(Path("runs").rglob("*.ckpt"))
