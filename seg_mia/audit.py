"""One victim, one shadow, every attack asked for, one summary."""

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from seg_mia.attacks.base import Perturbation
from seg_mia.callbacks.membership_figures import Curve, roc_figure
from seg_mia.callbacks.pictures import png
from seg_mia.callbacks.tables import write_json
from seg_mia.configs import find_config, is_inline, resolve
from seg_mia.errors import InputError
from seg_mia.experiment import run
from seg_mia.headlines import spread, table, warnings
from seg_mia.membership.base import Membership
from seg_mia.membership.compare import read_scores
from seg_mia.membership.roc import roc
from seg_mia.membership.scorers import Classifier
from seg_mia.messages import one_line, refusal
from seg_mia.models.membership_classifier import MembershipClassifier, load_classifier
from seg_mia.plan import is_membership
from seg_mia.runs import SHADOW_SEED, checkpoint_file

VERSION = 1
BLIND = "mia-blind"


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
        utility: how well each victim segments, in words, where it was trained here.
    """

    folder: Path
    runs: Path
    victims: list[Path]
    results: list[dict[str, Any]]
    utility: list[str]

    def headline(self) -> list[str]:
        """Return the lines that sum up the audit: first what makes the others void, then one table."""
        lines = [line for result in self.results for line in warnings(result)]
        for number, victim in enumerate(self.victims):
            own = [result for result in self.results if result["round"] == number]
            lines += [f"victim {victim}{self.utility[number]}", *table(own)]
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
    """Train or take victim and shadow, run the attacks one after the other, write `audit.json` and the ROCs.

    Membership attacks begin with the blind baseline, asked for or not: without it nobody knows whether the
    split itself tells members from non-members.

    Args:
        settings: what to do.
        say: gets one line as each stage begins.
    """
    stages = _stages(settings)
    begun = time.time()
    roles = [role for role in ("victim", "shadow") if getattr(settings, role) is not None]
    total = len(settings.seeds) * (len(roles) + len(stages))
    victims, utility, results, number = list[Path](), list[str](), list[dict[str, Any]](), 0
    for round_, seed in enumerate(settings.seeds):
        files: dict[str, Path] = {}
        for role in roles:
            number += 1
            what = getattr(settings, role)
            say(f"stage {number} of {total}: {role} {_called(what)}, seed {seed}")
            files[role], told = _trained(what, settings, seed + SHADOW_SEED * (role == "shadow"))
            if role == "victim":
                victims.append(files[role])
                utility.append(told)
        for stage in stages:
            number += 1
            say(f"stage {number} of {total}: {stage.name}{', negative control' if stage.control else ''}")
            results.append({"seed": seed, "round": round_, **_attack(stage, files, settings, seed)})
    folder = _new_folder(Path(settings.runs) / settings.name)
    content = {"version": VERSION, "victims": [str(victim) for victim in victims], "attacks": results}
    write_json(folder / "audit.json", content | {"seconds": round(time.time() - begun, 1)})
    for round_, seed in enumerate(settings.seeds):
        _draw_roc(folder / f"roc_seed_{seed}.png", [one for one in results if one["round"] == round_])
    return Audit(folder, Path(settings.runs), victims, results, utility)


@dataclass(frozen=True)
class _Ready:
    """A stage whose attack was built once: what is wrong with it is told before anything is trained."""

    name: str
    words: list[str]
    attack: Perturbation | Membership
    control: bool = False


def _stages(settings: Settings) -> list[_Ready]:
    """Return what is run, the blind baseline first; raise InputError for what could not be."""
    entries = [Stage(entry) if isinstance(entry, str) else entry for entry in settings.attacks]
    stages = [_checked(stage, settings) for stage in entries]
    inferring = [stage for stage in stages if isinstance(stage.attack, Membership)]
    if not inferring:
        return stages
    if settings.shadow is None:
        raise InputError(
            f"{', '.join(sorted({stage.name for stage in inferring}))} learn on a shadow; name one in the "
            "audit, `shadow: CONFIG` or a checkpoint"
        )
    blind = [stage for stage in inferring if not _asks(stage)] or [_checked(Stage(BLIND), settings)]
    controls = [replace(stage, control=True) for stage in inferring if settings.control and _asks(stage)]
    return [*blind, *(stage for stage in stages if stage not in blind), *controls]


def _asks(stage: _Ready) -> bool:
    return isinstance(stage.attack, Membership) and stage.attack.signal.asks


def _checked(stage: Stage, settings: Settings) -> _Ready:
    file = str(find_config(stage.attack, "attack"))
    words = _options("attack.", stage.settings)
    scorer = _options("attack.scorer.", settings.scorer)
    attack = _built(file, [])
    if isinstance(attack, Membership) and isinstance(attack.scorer, Classifier):
        words = [*scorer, *words]
    attack = _built(file, words)
    if isinstance(attack, Membership) and isinstance(attack.scorer, Classifier):
        _try(attack.scorer)
    data = _options("data.", {**settings.data, **stage.data})
    return _Ready(stage.attack, ["--attack", file, *words, *data], attack)


def _try(scorer: Classifier) -> None:
    network = MembershipClassifier(
        architecture=scorer.architecture, channels=1, adapter=scorer.adapter, dropout=scorer.dropout
    )
    if scorer.weights is not None:
        load_classifier(network, scorer.weights)


def _built(file: str, words: Sequence[str]) -> Perturbation | Membership:
    family = Membership if is_membership(file) else Perturbation
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(family, "attack")
    try:
        built: Perturbation | Membership = parser.instantiate(
            parser.parse_args([f"--attack={file}", *words])
        )["attack"]
    except (argparse.ArgumentError, ValueError) as error:
        raise refusal(error) or InputError(f"{file}: {one_line(str(error))}") from None
    return built


def _called(what: str | Training) -> str:
    return what if isinstance(what, str) else what.config


def _trained(what: str | Training, settings: Settings, seed: int) -> tuple[Path, str]:
    """Return the run's folder or the checkpoint, and how well it segments where it was trained here."""
    training = Training(what) if isinstance(what, str) else what
    path = Path(training.config)
    if path.is_dir() or (path.is_file() and path.suffix not in {".yaml", ".yml"}):
        if training.options:
            raise InputError(f"options are for a training, {path} is trained already; leave them out")
        return checkpoint_file(path), ""
    fit = ["fit", "--config", training.config, "--runs", settings.runs, "--seed_everything", str(seed)]
    own = [*_options("data.", settings.data), *_options("model.", settings.model)]
    done = run([*fit, *own, *_options("", training.options)])
    return done.folder, "".join(f": {line}" for line in done.headline())


