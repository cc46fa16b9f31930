"""What has been computed already: every stage of every audit, by all that it was computed from."""

import hashlib
import json
import platform
import re
import shlex
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from seg_mia.audit.canaries import FILE as CANARIES
from seg_mia.audit.inputs import file_digest, key_of
from seg_mia.checkpoint import read
from seg_mia.errors import InputError
from seg_mia.experiment.lightning_cli import Experiment
from seg_mia.experiment.plan import Plan, plan
from seg_mia.results.files import write_json
from seg_mia.runs import CHECKPOINTS, LAST, MARK, new_version, unbegun

FOLDER = ".stages"
"""Where the records lie, below the folder of runs."""
FORMAT = 2
RESULTS = (f"{CHECKPOINTS}/{LAST}", "summary.json", "scores.csv", "per_image.csv", CANARIES)
"""What a stage leaves for others to read; changed by whom ever, it is not what was computed."""
NAMES_SAMPLES = ("--data.duplicates", "--data.duplicate_positions")
SHOWN = {"runs", "fail_on", "images", "fresh"}
"""Settings of an audit that do not change its results."""


@dataclass(frozen=True)
class Done:
    """A stage that has been run, now or before.

    Attributes:
        folder: where it wrote.
        summary: its numbers, as plain values.
        headline: its numbers in words, a line each.
        seconds: that it took.
        kept: whether an earlier run had done it.
        command: that does the same.
    """

    folder: Path
    summary: dict[str, Any]
    headline: list[str]
    seconds: float
    kept: bool
    command: str


