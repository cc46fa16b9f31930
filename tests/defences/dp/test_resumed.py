"""A private training that is taken up again counts each step, and uses no coin twice."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import pytest
import torch
import yaml
from lightning.pytorch import Trainer
from torch import nn
from torch.testing import assert_close

from seg_mia.cli import main
from seg_mia.data.base import SegmentationData
from seg_mia.data.sets.folder import Folder
from seg_mia.defences.dp.callback import DPState, PublicNumbers, _require_same
from seg_mia.defences.dp.dpsgd import DPSGD
from seg_mia.errors import InputError
from seg_mia.experiment.lightning_cli import run
from seg_mia.tasks.segmentation import Segmentation
from tests.defences.dp.helpers import (
    DP,
    KNOWN,
    ONE_EPOCH,
    UNLIMITED,
    Draws,
    expected_draws,
    fit,
    opacus,
    privacy,
    same,
)
from tests.trainings import killed, one_error, weights


def test_a_killed_run_goes_on_as_if_nothing_had_happened(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_dropout = tiny.read_text().replace("depth: 3}", "depth: 3, dropout: 0.3}")
    tiny.write_text(with_dropout.replace("batch_size: 2", "batch_size: 2, augment: flip"))
    limit = ["--model.defences.noise=1", "--model.defences.epsilon=4", "--trainer.max_epochs=2"]
    words = [*limit, "--model.schedule=cosine"]
    whole, broken = fit(tiny, *words, runs="whole"), Path("broken/tiny-dp/version_0")
    killed(["fit", "--config", str(tiny), *KNOWN, *words, "--runs", "broken"], monkeypatch)
    assert privacy(broken)["steps"] == 3
    assert main(["fit", "--resume", str(broken)]) == 0
    same(broken, whole)
    promise = privacy(broken)
    assert promise["steps"] == 6
    assert promise["epsilon"] == pytest.approx(opacus(promise), rel=1e-12)
    assert promise["epsilon"] <= promise["budget"] == 4


@pytest.mark.parametrize("workers", [0, 1])
def test_a_resumed_run_uses_no_coin_twice(workers: int, small: Path, draws: Draws) -> None:
    """A batch that was drawn before is no new draw, and the accounting assumes that each one is."""
    words = [*UNLIMITED, ONE_EPOCH, f"--data.workers={workers}", "--data.batch_size=3"]
    folder = fit(small, *words, dp=DP)
    done = run(["fit", "--resume", str(folder), "--trainer.max_epochs=4"])
    assert draws == expected_draws(done.datamodule, 4)
    promise = privacy(folder)
    assert (promise["steps"], promise["reproducible"]) == (8, False)
    assert promise["epsilon"] == pytest.approx(opacus(promise), rel=1e-12)


def in_python(epochs: int, folder: Path | None = None, data: SegmentationData | None = None) -> Trainer:
    """Train without the command line, from a checkpoint in a folder if one is given."""
    trainer = Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    torch.manual_seed(0)
    private = DPSGD(noise=1.0, epsilon=None, accountant="rdp", reproducible=True)
    task = Segmentation(nn.Conv2d(3, 1, 3, padding=1), defences=[private])
    file = folder / "by_hand.ckpt" if folder else None
    trainer.fit(task, datamodule=data, ckpt_path=file, weights_only=False)  # a file of its own
    return trainer


def members(root: Path) -> SegmentationData:
    return Folder(root=str(root), threshold=127, members=6, nonmembers=4, batch_size=2)


# A config names its network and defences instead of holding them.
built_by_hand = pytest.mark.filterwarnings(
    "ignore:.*is an instance of `nn.Module`.*", "ignore:Attribute 'defences' removed from hparams.*"
)


@built_by_hand
def test_a_checkpoint_that_was_saved_after_training_is_gone_on_with_new_coins(
    folder: Callable[..., Path], tmp_path: Path, draws: Draws
) -> None:
    data = members(folder(count=40))
    whole = in_python(4, data=data)
    expected = list(draws)
    draws.clear()
    in_python(2, data=members(folder(count=40))).save_checkpoint(tmp_path / "by_hand.ckpt")
    again = in_python(4, tmp_path, members(folder(count=40)))
    assert draws == expected == expected_draws(data, 4)
    for name, value in whole.lightning_module.state_dict().items():
        assert_close(again.lightning_module.state_dict()[name], value, rtol=0, atol=0)


@built_by_hand
def test_a_second_training_of_the_same_weights_is_refused_or_counted(
    folder: Callable[..., Path], draws: Draws
) -> None:
    data = members(folder(count=40))
    trainer = in_python(1, data=data)
    task = cast(Segmentation, trainer.lightning_module)
    trainer.fit_loop.max_epochs = 2
    with suppress(InputError):
        trainer.fit(task, datamodule=data)
    assert task.dp_guarantee is not None
    assert task.dp_guarantee["steps"] == len(draws)
    assert len(set(draws)) == len(draws)


def changed(folder: Path, **settings: Any) -> None:
    """Change what a run says of its defence."""
    kept = yaml.safe_load((folder / "config.yaml").read_text())
    (defence,) = kept["model"]["init_args"]["defences"]
    defence["init_args"] |= settings
    (folder / "config.yaml").write_text(yaml.safe_dump(kept))


def test_a_resumed_run_keeps_the_population_that_was_declared(
    small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Six are trained on and twenty declared: rate, steps, delta and divisor are those of twenty."""
    declared = "--model.defences.population=20"
    folder = fit(small, *UNLIMITED, ONE_EPOCH, "--data.batch_size=5", declared)
    assert "the declared population is 20 images, the training set has 6" in capsys.readouterr().err
    begun = privacy(folder)
    assert (begun["units"], begun["declared"], begun["rate"], begun["steps"]) == (20, True, 0.25, 4)
    assert (begun["delta"], begun["batch"]) == (1 / 200, 5)
    assert main(["fit", "--resume", str(folder), "--trainer.max_epochs=2"]) == 0
    assert privacy(folder) == begun | {
        name: privacy(folder)[name] for name in ("epsilon", "replace_one", "steps", "permitted")
    }
    assert privacy(folder)["steps"] == 8
    before = weights(folder)
    for population in (6, None):
        changed(folder, population=population)
        capsys.readouterr()
        assert main(["fit", "--resume", str(folder), "--trainer.max_epochs=3"]) == 2
        line = one_error(capsys)
        assert "must keep its settings, population 20, batch_size 5" in line
        assert "got population 6, batch_size 5" in line
        assert_close(weights(folder), before, rtol=0, atol=0)


