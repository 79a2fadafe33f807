"""Runs as tasks of a Ray cluster; those of a node that is lost are made again on another."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import tempfile
import threading
from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from semilearn_bbam.compare.executors.remote import LOST, make_there, results_of
from semilearn_bbam.compare.grid import Job
from semilearn_bbam.compare.making import Outcome, label
from semilearn_bbam.errors import InstallError, UserError, first_line


def load_ray() -> Any:
    """The package ray; InstallError where it is missing."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report to its makers
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")  # of a lost node it would print logs among our tables
    try:
        import ray
    except ImportError as error:
        raise InstallError(
            f"--executor ray needs a package that is missing ({first_line(error)}); "
            'pip install "semilearn-bbam[ray]" here and on all nodes'
        ) from error
    return ray


def make_in_task(job: Job, start: str, mark: str, gpus: float) -> str:
    """`make_there` with the GPUs of the task: Ray hides those of others from a task that has any."""
    if not gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    return make_there(job, start, mark)


class RayExecutor:
    """Each run is one task, which Ray starts on a node with that many free CPUs and GPUs.

    Args:
        save_dir: folder of the run folders, shared by all nodes.
        address: of the cluster, as `ray.init` takes it; "auto": that of RAY_ADDRESS, else the one of this machine.
        cpus: CPUs of a run.
        gpus: GPUs of a run, also a part of one; None: 1 where the cluster has any and `may_use_gpus`, else 0.
        limit: runs at a time; 0: as many as the cluster has room for.
        may_use_gpus: whether the settings of the runs allow a GPU.

    Raises:
        UserError: no ray, or no cluster at this address.
    """

    def __init__(
        self,
        save_dir: Path,
        address: str = "auto",
        cpus: float = 1,
        gpus: float | None = None,
        limit: int = 0,
        may_use_gpus: bool = True,
    ) -> None:
        self.ray = load_ray()
        self.limit = limit
        self.waiting: deque[Job] = deque()
        self.running: dict[Any, Job] = {}
        self.lost: Counter[Job] = Counter()
        save_dir.mkdir(parents=True, exist_ok=True)
        self._connect(address)
        handle, self.mark = tempfile.mkstemp(prefix=".compare-", dir=save_dir.absolute())
        os.close(handle)
        nodes = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        if gpus is None:
            gpus = float(may_use_gpus and any(node.get("GPU") for node in nodes))
        # Not Ray's own retries: it repeats without end what ran out of memory.
        self.task = self.ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=0)(make_in_task)
        self.gpus = gpus
        print(_plan(nodes, cpus, gpus), file=sys.stderr)

    def _connect(self, address: str) -> None:
        try:
            _check_reachable(address)
            with _handlers_kept():
                self.ray.init(address=address, log_to_driver=False, logging_level="ERROR")
        except (OSError, RuntimeError, ValueError) as error:
            raise UserError(
                f"--ray_address {address}: no Ray cluster can be reached ({first_line(error)}); start one with "
                "'ray start --head', and 'ray start --address=HOST:6379' on the other nodes"
            ) from error

    def __enter__(self) -> RayExecutor:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        for task in self.running:
            with contextlib.suppress(Exception):
                self.ray.cancel(task, force=True)
        self.ray.shutdown()
        Path(self.mark).unlink(missing_ok=True)

    def submit(self, *jobs: Job) -> None:
        self.waiting.extend(jobs)
        self._fill()

    def _fill(self) -> None:
        while self.waiting and (not self.limit or len(self.running) < self.limit):
            job = self.waiting.popleft()
            self.running[self.task.remote(job, os.getcwd(), self.mark, self.gpus)] = job

    def next(self) -> tuple[Job, Outcome]:
        """A run that has ended and its outcome, as soon as there is one."""
        while True:
            ended, _ = self.ray.wait(list(self.running), timeout=1)  # in between, signals are handled
            for task in ended:
                job = self.running.pop(task)
                outcome = self._outcome(task, job)
                if outcome is None:
                    self.waiting.appendleft(job)
                self._fill()
                if outcome is not None:
                    return job, outcome

    def _outcome(self, task: Any, job: Job) -> Outcome | None:
        """The outcome of a task that has ended; None where it is to be made again."""
        errors = self.ray.exceptions
        try:
            return self.ray.get(task) or results_of(job)
        except errors.OutOfMemoryError:
            return "Ray stopped it since the memory of its node ran out; start the command again, with more --cpus"
        except (errors.NodeDiedError, errors.WorkerCrashedError, errors.LocalRayletDiedError) as error:
            self.lost[job] += 1
            if self.lost[job] <= LOST:
                tqdm.write(f"{label(job)}: its process or its node was lost; it is made again", file=sys.stderr)
                return None
            return f"its process or its node was lost {self.lost[job]} times ({first_line(error)})"
        except errors.RayError as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            return f"Ray could not make it: {lines[-1].strip()}"  # the last line of a trace names the reason


def _check_reachable(address: str) -> None:
    """OSError where no process answers at an address; Ray would try for minutes, as where a cluster has ended."""
    if address == "auto":  # the two places where Ray looks first
        last = Path(os.environ.get("RAY_TMPDIR", "/tmp"), "ray", "ray_current_cluster")
        address = os.environ.get("RAY_ADDRESS") or (last.read_text().strip() if last.is_file() else "")
    host, _, port = address.rpartition(":")
    if host and port.isdecimal() and "/" not in host:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=10):
            pass


def _plan(nodes: list[dict[str, float]], cpus: float, gpus: float) -> str:
    """The cluster and the share of a run in words."""
    room = f"{sum(n.get('CPU', 0) for n in nodes):g} CPUs and {sum(n.get('GPU', 0) for n in nodes):g} GPUs"
    plan = f"Ray cluster of {len(nodes)} nodes with {room}; a run takes {cpus:g} and {gpus:g}"
    if not any(node.get("CPU", 0) >= cpus and node.get("GPU", 0) >= gpus for node in nodes):
        plan += "; no node has as many, and the runs wait for one that does (--cpus, --gpus)"
    return plan


@contextlib.contextmanager
def _handlers_kept() -> Iterator[None]:
    """Ray replaces the handler of SIGTERM; afterwards it is the previous one."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)
