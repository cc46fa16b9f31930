"""Train a fleet of networks by one recipe, and audit the recipe."""

import argparse
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from seg_mia.audit.fleet import (
    ATTACKS,
    Pool,
    audited_recipe,
    fleet_requests,
    open_fleet,
    opened,
    recipe_attack,
    seed_of,
    train_fleet,
)
from seg_mia.audit.stage_cache import StageCache, StageResult
from seg_mia.config.composition import last_value, stacked
from seg_mia.config.files import find_file, known, named
from seg_mia.config.options import options_in, taken
from seg_mia.errors import InputError
from seg_mia.executors.choice import ExecutorName, executor_of, threads_per_task
from seg_mia.experiment.recipe import LEAST_NETWORKS, check_columns
from seg_mia.experiment.request import RunRequest
from seg_mia.membership.base import Membership
from seg_mia.results.files import write_text
from seg_mia.results.recipe_files import write_recipes
from seg_mia.results.tables import aligned, recipe_table
from seg_mia.results.text import recipe_headlines
from seg_mia.runs import FLEET, FleetNetwork, FleetRecord

HELP = """\
usage: python -m seg_mia fleet --config NAME [--count 16] [options of fit]

Train networks by one recipe, each on a random half of the same samples (whole patients), and audit the
recipe: each network in turn is the victim, the others are its references. An interrupted fleet goes on where
it stopped, and a larger one keeps the networks of a smaller one.

  --config NAME          a training's config; may be repeated
  --count K              number of networks, 16 by default; an even number, so that each sample is in half
  --pool victim          half of the data that members are drawn from: the victim's, or the shadow's for an
                         attacker without the victim's samples
  --attacks NAME         attack to audit the recipe by; may be repeated. Default: {attacks}
  --defence NAME         train with a defence; may be repeated
  --subgroups COLUMN     also compare patients by a column of the manifest, such as the site; may be repeated
  --runs FOLDER          folder of runs
  --trust CLASS          class path outside seg_mia that checkpoints may name; may be repeated
  --fresh                train again, whatever is there
  --workers N            trainings at once, in processes of this machine; as many as have --threads cores
  --threads N            CPU threads of each training, on which rounding depends; a quarter of the cores
  --executor ray         train on a Ray cluster (pip install seg_mia[ray])
  --address ADDRESS      address of the cluster
  --gpus_per_stage X     share of a GPU for each training on Ray, such as 0.25

All other options are those of `fit`, such as --data.root FOLDER --trainer.max_epochs 20.
The fleet attacks a victim by: python -m seg_mia test --attack mia-lira --victim RUN --shadow FLEET
"""


class ExecutionSettings(TypedDict):
    """Arguments of `executor_of` other than `threads`."""

    name: ExecutorName
    workers: int | None
    gpus_per_stage: float | None
    address: str | None


@dataclass(frozen=True)
class FleetSettings:
    """Settings of the command.

    Attributes:
        recipe: a training of the recipe.
        name: name of the fleet's folder.
        count: number of networks.
        pool: half of the data that members are drawn from.
        attacks: attacks on the recipe, by name.
        fresh: train again.
        threads: CPU threads of each training; None for the default.
        execution: further arguments of `seg_mia.executors.choice.executor_of`.
        trust: class paths outside seg_mia allowed in checkpoints.
        subgroups: columns of the manifest that patients are compared by.
    """

    recipe: RunRequest
    name: str
    count: int
    pool: Pool
    attacks: Mapping[str, Membership]
    fresh: bool
    threads: int | None
    execution: ExecutionSettings
    trust: tuple[str, ...] = ()
    subgroups: tuple[str, ...] = ()

    @property
    def command(self) -> str:
        """Command that trains this fleet."""
        words = ["python", "-m", "seg_mia", "fleet", *self.recipe.words[1:], "--count", str(self.count)]
        return shlex.join([*words, "--pool", self.pool])


