"""One task from its start to its end: a slot, attempts, and what is kept of one that did not make it."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from attrs import define

from arboretum.engine.events import RunEvent
from arboretum.engine.journal import run_folder
from arboretum.engine.pool import Lease
from arboretum.engine.threads import Threads
from arboretum.orchestration.attempt import Attempt, AttemptResult
from arboretum.orchestration.board import Board
from arboretum.orchestration.events import AttemptFailed, TaskEnded, TaskStarted
from arboretum.orchestration.sites import Site
from arboretum.orchestration.states import TaskState
from arboretum.orchestration.tasks import Task
from arboretum.orchestration.work import Committer
from arboretum.orchestration.workspaces import Workspaces
from arboretum.values import Oid

if TYPE_CHECKING:
    from arboretum.repository import Repository

_KEPT: Final = frozenset({TaskState.FAILED, TaskState.TIMED_OUT, TaskState.OUT_OF_SCOPE})


@define(eq=False)
class TaskRunner:
    """Carries out tasks, any number at once.

    Args:
        repository: The repository.
        site: Where the commands run.
        committer: Commits what tasks have done.
        board: The state of the run; only read.
        workspaces: Where slots come from and go to.
        threads: What blocks goes there.
        runs_dir: Where outputs are kept, below the folder of the run.
        tell: Writes an event to the journal, folds it and tells everybody.
        show: Tells everybody of a line of output, from another thread.
    """

    repository: Repository
    site: Site
    committer: Committer
    board: Board
    workspaces: Workspaces
    threads: Threads
    runs_dir: str
    tell: Callable[[RunEvent], None]
    show: Callable[[RunEvent], None]

    async def carry_out(self, task: Task, start: Oid) -> None:
        """Run the task on the commit `start`, with its retries, and tell how it ended.

        Raises:
            PoolError: There is no worktree to be had, or the disk is full.
        """
        number = self.board.records[task.id].attempts
        while True:
            number += 1
            result, path = await self._attempt(task, number, start)
            if not (result.may_be_retried and number <= task.retries):
                break
            self.tell(
                AttemptFailed(
                    run=self.board.run, task=task.id, attempt=number, message=result.message, duration=result.duration
                )
            )
        if result.state is TaskState.UNCHANGED:
            await self.threads(lambda: self.workspaces.drop(task.id, None))
        self.tell(
            TaskEnded(
                run=self.board.run,
                task=task.id,
                state=result.state,
                attempt=number,
                duration=result.duration,
                message=result.message,
                commit=result.commit,
                start=start,
                changed=result.changed,
                files=result.files,
                path=path,
                output_tail=result.output_tail if path else "",
            )
        )

    async def _attempt(self, task: Task, number: int, start: Oid) -> tuple[AttemptResult, str]:
        """One attempt, and where its worktree is kept (empty when it went back to the pool)."""
        lease, path = await self.threads.acquire(lambda: self.workspaces.acquire(start), self.workspaces.release), ""
        try:
            await self.threads(lambda: self.workspaces.attach(lease, task.id, start))
            self.tell(
                TaskStarted(
                    run=self.board.run, task=task.id, attempt=number, slot=lease.slot.name, path=lease.path,
                    start=start,
                )
            )  # fmt: skip
            result = await self._in_slot(task, number, lease, start)
            is_last = number > task.retries or not result.may_be_retried
            if is_last and result.state in _KEPT:
                path = await self.threads(lambda: self.workspaces.keep(lease, task.id))
        finally:
            if not path:
                await self.threads(lambda: self.workspaces.release(lease))
        return result, path

    async def _in_slot(self, task: Task, number: int, lease: Lease, start: Oid) -> AttemptResult:
        folder = os.path.join(run_folder(self.runs_dir, self.board.run), "outputs", f"{task.id}.{number}")
        return await Attempt(
            task=task,
            plan=self.board.plan,
            number=number,
            lease=lease,
            start=start,
            run=self.board.run,
            repository=self.repository,
            site=self.site,
            committer=self.committer,
            threads=self.threads,
            output_dir=folder,
            tell=self.show,
        ).carry_out()
