"""Strategies: which trials to run next, given what is known. Pure and lazy; a dispatcher carries them out.

A strategy does not command, it states at any moment the trials that it would like to see running. The dispatcher
starts those that are not running and stops those that are no longer asked for. So stopping early, cancelling what
no longer matters and starting what now does are one rule, and a strategy can be tested without a process.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Protocol

from attrs import define, field

from arboretum.engine.model import CONTROL, Hypothesis, Judgement, Outcome, Plan, Trial, Verdict
from arboretum.engine.verdict import is_decided, judge, rank

#: A subject (a hypothesis, the control, a commit) and the number of the attempt, from 1.
TrialKey = tuple[str, int]


class Strategy(Protocol):
    """What a dispatcher asks.

    - `wanted` never names a trial whose result has been recorded, and names nothing when the search is over.
    - Of the running trials it names those that still matter.
    """

    #: After a result the dispatcher waits up to this share of a trial's time for more results, before it asks anew.
    settle: float

    def wanted(self, running: Collection[TrialKey], limit: int) -> Sequence[TrialKey]:
        """The trials that should be running now, most wanted first; at most `limit`, the running ones counted."""

    def record(self, trial: Trial) -> tuple[Judgement, ...]:
        """Take note of a finished trial. Returns what has been concluded by it."""


@define(eq=False)
class HypothesisSearch:
    """The search of `arboretum run`: the control first, then all hypotheses by priority, until each is decided.

    Repeats go breadth first, the control's among them: in every round the control gets a trial, then each hypothesis.
    So those that cannot be decided are known early, and times can be compared: a machine that grows slower
    during the run slows down both sides. A run that stops at the first supported goes depth first instead.

    Args:
        plan: What is asked; its `repeats`, `confidence`, `auto_timeout` and `stop_on_supported` steer the search.
    """

    plan: Plan
    trials: dict[str, dict[int, Trial]] = field(factory=dict, init=False)
    judgements: dict[str, Judgement] = field(factory=dict, init=False)
    _places: dict[str, int] = field(factory=dict, init=False, repr=False)  # of each subject in the order of trying
    _hypotheses: dict[str, Hypothesis] = field(factory=dict, init=False, repr=False)
    _complete: set[str] = field(factory=set, init=False, repr=False)
    settle: float = field(default=0.0, init=False)

    def __attrs_post_init__(self) -> None:
        self._hypotheses |= {h.id: h for h in self.plan.hypotheses}
        subjects = (CONTROL, *(h.id for h in self.order))
        self.trials |= {subject: {} for subject in subjects}
        self._places |= {subject: place for place, subject in enumerate(subjects)}

    @property
    def control(self) -> tuple[Trial, ...]:
        """The control's trials, by attempt."""
        return self.trials_of(CONTROL)

    @property
    def order(self) -> tuple[Hypothesis, ...]:
        """The hypotheses in the order of trying: by priority, ties in the order of the plan."""
        return tuple(sorted(self.plan.hypotheses, key=lambda h: -h.priority))

    @property
    def is_over(self) -> bool:
        """Whether nothing more has to be tried."""
        if self.plan.stop_on_supported and any(j.verdict is Verdict.SUPPORTED for j in self.judgements.values()):
            return True
        return len(self._complete) == len(self.trials)

    def trials_of(self, subject: str) -> tuple[Trial, ...]:
        """The trials of a hypothesis (or of the control), by attempt."""
        return tuple(self.trials[subject][attempt] for attempt in sorted(self.trials[subject]))

    def wanted(self, running: Collection[TrialKey], limit: int) -> Sequence[TrialKey]:
        """See `Strategy`."""
        if self.is_over:
            return ()
        subjects = [subject for subject in self._places if subject not in self._complete]
        known = CONTROL in self._complete or any(t.outcome.is_evidence for t in self.control)
        if self.plan.auto_timeout and not known:  # no timeout can be derived yet
            subjects = [CONTROL]
        # What runs goes on; only then is the rest of the room given to others.
        keys = [key for key in running if key[0] in subjects][:limit]
        others = (key for key in self._untried(subjects) if key not in keys)
        return [*keys, *itertools.islice(others, limit - len(keys))]

    def _untried(self, subjects: Sequence[str]) -> Iterator[TrialKey]:
        attempts = range(1, self.plan.repeats + 1)
        keys = ((subject, attempt) for attempt in attempts for subject in subjects)
        if self.plan.stop_on_supported:
            keys = ((subject, attempt) for subject in subjects for attempt in attempts)
        return (key for key in keys if key[1] not in self.trials[key[0]])

    def record(self, trial: Trial) -> tuple[Judgement, ...]:
        """See `Strategy`. Returns the judgements that are now final."""
        subject = trial.hypothesis
        self.trials[subject][trial.attempt] = trial
        if not self._is_complete(subject):
            return ()
        self._complete.add(subject)
        if CONTROL not in self._complete:
            return ()
        ripe = self.order if subject == CONTROL else (self._hypotheses[subject],)
        found = tuple(self.judge(h) for h in ripe if h.id in self._complete and h.id not in self.judgements)
        self.judgements |= {j.hypothesis: j for j in found}
        return found

    def judge(self, hypothesis: Hypothesis) -> Judgement:
        """The judgement by what is known now."""
        return judge(hypothesis, self.trials_of(hypothesis.id), self.control)

    def ranking(self) -> tuple[Judgement, ...]:
        """All hypotheses, judged by all that is known now, best first.

        A trial that ended after its hypothesis had been decided counts as well.
        """
        return rank([self.judge(h) for h in self.plan.hypotheses], self.plan.hypotheses)

    def _is_complete(self, subject: str) -> bool:
        trials = self.trials[subject]
        return len(trials) >= self.plan.repeats or is_decided(trials.values(), confidence=self.plan.confidence)


@define(eq=False)
class OncePerSubject:
    """The search of `arboretum each`: every subject once, in the order given; those of equal tree share one trial.

    Args:
        subjects: What to try, and the trees that say which of them are the same.
    """

    subjects: Mapping[str, str]
    results: dict[str, Trial] = field(factory=dict, init=False)
    settle: float = field(default=0.0, init=False)

    def wanted(self, running: Collection[TrialKey], limit: int) -> Sequence[TrialKey]:
        """See `Strategy`."""
        del running  # the order never changes, so what was asked for first is asked for again
        first = {tree: subject for subject, tree in reversed(list(self.subjects.items())) if tree not in self.results}
        return [(subject, 1) for subject, tree in self.subjects.items() if first.get(tree) == subject][:limit]

    def record(self, trial: Trial) -> tuple[Judgement, ...]:
        """See `Strategy`."""
        if trial.outcome is not Outcome.CANCELLED:
            self.results[self.subjects[trial.hypothesis]] = trial
        return ()
