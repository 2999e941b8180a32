"""Trials on this machine: real processes in a pool of worktrees."""

from __future__ import annotations

import asyncio
import contextvars
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, Self, TypeVar

from attrs import define, field

from arboretum.engine.executor import TrialStart
from arboretum.engine.model import Trial, TrialRequest
from arboretum.engine.pool import Lease, WorktreePool
from arboretum.engine.slots import Want
from arboretum.engine.trial import TrialInSlot, TrialPlace, remove_path, setup_digest
from arboretum.errors import ExecutorError
from arboretum.events import Observers
from arboretum.process.model import OutputLine

if TYPE_CHECKING:
    from arboretum.repository import Repository

_T = TypeVar("_T")

#: Seconds between two looks for a slot while other processes have them all: at first, and at most.
_FIRST_LOOK: Final = 0.005
_MAX_LOOK: Final = 0.1
_SETUP_TIMEOUT: Final = 3600.0


@define(eq=False)
class LocalExecutor:
    """Carries out trials in the slots of a pool; see `arboretum.engine.executor.Executor` for the contract.

    Args:
        pool: The slots.
        jobs: How many trials at once.
        output_root: Below it each trial's whole output is kept, as ``RUN/outputs/TRIAL/stdout``; None for nowhere.
        include_from: Where included files are copied from; None where there is no such folder.
        setup_timeout: Seconds for a setup; None for never.
    """

    pool: WorktreePool
    jobs: int
    output_root: str | None = None
    include_from: str | None = None
    setup_timeout: float | None = _SETUP_TIMEOUT
    _threads: ThreadPoolExecutor = field(init=False, repr=False)
    _running: set[asyncio.Task[object]] = field(factory=set, init=False, repr=False)
    _turns: asyncio.Semaphore = field(init=False, repr=False)
    _closed: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self._threads = ThreadPoolExecutor(max_workers=self.jobs + 1, thread_name_prefix="trial")
        self._turns = asyncio.Semaphore(self.jobs)

    @classmethod
    def open(
        cls,
        repository: Repository,
        *,
        jobs: int | None = None,
        max_bytes: int | None = None,
        observers: Observers | None = None,
        setup_timeout: float | None = _SETUP_TIMEOUT,
    ) -> Self:
        """An executor for `repository` with the pool of its own, which all its processes share.

        Args:
            repository: Whose commits are tried; it is never changed.
            jobs: How many trials at once; None for one for each processor.
            max_bytes: How much disk space the slots may take; None for no limit.
            observers: Told of every change of a slot.
            setup_timeout: Seconds for a setup; None for never.

        Raises:
            PoolError: The pool cannot be made.
        """
        jobs = jobs or os.cpu_count() or 1
        pool = WorktreePool.open(repository, size=jobs, max_bytes=max_bytes, observers=observers)
        return cls(
            pool,
            jobs,
            output_root=os.path.join(repository.state_dir, "runs"),
            include_from=None if repository.is_bare else repository.path,
            setup_timeout=setup_timeout,
        )

    @property
    def capacity(self) -> int:
        """How many trials it carries out at once."""
        return self.jobs

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
            async with self._turns:
                setup = await self._in_thread(lambda: self._setup_digest(request)) if request.setup else ""
                lease = await self._acquire(request, setup)
                try:
                    trial = TrialInSlot(request, lease, self.pool, self._place(request), setup, self._in_thread)
                    return await trial.carry_out(on_started=on_started, on_output=on_output)
                finally:
                    await self._in_thread(lambda: self.pool.release(lease))
        finally:
            self._running.discard(task)

    async def close(self) -> None:
        """Stop what runs and give all slots back; closing twice is allowed."""
        self._closed = True
        running = self._running - {asyncio.current_task()}
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)
        self._threads.shutdown(wait=True)

    async def _acquire(self, request: TrialRequest, setup: str) -> Lease:
        want = Want(commit=request.commit, setup=setup)
        pause = _FIRST_LOOK
        while True:
            lease = await self._in_thread(
                lambda: self.pool.try_acquire(want, run=request.run, fresh=request.fresh), undo=self._undo
            )
            if lease is not None:
                return lease
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, _MAX_LOOK)

    def _setup_digest(self, request: TrialRequest) -> str:
        return setup_digest(request, self.pool.repository.backend)

    def _undo(self, lease: Lease | None) -> None:
        if lease is not None:
            self.pool.release(lease, untouched=True)

    def _place(self, request: TrialRequest) -> TrialPlace:
        folder = None
        if self.output_root is not None:
            folder = os.path.join(self.output_root, request.run, "outputs", f"{request.hypothesis}.{request.attempt}")
            remove_path(folder)
        return TrialPlace(include_from=self.include_from, output_dir=folder, setup_timeout=self.setup_timeout)

    async def _in_thread(self, function: Callable[[], _T], *, undo: Callable[[_T], object] | None = None) -> _T:
        """Run `function` in a thread to its end; a cancellation waits for that, then undoes it and goes on."""
        future: Future[_T] = self._threads.submit(contextvars.copy_context().run, function)
        waiter = asyncio.wrap_future(future)
        try:
            return await asyncio.shield(waiter)
        except asyncio.CancelledError:
            while not waiter.done():
                try:
                    await asyncio.wait([waiter])
                except asyncio.CancelledError:
                    continue
            if waiter.exception() is None and undo is not None:
                undo(waiter.result())
            raise
