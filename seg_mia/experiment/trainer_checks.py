"""Checks of Lightning's trainer settings, with one-line errors."""

import logging
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypedDict

import torch
from jsonargparse import Namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.loggers import TensorBoardLogger

from seg_mia.config.messages import LIMIT, refusal
from seg_mia.config.options import Option
from seg_mia.errors import InputError
from seg_mia.experiment.plan import Plan
from seg_mia.membership.scorers import Scorer

log = logging.getLogger(__name__)

COUNTS = (
    "max_epochs",
    "max_steps",
    "limit_train_batches",
    "accumulate_grad_batches",
    "check_val_every_n_epoch",
    "gradient_clip_val",
)
"""Settings that Lightning accepts at 0, with no training or a premature stop."""


class RunFolders(TypedDict, total=False):
    """Settings of a trainer that place its files."""

    logger: TensorBoardLogger
    default_root_dir: str


class ClassifierTrainer(TypedDict):
    """Settings of a trainer of a membership attack."""

    max_epochs: int
    enable_checkpointing: bool
    enable_model_summary: bool
    num_sanity_val_steps: int


def folders(plan: Plan, trainer: Namespace) -> RunFolders:
    """Return a trainer's logger and root folder: the run's own, unless set otherwise."""
    arguments = RunFolders()
    if trainer["logger"] in (None, True) and not trainer["fast_dev_run"]:
        arguments["logger"] = TensorBoardLogger(
            plan.folder.parent, plan.folder.name, plan.version, default_hp_metric=False
        )
    if trainer["default_root_dir"] is None:
        arguments["default_root_dir"] = str(plan.run_folder)
    return arguments


def check_training(trainer: Namespace) -> None:
    """Raise InputError for settings that prevent any training or saving."""
    if trainer["enable_checkpointing"] is False:
        raise InputError(
            "--trainer.enable_checkpointing must not be False, since attacks need the checkpoint; leave it "
            "out (--trainer.fast_dev_run true tests a config without writing files)"
        )
    if trainer["overfit_batches"]:
        raise InputError(
            f"--trainer.overfit_batches must be 0, got {trainer['overfit_batches']}: membership attacks "
            "assume training on all members; leave it out, and set --data.members for fewer"
        )
    for name in COUNTS:
        value = trainer[name]
        unlimited = name in {"max_epochs", "max_steps"} and value == -1
        if value is not None and value <= 0 and not unlimited:
            raise InputError(
                f"--trainer.{name} must be positive to train, got {value}; leave it out, or use adopt for a "
                "trained network"
            )


def note_precision(precision: str, device: torch.device) -> None:
    """Warn of bfloat16 on a processor that has no instructions for it.

    Convolutions are then computed by oneDNN's reference loops, many times slower than in single precision.
    """
    if "bf16" not in precision or device.type != "cpu":
        return
    instructions = torch.backends.cpu.get_cpu_capability()
    if instructions in {"DEFAULT", "AVX2"} and not torch.cpu.get_capabilities().get("avx_ne_convert", False):
        log.warning(
            "this processor has no instructions for bfloat16 (%s), so that --trainer.precision %s is many "
            "times slower than 32-true; leave it out",
            instructions,
            precision,
        )


def check_resumed(file: Path, content: Mapping[str, Any], epochs: int | None) -> None:
    """Raise InputError if the requested end precedes the resumed epoch; report a completed run.

    Args:
        file: the checkpoint to resume from.
        content: its content.
        epochs: total number of epochs; None or -1 for no limit.
    """
    done = int(content["epoch"]) + 1
    if epochs is None or epochs < 0 or done < epochs:
        if not content.get("optimizer_states"):
            raise InputError(
                f"a fleet's network ends with its planned epochs, {file} completed its {done} and holds no "
                "optimiser's state; train another fleet with more"
            )
        return
    if done > epochs:
        raise InputError(
            f"--trainer.max_epochs must exceed the {done} epochs of {file} to resume it, got {epochs}; raise "
            "it"
        )
    log.info("%s has completed all of its %d epochs; --trainer.max_epochs raises the number", file, done)


class Bars(TQDMProgressBar):
    """Progress bars that end their line on an exception, so that the error starts a new one."""

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:  # noqa: ARG002
        """End the line."""
        if trainer.is_global_zero:
            sys.stdout.write("\n")
            sys.stdout.flush()


def check_kept(trainer: Namespace, processes: int, name: str) -> None:
    """Raise InputError if a preliminary training is impossible: nothing saved, or several processes."""
    if processes > 1:
        raise InputError(
            f"a {name} is trained first, in one process, got {processes}; set --trainer.devices 1"
        )
    for setting, needed in (
        ("logger", (None, True)),
        ("enable_checkpointing", (None, True)),
        ("fast_dev_run", (False, 0)),
    ):
        if trainer[setting] not in needed:
            raise InputError(
                f"--trainer.{setting} must not be {trainer[setting]}, since a {name} is trained first and "
                "stored in the run's folder; leave it out"
            )


def await_ranks(trainer: Trainer, seconds: float = 300) -> None:
    """Wait for the ranks launched by this process.

    The first rank may finish while another fails at the very end; the shared result is then incomplete.

    Args:
        trainer: trainer that launched them; if other processes launched its ranks, it waits for none.
        seconds: maximum time to wait for each.

    Raises:
        InputError: a rank that failed or does not end.
    """
    launched: Sequence[subprocess.Popen[bytes]] = getattr(trainer.strategy.launcher, "procs", None) or ()
    for rank, process in enumerate(launched, start=1):
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        if code != 0:
            raise InputError(
                f"rank {rank} of {trainer.world_size} failed (exit code {code}), so the results are not "
                "valid; correct its error, printed above, and run again"
            )


def for_classifier(scorer: Scorer, options: Sequence[Option]) -> ClassifierTrainer:
    """Return the trainer settings of a membership attack: its scorer's epochs, and nothing saved.

    Raises InputError if options of the command set other epochs.
    """
    if any(option.flag.startswith("--trainer.max_epochs") for option in options):
        raise InputError(
            "--attack.scorer.epochs sets the epochs of a membership classifier; leave out "
            "--trainer.max_epochs"
        )
    return {
        "max_epochs": scorer.training.epochs if scorer.training else 1,
        "enable_checkpointing": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
    }


@contextmanager
def refusals(*, building: bool = False) -> Iterator[None]:
    """Convert errors of Lightning or a constructor to one-line InputErrors.

    Args:
        building: whether the trainer is being built, when every ValueError concerns its settings; otherwise
            only errors with matching words do.
    """
    try:
        yield
    except (ValueError, MisconfigurationException) as error:
        cause = refusal(error)
        about_settings = building or isinstance(error, MisconfigurationException)
        if cause is None and (about_settings or "val_check_interval" in str(error)):
            reason = " ".join(str(error).split())[:LIMIT]
            cause = InputError(f"invalid trainer settings: {reason}")
        if cause is None:
            raise
        raise cause from None
