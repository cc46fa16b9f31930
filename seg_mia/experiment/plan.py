"""Conversion of a request to a plan: command, checkpoint and output folder."""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Literal

from seg_mia.checkpoint import Card, read_card, without_machine
from seg_mia.config.composition import last_value, plain_layer, stacked, with_defences
from seg_mia.config.files import Config, find_file, inline, is_inline, known, named
from seg_mia.config.networks import last_networks
from seg_mia.config.options import Layer, Option, Setting, words_of
from seg_mia.config.spec import ClassSpec
from seg_mia.errors import InputError
from seg_mia.experiment.attack_classes import is_membership, scorer_needs
from seg_mia.experiment.bundle import check_window, config_of_bundle
from seg_mia.experiment.idle import read_resumed, without_idle
from seg_mia.experiment.nnunet import config_of
from seg_mia.experiment.prompts import check_shadow_prompts
from seg_mia.experiment.request import RunRequest
from seg_mia.experiment.roles import in_role, of_shadow
from seg_mia.membership.answers import Fleet
from seg_mia.runs import (
    CHECKPOINTS,
    LAST,
    SALT,
    TEACHER_SEED,
    checkpoint_file,
    fitting_shadows,
    free_version,
    is_adopted,
    newest,
    newest_fitting,
    results_of,
    run_of,
    shadow_files,
)

log = logging.getLogger(__name__)

Command = Literal["fit", "validate", "test", "predict"]

PATHS = ("root", "splits")
"""Settings of data modules that are paths on the machine of a run."""

WITH_RESUME = (
    "--trainer.max_epochs",
    "--trainer.max_steps",
    "--trainer.max_time",
    "--trainer.limit_",
    "--trainer.devices",
    "--trainer.accelerator",
    "--trainer.num_nodes",
    "--trainer.strategy",
    "--trainer.enable_progress_bar",
)
"""Settings that may change on resume: duration and hardware, but not the computation."""


@dataclass(frozen=True)
class Shadow:
    """A shadow's checkpoint: its file and its metadata, read safely; weights are read on demand."""

    file: Path
    card: Card


@dataclass(frozen=True)
class Plan:
    """One run.

    Attributes:
        request: the request, completed with defaults, checkpoints and values of configs.
        command: method of Lightning's trainer.
        settings: configs and options in reading order, a victim's metadata first.
        folder: parent folder of this run's `version_N`.
        version: name of the version, if it already exists.
        checkpoint: the file to resume from, or the victim.
        card: the victim's metadata, checked.
        shadows: shadow models of a membership attack.
        infers: whether it is a membership attack.
    """

    request: RunRequest
    command: Command
    settings: tuple[Setting, ...]
    folder: Path
    version: str | None = None
    checkpoint: Path | None = None
    card: Card | None = None
    shadows: tuple[Shadow, ...] = ()
    infers: bool = False

    @property
    def adopts(self) -> bool:
        """Whether a network's weights are used unchanged instead of training it."""
        return self.request.verb == "adopt"

    @property
    def options(self) -> list[Option]:
        """The settings other than configs."""
        return [setting for setting in self.settings if isinstance(setting, Option)]

    @property
    def args(self) -> list[str]:
        """The settings in LightningCLI's format."""
        return [self.command, *words_of(self.settings)]

    @property
    def run_folder(self) -> Path:
        """The run's own folder: of the given version, else of the first free one."""
        return self.folder / self.version if self.version else free_version(self.folder)


def plan(request: RunRequest) -> Plan:
    """Return the plan of a request; raise InputError for an invalid one."""
    verb = request.verb
    if verb == "adopt":
        _refuse(request, "adopt", "victim", "shadows", "control", "resume")
        _refuse_trust(request)
        if idle := [option.flag for option in request.options if option.flag.startswith("--trainer.max_")]:
            raise InputError(f"adopt trains nothing; leave out {idle[0]}")
        return _training(request)
    if verb == "fit":
        _refuse(request, "fit", "victim", "shadows", "control")
        _refuse_trust(request)
        if request.resume:
            _refuse(request, "--resume", "runs", "defences", "role", "bundle")
            return _resumed(request, Path(request.resume))
        return _training(request)
    _refuse(request, verb, "resume", "defences", "role", *(() if verb == "test" else ("shadows", "control")))
    return _on_victim(request, verb)


def teacher_plan(planned: Plan, folder: Path, name: str, seed: int, last: Path) -> Plan:
    """Return the training of an undefended network with a run's settings and another seed.

    Args:
        planned: the run that needs it.
        folder: its folder.
        name: name of the network's folder below it.
        seed: the run's seed.
        last: the network's last checkpoint, to resume from if it exists.
    """
    settings = (
        plain_layer(str(folder / "config.yaml")),
        Option("--model.defences", "null"),
        Option("--seed_everything", str(seed + TEACHER_SEED)),
    )
    resumed = last if last.is_file() else None
    return Plan(planned.request, "fit", settings, folder, version=name, checkpoint=resumed)


