"""`python -m seg_mia verify REPORT`: whether report, audit and checkpoints are those that were filed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from seg_mia.errors import InputError
from seg_mia.report.load import FILE
from seg_mia.report.read import read_report, report_folder
from seg_mia.report.sums import ANNEXES, NUMBERS, PAGE, names_digest, read_sums
from seg_mia.results.evidence import Identity
from seg_mia.results.identity import sha256_of

State = Literal["fits", "changed", "missing", "not listed", "other report", "outside"]
WORDS: dict[State, str] = {
    "fits": "fits",
    "changed": "CHANGED: its digest is another one",
    "missing": "MISSING",
    "not listed": "NOT LISTED in SHA256SUMS",
    "other report": "OF ANOTHER REPORT: it names another report.json",
    "outside": "not checked: it lies outside the folder of runs",
}
USAGE = """\
usage: python -m seg_mia verify REPORT

Recompute the digests of a report, of its audit, and of the checkpoints, scores and results that the audit
used. REPORT is an audit's folder, or report.json. Exit code 1 if a file has changed, is missing, or belongs
to another report. Digests show changes, not authors: compare the printed digest of report.json with the one
that was signed.
"""


@dataclass(frozen=True)
class Check:
    """One file and whether it is the filed one."""

    name: str
    state: State

    @property
    def failed(self) -> bool:
        """Whether the file is not the filed one."""
        return self.state not in {"fits", "outside"}


@dataclass(frozen=True)
class Verification:
    """All checks of a report.

    Attributes:
        digest: of report.json.
        checks: one per file.
    """

    digest: str
    checks: list[Check]

    @property
    def failed(self) -> bool:
        """Whether any file is not the filed one."""
        return any(check.failed for check in self.checks)

    def lines(self) -> list[str]:
        """Return the lines to print: what does not fit, then the counts."""
        deviating = [check for check in self.checks if check.state != "fits"]
        fitting = len(self.checks) - len(deviating)
        lines = [f"{check.name}: {WORDS[check.state]}" for check in deviating]
        return [*lines, f"{fitting} of {len(self.checks)} files fit", f"report.json: sha256 {self.digest}"]


def verify(words: Sequence[str]) -> Verification:
    """Check a report; raise InputError for other words than one report, or a report that cannot be read."""
    if len(words) != 1 or words[0].startswith("-"):
        raise InputError(f"verify takes one report, a folder or report.json, got {len(words)} arguments")
    return verified(report_folder(Path(words[0])))


def verified(folder: Path) -> Verification:
    """Check the report in a folder."""
    report = read_report(folder)
    digest = sha256_of(folder / NUMBERS)
    checks = [*_listed(folder), *_of_this_report(folder, digest), *_audited(folder, report.evidence.identity)]
    return Verification(digest, checks)


def _listed(folder: Path) -> Iterator[Check]:
    """Check the files of SHA256SUMS, which must list report and page, and any annex beside them."""
    sums = read_sums(folder)
    for name in [NUMBERS, PAGE, *(name for name in ANNEXES if (folder / name).exists())]:
        if name not in sums:
            yield Check(name, "not listed")
    for name, digest in sums.items():
        yield Check(name, _state(folder / name, digest))


def _of_this_report(folder: Path, digest: str) -> Iterator[Check]:
    """Check that pages name the digest of report.json."""
    for name in (PAGE, *ANNEXES):
        file = folder / name
        if file.is_file() and file.suffix != ".pdf":
            names = names_digest(file, digest)
            yield Check(f"{name}, its report.json", "fits" if names else "other report")


def _audited(folder: Path, identity: Identity) -> Iterator[Check]:
    """Check audit.json, and the files that the audit used, below the folder of runs."""
    yield Check(FILE, _state(folder / FILE, identity.audit_sha256))
    root = folder.parent.parent
    files = {file.path: file.sha256 for file in identity.files}
    files |= {
        network.weights.path: network.weights.sha256 for network in identity.networks if network.weights
    }
    for name, digest in files.items():
        path = root / name
        # A report shows a file elsewhere by the end of its path, behind three dots.
        below = not Path(name).is_absolute() and not name.startswith(".../")
        contained = below and path.resolve().is_relative_to(root.resolve())
        yield Check(name, _state(path, digest) if contained else "outside")


def _state(file: Path, digest: str) -> State:
    try:
        return "fits" if sha256_of(file) == digest else "changed"
    except OSError:
        return "missing"
