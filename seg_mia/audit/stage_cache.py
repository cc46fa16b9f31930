"""Stage cache: results of every stage of every audit, keyed by all inputs."""

import hashlib
import json
import platform
import re
import shlex
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout
from pydantic import Field, ValidationError

from seg_mia.audit.canaries import FILE as CANARIES
from seg_mia.audit.stage_key import file_digest, key_of
from seg_mia.checkpoint import read
from seg_mia.config.files import Config
from seg_mia.errors import InputError
from seg_mia.experiment.lightning_cli import Experiment
from seg_mia.experiment.modules import DataModules
from seg_mia.experiment.plan import Plan, plan
from seg_mia.experiment.request import RunRequest
from seg_mia.results.base import Result
from seg_mia.results.files import write_json
from seg_mia.runs import CHECKPOINTS, LAST, MARK, new_version, unbegun

FOLDER = ".stages"
"""Folder of the records, below the folder of runs."""
RESULTS = (f"{CHECKPOINTS}/{LAST}", "summary.json", "scores.csv", "per_image.csv", CANARIES)
"""Output files of a stage; if one has changed, the cached result is discarded."""
DISPLAY = {"runs", "fail_on", "images", "fresh"}
"""Settings of an audit that do not affect its results."""


class StageRecord(Result):
    """Cache record of a stage.

    Attributes:
        format: version of this file format.
        name: common name of stages of similar duration.
        command: equivalent command.
        folder: output folder of the stage, below the folder of runs.
        done: whether the stage is complete.
        seconds: duration so far.
        summary: numerical results, as plain values.
        headline: results in words, one per line.
        files: digests of the output files.
        ended: completion time, in seconds since 1970.
        machine: machine of the run.
    """

    format: Literal[3] = 3
    name: str
    command: str
    folder: str
    done: bool = False
    seconds: float = 0.0
    summary: Config = Field(default_factory=dict)
    headline: list[str] = Field(default_factory=list)
    files: dict[str, str] = Field(default_factory=dict)
    ended: float = 0.0
    machine: str = ""


@dataclass(frozen=True)
class StageResult:
    """A completed stage, run now or earlier.

    Attributes:
        folder: output folder.
        summary: numerical results, as plain values.
        headline: results in words, one per line.
        seconds: duration.
        cached: whether the result comes from an earlier run.
        command: equivalent command.
    """

    folder: Path
    summary: Config
    headline: list[str]
    seconds: float
    cached: bool
    command: str