def _attack(stage: _Ready, files: Mapping[str, Path], settings: Settings, seed: int) -> dict[str, Any]:
    words = ["test", *stage.words, "--victim", str(files["victim"]), "--runs", settings.runs]
    words += ["--seed_everything", str(seed)]
    if isinstance(stage.attack, Membership):
        words += ["--shadow", str(files["shadow"]), *(["--control"] if stage.control else [])]
    done = run([*words, *(word for name in settings.trust for word in ("--trust", name))])
    own = {"name": done.plan.folder.name, "victim_run": str(files["victim"]), "folder": str(done.folder)}
    return own | {"headline": done.headline()} | done.summary


def _draw_roc(file: Path, results: Sequence[Mapping[str, Any]]) -> None:
    """Draw the membership attacks of one victim into one figure, but for the controls."""
    curves, nonmembers = dict[str, Curve](), 0
    for result in results:
        if "auc" in result["results"] and not result["control"]:
            scored = read_scores(result["folder"])
            points = roc(scored.scores, scored.members)
            label = "AUC {value:.3f} [{low:.3f}, {high:.3f}]".format(**result["results"]["auc"])
            curves[f"{result['name']} {Path(result['folder']).name}"] = Curve(points.fpr, points.tpr, label)
            nonmembers = int(result["results"]["nonmembers"])
    if curves:
        plain = {name.partition(" ")[0] for name in curves}
        if len(plain) == len(curves):
            curves = {name.partition(" ")[0]: curve for name, curve in curves.items()}
        file.write_bytes(png(roc_figure(curves, nonmembers)))


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