def test_a_run_of_a_version_whose_divisor_followed_the_data_is_not_gone_on_with() -> None:
    begun = {"steps": 3, "noise": 1.0, "rate": 0.5, "delta": 0.1, "accountant": "rdp"}
    now: PublicNumbers = {"units": 10, "batch": 5, "rate": 0.5, "delta": 0.1}
    with pytest.raises(InputError, match="began with an earlier version, .*; train again"):
        _require_same(cast(DPState, begun), now)
    _require_same(cast(DPState, {**begun, **now}), now)


def test_a_resumed_run_keeps_the_rate_it_was_accounted_with(
    small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = fit(small, *UNLIMITED, ONE_EPOCH)
    before = weights(folder)
    kept = yaml.safe_load((folder / "config.yaml").read_text())
    kept["data"]["init_args"]["batch_size"] = 3
    (folder / "config.yaml").write_text(yaml.safe_dump(kept))
    capsys.readouterr()
    assert main(["fit", "--resume", str(folder), "--trainer.max_epochs=2"]) == 2
    line = one_error(capsys)
    assert (
        "must keep its settings, population 6, batch_size 2, sampling rate 0.3333 and delta 0.0167, got "
        "population 6, batch_size 3, sampling rate 0.5 and delta 0.0167"
    ) in line
    assert_close(weights(folder), before, rtol=0, atol=0)
