"""Request of a run, from a command line or an audit."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal, cast

from seg_mia.config.options import Option, options_in, taken, words_of
from seg_mia.errors import InputError
from seg_mia.experiment.nnunet import NnUNetTraining, parsed_training
from seg_mia.experiment.roles import SHADOW

Verb = Literal["fit", "adopt", "validate", "test", "predict"]
BUILDS: tuple[Verb, ...] = ("fit", "adopt")
"""Commands that make a network's checkpoint."""
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
        nnunet: a training of nnU-Net to adopt.
        bundle: folder of a MONAI bundle, whose network is adopted or trained.
        reference: folder of the deployed system's predictions, which an adopted network is compared with.
        agreement: lowest accepted agreement of the two.
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
    nnunet: NnUNetTraining | None = None
    bundle: str | None = None
    reference: str | None = None
    agreement: float | None = None

    @property
    def words(self) -> list[str]:
        """Equivalent words of a command line, without sample names."""
        repeated = (("config", self.configs), ("defence", self.defences), ("shadow", self.shadows))
        names = ("bundle", "attack", "release", "role", "victim", "resume")
        single = {name: getattr(self, name) for name in names}
        flags = [Option(f"--{name}", value) for name, value in single.items() if value is not None]
        flags += [Option(f"--{name}", value) for name, values in repeated for value in values]
        flags += [Option("--control")] if self.control else []
        flags += [Option("--runs", self.runs)] if self.runs else []
        flags += [Option("--trust", path) for path in self.trust]
        flags += [Option("--reference-predictions", self.reference)] if self.reference else []
        flags += [Option("--agreement", f"{self.agreement:g}")] if self.agreement is not None else []
        named = [Option(o.flag, "...") if o.name in NAMES_SAMPLES else o for o in self.options]
        of_nnunet = self.nnunet.words if self.nnunet is not None else []
        return [self.verb, *of_nnunet, *words_of([*flags, *named])]


def requested(words: Sequence[str]) -> RunRequest:
    """Return the request of the words after `seg_mia`; raise InputError for invalid ones."""
    verb = cast(Verb, words[0])
    adopts = verb == "adopt"
    flags, remaining = _own_flags(words[1:], verb)
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
        nnunet=_nnunet(flags) if adopts else None,
        bundle=flags.bundle if verb in BUILDS else None,
        reference=flags.reference_predictions if adopts else None,
        agreement=_agreement(flags) if adopts else None,
        **parts,
    )


def _nnunet(flags: argparse.Namespace) -> NnUNetTraining | None:
    """Return the training of nnU-Net in the options, if any."""
    names = [field.name for field in fields(NnUNetTraining)]
    chosen = {name: getattr(flags, name) for name in names if getattr(flags, name) is not None}
    if chosen and "nnunet" not in chosen:
        raise InputError(
            f"--{min(chosen)} belongs to a training of nnU-Net; name its folder, --nnunet FOLDER"
        )
    return parsed_training(chosen) if chosen else None


def _agreement(flags: argparse.Namespace) -> float | None:
    """Return the lowest accepted agreement, if given."""
    if flags.agreement is None:
        return None
    try:
        return float(flags.agreement)
    except ValueError:
        raise InputError(
            f"agreement must be a number in [0, 1], got {flags.agreement!r}; 0.99 is usual"
        ) from None


def _own_flags(words: Sequence[str], verb: Verb) -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--victim")
    parser.add_argument("--shadow", action="append", default=[])
    parser.add_argument("--control", nargs="?", const="true", choices=("true", "false"))
    parser.add_argument("--resume")
    parser.add_argument("--role", choices=(SHADOW,))
    parser.add_argument("--runs")
    parser.add_argument("--trust", action="append", default=[])
    parser.add_argument("--defence", action="append", default=[])
    if verb in BUILDS:
        parser.add_argument("--bundle")
    if verb == "adopt":
        for field in fields(NnUNetTraining):
            parser.add_argument(f"--{field.name}")
        parser.add_argument("--reference-predictions", "--reference_predictions")
        parser.add_argument("--agreement")
    try:
        return parser.parse_known_args(list(words))
    except argparse.ArgumentError as error:
        raise InputError(str(error)) from None
