"""From the words on the command line to what is to be run, on which checkpoint, and where results go."""

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, cast

from seg_mia.checkpoint import Card, ClassSpec, without_machine
from seg_mia.config.files import (
    composed,
    in_yaml,
    inline,
    is_inline,
    known,
    named,
    read_yaml,
    refuse_audit,
    resolve,
)
from seg_mia.config.spec import resolve as class_at
from seg_mia.errors import InputError
from seg_mia.experiment.roles import SHADOW, in_role, of_shadow
from seg_mia.membership import scorers
from seg_mia.membership.answers import Fleet
from seg_mia.membership.base import Membership
from seg_mia.runs import (
    CHECKPOINTS,
    LAST,
    SALT,
    checkpoint_file,
    free_version,
    newest,
    newest_fitting,
    read_run,
    results_of,
    run_of,
    shadow_files,
)

Command = Literal["fit", "validate", "test", "predict"]

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
"""What may be changed when a run is taken up again: how long and on what it runs, not what it computes."""


@dataclass(frozen=True)
class Plan:
    """One run.

    Attributes:
        command: which of Lightning's methods.
        args: arguments for LightningCLI, names resolved, a victim's card first.
        folder: the folder that gets a `version_N` for this run.
        version: the version's name where it exists already.
        checkpoint: the file to resume from, or the victim.
        content: the victim's checkpoint, read safely.
        card: the victim's card, checked.
        shadows: what a membership attack learns on.
        options: what was said to this tool alone: runs, victim, shadow, control, trust, resume, role.
        adopt: take a network's weights as they are instead of training them.
    """

    command: Command
    args: tuple[str, ...]
    folder: Path
    version: str | None = None
    checkpoint: Path | None = None
    content: dict[str, Any] | None = None
    card: Card | None = None
    shadows: "tuple[Shadow, ...]" = ()
    options: dict[str, Any] | None = None
    adopt: bool = False

    @property
    def place(self) -> Path:
        """The run's own folder: of the version given, else of the first that is free."""
        return self.folder / self.version if self.version else free_version(self.folder)


@dataclass(frozen=True)
class Shadow:
    """A shadow's checkpoint: its file and its card, read safely; weights are read when they are needed."""

    file: Path
    card: Card


def plan(words: Sequence[str]) -> Plan:
    """Return what the words after `seg_mia` mean; raise InputError where they mean nothing."""
    if words[0] == "adopt":
        own, rest = _own_options(words[1:])
        _refuse(own, "adopt", "victim", "shadow", "control", "trust", "resume")
        if idle := [word for word in rest if word.startswith("--trainer.max_")]:
            raise InputError(f"adopt trains nothing; leave out {idle[0].partition('=')[0]}")
        return replace(_fit(rest, vars(own) | {}), adopt=True)
    command = cast(Command, words[0])
    own, rest = _own_options(words[1:])
    options = vars(own) | {}
    if command == "fit":
        _refuse(own, "fit", "victim", "shadow", "control", "trust")
        if own.resume:
            _refuse(own, "--resume", "runs", "defence", "role")
            return _resumed(own.resume, rest, options)
        return _fit(rest, options)
    _refuse(own, command, "resume", "defence", "role", *(() if command == "test" else ("shadow", "control")))
    return _on_victim(command, rest, options)


def _refuse(own: argparse.Namespace, what: str, *names: str) -> None:
    for name in names:
        if getattr(own, name):
            raise InputError(f"--{name} does not go with {what}; leave it out")


