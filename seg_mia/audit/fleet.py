"""Trainings of a fleet, and the audit of its recipe."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Literal

import torch

from seg_mia.audit.attacks import built_attack
from seg_mia.audit.stage_cache import StageCache, StageResult
from seg_mia.audit.submission import submitted
from seg_mia.checkpoint import read_card
from seg_mia.config.composition import last_value, stacked
from seg_mia.config.files import find_file
from seg_mia.config.options import Option
from seg_mia.data.base import SegmentationData
from seg_mia.data.identities import identities
from seg_mia.data.trained_model import TrainedModel
from seg_mia.errors import InputError, refuse_idle
from seg_mia.executors.base import Executor
from seg_mia.experiment.modules import DataModules
from seg_mia.experiment.plan import Shadow, plan
from seg_mia.experiment.recipe import fleet_signals, recipe_results
from seg_mia.experiment.request import RunRequest
from seg_mia.experiment.roles import SHADOW
from seg_mia.experiment.trained_networks import load_shadow
from seg_mia.membership.base import Membership
from seg_mia.results.recipe import RecipeResult
from seg_mia.runs import FLEET_SEED, SHADOW_SEED, checkpoint_file

Pool = Literal["victim", "shadow"]
ATTACKS = ("mia-global-loss", "mia-calibrated", "mia-rmia", "mia-base", "mia-lira")
"""Attacks that audit a recipe unless others are named."""

log = logging.getLogger(__name__)


def fleet_requests(recipe: RunRequest, size: int, pool: Pool) -> list[RunRequest]:
    """Return the trainings of a fleet, in the order of their numbers.

    Network k has the seed of the recipe plus 10,000 plus 100,000 k, and the members of shadow k
    (`seg_mia.data.splits.shadow_split`): networks of a larger fleet include those of a smaller one.

    Args:
        recipe: a training of the victim's recipe.
        size: number of networks.
        pool: half of the data that members are drawn from.

    Raises:
        InputError: fewer than 2 networks, an option that numbers networks.
    """
    if size < 2:
        raise InputError(f"a fleet has 2 networks or more, got --count {size}; 16 are usual")
    fixed = ("data.shadow", "data.shadow_pool", "data.role")
    if refused := [option.flag for option in recipe.options if option.name in fixed]:
        raise InputError(f"a fleet numbers its networks itself; leave out {refused[0]}")
    seed = _seed(recipe)
    options = tuple(option for option in recipe.options if option.name != "seed_everything")
    return [
        replace(
            recipe,
            role=SHADOW,
            options=(
                *options,
                Option("--data.shadow", str(number)),
                Option("--data.shadow_pool", pool),
                Option("--seed_everything", str(seed + SHADOW_SEED + FLEET_SEED * number)),
            ),
        )
        for number in range(size)
    ]


def seed_of(request: RunRequest) -> int:
    """Return the seed of a training of a fleet."""
    return int(next(option.value or "0" for option in request.options if option.name == "seed_everything"))


def _seed(recipe: RunRequest) -> int:
    """Return the seed in a recipe's options or configs; 0 if there is none."""
    given = [option.value for option in recipe.options if option.name == "seed_everything"]
    layers = stacked([find_file(config) for config in recipe.configs])
    seed = given[-1] if given else last_value(layers, "seed_everything")
    try:
        return int(str(0 if seed is None or isinstance(seed, bool) else seed))
    except ValueError:
        raise InputError(f"seed_everything must be a number, got {seed}; 0 is the default") from None


