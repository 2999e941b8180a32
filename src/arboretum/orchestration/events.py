"""What happens in an orchestration, as events; each but `TaskOutput` is one line of its journal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from attrs import field, frozen

from arboretum.engine.events import RunEvent
from arboretum.engine.records import event_of_line
from arboretum.orchestration.states import TaskState
from arboretum.values import Oid


@frozen(kw_only=True)
class OrchestrationStarted(RunEvent):
    """A run began, or an interrupted one goes on. `plan` is the whole plan, as `plan_record` makes it."""

    type = "orchestration-started"
    bounds = True
    title: str
    base: Oid
    integration: str
    into: str | None
    tasks: tuple[str, ...]
    slots: int
    plan: Mapping[str, Any] = field(repr=False)


@frozen(kw_only=True)
class TaskStarted(RunEvent):
    """An attempt at a task is about to run in a worktree that stands at `start`."""

    type = "task-started"
    task: str
    attempt: int
    slot: str
    path: str
    start: Oid


@frozen(kw_only=True)
class TaskOutput(RunEvent):
    """A line of a task's output. Shown live; not kept in the journal."""

    type = "task-output"
    task: str
    attempt: int
    stream: str
    line: str


@frozen(kw_only=True)
class AttemptFailed(RunEvent):
    """An attempt failed and another one follows."""

    type = "attempt-failed"
    task: str
    attempt: int
    message: str
    duration: float


@frozen(kw_only=True)
class TaskEnded(RunEvent):
    """A task is over: its work is ready to be merged, or it failed and is kept.

    `changed` are the paths that it changed; `files` those that are the reason of the state.
    """

    type = "task-ended"
    task: str
    state: TaskState
    attempt: int
    duration: float
    message: str = ""
    commit: Oid | None = None
    start: Oid | None = None
    changed: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    path: str = ""
    output_tail: str = ""


@frozen(kw_only=True)
class TaskSetAside(RunEvent):
    """A task's work was not taken into the integration branch; its branch and a worktree of it are kept."""

    type = "task-set-aside"
    task: str
    state: TaskState
    message: str
    others: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    path: str = ""


@frozen(kw_only=True)
class TaskBlocked(RunEvent):
    """A task is not run because one that it depends on did not make it."""

    type = "task-blocked"
    task: str
    others: tuple[str, ...]


@frozen(kw_only=True)
class MergePlanned(RunEvent):
    """The integration branch is about to be moved from `previous` to the last of `commits`, one for each of `tasks`."""

    type = "merge-planned"
    tasks: tuple[str, ...]
    commits: tuple[Oid, ...]
    previous: Oid

    @property
    def tip(self) -> Oid:
        """Where the branch is going to stand."""
        return self.commits[-1]


@frozen(kw_only=True)
class TasksMerged(RunEvent):
    """The integration branch stands at the last of `commits`, each of which merged one of `tasks`."""

    type = "tasks-merged"
    tasks: tuple[str, ...]
    commits: tuple[Oid, ...]


@frozen(kw_only=True)
class IntegrationMoved(RunEvent):
    """Somebody else has moved the integration branch to `tip`; the work goes on from there."""

    type = "integration-moved"
    tip: Oid


@frozen(kw_only=True)
class Verified(RunEvent):
    """A verify command ended on a combined tree."""

    type = "verified"
    commit: Oid
    tasks: tuple[str, ...]
    command: str
    passed: bool
    duration: float


@frozen(kw_only=True)
class ScopeAmended(RunEvent):
    """A person has widened the scope of a task by `patterns`."""

    type = "scope-amended"
    task: str
    patterns: tuple[str, ...]


@frozen(kw_only=True)
class TaskRetried(RunEvent):
    """A person wants a task that did not make it to be taken up again.

    `commit` is work that the person has put on its branch, to be merged; None lets the task run anew.
    """

    type = "task-retried"
    task: str
    commit: Oid | None = None
    start: Oid | None = None
    changed: tuple[str, ...] = ()


@frozen(kw_only=True)
class OrchestrationFinished(RunEvent):
    """The run ended: ``done``, ``interrupted`` or ``failed``. `moved` is the branch that was moved on request."""

    type = "orchestration-finished"
    bounds = True
    status: str
    tip: Oid
    duration: float
    moved: str | None = None
    message: str = ""


_KINDS: Final[dict[str, type[RunEvent]]] = {
    kind.type: kind
    for kind in (
        OrchestrationStarted,
        TaskStarted,
        AttemptFailed,
        TaskEnded,
        TaskSetAside,
        TaskBlocked,
        MergePlanned,
        TasksMerged,
        IntegrationMoved,
        Verified,
        ScopeAmended,
        TaskRetried,
        OrchestrationFinished,
    )
}


def decode_event(line: bytes) -> RunEvent:
    """The event of one line of an orchestration's journal.

    Raises:
        InvalidValueError: The line is no JSON or no event.
    """
    return event_of_line(line, kinds=_KINDS)