def _own_options(words: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--victim")
    parser.add_argument("--shadow", action="append", default=[])
    parser.add_argument("--control", nargs="?", const="true", choices=("true", "false"))
    parser.add_argument("--resume")
    parser.add_argument("--role", choices=(SHADOW,))
    parser.add_argument("--runs")
    parser.add_argument("--trust", action="append", default=[])
    parser.add_argument("--defence", action="append", default=[])
    try:
        return parser.parse_known_args(list(words))
    except argparse.ArgumentError as error:
        raise InputError(str(error)) from None


def _fit(rest: list[str], options: dict[str, Any]) -> Plan:
    args, configs = resolve(rest, "--config", "-c")
    if not configs and not any(word.startswith("--model") for word in rest):
        raise InputError(f"fit needs --config NAME; known names: {', '.join(known())}")
    files = [config for config in configs if not is_inline(config)]
    args, configs = composed(args, options["defence"])
    if in_yaml(configs, "resume"):
        raise InputError("resume belongs on the command line, not into a config: fit --resume RUN")
    _check_seed(rest, configs)
    args = in_role(args, configs, options["role"])
    options["runs"] = options["runs"] or in_yaml(configs, "runs") or "runs"
    parts = [_run_name(Path(files[-1])) if files else "fit"]
    parts += [options["role"]] if options["role"] and not of_shadow(configs) else []
    parts += map(named, options["defence"])
    return Plan("fit", ("fit", *args), Path(options["runs"]) / "-".join(parts), options=options)


def _check_seed(words: Sequence[str], configs: Sequence[str]) -> None:
    """Raise InputError for a seed that no generator takes."""
    found = [in_yaml(configs, "seed_everything")]
    for word, after in pairwise([*words, ""]):
        flag, equals, value = word.partition("=")
        found += [value if equals else after] if flag == "--seed_everything" else []
    for seed in map(str, found):
        if re.fullmatch(r"-?\d+", seed) and not 0 <= int(seed) < 2**32:
            raise InputError(
                f"seed_everything must lie between 0 and {2**32 - 1}, got {seed}; 0 is the default"
            )


def _run_name(config: Path) -> str:
    """Return what to call runs of a config: by its own name, or by its run's where a run left it."""
    version = config.resolve().parent
    of_a_run = config.name == "config.yaml" and (version / CHECKPOINTS).is_dir()
    return version.parent.name if of_a_run else config.stem


def _resumed(resume: str, rest: list[str], options: dict[str, Any]) -> Plan:
    run = Path(resume)
    config = run / "config.yaml"
    if not config.is_file():
        raise InputError(
            f"--resume takes a run's folder, runs/NAME/version_N, and {run} holds no config.yaml"
        )
    flags = [word.partition("=")[0] for word in rest if word.startswith("-")]
    refused = [flag for flag in flags if not flag.startswith(WITH_RESUME)]
    if refused:
        raise InputError(
            f"a resumed run keeps its settings, so {refused[0]} cannot be given with --resume; allowed are "
            "trainer limits and devices. Start a new run to change it"
        )
    last = run / CHECKPOINTS / LAST
    return Plan(
        "fit",
        ("fit", "--config", str(config), *rest),
        run.resolve().parent,
        version=run.resolve().name,
        checkpoint=last if last.is_file() else None,
        options=options | {"runs": str(run.parent.parent)},
    )


def _on_victim(command: Command, rest: list[str], options: dict[str, Any]) -> Plan:
    args, configs = resolve(rest, "--config", "-c")
    for config in configs:
        refuse_audit(config)
    _check_seed(rest, configs)
    name: str = command
    membership = False
    args, release = _first(args, configs, "release")
    if command == "test":
        args, attack = _first(args, configs, "attack")
        name, membership = _part_name(attack, "attack"), is_membership(attack)
    for key, default in (("runs", "runs"), ("victim", None), ("shadow", None), ("trust", [])):
        options[key] = options[key] or in_yaml(configs, key) or default
    options["control"] = _control(options["control"], in_yaml(configs, "control"))
    place = f"{name}-control" if options["control"] else name
    if release is not None:
        place += f"-{_part_name(release, 'release')}"
    for key in ("shadow", "control"):
        if options[key] and not membership:
            raise InputError(f"--{key} goes with membership attacks alone, not with {name}; leave it out")
    file, shadow_files = _files(options, scorer_needs(attack, args) if membership else None)
    trust = tuple(options["trust"])
    content, card = read_run(file, trust)
    if card.data is None and not configs and not any(word.startswith("--data") for word in args):
        raise InputError(
            f"{file} was exported without its data: say which to use, --config NAME or --data CLASS with "
            "its options (--data.root FOLDER ...)"
        )
    fragment = {"model": card.model} | ({"data": _data(card.data, run_of(file))} if card.data else {})
    return Plan(
        command,
        (command, "--config", inline(fragment), *args),
        results_of(file, Path(options["runs"])) / place,
        checkpoint=file,
        content=content,
        card=card,
        shadows=tuple(Shadow(shadow, read_run(shadow, trust)[1]) for shadow in shadow_files),
        options=options | {"victim": str(file), "shadow": _one_or_more([str(path) for path in shadow_files])},
    )


def _control(said: str | None, in_yaml: Any) -> bool:
    if said is not None:
        return said == "true"
    if not isinstance(in_yaml, bool | None):
        raise InputError(f"control must be true or false, got {in_yaml!r}")
    return bool(in_yaml)


def _one_or_more(names: list[str]) -> str | list[str] | None:
    """Return one name as it is, several as a list: as an option of the command line takes them."""
    return names if len(names) > 1 else next(iter(names), None)


def _files(options: dict[str, Any], needs: Fleet | None) -> tuple[Path, list[Path]]:
    """Return the victim's checkpoint, and those of the shadows that a membership attack needs."""
    runs = Path(options["runs"])
    victim = checkpoint_file(options["victim"]) if options["victim"] else None
    if needs is None:
        return victim or newest(runs, "victim"), []
    given = options["shadow"] or []
    paths = [given] if isinstance(given, str) else given
    shadows = list(dict.fromkeys(file for path in paths for file in shadow_files(path)))
    if shadows:
        needs.check_count(len(shadows))
    return newest_fitting(runs, victim, shadows, most=needs.maximum, apart=not needs.queries_judged)


def scorer_needs(attack: Any, words: Sequence[str]) -> Fleet:
    """Return which shadows a membership attack needs, from the class of its scorer, before it is built.

    Args:
        attack: as `is_membership` takes it.
        words: of the command line, which may name another scorer.
    """
    if isinstance(attack, str) and (is_inline(attack) or attack.endswith((".yaml", ".yml"))):
        attack = read_yaml(attack)
    arguments = attack.get("init_args") if isinstance(attack, dict) else None
    scorer = arguments.get("scorer") if isinstance(arguments, dict) else None
    for word, after in pairwise([*words, ""]):
        flag, equals, value = word.partition("=")
        if flag in {"--attack.scorer", "--attack.scorer.class_path"}:
            scorer = value if equals else after
    if isinstance(scorer, str) and is_inline(scorer):
        scorer = read_yaml(scorer)
    path = scorer.get("class_path") if isinstance(scorer, dict) else scorer
    path = path if isinstance(path, str) else ""
    kind = class_at(path) if "." in path else vars(scorers).get(path)
    return kind.needs if isinstance(kind, type) and issubclass(kind, scorers.Scorer) else Fleet()


def is_membership(attack: Any) -> bool:
    """Say whether an attack, given as file, class path or inline mapping, is a membership attack."""
    if isinstance(attack, str) and (is_inline(attack) or attack.endswith((".yaml", ".yml"))):
        attack = read_yaml(attack)
    if isinstance(attack, dict):
        attack = attack.get("class_path")
    if not isinstance(attack, str) or "." not in attack:
        return False
    return issubclass(class_at(attack), Membership)


def _data(data: ClassSpec, run: Path) -> ClassSpec:
    """Return a card's data settings; its paths count only where the run that it belongs to lies."""
    spec = without_machine(data)
    if not (run / SALT).is_file():
        spec["init_args"].pop("root", None)
    return spec


def _first(args: list[str], configs: Sequence[str], what: str) -> tuple[list[str], Any]:
    """Put `--attack NAME` or the like before its options, which jsonargparse reads in order.

    Returns the arguments, and what was named there or else in a config.
    """
    flag = f"--{what}"
    resolved, names = resolve(args, flag, kind=what)
    if not names:
        return resolved, in_yaml(configs, what)
    rest: list[str] = []
    skip = False
    for word in resolved:
        if skip or word == flag or word.startswith(f"{flag}="):
            skip = word == flag
            continue
        rest.append(word)
    return [flag, names[-1], *rest], names[-1]


def _part_name(part: Any, what: str) -> str:
    """Return what to call an attack's or a release's folder: its file's name, or its class's."""
    if isinstance(part, dict) and isinstance(part.get("class_path"), str):
        part = part["class_path"]
    if not isinstance(part, str):
        raise InputError(f"name the {what}: --{what} NAME; known names: {', '.join(known(what))}")
    return named(part)
