"""`AsyncTestExecutor` and its blocking face `TestExecutor`: one test command in many worktrees at once."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from typing import Final

from attrs import define, field

from arboretum.engine.evidence import read_evidence
from arboretum.engine.model import CommandSpec, Trial, TrialRequest
from arboretum.engine.trial import tail_of
from arboretum.errors import InvalidValueError
from arboretum.process.model import CommandRequest, OutputLine
from arboretum.values import Oid
from arboretum.worktree import Worktree

_GRACE: Final = 5.0


@define(eq=False, kw_only=True)
class AsyncTestExecutor:
    """Runs test commands in worktrees that the caller has made (`arboretum.engine.orchestrator.WorktreeOrchestrator`).

    Worktrees that come and go with the trial, from the pool, are what `arboretum.engine.executor.Executor` is about.

    Args:
        max_parallel: How many commands at once; None for one for each processor.
        timeout: Seconds for a command; None for never.
        grace: Seconds between SIGTERM and SIGKILL.
        env: Variables to set for every command.
    """

    __test__ = False  # pytest, this is no test class

    max_parallel: int | None = None
    timeout: float | None = None
    grace: float = _GRACE
    env: Mapping[str, str] = field(factory=dict)

    def __attrs_post_init__(self) -> None:
        if self.max_parallel is not None and self.max_parallel < 1:
            raise InvalidValueError(f"max_parallel must be 1 or more, not {self.max_parallel}")

    async def execute_single_async(
        self,
        worktree: Worktree,
        command: str | Sequence[str],
        *,
        name: str = "test",
        on_output: OutputLine | None = None,
    ) -> Trial:
        """Run `command` in `worktree`.

        Args:
            worktree: Where.
            command: A text is split as a shell would split it; no shell runs.
            name: What the trial is called.
            on_output: Told of each line of output.

        Returns:
            The trial; its outcome tells what the command did, nothing raises for it.

        Raises:
            InvalidValueError: The command is empty or cannot be split.
        """
        request = CommandRequest(argv=command, cwd=worktree.path, env=self.env, timeout=self.timeout, grace=self.grace)
        head = await asyncio.to_thread(lambda: worktree.head)
        started = time.time()
        result = await worktree.repository.runner.run_async(request, on_line=on_output)
        asked = TrialRequest(
            run="", hypothesis=name, attempt=1, commit=head.oid or Oid.null(), command=CommandSpec(request.argv)
        )
        reading = read_evidence(asked, result)
        return Trial(
            hypothesis=name,
            attempt=1,
            outcome=reading.outcome,
            exit_code=result.exit_code,
            duration=result.duration,
            slot=worktree.path,
            commit=head.oid,
            started=started,
            message=reading.message,
            output_tail=tail_of(result),
            leaked=result.leaked,
        )

    async def execute_parallel_async(
        self, worktrees: Mapping[str, Worktree], command: str | Sequence[str] | Mapping[str, str | Sequence[str]]
    ) -> dict[str, Trial]:
        """Run a command in each of several worktrees, at most `max_parallel` at once.

        Args:
            worktrees: Where, by name.
            command: One for all, or one for each name.

        Returns:
            The trials by name, in the order of `worktrees`. When the awaiting task is cancelled all commands are
            stopped before this returns.

        Raises:
            InvalidValueError: A command is missing or cannot be meant.
        """
        commands = dict(command) if isinstance(command, Mapping) else dict.fromkeys(worktrees, command)
        if missing := [name for name in worktrees if name not in commands]:
            raise InvalidValueError(f"there is no command for {', '.join(missing)}")
        turns = asyncio.Semaphore(self.max_parallel or os.cpu_count() or 1)

        async def one(name: str) -> Trial:
            async with turns:
                return await self.execute_single_async(worktrees[name], commands[name], name=name)

        async with asyncio.TaskGroup() as group:
            tasks = {name: group.create_task(one(name)) for name in worktrees}
        return {name: task.result() for name, task in tasks.items()}


@define(eq=False, kw_only=True)
class TestExecutor(AsyncTestExecutor):
    """The blocking face of `AsyncTestExecutor`; not for use inside a running event loop."""

    __test__ = False

    def execute_single(self, worktree: Worktree, command: str | Sequence[str], *, name: str = "test") -> Trial:
        """Run `command` in `worktree` and wait; see `execute_single_async`."""
        return asyncio.run(self.execute_single_async(worktree, command, name=name))

    def execute_parallel(
        self, worktrees: Mapping[str, Worktree], command: str | Sequence[str] | Mapping[str, str | Sequence[str]]
    ) -> dict[str, Trial]:
        """Run a command in each of several worktrees and wait for all; see `execute_parallel_async`."""
        return asyncio.run(self.execute_parallel_async(worktrees, command))
