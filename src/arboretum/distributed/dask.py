"""`DaskExecutor`: trials on a cluster that one has already (SSH hosts, Slurm, Kubernetes: whatever Dask runs on)."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import logging
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from attrs import define, evolve, field

import arboretum
from arboretum.distributed import worker as remote
from arboretum.distributed.mirror import make_pack
from arboretum.engine.executor import TrialStart
from arboretum.engine.model import Trial, TrialRequest
from arboretum.errors import ExecutorError
from arboretum.process.model import OutputLine
from arboretum.repository import Repository

_T = TypeVar("_T")
_log = logging.getLogger(__name__)
_CONNECT_SECONDS: Final = 20.0
#: Seconds for which a cancelled trial is waited for on its worker, over its own grace period.
_CANCEL_SECONDS: Final = 15.0
_RETRIES: Final = 3
_LAST_LINE_SECONDS: Final = 2.0
_MOST_SENDINGS: Final = 4


@define(eq=False)
class _Listener:
    on_started: TrialStart | None
    on_output: OutputLine | None
    ended: threading.Event = field(factory=threading.Event)


@define(eq=False)
class DaskExecutor:
    """Carries out trials on the workers of a Dask cluster; see `arboretum.engine.executor.Executor`.

    The repository travels to a host once, then by what it lacks: a worker answers that it lacks a commit, with the
    tips it has, and gets a thin pack. A trial is safe to repeat, so a lost worker's trials are given to another by
    Dask itself.

    Args:
        client: A client of the cluster (``asynchronous=False``).
        repository: Whose commits are tried; it is only read.
        jobs: How many trials at once at most; None for one for each thread of the workers.
        close_client: Whether `close` closes the client, too.

    Raises:
        ExecutorError: The cluster has no worker, or one with another arboretum.
    """

    client: Any  # a `distributed.Client`, whose methods are not annotated
    repository: Repository
    jobs: int | None = None
    close_client: bool = False
    sent_bytes: int = field(default=0, init=False)
    _topic: str = field(init=False)
    _listeners: dict[str, _Listener] = field(factory=dict, init=False, repr=False)
    _unfit: set[str] = field(factory=set, init=False, repr=False)
    _sending: dict[str, asyncio.Lock] = field(factory=dict, init=False, repr=False)
    _threads: ThreadPoolExecutor = field(init=False, repr=False)
    _running: set[asyncio.Task[Any]] = field(factory=set, init=False, repr=False)
    _closed: bool = field(default=False, init=False)
    _id: str = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._topic = f"arboretum-{uuid.uuid4().hex}"
        digest = hashlib.sha256(os.fsencode(os.path.realpath(self.repository.common_dir))).hexdigest()
        self._id = f"{os.uname().nodename}-{digest[:16]}"
        self._threads = ThreadPoolExecutor(max_workers=max(4, self.capacity * 2), thread_name_prefix="dask-trial")
        self._check_versions()
        self.client.subscribe_topic(self._topic, self._told)

    @property
    def capacity(self) -> int:
        """How many trials the workers can carry out at once, as many as there are now."""
        threads = sum(int(info["nthreads"]) for info in self._workers().values())
        return max(1, min(threads, self.jobs or threads))

    def _workers(self) -> dict[str, Any]:
        try:
            info = self.client.scheduler_info(n_workers=-1)
        except TypeError:  # a Dask that has no such argument tells of all workers
            info = self.client.scheduler_info()
        workers: dict[str, Any] = info.get("workers", {})  # nothing is known once the scheduler is gone
        return workers

    def _check_versions(self) -> None:
        try:
            found = self.client.run(remote.describe, on_error="return")
        except Exception as error:
            raise ExecutorError(f"the cluster does not answer: {error}", hint="is its scheduler running?") from error
        if not found:
            raise ExecutorError("the cluster has no worker", hint="start one: arboretum worker --scheduler ADDRESS")
        for address, answer in found.items():
            if isinstance(answer, BaseException):
                raise ExecutorError(
                    f"the worker {address} cannot run arboretum: {answer}",
                    hint=f"install arboretum {arboretum.__version__} in its environment",
                ) from answer
            if answer["version"] != arboretum.__version__:
                raise _other_version(address, answer["version"])

    # Trials ----------------------------------------------------------------------------------

    async def execute(
        self, request: TrialRequest, *, on_started: TrialStart | None = None, on_output: OutputLine | None = None
    ) -> Trial:
        """Carry out one trial; see `Executor.execute`."""
        if self._closed:
            raise ExecutorError("the executor is closed")
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        try:
            order = await self._in_thread(lambda: self._order(request))
            listener = self._listeners[order.key] = _Listener(on_started, on_output)
            try:
                answer = await self._deliver(order)
                # Lines and results take different ways: the last line may be a moment behind.
                await self._in_thread(lambda: listener.ended.wait(_LAST_LINE_SECONDS))
            finally:
                self._listeners.pop(order.key, None)
            assert answer.trial is not None
            return await self._in_thread(lambda: self._keep(request, answer))
        finally:
            self._running.discard(task)

    def _order(self, request: TrialRequest) -> remote.RemoteTrial:
        return remote.RemoteTrial(
            key=f"{request.run}-{request.id}-{uuid.uuid4().hex[:12]}",
            topic=self._topic,
            repository=self._id,
            sha256=self.repository.backend.sha256,
            version=arboretum.__version__,
            request=request,
            includes=self._includes(request),
        )

    def _includes(self, request: TrialRequest) -> dict[str, bytes]:
        files: dict[str, bytes] = {}
        root = None if self.repository.is_bare else self.repository.path
        for included in request.include if root is not None else ():
            top = os.path.join(root or "", included)
            inside = (
                [os.path.join(f, n) for f, _, names in os.walk(top) for n in names] if os.path.isdir(top) else [top]
            )
            for path in inside:
                if os.path.isfile(path):
                    with open(path, "rb") as file:
                        files[os.path.relpath(path, root)] = file.read()
        return files

    async def _deliver(self, order: remote.RemoteTrial) -> remote.Answer:
        """Send the trial, and send what its worker lacks, until one has carried it out."""
        worker: str | None = None
        problem = f"the commit {order.request.commit.short} did not arrive on any worker"
        for _ in range(_MOST_SENDINGS):
            try:
                answer = await self._submit(remote.run_trial, order, worker)
                if not answer.lacks:
                    return answer
                worker = answer.host
                await self._send_pack(order, answer)
            except _UnfitWorkerError as error:  # its disk is full, its folder cannot be written: another one may do
                _log.warning("%s", error)
                worker, problem = None, error.message
        raise ExecutorError(problem, hint="look at the disks of the workers")

    async def _send_pack(self, order: remote.RemoteTrial, lacking: remote.Answer) -> None:
        """Send to the host of `lacking` what it lacks, once for all trials that find it lacking."""
        async with self._sending.setdefault(lacking.place, asyncio.Lock()):
            now = await self._submit(remote.look, order, lacking.host)
            if not now.lacks:
                return
            pack = await self._in_thread(functools.partial(make_pack, self.repository, order.request.commit, now.tips))
            self.sent_bytes += len(pack)
            await self._submit(remote.look, evolve(order, pack=pack), lacking.host)

    async def _submit(
        self, function: Callable[[remote.RemoteTrial], remote.Answer], order: remote.RemoteTrial, worker: str | None
    ) -> remote.Answer:
        loop = asyncio.get_running_loop()
        options: dict[str, Any] = {"key": f"{order.key}-{uuid.uuid4().hex[:6]}", "pure": False, "retries": _RETRIES}
        if worker is not None:
            options |= {"workers": [worker], "allow_other_workers": True}
        elif self._unfit:
            fit = [address for address in await self._in_thread(self._workers) if address not in self._unfit]
            if not fit:
                raise ExecutorError("no worker is fit to carry out trials", hint="look at their disks")
            options |= {"workers": fit}
        if self.client.status not in {"running", "newly-created"}:
            raise ExecutorError("the connection to the cluster is lost", hint="is its scheduler running?")
        future: Any = await self._in_thread(lambda: self.client.submit(function, order, **options))
        done = asyncio.Event()
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(done.set))
        try:
            await done.wait()
            answer = await self._in_thread(lambda: _result(future))
        except asyncio.CancelledError:
            await self._uninterrupted(lambda: self._stop(order, future))
            raise
        finally:
            future.release()
        if answer.version != arboretum.__version__ or answer.error == "version":
            raise _other_version(answer.host, answer.version)
        if answer.error == "cancelled":
            raise ExecutorError(f"the trial was stopped on {answer.host}", hint="was the worker shut down?")
        if answer.error:
            self._unfit.add(answer.host)
            raise _UnfitWorkerError(f"the trial could not be carried out: {answer.error}")
        return answer

    def _stop(self, order: remote.RemoteTrial, future: Any) -> None:
        """Stop a trial wherever it is, and wait until nothing of it is left there."""
        deadline = time.monotonic() + order.request.grace + _CANCEL_SECONDS
        with contextlib.suppress(Exception):  # a cluster that is gone runs nothing of ours any more
            while any(self.client.run(remote.cancel, order.key).values()) and time.monotonic() < deadline:
                time.sleep(0.05)
        with contextlib.suppress(Exception):
            future.cancel(force=True)

    def _keep(self, request: TrialRequest, answer: remote.Answer) -> Trial:
        """Put the outputs that travelled where local ones are; large ones stay on their worker (`fetch_output`)."""
        assert answer.trial is not None
        folder = os.path.join(
            self.repository.state_dir, "runs", request.run, "outputs", f"{request.hypothesis}.{request.attempt}"
        )
        paths: dict[str, str] = {}
        for stream, data in answer.outputs.items():
            os.makedirs(folder, exist_ok=True)
            paths[stream] = os.path.join(folder, stream)
            with open(paths[stream], "wb") as file:
                file.write(data)
        left = {s: f"{answer.host}:{p}" for s, p in answer.trial.output_paths.items() if s not in paths}
        return evolve(answer.trial, output_paths=paths | left)

    def fetch_output(self, trial: Trial, stream: str = "stdout", *, limit: int = 64 << 20) -> bytes:
        """The whole output of a trial, from its worker if it was too large to travel.

        Args:
            trial: A trial that this executor carried out.
            stream: ``stdout`` or ``stderr``.
            limit: Bytes at most.

        Raises:
            ExecutorError: The worker is gone.
        """
        place = trial.output_paths.get(stream, "")
        if os.path.isfile(place):
            with open(place, "rb") as file:
                return file.read(limit)
        address, _, path = place.rpartition(":/")
        try:
            found = self.client.run(remote.read_output, "/" + path, limit, workers=[address])
        except Exception as error:
            raise ExecutorError(f"the output of {trial.id} is on {address}, which does not answer") from error
        return bytes(found[address])

    def _told(self, event: tuple[float, dict[str, Any]]) -> None:
        message = event[1]
        listener = self._listeners.get(message["key"])
        if listener is None:
            return
        if "end" in message:
            listener.ended.set()
        try:
            if "slot" in message and listener.on_started is not None:
                listener.on_started(message["slot"], message["path"])
            if listener.on_output is not None:
                for stream, line in message.get("lines", ()):
                    listener.on_output(stream, line)
        except Exception:
            _log.exception("a listener of trial %s failed", message["key"])

    async def _in_thread(self, function: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function)

    async def _uninterrupted(self, function: Callable[[], _T]) -> _T:
        """Run `function` to its end although this task is being cancelled."""
        work = asyncio.ensure_future(self._in_thread(function))
        while not work.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([work])
        return work.result()

    async def close(self) -> None:
        """Stop what runs; the cluster stays, unless it was started for this executor."""
        if self._closed:
            return
        self._closed = True
        running = self._running - {asyncio.current_task()}
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)
        with contextlib.suppress(Exception):
            await self._in_thread(lambda: self.client.unsubscribe_topic(self._topic))
        if self.close_client:
            await self._in_thread(self.client.close)
        self._threads.shutdown(wait=True)


class _UnfitWorkerError(ExecutorError):
    """A worker cannot carry out trials; others may."""


def _result(future: Any) -> remote.Answer:
    try:
        answer: remote.Answer = future.result()
    except BaseException as error:
        raise ExecutorError(
            f"the cluster lost the trial: {type(error).__name__}: {error}", hint="look at the logs of its workers"
        ) from error
    return answer


def _other_version(address: str, version: str) -> ExecutorError:
    return ExecutorError(
        f"the worker {address} has arboretum {version}, and this is {arboretum.__version__}",
        hint="install the same version on both sides",
    )


@contextlib.contextmanager
def open_dask(name: str, repository: Repository, *, jobs: int | None = None) -> Iterator[DaskExecutor]:
    """An executor by its name on the command line.

    Args:
        name: ``dask://HOST:PORT`` or ``tls://HOST:PORT`` for a cluster that is there; ``dask-local:N`` for N workers on
            this machine, for trying it out.
        repository: What the trials stand on.
        jobs: How many trials at once at most.

    Raises:
        ExecutorError: The scheduler does not answer, or the workers do not fit.
    """
    from distributed import Client, LocalCluster

    with contextlib.ExitStack() as stack:
        if name.startswith("dask-local:"):
            count = name.partition(":")[2]
            if not count.isdigit() or not 1 <= int(count) <= 256:
                raise ExecutorError(f"{name!r} is not dask-local:N with N from 1 to 256")
            cluster = LocalCluster(  # type: ignore[no-untyped-call]
                n_workers=int(count), threads_per_worker=1, dashboard_address=None, silence_logs=40
            )
            address = stack.enter_context(cluster)
        else:
            address = name.replace("dask://", "tcp://", 1)
        try:
            client = stack.enter_context(Client(address, timeout=_CONNECT_SECONDS, set_as_default=False))  # type: ignore[no-untyped-call]
        except (OSError, TimeoutError) as error:
            raise ExecutorError(f"no scheduler answers at {address}: {error}", hint="check the address") from error
        yield DaskExecutor(client, repository, jobs)
