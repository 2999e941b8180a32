"""Bisection of a plain line of commits: k trials at once cut it into k + 1 parts. Pure.

Nothing here looks at each commit of the line: only at those that have been tested, which are few.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence

from attrs import define, field

from arboretum.engine.bisection import Answer, Finding
from arboretum.values import Oid


@define(eq=False)
class Line:
    """A line of commits, the last of which is bad.

    Args:
        oids: The commits, oldest first.
    """

    oids: Sequence[Oid] = field(repr=False)
    _places: Mapping[Oid, int] = field(init=False, repr=False)
    _low: int = field(default=0, init=False)  # what is still in question: from here
    _high: int = field(init=False)  # to here, not included
    _tested: set[int] = field(factory=set, init=False)

    def __attrs_post_init__(self) -> None:
        self._places = {oid: place for place, oid in enumerate(self.oids)}
        self._high = len(self.oids)

    def place(self, oid: Oid) -> int | None:
        """Where the commit stands, if it is still in question."""
        place = self._places.get(oid, -1)
        return place if self._low <= place < self._high else None

    def learn(self, place: int, finding: Finding) -> None:
        """Take note of what was found of the commit at `place`."""
        self._tested.add(place)
        if finding is Finding.GOOD:
            self._low = max(self._low, place + 1)
        elif finding is Finding.BAD:
            self._high = min(self._high, place + 1)

    @property
    def answer(self) -> Answer | None:
        """The first bad commit, or those it is among when the rest cannot be tested; None if there is more to test."""
        last = self._high - 1
        if sum(self._low <= place < last for place in self._tested) < last - self._low:
            return None
        return Answer((self.oids[last], *self.oids[self._low : last]))

    def cuts(self, running: Collection[Oid], limit: int) -> list[Oid]:
        """The commits to test now, at most `limit`; of those that are `running` the ones that still matter go on."""
        places = (self.place(oid) for oid in running)
        chosen = sorted(place for place in places if place is not None and self._is_testable(place))
        if not chosen:
            cuts = (self._low + cut for cut in cut_points(self._high - self._low, limit))
            nearest = (self._nearest(cut, self._low - 1, self._high - 1) for cut in cuts)
            return [self.oids[place] for place in dict.fromkeys(nearest) if place is not None]
        while len(chosen) < limit:
            addition = self._best_addition(chosen)
            if addition is None:
                break
            chosen.append(addition)
        return [self.oids[place] for place in chosen]

    def _is_testable(self, place: int) -> bool:
        return place not in self._tested and place < self._high - 1

    def _nearest(self, place: int, low: int, high: int) -> int | None:
        """The testable commit between `low` and `high`, both left out, that is nearest to `place`; the older of two."""
        for away in range(high - low):
            for other in (place - away, place + away):
                if low < other < high and self._is_testable(other):
                    return other
        return None

    def _best_addition(self, chosen: Sequence[int]) -> int | None:
        # In the middle of the longest stretch between trials that has something to test.
        edges = [self._low - 1, *sorted(chosen), self._high - 1]
        for low, high in sorted(itertools.pairwise(edges), key=lambda edge: edge[0] - edge[1]):
            place = self._nearest((low + high) // 2, low, high)
            if place is not None:
                return place
        return None


def cut_points(count: int, cuts: int) -> list[int]:
    """Where to test a line of `count` commits, the last known bad, with `cuts` trials at once.

    k trials at once tell k + 1 parts apart, so d rounds find one commit among ``(k + 1) ** d``. Equal parts would
    make nearly every search as long as the longest one. Here the parts at the new end are as large as one round
    less can search, as many as possible, and only the old end needs the last round: the least number of
    rounds on average, and no more than with equal parts at worst. Regressions are mostly noticed soon.

    Returns:
        The positions to test, ascending: each is the last commit of its part.
    """
    parts = min(cuts + 1, count)
    if parts < 2:
        return []
    most = 1
    while most * parts < count:
        most *= parts
    least = max(1, most // parts)
    sizes = [least] * parts
    spare = count - least * parts
    for index in range(parts):
        extra = min(spare, most - least)
        sizes[index] += extra
        spare -= extra
    return [total - 1 for total in itertools.accumulate(sizes[:-1])]
