"""One attempt at a task in one slot: run the command, commit what it changed, check the scope, verify."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from attrs import define, frozen

from arboretum.engine.model import CommandSpec
from arboretum.engine.pool import Lease
from arboretum.engine.threads import Threads
from arboretum.engine.trial import tail_of
from arboretum.errors import GitOperationError
from arboretum.orchestration.board import branch_of
from arboretum.orchestration.events import TaskOutput
from arboretum.orchestration.merge import work_message
from arboretum.orchestration.sites import LocalSite, Site, Work
from arboretum.orchestration.states import TaskState
from arboretum.orchestration.tasks import Task, TaskPlan
from arboretum.orchestration.work import Committer
from arboretum.process.model import CommandResult, OutputLine, StreamName
from arboretum.values import Oid, RefName

if TYPE_CHECKING:
    from arboretum.engine.events import RunEvent
    from arboretum.repository import Repository


@frozen(kw_only=True)
class AttemptResult:
    """How one attempt ended; the fields are those of `arboretum.orchestration.events.TaskEnded`."""

    state: TaskState
    message: str = ""
    duration: float = 0.0
    commit: Oid | None = None
    changed: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    output_tail: str = ""

    @property
    def may_be_retried(self) -> bool:
        """Whether another attempt can have another end."""
        return self.state in {TaskState.FAILED, TaskState.TIMED_OUT}


@define(eq=False)
class Attempt:
    """Carries out one attempt.

    Args:
        task: The task.
        plan: Its plan.
        number: 1 for the first attempt.
        lease: The slot; it is on the task's branch, at `start`, and clean.
        start: The commit that the work starts from.
        run: The id of the run.
        repository: The repository.
        site: Where the command runs.
        committer: Commits what the command has done.
        threads: What blocks goes there.
        output_dir: The folder for the whole output.
        tell: Told of each line of output, from another thread.
    """

    task: Task
    plan: TaskPlan
    number: int
    lease: Lease
    start: Oid
    run: str
    repository: Repository
    site: Site
    committer: Committer
    threads: Threads
    output_dir: str
    tell: Callable[[RunEvent], None]

    async def carry_out(self) -> AttemptResult:
        """Run the command, commit, check and verify.

        Raises:
            PoolError: Something else than the task failed.
        """
        begun = time.monotonic()
        work = self._work(self.task.command, self.task.timeout)
        result = await self.site.run(work, self.lease, output_dir=self.output_dir, on_line=self._listener())
        if not result.success:
            return self._failed("its command", result, begun)
        try:
            commit, changed = await self.threads(self._commit)
        except (GitOperationError, OSError) as error:
            return AttemptResult(
                state=TaskState.FAILED, message=f"its work cannot be committed: {getattr(error, 'message', error)}",
                duration=time.monotonic() - begun, output_tail=tail_of(result),
            )  # fmt: skip
        outside = self.task.allowed.outside(changed)
        if not outside and changed and self.task.verify is not None:
            work = self._work(self.task.verify, self.plan.verify_timeout)
            checked = await LocalSite(self.repository.runner).run(work, self.lease, on_line=self._listener())
            if not checked.success:
                return self._failed("its verify command", checked, begun, commit=commit, changed=changed)
        return self._ended(result, begun, commit, changed, outside)

    def _ended(
        self, result: CommandResult, begun: float, commit: Oid, changed: tuple[str, ...], outside: tuple[str, ...]
    ) -> AttemptResult:
        message, state = "", TaskState.FINISHED if changed else TaskState.UNCHANGED
        if outside:
            state = TaskState.OUT_OF_SCOPE
            named = ", ".join(outside[:5]) + (f" and {len(outside) - 5} more" if len(outside) > 5 else "")
            message = f"it changed {named}, outside its scope ({self.task.allowed})"
        return AttemptResult(
            state=state,
            message=message,
            duration=time.monotonic() - begun,
            commit=commit,
            changed=changed,
            files=outside,
            output_tail=tail_of(result),
        )

    def _failed(
        self,
        what: str,
        result: CommandResult,
        begun: float,
        *,
        commit: Oid | None = None,
        changed: tuple[str, ...] = (),
    ) -> AttemptResult:
        limit = f" after {self.task.timeout:g} s" if self.task.timeout and commit is None else ""
        why = f"timed out{limit}" if result.timed_out else result.error_message or f"exit code {result.exit_code}"
        return AttemptResult(
            state=TaskState.TIMED_OUT if result.timed_out else TaskState.FAILED,
            message=f"{what} `{result.command}` failed: {why}" if not result.timed_out else f"{what} {why}",
            duration=time.monotonic() - begun,
            commit=commit,
            changed=changed,
            output_tail=tail_of(result),
        )

    def _commit(self) -> tuple[Oid, tuple[str, ...]]:
        branch = RefName.branch(branch_of(self.run, self.task.id))
        message = work_message(self.task, self.run, self.number)
        return self.committer.record(self.lease.path, branch, self.start, message)

    # --- the command ---

    def _work(self, command: CommandSpec, timeout: float | None) -> Work:
        return Work(
            run=self.run,
            task=self.task.id,
            attempt=self.number,
            commit=self.start,
            command=command,
            values=self._values(),
            env=self.task.env,
            timeout=timeout,
            grace=self.plan.grace,
            memory=self.task.memory,
            labels=self.task.labels,
        )

    def _listener(self) -> OutputLine:
        def listen(stream: StreamName, line: str) -> None:
            self.tell(TaskOutput(run=self.run, task=self.task.id, attempt=self.number, stream=stream, line=line))

        return listen

    def _values(self) -> Mapping[str, str]:
        task = self.task
        return {
            "id": task.id,
            "prompt": task.prompt or task.description,
            "description": task.description,
            "branch": branch_of(self.run, task.id),
            "base": self.start,
            "scope": ", ".join(task.allowed.texts),
            "attempt": str(self.number),
            "run": self.run,
            "root": os.fspath(self.repository.path),
        }
