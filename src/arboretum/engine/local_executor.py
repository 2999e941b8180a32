"""Trials on this machine: real processes in a pool of worktrees."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Final, Self

from attrs import define, field

from arboretum.engine.executor import TrialStart
from arboretum.engine.journal import runs_folder
from arboretum.engine.model import Trial, TrialRequest
from arboretum.engine.pool import Lease, WorktreePool
from arboretum.engine.slots import Want
from arboretum.engine.threads import Threads
from arboretum.engine.trial import TrialInSlot, TrialPlace, remove_path, setup_digest
from arboretum.errors import ExecutorError
from arboretum.events import Observers
from arboretum.process.model import OutputLine

if TYPE_CHECKING:
    from arboretum.repository import Repository

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
    _threads: Threads = field(init=False, repr=False)
    _running: set[asyncio.Task[object]] = field(factory=set, init=False, repr=False)
    _turns: asyncio.Semaphore = field(init=False, repr=False)
    _closed: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self._threads = Threads(self.jobs + 1, "trial")
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
            output_root=runs_folder(repository.state_dir),
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
                setup = await self._threads(lambda: self._setup_digest(request)) if request.setup else ""
                lease = await self._acquire(request, setup)
                try:
                    trial = TrialInSlot(request, lease, self.pool, self._place(request), setup, self._threads)
                    return await trial.carry_out(on_started=on_started, on_output=on_output)
                finally:
                    await self._threads(lambda: self.pool.release(lease))
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
        self._threads.close()

    async def _acquire(self, request: TrialRequest, setup: str) -> Lease:
        want = Want(commit=request.commit, setup=setup)
        return await self._threads.acquire(
            lambda: self.pool.try_acquire(want, run=request.run, fresh=request.fresh),
            lambda lease: self.pool.release(lease, untouched=True),
        )

    def _setup_digest(self, request: TrialRequest) -> str:
        return setup_digest(request, self.pool.repository.backend)

    def _place(self, request: TrialRequest) -> TrialPlace:
        folder = None
        if self.output_root is not None:
            folder = os.path.join(self.output_root, request.run, "outputs", f"{request.hypothesis}.{request.attempt}")
            remove_path(folder)
        return TrialPlace(include_from=self.include_from, output_dir=folder, setup_timeout=self.setup_timeout)
