"""Run the `verify` commands on combined trees, each tree and command once."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from attrs import define, field, frozen

from arboretum.engine.events import RunEvent
from arboretum.engine.leases import LEASE_VARIABLE
from arboretum.engine.model import CommandSpec
from arboretum.engine.pool import Lease
from arboretum.engine.threads import Threads
from arboretum.engine.trial import tail_of
from arboretum.orchestration.events import Verified
from arboretum.orchestration.merge import Integration
from arboretum.orchestration.tasks import TaskPlan
from arboretum.orchestration.workspaces import Workspaces
from arboretum.process.model import CommandRequest, CommandResult
from arboretum.values import Oid

if TYPE_CHECKING:
    from arboretum.repository import Repository


@frozen
class Outcome:
    """What the verify commands said of a tree."""

    passed: bool
    command: str = ""
    output_tail: str = ""


@define(eq=False)
class Verifier:
    """Verifies combined trees.

    Args:
        plan: Whose commands.
        integration: Knows which tasks a commit holds.
        workspaces: Where it is done.
        threads: What blocks goes there.
        tell: Told of each command that ended.
    """

    plan: TaskPlan
    repository: Repository
    integration: Integration
    workspaces: Workspaces
    threads: Threads
    tell: Callable[[RunEvent], None]
    _known: dict[tuple[Oid, CommandSpec], Outcome] = field(factory=dict, init=False)

    async def __call__(self, commit: Oid, *, tasks: tuple[str, ...] | None = None) -> Outcome:
        """Whether all verify commands pass on `commit`: the plan's, and those of the tasks whose work it holds.

        Args:
            commit: The combined tree.
            tasks: The tasks that it holds; None to read them off its history.
        """
        if tasks is None:
            tasks = await self.threads(lambda: self.integration.tasks_in(commit))
        commands = self._commands(tasks)
        if not commands:
            return Outcome(passed=True)
        tree = await self.threads(lambda: self.integration.tree_of(commit))
        lease: Lease | None = None
        try:
            for command in commands:
                if (tree, command) not in self._known:
                    lease = lease or await self.threads.acquire(
                        lambda: self.workspaces.acquire(commit), self.workspaces.release
                    )
                    self._known[tree, command] = await self._run(command, commit, tasks, lease)
                if not self._known[tree, command].passed:
                    return self._known[tree, command]
        finally:
            if lease is not None:
                done = lease
                await self.threads(lambda: self.workspaces.release(done))
        return Outcome(passed=True)

    def note_passed(self, tree: Oid, command: CommandSpec) -> None:
        """Take note that `command` has passed on `tree` (in the task's own worktree)."""
        self._known[tree, command] = Outcome(passed=True)

    def _commands(self, tasks: tuple[str, ...]) -> list[CommandSpec]:
        by_id = self.plan.by_id
        wanted = [self.plan.verify, *(by_id[name].verify for name in tasks if name in by_id)]
        return list(dict.fromkeys(command for command in wanted if command is not None))

    async def _run(self, command: CommandSpec, commit: Oid, tasks: tuple[str, ...], lease: Lease) -> Outcome:
        begun = time.monotonic()
        result = await self.repository.runner.run_async(
            CommandRequest(
                argv=command.argv,
                shell=command.shell,
                cwd=lease.path,
                env=self._environment(lease),
                timeout=self.plan.verify_timeout,
                grace=self.plan.grace,
            )
        )
        self._tell(result, commit, tasks, time.monotonic() - begun)
        return Outcome(passed=result.success, command=result.command, output_tail=tail_of(result))

    def _environment(self, lease: Lease) -> Mapping[str, str | None]:
        return {"PWD": lease.path, "ARBORETUM_RUN": self.workspaces.run, LEASE_VARIABLE: lease.id}

    def _tell(self, result: CommandResult, commit: Oid, tasks: tuple[str, ...], duration: float) -> None:
        self.tell(
            Verified(
                run=self.workspaces.run,
                commit=commit,
                tasks=tasks,
                command=result.command,
                passed=result.success,
                duration=duration,
            )
        )