@dataclass
class StageCache:
    """Runs stages, or returns cached results for unchanged inputs.

    A stage's record contains its folder from the start: an interrupted training resumes there, and
    any other stage restarts there. A stage is locked while it runs: another process that needs it
    waits, and uses its result.

    Args:
        runs: folder of the runs.
        say: receives a line while another process is waited for.
        fresh: run every stage again.
        used: keys of all stages so far.
        modules: data modules shared by the stages.
    """

    runs: Path
    say: Callable[[str], None]
    fresh: bool = False
    used: list[str] = field(default_factory=list)
    modules: DataModules = field(default_factory=DataModules)

    def run(self, request: RunRequest, name: str = "") -> StageResult:
        """Run a request, or return its cached result.

        Args:
            request: the run.
            name: common name of stages of similar duration.
        """
        planned = plan(request)
        key = key_of(planned, self.modules)
        self.used.append(key)
        with self._locked(key):
            record = self._read(key)
            if record and record.done and not self.fresh and self._is_valid(key, record):
                return self._result(record, cached=True)
            command = shlex.join(["python", "-m", "seg_mia", *planned.request.words])
            return self._result(self._run(planned, name, command, key, record), cached=False)

    def seconds(self) -> dict[str, float]:
        """Return the last durations of stages, by name."""
        taken: dict[str, tuple[float, float]] = {}
        for file in (self.runs / FOLDER).glob("*.json"):
            record = _parsed(file)
            if record and record.done:
                times = record.ended, record.seconds
                taken[record.name] = max(taken.get(record.name, (0.0, 0.0)), times)
        return {name: seconds for name, (_, seconds) in taken.items()}

    @contextmanager
    def audit(self, name: str, settings: Mapping[str, object]) -> Iterator[Path]:
        """Hold the folder of an audit; it is reused if settings and stages are unchanged."""
        content = [name, {key: value for key, value in settings.items() if key not in DISPLAY}, self.used]
        key = hashlib.sha256(json.dumps(content, default=str).encode()).hexdigest()
        with self._locked(key):
            record = self._read(key)
            folder = self._own_folder(key, record.folder) if record else None
            if folder is None:
                folder = self._new(self.runs / name, key)
                self._write(key, StageRecord(name="audit", command="", folder=self._relative(folder)))
            yield folder

    def _run(
        self, planned: Plan, name: str, command: str, key: str, record: StageRecord | None
    ) -> StageRecord:
        start, before, folder = time.time(), 0.0, None
        if record and not record.done and not self.fresh:
            folder = self._own_folder(key, record.folder)
        if record and folder is not None:
            before = record.seconds
            planned = self._resumed(planned, folder)
        else:
            folder = self._new(planned.folder, key)
        running = StageRecord(name=name, command=command, folder=self._relative(folder), seconds=before)
        self._write(key, running)
        try:
            planned = replace(planned, folder=folder.parent, version=folder.name)
            experiment = Experiment(planned, self.modules)
        except InputError:
            self._forget(key, folder)
            raise
        except BaseException:
            spent = {"seconds": before + time.time() - start}
            self._write(key, running.model_copy(update=spent))
            raise
        end = time.time()
        outcome = {
            "done": True,
            "summary": self._summary(planned, experiment, folder),
            "headline": experiment.headline(),
            "files": _digests(folder),
            "seconds": round(before + end - start, 1),
            "ended": round(end, 1),
            "machine": platform.node(),
        }
        self._write(key, running.model_copy(update=outcome))
        written = self._read(key)
        assert written is not None
        return written

    def _resumed(self, planned: Plan, folder: Path) -> Plan:
        """Return the plan that resumes an interrupted training; empty the folder if none can."""
        trained = (folder / "config.yaml").is_file() and any(folder.rglob(f"{CHECKPOINTS}/{LAST}"))
        if planned.command == "fit" and not planned.adopts and trained:
            return plan(RunRequest("fit", resume=str(folder)))
        for old in folder.iterdir():
            if old.is_dir() and not old.is_symlink():
                shutil.rmtree(old)
            elif old.name != MARK:
                old.unlink()
        return planned

    def _summary(self, planned: Plan, experiment: Experiment, folder: Path) -> Config:
        """Return a run's numbers; the checkpoint's if a training was resumed after its last epoch."""
        if experiment.summary or planned.command != "fit":
            return experiment.summary
        training = read(folder / CHECKPOINTS / LAST)["seg_mia"].get("training") or {}
        return dict(training.get("metrics") or {})

    def _own_folder(self, key: str, name: str) -> Path | None:
        """Return the folder in a record, unless another stage or user has taken it."""
        folder = self.runs / name
        try:
            is_own = not folder.is_symlink() and (folder / MARK).read_text(encoding="utf-8") == key
        except OSError:
            return None
        return folder if is_own and re.fullmatch(r"version_\d+", folder.name) else None

    def _new(self, parent: Path, key: str) -> Path:
        try:
            folder = new_version(parent)
            (folder / MARK).write_text(key, encoding="utf-8")
            return folder
        except OSError as error:
            raise InputError(
                f"cannot write to {parent} ({error.strerror}); choose another folder with --runs"
            ) from None

    def _relative(self, folder: Path) -> str:
        """Return a folder in the form of records: below the folder of runs, or as an absolute path."""
        is_below = folder.is_relative_to(self.runs)
        return str(folder.relative_to(self.runs) if is_below else folder.resolve())

    def _forget(self, key: str, folder: Path) -> None:
        """Remove all traces of a stage that was refused before it wrote anything."""
        if unbegun(folder) and self._own_folder(key, self._relative(folder)) is not None:
            shutil.rmtree(folder)
            with suppress(OSError):
                self._file(key).unlink()

    def _is_valid(self, key: str, record: StageRecord) -> bool:
        """Return whether a record's output files exist unchanged."""
        folder = self._own_folder(key, record.folder)
        return folder is not None and bool(record.files) and _digests(folder) == record.files

    def _result(self, record: StageRecord, *, cached: bool) -> StageResult:
        folder = self.runs / record.folder
        return StageResult(folder, record.summary, record.headline, record.seconds, cached, record.command)

    def _file(self, key: str) -> Path:
        return self.runs / FOLDER / f"{key}.json"

    def _read(self, key: str) -> StageRecord | None:
        return _parsed(self._file(key))

    def _write(self, key: str, record: StageRecord) -> None:
        write_json(self._file(key), record.model_dump())

    @contextmanager
    def _locked(self, key: str) -> Iterator[None]:
        """Lock a stage; the operating system releases the lock at any end of the process."""
        lock = FileLock(self._file(key).with_suffix(".lock"))
        try:
            (self.runs / FOLDER).mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire(blocking=False)
            except Timeout:
                self.say("  another audit is running this stage: waiting for its result")
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


def _parsed(file: Path) -> StageRecord | None:
    """Return a record; None if there is none written by this version."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return StageRecord.model_validate(content) if "format" in content else None
    except (OSError, ValueError, TypeError, RecursionError, ValidationError):
        return None
