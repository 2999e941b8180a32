"""Takes finished work into the integration branch: merge in memory, verify, find the one at fault, move the ref."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from attrs import define

from arboretum.engine.events import RunEvent
from arboretum.engine.threads import Threads
from arboretum.errors import EngineError, RefChangedError
from arboretum.orchestration.board import Board
from arboretum.orchestration.events import IntegrationMoved, MergePlanned, TaskSetAside, TasksMerged
from arboretum.orchestration.merge import Integration, Refusal
from arboretum.orchestration.states import TaskState
from arboretum.orchestration.verification import Outcome, Verifier
from arboretum.orchestration.workspaces import Workspaces
from arboretum.values import Oid, RefName


async def first_failure(count: int, passes: Callable[[int], Awaitable[bool]]) -> int:
    """The smallest number from 1 to `count` for which `passes` says no, by halving.

    Args:
        count: The last number; it is known that it does not pass.
        passes: Asked for at most ``ceil(log2(count))`` numbers; 0 is known to pass.
    """
    good, bad = 0, count
    while bad - good > 1:
        middle = (good + bad) // 2
        if await passes(middle):
            good = middle
        else:
            bad = middle
    return bad


@define(eq=False)
class Integrator:
    """The only one that moves the integration branch.

    Args:
        board: What is known of the tasks.
        integration: Merges in memory.
        verify: Says whether a combined tree passes.
        workspaces: Where the worktrees of refused work are kept.
        threads: What blocks goes there.
        tell: Writes an event to the journal, folds it into the board and tells everybody.
    """

    board: Board
    integration: Integration
    verify: Verifier
    workspaces: Workspaces
    threads: Threads
    tell: Callable[[RunEvent], None]

    async def integrate(self, batch: Sequence[str]) -> None:
        """Merge what of `batch` merges and passes, and set aside the first that does not.

        What comes after the one at fault stays finished and is taken up with the next batch. Killed at any moment,
        the same batch can be integrated again.

        Raises:
            EngineError: The integration branch is gone or checked out, or what it holds already does not pass.
        """
        tip = await self.threads(self._where)
        if tip != self.board.tip:
            self.tell(IntegrationMoved(run=self.board.run, tip=tip))
        accepted, chain = await self._merge_all(batch)
        if not accepted:
            return
        outcome = await self.verify(chain[-1])
        if not outcome.passed:
            await self._check_ground(chain[0])
            bad = await first_failure(len(accepted), lambda i: self._passes(chain[i]))
            await self._set_aside_for_verify(accepted[bad - 1], chain[:bad], await self.verify(chain[bad]))
            accepted, chain = accepted[: bad - 1], chain[:bad]
        if accepted:
            await self._move(tuple(accepted), tuple(chain[1:]))

    async def _merge_all(self, batch: Sequence[str]) -> tuple[list[str], list[Oid]]:
        accepted: list[str] = []
        chain = [self.board.tip]
        for name in batch:
            task, tip = self.board.plan.by_id[name], chain[-1]
            merged = await self.threads(lambda: self.integration.merge(tip, task, self.board.records))  # noqa: B023 (awaited at once)
            if isinstance(merged, Refusal):
                await self._set_aside(name, merged)
            else:
                accepted.append(name)
                chain.append(merged)
        return accepted, chain

    async def _passes(self, commit: Oid) -> bool:
        return (await self.verify(commit)).passed

    async def _check_ground(self, commit: Oid) -> None:
        outcome = await self.verify(commit)
        if not outcome.passed:
            raise EngineError(
                f"`{outcome.command}` fails on {commit.short} before any of the work is added, so it can judge nothing"
                + "".join(f"\n  | {line}" for line in outcome.output_tail.strip().splitlines()[-3:]),
                hint="mend the base or the verify command, then go on with --resume",
            )

    async def _set_aside_for_verify(self, name: str, chain: Sequence[Oid], outcome: Outcome) -> None:
        """Set `name` aside, and find out whether it is at fault alone or together with which other task."""
        others = await self._partner(name, chain)
        with_whom = f"together with {others[0]}, " if others else ""
        tail = outcome.output_tail.strip().splitlines()[-1:]
        await self._set_aside(
            name,
            Refusal(
                state=TaskState.BREAKS_VERIFY,
                message=f"{with_whom}{name} makes `{outcome.command}` fail" + (f": {tail[0]}" if tail else ""),
                others=others,
            ),
        )

    async def _partner(self, name: str, chain: Sequence[Oid]) -> tuple[str, ...]:
        """The task with which `name` does not get along: the one whose merge is the first that it fails on."""
        record = self.board.records[name]
        assert record.start is not None
        start = record.start
        before = await self.threads(lambda: self.integration.chain(start, chain[0]))
        commits = [*before, *chain[1:]]
        if len(commits) == 1 or not await self._passes_on(name, commits[0]):
            return ()
        bad = await first_failure(len(commits) - 1, lambda i: self._passes_on(name, commits[i]))
        held = await self.threads(lambda: self.integration.tasks_in(commits[bad]))
        return held[-1:]

    async def _passes_on(self, name: str, commit: Oid) -> bool:
        task = self.board.plan.by_id[name]
        merged = await self.threads(lambda: self.integration.merge(commit, task, self.board.records))
        return not isinstance(merged, Refusal) and (await self.verify(merged)).passed

    async def _set_aside(self, name: str, refusal: Refusal) -> None:
        path = await self.threads(lambda: self.workspaces.restore(name))
        self.tell(
            TaskSetAside(
                run=self.board.run,
                task=name,
                state=refusal.state,
                message=refusal.message,
                others=refusal.others,
                files=refusal.files,
                path=path,
            )
        )

    # --- the ref ---

    def _where(self) -> Oid:
        """Where the branch really stands: somebody may have moved it."""
        backend = self.workspaces.repository.backend
        name = RefName(self.board.integration)
        ref = backend.read_ref(name)
        if ref is None:
            raise EngineError(
                f"the integration branch {name.short} is gone",
                hint=f"git branch {name.short} {self.board.tip}, then go on with --resume",
            )
        user = next((info.path for info in backend.list_worktrees() if info.branch == name), None)
        if user is not None:
            raise EngineError(
                f"the integration branch {name.short} is checked out in {user}",
                hint="switch that worktree to something else, then go on with --resume",
            )
        return ref.oid

    async def _move(self, accepted: tuple[str, ...], commits: tuple[Oid, ...]) -> None:
        board, backend = self.board, self.workspaces.repository.backend
        previous, name = board.tip, RefName(board.integration)
        self.tell(MergePlanned(run=board.run, tasks=accepted, commits=commits, previous=previous))
        reason = f"orchestrate: merge {', '.join(accepted)}"
        try:
            await self.threads(lambda: backend.update_ref(name, commits[-1], previous, message=reason))
        except RefChangedError:
            return  # the next look finds where it stands, and the batch is merged again onto that
        self.tell(TasksMerged(run=board.run, tasks=accepted, commits=commits))
        for task in accepted:
            work = board.records[task].commit
            await self.threads(lambda: self.workspaces.drop(task, work))  # noqa: B023 (awaited at once)
