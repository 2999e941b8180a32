"""Which tasks run next, and how long all of it takes (pure).

There are no waves. Whenever something changes, `choose` looks at every task whose dependencies are done and starts,
in the order of priority, each one that fits beside what is running: a list schedule (Graham 1966, 1969). The
orchestrator and `simulate` ask the same function, so what is shown beforehand is what is done.

How good it is: without conflicts and with one core per task, a list schedule on m slots ends after at most
``W/m + (1 - 1/m) * C`` seconds, W being the work and C the critical path (Graham 1966). Hence it is always within
``2 - 1/m`` of the lower bound ``max(C, W/m)``, and within 4/3 of it whenever C is at most a third of W/m. For
independent tasks, longest first, it is within ``4/3 - 1/(3m)`` of the best possible schedule (Graham 1969); the
lower bound itself cannot always be reached by any schedule (three equal tasks on two slots).
"""

from __future__ import annotations

import bisect
import heapq
import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence

from attrs import field, frozen

from arboretum.errors import UsageError
from arboretum.orchestration.frontier import Frontier
from arboretum.orchestration.graph import path_lengths, topological_order
from arboretum.orchestration.states import TaskState
from arboretum.orchestration.tasks import Task


@frozen(kw_only=True)
class Limits:
    """What may be used at once.

    Args:
        slots: Tasks that run at the same time.
        cpus: Cores that they keep busy together; None for no limit.
        memory: Bytes that they need together; None for no limit.
        reasons: Why, for people: one line for each limit that was worked out.
    """

    slots: int
    cpus: float | None = None
    memory: int | None = None
    reasons: tuple[str, ...] = ()


@frozen
class Workload:
    """The tasks as the schedule sees them.

    Args:
        tasks: The tasks by id, in the order of the plan.
        conflicts: For each task those that it may never run beside.
        overhead: Seconds that each task takes beyond its own, for its worktree and its merge.
    """

    tasks: Mapping[str, Task]
    conflicts: Mapping[str, frozenset[str]] = field(factory=dict)
    overhead: float = 0.0
    priority: Mapping[str, float] = field(init=False)
    order: tuple[str, ...] = field(init=False)
    rank: Mapping[str, int] = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        lengths = path_lengths(self.dependencies, self.seconds)
        place = {name: i for i, name in enumerate(self.tasks)}
        object.__setattr__(self, "priority", lengths)
        ranked = sorted(self.tasks, key=lambda name: (-lengths[name], -self.tasks[name].seconds, place[name]))
        object.__setattr__(self, "order", tuple(ranked))
        object.__setattr__(self, "rank", {name: rank for rank, name in enumerate(ranked)})

    @property
    def dependencies(self) -> dict[str, tuple[str, ...]]:
        """What each task waits for."""
        return {name: task.depends_on for name, task in self.tasks.items()}

    @property
    def seconds(self) -> dict[str, float]:
        """How long each task takes, its overhead included."""
        return {name: task.seconds + self.overhead for name, task in self.tasks.items()}

    def ranked(self, names: Iterable[str]) -> list[str]:
        """The tasks `names`, the most urgent first."""
        return sorted(names, key=self.rank.__getitem__)

    def conflict(self, name: str, others: Collection[str]) -> str | None:
        """One of `others` that `name` may not run beside; None when there is none."""
        found = self.conflicts.get(name)
        return next((other for other in others if other in found), None) if found else None


def check_fits(tasks: Collection[Task], limits: Limits) -> None:
    """Check that each task can run at all.

    Raises:
        UsageError: A task needs more than there is even when nothing else runs.
    """
    for task in tasks:
        for what, needs, there in (("cores", task.cpus, limits.cpus), ("bytes of memory", task.memory, limits.memory)):
            if there is not None and needs > there:
                raise UsageError(
                    f"the task {task.id!r} needs {needs:g} {what} and {there:g} are allowed",
                    hint="lower what it asks for, or raise the limit",
                )


def choose(
    workload: Workload,
    limits: Limits,
    *,
    ready: Iterable[str],
    running: Collection[str],
    held: Collection[str] = (),
) -> tuple[str, ...]:
    """The tasks to start now, in this order.

    Args:
        workload: All tasks.
        limits: What may be used at once.
        ready: Tasks that wait only for room, the most urgent first (`Workload.ranked`).
        running: Tasks that run.
        held: Tasks that run no more but whose work is not merged yet: no task that conflicts with one starts.

    Returns:
        Such that with them running no limit is passed, no two conflict and no exclusive thing is used twice.
    """
    active = list(running)
    blocked = {*running, *held}
    cpus = sum(workload.tasks[name].cpus for name in active)
    memory = sum(workload.tasks[name].memory for name in active)
    taken = {thing for name in active for thing in workload.tasks[name].exclusive}
    started = []
    for name in ready:
        if len(active) >= limits.slots:
            break
        task = workload.tasks[name]
        if (
            (limits.cpus is None or cpus + task.cpus <= limits.cpus)
            and (limits.memory is None or memory + task.memory <= limits.memory)
            and taken.isdisjoint(task.exclusive)
            and workload.conflict(name, blocked) is None
        ):
            started.append(name)
            active.append(name)
            blocked.add(name)
            taken.update(task.exclusive)
            cpus, memory = cpus + task.cpus, memory + task.memory
    return tuple(started)


@frozen
class Placement:
    """When a task runs: seconds from the start of all."""

    task: str
    start: float
    end: float
    slot: int


def simulate(workload: Workload, limits: Limits) -> tuple[Placement, ...]:
    """The schedule that `choose` makes when every task takes exactly its time, in the order of starting.

    Raises:
        UsageError: A task needs more than the limits give.
    """
    check_fits(workload.tasks.values(), limits)
    frontier = Frontier(workload.dependencies)
    seconds, now = workload.seconds, 0.0
    free = list(range(limits.slots if limits.slots < len(workload.tasks) else max(1, len(workload.tasks))))
    ranks = sorted(workload.rank[name] for name in frontier.free)  # of the tasks that are ready
    ending: list[tuple[float, int, str, int]] = []
    tick, placed = itertools.count(), []
    while ranks or ending:
        ready = (workload.order[rank] for rank in ranks)
        for name in choose(workload, limits, ready=ready, running=[item[2] for item in ending]):
            del ranks[bisect.bisect_left(ranks, workload.rank[name])]
            slot = heapq.heappop(free)
            heapq.heappush(ending, (now + seconds[name], next(tick), name, slot))
            placed.append(Placement(name, now, now + seconds[name], slot))
        now = ending[0][0]
        while ending and ending[0][0] == now:
            _, _, name, slot = heapq.heappop(ending)
            heapq.heappush(free, slot)
            for other in frontier.put(name, TaskState.MERGED):
                bisect.insort(ranks, workload.rank[other])
    return tuple(placed)


def makespan(placements: Sequence[Placement]) -> float:
    """Seconds until the last task has ended."""
    return max((p.end for p in placements), default=0.0)


def lower_bound(workload: Workload, limits: Limits) -> float:
    """Seconds that no schedule can beat: the critical path, and the work over the slots."""
    critical = max(workload.priority.values(), default=0.0)
    return max(critical, sum(workload.seconds.values()) / limits.slots)


def merge_order(workload: Workload) -> tuple[str, ...]:
    """The tasks in the order of the plan, each after those it depends on."""
    return topological_order(workload.dependencies)
