"""Bisection with a flaky test: every trial shifts the odds, until one commit has enough of them. Pure.

A trial at a commit is one draw: it fails with an unknown rate b where the culprit is reached, and with an unknown
lower rate g elsewhere. Under each candidate culprit the draws fall into these two groups; with Beta priors for b
and g their likelihood is a ratio of Beta functions, and Bayes' rule (all culprits being as likely at first) gives
the posterior of each candidate. The next trial is the one that is expected to tell most: the mutual information of
its outcome and the culprit (D. Lindley 1956; for bisection: R. Waeber, P. Frazier, S. Henderson 2013). While
results are outstanding the likelier ones are assumed, so that trials at the same time spread (the "constant liar" of
D. Ginsbourger et al. 2010).
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Collection, Iterator, Sequence
from typing import Final

from attrs import define, field

from arboretum.engine.bisect_search import FINDINGS
from arboretum.engine.bisection import Answer, Finding
from arboretum.engine.history import History, Region, reach_counts
from arboretum.engine.model import Judgement, Outcome, Trial
from arboretum.engine.search import TrialKey
from arboretum.engine.statistics import log_beta
from arboretum.values import Oid

#: Beta priors of the failure rates: where the culprit is reached (the tip did fail once), and where it is not.
BAD_PRIOR: Final = (2.0, 1.0)
GOOD_PRIOR: Final = (0.5, 5.0)
#: So many draws at the newest commit come first: how often the test fails where the culprit surely is decides how
#: much a pass says anywhere else.
CALIBRATION: Final = 5
#: Of more testable commits only so many are considered for the next trial.
_MOST_LOOKED_AT: Final = 64


@define(eq=False)
class Beliefs:
    """What the draws so far say of each candidate.

    Args:
        region: The candidates.
    """

    region: Region
    members: Sequence[Oid] = field(init=False, repr=False)  # the same, parents before children
    _numbers: Sequence[int] = field(init=False, repr=False)
    _counts: list[tuple[int, int]] = field(init=False, repr=False)  # fails and passes that reach each candidate
    _fails: int = field(default=0, init=False)
    _passes: int = field(default=0, init=False)
    posterior: list[float] = field(init=False, repr=False)
    _places: dict[Oid, list[int]] = field(factory=dict, init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._numbers = self.region.members()
        self.members = [self.region.history.oids[number] for number in self._numbers]
        self._counts = [(0, 0)] * len(self.members)
        self.posterior = [1 / len(self.members)] * len(self.members)

    def copy(self) -> Beliefs:
        """The same beliefs, to be changed apart from these."""
        other = Beliefs(self.region)
        other._counts, other._fails, other._passes = list(self._counts), self._fails, self._passes
        other.posterior, other._places = self.posterior, self._places
        return other

    def reached_from(self, oid: Oid) -> list[int]:
        """The positions of the candidates that `oid` reaches."""
        if oid not in self._places:
            history = self.region.history
            reach = history.reach(history.numbers[oid], self.region.inside)
            self._places[oid] = [place for place, number in enumerate(self._numbers) if reach[number]]
        return self._places[oid]

    def split(self, group: Sequence[int]) -> Iterator[Oid]:
        """The commits that reach some of the candidates at these positions, but not all of them."""
        inside = bytearray(len(self.region.history))
        for place in group:
            inside[self._numbers[place]] = 1
        reached = reach_counts(self.region, inside)
        counts = (reached[number] for number in self._numbers)
        return (oid for oid, count in zip(self.members, counts, strict=True) if 0 < count < len(group))

    def observe(self, oid: Oid, *, failed: bool) -> None:
        """Take note of one draw."""
        self._fails += failed
        self._passes += not failed
        for place in self.reached_from(oid):
            fails, passes = self._counts[place]
            self._counts[place] = (fails + failed, passes + (not failed))
        logs = {  # most candidates share their counts with others
            (fails, passes): log_beta(BAD_PRIOR[0] + fails, BAD_PRIOR[1] + passes)
            + log_beta(GOOD_PRIOR[0] + self._fails - fails, GOOD_PRIOR[1] + self._passes - passes)
            for fails, passes in set(self._counts)
        }
        top = max(logs.values())
        likelihoods = {counts: math.exp(value - top) for counts, value in logs.items()}
        weights = [likelihoods[counts] for counts in self._counts]
        total = math.fsum(weights)
        self.posterior = [weight / total for weight in weights]

    def failure_probability(self, oid: Oid) -> float:
        """How likely the next draw at `oid` fails, over all candidates."""
        reached = set(self.reached_from(oid))
        rates = enumerate(self._rates())
        return math.fsum(self.posterior[n] * (bad if n in reached else good) for n, (bad, good) in rates)

    def most_telling(self, among: Sequence[Oid]) -> Oid:
        """The commit of `among` whose next draw is expected to tell most of the culprit."""
        rates = self._rates()
        weighted = list(zip(self.posterior, rates, strict=True))
        fails = math.fsum(p * good for p, (_, good) in weighted)
        surprise = math.fsum(p * _entropy(good) for p, (_, good) in weighted)
        more_fails = [p * (bad - good) for p, (bad, good) in weighted]
        more_surprise = [p * (_entropy(bad) - _entropy(good)) for p, (bad, good) in weighted]

        def information(oid: Oid) -> float:
            reached = self.reached_from(oid)
            failing = fails + math.fsum(more_fails[n] for n in reached)
            return _entropy(failing) - surprise - math.fsum(more_surprise[n] for n in reached)

        return max(among, key=lambda oid: (information(oid), oid))

    def _rates(self) -> list[tuple[float, float]]:
        # For each candidate: the expected failure rate where it is reached, and where it is not.
        rates = {
            (fails, passes): (
                (BAD_PRIOR[0] + fails) / (sum(BAD_PRIOR) + fails + passes),
                (GOOD_PRIOR[0] + self._fails - fails) / (sum(GOOD_PRIOR) + self._fails - fails + self._passes - passes),
            )
            for fails, passes in set(self._counts)
        }
        return [rates[counts] for counts in self._counts]


def _entropy(p: float) -> float:
    return 0.0 if p <= 0 or p >= 1 else -p * math.log2(p) - (1 - p) * math.log2(1 - p)


@define(eq=False)
class BayesianSearch:
    """Finds the first bad commit with a given confidence although the test is flaky.

    Args:
        history: The commits that may be the first bad one.
        bad: The newest of them, which has been seen to fail.
        confidence: Stop when one commit (or the smallest group that no trial can tell apart) has this posterior.
        max_trials: Stop after so many trials in any case; None for 100 and 40 for each halving of the range.
    """

    history: History
    bad: Oid
    confidence: float
    max_trials: int | None = None
    settle: float = field(default=0.0, init=False)
    steps: list[tuple[Oid, Finding]] = field(factory=list, init=False)
    _beliefs: Beliefs = field(init=False, repr=False)
    _attempts: dict[Oid, int] = field(factory=dict, init=False, repr=False)
    _untestable: set[Oid] = field(factory=set, init=False)

    def __attrs_post_init__(self) -> None:
        self._beliefs = Beliefs(Region.below(self.history, self.bad))
        if self.max_trials is None:
            self.max_trials = 100 + 40 * len(self._beliefs.members).bit_length()

    @property
    def posterior(self) -> dict[Oid, float]:
        """How likely each commit is the first bad one."""
        return dict(zip(self._beliefs.members, self._beliefs.posterior, strict=True))

    @property
    def answer(self) -> Answer | None:
        """The likeliest commits that together are sure enough, once no trial could tell them apart (or time is up)."""
        group = self._likeliest()
        if len(group) > 1 and not self._is_exhausted() and self._splits(group):
            return None
        return Answer(tuple(self._beliefs.members[n] for n in group))

    @property
    def reached(self) -> float:
        """The posterior probability that the first bad commit is among the likeliest ones, those of the answer."""
        return math.fsum(self._beliefs.posterior[n] for n in self._likeliest())

    def wanted(self, running: Collection[TrialKey], limit: int) -> Sequence[TrialKey]:
        """See `Strategy`. What runs goes on: every draw tells something."""
        if self.answer is not None:
            return ()
        keys = list(running)[:limit]
        beliefs = self._beliefs.copy()
        for subject, _ in keys:
            _assume_likelier(beliefs, Oid(subject))
        while len(keys) < limit:
            oid = self._next(beliefs, keys)
            _assume_likelier(beliefs, oid)
            taken = {attempt for subject, attempt in keys if subject == oid}
            attempt = next(n for n in itertools.count(self._attempts.get(oid, 0) + 1) if n not in taken)
            keys.append((str(oid), attempt))
        return keys

    def record(self, trial: Trial) -> tuple[Judgement, ...]:
        """See `Strategy`."""
        oid, finding = Oid(trial.hypothesis), FINDINGS.get(trial.outcome, Finding.SKIP)
        if trial.outcome is not Outcome.CANCELLED:
            self._attempts[oid] = max(self._attempts.get(oid, 0), trial.attempt)
            self.steps.append((oid, finding))
            if finding is Finding.SKIP:
                self._untestable.add(oid)
            else:
                self._beliefs.observe(oid, failed=finding is Finding.BAD)
        return ()

    def _next(self, beliefs: Beliefs, keys: Sequence[TrialKey]) -> Oid:
        calibrating = sum(subject == self.bad for subject, _ in keys) + self._attempts.get(self.bad, 0)
        if calibrating < CALIBRATION and self.bad not in self._untestable:
            return self.bad
        return beliefs.most_telling(self._worth_testing(beliefs))

    def _worth_testing(self, beliefs: Beliefs) -> list[Oid]:
        testable = [n for n, oid in enumerate(beliefs.members) if oid not in self._untestable]
        if len(testable) > _MOST_LOOKED_AT:
            # Only commits near quantiles of the posterior: among them is one that splits it about evenly.
            levels = list(itertools.accumulate(beliefs.posterior))
            shares = [(q + 0.5) / _MOST_LOOKED_AT for q in range(_MOST_LOOKED_AT)]
            testable = sorted(
                {testable[bisect.bisect_left(testable, bisect.bisect_left(levels, q)) - 1] for q in shares}
            )
        return [beliefs.members[n] for n in testable]

    def _likeliest(self) -> list[int]:
        order = sorted(range(len(self._beliefs.members)), key=lambda n: -self._beliefs.posterior[n])
        masses = itertools.accumulate(self._beliefs.posterior[n] for n in order)
        count = next((count for count, mass in enumerate(masses, 1) if mass >= self.confidence), len(order))
        return order[:count]

    def _splits(self, group: Sequence[int]) -> bool:
        """Whether a trial somewhere could tell members of the group apart."""
        return any(oid not in self._untestable for oid in self._beliefs.split(group))

    def _is_exhausted(self) -> bool:
        assert self.max_trials is not None
        return len(self.steps) >= self.max_trials


def _assume_likelier(beliefs: Beliefs, oid: Oid) -> None:
    beliefs.observe(oid, failed=beliefs.failure_probability(oid) > 0.5)
