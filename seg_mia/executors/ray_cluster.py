"""Executor on a Ray cluster: each task is a plain Ray task with its share of cores and GPUs."""

import importlib.util
import os
import secrets
import socket
import sys
import traceback
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar, cast

from seg_mia.errors import InputError, reason_of
from seg_mia.executors.base import RETRIES, Closing, device_name
from seg_mia.executors.local import died, import_path
from seg_mia.executors.task import Outcome, Task, run
from seg_mia.heap import keep_freed_memory

T = TypeVar("T")
TOKEN = "RAY_AUTH_TOKEN"
"""Environment variable of the token."""


class RayCluster(Closing):
    """Runs tasks on all nodes of a Ray cluster.

    Every node needs this package and, at the same path, the working folder, the runs and the data: a shared
    file system. A task is started again, on any node, if its process or its node dies.

    Args:
        threads: CPU cores of each task.
        gpus: share of a GPU of each task; by default 1 if the cluster has any, else 0.
        address: address of the cluster; one is started on this machine if not given.

    Raises:
        InputError: Ray is not installed, no cluster is at the address, it demands a token, or no node has the
            cores or the GPU.
    """

    def __init__(self, threads: int, gpus: float | None = None, address: str | None = None) -> None:
        if importlib.util.find_spec("ray") is None:
            raise InputError("--executor ray needs Ray; install it: pip install 'seg_mia[ray]'")
        import ray

        self._ray: Any = ray
        self._connect(address)
        self.threads = threads
        try:
            self.gpus = self._share(gpus)
            self.workers = max(2, int(ray.cluster_resources().get("CPU", 1)) // threads)
            self._remote = ray.remote(num_cpus=threads, num_gpus=self.gpus, max_retries=RETRIES)(_run)
            self._references = set[Any]()
            self.device = self.submit(device_name, "the name of the device", Path(os.devnull)).result()
        except BaseException:
            self.close()
            raise

    def submit(self, task: Callable[[], T], name: str, log: Path) -> Future[T]:
        """Queue a task; return the future of its result."""
        if log != Path(os.devnull):
            log.parent.mkdir(parents=True, exist_ok=True)
            log.unlink(missing_ok=True)
        future = Future[T]()
        reference = self._remote.remote(Task(task, log, self.threads), str(Path.cwd()), import_path())
        self._references.add(reference)

        def settle(done: Future[Outcome[T]]) -> None:
            self._references.discard(reference)
            try:
                future.set_result(self._value(done, name, log))
            except BaseException as error:  # noqa: BLE001  # it is raised where the future is read
                future.set_exception(error)

        reference.future().add_done_callback(settle)
        return future

    def close(self) -> None:
        """Cancel all tasks and leave the cluster."""
        for reference in list(getattr(self, "_references", ())):
            with suppress(Exception):
                self._ray.cancel(reference, force=True)
        self._ray.shutdown()

    def _value(self, done: Future[Outcome[T]], name: str, log: Path) -> T:
        failures = self._ray.exceptions
        try:
            return done.result().value()
        except failures.TaskCancelledError:
            raise InputError(f"{name}: cancelled") from None
        except failures.RayTaskError as error:
            raise InputError(
                f"{name} cannot run on a node of the cluster ({reason_of(error.cause)}); every node needs "
                "this environment, and the working folder at the same path"
            ) from error
        except failures.RayError as error:
            raise InputError(died(name, f"Ray's {type(error).__name__}", log)) from None

    def _connect(self, address: str | None) -> None:
        settings = {
            # As in the present process; Ray would set the cores of a task.
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(os.cpu_count() or 1)),
            # Else Lightning takes a job's nodes for those of each training.
            "SLURM_JOB_NAME": "interactive",
        }
        try:
            if address is None:
                _set_token()
            else:
                _reach(address)
            self._ray.init(
                address=address or "local",
                log_to_driver=False,
                logging_level="ERROR",
                include_dashboard=False if address is None else None,
                runtime_env={"env_vars": settings},
            )
        except (self._ray.exceptions.AuthenticationError, OSError, ValueError, RuntimeError) as error:
            raise _refusal(address, error) from None

    def _share(self, gpus: float | None) -> float:
        """Return the GPUs of a task; raise InputError if no node has the cores or the GPU of one."""
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        has_gpu = any(node.get("GPU", 0) for node in nodes)
        share = gpus if gpus is not None else float(has_gpu)
        if share < 0 or (share > 0 and not has_gpu):
            raise InputError(
                f"gpus_per_stage must be 0 or more, of GPUs that the cluster has, got {share} where "
                f"{'there are some' if has_gpu else 'there are none'}; leave it out"
            )
        if not any(node.get("CPU", 0) >= self.threads for node in nodes):
            raise InputError(
                f"a stage takes {self.threads} cores (threads), no node of the cluster has as many; lower "
                "--threads"
            )
        return share


def _refusal(address: str | None, error: Exception) -> InputError:
    """Return the line on a cluster that refuses a connection, or that cannot be started."""
    demands = "AuthenticationError" in "".join(traceback.format_exception(error))
    if address is None and demands:
        return InputError(
            f"a Ray cluster on this machine needs a token ({reason_of(error)}); set {TOKEN}, or unset "
            "RAY_AUTH_MODE and RAY_AUTH_TOKEN_PATH"
        )
    if address is None:
        return InputError(
            f"no Ray cluster could be started on this machine ({reason_of(error)}); correct this, or use "
            "--executor local"
        )
    if demands:
        return InputError(
            f"the Ray cluster at {address} demands a token; set RAY_AUTH_MODE=token, and {TOKEN} unless the "
            "token of its nodes is in ~/.ray/auth_token"
        )
    return InputError(
        f"--address must be that of a running Ray cluster, got {address!r} ({reason_of(error)}); start one "
        "with `ray start --head`, or leave the address out"
    )


def _set_token() -> None:
    """Give the clusters of this process a token of their own.

    Ray would write one to ~/.ray/auth_token, which every later head of this user demands, also of those who
    do not send it.
    """
    if not {"RAY_AUTH_MODE", TOKEN, "RAY_AUTH_TOKEN_PATH"} & os.environ.keys():
        os.environ[TOKEN] = secrets.token_hex()


def _reach(address: str) -> None:
    """Raise OSError unless something listens at HOST:PORT; Ray would try for minutes."""
    host, separator, port = address.rpartition("/")[2].rpartition(":")
    if separator and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=10).close()


def _run(task: Task[T], folder: str, path: str) -> Outcome[T]:
    """Run a task on a node, in the folder of the process that submitted it."""
    os.chdir(folder)
    sys.path += [entry for entry in path.split(os.pathsep) if entry not in sys.path]
    keep_freed_memory()
    return cast("Outcome[T]", run(task))
