"""Bisection as git does it, as a value: given what is known, which commit is next, or what the answer is. Pure.

With several culprits, or with skipped commits between merged branches, "the first bad commit" depends on the
commits that happen to be tested. To give the answer that `git bisect run` gives on any history, the choice here
is git's, ties and all: the commit that splits the range most evenly, and away from it by a fixed pseudo-random
hop when it has been skipped. (What git does was learnt from its documentation and behaviour; it is the oracle
of the tests.)
"""

from __future__ import annotations

import enum
import math

from attrs import evolve, field, frozen

from arboretum.engine.history import History
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
    """What a bisection knows.

    Args:
        history: The range: all that the first known bad commit reaches and no known good one does.
        bad: The bad commit that everything still in question leads to.
        good: The set of commits that are good, because a good one reaches them.
        skipped: The commits that cannot be tested.
    """

    history: History = field(repr=False, eq=False)
    bad: Oid
    good: int = 0
    skipped: frozenset[Oid] = frozenset()

    @property
    def remaining(self) -> int:
        """The set of commits that may be the first bad one."""
        return self.history.reach(self.bad) & ~self.good

    def learn(self, oid: Oid, finding: Finding) -> Bisection:
        """What is known once `oid` has been found good, bad or untestable."""
        if finding is Finding.GOOD:
            return evolve(self, good=self.good | self.history.reach(oid))
        if finding is Finding.SKIP:
            return evolve(self, skipped=self.skipped | {oid})
        return evolve(self, bad=oid)

    def chain(self) -> list[Oid] | None:
        """The remaining commits, oldest first, if none of them is a merge of two of them; else None."""
        return self.history.chain(self.bad, self.remaining)

    def next(self) -> Oid | Answer:
        """The commit that git would test next, or the answer."""
        weights = self._weights()
        chosen = self._most_even(weights) if not self.skipped else self._most_even_but_skipped(weights)
        if chosen != self.bad:
            return chosen
        return Answer((self.bad, *(oid for oid in weights if oid in self.skipped and oid != self.bad)))

    def share(self, oid: Oid) -> float:
        """Which share of the remaining commits `oid` reaches: how likely it is bad, all culprits being as likely."""
        remaining = self.remaining
        return (self.history.reach(oid) & remaining).bit_count() / remaining.bit_count()

    def _weights(self) -> dict[Oid, int]:
        # How many of the remaining commits each of them reaches, in git's order of looking at them: oldest first.
        remaining = self.remaining
        order = reversed(self.history.walk(self.bad, remaining))
        return {oid: (self.history.reach(oid) & remaining).bit_count() for oid in order}

    def _most_even(self, weights: dict[Oid, int]) -> Oid:
        # Git looks at the merges first, and takes the first commit that is near enough to half-way.
        remaining, total = self.remaining, len(weights)
        merges = [oid for oid in weights if len(self.history.parents_in(remaining, oid)) > 1]
        for oid in (*merges, *self._in_order_of_counting(weights, set(merges))):
            off = abs(2 * weights[oid] - total)
            if off <= 1 or off < total // 1024:
                return oid
        return max(weights, key=lambda oid: min(weights[oid], total - weights[oid]))

    def _in_order_of_counting(self, weights: dict[Oid, int], counted: set[Oid]) -> list[Oid]:
        # A commit is counted once its parent has been; roots of the range are known from the start.
        remaining = self.remaining
        order: list[Oid] = []
        counted = counted | {oid for oid in weights if not self.history.parents_in(remaining, oid)}
        waiting = [oid for oid in weights if oid not in counted]
        while waiting:
            later = []
            for oid in waiting:
                if any(parent in counted for parent in self.history.parents_in(remaining, oid)):
                    counted.add(oid)
                    order.append(oid)
                else:
                    later.append(oid)
            waiting = later
        return order

    def _most_even_but_skipped(self, weights: dict[Oid, int]) -> Oid:
        total = len(weights)
        ranked = sorted(weights, key=lambda oid: (-min(weights[oid], total - weights[oid]), oid))
        if ranked[0] not in self.skipped:
            return ranked[0]
        testable = [oid for oid in ranked if oid not in self.skipped]
        place = _hop(len(testable))
        if testable[place] != self.bad:
            return testable[place]
        return testable[place - 1] if place else testable[0]


def _hop(count: int) -> int:
    """How far from the best commit git goes when that one has been skipped: a fixed pseudo-random share of `count`."""
    modulus = 1 << 15
    number = ((count * 1103515245 + 12345) % (1 << 32) >> 16) % modulus
    return (count * number // modulus) * math.isqrt(number) // math.isqrt(modulus)
