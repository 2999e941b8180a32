"""A range of history as a graph, for searching: who reaches whom, in git's order. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping

from attrs import define, field

from arboretum.values import Commit, Oid


@define(eq=False)
class History:
    """The commits of a range and how they hang together.

    A set of commits is an integer with a bit for each, so that "all that this one reaches" and its size are one
    operation; 10,000 commits take 12 MB.

    Args:
        parents: The parents of each commit of the range, in order, those outside the range left out.
        dates: When each was committed, in seconds since the epoch.
    """

    parents: Mapping[Oid, tuple[Oid, ...]]
    dates: Mapping[Oid, int]
    _bits: dict[Oid, int] = field(factory=dict, init=False, repr=False)
    _order: list[Oid] = field(factory=list, init=False, repr=False)
    _reach: dict[Oid, int] = field(factory=dict, init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        for oid in _parents_first(self.parents):
            bit = len(self._order)
            self._order.append(oid)
            self._bits[oid] = bit
            self._reach[oid] = 1 << bit
            for parent in self.parents[oid]:
                self._reach[oid] |= self._reach[parent]

    @classmethod
    def of(cls, commits: Iterable[Commit], *, first_parent: bool = False) -> History:
        """The history of exactly these commits.

        Args:
            commits: The commits of the range, in any order.
            first_parent: Leave out all parents but the first.
        """
        known = {commit.oid: commit for commit in commits}
        cut = slice(1) if first_parent else slice(None)
        return cls(
            {oid: tuple(p for p in commit.parents[cut] if p in known) for oid, commit in known.items()},
            {oid: int(commit.committer.when.timestamp()) for oid, commit in known.items()},
        )

    def __len__(self) -> int:
        return len(self._order)

    def __contains__(self, oid: object) -> bool:
        return oid in self._bits

    def reach(self, oid: Oid) -> int:
        """The set of the commits of the range that `oid` reaches, itself included."""
        return self._reach[oid]

    def has(self, commits: int, oid: Oid) -> bool:
        """Whether `oid` is in the set `commits`."""
        return bool(commits >> self._bits[oid] & 1)

    def parents_in(self, commits: int, oid: Oid) -> list[Oid]:
        """The parents of `oid` that are in the set `commits`."""
        return [parent for parent in self.parents[oid] if self.has(commits, parent)]

    def walk(self, start: Oid, commits: int) -> list[Oid]:
        """The commits of the set that `start` reaches, in the order in which git walks: newest date first.

        Of equal dates the one that was seen first comes first.
        """
        queue = [(-self.dates[start], 0, start)]
        seen, found = {start}, []
        while queue:
            _, _, oid = heapq.heappop(queue)
            found.append(oid)
            for parent in self.parents_in(commits, oid):
                if parent not in seen:
                    seen.add(parent)
                    heapq.heappush(queue, (-self.dates[parent], len(seen), parent))
        return found

    def chain(self, start: Oid, commits: int) -> list[Oid] | None:
        """The commits of the set that `start` reaches, oldest first; None if one has two parents in the set."""
        found = [start]
        while parents := self.parents_in(commits, found[-1]):
            if len(parents) > 1:
                return None
            found.append(parents[0])
        return found[::-1]

    def members(self, commits: int) -> Iterator[Oid]:
        """The commits of the set, parents before children."""
        while commits:
            low = commits & -commits
            yield self._order[low.bit_length() - 1]
            commits ^= low


def _parents_first(parents: Mapping[Oid, tuple[Oid, ...]]) -> Iterator[Oid]:
    done: set[Oid] = set()
    for root in parents:
        stack = [root]
        while stack:
            oid = stack[-1]
            missing = [p for p in parents[oid] if p not in done] if oid not in done else []
            if missing:
                stack.extend(missing)
                continue
            stack.pop()
            if oid not in done:
                done.add(oid)
                yield oid
