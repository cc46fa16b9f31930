"""Audit of predictions: all attacks that they allow, and the report."""

import math
import platform
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

from seg_mia import __version__
from seg_mia.audit.board import show_audit
from seg_mia.audit.identity import hashed_files
from seg_mia.audit.leaks import leaks
from seg_mia.audit.predictions.attacks import PossibleAttacks, membership_of, possible_attacks
from seg_mia.audit.predictions.evidence import Evidence, gathered
from seg_mia.audit.predictions.guesses import Guesser
from seg_mia.audit.predictions.results import ResultWriter
from seg_mia.audit.predictions.settings import PredictionSettings
from seg_mia.audit.run import Audit, check_gates, held_gates, write_round
from seg_mia.audit.settings import VictimRow, declared
from seg_mia.data.prediction_files.reader import PredictionFiles
from seg_mia.data.prediction_files.table import SHADOW, VICTIM
from seg_mia.errors import InputError
from seg_mia.membership.blind import blind_scores
from seg_mia.membership.scores import Guesses
from seg_mia.report.rules.gates import Gate, read_gate
from seg_mia.report.write import write_report
from seg_mia.results.audit import VERSION, AuditResult, Stage, Victim
from seg_mia.results.files import write_json
from seg_mia.results.membership import MembershipResult
from seg_mia.runs import new_version

BLIND = "mia-blind-statistics"
OF_TRAININGS = ("epsilon", "canaries", "recipe", "perturbation")
"""Gates without values where only predictions are given; `epsilon.proved` has one."""


def audit_predictions(
    settings: PredictionSettings, words: Sequence[str], say: Callable[[str], None]
) -> Audit:
    """Attack the predictions of a network, and write all results.

    Every prediction is read one at a time; only numbers, and maps for classifiers on disk, are kept. The
    blind baseline predicts membership from statistics of image and mask.

    Args:
        settings: settings of the audit.
        words: the command line, for the report.
        say: receives lines on the content of the files, what is absent, and progress.

    Raises:
        InputError: invalid settings, table or files; a gate without values.
    """
    start = time.monotonic()
    gates = [read_gate(text) for text in settings.fail_on]
    files = PredictionFiles(settings.predictions)
    say(files.description())
    possible = possible_attacks(settings, files)
    for line in possible.absent:
        say(line)
    _check_gates(gates, possible)
    signals = [membership_of(attack).signal for attack in possible.attacks]
    evidence = gathered(files, [signal for signal in signals if not signal.maps])
    for line in _counted(evidence):
        say(line)
    folder = new_version(Path(settings.runs) / settings.name)
    writer = ResultWriter(settings, files, evidence, folder)
    blind = writer.write_blind(BLIND, _blind(evidence[VICTIM], settings.seed))
    with Guesser(settings, files, evidence, folder) as guesser:
        results = [blind]
        for attack in possible.attacks:
            say(f"{attack.label}")
            results.append(writer.write(attack, guesser.guesses(attack)))
    command = shlex.join(["python", "-m", "seg_mia", "audit", *words])
    content = _content(settings, writer, results, command, time.monotonic() - start)
    write_json(folder / "audit.json", content.plain())
    write_round(folder, settings.seed, 0, content, compares=False)
    show_audit(folder, results, content.defences)
    report = write_report(folder, images=settings.images)
    done = Audit(
        folder, Path(settings.runs), list(results), content.defences, compared=False, report=report, failed=[]
    )
    return held_gates(done, gates, say)


def _check_gates(gates: Sequence[Gate], possible: PossibleAttacks) -> None:
    for gate in gates:
        if gate.metric.partition(".")[0] in OF_TRAININGS and gate.metric != "epsilon.proved":
            raise InputError(
                f"gate {gate.text!r} matches nothing where only predictions are given: neither the training "
                "nor the network is known; leave it out"
            )
    check_gates(gates, possible.attacks, [VictimRow()], has_fleet=False, further=("blind", BLIND))


def _counted(evidence: dict[str, Evidence]) -> list[str]:
    """Return lines on rows without a labelled pixel, and on ignored pixels."""
    lines = [
        f"{evidence[network].unlabelled} predictions of the {network} have masks of 255 alone: not scored"
        for network in (VICTIM, SHADOW)
        if network in evidence and evidence[network].unlabelled
    ]
    ignored = sum(evidence[VICTIM].ignored) / len(evidence[VICTIM].ignored)
    return [*lines, f"{ignored:.2%} of the victim's pixels are ignored (255)"] if ignored else lines


def _blind(victim: Evidence, seed: int) -> Guesses:
    scores = blind_scores(np.stack(victim.features), victim.members, victim.groups, seed=seed)
    return Guesses(scores, math.nan)


def _content(
    settings: PredictionSettings,
    writer: ResultWriter,
    results: Sequence[MembershipResult],
    command: str,
    seconds: float,
) -> AuditResult:
    """Return the content of `audit.json`."""
    victim = Victim(
        seed=settings.seed,
        round=0,
        row=0,
        defence="none",
        victim=writer.victim,
        shadow="undefended" if SHADOW in writer.evidence else None,
        utility=writer.evidence[VICTIM].utility(),
        privacy=None,
        from_predictions=True,
        about=writer.about(),
    )
    stage = Stage(
        name="predictions",
        command=command,
        seconds=round(seconds, 1),
        cached=False,
        folder=str(writer.folder),
        kind="predictions",
    )
    return AuditResult(
        version=VERSION,
        name=settings.name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=round(seconds, 1),
        tool={
            "seg_mia": __version__,
            "python": sys.version.split()[0],
            "torch": str(torch.__version__),
            "platform": platform.platform(terse=True),
        },
        settings=asdict(settings),
        victims=[writer.victim],
        attacks=list(results),
        defences=[victim],
        leaks=leaks(results),
        stages=[stage],
        release_context=declared(settings.release_context),
        files=hashed_files((Path(result.folder) for result in results), Path(settings.runs)),
    )
