"""What runs on a worker: the same pool and the same local executor as on one machine, over a mirror.

These functions are called by name on the worker (Dask sends them by reference), so both sides need the same
arboretum; each answer says which one it is.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import hashlib
import os
import platform
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from attrs import define, evolve, field, frozen

import arboretum
from arboretum.distributed.mirror import Mirror
from arboretum.engine.local_executor import LocalExecutor
from arboretum.engine.model import Trial, TrialRequest
from arboretum.engine.pool import WorktreePool
from arboretum.engine.slot_files import cache_folder
from arboretum.errors import EngineError
from arboretum.values import Oid

if TYPE_CHECKING:
    from distributed import Worker

_NAME = "arboretum"
_OUTPUT_SENT = 256 * 1024
_OUTPUT_SECONDS = 0.1
_LINES_SENT = 100
_LINE_LENGTH = 1000


@frozen(kw_only=True)
class RemoteTrial:
    """A trial as it travels.

    Args:
        key: The name of this one sending of it.
        topic: Where its output lines are told.
        repository: The id of the repository, the same on every host.
        sha256: Whether its ids have 64 digits.
        version: The arboretum that sends it.
        request: The trial.
        includes: The content of included files by path.
        pack: What the mirror lacks; None when it should have everything.
    """

    key: str
    topic: str
    repository: str
    sha256: bool
    version: str
    request: TrialRequest
    includes: Mapping[str, bytes] = field(factory=dict)
    pack: bytes | None = None


@frozen(kw_only=True)
class Answer:
    """What a worker says: the trial, or what it lacks, or why it cannot.

    Args:
        host: Which worker.
        version: Its arboretum.
        trial: The trial that is over.
        outputs: Its whole output by stream, unless it is large; then it stays on the worker.
        lacks: Whether the commit is missing; then `tips` says what is there.
        tips: Commits that are there.
        place: The mirror: workers with the same place share it.
        error: Why the trial could not be carried out.
    """

    host: str
    version: str
    trial: Trial | None = None
    outputs: Mapping[str, bytes] = field(factory=dict)
    lacks: bool = False
    tips: tuple[Oid, ...] = ()
    place: str = ""
    error: str = ""


@define(eq=False)
class WorkerHost:
    """The part of arboretum that lives in a worker process: a loop in a thread, and an executor a repository."""

    jobs: int
    loop: asyncio.AbstractEventLoop = field(factory=asyncio.new_event_loop)
    tasks: dict[str, asyncio.Task[Trial]] = field(factory=dict)
    cancelled: set[str] = field(factory=set)
    _executors: dict[tuple[str, str], LocalExecutor] = field(factory=dict)
    _pools: dict[str, WorktreePool] = field(factory=dict)
    _guard: threading.RLock = field(factory=threading.RLock)

    def __attrs_post_init__(self) -> None:
        threading.Thread(target=self.loop.run_forever, name="arboretum-trials", daemon=True).start()

    def executor(self, order: RemoteTrial) -> LocalExecutor:
        """The executor for the repository and the included files of `order`."""
        digest, folder = self._includes(order.includes)
        with self._guard:
            key = (order.repository, digest)
            if key not in self._executors:
                self._executors[key] = LocalExecutor(
                    self._pool(order), self.jobs, output_root=os.path.join(_root(), "outputs"), include_from=folder
                )
            return self._executors[key]

    def _pool(self, order: RemoteTrial) -> WorktreePool:
        if order.repository not in self._pools:
            repository = mirror_of(order).open(sha256=order.sha256)
            # All worker processes of a host share one pool; it may hold a slot for each of their threads.
            self._pools[order.repository] = WorktreePool.open(repository, size=max(self.jobs, os.cpu_count() or 1) * 4)
        return self._pools[order.repository]

    def _includes(self, files: Mapping[str, bytes]) -> tuple[str, str | None]:
        if not files:
            return "", None
        digest = hashlib.sha256(repr(sorted(files.items())).encode()).hexdigest()[:24]
        folder = os.path.join(_root(), "includes", digest)
        for path, data in files.items():
            target = os.path.join(folder, path)
            if not os.path.exists(target):
                os.makedirs(os.path.dirname(target), exist_ok=True)
                aside = f"{target}.{os.getpid()}.{threading.get_ident()}"
                with open(aside, "wb") as file:
                    file.write(data)
                os.replace(aside, target)
        return digest, folder


def _root() -> str:
    return os.path.join(cache_folder(), "worker")


def mirror_of(order: RemoteTrial) -> Mirror:
    """The mirror of the repository of `order` on this host."""
    return Mirror(os.path.join(_root(), "mirrors", f"{order.repository}.git"))


def host_of(worker: Worker) -> WorkerHost:
    """The part of arboretum that lives in `worker`, made on first use."""
    host: WorkerHost | None = getattr(worker, _NAME, None)
    if host is None:
        host = WorkerHost(jobs=max(1, worker.state.nthreads))
        setattr(worker, _NAME, host)
    return host


_making = threading.Lock()


def run_trial(order: RemoteTrial) -> Answer:
    """Carry out a trial on the worker that calls this; the task that Dask runs."""
    from distributed import get_worker

    worker = get_worker()
    name = str(worker.address)
    if order.version != arboretum.__version__:
        return Answer(host=name, version=arboretum.__version__, error="version")
    with _making:
        host = host_of(worker)
    try:
        found = look(order)
        if found.lacks or found.error:
            return found
        trial = _carry_out(host, worker, order)
    except concurrent.futures.CancelledError:
        return Answer(host=name, version=arboretum.__version__, error="cancelled")
    except (EngineError, OSError) as error:
        return Answer(host=name, version=arboretum.__version__, error=f"{name}: {error}")
    outputs = {stream: data for stream, path in trial.output_paths.items() if (data := _small(path)) is not None}
    trial = evolve(trial, slot=f"{name}/{trial.slot}")
    return Answer(host=name, version=arboretum.__version__, trial=trial, outputs=outputs)


def look(order: RemoteTrial) -> Answer:
    """Take in the pack of `order` if it has one, and say whether the mirror of this host has its commit."""
    from distributed import get_worker

    mirror, name = mirror_of(order), str(get_worker().address)
    try:
        with mirror.open(sha256=order.sha256) as repository:
            lacks = not mirror.has(repository, order.request.commit)
            if lacks and order.pack is not None:
                mirror.take(order.pack, order.request.commit)
                lacks = False
            tips = mirror.tips(repository) if lacks else ()
    except (EngineError, OSError) as error:
        return Answer(host=name, version=arboretum.__version__, error=f"{name}: {error}")
    place = f"{platform.node()}:{mirror.path}"
    return Answer(host=name, version=arboretum.__version__, lacks=lacks, tips=tips, place=place)


def _carry_out(host: WorkerHost, worker: Worker, order: RemoteTrial) -> Trial:
    executor = host.executor(order)
    feed = LineFeed(lambda message: worker.log_event(order.topic, {"key": order.key, **message}))

    def on_started(slot: str, path: str) -> None:
        feed.tell({"slot": f"{worker.address}/{slot}", "path": path})

    outcome: concurrent.futures.Future[Trial] = concurrent.futures.Future()

    def finish(task: asyncio.Task[Trial]) -> None:
        host.tasks.pop(order.key, None)
        if task.cancelled():
            outcome.cancel()
            outcome.set_running_or_notify_cancel()
        elif (error := task.exception()) is not None:
            outcome.set_exception(error)
        else:
            outcome.set_result(task.result())

    def start() -> None:
        work = executor.execute(order.request, on_started=on_started, on_output=feed.add)
        task = host.loop.create_task(work)
        host.tasks[order.key] = task
        task.add_done_callback(finish)
        if order.key in host.cancelled:
            task.cancel()

    host.loop.call_soon_threadsafe(start)
    try:
        return outcome.result()
    finally:
        feed.tell({"end": True})


@define(eq=False)
class LineFeed:
    """Sends output lines in batches; of a flood only so many a batch, because they are for eyes."""

    _send: Callable[[dict[str, Any]], object]
    _lines: list[tuple[str, str]] = field(factory=list)
    _last: float = 0.0
    _guard: threading.Lock = field(factory=threading.Lock)

    def add(self, stream: str, line: str) -> None:
        """Take a line; it goes out now, or with the next ones."""
        with self._guard:
            if len(self._lines) < _LINES_SENT:
                self._lines.append((stream, line[:_LINE_LENGTH]))
            if time.monotonic() - self._last >= _OUTPUT_SECONDS:
                self._flush()

    def tell(self, message: dict[str, Any]) -> None:
        """Send a message after the lines that came before it."""
        with self._guard:
            self._flush()
            self._send(message)

    def _flush(self) -> None:
        if self._lines:
            self._send({"lines": self._lines})
            self._lines = []
        self._last = time.monotonic()


def _small(path: str) -> bytes | None:
    try:
        if os.path.getsize(path) > _OUTPUT_SENT:
            return None
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return None


# Called through `Client.run`, in the worker's own event loop: they never wait.


def describe(dask_worker: Worker) -> dict[str, Any]:
    """Who a worker is: its arboretum and its Python."""
    return {
        "version": arboretum.__version__,
        "python": platform.python_version(),
        "executable": sys.executable,
        "threads": dask_worker.state.nthreads,
    }


def cancel(key: str, dask_worker: Worker) -> bool:
    """Stop a trial if it is on this worker; whether something of it is still there."""
    host: WorkerHost | None = getattr(dask_worker, _NAME, None)
    if host is None:
        return False
    host.cancelled.add(key)
    task = host.tasks.get(key)
    if task is not None:
        host.loop.call_soon_threadsafe(task.cancel)
    return key in host.tasks


def read_output(path: str, limit: int, dask_worker: Worker) -> bytes:
    """The first `limit` bytes of a whole output that stayed on the worker."""
    del dask_worker
    root = os.path.realpath(os.path.join(_root(), "outputs"))
    if not os.path.realpath(path).startswith(root + os.sep):
        return b""
    with open(path, "rb") as file:
        return file.read(limit)
