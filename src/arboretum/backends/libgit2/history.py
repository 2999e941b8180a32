"""The order and the simplification of a log, as git's revision.c has them. Pure.

libgit2's own walk breaks ties between equal dates in another order than git and knows no paths, so
only the set of commits is left to it.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from attrs import define, field

from arboretum.values import Oid

#: How many more commits git looks at when all that are left are hidden, because dates may run backwards.
_SLOP: Final = 5


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


@define
class _Seen:
    """A commit that a limited walk came by.

    Args:
        date: Its committer date in seconds.
        parents: Its parents; fewer once it was simplified.
    """

    date: int
    parents: Sequence[Oid]
    hidden: bool = False
    bottom: bool = False
    shown: bool = True
    queued: bool = False


@define
class LimitedWalk:
    """A walk that leaves out what some commits reach and simplifies for paths at the same time (limit_list).

    The two cannot be parted: whether a parent counts for a simplification hangs on whether it is known to be left out
    *by then*, and that spreads by date. Hence the commits are taken in git's order, the hidden ones too, and marks go
    as far as git's do: to all parents of what has been read, and no further.

    Args:
        load: The date and the parents of a commit.
        content: What a commit holds at the paths; falsy for nothing.
        first_parent: Whether only first parents are followed.
    """

    load: Callable[[Oid], tuple[int, Sequence[Oid]]]
    content: Callable[[Oid], object]
    first_parent: bool = False
    _seen: dict[Oid, _Seen] = field(factory=dict, init=False)
    _marked: set[Oid] = field(factory=set, init=False)  # hidden, and not read yet
    _queue: list[tuple[int, int, Oid]] = field(factory=list, init=False)
    _pushed: int = field(default=0, init=False)

    def run(self, tips: Sequence[Oid], hidden: Sequence[Oid]) -> Iterator[tuple[Oid, Step]]:
        """The commits of the walk in git's order, those that are not shown too."""
        for oid in (*tips, *hidden):
            self._push(oid)
        for oid in hidden:
            self._seen[oid].hidden = self._seen[oid].bottom = True
            self._mark_parents(oid)
        taken: list[Oid] = []
        date, slop = math.inf, _SLOP
        while self._queue:
            oid = heapq.heappop(self._queue)[2]
            self._parents(oid)
            commit = self._seen[oid]
            if commit.hidden:
                self._mark_parents(oid)
                slop = self._patience(date, slop)
                if not slop:
                    break
                continue
            date = commit.date
            taken.append(oid)
        for oid in taken:
            commit = self._seen[oid]
            if not commit.hidden:
                parents = commit.parents[:1] if self.first_parent else commit.parents
                yield oid, Step(commit.date, parents, commit.shown)

    def _patience(self, date: float, slop: int) -> int:
        """How many more hidden commits are to be looked at: some, for dates that run backwards (still_interesting)."""
        if not self._queue:
            return 0
        if date <= self._seen[self._queue[0][2]].date or any(not self._seen[oid].hidden for _, _, oid in self._queue):
            return _SLOP
        return slop - 1

    def _read(self, oid: Oid) -> _Seen:
        if oid not in self._seen:
            self._seen[oid] = _Seen(*self.load(oid), hidden=oid in self._marked)
        return self._seen[oid]

    def _is_hidden(self, oid: Oid) -> bool:
        return self._seen[oid].hidden if oid in self._seen else oid in self._marked

    def _push(self, oid: Oid) -> None:
        commit = self._read(oid)
        if not commit.queued:
            commit.queued = True
            self._pushed += 1
            heapq.heappush(self._queue, (-commit.date, self._pushed, oid))

    def _mark_parents(self, oid: Oid) -> None:
        """Hide the parents, and theirs as far as they have been read (mark_parents_uninteresting)."""
        pending = list(self._seen[oid].parents)
        while pending:
            parent = pending.pop()
            if self._is_hidden(parent):
                continue
            self._marked.add(parent)
            if parent in self._seen:
                self._seen[parent].hidden = True
                pending += self._seen[parent].parents

    def _parents(self, oid: Oid) -> None:
        """Take the parents of a commit into the walk, simplified where it is not hidden (process_parents)."""
        commit = self._seen[oid]
        if commit.hidden:
            for parent in commit.parents:
                self._marked.add(parent)
                self._read(parent).hidden = True
                self._mark_parents(parent)
                self._push(parent)
            return
        commit.parents, commit.shown = simplify(
            self.content(oid), commit.parents, self._content_of_parent, self._is_relevant,
            first_parent=self.first_parent,
        )  # fmt: skip
        for parent in commit.parents[:1] if self.first_parent else commit.parents:
            self._push(parent)

    def _content_of_parent(self, oid: Oid) -> object:
        self._read(oid)
        return self.content(oid)

    def _is_relevant(self, oid: Oid) -> bool:
        return not self._is_hidden(oid) or (oid in self._seen and self._seen[oid].bottom)


def simplify(
    content: object,
    parents: Sequence[Oid],
    parent_content: Callable[[Oid], object],
    relevant: Callable[[Oid], bool] = lambda _parent: True,
    *,
    first_parent: bool = False,
) -> tuple[Sequence[Oid], bool]:
    """Which parents a log of some paths follows from a commit, and whether it shows the commit.

    A parent that holds the same at the paths explains it all: the walk follows that one alone, and the
    commit is not shown ("History Simplification", default mode, git-log(1)).

    Args:
        content: What the commit holds at the paths; falsy for nothing.
        parents: Its parents.
        parent_content: What a parent holds there.
        relevant: Whether a parent is part of the walk, or one of its excluded ends; all are where nothing is excluded.
        first_parent: Whether only the first parent is looked at.

    Returns:
        The parents that the walk follows, and whether the commit is shown.
    """
    if not parents:
        return parents, bool(content)
    changed = {True: False, False: False}
    for parent in parents[:1] if first_parent else parents:
        is_relevant = relevant(parent)
        if parent_content(parent) != content:
            changed[is_relevant] = True
        elif is_relevant:
            return (parent,), False
    # Git counts the second parent before it finds that only the first one matters.
    has_relevant = any(relevant(parent) for parent in (parents[:2] if first_parent else parents))
    return parents, changed[has_relevant]
