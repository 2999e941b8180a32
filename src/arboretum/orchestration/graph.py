"""The graph of dependencies between tasks (pure): order, cycles, the critical path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

#: For each task the tasks that have to come before it.
Dependencies = Mapping[str, Sequence[str]]


def find_cycles(dependencies: Dependencies) -> list[tuple[str, ...]]:
    """One cycle of each knot of tasks that wait for each other, named in full; empty when there is none.

    Each cycle reads ``a needs b needs ... needs a`` and has its first task once. Knots are the strongly connected
    components (Tarjan 1972, without recursion); within one the cycle is a shortest one through its first task.
    """
    cycles = []
    for knot in _components(dependencies):
        first = min(knot, key=list(dependencies).index)
        if len(knot) > 1 or first in dependencies[first]:
            cycles.append(_shortest_cycle(first, knot, dependencies))
    return cycles


def _components(dependencies: Dependencies) -> list[set[str]]:
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[set[str]] = []
    for root in dependencies:
        if root in index:
            continue
        work = [(root, iter(dependencies[root]))]
        index[root] = low[root] = len(index)
        stack.append(root)
        while work:
            node, rest = work[-1]
            for other in rest:
                if other not in index:
                    index[other] = low[other] = len(index)
                    stack.append(other)
                    work.append((other, iter(dependencies[other])))
                    break
                if other in stack:
                    low[node] = min(low[node], index[other])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == index[node]:
                    knot = set(stack[stack.index(node) :])
                    del stack[stack.index(node) :]
                    found.append(knot)
    return found


def _shortest_cycle(first: str, knot: set[str], dependencies: Dependencies) -> tuple[str, ...]:
    paths: list[tuple[str, ...]] = [(first,)]
    seen = {first}
    for path in paths:  # grows while it is walked: breadth first
        for other in dependencies[path[-1]]:
            if other == first:
                return path
            if other in knot and other not in seen:
                seen.add(other)
                paths.append((*path, other))
    raise AssertionError(f"{first} is in a knot without a cycle")


def topological_order(dependencies: Dependencies) -> tuple[str, ...]:
    """The tasks, each after those it depends on, else in the given order. There must be no cycle."""
    placed: dict[str, None] = {}
    waiting = list(dependencies)
    while waiting:
        later = []
        for task in waiting:
            if all(other in placed for other in dependencies[task]):
                placed[task] = None
            else:
                later.append(task)
        if len(later) == len(waiting):
            raise ValueError(f"tasks wait for each other: {', '.join(later)}")
        waiting = later
    return tuple(placed)


def dependents(dependencies: Dependencies) -> dict[str, tuple[str, ...]]:
    """For each task the tasks that depend on it directly."""
    found: dict[str, list[str]] = {task: [] for task in dependencies}
    for task, needed in dependencies.items():
        for other in needed:
            found[other].append(task)
    return {task: tuple(names) for task, names in found.items()}


def path_lengths(dependencies: Dependencies, seconds: Mapping[str, float]) -> dict[str, float]:
    """For each task the seconds from its start to the end of the longest chain that it begins."""
    after = dependents(dependencies)
    lengths: dict[str, float] = {}
    for task in reversed(topological_order(dependencies)):
        lengths[task] = seconds[task] + max((lengths[other] for other in after[task]), default=0.0)
    return lengths


def critical_path(dependencies: Dependencies, seconds: Mapping[str, float]) -> tuple[str, ...]:
    """The longest chain of tasks, from its first to its last; no schedule is shorter than it."""
    if not dependencies:
        return ()
    lengths, after = path_lengths(dependencies, seconds), dependents(dependencies)
    roots = [task for task in dependencies if not dependencies[task]]
    path = [max(roots, key=lengths.__getitem__)]
    while after[path[-1]]:
        path.append(max(after[path[-1]], key=lengths.__getitem__))
    return tuple(path)
