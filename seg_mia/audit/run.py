"""Victims, shadows, every attack asked for, one summary."""

import platform
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from lightning import __version__ as lightning

from seg_mia import __version__
from seg_mia.audit.board import show_audit
from seg_mia.audit.leaks import leaks
from seg_mia.audit.ledger import Ledger
from seg_mia.audit.matrix import compared_to_first, defence_table, write_matrix
from seg_mia.audit.preparation import check
from seg_mia.audit.privacy import with_canaries
from seg_mia.audit.rounds import Progress, Rounds, Special
from seg_mia.audit.settings import Defended, Settings, rows
from seg_mia.audit.stages import Ready, asks, prepares, ready_stages
from seg_mia.audit.steps import steps
from seg_mia.errors import InputError
from seg_mia.membership.base import Membership
from seg_mia.membership.compare import read_scores
from seg_mia.membership.roc import roc
from seg_mia.report.caveats import foremost
from seg_mia.report.command import verdicts
from seg_mia.report.gates import ALL_PERTURBATIONS, Gate, read_gate
from seg_mia.report.gates import check as failed_gates
from seg_mia.report.read import VERSION
from seg_mia.report.write import write_report
from seg_mia.results.files import write_bytes, write_csv, write_json
from seg_mia.results.membership_figures import Curve, roc_figure
from seg_mia.results.model import Report
from seg_mia.results.pictures import png
from seg_mia.results.success import COLUMNS
from seg_mia.results.text import aligned, canary_headline, spread, success_table, table, warnings

HIDDEN = ("duplicates", "tied")
"""Settings of the data that name samples."""
MEASURES = re.compile(
    r"((groups\.)?(auc|tpr_at_fpr_0\.1|tpr_at_fpr_0\.01|tpr_at_fpr_0\.001)|balanced_accuracy)(\.low|\.high)?"
)
"""What gates may ask of membership attacks."""
OF_TRAINING = {"epsilon": ("epsilon", "epsilon.proved"), "canaries": ("canaries.auc", "canaries.epsilon")}
"""What they may ask of promises and canaries."""
NEEDED: dict[str, Special] = {
    "epsilon": "DPSGD",
    "canaries.auc": "Canaries",
    "canaries.epsilon": "Canaries",
}
"""The defence without which there is no such number."""
SHORT: dict[Special, str] = {"DPSGD": "dp", "Canaries": "canaries"}
"""Its name in lightning_configs/defence."""


@dataclass(frozen=True)
class Audit:
    """What came out.

    Attributes:
        folder: where `audit.json` and `report.html` lie.
        runs: the folder of all runs.
        results: one mapping per victim and attack.
        rows: one mapping per victim and seed.
        compared: whether defences were asked for.
        verdicts: a line per victim: what the report judges.
        warned: a line for each promise that is refuted and each victim that segments next to nothing.
        failed: a line for each gate that a result meets.
    """

    folder: Path
    runs: Path
    results: list[dict[str, Any]]
    rows: list[dict[str, Any]]
    compared: bool
    verdicts: list[str]
    warned: list[str]
    failed: list[str]

    def headline(self) -> list[str]:
        """Return the lines that sum up the audit: first what makes the others void, then the tables."""
        lines = [f"WARNING: {line}" for line in self.warned]
        lines += [line for result in self.results for line in warnings(result)]
        firsts = [row for row in self.rows if row["row"] == 0]
        for first in firsts:
            own = [one for one in self.results if (one["round"], one["row"]) == (first["round"], 0)]
            lines += [f"victim {first['victim']}: {_utility(first['utility'])}", *table(own)]
            if succeeded := success_of(own):
                lines += ["", *aligned(success_table(succeeded), "  ")]
            if self.compared:
                lines += ["", *defence_table([row for row in self.rows if row["round"] == first["round"]])]
        asked = [row for row in self.rows if "canaries" in row]
        lines += [
            f"{row['defence']}, seed {row['seed']}: {canary_headline(row['canaries'])}" for row in asked
        ]
        if len(firsts) > 1:
            lines += ["over all seeds", *spread(self.results)]
        return [*lines, "", *self.verdicts, *self.failed]


