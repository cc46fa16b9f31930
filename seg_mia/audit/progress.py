"""Progress of an audit in words."""

from collections.abc import Callable, Mapping, Sequence

from seg_mia.audit.stage_cache import StageResult
from seg_mia.audit.steps import AuditStep


class Progress:
    """Reports the current step, the elapsed time, and an estimate of the remaining time.

    Args:
        steps: all steps.
        known: seconds of earlier runs of stages, by kind and name.
        say: receives a line.
        clock: seconds, for the elapsed time.
        workers: stages at once. With one, a line is printed as a step begins, else as it ends.
    """

    def __init__(
        self,
        steps: Sequence[AuditStep],
        known: Mapping[str, float],
        say: Callable[[str], None],
        clock: Callable[[], float],
        workers: int = 1,
    ) -> None:
        self.say, self.clock, self.workers = say, clock, workers
        self.count, self.remaining = len(steps), [name_of(step) for step in steps]
        self.known = dict(known)
        self.begun = clock()
        self.number = 0

    def begin(self, step: AuditStep) -> None:
        """Report the start of a step."""
        if self.workers == 1:
            self._say_step(step)

    def end(self, step: AuditStep, result: StageResult | None) -> None:
        """Record the duration of a step, and report a step that was not run."""
        self.remaining.remove(name_of(step))
        if result is not None and not result.cached:
            self.known[name_of(step)] = result.seconds
        if self.workers > 1:
            self._say_step(step)
        if result is None and step.kind not in {"recipe", "folds"}:
            self.say("  already trained")
        elif result is not None and result.cached:
            self.say(f"  reused from {result.folder}: inputs unchanged ({in_time(result.seconds)})")

    def _say_step(self, step: AuditStep) -> None:
        self.number += 1
        done, remaining = " done" if self.workers > 1 else "", self._remaining()
        self.say(
            f"stage {self.number} of {self.count}{done}: {step.title}{f' ({remaining})' if remaining else ''}"
        )

    def _remaining(self) -> str:
        expected = [self.known[name] for name in self.remaining if name in self.known]
        seconds = sum(expected) / self.workers
        parts = [f"{in_time(self.clock() - self.begun)} elapsed"] if self.number > 1 else []
        if seconds >= 1:
            is_complete = len(expected) == len(self.remaining)
            at_most = "up to" if self.workers == 1 else "about"
            parts.append(
                f"{at_most} {in_time(seconds)} left" if is_complete else f"at least {in_time(seconds)} left"
            )
        return ", ".join(parts)


def name_of(step: AuditStep) -> str:
    """Return a common name for steps of similar duration."""
    return f"{step.kind} {step.attack.name}" if step.attack else step.kind


def in_time(seconds: float) -> str:
    """Return a duration in words."""
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
