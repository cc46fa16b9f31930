"""Audit: victims, shadows, all attacks, one summary."""

import platform
import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import torch
from lightning import __version__ as lightning

from seg_mia import __version__
from seg_mia.attacks.certify import Certification
from seg_mia.audit.attacks import PreparedAttack, prepared_attacks, prepares, queries_victim
from seg_mia.audit.board import show_audit
from seg_mia.audit.identity import hashed_files
from seg_mia.audit.leaks import leaks
from seg_mia.audit.matrix import defence_table, side_by_side, with_differences, write_matrix
from seg_mia.audit.preparation import check
from seg_mia.audit.progress import Progress
from seg_mia.audit.rows import rows
from seg_mia.audit.runner import AuditRunner, GatedDefence
from seg_mia.audit.schedule import Schedule
from seg_mia.audit.settings import Settings, VictimRow, declared
from seg_mia.audit.stage_cache import EXECUTION, StageCache
from seg_mia.audit.steps import audits_folds, steps
from seg_mia.config.files import Config
from seg_mia.errors import InputError
from seg_mia.executors.choice import executor_of, threads_per_task
from seg_mia.membership.base import Membership
from seg_mia.membership.compare import read_scores
from seg_mia.report.command import verdict_lines
from seg_mia.report.rules.gates import ALL_PERTURBATIONS, CERTIFICATE, Gate, read_gate
from seg_mia.report.rules.gates import check as failed_gates
from seg_mia.report.write import write_report
from seg_mia.results.audit import VERSION, AuditResult, Stage, Victim
from seg_mia.results.charts.membership import roc_of
from seg_mia.results.charts.png import pixels
from seg_mia.results.files import write_bytes, write_csv, write_json
from seg_mia.results.folds_files import write_folds
from seg_mia.results.membership import MembershipResult
from seg_mia.results.perturbation import PerturbationResult, SuccessRow
from seg_mia.results.pictures import png
from seg_mia.results.recipe_files import write_recipes
from seg_mia.results.report import Report
from seg_mia.results.seeds import spread_in_words
from seg_mia.results.success import COLUMNS, cells_of
from seg_mia.results.tables import (
    aligned,
    certificate_outcome,
    outcomes,
    recipe_table,
    success_table,
    utility,
)
from seg_mia.results.text import canary_headline, folds_headline, recipe_headlines

HIDDEN = ("duplicates", "duplicate_positions")
"""Data settings that contain sample names."""
MEASURES = re.compile(
    r"((groups\.)?(auc|tpr_at_fpr_0\.1|tpr_at_fpr_0\.01|tpr_at_fpr_0\.001)|balanced_accuracy)(\.low|\.high)?"
)
"""Gate metrics of membership attacks."""
OF_TRAINING = {
    "epsilon": ("epsilon", "epsilon.proved", "epsilon.refutations"),
    "canaries": ("canaries.auc", "canaries.epsilon"),
}
"""Gate metrics of privacy guarantees and canaries."""
FOLD_METRICS = ("folds.auc", "folds.auc.low", "folds.auc.high", "folds.p_value")
"""Gate metrics of the networks of a cross-validation."""
NEEDED: dict[str, GatedDefence] = {
    "epsilon": "DPSGD",
    "epsilon.refutations": "DPSGD",
    "canaries.auc": "Canaries",
    "canaries.epsilon": "Canaries",
}
"""The defence required for such a metric."""
SHORT: dict[GatedDefence, str] = {"DPSGD": "dp", "Canaries": "canaries"}
"""Its name in lightning_configs/defence."""


@dataclass(frozen=True)
class Audit:
    """Result of an audit.

    Attributes:
        folder: folder of `audit.json` and `report.html`.
        runs: folder of all runs.
        results: one per victim and attack.
        victims: one per row and seed.
        compared: whether defences were requested.
        report: the report.
        failed: a line for each failed gate.
    """

    folder: Path
    runs: Path
    results: list[MembershipResult | PerturbationResult]
    victims: list[Victim]
    compared: bool
    report: Report
    failed: list[str]

    def headline(self) -> list[str]:
        """Return the summary lines of the audit: first warnings that invalidate results, then the tables."""
        lines = [f"WARNING: {line}" for line in self.report.warnings]
        firsts = [victim for victim in self.victims if victim.row == 0]
        for first in firsts:
            attacks = [result for result in self.results if result.key == first.key]
            lines += [f"victim {first.victim}: {utility(first)}", *(outcomes(attacks) if attacks else [])]
            rows, names = success_of(attacks)
            lines += ["", *aligned(success_table(rows, names), indent="  ")] if rows else []
            if self.compared:
                same_seed = [victim for victim in self.victims if victim.round == first.round]
                lines += ["", *defence_table(side_by_side(same_seed, self.results))]
        lines += [
            f"{victim.defence}, seed {victim.seed}: {canary_headline(victim.canaries)}"
            for victim in self.victims
            if victim.canaries is not None
        ]
        lines += [line for result in self.report.folds for line in folds_headline(result)]
        certificates = self.report.certificates
        lines += [f"{result.title}, {certificate_outcome(result)}" for result in certificates]
        recipes = self.report.recipes
        lines += recipe_headlines(recipes)
        lines += ["", *aligned(recipe_table(recipes), indent="  ")] if len(recipes) > 1 else []
        if self.report.seeds:
            lines += ["over all seeds", *map(spread_in_words, self.report.seeds)]
        return [*lines, "", *verdict_lines(self.report), *self.failed]


