"""The board: what is known of each task, folded from the events (pure). A resumed run folds its journal first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Self

from attrs import define, evolve, field, frozen
from cattrs import Converter

from arboretum.engine.events import RunEvent
from arboretum.errors import StoreError
from arboretum.orchestration import events
from arboretum.orchestration.frontier import Frontier
from arboretum.orchestration.scopes import Scope
from arboretum.orchestration.states import TaskState
from arboretum.orchestration.tasks import MergeOrder, TaskPlan
from arboretum.values import Oid


@frozen(kw_only=True)
class Interval:
    """One attempt at a task, in seconds since the epoch, for the Gantt of the report."""

    task: str
    attempt: int
    slot: str
    start: float
    end: float | None = None


@frozen(kw_only=True)
class TaskRecord:
    """What is known of one task.

    Args:
        id: Its id.
        state: What has become of it.
        reason: Why, in a sentence.
        attempts: How many attempts have ended.
        duration: Seconds of the last one.
        start: The commit that it started from.
        commit: Its work.
        changed: The paths that it changed.
        files: The paths that are the reason of its state.
        others: The tasks that are the reason of its state.
        path: Where its worktree is kept.
        output_tail: The last lines of its output.
    """

    id: str
    state: TaskState = TaskState.WAITING
    reason: str = ""
    attempts: int = 0
    duration: float = 0.0
    start: Oid | None = None
    commit: Oid | None = None
    changed: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    path: str = ""
    output_tail: str = ""


@define(eq=False)
class Board:
    """The state of one run.

    Args:
        run: Its id.
        plan: The tasks, with amended scopes.
        base: The commit that the work starts from.
        integration: The full name of the integration branch.
        into: The branch to move at the end; None for none.
        slots: How many tasks ran at once.
        tip: Where the integration branch stands.
        records: What is known of each task.
        planned: A move of the integration branch of which the end is not known.
        intervals: The attempts, in the order of starting.
        verifications: The verify commands that ended.
        merged: The merged tasks in the order of merging, with the commits that merged them.
        status: How the run ended, or ``running``.
        moved: The branch that was moved at the end.
        message: What else is to be said of the end.
    """

    run: str
    plan: TaskPlan
    base: Oid
    integration: str
    into: str | None
    slots: int
    tip: Oid
    records: dict[str, TaskRecord]
    planned: events.MergePlanned | None = None
    intervals: list[Interval] = field(factory=list)
    verifications: list[events.Verified] = field(factory=list)
    merged: dict[str, Oid] = field(factory=dict)
    status: str = "running"
    started: float = 0.0
    ended: float | None = None
    moved: str | None = None
    message: str = ""
    _frontier: Frontier = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._frontier = Frontier({task.id: task.depends_on for task in self.plan.tasks})
        for record in self.records.values():
            self._put(record)

    @classmethod
    def of(cls, history: Iterable[RunEvent]) -> Self:
        """The board that `history` leads to.

        Raises:
            StoreError: It has no beginning.
        """
        board: Self | None = None
        for event in history:
            if board is None:
                if not isinstance(event, events.OrchestrationStarted):
                    raise StoreError("the journal of the run has no beginning", hint="start a new run")
                board = cls.begun(event)
            else:
                board.apply(event)
        if board is None:
            raise StoreError("the journal of the run is empty", hint="start a new run")
        return board

    @classmethod
    def begun(cls, event: events.OrchestrationStarted) -> Self:
        """The board at the start of a run."""
        plan = plan_of_record(event.plan)
        return cls(
            run=event.run,
            plan=plan,
            base=event.base,
            integration=event.integration,
            into=event.into,
            slots=event.slots,
            tip=event.base,
            records={task.id: TaskRecord(id=task.id) for task in plan.tasks},
            started=event.time,
        )

    # --- folding ---

    def apply(self, event: RunEvent) -> None:
        """Take `event` into account."""
        match event:
            case events.OrchestrationStarted():  # the run goes on after an interruption
                self._go_on(event)
            case events.TaskStarted():
                self._set(event.task, state=TaskState.RUNNING, start=event.start)
                self.intervals.append(
                    Interval(task=event.task, attempt=event.attempt, slot=event.slot, start=event.time)
                )
            case events.AttemptFailed():
                self._close(event.task, event.time)
                self._set(event.task, attempts=event.attempt, reason=event.message, duration=event.duration)
            case events.TaskEnded():
                self._end(event)
            case events.TaskSetAside():
                self._set(
                    event.task,
                    state=event.state,
                    reason=event.message,
                    others=event.others,
                    files=event.files,
                    path=event.path,
                )
            case events.Verified():
                self.verifications.append(event)
            case events.ScopeAmended():
                self._amend(event)
            case events.TaskBlocked() | events.TaskRetried():
                self._reopen_or_block(event)
            case events.OrchestrationFinished():
                self.status, self.moved, self.message = event.status, event.moved, event.message
                self.ended = event.time
            case _:
                self._apply_merge(event)

    def _reopen_or_block(self, event: events.TaskBlocked | events.TaskRetried) -> None:
        if isinstance(event, events.TaskBlocked):
            reason = f"{', '.join(event.others)} did not make it"
            self._set(event.task, state=TaskState.BLOCKED, others=event.others, reason=reason)
            return
        self._put(
            TaskRecord(
                id=event.task,
                state=TaskState.WAITING if event.commit is None else TaskState.FINISHED,
                commit=event.commit,
                start=event.start,
                changed=event.changed,
                attempts=0 if event.commit is None else self.records[event.task].attempts,
            )
        )

    def _apply_merge(self, event: RunEvent) -> None:
        match event:
            case events.MergePlanned():
                self.planned = event
            case events.IntegrationMoved():
                self.planned, self.tip = None, event.tip
            case events.TasksMerged():
                self.planned, self.tip = None, event.commits[-1]
                for name, commit in zip(event.tasks, event.commits, strict=True):
                    self._set(name, state=TaskState.MERGED, reason="")
                    self.merged[name] = commit

    def _go_on(self, event: events.OrchestrationStarted) -> None:
        self.status, self.ended, self.slots = "running", None, event.slots
        for name, record in self.records.items():
            if record.state in {TaskState.RUNNING, TaskState.BLOCKED}:
                self._set(name, state=TaskState.WAITING, reason="", others=(), attempts=0)
                self._close(name, event.time)

    def _end(self, event: events.TaskEnded) -> None:
        self._close(event.task, event.time)
        self._set(
            event.task,
            state=event.state,
            reason=event.message,
            attempts=event.attempt,
            duration=event.duration,
            commit=event.commit,
            start=event.start,
            changed=event.changed,
            files=event.files,
            path=event.path,
            output_tail=event.output_tail,
        )

    def _amend(self, event: events.ScopeAmended) -> None:
        task = self.plan.by_id[event.task]
        widened = evolve(task, scope=task.scope.widened(event.patterns))
        self.plan = self.plan.replacing(widened)
        record = self.records[event.task]
        if record.state is TaskState.OUT_OF_SCOPE and not widened.allowed.outside(record.changed):
            self._set(event.task, state=TaskState.FINISHED, reason="", files=())

    def _set(self, name: str, **values: Any) -> None:
        self._put(evolve(self.records[name], **values))

    def _put(self, record: TaskRecord) -> None:
        self.records[record.id] = record
        self._frontier.put(record.id, record.state)

    def _close(self, name: str, when: float) -> None:
        for index in range(len(self.intervals) - 1, -1, -1):
            interval = self.intervals[index]
            if interval.task == name:
                if interval.end is None:
                    self.intervals[index] = evolve(interval, end=when)
                return

    # --- questions ---

    def in_state(self, *states: TaskState) -> tuple[str, ...]:
        """The tasks that are in one of `states`, in the order of the plan."""
        return self._in_order(self._frontier.in_state(*states))

    def _in_order(self, names: Iterable[str]) -> tuple[str, ...]:
        return tuple(sorted(names, key=self.plan.places.__getitem__))

    def ready(self, conflicts: Mapping[str, frozenset[str]]) -> tuple[str, ...]:
        """The tasks that wait only for room.

        With `MergeOrder.PLAN` a task also waits for the earlier ones that it conflicts with: their work is merged
        first, so it has to start from there.
        """
        free = self._in_order(self._frontier.free)
        if self.plan.merge is MergeOrder.FINISH:
            return free
        records = self.records
        return tuple(
            name for name in free if not any(records[other].state.is_open for other in self._earlier(name, conflicts))
        )

    def start_of(self, name: str, conflicts: Mapping[str, frozenset[str]]) -> Oid:
        """The commit that a task starts from now.

        It is the tip of the integration branch: the newest there is, so the least will conflict. With
        `MergeOrder.PLAN` it is the commit that merged the last of the tasks that this one waited for (else the
        base), so that what a task finds does not depend on how long others took.
        """
        if self.plan.merge is MergeOrder.FINISH:
            return self.tip
        needed = {*self.plan.by_id[name].depends_on, *self._earlier(name, conflicts)}.intersection(self.merged)
        if not needed:
            return self.base
        return next(self.merged[other] for other in reversed(self.merged) if other in needed)

    def _earlier(self, name: str, conflicts: Mapping[str, frozenset[str]]) -> list[str]:
        """The tasks that `name` conflicts with and that are merged before it, when the plan says the order."""
        places = self.plan.merge_places
        return [other for other in conflicts.get(name, ()) if places[other] < places[name]]

    def newly_blocked(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """The waiting tasks of which a dependency has ended badly, each with these dependencies."""
        records = self.records
        return tuple(
            (name, tuple(n for n in self.plan.by_id[name].depends_on if records[n].state.is_lost))
            for name in self._in_order(self._frontier.doomed)
        )

    def next_batch(self) -> tuple[str, ...]:
        """The finished tasks to merge now, in order.

        With `MergeOrder.PLAN` only those before the first one that is still open: the history is then the same
        whatever took how long.
        """
        places = self.plan.merge_places
        batch = sorted(self._frontier.in_state(TaskState.FINISHED), key=places.__getitem__)
        if batch and self.plan.merge is MergeOrder.PLAN:
            open_ones = self._frontier.in_state(TaskState.WAITING, TaskState.RUNNING)
            first = min(map(places.__getitem__, open_ones), default=len(places))
            return tuple(name for name in batch if places[name] < first)
        return tuple(batch)

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to do."""
        return not self._frontier.in_state(*(state for state in TaskState if state.is_open))

    @property
    def all_good(self) -> bool:
        """Whether every task made it."""
        return all(record.state.is_good for record in self.records.values())


def branch_of(run: str, task: str) -> str:
    """The name of the branch of a task."""
    return f"arboretum/{run}/{task}"


# --- the plan as plain JSON values, for the journal ---


def _make_converter() -> Converter:
    converter = Converter(omit_if_default=True)
    converter.register_unstructure_hook(Scope, lambda scope: list(scope.texts))
    converter.register_structure_hook(Scope, lambda texts, _: Scope(tuple(texts)))
    return converter


_converter = _make_converter()


def plan_record(plan: TaskPlan) -> dict[str, Any]:
    """The plan as plain JSON values."""
    record: dict[str, Any] = _converter.unstructure(evolve(plan, lines={}))
    return record


def plan_of_record(record: Mapping[str, Any]) -> TaskPlan:
    """The plan that `plan_record` made the record of."""
    return _converter.structure(dict(record), TaskPlan)
