"""The nouns of orchestration: a task, what it may change and needs, and the plan that holds the tasks."""

from __future__ import annotations

import enum
import functools
import re
import shlex
from collections.abc import Mapping
from typing import Final

from attrs import evolve, field, frozen

from arboretum.engine.model import CommandSpec
from arboretum.orchestration.graph import topological_order
from arboretum.orchestration.scopes import Scope

#: The placeholders that a command may have, as ``{name}``. Other braces stay as they are.
PLACEHOLDERS: Final = ("id", "prompt", "description", "worktree", "branch", "base", "scope", "attempt", "run", "root")
_PLACEHOLDER: Final = re.compile(r"\{(" + "|".join(PLACEHOLDERS) + r")\}")

#: What a task without an estimate is taken to last, in seconds.
DEFAULT_ESTIMATE: Final = 60.0
NO_SCOPE: Final = Scope(())


class MergeOrder(enum.StrEnum):
    """In which order finished tasks are merged (dependencies always come first)."""

    FINISH = "finish"  # as they finish: the shortest wait
    PLAN = "plan"  # in the order of the file: the same history each time


@frozen(kw_only=True)
class Task:
    """A piece of work that one command does in a worktree of its own.

    Args:
        id: Its name within the plan, which also names its branch.
        description: What is to be done; the first line is the subject of its commit.
        command: The program that does it, with placeholders (`PLACEHOLDERS`); any program.
        prompt: What ``{prompt}`` stands for; empty for the description.
        depends_on: Ids of tasks that have to be merged before it starts.
        scope: The paths that it may change. Tasks whose scopes can meet never run at the same time.
        shared: Paths that it may change too although others do at the same time (a changelog); the merge decides.
        reads: Paths that it only reads; a task that changes them at the same time is warned about.
        estimate: Seconds it is expected to take; None when nobody knows.
        timeout: Seconds after which it is stopped; None for never.
        cpus: Cores that it keeps busy.
        memory: Bytes that it needs.
        labels: Names of what the machine must have (``gpu``); they only say something past one machine.
        exclusive: Names of things that only one task may use at a time (``port:5432``).
        verify: A command that must pass in its own worktree, and on each combined tree that holds its work.
        retries: How many times it is tried again after a failure or a timeout.
        env: Variables to set for its commands.
    """

    id: str
    description: str = ""
    command: CommandSpec
    prompt: str = ""
    depends_on: tuple[str, ...] = ()
    scope: Scope
    shared: Scope = NO_SCOPE
    reads: Scope = NO_SCOPE
    estimate: float | None = None
    timeout: float | None = None
    cpus: float = 1.0
    memory: int = 0
    labels: tuple[str, ...] = ()
    exclusive: tuple[str, ...] = ()
    verify: CommandSpec | None = None
    retries: int = 0
    env: Mapping[str, str] = field(factory=dict)

    @property
    def seconds(self) -> float:
        """The estimate, or `DEFAULT_ESTIMATE`."""
        return DEFAULT_ESTIMATE if self.estimate is None else self.estimate

    @property
    def allowed(self) -> Scope:
        """All that it may change: `scope` and `shared`."""
        return self.scope.widened(self.shared.texts) if self.shared.patterns else self.scope


@frozen(kw_only=True, slots=False)
class TaskPlan:
    """The tasks of one orchestration, checked: ids are unique, dependencies exist and have no cycle.

    Args:
        title: What it is all about.
        base: The revision that the work starts from.
        tasks: The tasks, in the order of the file.
        verify: A command that must pass on every combined tree before the integration branch moves.
        verify_timeout: Seconds for a `verify` command; None for never.
        merge: In which order finished tasks are merged.
        jobs: How many tasks run at once at most; None for what the machine bears.
        grace: Seconds between SIGTERM and SIGKILL.
        path: The task file, for messages.
        lines: The line of each of its keys, for messages.
    """

    title: str = ""
    base: str = "HEAD"
    tasks: tuple[Task, ...]
    verify: CommandSpec | None = None
    verify_timeout: float | None = None
    merge: MergeOrder = MergeOrder.FINISH
    jobs: int | None = None
    grace: float = 5.0
    path: str | None = None
    lines: Mapping[str, int] = field(factory=dict, repr=False, eq=False)

    @functools.cached_property
    def by_id(self) -> Mapping[str, Task]:
        """The tasks by their ids."""
        return {task.id: task for task in self.tasks}

    @functools.cached_property
    def order(self) -> tuple[str, ...]:
        """The ids in the order in which work is merged: that of the plan, dependencies first."""
        return topological_order({task.id: task.depends_on for task in self.tasks})

    @functools.cached_property
    def places(self) -> Mapping[str, int]:
        """Where each task stands in the file."""
        return {task.id: place for place, task in enumerate(self.tasks)}

    @functools.cached_property
    def merge_places(self) -> Mapping[str, int]:
        """Where each task stands in `order`."""
        return {name: place for place, name in enumerate(self.order)}

    def replacing(self, task: Task) -> TaskPlan:
        """The plan with `task` in the place of the one of the same id."""
        return evolve(self, tasks=tuple(task if t.id == task.id else t for t in self.tasks))


def fill(command: CommandSpec, values: Mapping[str, str]) -> CommandSpec:
    """The command with its placeholders replaced; in a text for a shell the values are quoted.

    Args:
        command: The command.
        values: What each placeholder stands for; one that is not there stays as it is.
    """

    def one(match: re.Match[str]) -> str:
        value = values.get(match.group(1))
        if value is None:
            return match.group()
        return shlex.quote(value) if command.shell else value

    return evolve(command, argv=tuple(_PLACEHOLDER.sub(one, argument) for argument in command.argv))
