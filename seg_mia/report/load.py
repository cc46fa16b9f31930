"""An audit's file, and the location of its folders."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from seg_mia.errors import InputError
from seg_mia.results.audit import VERSION, AuditResult
from seg_mia.runs import results_of

FILE = "audit.json"
CHECKPOINT = ".ckpt"
ABSOLUTE = re.compile(r"(?<![\w.:/\\-])(?:/|[A-Za-z]:[\\/]|~/)[^\s'\"=,;]*[/\\][^\s'\"=,;]+")
"""An absolute path inside a sentence."""


@dataclass(frozen=True)
class StoredAudit:
    """An audit on disk.

    Attributes:
        folder: folder of `audit.json`.
        audit: its content.
        digest: SHA-256 of the file.
    """

    folder: Path
    audit: AuditResult
    digest: str = ""

    @property
    def root(self) -> Path:
        """The folder of all runs."""
        return self.folder.parent.parent

    @property
    def identity_folders(self) -> list[Path]:
        """Folders of the salt that hashes names and of their table, the first that can be used of each.

        They are the first victim's run, or that of the results on its checkpoint, then the folder of the
        audit's versions, alone where predictions were audited. Empty if the victim's run is missing: its salt
        is missing, too, and another one would give other hashes than the audit's.
        """
        beside = self.folder.parent
        first = min(self.audit.defences, key=lambda victim: victim.order, default=None)
        if first is None or first.from_predictions:
            return [beside]
        folder = self._results_of(first.victim)
        return [] if folder is None else [folder, beside]

    def _results_of(self, victim: str) -> Path | None:
        """Return the folder of the results on a victim, its run or its checkpoint; None if missing."""
        run = self.locate(victim)
        if run is not None:
            return run
        file = self._find(victim, Path.is_file)
        if file is None and Path(victim).suffix == CHECKPOINT:  # deleted; its results may still be there
            file = Path(victim)
        folder = None if file is None else results_of(file, self.root)
        return folder if folder is not None and folder.is_dir() else None

    def locate(self, named: str) -> Path | None:
        """Return the location of a folder in the audit, None if it is missing.

        A folder moved together with its runs is found by the end of its path, below the runs.
        """
        return self._find(named, Path.is_dir)

    def _find(self, named: str, is_there: Callable[[Path], bool]) -> Path | None:
        path = Path(named)
        if is_there(path):
            return path
        parts = [part for part in _parts(named) if part not in {"/", "\\"}]
        for start in range(len(parts)):
            ending = parts[start:]
            if ".." not in ending and is_there(self.root.joinpath(*ending)):
                return self.root.joinpath(*ending)
        return None

    def display_path(self, named: str) -> str:
        """Return a path for display in a report: below the runs, or its end alone."""
        path = self.locate(named) or Path(named)
        try:
            return path.resolve().relative_to(self.root.resolve()).as_posix()
        except ValueError:
            parts = _parts(named)
            if not is_absolute(named) or len(parts) < 2:
                return named
            return "/".join(["...", *parts[1:][-_informative(parts) :]])

    def shareable(self) -> AuditResult:
        """Return the audit without absolute paths, except in commands, which can then be repeated."""
        plain = self.without_absolute_paths(self.audit.plain())
        for entry, result in zip(plain["attacks"], self.audit.attacks, strict=True):
            entry |= {name: self.display_path(getattr(result, name)) for name in ("folder", "victim_run")}
        for entry, certificate in zip(plain["certificates"], self.audit.certificates, strict=True):
            paths = ("folder", "victim_run")
            entry |= {name: self.display_path(getattr(certificate, name)) for name in paths}
        for entry, victim in zip(plain["defences"], self.audit.defences, strict=True):
            entry["victim"] = self.display_path(victim.victim)
            entry["utility_folders"] = {
                subset: self.display_path(folder) for subset, folder in victim.utility_folders.items()
            }
        for entry, recipe in zip(plain["recipes"], self.audit.recipes, strict=True):
            entry["folder"] = self.display_path(recipe.folder) if recipe.folder else ""
        for entry, stage in zip(plain["stages"], self.audit.stages, strict=True):
            entry |= {"folder": self.display_path(stage.folder), "command": stage.command}
        return AuditResult.read(plain, f"{self.folder / FILE}")

    def without_absolute_paths(self, value: Any) -> Any:
        """Return plain values, with absolute paths replaced by `display_path`."""
        if isinstance(value, Mapping):
            return {str(name): self.without_absolute_paths(item) for name, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.without_absolute_paths(item) for item in value]
        if not isinstance(value, str):
            return value
        # A path with spaces cannot be told from a sentence that begins with one.
        if is_absolute(value) and not re.search(r"\s", value):
            return self.display_path(value)
        return ABSOLUTE.sub(lambda match: self.display_path(match[0]), value)


def read_audit(run: str | Path) -> StoredAudit:
    """Return the audit in a folder, or the newest in a folder of several.

    Raises:
        InputError: no such folder, no audit in it, or a file of another version.
    """
    folder = newest(Path(run))
    file = folder / FILE
    try:
        text = file.read_bytes()
        content = json.loads(text.decode("utf-8"))
    except (OSError, ValueError, RecursionError):
        raise InputError(f"{file} must be valid JSON, and is not; repeat the audit") from None
    if not isinstance(content, dict) or not isinstance(content.get("attacks"), list):
        raise InputError(f"{file} must list attacks as an audit does, and lists none; repeat the audit")
    if content.get("version") != VERSION:
        version = repr(content.get("version"))[:40]
        raise InputError(f"{file} must have version {VERSION}, got {version}; repeat the audit")
    audit = AuditResult.read(content, str(file))
    return StoredAudit(folder.absolute(), audit, hashlib.sha256(text).hexdigest())


def newest(run: Path) -> Path:
    """Return an audit's folder: the one given, or the newest version in it; raise InputError without one."""
    if not run.is_dir():
        problem = f"{run} is not a folder" if run.exists() else f"there is no folder {run}"
        raise InputError(
            f"{problem}; name an audit's folder, such as runs/phantom_audit/version_0, or the folder above it"
        )
    if (run / FILE).is_file():
        return run
    folders = [file.parent for file in run.glob(f"version_*/{FILE}")]
    if not folders:
        raise InputError(
            f"{run} holds no {FILE}; name an audit's folder, such as runs/phantom_audit/version_0, "
            "or run one: python -m seg_mia audit --config phantom_audit.yaml"
        )
    return max(folders, key=_number)


def _number(folder: Path) -> tuple[int, str]:
    # As numbers, for version_10 is newer than version_9.
    digits = folder.name.removeprefix("version_")
    return (int(digits) if digits.isdecimal() else -1), folder.name


def is_absolute(text: str) -> bool:
    """Return whether a text is an absolute path, of this system or of Windows."""
    return text.startswith(("/", "~/")) or PureWindowsPath(text).is_absolute()


def _informative(parts: Sequence[str]) -> int:
    """Return the number of trailing path parts that identify a file without revealing the machine."""
    # RUN/version_0/ATTACK/version_1, RUN/version_0, or a file's name alone.
    runs = [bool(re.fullmatch(r"version_\d+", part)) for part in (*parts[-3:-2], *parts[-1:])]
    return 4 if len(runs) == 2 and all(runs) else 2 if runs[-1] else 1


def _parts(named: str) -> tuple[str, ...]:
    windows = "\\" in named and "/" not in named
    return PureWindowsPath(named).parts if windows else PurePosixPath(named).parts
