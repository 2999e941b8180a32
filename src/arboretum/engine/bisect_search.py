"""Parallel bisection: what to test next when several trials can run at once. Pure.

While the remaining range has merges, the trials are the ones that `git bisect` could ask for next, the likeliest
first: whatever they say, the path is git's and so is the answer, only sooner. As soon as the range is a plain
line of commits the answer does not depend on the path any more, and k trials cut it into k + 1 parts.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Collection, Iterator, Sequence
from typing import Final

from attrs import define, field

from arboretum.engine.bisect_line import Line
from arboretum.engine.bisection import Answer, Bisection, Finding
from arboretum.engine.model import Judgement, Outcome, Trial
from arboretum.engine.search import TrialKey
from arboretum.values import Oid

#: What the outcome of a trial says; what is no evidence says that the commit cannot be tested.
FINDINGS: Final = {Outcome.PASSED: Finding.GOOD, Outcome.FAILED: Finding.BAD}
#: Before anything is known, so many commits in this many are expected to be untestable.
_SKIPS_EXPECTED: Final = (1, 50)
#: Branches of the future that are less likely than this are not looked at.
_LEAST_LIKELY: Final = 0.001


@define(eq=False)
class BisectSearch:
    """Finds the first bad commit.

    Args:
        start: What is known at the beginning.
        bases: Common ancestors of both ends, for good ends that the bad one does not reach. They are tested first:
            when one is bad, the good end has been mended since, and there is no first bad commit to be found.
        findings: What the trials have said, by commit.
    """

    _known: Bisection = field(alias="start")
    bases: tuple[Oid, ...] = ()
    findings: dict[Oid, Finding] = field(factory=dict, init=False)
    #: The findings in the order in which they were used, for the log.
    steps: list[tuple[Oid, Finding]] = field(factory=list, init=False)
    settle: float = field(default=0.1, init=False)
    _line: Line | None = field(default=None, init=False, repr=False)  # what remains, once it is a plain line
    _used: set[Oid] = field(factory=set, init=False)

    def __attrs_post_init__(self) -> None:
        self._know(self._known)

    @property
    def reached(self) -> float:
        """How sure the answer is: each trial is taken at its word."""
        return 1.0

    @property
    def answer(self) -> Answer | None:
        """The answer, once it is known."""
        if self._line is not None:
            return self._line.answer
        chosen = self._known.next()
        return chosen if isinstance(chosen, Answer) else None

    def record(self, trial: Trial) -> tuple[Judgement, ...]:
        """See `Strategy`."""
        if trial.outcome is not Outcome.CANCELLED:
            oid, finding = Oid(trial.hypothesis), FINDINGS.get(trial.outcome, Finding.SKIP)
            self.findings[oid] = finding
            if oid in self.bases:
                self.steps.insert(0, (oid, finding))
            self._advance()
        return ()

    @property
    def bad_base(self) -> Oid | None:
        """A common ancestor that has been found to be bad."""
        return next((oid for oid in self.bases if self.findings.get(oid) is Finding.BAD), None)

    def wanted(self, running: Collection[TrialKey], limit: int) -> Sequence[TrialKey]:
        """See `Strategy`."""
        if self.bad_base is not None:
            return ()
        chosen = [oid for oid in self.bases if oid not in self.findings][:limit]
        room = limit - len(chosen)
        if room and self.answer is None:
            oids = {Oid(subject) for subject, _ in running}
            chosen += self._likely(room) if self._line is None else self._line.cuts(oids, room)
        return [(str(oid), 1) for oid in chosen]

    def _advance(self) -> None:
        # As far along git's path as the findings lead; on a plain line every finding counts at once.
        while self._line is None:
            oid = self._known.next()
            if isinstance(oid, Answer) or oid not in self.findings:
                return
            self._use(oid)
            self._know(self._known.learn(oid, self.findings[oid]))
        while places := [
            (place, oid) for oid in self.findings.keys() - self._used if (place := self._line.place(oid)) is not None
        ]:
            place, oid = min(places)
            self._use(oid)
            self._line.learn(place, self.findings[oid])

    def _use(self, oid: Oid) -> None:
        self._used.add(oid)
        self.steps.append((oid, self.findings[oid]))

    def _know(self, known: Bisection) -> None:
        self._known = known
        if (line := known.line()) is not None:
            self._line = Line(line)
            for oid in self._used:
                if (place := self._line.place(oid)) is not None:
                    self._line.learn(place, self.findings[oid])

    # --- a range with merges: the futures of git's path, the likeliest first ---

    def _likely(self, limit: int) -> list[Oid]:
        chosen: dict[Oid, None] = {}
        counter = itertools.count()
        futures = [(-1.0, next(counter), self._known)]
        while futures and len(chosen) < limit:
            likelihood, _, known = heapq.heappop(futures)
            oid = known.next()
            if isinstance(oid, Answer):
                continue
            if oid not in self.findings:
                chosen[oid] = None
            for finding, share in self._outlook(known, oid):
                if -likelihood * share > _LEAST_LIKELY:
                    heapq.heappush(futures, (likelihood * share, next(counter), known.learn(oid, finding)))
        return list(chosen)

    def _outlook(self, known: Bisection, oid: Oid) -> Iterator[tuple[Finding, float]]:
        if oid in self.findings:
            yield self.findings[oid], 1.0
            return
        expected, among = _SKIPS_EXPECTED
        skips = sum(finding is Finding.SKIP for finding in self.findings.values())
        skip = (skips + expected) / (len(self.findings) + among)
        bad = known.share(oid)
        yield Finding.BAD, bad * (1 - skip)
        yield Finding.GOOD, (1 - bad) * (1 - skip)
        yield Finding.SKIP, skip