def _refuse(request: RunRequest, subject: str, *names: str) -> None:
    for name in names:
        if getattr(request, name) not in (None, ()):
            option = {"shadows": "shadow", "defences": "defence"}.get(name, name)
            raise InputError(f"--{option} does not apply to {subject}; leave it out")


def _refuse_trust(request: RunRequest) -> None:
    """Raise InputError for trust in something else than the bundle, where no checkpoint is read."""
    bundle = None if request.bundle is None else Path(request.bundle)
    if others := [path for path in request.trust if Path(path) != bundle]:
        takes = f", or names the bundle, --trust {request.bundle}" if request.bundle is not None else ""
        raise InputError(f"--trust {others[0]} does not apply to {request.verb}; leave it out{takes}")


def _training(request: RunRequest) -> Plan:
    files = [find_file(config) for config in request.configs]
    if request.nnunet is not None:
        files.insert(0, inline(config_of(request.nnunet)))
    builds = request.bundle is not None or any(
        option.flag.startswith("--model") for option in request.options
    )
    if not files and not builds:
        folder = (
            ", or the folder of a training of nnU-Net, --nnunet FOLDER" if request.verb == "adopt" else ""
        )
        raise InputError(f"{request.verb} needs --config NAME; known names: {', '.join(known())}{folder}")
    layers = stacked(files, request.options, tell=_tell_once)
    if request.bundle is not None:
        content = config_of_bundle(
            request.bundle, layers, request.options, adopts=request.verb == "adopt", trust=request.trust
        )
        layers.append(Layer(inline(content), content))
    options = last_networks(request.options, tell=_tell_once)
    options = with_defences(options, layers, request.defences)
    if last_value(layers, "resume"):
        raise InputError("resume must be given on the command line, not in a config: fit --resume RUN")
    _check_seed(layers, options)
    options = in_role(layers, options, request.role)
    runs = request.runs or _text(last_value(layers, "runs")) or "runs"
    named_files = [file for file in files if not is_inline(file)]
    unnamed = Path(request.bundle).resolve().name if request.bundle is not None else "fit"
    unnamed = request.nnunet.name if request.nnunet is not None else unnamed
    parts = [_run_name(Path(named_files[-1])) if named_files else unnamed]
    parts += [request.role] if request.role and not of_shadow(layers) else []
    parts += map(named, request.defences)
    request = replace(request, runs=runs)
    return Plan(request, "fit", (*layers, *options), Path(runs) / "-".join(parts))


@cache
def _tell_once(line: str) -> None:
    """Log a line, once in a process: an audit states one training many times."""
    log.info(line)


def _check_seed(layers: Sequence[Layer], options: Sequence[Option]) -> None:
    """Raise InputError for a seed outside the generators' range."""
    seeds = [last_value(layers, "seed_everything")]
    seeds += [option.value for option in options if option.flag == "--seed_everything"]
    for seed in map(str, seeds):
        if re.fullmatch(r"-?\d+", seed) and not 0 <= int(seed) < 2**32:
            raise InputError(
                f"seed_everything must lie between 0 and {2**32 - 1}, got {seed}; 0 is the default"
            )


def _run_name(config: Path) -> str:
    """Return the name for runs of a config: its own, or that of the run that wrote it."""
    version = config.resolve().parent
    of_a_run = config.name == "config.yaml" and (version / CHECKPOINTS).is_dir()
    return version.parent.name if of_a_run else config.stem


def _resumed(request: RunRequest, run: Path) -> Plan:
    config = run / "config.yaml"
    if not config.is_file():
        raise InputError(
            f"--resume takes the folder of a run, runs/NAME/version_N, got {run} without a config.yaml; name "
            "a run"
        )
    flags = ["--config"] * bool(request.configs) + [option.flag for option in request.options]
    refused = [flag for flag in flags if flag.startswith("-") and not flag.startswith(WITH_RESUME)]
    if refused:
        raise InputError(
            f"--resume allows only trainer limits and devices besides, got {refused[0]}; a resumed run keeps "
            "its settings, start a new run to change them"
        )
    last = run / CHECKPOINTS / LAST
    return Plan(
        replace(request, runs=str(run.parent.parent)),
        "fit",
        (read_resumed(config), *request.options),
        run.resolve().parent,
        version=run.resolve().name,
        checkpoint=last if last.is_file() else None,
    )


