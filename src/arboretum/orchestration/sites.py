"""Where the commands of tasks run: in the task's own worktree here, or on another machine (`arboretum.distributed`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from attrs import define, frozen

from arboretum.engine.leases import LEASE_VARIABLE
from arboretum.engine.model import CommandSpec
from arboretum.engine.pool import Lease
from arboretum.orchestration.tasks import fill
from arboretum.process.model import CommandRequest, CommandResult, CommandRunner, OutputLine
from arboretum.values import Oid


@frozen(kw_only=True)
class Work:
    """One command of an attempt at a task, with all that another machine needs to run it.

    It is picklable and holds no handle.

    Args:
        run: The id of the run.
        task: The id of the task.
        attempt: 1 for the first attempt.
        commit: The commit that the worktree stands at.
        command: The command, with its placeholders.
        values: What the placeholders stand for, all but ``worktree``.
        env: Variables to set.
        timeout: Seconds after which it is stopped; None for never.
        grace: Seconds between SIGTERM and SIGKILL.
        memory: Bytes that the machine must have free for it.
        labels: What else the machine must have.
    """

    run: str
    task: str
    attempt: int
    commit: Oid
    command: CommandSpec
    values: Mapping[str, str]
    env: Mapping[str, str]
    timeout: float | None = None
    grace: float = 5.0
    memory: int = 0
    labels: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """The name of the attempt within its run."""
        return f"{self.task}#{self.attempt}"

    def request(self, lease: Lease, output_dir: str | None) -> CommandRequest:
        """The command as it is run in the worktree of `lease`."""
        command = fill(self.command, {**self.values, "worktree": lease.path})
        return CommandRequest(
            argv=command.argv,
            shell=command.shell,
            cwd=lease.path,
            env={
                "PWD": lease.path,
                **self.env,
                "ARBORETUM_RUN": self.run,
                "ARBORETUM_TASK": self.task,
                "ARBORETUM_ATTEMPT": str(self.attempt),
                "ARBORETUM_SLOT": lease.slot.name,
                LEASE_VARIABLE: lease.id,
            },
            timeout=self.timeout,
            grace=self.grace,
            output_dir=output_dir,
        )


class Site(Protocol):
    """Runs the commands of tasks.

    - What a command does is told by its result, never by an exception.
    - When `run` has returned, the worktree of `lease` holds what the command has done: its commits, and its changes
      that are not committed. What git ignores may be missing where the command has run elsewhere.
    - Work is safe to repeat: only the last time counts.
    """

    async def run(
        self, work: Work, lease: Lease, *, output_dir: str | None = None, on_line: OutputLine | None = None
    ) -> CommandResult:
        """Run the command of `work`.

        When the awaiting task is cancelled, everything of it is stopped before the cancellation goes on.

        Args:
            work: The command.
            lease: The task's worktree: on its branch, at `work.commit`, clean.
            output_dir: The folder for the whole output; None for nowhere.
            on_line: Called with each line of output, from another thread.

        Raises:
            EngineError: Something else than the command failed.
        """


@define(eq=False)
class LocalSite:
    """Runs commands where the task's worktree is.

    Args:
        runner: Runs them.
    """

    runner: CommandRunner

    async def run(
        self, work: Work, lease: Lease, *, output_dir: str | None = None, on_line: OutputLine | None = None
    ) -> CommandResult:
        """Run the command of `work`; see `Site.run`."""
        return await self.runner.run_async(work.request(lease, output_dir), on_line=on_line)
