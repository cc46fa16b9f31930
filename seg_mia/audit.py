"""One victim, every attack asked for, one summary."""

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from seg_mia.callbacks.tables import write_json
from seg_mia.configs import find_config, resolve
from seg_mia.errors import InputError
from seg_mia.experiment import run
from seg_mia.messages import one_line
from seg_mia.runs import checkpoint_file

VERSION = 1


@dataclass(frozen=True)
class Stage:
    """An attack with its settings.

    Args:
        attack: a name in lightning_configs/attack, or a file.
        settings: options of the attack.
        data: options of the data module, such as `limit`.
    """

    attack: str
    settings: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Settings:
    """What an audit file says, version 1.

    Args:
        victim: a config to train, or a checkpoint or run's folder.
        attacks: names of attacks, or mappings with `attack`, `settings` and `data`.
        data: options of the data module for every stage, such as `root`.
        seed: of the victim's training.
        runs: folder that runs are kept in.
        trust: class paths outside seg_mia that the victim's card may name.
        name: of the audit's folder; the config's name if not given.
        version: of this file format.
    """

    victim: str
    attacks: list[str | Stage]
    data: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    runs: str = "runs"
    trust: list[str] = field(default_factory=list)
    name: str = "audit"
    version: int = VERSION


@dataclass(frozen=True)
class Audit:
    """What came out.

    Attributes:
        folder: where `audit.json` lies.
        runs: the folder of all runs.
        victim: the victim's run.
        results: one mapping per attack.
    """

    folder: Path
    runs: Path
    victim: Path
    results: list[dict[str, Any]]

    def headline(self) -> list[str]:
        """Return the lines that sum up the audit."""
        return [
            f"victim      {self.victim}",
            *(line for result in self.results for line in result["headline"]),
        ]


def read_settings(words: Sequence[str]) -> Settings:
    """Return the settings on an audit's command line; raise InputError for what does not fit."""
    parser = ArgumentParser(
        prog="seg_mia audit", description="Train a victim, attack it, sum up.", exit_on_error=False
    )
    parser.add_argument(
        "-c", "--config", action="config", help="Audit file: a name in lightning_configs, or a path."
    )
    parser.add_class_arguments(Settings)
    args, files = resolve(words, "--config", "-c")
    name = Path(files[-1]).stem if files else None
    if name is not None:
        parser.set_defaults({"name": name})
    try:
        parsed = parser.instantiate(parser.parse_args(args))
    except argparse.ArgumentError as error:
        raise InputError(one_line(str(error))) from None
    settings = Settings(
        **{key: value for key, value in parsed.as_dict().items() if key in Settings.__dataclass_fields__}
    )
    if settings.version != VERSION:
        raise InputError(f"audit files of version {VERSION} are read, this one says {settings.version}")
    return settings


def audit(settings: Settings, *, say: Callable[[str], None]) -> Audit:
    """Train or take the victim, run the attacks one after the other, write `audit.json`.

    Args:
        settings: what to do.
        say: gets one line as each stage begins.
    """
    stages = [Stage(entry) if isinstance(entry, str) else entry for entry in settings.attacks]
    for stage in stages:
        find_config(stage.attack, "attack")
    begun = time.time()
    say(f"stage 1 of {1 + len(stages)}: victim {settings.victim}")
    victim = _victim(settings)
    results = []
    for number, stage in enumerate(stages, start=2):
        say(f"stage {number} of {1 + len(stages)}: {stage.attack}")
        results.append(_attack(stage, victim, settings))
    folder = _new_folder(Path(settings.runs) / settings.name)
    result = Audit(folder, Path(settings.runs), victim, results)
    write_json(
        folder / "audit.json",
        {
            "version": VERSION,
            "victim": str(victim),
            "attacks": results,
            "seconds": round(time.time() - begun, 1),
        },
    )
    return result


def _victim(settings: Settings) -> Path:
    """Return the run's folder or the checkpoint."""
    if Path(settings.victim).is_dir() or settings.victim.endswith(".ckpt"):
        return checkpoint_file(settings.victim)
    fit = [
        "fit",
        "--config",
        settings.victim,
        "--runs",
        settings.runs,
        "--seed_everything",
        str(settings.seed),
    ]
    return run([*fit, *_options("data", settings.data)]).folder


def _attack(stage: Stage, victim: Path, settings: Settings) -> dict[str, Any]:
    words = ["test", "--attack", stage.attack, "--victim", str(victim), "--runs", settings.runs]
    trust = [word for name in settings.trust for word in ("--trust", name)]
    data = _options("data", {**settings.data, **stage.data})
    done = run([*words, *trust, *_options("attack", stage.settings), *data])
    return {"attack": stage.attack, "folder": str(done.folder), "headline": done.headline(), **done.summary}


def _options(prefix: str, settings: Mapping[str, Any]) -> list[str]:
    return [f"--{prefix}.{name}={value}" for name, value in settings.items()]


def _new_folder(parent: Path) -> Path:
    """Make and return the first `version_N` that does not exist."""
    number = 0
    while True:
        folder = parent / f"version_{number}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            number += 1
        else:
            return folder