def _on_victim(request: RunRequest, command: Literal["validate", "test", "predict"]) -> Plan:
    layers = [plain_layer(find_file(config)) for config in request.configs]
    _check_seed(layers, request.options)
    request = _completed(request, layers)
    release = _part(request.release, layers, "release")
    attack = _part(request.attack, layers, "attack") if command == "test" else None
    name = _part_name(attack, "attack") if command == "test" else command
    membership = is_membership(attack)
    for option, value in (("shadow", request.shadows), ("control", request.control)):
        if value and not membership:
            raise InputError(f"--{option} applies only to membership attacks, not to {name}; leave it out")
    needs = scorer_needs(attack, request.options) if membership else None
    file, shadows = _files(request, needs)
    card = read_card(file, trust=request.trust)
    check_window(card, layers, request.options)
    if card.data is None and not layers and not any(o.flag.startswith("--data") for o in request.options):
        raise InputError(
            f"{file} was exported without its data; name the data, --config NAME or --data CLASS with its "
            "options (--data.root FOLDER ...)"
        )
    cards = [(shadow, read_card(shadow, trust=request.trust)) for shadow in shadows]
    if membership:
        check_shadow_prompts(attack, request, (file, card), cards)
    parts = {"attack": request.attack if command == "test" else None, "release": request.release}
    chosen = [Option(f"--{kind}", find_file(value, kind)) for kind, value in parts.items() if value]
    folder = f"{name}-control" if request.control else name
    folder += f"-{_part_name(release, 'release')}" if release is not None else ""
    return Plan(
        replace(request, victim=str(file), shadows=tuple(map(str, shadows))),
        command,
        (_of_card(card, file), *chosen, *layers, *request.options),
        results_of(file, Path(request.runs or "runs")) / folder,
        checkpoint=file,
        card=card,
        shadows=tuple(Shadow(shadow, shadow_card) for shadow, shadow_card in cards),
        infers=membership,
    )


def _completed(request: RunRequest, layers: Sequence[Layer]) -> RunRequest:
    """Return a request completed with runs, checkpoints and trust from configs."""
    control = request.control if request.control is not None else last_value(layers, "control")
    if not isinstance(control, bool | None):
        raise InputError(f"control must be true or false, got {control!r}")
    return replace(
        request,
        runs=request.runs or _text(last_value(layers, "runs")) or "runs",
        victim=request.victim or _text(last_value(layers, "victim")),
        shadows=request.shadows or _texts(last_value(layers, "shadow")),
        trust=request.trust or _texts(last_value(layers, "trust")),
        control=bool(control),
    )


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _texts(value: object) -> tuple[str, ...]:
    """Return one text or a list of them, as in options, as a tuple."""
    values = value if isinstance(value, list) else [value]
    return tuple(str(item) for item in values if item is not None)


def _of_card(card: Card, file: Path) -> Layer:
    """Return checkpoint metadata as a config; if untrusted, its file names are not resolved."""
    content: Config = {"model": card.model} | ({"data": _data(card.data, run_of(file))} if card.data else {})
    return Layer(inline(content), content, trusted=False)


def _data(data: ClassSpec, run: Path) -> ClassSpec:
    """Return the data settings of checkpoint metadata; its paths count only where its run lies."""
    spec = without_machine(without_idle(data))
    if not (run / SALT).is_file():
        for name in PATHS:
            spec["init_args"].pop(name, None)
    return spec


def _files(request: RunRequest, needs: Fleet | None) -> tuple[Path, list[Path]]:
    """Return the victim's checkpoint, and those of the shadows of a membership attack."""
    runs = Path(request.runs or "runs")
    victim = checkpoint_file(request.victim) if request.victim else None
    if needs is None or needs.maximum == 0:
        return victim or newest(runs, "victim"), []
    shadows = list(dict.fromkeys(file for path in request.shadows for file in shadow_files(path)))
    if shadows:
        needs.check_count(len(shadows))
    if needs.optional and not shadows and not request.control:
        adopted_victim = victim or newest(runs, "victim")
        if is_adopted(adopted_victim):  # no shadow may exist: AUC and rates need none
            return adopted_victim, fitting_shadows(runs, adopted_victim)
    return newest_fitting(runs, victim, shadows, most=needs.maximum, apart=not needs.queries_judged)


def _part(name: str | None, layers: Sequence[Layer], kind: str) -> object:
    """Return the attack or release: the file or class path of a name, else the configs' value."""
    return last_value(layers, kind) if name is None else find_file(name, kind)


def _part_name(part: object, kind: str) -> str:
    """Return the folder name of an attack or a release: its file's name, or its class's."""
    if isinstance(part, dict) and isinstance(part.get("class_path"), str):
        part = part["class_path"]
    if not isinstance(part, str):
        raise InputError(f"name the {kind}: --{kind} NAME; known names: {', '.join(known(kind))}")
    return named(part)
