"""The orchestrator: runs the tasks of a plan as room comes free, and merges what they did as it is done.

One owner of the state: every event is first written to the journal, then folded into the board, then told to the
observers. What to do next is asked of pure functions (`scheduling.choose`, `Board.ready`, `Board.next_batch`), so a
run that was killed at any moment goes on by folding its journal and asking again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from attrs import define, field

from arboretum.engine.events import RunEvent
from arboretum.engine.journal import Journal, new_run_id, read_journal, run_folder
from arboretum.engine.signals import on_signals
from arboretum.engine.threads import Threads
from arboretum.errors import ArboretumError, EngineError, RefExistsError, UsageError
from arboretum.events import Observer, Observers
from arboretum.orchestration import events
from arboretum.orchestration.amendment import check_may_be_taken_up, take_up
from arboretum.orchestration.board import Board, branch_of, plan_record
from arboretum.orchestration.delivery import deliver, find_target
from arboretum.orchestration.integrator import Integrator
from arboretum.orchestration.merge import Integration
from arboretum.orchestration.scheduling import Limits, Workload, check_fits, choose
from arboretum.orchestration.scopes import Scope
from arboretum.orchestration.sites import LocalSite, Site
from arboretum.orchestration.splitter import find_conflicts, workload_of
from arboretum.orchestration.states import TaskState
from arboretum.orchestration.task_file import INTEGRATION
from arboretum.orchestration.task_runner import TaskRunner
from arboretum.orchestration.tasks import TaskPlan
from arboretum.orchestration.verification import Verifier
from arboretum.orchestration.work import Committer
from arboretum.orchestration.workspaces import Workspaces
from arboretum.values import RefName

if TYPE_CHECKING:
    from arboretum.repository import Repository

_log = logging.getLogger(__name__)


def orchestrations_folder(repository: Repository) -> str:
    """Where the journals of orchestrations are."""
    return os.path.join(repository.state_dir, "orchestrations")


def read_board(repository: Repository, run: str) -> Board:
    """What is known of the run `run`.

    Raises:
        UsageError: There is no such run.
        StoreError: Its journal cannot be read.
    """
    folder = _existing(orchestrations_folder(repository), run)
    contents = read_journal(folder, run, decode=events.decode_event)
    board = Board.of(contents.events)
    if board.status == "running" and not contents.live:
        board.status = "interrupted"  # its process was killed
    return board


@define(eq=False)
class Orchestrator:
    """Carries out one run. Made by `start` or `resume`; `run` does the work and may be called once.

    Args:
        repository: The repository; its checked-out branches are never moved but `into`.
        board: The state of the run.
        limits: What may be used at once.
        site: Where the commands of the tasks run; None for here.
    """

    repository: Repository
    board: Board
    limits: Limits
    site: Site | None = field(default=None, kw_only=True)
    _journal: Journal
    _observers: Observers
    _stopping: bool = field(default=False, init=False)
    _wake: asyncio.Event = field(factory=asyncio.Event, init=False)
    _running: dict[str, asyncio.Task[None]] = field(factory=dict, init=False)
    _merging: asyncio.Task[None] | None = field(default=None, init=False)

    # --- making one ---

    @classmethod
    def start(
        cls,
        repository: Repository,
        plan: TaskPlan,
        limits: Limits,
        *,
        into: str | None = None,
        observers: Iterable[Observer] = (),
        run: str | None = None,
        site: Site | None = None,
    ) -> Orchestrator:
        """Begin a new run: its journal, and its integration branch at the plan's base.

        Args:
            repository: The repository.
            plan: The tasks.
            limits: What may be used at once.
            into: The branch to move to the result at the end; None moves none.
            observers: Told of every event.
            run: The id of the run; None for a new one.
            site: Where the commands of the tasks run; None for here.

        Raises:
            RevisionNotFoundError: The base is no commit.
            UsageError: A task needs more than the limits give, or `into` is no branch or is behind a dirty worktree.
            StoreError: The journal cannot be written.
        """
        check_fits(plan.tasks, limits)
        base = repository.resolve(plan.base)
        if into is not None:
            find_target(repository, into)
        run = run or new_run_id()
        branch = RefName.branch(branch_of(run, INTEGRATION))
        event = events.OrchestrationStarted(
            run=run,
            title=plan.title,
            base=base,
            integration=branch,
            into=into,
            tasks=tuple(task.id for task in plan.tasks),
            slots=limits.slots,
            plan=plan_record(plan),
        )
        journal = Journal.open(orchestrations_folder(repository), run)
        made = cls(repository, Board.begun(event), limits, journal, Observers.of(observers), site=site)
        try:
            journal.write(event)
            made._observers(event)
            repository.update_ref(branch, base, None, message="orchestrate: begin")
        except BaseException:
            journal.close()
            raise
        return made

    @classmethod
    def resume(
        cls,
        repository: Repository,
        run: str,
        limits: Limits,
        *,
        retry: Iterable[str] = (),
        observers: Iterable[Observer] = (),
        site: Site | None = None,
    ) -> Orchestrator:
        """Go on with a run that was interrupted, killed, or whose scopes were amended.

        Args:
            repository: The repository.
            run: The id of the run.
            limits: What may be used at once.
            retry: Tasks that did not make it and are to be taken up again: with what a person has committed on
                their branches since, else by running them anew.
            observers: Told of every event.
            site: Where the commands of the tasks run; None for here.

        Raises:
            UsageError: There is no such run, or a task of `retry` is none that did not make it.
            DirtyWorktreeError: The kept worktree of such a task has changes that are not committed.
            StoreError: It is going on in another process, or its journal cannot be read.
        """
        journal = Journal.open(_existing(orchestrations_folder(repository), run), run)
        try:
            board = read_board(repository, run)
            retry = tuple(retry)
            for name in retry:
                check_may_be_taken_up(repository, board, name)
            made = cls(repository, board, limits, journal, Observers.of(observers), site=site)
            made._tell(
                events.OrchestrationStarted(
                    run=run,
                    title=board.plan.title,
                    base=board.base,
                    integration=board.integration,
                    into=board.into,
                    tasks=tuple(board.records),
                    slots=limits.slots,
                    plan={},
                )
            )
            made._settle()
            for name in retry:
                made._tell(take_up(repository, made.board, name))
        except BaseException:
            journal.close()
            raise
        return made

    def _settle(self) -> None:
        """Find out whether the last planned move of the integration branch took place before the crash."""
        name = RefName(self.board.integration)
        planned = self.board.planned
        ref = self.repository.backend.read_ref(name)
        if ref is None:
            # Either the crash was before the branch was made, or somebody removed it: its commits are known.
            with contextlib.suppress(RefExistsError):
                self.repository.update_ref(name, self.board.tip, None, message="orchestrate: begin again")
        elif planned is not None and self.repository.is_ancestor(planned.tip, ref.oid):
            self._tell(events.TasksMerged(run=self.board.run, tasks=planned.tasks, commits=planned.commits))

    def _tidy(self, workspaces: Workspaces) -> None:
        """Remove the branches of merged tasks that a crash has left."""
        left = {ref.name for ref in self.repository.refs(f"refs/heads/{branch_of(self.board.run, '')}")}
        for name in self.board.in_state(TaskState.MERGED, TaskState.UNCHANGED):
            if RefName.branch(branch_of(self.board.run, name)) in left:
                workspaces.drop(name, None)

    # --- running ---

    def stop(self) -> None:
        """End the run soon and in order: nothing new starts, what runs is stopped, everything can be resumed."""
        self._stopping = True
        self._wake.set()

    async def run(self) -> Board:
        """Carry the plan out to its end, or until `stop`, Ctrl-C or SIGTERM.

        Returns:
            The board; its `status` is ``done``, ``interrupted`` or ``failed``.

        Raises:
            EngineError: The run could not be carried out; it can be resumed.
        """
        clock = time.monotonic()
        slots = max(1, min(self.limits.slots, len(self.board.records)))
        threads = Threads(slots + 2, "orchestration")
        status, message, moved = "failed", "", None
        try:
            with on_signals(self.stop):
                workspaces = await threads(lambda: Workspaces.open(self.repository, self.board.run, slots=slots))
                await threads(lambda: self._tidy(workspaces))
                await self._loop(workspaces, threads)
            if self._stopping:
                status = "interrupted"
            else:
                status = "done"
                if self.board.into is not None:
                    moved, message = await threads(lambda: deliver(self.repository, self.board))
        except ArboretumError as error:
            message = error.message
            raise
        except asyncio.CancelledError:
            status = "interrupted"
            raise
        finally:
            await self._end_all()
            self._finish(status, time.monotonic() - clock, moved=moved, message=message)
            threads.close()
        return self.board

    def _finish(self, status: str, duration: float, *, moved: str | None, message: str) -> None:
        try:
            self._tell(
                events.OrchestrationFinished(
                    run=self.board.run, status=status, tip=self.board.tip, duration=duration, moved=moved,
                    message=message,
                )
            )  # fmt: skip
        finally:
            self._journal.close()

    async def _loop(self, workspaces: Workspaces, threads: Threads) -> None:
        workload = self._workload()
        committer = Committer(self.repository.backend)
        integration = Integration(self.repository.backend, committer, self.board.run, self.board.base)
        verifier = Verifier(self.board.plan, self.repository, integration, workspaces, threads, self._tell)
        integrator = Integrator(self.board, integration, verifier, workspaces, threads, self._tell)
        site = self.site or LocalSite(self.repository.runner)
        runs_dir = orchestrations_folder(self.repository)
        runner = TaskRunner(
            self.repository,
            site,
            committer,
            self.board,
            workspaces,
            threads,
            runs_dir,
            self._tell,
            self._observers,
        )
        while not self._stopping:
            self._block()
            self._start_merge(integrator)
            self._start_tasks(workload, runner)
            if not self._running and self._merging is None:
                if not self.board.is_over:
                    raise EngineError("nothing can go on: " + ", ".join(self.board.in_state(TaskState.WAITING)))
                return
            await self._something_happens()

    def _workload(self) -> Workload:
        return workload_of(self.board.plan, find_conflicts(self.board.plan.tasks))

    def _block(self) -> None:
        while blocked := self.board.newly_blocked():
            for name, others in blocked:
                self._tell(events.TaskBlocked(run=self.board.run, task=name, others=others))

    def _start_merge(self, integrator: Integrator) -> None:
        batch = self.board.next_batch() if self._merging is None else ()
        if batch:
            self._merging = asyncio.create_task(integrator.integrate(batch))
            self._merging.add_done_callback(lambda _: self._wake.set())

    def _start_tasks(self, workload: Workload, runner: TaskRunner) -> None:
        if len(self._running) >= self.limits.slots:
            return
        ready = workload.ranked(name for name in self.board.ready(workload.conflicts) if name not in self._running)
        held = self.board.in_state(TaskState.FINISHED)
        for name in choose(workload, self.limits, ready=ready, running=tuple(self._running), held=held):
            start = self.board.start_of(name, workload.conflicts)
            task = asyncio.create_task(runner.carry_out(self.board.plan.by_id[name], start))
            self._running[name] = task
            task.add_done_callback(lambda _: self._wake.set())

    async def _something_happens(self) -> None:
        await self._wake.wait()
        self._wake.clear()
        for name, task in list(self._running.items()):
            if task.done():
                del self._running[name]
                task.result()
        if self._merging is not None and self._merging.done():
            merging, self._merging = self._merging, None
            merging.result()

    async def _end_all(self) -> None:
        left = [*self._running.values(), *([self._merging] if self._merging is not None else [])]
        for task in left:
            task.cancel()
        for result in await asyncio.gather(*left, return_exceptions=True):
            if isinstance(result, Exception):
                _log.warning("while stopping: %s", result)
        self._running.clear()
        self._merging = None

    def _tell(self, event: RunEvent) -> None:
        self._journal.write(event)
        self.board.apply(event)
        self._observers(event)


def _existing(folder: str, run: str) -> str:
    if not os.path.isfile(os.path.join(run_folder(folder, run), "events.jsonl")):
        raise UsageError(f"there is no orchestration {run!r}", hint="list the runs with: arboretum history")
    return folder


def amend_scope(
    repository: Repository, run: str, task: str, patterns: Iterable[str] = ()
) -> tuple[tuple[str, ...], Board]:
    """Accept what a task changed outside its scope: widen the scope, so that a resumed run merges the work.

    Args:
        repository: The repository.
        run: The run.
        task: The task that was refused.
        patterns: The patterns to add; none for exactly the files that it changed outside.

    Returns:
        The patterns that were added, and the board.

    Raises:
        UsageError: There is no such run or task, or nothing of it is outside its scope.
        InvalidValueError: A text is no pattern.
        StoreError: The run is going on.
    """
    journal = Journal.open(_existing(orchestrations_folder(repository), run), run)
    with journal:
        board = read_board(repository, run)
        record = board.records.get(task)
        if record is None:
            raise UsageError(f"the run {run} has no task {task!r}", hint=f"its tasks: {', '.join(board.records)}")
        if record.state is not TaskState.OUT_OF_SCOPE:
            raise UsageError(f"the task {task} is {record.state}, not out of scope; there is nothing to accept")
        added = Scope(tuple(patterns)).texts or Scope.of_paths(record.files).texts
        event = events.ScopeAmended(run=run, task=task, patterns=added)
        journal.write(event)
        board.apply(event)
    return added, board