@dataclass
class Ledger:
    """Runs stages, and takes those that have been run on just the same inputs.

    A stage's record says from the start which folder is its own, so that an interrupted training goes on
    there, and anything else begins there again. A stage is locked while it runs: whoever wants the same at
    the same time waits, and takes what the other has made.

    Args:
        runs: folder that runs are kept in.
        say: gets a line when another process is waited for.
        fresh: run everything anew.
    """

    runs: Path
    say: Callable[[str], None]
    fresh: bool = False
    used: list[str] = field(default_factory=list)
    known: dict[str, str] = field(default_factory=dict)

    def run(self, words: Sequence[str], name: str = "") -> Done:
        """Run what the words mean, as `seg_mia WORDS` would, or take what it gave before.

        Args:
            words: of the command line.
            name: what to call stages that take about as long as each other.
        """
        what = plan(words)
        key = key_of(what, self.known)
        self.used.append(key)
        with self._locked(key):
            record = self._read(key)
            if record and record["done"] and not self.fresh and self._stands(key, record):
                return self._told(record, kept=True)
            said = {"name": name, "command": shlex.join(["python", "-m", "seg_mia", *map(_nameless, words)])}
            return self._told(self._run(what, said, key, record), kept=False)

    def seconds(self) -> dict[str, float]:
        """Return how long stages took when they were run last, by their names."""
        taken: dict[str, tuple[float, float]] = {}
        for file in (self.runs / FOLDER).glob("*.json"):
            record = _parsed(file)
            if record and record["done"]:
                taken[record["name"]] = max(
                    taken.get(record["name"], (0.0, 0.0)), (record["ended"], record["seconds"])
                )
        return {name: seconds for name, (_, seconds) in taken.items()}

    @contextmanager
    def audit(self, name: str, settings: Mapping[str, Any]) -> Iterator[Path]:
        """Hold the folder of an audit: the one it had before where its settings and stages are the same."""
        content = [name, {key: value for key, value in settings.items() if key not in SHOWN}, self.used]
        key = hashlib.sha256(json.dumps(content, default=str).encode()).hexdigest()
        with self._locked(key):
            record = self._read(key)
            folder = self._own(key, record) if record else None
            if folder is None:
                folder = self._new(self.runs / name, key)
                said = {"name": "audit", "command": "", "seconds": 0.0, "done": False}
                self._write(key, said | {"folder": self._named(folder)})
            yield folder

    def _run(
        self, what: Plan, said: dict[str, Any], key: str, record: dict[str, Any] | None
    ) -> dict[str, Any]:
        begun = time.time()
        before = 0.0
        folder = self._own(key, record) if record and not record["done"] and not self.fresh else None
        if record and folder is not None:
            before = float(record["seconds"])
            what = self._again(what, folder)
        else:
            folder = self._new(what.folder, key)
        said = said | {"folder": self._named(folder)}
        self._write(key, said | {"done": False, "seconds": before})
        try:
            done = Experiment(replace(what, folder=folder.parent, version=folder.name))
        except InputError:
            self._forget(key, folder)
            raise
        except BaseException:
            self._write(key, said | {"done": False, "seconds": before + time.time() - begun})
            raise
        ended = time.time()
        found = {"summary": self._summary(what, done, folder), "headline": done.headline()}
        found |= {"files": _digests(folder)}
        times = {"seconds": round(before + ended - begun, 1), "ended": round(ended, 1)}
        self._write(key, said | found | times | {"done": True, "machine": platform.node()})
        kept = self._read(key)
        assert kept is not None
        return kept

    def _again(self, what: Plan, folder: Path) -> Plan:
        """Return the plan that goes on with an interrupted training; empty the folder where none can."""
        trained = (folder / "config.yaml").is_file() and any(folder.rglob(f"{CHECKPOINTS}/{LAST}"))
        if what.command == "fit" and not what.adopt and trained:
            return plan(["fit", "--resume", str(folder)])
        for old in folder.iterdir():
            if old.is_dir() and not old.is_symlink():
                shutil.rmtree(old)
            elif old.name != MARK:
                old.unlink()
        return what

    def _summary(self, what: Plan, done: Experiment, folder: Path) -> dict[str, Any]:
        """Return a run's numbers; the checkpoint's where a training was resumed after its last epoch."""
        if done.summary or what.command != "fit":
            return done.summary
        training = read(folder / CHECKPOINTS / LAST)["seg_mia"].get("training") or {}
        return dict(training.get("metrics") or {})

    def _own(self, key: str, record: Mapping[str, Any]) -> Path | None:
        """Return the folder that a record names, unless somebody else has taken its place."""
        folder = self.runs / str(record["folder"])
        try:
            mine = not folder.is_symlink() and (folder / MARK).read_text(encoding="utf-8") == key
        except OSError:
            return None
        return folder if mine and re.fullmatch(r"version_\d+", folder.name) else None

    def _new(self, parent: Path, key: str) -> Path:
        try:
            folder = new_version(parent)
            (folder / MARK).write_text(key, encoding="utf-8")
            return folder
        except OSError as error:
            raise InputError(
                f"cannot write to {parent} ({error.strerror}); choose another folder with --runs"
            ) from None

    def _named(self, folder: Path) -> str:
        """Return a folder as records name it: below the folder of runs, or by its whole path."""
        inside = folder.is_relative_to(self.runs)
        return str(folder.relative_to(self.runs) if inside else folder.resolve())

    def _forget(self, key: str, folder: Path) -> None:
        """Leave nothing behind of a stage that was refused before it wrote anything."""
        if unbegun(folder) and self._own(key, {"folder": self._named(folder)}) is not None:
            shutil.rmtree(folder)
            with suppress(OSError):
                self._file(key).unlink()

    def _stands(self, key: str, record: dict[str, Any]) -> bool:
        """Say whether what a record tells of is still there, as it was written."""
        folder = self._own(key, record)
        return folder is not None and bool(record["files"]) and _digests(folder) == record["files"]

    def _told(self, record: dict[str, Any], *, kept: bool) -> Done:
        told = {name: record[name] for name in ("summary", "headline", "seconds", "command")}
        return Done(self.runs / record["folder"], kept=kept, **told)

    def _file(self, key: str) -> Path:
        return self.runs / FOLDER / f"{key}.json"

    def _read(self, key: str) -> dict[str, Any] | None:
        return _parsed(self._file(key))

    def _write(self, key: str, record: dict[str, Any]) -> None:
        write_json(self._file(key), {"format": FORMAT} | record)

    @contextmanager
    def _locked(self, key: str) -> Iterator[None]:
        """Hold a stage; the system lets go of it when the process ends, however it ends."""
        lock = FileLock(self._file(key).with_suffix(".lock"))
        try:
            (self.runs / FOLDER).mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire(blocking=False)
            except Timeout:
                self.say("  another audit is at this very stage: waiting for what it makes")
                lock.acquire()
        except OSError as error:
            raise InputError(
                f"cannot write to {self.runs / FOLDER} ({error.strerror}); choose another folder with --runs"
            ) from None
        try:
            yield
        finally:
            lock.release()


def _digests(folder: Path) -> dict[str, str]:
    return {name: file_digest(folder / name) for name in RESULTS if (folder / name).is_file()}


def _nameless(word: str) -> str:
    """Return a word of a command without samples' names."""
    flag, _, _ = word.partition("=")
    return f"{flag}=..." if flag in NAMES_SAMPLES else word


def _parsed(file: Path) -> dict[str, Any] | None:
    """Return a record; None where there is none that this version has written."""
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        return None
    needed: dict[str, Any] = {
        "folder": str,
        "done": bool,
        "seconds": int | float,
        "name": str,
        "command": str,
    }
    if record.get("done") is True:
        needed |= {"summary": dict, "headline": list, "files": dict, "ended": int | float}
    return record if all(isinstance(record.get(name), kind) for name, kind in needed.items()) else None
