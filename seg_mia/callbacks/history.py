"""Logged values as a file, besides TensorBoard."""

import json
from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer

from seg_mia.callbacks.folder import run_folder
from seg_mia.results.files import write_text


class History(Callback):
    """Write `metrics.jsonl`: one line of JSON per training epoch, with all its logged values."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Drop the epochs to be repeated by a resumed run."""
        file = _file(trainer)
        if trainer.is_global_zero and file.is_file():
            lines = file.read_text().splitlines()
            write_text(file, "".join(f"{line}\n" for line in lines if _epoch(line) < trainer.current_epoch))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Add this epoch's line."""
        logged = sorted(trainer.callback_metrics.items())  # on every rank: reading them may gather them
        if not trainer.is_global_zero:
            return
        numbers = {name: value.item() for name, value in logged if not name.endswith(("_step", "_epoch"))}
        line = json.dumps({"epoch": trainer.current_epoch, "step": trainer.global_step, **numbers})
        file = _file(trainer)
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a", encoding="utf-8") as out:
            out.write(line + "\n")


def _epoch(line: str) -> float:
    """Return the epoch of a line, infinity for a truncated line."""
    try:
        return int(json.loads(line)["epoch"])
    except (json.JSONDecodeError, KeyError, TypeError):
        return float("inf")


def _file(trainer: Trainer) -> Path:
    return run_folder(trainer) / "metrics.jsonl"