def audit(settings: Settings, *, say: Callable[[str], None]) -> Audit:
    """Train or take victims and shadows, attack them, write `audit.json`, the report and the comparison.

    Membership attacks begin with the blind baseline, asked for or not: without it nobody knows whether the
    split itself tells members from non-members. Baseline and controls do not depend on the victim's defence
    and run for the first one alone. A stage that was run before on just the same inputs is taken as it is.

    Args:
        settings: what to do.
        say: gets lines as stages begin, and the summary where a gate is refused at the end.

    Raises:
        InputError: whatever the settings get wrong, before anything is trained where that can be known.
    """
    gates = [read_gate(text) for text in settings.fail_on]
    stages, compared = ready_stages(settings), rows(settings)
    _check_gates(gates, stages, compared)
    for first in (prepares(stage) for stage in stages):
        if first is not None:
            check(first)
    ledger = Ledger(Path(settings.runs), say, settings.fresh)
    listed = steps(settings, stages, compared)
    progress = Progress(listed, ledger.seconds(), say, time.monotonic)
    rounds = Rounds(settings, compared, ledger)
    rounds.check(listed)
    _check_trained(gates, rounds)
    for step in listed:
        progress.begin(step)
        progress.end(step, rounds.do(step))
    for number in range(len(settings.seeds)):
        compared_to_first([row for row in rounds.rows if row["round"] == number])
    for row in rounds.rows:
        with_canaries(row)
    with ledger.audit(settings.name, asdict(settings)) as folder:
        write_json(folder / "audit.json", _content(settings, rounds))
        for number, seed in enumerate(settings.seeds):
            _write_round(folder, seed, number, rounds, compares=bool(settings.defences))
        show_audit(folder, rounds.results, rounds.rows)
        report = write_report(folder, images=settings.images)
    done = Audit(
        folder,
        Path(settings.runs),
        rounds.results,
        rounds.rows,
        compared=bool(settings.defences),
        verdicts=verdicts(report),
        warned=foremost(report.victims, report.membership),
        failed=[],
    )
    return _held(done, gates, report, say)


def _held(done: Audit, gates: Sequence[Gate], report: Report, say: Callable[[str], None]) -> Audit:
    """Return an audit with the gates that failed; say what came out before a gate of nothing is refused."""
    try:
        return replace(done, failed=failed_gates(gates, report))
    except InputError:
        for line in (f"\naudit in {done.folder}", *done.headline()):
            say(line)
        raise


def _check_gates(gates: Sequence[Gate], stages: Sequence[Ready], compared: Sequence[Defended]) -> None:
    """Raise InputError for a gate that nothing in this audit could meet, before anything is trained."""
    families, guessing = {"utility", "epsilon", "canaries"}, set[str]()
    for stage in stages:
        if not isinstance(stage.attack, Membership):
            families |= {ALL_PERTURBATIONS, stage.label, stage.name}
        else:
            kind = "control" if stage.control else "mia" if asks(stage) else "blind"
            guessing |= {kind, stage.label, f"{stage.name}-control" if stage.control else stage.name}
    named = {row.called for row in compared}
    for gate in gates:
        family = next((one for one in families | guessing if f"{gate.metric}.".startswith(f"{one}.")), None)
        measure = gate.metric.removeprefix(f"{family}.")
        unknown = family in OF_TRAINING and gate.metric not in OF_TRAINING[family]
        unknown |= gate.metric == "epsilon.proved" and "mia" not in guessing
        if family is None or unknown or (family in guessing and not MEASURES.fullmatch(measure)):
            raise InputError(
                f"gate {gate.text!r} matches nothing in this audit: metrics are NAME.MEASURE, names "
                f"{', '.join(sorted(families | guessing))}, measures of membership auc, balanced_accuracy "
                "and tpr_at_fpr_0.01 and their .low and .high"
            )
        if gate.row is not None and gate.row not in named:
            raise InputError(
                f"gate {gate.text!r} matches nothing in this audit: victims are {', '.join(sorted(named))}"
            )


