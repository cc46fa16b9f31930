"""Choice of the executor, and of the threads of a task."""

from typing import Literal, assert_never

import torch

from seg_mia.errors import InputError
from seg_mia.executors.base import Executor
from seg_mia.executors.local import LocalProcesses, PresentProcess

ExecutorName = Literal["local", "ray"]


def threads_per_task(threads: int | None) -> int:
    """Return the CPU threads of each task; raise InputError if below 1.

    By default a quarter of the cores that torch uses here, at least 1, and all of them if there is a GPU. The
    number of workers has no influence: rounding in a training depends on the number of threads.
    """
    if threads is not None and threads < 1:
        raise InputError(f"threads must be 1 or more, got {threads}; leave it out for the default")
    cores = torch.get_num_threads()
    return threads or (cores if torch.cuda.is_available() else max(1, cores // 4))


def executor_of(
    name: ExecutorName,
    *,
    threads: int,
    workers: int | None = None,
    gpus_per_stage: float | None = None,
    address: str | None = None,
) -> Executor:
    """Return an executor; raise InputError for settings that it does not have.

    Args:
        name: where tasks run.
        threads: CPU threads of each task.
        workers: processes of the local executor; by default one per `threads` cores, and one with a GPU.
        gpus_per_stage: share of a GPU for each task on Ray.
        address: address of a Ray cluster.
    """
    match name:
        case "local":
            if gpus_per_stage is not None or address is not None:
                raise InputError("gpus_per_stage and address are settings of --executor ray; leave them out")
            return _local(workers, threads)
        case "ray":
            if workers is not None:
                raise InputError(
                    "workers is a setting of --executor local, Ray runs as many stages as its cluster holds; "
                    "leave it out"
                )
            from seg_mia.executors.ray_cluster import RayCluster

            return RayCluster(threads, gpus_per_stage, address)
        case _:
            assert_never(name)


def _local(workers: int | None, threads: int) -> Executor:
    if workers is not None and workers < 1:
        raise InputError(f"workers must be 1 or more, got {workers}; leave it out for the default")
    fitting = 1 if torch.cuda.is_available() else max(1, torch.get_num_threads() // threads)
    count = workers or fitting
    return PresentProcess(threads) if count == 1 else LocalProcesses(count, threads)
