"""The order and the simplification of a log, as git's revision.c has them. Pure.

libgit2's own walk breaks ties between equal dates in another order than git and knows no paths, so
only the set of commits is left to it.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from arboretum.values import Oid


class Step(NamedTuple):
    """What a walk needs to know of one commit.

    Attributes:
        date: Its committer date in seconds.
        parents: The parents that the walk follows.
        shown: Whether the commit is part of the result.
    """

    date: int
    parents: Sequence[Oid]
    shown: bool = True


def by_date(tips: Iterable[Oid], step: Callable[[Oid], Step]) -> Iterator[tuple[Oid, Step]]:
    """The commits that are reachable from `tips`, the latest of those at hand first, equal ones as they came."""
    queue: list[tuple[int, int, Oid, Step]] = []
    seen: set[Oid] = set()

    def push(oids: Iterable[Oid]) -> None:
        for oid in oids:
            if oid not in seen:
                seen.add(oid)
                found = step(oid)
                heapq.heappush(queue, (-found.date, len(seen), oid, found))

    push(tips)
    while queue:
        _, _, oid, found = heapq.heappop(queue)
        yield oid, found
        push(found.parents)


def topological(walked: Iterable[tuple[Oid, Step]]) -> Iterator[tuple[Oid, Step]]:
    """The same commits, no parent before all of its children, one line of history at a time."""
    steps = dict(walked)
    waiting = dict.fromkeys(steps, 0)
    for step in steps.values():
        for parent in step.parents:
            if parent in waiting:
                waiting[parent] += 1
    stack = [oid for oid in reversed(steps) if not waiting[oid]]
    while stack:
        oid = stack.pop()
        yield oid, steps[oid]
        for parent in steps[oid].parents:
            if parent in waiting:
                waiting[parent] -= 1
                if not waiting[parent]:
                    stack.append(parent)


def simplify(
    content: object, parents: Sequence[Oid], parent_content: Callable[[Oid], object], relevant: Callable[[Oid], bool]
) -> tuple[Sequence[Oid], bool]:
    """Which parents a log of some paths follows from a commit, and whether it shows the commit.

    A parent that holds the same at the paths explains it all: the walk follows that one alone, and the
    commit is not shown ("History Simplification", default mode, git-log(1)).

    Args:
        content: What the commit holds at the paths; falsy for nothing.
        parents: Its parents.
        parent_content: What a parent holds there.
        relevant: Whether a parent is part of the walk, or one of its excluded ends.
    """
    if not parents:
        return parents, bool(content)
    changed = {True: False, False: False}
    for parent in parents:
        is_relevant = relevant(parent)
        if parent_content(parent) != content:
            changed[is_relevant] = True
        elif is_relevant:
            return (parent,), False
    has_relevant = any(relevant(parent) for parent in parents)
    return parents, changed[has_relevant]