def audit(settings: Settings, *, say: Callable[[str], None]) -> Audit:
    """Train victims and shadows or use cached ones, attack them, and write all results.

    Membership attacks always include the blind baseline: without it, leakage by the split itself
    would go unnoticed. Baseline and controls do not depend on the victim's defence
    and run only for the first one. A stage with unchanged inputs is taken from the cache. The results are
    `audit.json`, the report and the comparison.

    Args:
        settings: settings of the audit.
        say: receives lines as stages begin, and the summary if a gate is refused at the end.

    Raises:
        InputError: invalid settings, before any training if possible.
    """
    gates = [read_gate(text) for text in settings.fail_on]
    threads = threads_per_task(settings.threads)
    settings = replace(settings, threads=threads)
    attacks, compared = prepared_attacks(settings), rows(settings)
    check_gates(
        gates,
        attacks,
        compared,
        has_fleet=settings.fleet is not None,
        has_folds=audits_folds(settings),
    )
    for preparation in map(prepares, attacks):
        if preparation is not None:
            check(preparation)
    with executor_of(
        settings.executor,
        threads=threads,
        workers=settings.workers,
        gpus_per_stage=settings.gpus_per_stage,
        address=settings.address,
    ) as executor:
        cache = StageCache(Path(settings.runs), say, settings.fresh, device=executor.device)
        listed = steps(settings, attacks, compared)
        progress = Progress(listed, cache.seconds(), say, time.monotonic, executor.workers)
        runner = AuditRunner(settings, compared, cache, attacks)
        runner.check(listed)
        _check_trained(gates, runner)
        Schedule(runner, executor, progress).run(listed)
    results = with_differences(runner.results)
    folder, report = _written(settings, runner, results, cache)
    done = Audit(
        folder, Path(settings.runs), results, runner.victims, bool(settings.defences), report, failed=[]
    )
    return held_gates(done, gates, say)


def _written(
    settings: Settings,
    runner: AuditRunner,
    results: list[MembershipResult | PerturbationResult],
    cache: StageCache,
) -> tuple[Path, Report]:
    """Write an audit's results, tables, figures and report; return their folder and the report."""
    content = _content(settings, runner, results)
    keys = [stage.key for _, stage in runner.stages]
    with cache.audit(settings.name, asdict(settings), keys) as folder:
        write_json(folder / "audit.json", content.plain())
        for number, seed in enumerate(settings.seeds):
            write_round(folder, seed, number, content, compares=bool(settings.defences))
        for row in dict.fromkeys(result.row for result in runner.recipes):
            chosen = [result for result in runner.recipes if result.row == row]
            write_recipes(folder / f"recipe_{row}", chosen)
        for result in runner.folds:
            write_folds(folder / f"folds_{result.row}", result)
        show_audit(folder, results, runner.victims, runner.recipes, runner.certificates)
        report = write_report(folder, images=settings.images)
    return folder, report


def held_gates(done: Audit, gates: Sequence[Gate], say: Callable[[str], None]) -> Audit:
    """Return an audit with its failed gates; print the results before refusing a gate without values."""
    try:
        return replace(done, failed=failed_gates(gates, done.report))
    except InputError:
        for line in (f"\naudit in {done.folder}", *done.headline()):
            say(line)
        raise


def check_gates(
    gates: Sequence[Gate],
    attacks: Sequence[PreparedAttack],
    compared: Sequence[VictimRow],
    *,
    has_fleet: bool,
    has_folds: bool = False,
    further: Sequence[str] = (),
) -> None:
    """Raise InputError before any training for a gate without possible values in this audit.

    Args:
        gates: the gates.
        attacks: attacks of the audit.
        compared: its victims.
        has_fleet: whether recipes are audited.
        has_folds: whether the networks of a cross-validation are audited.
        further: names of further results of membership attacks.
    """
    families, guessing = {"utility", "epsilon", "canaries"}, set(further)
    families |= {"recipe"} if has_fleet else set()
    families |= {"folds"} if has_folds else set()
    for attack in attacks:
        if isinstance(attack.instance, Certification):
            families |= {CERTIFICATE, attack.label, attack.name}
        elif not isinstance(attack.instance, Membership):
            families |= {ALL_PERTURBATIONS, attack.label, attack.name}
        else:
            kind = "control" if attack.control else "mia" if queries_victim(attack) else "blind"
            guessing |= {kind, attack.label, f"{attack.name}-control" if attack.control else attack.name}
    labels = {row.label for row in compared}
    for gate in gates:
        family = next(
            (name for name in families | guessing if f"{gate.metric}.".startswith(f"{name}.")), None
        )
        measure = gate.metric.removeprefix(f"{family}.")
        unknown = family == "folds" and gate.metric not in FOLD_METRICS
        unknown |= family in OF_TRAINING and gate.metric not in OF_TRAINING[family]
        unknown |= gate.metric == "epsilon.proved" and "mia" not in guessing
        if family is None or unknown or (family in guessing and not MEASURES.fullmatch(measure)):
            raise InputError(
                f"gate {gate.text!r} matches nothing in this audit: metrics are NAME.MEASURE, names "
                f"{', '.join(sorted(families | guessing))}, measures of membership auc, balanced_accuracy "
                "and tpr_at_fpr_0.01 and their .low and .high"
            )
        if gate.row is not None and gate.row not in labels:
            raise InputError(
                f"gate {gate.text!r} matches nothing in this audit: victims are {', '.join(sorted(labels))}"
            )


