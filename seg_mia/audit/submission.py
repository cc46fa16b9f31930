"""Submission of a stage to an executor."""

from concurrent.futures import Future

from seg_mia.audit.stage_cache import Stage, StageCache, StageResult
from seg_mia.executors.base import Executor


def submitted(stage: Stage, cache: StageCache, executor: Executor, title: str) -> Future[StageResult]:
    """Hand a stage to an executor, unless the cache has its result; return the future of the result."""
    future = Future[StageResult]()
    if (cached := cache.reserve(stage)) is not None:
        future.set_result(cached)
        return future
    if executor.workers == 1:
        return executor.submit(lambda: cache.complete(stage), title, stage.log)
    return executor.submit(stage, title, stage.log)
