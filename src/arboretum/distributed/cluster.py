"""The workers of a Dask cluster as their client sees them: who is there, what they have, and how orders get to them."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import logging
import os
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Final

from attrs import define, evolve, field

import arboretum
from arboretum.distributed import worker as remote
from arboretum.distributed.listeners import Listener, Switchboard, switchboard
from arboretum.distributed.mirror import make_pack
from arboretum.distributed.orders import Answer, Needs, Order, size_text
from arboretum.engine.needs import MEMORY
from arboretum.engine.threads import Threads
from arboretum.errors import EngineError, ExecutorError, GitOperationError
from arboretum.repository import Repository
from arboretum.values import Oid

_log = logging.getLogger(__name__)
#: Seconds for which a stopped order is waited for on its worker, over its own grace period.
_STOP_SECONDS: Final = 15.0
#: Seconds for which what the scheduler said of its workers is taken as true.
_NEWS_SECONDS: Final = 1.0
#: Seconds between two looks whether a worker is still there that can carry out what waits.
_LOOK_SECONDS: Final = 5.0
#: Seconds between two looks for a scheduler or a worker that is to come.
_PAUSE_SECONDS: Final = 0.2
#: How often a lost worker's order is given to another one.
_RETRIES: Final = 3
#: How often one order is sent to workers that turn out not to be fit, or are lost.
_SENDINGS: Final = 4


class _TryAgainError(EngineError):
    """It was not the order's fault: a disk is full, the scheduler was restarted, a worker was shut down."""


