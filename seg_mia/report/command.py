"""`python -m seg_mia report RUN`: command line and results."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from seg_mia.errors import InputError
from seg_mia.report.load import read_audit
from seg_mia.report.rules.caveats import foremost
from seg_mia.report.rules.gates import check, read_gate
from seg_mia.report.sums import CARD, DPO, DPO_PDF, NUMBERS, PAGE, SUMS
from seg_mia.report.write import KINDS, write_report
from seg_mia.results.evidence import SHORT
from seg_mia.results.report import Report


@dataclass(frozen=True)
class Outcome:
    """Result of the command.

    Attributes:
        folder: folder of the files.
        files: names of the files.
        warned: a line for each refuted guarantee and each victim with almost no segmentation.
        verdicts: a line per victim with its statements.
        failed: a line per value that fails a gate.
    """

    folder: Path
    files: list[str]
    warned: list[str]
    verdicts: list[str]
    failed: list[str]

    def lines(self) -> list[str]:
        """Return the lines to print."""
        written = [f"written: {self.folder / name}" for name in self.files]
        return [*written, *(f"WARNING: {line}" for line in self.warned), *self.verdicts, *self.failed]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(
            f"{message}; report takes RUN, --annex, --pdf, --no-images, --ids and --fail-on EXPR (see --help)"
        )


def report(words: Sequence[str]) -> Outcome:
    """Write the report of an audit, and check its numbers against the gates."""
    arguments = _parser().parse_args(list(words))
    if arguments.pdf and "dpo" not in arguments.annex:
        raise InputError("--pdf prints the annex for the data protection officer; add --annex dpo")
    gates = [read_gate(text) for text in arguments.fail_on]
    folder = read_audit(arguments.run).folder
    shown = {"images": arguments.images, "ids": arguments.ids}
    content = write_report(folder, **shown, annexes=arguments.annex, pdf=arguments.pdf)
    warned = foremost(content.victims, content.membership, content.recipes)
    names = [PAGE, NUMBERS]
    names += [DPO] if "dpo" in arguments.annex else []
    names += [DPO_PDF] if arguments.pdf else []
    names += [CARD] if "model-card" in arguments.annex else []
    failed = check(gates, content)
    return Outcome(folder, [*names, SUMS], warned, verdict_lines(content), failed)


def verdict_lines(content: Report) -> list[str]:
    """Return a line per victim with its statements and their rules."""
    rows: dict[str, list[str]] = {}
    for statement in content.evidence.statements:
        words = f"{SHORT[statement.question]}: {statement.word.lower()} ({statement.rule})"
        rows.setdefault(f"{statement.row} {statement.defence}", []).append(words)
    return [f"{name.partition(' ')[2]}: {'; '.join(words)}" for name, words in rows.items()]


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="seg_mia report",
        description="Write report.html, report.json and SHA256SUMS of a finished audit into its folder.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "run", type=Path, metavar="RUN", help="an audit's folder, or the folder of its versions"
    )
    parser.add_argument(
        "--no-images",
        dest="images",
        action="store_false",
        help="leave out all pictures of samples and the hashes of their names",
    )
    parser.add_argument(
        "--ids",
        action="store_true",
        help="name samples by their ids, for the owner alone; without it by salted hashes, which "
        "identities.csv, in the folder that the page states, leads back to ids",
    )
    parser.add_argument(
        "--annex",
        action="append",
        default=[],
        choices=KINDS,
        help="also write annex_dpo.html, all evidence on at most six printed sheets, or MODEL_CARD.md; may "
        "be repeated",
    )
    parser.add_argument(
        "--pdf",
        action="store_true",
        help="also print the annex dpo to annex_dpo.pdf, by an installed Chromium, Chrome or Edge",
    )
    parser.add_argument(
        "--fail-on",
        action="append",
        default=[],
        metavar="EXPR",
        help="exit with code 1 if the expression is true for any value: 'mia.auc>0.6', 'asma.iou>=0.5', "
        "'mia.auc[distilled]>0.6', 'epsilon>8'; may be repeated; an unknown metric lists the known ones",
    )
    return parser
