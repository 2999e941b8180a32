"""A range of history as a graph, for searching: who reaches whom, in git's order. Pure.

Commits are numbered, parents before children, and everything here is done with the numbers: a set of commits is one
byte for each, so that a question about one of them costs the same however many there are. No commit keeps what it
reaches, which would take memory by the square of the range; it is found by walking what is still in question.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Self

from attrs import define, field

from arboretum.backends.base import CommitLink
from arboretum.values import Oid


@define(eq=False)
class History:
    """The commits of a range and how they hang together.

    Args:
        oids: The commits, parents before children.
        parents: The numbers of the parents of each, in order, those outside the range left out.
        dates: When each was committed, in seconds since the epoch.
        outside: Parents that are outside the range.
    """

    oids: Sequence[Oid] = field(repr=False)
    parents: Sequence[Sequence[int]] = field(repr=False)
    dates: Sequence[int] = field(repr=False)
    outside: Collection[Oid] = field(repr=False)
    numbers: Mapping[Oid, int] = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self.numbers = {oid: number for number, oid in enumerate(self.oids)}

    @classmethod
    def of(cls, commits: Iterable[CommitLink], *, first_parent: bool = False) -> Self:
        """The history of exactly these commits.

        Args:
            commits: The commits of the range, in any order; from the newest on is the fastest.
            first_parent: Leave out all parents but the first.
        """
        told = list(commits)[::-1]
        places = {commit.oid: place for place, commit in enumerate(told)}
        cut = 1 if first_parent else None
        parents = [tuple([places[oid] for oid in commit.parents[:cut] if oid in places]) for commit in told]
        order = _parents_first(parents)
        numbers = [0] * len(order)
        for number, place in enumerate(order):
            numbers[place] = number
        return cls(
            [told[place].oid for place in order],
            [tuple([numbers[parent] for parent in parents[place]]) for place in order],
            [told[place].time for place in order],
            set().union(*(commit.parents for commit in told)) - places.keys(),
        )

    def __len__(self) -> int:
        return len(self.oids)

    def reach(self, start: int, within: bytes | bytearray | None = None) -> bytearray:
        """The set of the commits that `start` reaches, itself included.

        Args:
            start: The commit.
            within: The way there and the commits are in this set; None for all.
        """
        found = bytearray(len(self))
        found[start] = 1
        pending = [start]
        while pending:
            for parent in self.parents[pending.pop()]:
                if not found[parent] and (within is None or within[parent]):
                    found[parent] = 1
                    pending.append(parent)
        return found


@define(eq=False)
class Region:
    """What a commit reaches, less what others reach: the part of a history that is still in question.

    Args:
        history: The whole.
        tip: The number of the commit that reaches all others.
        inside: The set of its commits.
    """

    history: History = field(repr=False)
    tip: int
    inside: bytearray = field(repr=False)
    _order: list[int] | None = field(default=None, init=False, repr=False)
    _counts: Mapping[int, int] | None = field(default=None, init=False, repr=False)
    _ranked: list[int] | None = field(default=None, init=False, repr=False)

    @classmethod
    def below(cls, history: History, tip: Oid) -> Self:
        """All that `tip` reaches."""
        number = history.numbers[tip]
        return cls(history, number, history.reach(number))

    def kept_to(self, number: int) -> Region:
        """The part that the commit reaches."""
        return Region(self.history, number, self.history.reach(number, self.inside))

    def without(self, number: int) -> Region:
        """The part that the commit does not reach."""
        reached = int.from_bytes(self.history.reach(number, self.inside))
        left = int.from_bytes(self.inside) & ~reached
        return Region(self.history, self.tip, bytearray(left.to_bytes(len(self.inside))))

    def members(self) -> list[int]:
        """The commits, parents before children."""
        return sorted(self.order())

    def parents(self, number: int) -> list[int]:
        """The parents of a commit that are in the region."""
        inside = self.inside
        return [parent for parent in self.history.parents[number] if inside[parent]]

    def line(self) -> list[Oid] | None:
        """The commits, oldest first; None if one of them is a merge of two of them."""
        found = [self.tip]
        while parents := self.parents(found[-1]):
            if len(parents) > 1:
                return None
            found.append(parents[0])
        oids = self.history.oids
        return [oids[number] for number in reversed(found)]

    def order(self) -> list[int]:
        """The commits in the order in which git's bisection looks at them: its walk, the newest date first, backwards.

        Of equal dates the one that was seen first comes first in the walk.
        """
        if self._order is None:
            dates, parents = self.history.dates, self.history.parents
            left = bytearray(self.inside)
            left[self.tip] = 0
            queue, found, seen = [(-dates[self.tip], 0, self.tip)], [], 0
            while queue:
                number = heapq.heappop(queue)[2]
                found.append(number)
                for parent in parents[number]:
                    if left[parent]:
                        left[parent] = 0
                        seen += 1
                        heapq.heappush(queue, (-dates[parent], seen, parent))
            self._order = found[::-1]
        return self._order

    def counts(self) -> Mapping[int, int]:
        """How many commits of the region each of them reaches, itself included."""
        if self._counts is None:
            self._counts = reach_counts(self, self.inside)
        return self._counts

    def ranked(self) -> list[int]:
        """The commits, from the one that splits the region most evenly on; equal ones by their ids."""
        if self._ranked is None:
            counts, oids = self.counts(), self.history.oids
            total = len(counts)
            self._ranked = sorted(counts, key=lambda n: (-min(counts[n], total - counts[n]), oids[n]))
        return self._ranked


def reach_counts(region: Region, of: bytes | bytearray) -> dict[int, int]:
    """How many commits of the set `of` each commit of the region reaches, itself included."""
    counts: dict[int, int] = {}
    sets = _ReachedSets(region, of)
    for number in region.members():
        parents = region.parents(number)
        if len(parents) > 1:
            counts[number] = sets.of_merge(number, parents).bit_count()
        else:
            counts[number] = of[number] + (counts[parents[0]] if parents else 0)
    return counts


@define(eq=False)
class _ReachedSets:
    """What merges reach, as integers with a bit for each commit; they are asked for with parents before children.

    Only of merges and their parents sets are made, and one is dropped when all children of its commit have taken it: as
    many are held as there are lines of history side by side. Commits get their bits as they are come by, so that a
    stretch without merges and forks has consecutive ones, and is added at once.

    Args:
        region: The commits.
        of: Those that count.
    """

    region: Region
    of: bytes | bytearray
    _children: list[int] = field(init=False)  # how many children of each commit have not taken its set yet
    _sets: dict[int, int] = field(factory=dict, init=False)
    _bits: int = field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self._children = [0] * len(self.region.history)
        for number in self.region.members():
            for parent in self.region.parents(number):
                self._children[parent] += 1

    def of_merge(self, number: int, parents: Iterable[int]) -> int:
        """The set of the merge of `parents`."""
        found = self._consecutive(self.of[number])
        for parent in parents:
            found |= self._take(parent)
        if self._children[number]:
            self._sets[number] = found
        return found

    def _take(self, number: int) -> int:
        """The set of a commit, for one of its children."""
        stretch = []  # down to a commit whose set is known, or that has no parent
        parents = [number]
        while parents and parents[0] not in self._sets:
            stretch.append(parents[0])
            parents = self.region.parents(parents[0])
        found = self._known(parents[0]) if parents else 0
        length = 0
        for current in reversed(stretch):
            length += self.of[current]
            self._children[current] -= 1
            if self._children[current]:  # others will come by here
                found |= self._consecutive(length)
                length = 0
                self._sets[current] = found
        return found | self._consecutive(length)

    def _known(self, number: int) -> int:
        self._children[number] -= 1
        return self._sets[number] if self._children[number] else self._sets.pop(number)

    def _consecutive(self, length: int) -> int:
        bits = ((1 << length) - 1) << self._bits
        self._bits += length
        return bits


def _parents_first(parents: Sequence[Sequence[int]]) -> list[int]:
    done = bytearray(len(parents))
    order: list[int] = []
    for root in range(len(parents)):
        pending = [] if done[root] else [root]
        while pending:
            place = pending[-1]
            missing = [parent for parent in parents[place] if not done[parent]]
            if missing and not done[place]:
                pending += missing
                continue
            pending.pop()
            if not done[place]:
                done[place] = 1
                order.append(place)
    return order