def _check_trained(gates: Sequence[Gate], runner: AuditRunner) -> None:
    """Raise InputError for a gate on guarantees or canaries if no relevant victim is trained with them."""
    for gate in gates:
        defence = NEEDED.get(gate.metric)
        rows_meant = [n for n, row in enumerate(runner.rows) if gate.row in {None, row.label}]
        if defence is not None and not any(runner.may_have(defence, row) for row in rows_meant):
            names = ", ".join(dict.fromkeys(runner.rows[row].label for row in rows_meant))
            raise InputError(
                f"gate {gate.text!r} matches nothing in this audit: no victim of {names} is trained with "
                f"{defence}; leave the gate out, or compare one that is: defences: [none, {SHORT[defence]}]"
            )


def _content(
    settings: Settings, runner: AuditRunner, results: Sequence[MembershipResult | PerturbationResult]
) -> AuditResult:
    """Return the content of `audit.json`."""
    inferred = [result for result in results if isinstance(result, MembershipResult)]
    return AuditResult(
        version=VERSION,
        name=settings.name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=round(sum(stage.seconds for _, stage in runner.stages), 1),
        tool=_tool(settings),
        settings=_nameless(_material(settings)),
        victims=[victim.victim for victim in runner.victims if victim.row == 0],
        attacks=list(results),
        defences=runner.victims,
        recipes=runner.recipes,
        folds=runner.folds,
        certificates=runner.certificates,
        leaks=leaks(inferred),
        stages=[
            Stage(
                name=step.title,
                command=stage.command,
                seconds=stage.seconds,
                cached=stage.cached,
                folder=str(stage.folder),
                kind=step.kind,
            )
            for step, stage in runner.stages
        ],
        release_context=declared(settings.release_context),
        files=hashed_files((stage.folder for _, stage in runner.stages), Path(settings.runs)),
    )


def _material(settings: Settings) -> Config:
    """Return an audit's settings without those of where it ran."""
    return {name: value for name, value in asdict(settings).items() if name not in EXECUTION}


def _nameless(settings: Config) -> Config:
    """Return an audit's settings without sample names."""
    hidden = {name: f"{len(settings['data'][name])} lists" for name in HIDDEN if settings["data"].get(name)}
    return settings | {"data": settings["data"] | hidden}


def _tool(settings: Settings) -> Config:
    """Return versions and machine of the audit."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine()
    return {
        "seg_mia": __version__,
        "python": sys.version.split()[0],
        "torch": str(torch.__version__),
        "lightning": str(lightning),
        "platform": platform.platform(terse=True),
        "device": device,
        "threads": settings.threads,
    }


def write_round(folder: Path, seed: int, number: int, content: AuditResult, *, compares: bool) -> None:
    """Write the tables and figures of one seed."""
    first = [result for result in content.attacks if (result.round, result.row) == (number, 0)]
    rows, names = success_of(first)
    if rows:
        lines = [[name, *cells_of(row)] for name, row in zip(names, rows, strict=True)]
        write_csv(folder / f"success_seed_{seed}.csv", ["attack", *COLUMNS], lines)
    inferred = [result for result in content.membership if result.round == number and result.row == 0]
    curves = [result for result in inferred if result.role != "control"]
    if curves:
        scores = {result.label: read_scores(result.folder) for result in curves}
        write_bytes(folder / f"roc_seed_{seed}.png", png(pixels(roc_of(curves, scores))))
    if compares:
        victims = [victim for victim in content.defences if victim.round == number]
        write_matrix(folder, seed, side_by_side(victims, content.attacks))


def success_of(
    results: Sequence[MembershipResult | PerturbationResult],
) -> tuple[list[SuccessRow], list[str]]:
    """Return the success rates of each attack's losses, and the attack of each row."""
    labelled = [
        (row, result.label)
        for result in results
        if isinstance(result, PerturbationResult)
        for row in result.success
    ]
    return [row for row, _ in labelled], [label for _, label in labelled]
