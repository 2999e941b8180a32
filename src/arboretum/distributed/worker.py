"""What a client calls on a worker.

These functions are called by name (Dask sends them by reference), so both sides need the same arboretum; each answer
says which one it is.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import os
import platform
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

from attrs import evolve

import arboretum
from arboretum.distributed.changes import WorkDone, do_work
from arboretum.distributed.host import WANTED, LineFeed, WorkerHost, host_of, known_host, outputs_folder
from arboretum.distributed.orders import Answer, Order
from arboretum.engine.model import Trial, TrialRequest
from arboretum.errors import EngineError, GitOperationError
from arboretum.orchestration.sites import Work
from distributed import get_worker

if TYPE_CHECKING:
    from distributed import Worker

_OUTPUT_SENT: Final = 256 * 1024


def run_trial(order: Order) -> Answer:
    """Carry out a trial on the worker that calls this: the task that Dask runs, in a thread of its own."""
    return _answered(get_worker(), order, _run_trial)


def run_work(order: Order) -> Answer:
    """Run the command of a task on the worker that calls this: the task that Dask runs."""
    return _answered(get_worker(), order, _run_work)


def _answered(worker: Worker, order: Order, function: Callable[[Worker, Order], Answer]) -> Answer:
    """The answer of `function`; what this worker cannot do is an answer, too, so that another one is asked."""
    if order.version != arboretum.__version__:
        return _answer(worker, error="version")
    try:
        return function(worker, order)
    except concurrent.futures.CancelledError:
        return _answer(worker, stopped=True)
    except (EngineError, GitOperationError, OSError) as error:
        with contextlib.suppress(EngineError, GitOperationError, OSError):
            host_of(worker).mirror(order).distrust()
        return _answer(worker, error=f"{worker.address}: {error}")


def _answer(worker: Worker, **rest: Any) -> Answer:
    return Answer(host=str(worker.address), version=arboretum.__version__, **rest)


def _look(worker: Worker, order: Order) -> Answer:
    mirror = host_of(worker).mirror(order)
    if order.pack is not None:
        mirror.take(order.pack, order.tips)
    lacks = not mirror.has(order.request.commit)
    place = f"{platform.node()}:{mirror.path}"
    return _answer(worker, lacks=lacks, tips=mirror.tips() if lacks else (), place=place)


def _run_trial(worker: Worker, order: Order) -> Answer:
    request = order.request
    assert isinstance(request, TrialRequest)
    found = _look(worker, order)
    if found.lacks:
        return found
    host = _host_for(worker, order)
    executor = host.executor(order)
    with _feed(worker, order) as feed:
        trial: Trial = host.carry_out(
            order.key, lambda: executor.execute(request, on_started=feed.start, on_output=feed.add)
        )
    outputs = {stream: data for stream, path in trial.output_paths.items() if (data := _small(path)) is not None}
    return _answer(worker, trial=evolve(trial, slot=f"{worker.address}/{trial.slot}"), outputs=outputs)


def _run_work(worker: Worker, order: Order) -> Answer:
    work = order.request
    assert isinstance(work, Work)
    found = _look(worker, order)
    if found.lacks:
        return found
    host = _host_for(worker, order)
    workspaces = host.workspaces(order, work.run)
    with _feed(worker, order) as feed:
        done: WorkDone = host.carry_out(
            order.key, lambda: do_work(work, workspaces, host.threads, on_started=feed.start, on_line=feed.add)
        )
    return _answer(worker, work=done)


def _host_for(worker: Worker, order: Order) -> WorkerHost:
    """The host that carries out `order`, which may have been cancelled before there was a host to tell.

    Raises:
        CancelledError: Nobody wants it any more (`concurrent.futures.CancelledError`).
    """
    host = host_of(worker)
    task = worker.state.tasks.get(order.key)
    if task is None or task.state not in WANTED:
        raise concurrent.futures.CancelledError
    return host


@contextlib.contextmanager
def _feed(worker: Worker, order: Order) -> Iterator[LineFeed]:
    """Where the start and the output of `order` are told; at the end, its end is."""
    feed = LineFeed(str(worker.address), lambda message: worker.log_event(order.topic, {"key": order.key, **message}))
    try:
        yield feed
    finally:
        feed.tell({"end": True})


def _small(path: str) -> bytes | None:
    try:
        if os.path.getsize(path) > _OUTPUT_SENT:
            return None
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return None


# --- called through `Client.run`, in the worker's own event loop: they take none of its threads, and never block ---


async def look(order: Order, dask_worker: Worker) -> Answer:
    """Take in the pack of `order` if it has one, and say whether the mirror of this machine has its commit."""
    return await asyncio.to_thread(_answered, dask_worker, order, _look)


def describe(dask_worker: Worker) -> dict[str, Any]:
    """Who a worker is: its arboretum and its Python."""
    return {
        "version": arboretum.__version__,
        "python": platform.python_version(),
        "executable": sys.executable,
        "threads": dask_worker.state.nthreads,
    }


def stop(key: str, dask_worker: Worker) -> bool:
    """Stop an order if it is on this worker; whether something of it is still there."""
    host = known_host(dask_worker)
    return host is not None and host.stop(key)


def read_output(path: str, limit: int, dask_worker: Worker) -> bytes:
    """The first `limit` bytes of a whole output that stayed on the worker."""
    del dask_worker
    root = os.path.realpath(outputs_folder())
    if not os.path.realpath(path).startswith(root + os.sep):
        return b""
    with open(path, "rb") as file:
        return file.read(limit)
