"""Request of a run, from a command line or an audit."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

from seg_mia.config.options import Option, options_in, taken, words_of
from seg_mia.errors import InputError
from seg_mia.experiment.roles import SHADOW

Verb = Literal["fit", "adopt", "validate", "test", "predict"]
NAMES_SAMPLES = {"data.duplicates", "data.duplicate_positions"}
"""Options whose values are sample names."""


@dataclass(frozen=True)
class RunRequest:
    """A requested run.

    Attributes:
        verb: the command.
        configs: names or files; later ones override earlier ones.
        options: options of model, data, trainer and attack.
        defences: names in lightning_configs/defence, files or class paths.
        role: role of a training, for a shadow's.
        attack: a name in lightning_configs/attack, a file or a class path.
        release: the same, in lightning_configs/release.
        victim: a checkpoint or a run folder; the newest if not given.
        shadows: checkpoints, run folders or folders of runs; the newest that fit if not given.
        control: query a shadow instead of the victim.
        resume: folder of the run to resume.
        runs: folder of the runs.
        trust: class paths outside seg_mia allowed in checkpoint metadata.
    """

    verb: Verb
    configs: tuple[str, ...] = ()
    options: tuple[Option, ...] = ()
    defences: tuple[str, ...] = ()
    role: str | None = None
    attack: str | None = None
    release: str | None = None
    victim: str | None = None
    shadows: tuple[str, ...] = ()
    control: bool | None = None
    resume: str | None = None
    runs: str | None = None
    trust: tuple[str, ...] = ()

    @property
    def words(self) -> list[str]:
        """Equivalent words of a command line, without sample names."""
        repeated = (("config", self.configs), ("defence", self.defences), ("shadow", self.shadows))
        single = {name: getattr(self, name) for name in ("attack", "release", "role", "victim", "resume")}
        flags = [Option(f"--{name}", value) for name, value in single.items() if value is not None]
        flags += [Option(f"--{name}", value) for name, values in repeated for value in values]
        flags += [Option("--control")] if self.control else []
        flags += [Option("--runs", self.runs)] if self.runs else []
        flags += [Option("--trust", path) for path in self.trust]
        named = [Option(o.flag, "...") if o.name in NAMES_SAMPLES else o for o in self.options]
        return [self.verb, *words_of([*flags, *named])]


def requested(words: Sequence[str]) -> RunRequest:
    """Return the request of the words after `seg_mia`; raise InputError for invalid ones."""
    verb = cast(Verb, words[0])
    flags, remaining = _own_flags(words[1:])
    configs, options = taken(options_in(remaining), "config")
    parts: dict[str, str | None] = {"attack": None, "release": None}
    for part in parts if verb not in {"fit", "adopt"} else ():
        if part == "attack" and verb != "test":
            continue
        files, options = taken(options, part, part)
        parts[part] = files[-1] if files else None
    return RunRequest(
        verb,
        tuple(configs),
        tuple(options),
        defences=tuple(flags.defence),
        role=flags.role,
        victim=flags.victim,
        shadows=tuple(flags.shadow),
        control=None if flags.control is None else flags.control == "true",
        resume=flags.resume,
        runs=flags.runs,
        trust=tuple(flags.trust),
        **parts,
    )


def _own_flags(words: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
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
