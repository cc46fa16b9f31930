"""One victim, one shadow, every attack asked for, one summary."""

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
from seg_mia.headlines import spread, table, warnings
from seg_mia.messages import one_line
from seg_mia.plan import has_classifier, is_membership
from seg_mia.runs import checkpoint_file

VERSION = 1
BLIND = "mia-blind"
SHADOW_SEED = 10_000
"""Added to the seed for the shadow: an attacker does not know what the victim's training began with."""


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
class Training:
    """A config with options.

    Args:
        config: a name in lightning_configs, or a file.
        options: as on the command line, by their dotted names: {"model.network.encoder": "resnet34"}.
    """

    config: str
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Settings:
    """What an audit file says, version 1.

    Args:
        victim: a config to train, with or without options, or a checkpoint or run's folder.
        attacks: names of attacks, or mappings with `attack`, `settings` and `data`.
        shadow: the same as `victim`, for what membership attacks learn on; they need one.
        data: options of the data module for every stage, such as `root`.
        model: options of the victim's and the shadow's task, such as `encoder_weights`.
        scorer: options of every membership classifier, such as `weights`.
        control: also run each membership attack on a network that saw none of the samples: AUC must be 0.5.
        seeds: of the victim's training; one victim, one shadow and all attacks for each.
        runs: folder that runs are kept in.
        trust: class paths outside seg_mia that cards may name.
        name: of the audit's folder; the config's name if not given.
        version: of this file format.
    """

    victim: str | Training
    attacks: list[str | Stage]
    shadow: str | Training | None = None
    data: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    scorer: dict[str, Any] = field(default_factory=dict)
    control: bool = False
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
        utility: how well each victim that was trained here segments, in words.
    """

    folder: Path
    runs: Path
    victims: list[Path]
    results: list[dict[str, Any]]
    utility: dict[Path, str]

    def headline(self) -> list[str]:
        """Return the lines that sum up the audit: first what makes the others void, then one table."""
        lines = [line for result in self.results for line in warnings(result)]
        for victim in self.victims:
            own = [result for result in self.results if result["victim_run"] == str(victim)]
            lines += [f"victim {victim}{self.utility.get(victim, '')}", *table(own)]
        if len(self.victims) > 1:
            lines += ["over all seeds", *spread(self.results)]
        return lines


def read_settings(words: Sequence[str]) -> Settings:
    """Return the settings on an audit's command line; raise InputError for what does not fit."""
    parser = ArgumentParser(
        prog="seg_mia audit", description="Train a victim and a shadow, attack, sum up.", exit_on_error=False
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
    """Train or take victim and shadow, run the attacks one after the other, write `audit.json`.

    Membership attacks begin with the blind baseline, asked for or not: without it nobody knows whether the
    split itself tells members from non-members.

    Args:
        settings: what to do.
        say: gets one line as each stage begins.
    """
    stages = _stages(settings)
    begun = time.time()
    trainings = 1 + (settings.shadow is not None)
    total = len(settings.seeds) * (trainings + len(stages))
    victims, results, utility, number = list[Path](), list[dict[str, Any]](), dict[Path, str](), 0
    for seed in settings.seeds:
        shadow = None
        for role, what in (("victim", settings.victim), ("shadow", settings.shadow)):
            if what is None:
                continue
            number += 1
            say(f"stage {number} of {total}: {role} {_called(what)}, seed {seed}")
            run_, told = _trained(what, settings, seed if role == "victim" else seed + SHADOW_SEED)
            if role == "victim":
                victims.append(run_)
                utility[run_] = told
            else:
                shadow = run_
        for stage, control in stages:
            number += 1
            say(f"stage {number} of {total}: {stage.attack}{', negative control' if control else ''}")
            done = _attack(stage, victims[-1], shadow, settings, control=control)
            results.append({"seed": seed, **done})
    folder = _new_folder(Path(settings.runs) / settings.name)
    content = {"version": VERSION, "victims": [str(victim) for victim in victims], "attacks": results}
    write_json(folder / "audit.json", content | {"seconds": round(time.time() - begun, 1)})
    return Audit(folder, Path(settings.runs), victims, results, utility)


def _stages(settings: Settings) -> list[tuple[Stage, bool]]:
    """Return what is run, and whether as a negative control; raise InputError before anything is trained."""
    stages = [Stage(entry) if isinstance(entry, str) else entry for entry in settings.attacks]
    files = {stage.attack: str(find_config(stage.attack, "attack")) for stage in stages}
    inferring = {name for name, file in files.items() if is_membership(file)}
    if not inferring:
        return [(stage, False) for stage in stages]
    if settings.shadow is None:
        raise InputError(
            f"{', '.join(sorted(inferring))} learn on a shadow; name one in the audit, `shadow: CONFIG` or a "
            "checkpoint"
        )
    if BLIND not in inferring:
        stages.insert(0, Stage(BLIND))
    controls = [(stage, True) for stage in stages if settings.control and stage.attack in inferring - {BLIND}]
    return [(stage, False) for stage in stages] + controls


def _called(what: str | Training) -> str:
    return what if isinstance(what, str) else what.config


def _trained(what: str | Training, settings: Settings, seed: int) -> tuple[Path, str]:
    """Return the run's folder or the checkpoint, and how well it segments where it was trained here."""
    training = Training(what) if isinstance(what, str) else what
    path = Path(training.config)
    if path.is_dir() or (path.is_file() and path.suffix not in {".yaml", ".yml"}):
        return checkpoint_file(path), ""
    fit = ["fit", "--config", training.config, "--runs", settings.runs, "--seed_everything", str(seed)]
    own = [*_options("data.", settings.data), *_options("model.", settings.model)]
    done = run([*fit, *own, *_options("", training.options)])
    return done.folder, "".join(f": {line}" for line in done.headline())


def _attack(
    stage: Stage, victim: Path, shadow: Path | None, settings: Settings, *, control: bool
) -> dict[str, Any]:
    file = str(find_config(stage.attack, "attack"))
    words = ["test", "--attack", stage.attack, "--victim", str(victim), "--runs", settings.runs]
    if is_membership(file):
        words += ["--shadow", str(shadow), *(["--control"] if control else [])]
        if has_classifier(file):
            words += _options("attack.scorer.", settings.scorer)
    trust = [word for name in settings.trust for word in ("--trust", name)]
    data = _options("data.", {**settings.data, **stage.data})
    done = run([*words, *trust, *_options("attack.", stage.settings), *data])
    own = {"name": done.plan.folder.name, "victim_run": str(victim), "folder": str(done.folder)}
    return own | {"headline": done.headline()} | done.summary


def _options(prefix: str, settings: Mapping[str, Any]) -> list[str]:
    plain = {name: value if isinstance(value, str) else json.dumps(value) for name, value in settings.items()}
    return [f"--{prefix}{name}={value}" for name, value in plain.items()]


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
