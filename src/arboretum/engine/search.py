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
    #: For each attempt the subjects that still need it, in the order of trying; of complete ones none is left.
    _untried: dict[int, dict[str, None]] = field(factory=dict, init=False, repr=False)
    _open: dict[str, None] = field(factory=dict, init=False, repr=False)  # what is not complete, in the same order
    _judged: dict[str, tuple[tuple[Trial, ...], tuple[Trial, ...], Judgement]] = field(
        factory=dict, init=False, repr=False
    )
    _hypotheses: dict[str, Hypothesis] = field(factory=dict, init=False, repr=False)
    settle: float = field(default=0.0, init=False)

    def __attrs_post_init__(self) -> None:
        self._hypotheses |= {h.id: h for h in self.plan.hypotheses}
        subjects = (CONTROL, *(h.id for h in self.order))
        self.trials |= {subject: {} for subject in subjects}
        self._open |= dict.fromkeys(subjects)
        self._untried |= {attempt: dict.fromkeys(subjects) for attempt in range(1, self.plan.repeats + 1)}

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
        return not self._open

    def trials_of(self, subject: str) -> tuple[Trial, ...]:
        """The trials of a hypothesis (or of the control), by attempt."""
        return tuple(self.trials[subject][attempt] for attempt in sorted(self.trials[subject]))

    def wanted(self, running: Collection[TrialKey], limit: int) -> Sequence[TrialKey]:
        """See `Strategy`."""
        if self.is_over:
            return ()
        known = CONTROL not in self._open or any(t.outcome.is_evidence for t in self.control)
        subjects = (
            self._open if known or not self.plan.auto_timeout else {CONTROL: None}
        )  # else no timeout is known yet
        # What runs goes on; only then is the rest of the room given to others.
        keys = [key for key in running if key[0] in subjects][:limit]
        others = (key for key in self._next(subjects) if key not in keys)
        return [*keys, *itertools.islice(others, limit - len(keys))]

    def _next(self, subjects: Collection[str]) -> Iterator[TrialKey]:
        if self.plan.stop_on_supported:
            return ((s, attempt) for s in subjects for attempt, untried in self._untried.items() if s in untried)
        return ((s, attempt) for attempt, untried in self._untried.items() for s in untried if s in subjects)

    def record(self, trial: Trial) -> tuple[Judgement, ...]:
        """See `Strategy`. Returns the judgements that are now final."""
        subject = trial.hypothesis
        self.trials[subject][trial.attempt] = trial
        self._untried.get(trial.attempt, {}).pop(subject, None)
        if not self._is_complete(subject):
            return ()
        self._open.pop(subject, None)
        for untried in self._untried.values():
            untried.pop(subject, None)
        if CONTROL in self._open:
            return ()
        ripe = self.order if subject == CONTROL else (self._hypotheses[subject],)
        found = tuple(self.judge(h) for h in ripe if h.id not in self._open and h.id not in self.judgements)
        self.judgements |= {j.hypothesis: j for j in found}
        return found

    def judge(self, hypothesis: Hypothesis) -> Judgement:
        """The judgement by what is known now."""
        trials, control = self.trials_of(hypothesis.id), self.control
        known = self._judged.get(hypothesis.id)
        if known is None or known[:2] != (trials, control):
            known = self._judged[hypothesis.id] = trials, control, judge(hypothesis, trials, control)
        return known[2]

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
    _open: dict[str, str] = field(factory=dict, init=False, repr=False)  # for each tree without a result who tries it

    def __attrs_post_init__(self) -> None:
        for subject, tree in self.subjects.items():
            self._open.setdefault(tree, subject)

    def wanted(self, running: Collection[TrialKey], limit: int) -> Sequence[TrialKey]:
        """See `Strategy`."""
        del running  # the order never changes, so what was asked for first is asked for again
        return [(subject, 1) for subject in itertools.islice(self._open.values(), limit)]

    def record(self, trial: Trial) -> tuple[Judgement, ...]:
        """See `Strategy`."""
        if trial.outcome is not Outcome.CANCELLED:
            tree = self.subjects[trial.hypothesis]
            self.results[tree] = trial
            self._open.pop(tree, None)
        return ()
