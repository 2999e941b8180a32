"""Bisection as git does it, as a value: given what is known, which commit is next, or what the answer is. Pure.

With several culprits, or with skipped commits between merged branches, "the first bad commit" depends on the
commits that happen to be tested. To give the answer that `git bisect run` gives on any history, the choice here
is git's, ties and all: the commit that splits the range most evenly, and away from it by a fixed pseudo-random
hop when it has been skipped. (What git does was learnt from its documentation and behaviour; it is the oracle
of the tests.)
"""

from __future__ import annotations

import enum
import itertools
import math
from collections.abc import Iterable, Iterator
from typing import Self

from attrs import evolve, field, frozen

from arboretum.engine.history import History, Region
from arboretum.values import Oid


class Finding(enum.StrEnum):
    """What a trial says of a commit."""

    GOOD = "good"
    BAD = "bad"
    SKIP = "skip"


@frozen
class Answer:
    """The end of a bisection: the commits that the first bad one is among; exactly one when it is known."""

    candidates: tuple[Oid, ...]


@frozen
class Bisection:
    """What a bisection knows. What follows from it is worked out once: a search asks for the same things many times.

    Args:
        region: The commits that may be the first bad one; everything still in question leads to its tip, which is bad.
        skipped: The commits that cannot be tested.
    """

    region: Region
    skipped: frozenset[int] = frozenset()
    _chosen: list[Oid | Answer] = field(factory=list, init=False, repr=False, eq=False)
    _learnt: dict[tuple[Oid, Finding], Bisection] = field(factory=dict, init=False, repr=False, eq=False)

    @classmethod
    def of(cls, history: History, bad: Oid) -> Self:
        """Nothing is known but that `bad` is bad; `history` is all that it reaches and no known good one does."""
        return cls(Region.below(history, bad))

    def learn(self, oid: Oid, finding: Finding) -> Bisection:
        """What is known once `oid` (which is still in question) has been found good, bad or untestable."""
        key = (oid, finding)
        if key not in self._learnt:
            number = self.region.history.numbers[oid]
            if finding is Finding.SKIP:
                self._learnt[key] = evolve(self, skipped=self.skipped | {number})
            else:
                region = self.region.without(number) if finding is Finding.GOOD else self.region.kept_to(number)
                self._learnt[key] = evolve(self, region=region)
        return self._learnt[key]

    def line(self) -> list[Oid] | None:
        """The remaining commits, oldest first, if none of them is a merge of two of them; else None."""
        return self.region.line()

    def next(self) -> Oid | Answer:
        """The commit that git would test next, or the answer."""
        if not self._chosen:
            self._chosen.append(self._choose())
        return self._chosen[0]

    def share(self, oid: Oid) -> float:
        """Which share of the remaining commits `oid` reaches: how likely it is bad, all culprits being as likely."""
        counts = self.region.counts()
        return counts[self.region.history.numbers[oid]] / len(counts)

    def _choose(self) -> Oid | Answer:
        region, oids = self.region, self.region.history.oids
        chosen = self._most_even_but_skipped() if self.skipped else self._most_even()
        if chosen != region.tip:
            return oids[chosen]
        untestable = [number for number in region.order() if number in self.skipped and number != region.tip]
        return Answer((oids[region.tip], *(oids[number] for number in untestable)))

    def _most_even(self) -> int:
        # Git looks at the merges first, and takes the first commit that is near enough to half-way.
        region, counts = self.region, self.region.counts()
        total = len(counts)
        merges = [number for number in region.order() if len(region.parents(number)) > 1]
        for number in itertools.chain(merges, self._in_order_of_counting(merges)):
            off = abs(2 * counts[number] - total)
            if off <= 1 or off < total // 1024:
                return number
        return max(region.order(), key=lambda number: min(counts[number], total - counts[number]))

    def _in_order_of_counting(self, merges: Iterable[int]) -> Iterator[int]:
        # A commit is counted once its parent has been; merges and roots of the region are known from the start.
        region = self.region
        counted = {number for number in region.order() if not region.parents(number)}.union(merges)
        waiting = [number for number in region.order() if number not in counted]
        while waiting:
            later = []
            for number in waiting:
                if any(parent in counted for parent in region.parents(number)):
                    counted.add(number)
                    yield number
                else:
                    later.append(number)
            waiting = later

    def _most_even_but_skipped(self) -> int:
        ranked = self.region.ranked()
        if ranked[0] not in self.skipped:
            return ranked[0]
        testable = [number for number in ranked if number not in self.skipped]
        place = _hop(len(testable))
        if testable[place] != self.region.tip:
            return testable[place]
        return testable[place - 1] if place else testable[0]


def _hop(count: int) -> int:
    """How far from the best commit git goes when that one has been skipped: a fixed pseudo-random share of `count`."""
    modulus = 1 << 15
    number = ((count * 1103515245 + 12345) % (1 << 32) >> 16) % modulus
    return (count * number // modulus) * math.isqrt(number) // math.isqrt(modulus)
