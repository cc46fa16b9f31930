"""Order of an audit's steps, and their execution side by side."""

from collections.abc import Collection, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field

from seg_mia.attacks.base import Perturbation
from seg_mia.audit.progress import Progress, name_of
from seg_mia.audit.runner import AuditRunner
from seg_mia.audit.stage_cache import Stage, StageResult
from seg_mia.audit.steps import AuditStep
from seg_mia.audit.submission import submitted
from seg_mia.executors.base import Executor
from seg_mia.experiment.request import RunRequest
from seg_mia.membership.base import Membership

TRAININGS = {"victim", "shadow", "network", "preparation"}
"""Kinds of steps that need no other."""


@dataclass
class Schedule:
    """Hands the stages of all steps to an executor, each when its inputs have ended.

    The order is that of `order`, whatever ends first. Folders are numbered in it, results collected in that
    of the steps, so that an audit's content depends neither on the executor nor on the number of workers.
    After an error, stages that have not begun are cancelled and running ones are ended; the next run
    resumes them.

    Args:
        runner: states the runs of each step and collects their results.
        executor: runs the stages.
        progress: reports steps.
    """

    runner: AuditRunner
    executor: Executor
    progress: Progress
    _stages: dict[str, tuple[Stage, Future[StageResult]]] = field(default_factory=dict)
    _open: list[tuple[AuditStep, list[Future[StageResult]]]] = field(default_factory=list)

    def run(self, steps: Sequence[AuditStep]) -> None:
        """Run all steps and collect their results."""
        runs = dict[int, list[Future[StageResult]]]()
        try:
            for number, step in order(steps, self.executor.workers):
                self._await(self.runner.inputs(step))
                self.progress.begin(step)
                runs[number] = [self._submitted(step, request) for request in self.runner.requests(step)]
                self.runner.begun(step, runs[number])
                self._open.append((step, runs[number]))
                self._report()
            self._await([future for futures in runs.values() for future in futures])
        except BaseException:
            self._cancel()
            raise
        for number, step in enumerate(steps):
            self.runner.collect(step, [future.result() for future in runs[number]])

    def _submitted(self, step: AuditStep, request: RunRequest) -> Future[StageResult]:
        """Submit a run unless the cache or a stage of this audit has its result."""
        cache = self.runner.cache
        stage = cache.stage(request, name_of(step))
        _, known = self._stages.get(stage.key, (None, None))
        if known is not None and (cache.fresh or not known.done()):
            return known
        future = submitted(stage, cache, self.executor, step.title)
        self._stages[stage.key] = stage, future
        return future

    def _await(self, needed: Collection[Future[StageResult]]) -> None:
        """Wait for stages; raise the first error of any."""
        while not all(future.done() for future in needed):
            wait(
                [future for _, runs in self._open for future in runs if not future.done()],
                return_when=FIRST_COMPLETED,
            )
            self._report()

    def _report(self) -> None:
        """Report the steps that have ended; raise the first error."""
        for step, runs in list(self._open):
            ended = [future.result() for future in runs if future.done()]
            if len(ended) == len(runs):
                self._open.remove((step, runs))
                self.progress.end(step, ended[-1] if ended else None)

    def _cancel(self) -> None:
        """End all stages; remove the folders of those that have not begun."""
        self.executor.close()
        for stage, future in self._stages.values():
            if not future.done() or future.cancelled() or future.exception() is not None:
                self.runner.cache.discard(stage)


def order(steps: Sequence[AuditStep], workers: int) -> list[tuple[int, AuditStep]]:
    """Return steps and their numbers in the order of their begin.

    With several workers trainings begin first, and of attacks on a victim the long ones: changes of images,
    then classifiers. Short ones at the end keep all workers busy.
    """
    numbered = list(enumerate(steps))
    return numbered if workers == 1 else sorted(numbered, key=lambda item: _place(item[1]))


def _place(step: AuditStep) -> tuple[int, ...]:
    """Return the place of a step among others; steps of one place stay in their order."""
    if step.kind in TRAININGS:
        return (0,)
    if step.kind == "utility":
        return 1, step.round, step.row, 0
    attack = None if step.attack is None else step.attack.instance
    if isinstance(attack, Perturbation):
        return 1, step.round, step.row, 1
    learns = isinstance(attack, Membership) and attack.scorer.training is not None
    return 1, step.round, step.row, 2 if learns else 3
