"""Stage cache: results of every stage of every audit, keyed by all inputs."""

import hashlib
import json
import platform
import re
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout
from pydantic import Field, ValidationError

from seg_mia.audit.canaries import FILE as CANARIES
from seg_mia.audit.stage_key import key_of
from seg_mia.checkpoint import metadata
from seg_mia.config.files import Config
from seg_mia.errors import InputError, unwritable
from seg_mia.executors.base import device_name
from seg_mia.experiment.lightning_cli import Experiment
from seg_mia.experiment.modules import DataModules
from seg_mia.experiment.plan import Plan, plan
from seg_mia.experiment.request import RunRequest
from seg_mia.results.base import Result
from seg_mia.results.files import write_json
from seg_mia.results.identity import sha256_of
from seg_mia.runs import CHECKPOINTS, LAST, MARK, new_version, unbegun

FOLDER = ".stages"
"""Folder of the records, below the folder of runs."""
RESULTS = (f"{CHECKPOINTS}/{LAST}", "summary.json", "scores.csv", "per_image.csv", CANARIES)
"""Output files of a stage; if one has changed, the cached result is discarded."""
EXECUTION = {"executor", "workers", "gpus_per_stage", "address"}
"""Settings of an audit that decide where its stages run."""
DISPLAY = {"runs", "fail_on", "images", "fresh", "threads", *EXECUTION}
"""Settings of an audit that do not affect its results."""

MODULES = DataModules(limit=4)
"""Data modules of a process that runs stages for another one."""


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
        key: key of all inputs.
    """

    folder: Path
    summary: Config
    headline: list[str]
    seconds: float
    cached: bool
    command: str
    key: str = ""


@dataclass(frozen=True)
class Stage:
    """A stage to run, in this process or another one.

    Attributes:
        request: the run.
        name: common name of stages of similar duration.
        key: key of all inputs.
        runs: folder of the runs.
    """

    request: RunRequest
    name: str
    key: str
    runs: Path

    @property
    def log(self) -> Path:
        """File for the output of a process of its own."""
        return self.runs / FOLDER / f"{self.key}.log"

    def __call__(self) -> StageResult:
        """Run the stage with the data modules of this process, or return its cached result."""
        return StageCache(self.runs, _say, modules=MODULES).complete(self)


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
        modules: data modules shared by the stages.
        device: name of the accelerator that the stages run on.
    """

    runs: Path
    say: Callable[[str], None]
    fresh: bool = False
    modules: DataModules = field(default_factory=DataModules)
    device: str = field(default_factory=device_name)

    def run(self, request: RunRequest, name: str = "") -> StageResult:
        """Run a request, or return its cached result.

        Args:
            request: the run.
            name: common name of stages of similar duration.
        """
        stage = self.stage(request, name)
        return self.reserve(stage) or self.complete(stage)

    def stage(self, request: RunRequest, name: str = "") -> Stage:
        """Return the stage of a request: the same for the same inputs."""
        return Stage(request, name, key_of(plan(request), self.modules, self.device), self.runs)

    def reserve(self, stage: Stage) -> StageResult | None:
        """Return the cached result of a stage, else None after giving it a folder.

        Stages reserved one after the other have folders numbered in this order, whichever ends first. A stage
        that another process runs has a folder already.
        """
        with self._locked(stage.key, waits=False) as is_locked:
            if not is_locked:
                return None
            record = None if self.fresh else self._read(stage.key)
            folder = self._own_folder(stage.key, record.folder) if record else None
            if record and record.done and folder is not None and self._is_valid(stage.key, record):
                return self._result(stage.key, record, cached=True)
            if record is None or record.done or folder is None:
                folder = self._new(plan(stage.request).folder, stage.key)
                begun = StageRecord(name=stage.name, command="", folder=self._relative(folder))
                self._write(stage.key, begun)
        return None

    def complete(self, stage: Stage) -> StageResult:
        """Run a stage in its folder, or return its cached result."""
        with self._locked(stage.key):
            record = self._read(stage.key)
            if record and record.done and self._is_valid(stage.key, record):
                return self._result(stage.key, record, cached=True)
            return self._result(stage.key, self._run(stage, record), cached=False)

    def discard(self, stage: Stage) -> None:
        """Remove the folder of a reserved stage that has not begun."""
        with self._locked(stage.key, waits=False) as is_locked:
            record = self._read(stage.key) if is_locked else None
            if record and not record.done:
                self._forget(stage.key, self.runs / record.folder)

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
    def audit(self, name: str, settings: Mapping[str, object], keys: Sequence[str]) -> Iterator[Path]:
        """Hold the folder of an audit; it is reused if settings and keys of stages are unchanged."""
        content = [name, {key: value for key, value in settings.items() if key not in DISPLAY}, keys]
        with self.held(name, content) as folder:
            yield folder

    @contextmanager
    def held(self, name: str, content: object) -> Iterator[Path]:
        """Hold `NAME/version_N`, the same one whenever `content`, as plain values, is the same."""
        key = hashlib.sha256(json.dumps(content, default=str).encode()).hexdigest()
        with self._locked(key):
            record = self._read(key)
            folder = self._own_folder(key, record.folder) if record else None
            if folder is None:
                folder = self._new(self.runs / name, key)
                self._write(key, StageRecord(name="audit", command="", folder=self._relative(folder)))
            yield folder

    def _run(self, stage: Stage, record: StageRecord | None) -> StageRecord:
        start, before, folder, key = time.time(), 0.0, None, stage.key
        planned = plan(stage.request)
        command = shlex.join(["python", "-m", "seg_mia", *planned.request.words])
        if record and not record.done:
            folder = self._own_folder(key, record.folder)
        if record and folder is not None:
            before = record.seconds
            planned = self._resumed(planned, folder)
        else:
            folder = self._new(planned.folder, key)
        running = StageRecord(name=stage.name, command=command, folder=self._relative(folder), seconds=before)
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
        training = metadata(folder / CHECKPOINTS / LAST).get("training") or {}
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
            raise unwritable(parent, error) from None

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

    def _result(self, key: str, record: StageRecord, *, cached: bool) -> StageResult:
        numbers = record.summary, record.headline, record.seconds
        return StageResult(self.runs / record.folder, *numbers, cached, record.command, key)

    def _file(self, key: str) -> Path:
        return self.runs / FOLDER / f"{key}.json"

    def _read(self, key: str) -> StageRecord | None:
        return _parsed(self._file(key))

    def _write(self, key: str, record: StageRecord) -> None:
        write_json(self._file(key), record.model_dump())

    @contextmanager
    def _locked(self, key: str, *, waits: bool = True) -> Iterator[bool]:
        """Lock a stage; the operating system releases the lock at any end of the process.

        Without waiting for another process, yield whether this one has the lock.
        """
        lock = FileLock(self._file(key).with_suffix(".lock"))
        try:
            (self.runs / FOLDER).mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire(blocking=False)
            except Timeout:
                if waits:
                    self.say("  another audit is running this stage: waiting for its result")
                    lock.acquire()
        except OSError as error:
            raise unwritable(self.runs / FOLDER, error) from None
        try:
            yield lock.is_locked
        finally:
            lock.release()


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def _digests(folder: Path) -> dict[str, str]:
    return {name: sha256_of(folder / name) for name in RESULTS if (folder / name).is_file()}


def _parsed(file: Path) -> StageRecord | None:
    """Return a record; None if there is none written by this version."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return StageRecord.model_validate(content) if "format" in content else None
    except (OSError, ValueError, TypeError, RecursionError, ValidationError):
        return None
