"""Walks over the graph of commits: the order of a log, merge bases, ahead and behind. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence

from arboretum.values import Commit, Oid

#: How a walk gets at a commit.
ReadCommit = Callable[[Oid], Commit]


def reachable(read: ReadCommit, starts: Iterable[Oid]) -> set[Oid]:
    """All commits that can be reached from `starts`, themselves included."""
    found: set[Oid] = set()
    pending = list(starts)
    while pending:
        oid = pending.pop()
        if oid not in found:
            found.add(oid)
            pending += read(oid).parents
    return found


def _moment(commit: Commit) -> int:
    return int(commit.committer.when.timestamp())


def by_date(
    read: ReadCommit, starts: Sequence[Oid], hidden: set[Oid], parents: Callable[[Commit], Sequence[Oid]]
) -> Iterator[Commit]:
    """The commits in the order of git log: the latest by committer date of those at hand; equal ones as they came."""
    seen: set[Oid] = set()
    queue: list[tuple[int, int, Commit]] = []

    def push(oids: Iterable[Oid]) -> None:
        for oid in oids:
            if oid not in seen and oid not in hidden:
                seen.add(oid)
                commit = read(oid)
                heapq.heappush(queue, (-_moment(commit), len(seen), commit))

    push(starts)
    while queue:
        commit = heapq.heappop(queue)[2]
        yield commit
        push(parents(commit))


def topological(commits: Sequence[Commit], parents: Callable[[Commit], Sequence[Oid]]) -> Iterator[Commit]:
    """The same commits, no parent before all of its children, and lines of history kept together."""
    known = {commit.oid: commit for commit in commits}
    waiting = dict.fromkeys(known, 0)
    for commit in commits:
        for parent in parents(commit):
            if parent in waiting:
                waiting[parent] += 1
    stack = [commit for commit in reversed(commits) if not waiting[commit.oid]]
    while stack:
        commit = stack.pop()
        yield commit
        for parent in parents(commit):
            if parent in waiting:
                waiting[parent] -= 1
                if not waiting[parent]:
                    stack.append(known[parent])


def merge_bases(read: ReadCommit, one: Oid, two: Oid) -> list[Oid]:
    """The best common ancestors: those that no other common ancestor descends from; the latest first."""
    common = reachable(read, [one]) & reachable(read, [two])
    below: set[Oid] = set()
    for oid in common:
        if oid not in below:
            below |= reachable(read, read(oid).parents)
    return sorted(common - below, key=lambda oid: (-_moment(read(oid)), oid))