def _check_trained(gates: Sequence[Gate], rounds: Rounds) -> None:
    """Raise InputError for a gate on a promise or on canaries that no victim in question is trained with."""
    for gate in gates:
        what = NEEDED.get(gate.metric)
        asked = [n for n, row in enumerate(rounds.compared) if gate.row in {None, row.called}]
        if what is not None and not any(rounds.may_have(what, row) for row in asked):
            names = ", ".join(dict.fromkeys(rounds.compared[row].called for row in asked))
            raise InputError(
                f"gate {gate.text!r} matches nothing in this audit: no victim of {names} is trained with "
                f"{what}; leave the gate out, or compare one that is: defences: [none, {SHORT[what]}]"
            )


def _content(settings: Settings, rounds: Rounds) -> dict[str, Any]:
    """Return what `audit.json` says."""
    told: list[dict[str, Any]] = [
        {"what": step.told, "command": done.command, "seconds": done.seconds, "kept": done.kept}
        | {"folder": str(done.folder), "kind": step.kind}
        for step, done in rounds.done
    ]
    return {
        "version": VERSION,
        "name": settings.name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(sum(one["seconds"] for one in told), 1),
        "tool": _tool(),
        "settings": _nameless(asdict(settings)),
        "victims": [row["victim"] for row in rounds.rows if row["row"] == 0],
        "attacks": rounds.results,
        "defences": rounds.rows,
        "leaks": leaks(rounds.results),
        "stages": told,
    }


def _nameless(settings: dict[str, Any]) -> dict[str, Any]:
    """Return an audit's settings without samples' names."""
    hidden = {name: f"{len(settings['data'][name])} lists" for name in HIDDEN if settings["data"].get(name)}
    return settings | {"data": settings["data"] | hidden}


def _tool() -> dict[str, Any]:
    """Return what all of it ran on."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine()
    return {
        "seg_mia": __version__,
        "python": sys.version.split()[0],
        "torch": str(torch.__version__),
        "lightning": str(lightning),
        "platform": platform.platform(terse=True),
        "device": device,
        "cores": torch.get_num_threads(),
    }


def _write_round(folder: Path, seed: int, number: int, rounds: Rounds, *, compares: bool) -> None:
    """Write the tables and pictures of one seed."""
    own = [result for result in rounds.results if (result["round"], result["row"]) == (number, 0)]
    if succeeded := success_of(own):
        lines = [[row["attack"], *(row[name] for name in COLUMNS)] for row in succeeded]
        write_csv(folder / f"success_seed_{seed}.csv", ["attack", *COLUMNS], lines)
    _draw_roc(folder / f"roc_seed_{seed}.png", own)
    if compares:
        write_matrix(folder, seed, [row for row in rounds.rows if row["round"] == number])


def success_of(results: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return how often each loss of each attack succeeded, whatever was asked for, in one table's rows."""
    return [{"attack": result["label"], **row} for result in results for row in result.get("success", [])]


def _utility(utility: Mapping[str, Mapping[str, float]]) -> str:
    others, members = utility["nonmembers"]["dice"], utility["members"]["dice"]
    return f"Dice {others:.3f} on non-members, {members:.3f} on members"


def _draw_roc(file: Path, results: Sequence[Mapping[str, Any]]) -> None:
    """Draw the membership attacks of one victim into one figure, but for the controls."""
    curves, nonmembers = dict[str, Curve](), 0
    for result in results:
        if "auc" in result["results"] and not result["control"]:
            scored = read_scores(result["folder"])
            points = roc(scored.scores, scored.members)
            label = "AUC {value:.3f} [{low:.3f}, {high:.3f}]".format(**result["results"]["auc"])
            curves[result["label"]] = Curve(points.fpr, points.tpr, label)
            nonmembers = int(result["results"]["nonmembers"])
    if curves:
        write_bytes(file, png(roc_figure(curves, nonmembers)))