def fleet(words: Sequence[str], *, say: Callable[[str], None]) -> list[str]:
    """Run the command and return lines with its results; raise InputError for invalid input."""
    settings = read_settings(words)
    runs = Path(settings.recipe.runs or "runs")
    requests = fleet_requests(settings.recipe, settings.count, settings.pool)
    with executor_of(threads=threads_per_task(settings.threads), **settings.execution) as executor:
        cache = StageCache(runs, say=say, fresh=settings.fresh, device=executor.device)
        if settings.subgroups:  # refused before anything is trained
            check_columns(opened(requests[0], cache.modules), settings.subgroups)
        stages = train_fleet(requests, settings.name, cache, executor, say)
    with cache.held(settings.name, [settings.name, settings.pool, stages[0].key]) as folder:
        record = FleetRecord(
            command=settings.command,
            pool=settings.pool,
            networks=[
                FleetNetwork(run=str(stage.folder.relative_to(runs)), shadow=number, seed=seed_of(request))
                for number, (stage, request) in enumerate(zip(stages, requests, strict=True))
            ],
        )
        write_text(folder / FLEET, record.model_dump_json(indent=1) + "\n")
        return [*_audited(settings, stages, requests[0], cache, folder), f"fleet in {folder}"]


def _audited(
    settings: FleetSettings,
    stages: Sequence[StageResult],
    first: RunRequest,
    cache: StageCache,
    folder: Path,
) -> list[str]:
    """Audit the recipe; write its results and return lines with them."""
    if len(stages) < LEAST_NETWORKS:
        return [f"a recipe is audited by {LEAST_NETWORKS} networks or more, {len(stages)} are trained"]
    folders = [stage.folder for stage in stages]
    networks = open_fleet(folders, cache.modules, first, trust=settings.trust)
    results = audited_recipe(
        settings.attacks, networks, [folder], subgroups=settings.subgroups, folder=str(folder)
    )
    write_recipes(folder, results)
    return [*aligned(recipe_table(results)), "", *recipe_headlines(results)]


def read_settings(words: Sequence[str]) -> FleetSettings:
    """Return the settings of a command line; raise InputError for invalid ones."""
    flags, remaining = _flags(words)
    configs, options = taken(options_in(remaining), "config")
    if not configs and not any(option.flag.startswith("--model") for option in options):
        raise InputError(f"fleet needs --config NAME; known names: {', '.join(known())}")
    runs = flags.runs or last_value(stacked([find_file(config) for config in configs]), "runs") or "runs"
    recipe = RunRequest("fit", tuple(configs), tuple(options), tuple(flags.defence), runs=str(runs))
    name = "-".join([named(configs[-1]) if configs else "fit", *map(named, flags.defence), "fleet"])
    attacks = {named(attack): recipe_attack(attack) for attack in flags.attacks or ATTACKS}
    execution = ExecutionSettings(
        name=flags.executor,
        workers=flags.workers,
        gpus_per_stage=flags.gpus_per_stage,
        address=flags.address,
    )
    trust = tuple(flags.trust)
    return FleetSettings(
        recipe,
        name,
        flags.count,
        flags.pool,
        attacks,
        flags.fresh,
        flags.threads,
        execution,
        trust,
        tuple(flags.subgroups),
    )


def _flags(words: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--count", type=int, default=16)
    parser.add_argument("--pool", choices=("victim", "shadow"), default="victim")
    parser.add_argument("--attacks", action="append")
    parser.add_argument("--defence", action="append", default=[])
    parser.add_argument("--subgroups", action="append", default=[])
    parser.add_argument("--runs")
    parser.add_argument("--trust", action="append", default=[])
    parser.add_argument("--fresh", action="store_true")
    parser.add_argument("--executor", choices=("local", "ray"), default="local")
    parser.add_argument("--workers", type=int)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--gpus_per_stage", type=float)
    parser.add_argument("--address")
    try:
        return parser.parse_known_args(list(words))
    except argparse.ArgumentError as error:
        raise InputError(f"{error}; see `seg_mia fleet --help`") from None