@define(eq=False)
class Cluster:
    """Takes orders to workers and brings answers back.

    The repository travels to a host once, then by what it lacks: a worker answers that it lacks a commit, with the
    tips it has, and gets a thin pack. An order is safe to repeat, so a lost worker's orders are given to another by
    Dask itself.

    Args:
        client: A client of the cluster (``asynchronous=False``).
        repository: Whose commits are sent; it is only read.
        patience: Seconds to wait for a worker when all that can carry out an order have gone.

    Raises:
        ExecutorError: The cluster has no worker, or one with another arboretum.
    """

    client: Any  # a `distributed.Client`, whose methods are not annotated
    repository: Repository
    patience: float = 60.0
    sent_bytes: int = field(default=0, init=False)
    _id: str = field(init=False)
    _board: Switchboard = field(init=False, repr=False)
    _met: set[Needs] = field(factory=set, init=False, repr=False)
    _unfit: set[str] = field(factory=set, init=False, repr=False)
    _sending: dict[str, asyncio.Lock] = field(factory=dict, init=False, repr=False)
    _workers: dict[str, Any] = field(factory=dict, init=False, repr=False)
    _asked: float = field(default=0.0, init=False)
    in_thread: Threads = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        digest = hashlib.sha256(os.fsencode(os.path.realpath(self.repository.common_dir))).hexdigest()
        self._id = f"{os.uname().nodename}-{digest[:16]}"
        self._ask_who()
        self.in_thread = Threads(max(8, self.threads + 4), "dask-order")
        self._check_versions()
        self._board = switchboard(self.client)

    # --- who is there -----------------------------------------------------------------------------------------

    @property
    def threads(self) -> int:
        """How many orders the workers can carry out at once, as many as there were a moment ago."""
        self._refresh()
        return sum(int(info["nthreads"]) for info in self._workers.values())

    def _refresh(self) -> None:
        """Ask the scheduler who is there, if the last answer is old; the new one comes later."""
        if time.monotonic() - self._asked > _NEWS_SECONDS:
            self._asked = time.monotonic()
            with contextlib.suppress(RuntimeError):  # closed
                self.in_thread.begin(self._ask_who)

    def _ask_who(self) -> None:
        self._asked = time.monotonic()
        try:
            info = self.client.scheduler_info(n_workers=-1)
        except TypeError:  # a Dask that has no such argument tells of all workers
            info = self.client.scheduler_info()
        self._workers = info.get("workers", {})  # nothing is known once the scheduler is gone

    def _able(self, needs: Needs) -> list[str]:
        """The addresses of the workers that can carry out an order with `needs`."""
        return [
            address
            for address, info in self._workers.items()
            if address not in self._unfit and needs.met_by(info.get("resources") or {})
        ]

    async def _somebody(self, needs: Needs) -> None:
        """Wait until there is a worker for an order; not at all for one of a kind that was never there.

        Raises:
            ExecutorError: No worker has what it needs.
        """
        deadline = time.monotonic() + self.patience
        while not self._able(needs):
            await self._connected()
            await self.in_thread(self._ask_who)
            is_vain = bool(self._workers) and (needs not in self._met or self._unfit >= self._workers.keys())
            if not self._able(needs) and (is_vain or time.monotonic() > deadline):
                raise self._nobody(needs)
            await asyncio.sleep(0 if self._able(needs) else _PAUSE_SECONDS)
        self._met.add(needs)

    def check(self, needs: Needs) -> None:
        """Check that there is a worker for an order now.

        Raises:
            ExecutorError: No worker has what it needs.
        """
        self._ask_who()
        if not self._able(needs):
            raise self._nobody(needs)

    def _nobody(self, needs: Needs) -> ExecutorError:
        """The error for an order that no worker can carry out."""
        if not self._workers:
            return ExecutorError("the cluster has no worker", hint="start one: arboretum worker --scheduler ADDRESS")
        if self._unfit >= self._workers.keys():
            return ExecutorError("no worker is fit to carry out trials", hint="look at their disks")
        resources = [info.get("resources") or {} for info in self._workers.values()]
        labels = sorted({name for each in resources for name in each if name != MEMORY})
        memory = max((each.get(MEMORY, 0.0) for each in resources), default=0.0)
        return ExecutorError(
            f"no worker has {needs}; of all workers ({len(resources)}) some have "
            f"{size_text(memory)} of memory and the labels: {', '.join(labels) or 'none'}",
            hint="start one that has: arboretum worker --scheduler ADDRESS --label NAME --memory SIZE",
        )

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

    # --- orders -----------------------------------------------------------------------------------------------

    def order(self, request: Any, includes: Mapping[str, bytes]) -> Order:
        """An order for `request`."""
        return Order(
            key=_new_key(),
            topic=self._board.topic,
            repository=self._id,
            sha256=self.repository.backend.sha256,
            version=arboretum.__version__,
            request=request,
            includes=includes,
        )

    async def deliver(
        self, function: Callable[[Order], Answer], order: Order, needs: Needs, listener: Listener
    ) -> Answer:
        """Send an order, and send what its worker lacks, until one has carried it out.

        When the awaiting task is cancelled, everything of the order is stopped first.

        Args:
            function: What is called on the worker (in `arboretum.distributed.worker`).
            order: The order.
            needs: What the worker must have.
            listener: Who is told of start and output.

        Raises:
            EngineError: It did not come to an end; it may be tried again.
            ExecutorError: No worker can carry it out, or the cluster is lost.
        """
        problem = f"the commit {order.request.commit.short} did not arrive on any worker"
        # Each worker may lack the commit once; Dask could be told which worker has it by now, but then waits for that
        # one alone when it is lost.
        for _ in range(_SENDINGS + len(self._workers)):
            order = evolve(order, key=_new_key())
            self._board.listeners[order.key] = listener
            try:
                answer = self._checked(await self._submit(function, order, needs))
                if not answer.lacks:
                    await listener.last_line()
                    return answer
                await self._send_pack(order, answer)
            except _TryAgainError as error:
                _log.warning("%s", error)
                problem = error.message
            finally:
                self._board.listeners.pop(order.key, None)
        raise EngineError(problem, hint="look at the logs and the disks of the workers")

    async def _send_pack(self, order: Order, lacking: Answer) -> None:
        """Send to the host of `lacking` what it lacks, once for all orders that find it lacking."""
        async with self._sending.setdefault(lacking.place, asyncio.Lock()):
            now = await self._look(lacking.host, order)
            if now is None or not now.lacks:
                return
            tips = await self.in_thread(lambda: self._worth_sending(order.request.commit))
            pack = await self.in_thread(functools.partial(make_pack, self.repository, tips, now.tips))
            self.sent_bytes += len(pack)
            await self._look(lacking.host, evolve(order, pack=pack, tips=tips))

    def _worth_sending(self, commit: Oid) -> tuple[Oid, ...]:
        """The commit, or HEAD when it holds the commit: the other trials' commits are mostly below it, too."""
        try:
            head = self.repository.resolve("HEAD")
            return (head,) if self.repository.is_ancestor(commit, head) else (commit,)
        except GitOperationError:  # no commit on the branch, or none of that id anywhere
            return (commit,)

    async def _look(self, host: str, order: Order) -> Answer | None:
        """What the worker `host` has; None when it is gone."""
        try:
            found = await self.in_thread(lambda: self.client.run(remote.look, order, workers=[host]))
        except Exception as error:
            _log.warning("the worker %s does not answer: %s", host, error)
            return None
        return self._checked(found[host]) if host in found else None

    def _checked(self, answer: Answer) -> Answer:
        if answer.version != arboretum.__version__ or answer.error == "version":
            raise _other_version(answer.host, answer.version)
        if answer.stopped:
            raise _TryAgainError(f"it was stopped on {answer.host}", hint="was the worker shut down?")
        if answer.error:
            self._unfit.add(answer.host)
            raise _TryAgainError(f"it could not be carried out: {answer.error}")
        return answer

    async def _submit(self, function: Callable[[Order], Answer], order: Order, needs: Needs) -> Answer:
        loop = asyncio.get_running_loop()
        await self._connected()
        await self._somebody(needs)
        options: dict[str, Any] = {"key": order.key, "pure": False, "retries": _RETRIES}
        if needs.resources:
            options["resources"] = needs.resources
        allowed = self._able(needs)
        if self._unfit:
            options["workers"] = allowed
        sent: list[Any] = []  # the future, however this is left: a cancellation does not undo what was sent
        try:
            await self.in_thread(lambda: sent.append(self.client.submit(function, order, **options)))
            done = asyncio.Event()
            sent[0].add_done_callback(lambda _: loop.call_soon_threadsafe(done.set))
            await self._wait(done, needs, allowed if self._unfit else None)
            return await self.in_thread(lambda: _result(sent[0]))
        except BaseException:
            for future in sent:
                await self.in_thread(functools.partial(self._stop, order, future))
            raise
        finally:
            for future in sent:
                future.release()

    async def _connected(self) -> None:
        """Wait while the client looks for its scheduler, which may be starting again; it gives up by itself.

        Raises:
            ExecutorError: It has given up.
        """
        while self.client.status == "connecting":
            await asyncio.sleep(_PAUSE_SECONDS)
            self._board.is_connected = False
        if self.client.status not in {"running", "newly-created"}:
            raise ExecutorError("the connection to the cluster is lost", hint="is its scheduler running?")
        if not self._board.is_connected:  # the new scheduler knows of nobody who listens
            self._board.connect(self.client)

    async def _wait(self, done: asyncio.Event, needs: Needs, allowed: Collection[str] | None) -> None:
        """Wait for `done`, but not for ever when nobody is there any more to bring it about.

        Args:
            done: What is waited for.
            needs: What a worker must have for it.
            allowed: The workers that it may run on; None for all.
        """
        alone_since = None
        while not done.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS):
                    await done.wait()
            self._refresh()
            able = self._able(needs)
            if able:
                alone_since = None
                if allowed is not None and not done.is_set() and not set(allowed) & set(able):
                    raise _TryAgainError("all workers that it was meant for are lost")
            elif alone_since is None:
                alone_since = time.monotonic()
            elif time.monotonic() - alone_since > self.patience and not done.is_set():
                raise self._nobody(needs)

    def _stop(self, order: Order, future: Any) -> None:
        """Stop an order wherever it is, and wait until nothing of it is left there."""
        if self.client.status != "running":
            return  # a cluster that is gone runs nothing of ours any more: its workers see to that
        deadline = time.monotonic() + order.request.grace + _STOP_SECONDS
        with contextlib.suppress(Exception):
            ask = functools.partial(self.client.run, remote.stop, order.key, on_error="ignore")
            while any(ask().values()) and time.monotonic() < deadline:
                time.sleep(0.05)
        with contextlib.suppress(Exception):
            future.cancel(force=True)

    def close(self) -> None:
        """Give back what is held here; nothing may be on its way any more."""
        self.in_thread.close()


