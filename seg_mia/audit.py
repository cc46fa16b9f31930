"""One victim, every attack asked for, one summary."""

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from seg_mia.callbacks.tables import write_json
from seg_mia.configs import find_config, is_inline, resolve
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
        seeds: of the victim's training; one victim, and all attacks on it, for each.
        runs: folder that runs are kept in.
        trust: class paths outside seg_mia that the victim's card may name.
        name: of the audit's folder; the config's name if not given.
        version: of this file format.
    """

    victim: str
    attacks: list[str | Stage]
    data: dict[str, Any] = field(default_factory=dict)
    seeds: list[int] = field(default_factory=lambda: [0])
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
        victims: the victims' runs or files, one per seed.
        results: one mapping per victim and attack.
    """

    folder: Path
    runs: Path
    victims: list[Path]
    results: list[dict[str, Any]]

    def headline(self) -> list[str]:
        """Return the lines that sum up the audit."""
        lines = []
        for victim in self.victims:
            lines.append(f"victim {victim}")
            lines += [
                line
                for result in self.results
                if result["victim_run"] == str(victim)
                for line in result["headline"]
            ]
        return lines


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
    names = [Path(file).stem for file in files if not is_inline(file)]
    name = names[-1] if names else None
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
    total = len(settings.seeds) * (1 + len(stages))
    victims, results = [], []
    for round_, seed in enumerate(settings.seeds):
        done = round_ * (1 + len(stages))
        say(f"stage {done + 1} of {total}: victim {settings.victim}, seed {seed}")
        victims.append(_victim(settings, seed))
        for number, stage in enumerate(stages, start=done + 2):
            say(f"stage {number} of {total}: {stage.attack}")
            results.append({"seed": seed, **_attack(stage, victims[-1], settings)})
    folder = _new_folder(Path(settings.runs) / settings.name)
    content = {"version": VERSION, "victims": [str(victim) for victim in victims], "attacks": results}
    write_json(folder / "audit.json", content | {"seconds": round(time.time() - begun, 1)})
    return Audit(folder, Path(settings.runs), victims, results)


def _victim(settings: Settings, seed: int) -> Path:
    """Return the run's folder or the checkpoint."""
    path = Path(settings.victim)
    if path.is_dir() or (path.is_file() and path.suffix not in {".yaml", ".yml"}):
        return checkpoint_file(settings.victim)
    fit = [
        "fit",
        "--config",
        settings.victim,
        "--runs",
        settings.runs,
        "--seed_everything",
        str(seed),
    ]
    return run([*fit, *_options("data", settings.data)]).folder


def _attack(stage: Stage, victim: Path, settings: Settings) -> dict[str, Any]:
    words = ["test", "--attack", stage.attack, "--victim", str(victim), "--runs", settings.runs]
    trust = [word for name in settings.trust for word in ("--trust", name)]
    data = _options("data", {**settings.data, **stage.data})
    done = run([*words, *trust, *_options("attack", stage.settings), *data])
    own = {
        "name": stage.attack,
        "victim_run": str(victim),
        "folder": str(done.folder),
        "headline": done.headline(),
    }
    return own | done.summary


def _options(prefix: str, settings: Mapping[str, Any]) -> list[str]:
    plain = {name: value if isinstance(value, str) else json.dumps(value) for name, value in settings.items()}
    return [f"--{prefix}.{name}={value}" for name, value in plain.items()]


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
