"""The part of arboretum that lives in a worker process: an event loop in a thread, a pool and an executor a repository.

A trial is watched for as long as it runs. When Dask says that nobody wants it any more (its client is gone, also by
kill -9; somebody has cancelled it; the scheduler is gone) its process tree is ended at once: Dask by itself would let
the thread run on to its end.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import hashlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar

from attrs import define, field
from distributed.diagnostics.plugin import WorkerPlugin
from distributed.utils import sync

from arboretum.distributed.mirror import Mirror
from arboretum.distributed.orders import Order
from arboretum.engine.local_executor import LocalExecutor
from arboretum.engine.pool import WorktreePool
from arboretum.engine.slot_files import cache_folder
from arboretum.engine.threads import Threads
from arboretum.orchestration.workspaces import Workspaces

if TYPE_CHECKING:
    from distributed import Worker

_T = TypeVar("_T")
_NAME: Final = "arboretum"
_OUTPUT_SECONDS: Final = 0.1
_LINES_SENT: Final = 50
_LINE_LENGTH: Final = 500
#: Orders that were stopped before they came are remembered so many at a time.
_UNWANTED_KEPT: Final = 1000
#: The states of a Dask task whose function runs and whose result is wanted.
WANTED: Final = frozenset({"executing", "long-running"})
#: What may follow them because the function has ended.
_ENDED: Final = frozenset({"memory", "error", "rescheduled", "long-running"})


@define(eq=False)
class WorkerHost:
    """What a worker process keeps between orders.

    Args:
        jobs: How many orders it carries out at once.
    """

    jobs: int
    threads: Threads = field(init=False, repr=False)
    _loop: asyncio.AbstractEventLoop = field(factory=asyncio.new_event_loop)
    _tasks: dict[str, asyncio.Task[Any]] = field(factory=dict)
    _unwanted: dict[str, None] = field(factory=dict)  # the latest ones, in their order
    _mirrors: dict[str, Mirror] = field(factory=dict)
    _executors: dict[tuple[str, str], LocalExecutor] = field(factory=dict)
    _pools: dict[str, WorktreePool] = field(factory=dict)
    _guard: threading.RLock = field(factory=threading.RLock)

    def __attrs_post_init__(self) -> None:
        self.threads = Threads(self.jobs + 1, "work")
        threading.Thread(target=self._loop.run_forever, name="arboretum-orders", daemon=True).start()

    # --- carrying out -----------------------------------------------------------------------------------------

    def carry_out(self, key: str, work: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        """Run a coroutine to its end in the loop of this host; called in a thread of Dask's.

        Args:
            key: The key of the order and of the Dask task that calls, by which it can be stopped.
            work: Makes the coroutine.

        Raises:
            CancelledError: Nobody wants it any more (`concurrent.futures.CancelledError`).
        """
        outcome: concurrent.futures.Future[_T] = concurrent.futures.Future()

        def finish(task: asyncio.Task[_T]) -> None:
            self._tasks.pop(key, None)
            if task.cancelled():
                outcome.cancel()
                outcome.set_running_or_notify_cancel()
            elif (error := task.exception()) is not None:
                outcome.set_exception(error)
            else:
                outcome.set_result(task.result())

        def start() -> None:
            task = self._loop.create_task(work())
            self._tasks[key] = task
            task.add_done_callback(finish)
            if key in self._unwanted:
                task.cancel()

        self._loop.call_soon_threadsafe(start)
        return outcome.result()

    def stop(self, key: str) -> bool:
        """Stop an order if it is here, or as soon as it comes. Returns whether something of it is still there."""
        self._unwanted[key] = None
        while len(self._unwanted) > _UNWANTED_KEPT:
            del self._unwanted[next(iter(self._unwanted))]
        task = self._tasks.get(key)
        if task is not None:
            self._loop.call_soon_threadsafe(task.cancel)
        return key in self._tasks

    def stop_all(self) -> None:
        """Stop all orders and wait until nothing of them is left."""
        tasks = list(self._tasks)
        for key in tasks:
            self.stop(key)
        while any(key in self._tasks for key in tasks):
            time.sleep(0.01)

    # --- what is kept -----------------------------------------------------------------------------------------

    def mirror(self, order: Order) -> Mirror:
        """The mirror of the repository of `order` on this machine."""
        with self._guard:
            if order.repository not in self._mirrors:
                path = os.path.join(root_folder(), "mirrors", f"{order.repository}.git")
                self._mirrors[order.repository] = Mirror(path, order.sha256)
            return self._mirrors[order.repository]

    def executor(self, order: Order) -> LocalExecutor:
        """The executor for the repository and the included files of `order`."""
        digest, folder = _keep_includes(order.includes)
        with self._guard:
            key = (order.repository, digest)
            if key not in self._executors:
                self._executors[key] = LocalExecutor(
                    self.pool(order), self.jobs, output_root=outputs_folder(), include_from=folder
                )
            return self._executors[key]

    def pool(self, order: Order) -> WorktreePool:
        """The worktrees of the repository of `order`."""
        with self._guard:
            if order.repository not in self._pools:
                # All worker processes of a machine share one pool; it may hold a slot for each of their threads.
                size = max(self.jobs, os.cpu_count() or 1) * 4
                self._pools[order.repository] = WorktreePool.open(self.mirror(order).repository, size=size)
            return self._pools[order.repository]

    def workspaces(self, order: Order, run: str) -> Workspaces:
        """The worktrees for the tasks of the run `run`."""
        pool = self.pool(order)
        return Workspaces(pool.repository, run, pool, os.path.join(root_folder(), "tasks", run))


class _Watch(WorkerPlugin):
    """Tells the host of orders that nobody wants any more."""

    def __init__(self, host: WorkerHost) -> None:
        self._host = host

    def transition(self, key: Any, start: str, finish: str, **_: Any) -> None:
        """A Dask task of this worker has changed its state."""
        if start in WANTED and finish not in _ENDED:
            self._host.stop(str(key))

    async def teardown(self, worker: Worker) -> None:
        """The worker ends, in order or because it has lost its scheduler."""
        del worker
        await asyncio.to_thread(self._host.stop_all)


_making = threading.Lock()


def host_of(worker: Worker) -> WorkerHost:
    """The part of arboretum that lives in `worker`, made on first use; called in a thread of Dask's."""
    with _making:
        host: WorkerHost | None = getattr(worker, _NAME, None)
        if host is None:
            host = WorkerHost(jobs=max(1, worker.state.nthreads))
            setattr(worker, _NAME, host)
            sync(worker.loop, worker.plugin_add, _Watch(host), name=_NAME)  # in the worker's own event loop
        return host