def train_fleet(
    requests: Sequence[RunRequest],
    name: str,
    cache: StageCache,
    executor: Executor,
    say: Callable[[str], None],
) -> list[StageResult]:
    """Train the networks that are not in the cache; return all in the order of the requests.

    After an error, trainings that have not begun are cancelled and running ones are ended; the next call
    resumes them.

    Args:
        requests: from `fleet_requests`.
        name: common name of the trainings.
        cache: holds the networks.
        executor: runs the trainings.
        say: receives a line for each network.
    """
    stages = [cache.stage(request, name) for request in requests]
    begun, ended, futures = time.monotonic(), count(1), list[Future[StageResult]]()

    def report(future: Future[StageResult]) -> None:
        if future.cancelled() or future.exception() is not None:
            return
        result = future.result()
        how = "trained before" if result.cached else f"{result.seconds:.0f} s"
        spent = f"{time.monotonic() - begun:.0f} s so far"
        say(f"network {next(ended)} of {len(stages)}: {result.folder} ({how}; {spent})")

    try:
        for number, stage in enumerate(stages):
            futures.append(submitted(stage, cache, executor, f"network {number}"))
            futures[-1].add_done_callback(report)
        return [future.result() for future in futures]
    except BaseException:
        executor.close()
        for stage in stages:
            cache.discard(stage)
        raise


def on_numbers(attacks: Mapping[str, object]) -> dict[str, Membership]:
    """Return the attacks that can audit a recipe; the loss threshold and LiRA if there are none."""
    chosen = {
        name: attack
        for name, attack in attacks.items()
        if isinstance(attack, Membership) and attack.scorer.audits_recipes
    }
    return chosen or {name: recipe_attack(name) for name in ("mia-global-loss", "mia-lira")}


def recipe_attack(name: str) -> Membership:
    """Return a shipped attack, or a file's, on numbers.

    Raises:
        InputError: an attack that audits no recipe, or an option that only attacks on a victim take.
    """
    attack = built_attack(find_file(name, "attack"), [])
    if not isinstance(attack, Membership) or not attack.scorer.audits_recipes:
        raise InputError(
            f"a recipe is audited by membership attacks that compare networks, got {name}; name some of "
            f"{', '.join(ATTACKS)}"
        )
    refuse_idle("on the audit of a recipe", **attack.scorer.of_victims())
    return attack


def audited_recipe(
    attacks: Mapping[str, Membership],
    networks: Sequence[TrainedModel],
    private: Sequence[Path],
    *,
    subgroups: Sequence[str] = (),
    row: int = 0,
    defence: str = "none",
    folder: str = "",
) -> list[RecipeResult]:
    """Return the results of attacks on a recipe, each network in turn the target.

    Args:
        attacks: attacks on numbers, by name.
        networks: from `open_fleet`.
        private: folders of the salt of the patients' hashes and of the table that leads back from them, the
            first that can be used (`identities`).
        subgroups: as in `fleet_signals`.
        row: as in `recipe_results`, also for the further arguments.
        defence: as there.
        folder: as there.

    Raises:
        InputError: too few trained networks.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    signals = fleet_signals(attacks, networks, device, subgroups=subgroups)
    for number in signals.untrained:
        log.warning("network %d of the fleet did not train and is left out", number)
    hashes = identities(signals.groups.tolist(), *private)
    return recipe_results(attacks, signals, hashes, row=row, defence=defence, folder=folder)


def opened(first: RunRequest, modules: DataModules) -> SegmentationData:
    """Return the data of a fleet's first training, with its samples listed."""
    data = modules.of_plan(plan(first))
    if data is None:
        raise InputError("a fleet needs data; name it with --data CLASS or a config")
    data.prepare_data()
    return data


def open_fleet(
    folders: Sequence[Path], modules: DataModules, first: RunRequest, *, trust: Sequence[str] = ()
) -> list[TrainedModel]:
    """Return the networks of a fleet, loaded on demand.

    Args:
        folders: their run folders.
        modules: provide the data.
        first: the first training, which defines the data.
        trust: class paths outside seg_mia allowed in metadata.

    Raises:
        InputError: an unreadable checkpoint, networks of other data.
    """
    data = opened(first, modules)
    data.setup()
    files = [checkpoint_file(folder, SHADOW) for folder in folders]
    return [
        load_shadow(Shadow(file, read_card(file, trust=trust)), data, modules, victim={}, trust=trust)
        for file in files
    ]
