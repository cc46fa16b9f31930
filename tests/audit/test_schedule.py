"""Steps are begun when their inputs are there, and collected in their order whatever ends first."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from seg_mia.audit.attacks import checked
from seg_mia.audit.progress import Progress
from seg_mia.audit.schedule import Schedule, order
from seg_mia.audit.settings import AttackEntry
from seg_mia.audit.stage_cache import Stage, StageResult
from seg_mia.audit.steps import AuditStep, Kind
from seg_mia.errors import InputError
from seg_mia.experiment.request import RunRequest


def step(kind: Kind, title: str) -> AuditStep:
    return AuditStep(kind, 0, 0, title)


STEPS = [
    step("victim", "victim"),
    step("shadow", "shadow"),
    step("utility", "utility"),
    step("attack", "first"),
    step("attack", "second"),
    step("victim", "other victim"),
]


@dataclass
class Cache:
    """Stages by their names, none of them cached."""

    fresh: bool = False
    reserved: list[str] = field(default_factory=list)
    discarded: list[str] = field(default_factory=list)

    def stage(self, request: RunRequest, name: str) -> Stage:
        return Stage(request, name, str(request.victim), Path("runs"))

    def reserve(self, stage: Stage) -> None:
        self.reserved.append(stage.key)

    def discard(self, stage: Stage) -> None:
        self.discarded.append(stage.key)


@dataclass
class Runner:
    """One run for each step; attacks need the victim and the shadow."""

    cache: Cache = field(default_factory=Cache)
    trained: dict[str, Future[StageResult]] = field(default_factory=dict)
    collected: list[tuple[str, str]] = field(default_factory=list)

    def inputs(self, step: AuditStep) -> list[Future[StageResult]]:
        names = {"utility": ["victim"], "attack": ["victim", "shadow"]}.get(step.kind, [])
        return [self.trained[name] for name in names]

    def requests(self, step: AuditStep) -> list[RunRequest]:
        assert all(future.done() for future in self.inputs(step))
        return [RunRequest("fit", victim=step.title)]

    def begun(self, step: AuditStep, runs: Sequence[Future[StageResult]]) -> None:
        self.trained[step.title] = runs[0]

    def collect(self, step: AuditStep, results: Sequence[StageResult]) -> None:
        self.collected.append((step.title, results[0].command))


@dataclass
class Latest:
    """Ends the stage that was submitted last, one at each look."""

    workers: int = 2
    submitted: list[tuple[str, Future[StageResult]]] = field(default_factory=list)
    errors: dict[str, Exception] = field(default_factory=dict)
    is_closed: bool = False

    def submit(self, task: Stage, name: str, log: Path) -> Future[StageResult]:
        assert log == Path("runs/.stages") / f"{name}.log"
        assert task.key == name
        self.submitted.append((name, Future()))
        return self.submitted[-1][1]

    def close(self) -> None:
        self.is_closed = True
        for _, future in self.submitted:
            future.cancel()

    def wait(self, futures: Sequence[Future[StageResult]], return_when: str) -> None:
        assert return_when == "FIRST_COMPLETED"
        name, future = next(item for item in reversed(self.submitted) if item[1] in futures)
        if name in self.errors:
            future.set_exception(self.errors[name])
        else:
            future.set_result(StageResult(Path(name), {}, [], 2.0, cached=False, command=f"run {name}"))


@pytest.fixture
def schedule(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Runner, Latest, list[str]]]:
    def run(**errors: Exception) -> tuple[Runner, Latest, list[str]]:
        runner, executor, said = Runner(), Latest(errors=errors), list[str]()
        monkeypatch.setattr("seg_mia.audit.schedule.wait", executor.wait)
        progress = Progress(STEPS, {}, said.append, lambda: 0.0, executor.workers)
        parts: Any = runner, executor, progress
        try:
            Schedule(*parts).run(STEPS)
        except InputError as error:
            said.append(str(error))
        return runner, executor, said

    return run


def test_results_are_collected_in_the_order_of_the_steps(
    schedule: Callable[..., tuple[Runner, Latest, list[str]]],
) -> None:
    runner, executor, said = schedule()
    names = [step.title for step in STEPS]
    assert runner.collected == [(name, f"run {name}") for name in names]
    begun = ["victim", "shadow", "other victim", "utility", "first", "second"]
    assert [name for name, _ in executor.submitted] == runner.cache.reserved == begun
    ended = ["other victim", "shadow", "victim", "second", "first", "utility"]
    assert [line.partition(" (")[0] for line in said] == [
        f"stage {number} of 6 done: {name}" for number, name in enumerate(ended, start=1)
    ]
    assert not executor.is_closed


def test_the_first_error_cancels_all_others(
    schedule: Callable[..., tuple[Runner, Latest, list[str]]],
) -> None:
    runner, executor, said = schedule(shadow=InputError("no such image"))
    assert said[-1] == "no such image"
    assert executor.is_closed
    assert [name for name, _ in executor.submitted] == ["victim", "shadow", "other victim"]
    assert runner.cache.discarded == ["victim", "shadow"]  # the other had ended
    assert not runner.collected


def test_with_one_worker_the_order_is_that_of_the_steps() -> None:
    assert [number for number, _ in order(STEPS, 1)] == [0, 1, 2, 3, 4, 5]
    assert [number for number, _ in order(STEPS, 3)] == [0, 1, 5, 2, 3, 4]


def test_with_more_workers_long_attacks_on_a_victim_begin_before_short_ones() -> None:
    attacks = {name: checked(AttackEntry(name), {}, {}) for name in ("mia-global-loss", "mia-type1", "asma")}
    kinds: list[tuple[Kind, str]] = [
        ("victim", "victim"),
        ("utility", "utility"),
        ("attack", "mia-global-loss"),
        ("attack", "asma"),
        ("attack", "mia-type1"),
        ("recipe", "recipe"),
    ]
    listed = [
        AuditStep(kind, 0, row, f"{name} {row}", attacks.get(name))
        for row in range(2)
        for kind, name in kinds
    ]
    assert [step.title for _, step in order(listed, 2)] == [
        "victim 0",
        "victim 1",
        *("utility 0", "asma 0", "mia-type1 0", "mia-global-loss 0", "recipe 0"),
        *("utility 1", "asma 1", "mia-type1 1", "mia-global-loss 1", "recipe 1"),
    ]
    assert [step for _, step in order(listed, 1)] == listed