def known_host(worker: Worker) -> WorkerHost | None:
    """The part of arboretum that lives in `worker`, if anything was sent there yet."""
    host: WorkerHost | None = getattr(worker, _NAME, None)
    return host


def root_folder() -> str:
    """Where all workers of this machine keep their things."""
    return os.path.join(cache_folder(), "worker")


def outputs_folder() -> str:
    """Where whole outputs are kept."""
    return os.path.join(root_folder(), "outputs")


def _keep_includes(files: Mapping[str, bytes]) -> tuple[str, str | None]:
    if not files:
        return "", None
    digest = hashlib.sha256(repr(sorted(files.items())).encode()).hexdigest()[:24]
    folder = os.path.join(root_folder(), "includes", digest)
    for path, data in files.items():
        target = os.path.join(folder, path)
        if not os.path.exists(target):
            os.makedirs(os.path.dirname(target), exist_ok=True)
            aside = f"{target}.{os.getpid()}.{threading.get_ident()}"
            with open(aside, "wb") as file:
                file.write(data)
            os.replace(aside, target)
    return digest, folder


@define(eq=False)
class LineFeed:
    """Sends the start and the output lines in batches; of a flood only the last ones: they are for eyes."""

    _host: str
    _send: Callable[[dict[str, Any]], object]
    _lines: deque[tuple[str, str]] = field(factory=lambda: deque(maxlen=_LINES_SENT))
    _last: float = 0.0
    _guard: threading.Lock = field(factory=threading.Lock)

    def start(self, slot: str, path: str) -> None:
        """Tell where it has begun."""
        self.tell({"slot": f"{self._host}/{slot}", "path": path})

    def add(self, stream: str, line: str) -> None:
        """Take a line; it goes out now, or with the next ones."""
        with self._guard:
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
            self._send({"lines": list(self._lines)})
            self._lines.clear()
        self._last = time.monotonic()
