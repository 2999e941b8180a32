"""The splitter (pure): from tasks, tracked files and limits to what can run together and what it would take."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from attrs import evolve, field, frozen

from arboretum.orchestration.graph import critical_path
from arboretum.orchestration.scheduling import (
    Limits,
    Placement,
    Workload,
    lower_bound,
    makespan,
    merge_order,
    simulate,
)
from arboretum.orchestration.scopes import Scope
from arboretum.orchestration.tasks import MergeOrder, Task, TaskPlan


@frozen
class ScopeConflict:
    """Two tasks that may change the same path and so never run at the same time.

    Args:
        one: The id of the task that is first in the plan.
        two: The id of the other.
        example: A shortest path that both scopes hold.
        files: Tracked files that both scopes hold.
    """

    one: str
    two: str
    example: str
    files: tuple[str, ...] = ()


@frozen
class Caution:
    """Something that the plan allows and a person should look at.

    Args:
        kind: ``co-change``, ``reads``, ``no-file``, ``estimate`` or ``worktree``.
        tasks: The tasks that it is about.
        message: What it is, in one sentence.
    """

    kind: str
    tasks: tuple[str, ...]
    message: str


@frozen
class Estimate:
    """How long the plan takes, in seconds.

    Args:
        sequential: One task after the other in the user's own worktree.
        parallel: By the schedule, each task with the overhead of its worktree and merge.
        overhead: That overhead, for one task.
        lower_bound: What no schedule on these slots can beat.
        break_even: The factor on all estimates above which parallel is the faster way; None when it never is.
        measured: Whether the overhead was measured in this repository (else it is a usual value).
    """

    sequential: float
    parallel: float
    overhead: float
    lower_bound: float
    break_even: float | None
    measured: bool = False

    @property
    def pays(self) -> bool:
        """Whether parallel is the faster way."""
        return self.parallel < self.sequential

    @property
    def speedup(self) -> float:
        """How many times faster parallel is."""
        return self.sequential / self.parallel if self.parallel else 1.0


@frozen(kw_only=True)
class Split:
    """What the splitter found.

    Args:
        plan: The tasks.
        workload: The tasks with their conflicts and priorities.
        limits: What may be used at once.
        order: The order in which tasks are merged.
        critical_path: The longest chain of dependencies.
        conflicts: Pairs that never run together.
        warnings: What a person should look at.
        schedule: When each task would run.
        estimate: How long it would take.
        worktrees: Worktrees that exist already, as ``path (branch)``.
    """

    plan: TaskPlan
    workload: Workload = field(repr=False)
    limits: Limits
    order: tuple[str, ...]
    critical_path: tuple[str, ...]
    conflicts: tuple[ScopeConflict, ...]
    warnings: tuple[Caution, ...]
    schedule: tuple[Placement, ...]
    estimate: Estimate
    worktrees: tuple[str, ...] = ()


def split(
    plan: TaskPlan,
    *,
    files: Sequence[str] = (),
    limits: Limits,
    overhead: float = 0.0,
    measured: bool = False,
    together: Mapping[tuple[str, str], int] | None = None,
    worktrees: tuple[str, ...] = (),
) -> Split:
    """Work out what of `plan` can run together, in which order, and whether it pays.

    Args:
        plan: The tasks.
        files: The tracked files.
        limits: What may be used at once.
        overhead: Seconds per task for its worktree and merge.
        measured: Whether `overhead` was measured here.
        together: How many commits changed each pair of files (sorted), for the pairs that often change together.
        worktrees: Worktrees that exist already, for the reader.

    Raises:
        UsageError: A task needs more than the limits give.
    """
    conflicts = find_conflicts(plan.tasks, files)
    workload = workload_of(plan, conflicts, overhead=overhead)
    timed = _in_plan_order(workload) if plan.merge is MergeOrder.PLAN else workload
    schedule = simulate(timed, limits)
    bare = {task.id: task.seconds for task in plan.tasks}
    return Split(
        plan=plan,
        workload=workload,
        limits=limits,
        order=merge_order(workload),
        critical_path=critical_path(workload.dependencies, bare),
        conflicts=conflicts,
        warnings=tuple(_warnings(plan, files, together or {}, conflicts)),
        schedule=schedule,
        estimate=_estimate(timed, limits, schedule, measured=measured),
        worktrees=worktrees,
    )


def workload_of(plan: TaskPlan, conflicts: Sequence[ScopeConflict], *, overhead: float = 0.0) -> Workload:
    """The tasks as the schedule sees them."""
    beside: dict[str, set[str]] = defaultdict(set)
    for conflict in conflicts:
        beside[conflict.one].add(conflict.two)
        beside[conflict.two].add(conflict.one)
    return Workload(plan.by_id, {name: frozenset(others) for name, others in beside.items()}, overhead)


def _in_plan_order(workload: Workload) -> Workload:
    """The same, with each task after the earlier ones that it conflicts with, as `MergeOrder.PLAN` runs them."""
    order = merge_order(workload)
    tasks = {}
    for index, name in enumerate(order):
        task, earlier = workload.tasks[name], workload.conflicts.get(name, frozenset()).intersection(order[:index])
        tasks[name] = evolve(task, depends_on=tuple(dict.fromkeys((*task.depends_on, *sorted(earlier)))))
    return Workload({name: tasks[name] for name in workload.tasks}, workload.conflicts, workload.overhead)


def find_conflicts(tasks: Sequence[Task], files: Sequence[str] = ()) -> tuple[ScopeConflict, ...]:
    """The pairs of tasks of which one may change what the other's scope holds; exact, whatever files exist.

    What both only share (`Task.shared`) is no conflict: there the merge decides.
    """
    found = []
    tracked: dict[str, frozenset[str]] = {}
    for one, two in _that_may_meet(tasks):
        example = _common(one, two)
        if example is not None:
            for task in (one, two):
                tracked.setdefault(task.id, frozenset(task.allowed.of(files)))
            both = tracked[one.id] & tracked[two.id] - frozenset(_shared(one, two, files))
            found.append(ScopeConflict(one.id, two.id, example, tuple(sorted(both))))
    return tuple(found)


def _that_may_meet(tasks: Sequence[Task]) -> Iterator[tuple[Task, Task]]:
    """The pairs of tasks of whose prefixes one begins with the other, in the order of the tasks.

    Sorted, all texts that begin with another one stand right behind it, so that of tasks in folders of their own
    no pair is looked at.
    """
    given = ((pattern, place) for place, task in enumerate(tasks) for pattern in task.allowed.patterns)
    prefixes = sorted({(pattern.prefix, place) for pattern, place in given if not pattern.negated})
    pairs: set[tuple[int, int]] = set()
    for at, (prefix, one) in enumerate(prefixes):
        for behind in range(at + 1, len(prefixes)):
            other, two = prefixes[behind]
            if not other.startswith(prefix):
                break
            if one != two:
                pairs.add((min(one, two), max(one, two)))
    return ((tasks[one], tasks[two]) for one, two in sorted(pairs))


def _common(one: Task, two: Task) -> str | None:
    pairs: list[tuple[Scope, Scope]] = [(one.scope, two.scope)]
    if two.shared.patterns:
        pairs.append((one.scope, two.shared))
    if one.shared.patterns:
        pairs.append((one.shared, two.scope))
    examples = [path for a, b in pairs if (path := a.meeting(b)) is not None]
    return min(examples, key=lambda path: (len(path), path), default=None)


def _shared(one: Task, two: Task, files: Sequence[str]) -> list[str]:
    if not one.shared.patterns or not two.shared.patterns:
        return []
    return [f for f in files if f in one.shared and f in two.shared and not (f in one.scope or f in two.scope)]


def _estimate(workload: Workload, limits: Limits, schedule: Sequence[Placement], *, measured: bool) -> Estimate:
    return Estimate(
        sequential=sum(task.seconds for task in workload.tasks.values()),
        parallel=makespan(schedule),
        overhead=workload.overhead,
        lower_bound=lower_bound(workload, limits),
        break_even=_break_even(workload, limits),
        measured=measured,
    )


def _break_even(workload: Workload, limits: Limits) -> float | None:
    """The factor f for which the schedule of all times f takes as long as f times the sequence, by halving."""
    work = sum(task.seconds for task in workload.tasks.values())
    if not workload.overhead:
        return 0.0 if makespan(simulate(workload, limits)) < work else None

    def gain(factor: float) -> float:
        scaled = {n: evolve(t, estimate=t.seconds * factor) for n, t in workload.tasks.items()}
        return factor * work - makespan(simulate(Workload(scaled, workload.conflicts, workload.overhead), limits))

    high = 1.0
    while gain(high) <= 0:
        high *= 4
        if high > 1e6:
            return None
    low = 0.0
    while high - low > max(1e-6, 0.01 * high):
        middle = (low + high) / 2
        low, high = (low, middle) if gain(middle) > 0 else (middle, high)
    return high


def _warnings(
    plan: TaskPlan,
    files: Sequence[str],
    together: Mapping[tuple[str, str], int],
    conflicts: Sequence[ScopeConflict],
) -> list[Caution]:
    apart = {frozenset((c.one, c.two)) for c in conflicts}
    found = _co_change_warnings(plan, together, apart)
    for task in plan.tasks:
        if files and not task.scope.of(files):
            found.append(Caution("no-file", (task.id,), f"the scope of {task.id} ({task.scope}) holds no tracked file"))
        if task.estimate is None:
            found.append(Caution("estimate", (task.id,), f"{task.id} has no estimate; {task.seconds:g} s are assumed"))
    reach = ancestors(plan)
    for one in (task for task in plan.tasks if task.reads.patterns):
        for two in plan.tasks:
            ordered = one.id in reach[two.id] or two.id in reach[one.id]
            if one is not two and not ordered and one.reads.meets(two.scope):
                message = f"{one.id} reads what {two.id} changes; make it depend on {two.id} if it needs the result"
                found.append(Caution("reads", (one.id, two.id), message))
    return found


def ancestors(plan: TaskPlan) -> dict[str, set[str]]:
    """For each task all tasks that have to be merged before it, directly or not."""
    reach: dict[str, set[str]] = {}
    tasks = plan.by_id
    for name in merge_order(Workload(tasks)):
        needs = tasks[name].depends_on
        reach[name] = set(needs).union(*(reach[other] for other in needs))
    return reach


def _co_change_warnings(
    plan: TaskPlan, together: Mapping[tuple[str, str], int], apart: set[frozenset[str]]
) -> list[Caution]:
    strongest: dict[tuple[str, str], tuple[int, str, str]] = {}
    named = sorted({file for pair in together for file in pair})
    owners = {file: [task.id for task in plan.tasks if file in task.scope] for file in named}
    for (first, second), commits in together.items():
        for one in owners[first]:
            for two in owners[second]:
                if one != two and frozenset((one, two)) not in apart:
                    key = (one, two) if one < two else (two, one)
                    strongest[key] = max(strongest.get(key, (0, "", "")), (commits, first, second))
    return [
        Caution(
            "co-change",
            pair,
            f"{first} ({'/'.join(owners[first])}) and {second} ({'/'.join(owners[second])}) changed together in "
            f"{commits} commits: {pair[0]} and {pair[1]} may need each other",
        )
        for pair, (commits, first, second) in sorted(strongest.items())
    ]