def _new_key() -> str:
    return f"arboretum-{uuid.uuid4().hex}"  # Dask takes what is before the last dash for the kind of the task


def _result(future: Any) -> Answer:
    try:
        answer: Answer = future.result()
    except BaseException as error:
        # Of all reasons only this one is nobody's will and nobody's fault (a trial may bring worker after worker down).
        kind = _TryAgainError if getattr(error, "reason", "") == "scheduler-connection-lost" else EngineError
        raise kind(
            f"the cluster lost it: {type(error).__name__}: {error}", hint="look at the logs of its workers"
        ) from error
    return answer


def _other_version(address: str, version: str) -> ExecutorError:
    return ExecutorError(
        f"the worker {address} has arboretum {version}, and this is {arboretum.__version__}",
        hint="install the same version on both sides",
    )


def read_includes(repository: Repository, paths: Iterable[str]) -> dict[str, bytes]:
    """The content of the files (and of all files in the folders) `paths` of the user's worktree, by path."""
    files: dict[str, bytes] = {}
    root = repository.path
    for included in () if repository.is_bare else paths:
        top = os.path.join(root, included)
        inside = [os.path.join(f, n) for f, _, names in os.walk(top) for n in names] if os.path.isdir(top) else [top]
        for path in inside:
            if os.path.isfile(path):
                with open(path, "rb") as file:
                    files[os.path.relpath(path, root)] = file.read()
    return files
