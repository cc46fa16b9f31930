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
from seg_mia.report.write import NUMBERS, PAGE, write_report
from seg_mia.results.report import Report


@dataclass(frozen=True)
class Outcome:
    """Result of the command.

    Attributes:
        folder: folder of the files.
        warned: a line for each refuted guarantee and each victim with almost no segmentation.
        verdicts: a line per victim.
        failed: a line per value that fails a gate.
    """

    folder: Path
    warned: list[str]
    verdicts: list[str]
    failed: list[str]

    def lines(self) -> list[str]:
        """Return the lines to print."""
        written = [f"written: {self.folder / name}" for name in (PAGE, NUMBERS)]
        return [*written, *(f"WARNING: {line}" for line in self.warned), *self.verdicts, *self.failed]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; report takes RUN, --no-images and --fail-on EXPR (see --help)")


def report(words: Sequence[str]) -> Outcome:
    """Write the report of an audit, and check its numbers against the gates."""
    arguments = _parser().parse_args(list(words))
    gates = [read_gate(text) for text in arguments.fail_on]
    folder = read_audit(arguments.run).folder
    content = write_report(folder, images=arguments.images)
    warned = foremost(content.victims, content.membership)
    return Outcome(folder, warned, verdict_lines(content), check(gates, content))


def verdict_lines(content: Report) -> list[str]:
    """Return a line per victim with its verdicts."""
    return [
        f"{row.defence}: leak: {row.leak.word.lower()}; "
        f"{'' if row.recipe is None else f'leak of the recipe: {row.recipe.word.lower()}; '}"
        f"{'' if row.folds is None else f'leak of the folds: {row.folds.word.lower()}; '}"
        f"robustness: {row.robustness.word.lower()}; privacy: {row.privacy.word.lower()}"
        for row in content.verdicts
    ]


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="seg_mia report",
        description="Write report.html and report.json of a finished audit into its folder.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "run", type=Path, metavar="RUN", help="an audit's folder, or the folder of its versions"
    )
    parser.add_argument(
        "--no-images",
        dest="images",
        action="store_false",
        help="leave out all pictures and sample ids, for a report that can be shared",
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
