"""What a run comes to, as values: the verdicts ranked, the control beside them, and what to do next."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Final

from attrs import field, frozen

from arboretum.engine.model import Judgement, Outcome, Plan, Trial, Verdict
from arboretum.values import Oid

#: How the note of a result begins that says that something of the run could not be kept.
NOT_KEPT: Final = "not-kept"


class RunStatus(enum.StrEnum):
    """How a run ended."""

    DONE = "done"
    INTERRUPTED = "interrupted"
    FAILED = "failed"


def _none_carried_out(trials: Sequence[Trial]) -> bool:
    return bool(trials) and all(trial.outcome is Outcome.ERROR for trial in trials)


def _count(items: Sequence[object]) -> str:
    """How many there are: asyncio puts the result of a task into a text that nobody sees, each time it ends."""
    return f"<{len(items)}>"


def _title(plan: Plan) -> str:
    return repr(plan.title)


@frozen(kw_only=True)
class RunResult:
    """A run that is over.

    Args:
        run: The id of the run.
        plan: What was asked.
        base: The commit that the control stood at.
        control: The control's trials.
        judgements: One for each hypothesis, best first (see `rank`).
        recommendation: What to do next, in one or two sentences.
        status: How the run ended.
        started: Seconds since the epoch.
        duration: Monotonic seconds.
        notes: What else a reader should know of the run as a whole.
    """

    run: str
    plan: Plan = field(repr=_title)
    base: Oid
    control: tuple[Trial, ...] = field(repr=_count)
    judgements: tuple[Judgement, ...] = field(repr=_count)
    recommendation: str
    status: RunStatus = RunStatus.DONE
    started: float = 0.0
    duration: float = 0.0
    notes: tuple[str, ...] = ()

    @property
    def trials(self) -> tuple[Trial, ...]:
        """All trials: the control's, and those of each hypothesis, best first."""
        return (*self.control, *(trial for judgement in self.judgements for trial in judgement.trials))

    @property
    def supported(self) -> tuple[Judgement, ...]:
        """The judgements of the hypotheses that are supported, best first."""
        return tuple(j for j in self.judgements if j.verdict is Verdict.SUPPORTED)

    @property
    def exit_code(self) -> int:
        """0 something is supported; 1 everything is falsified; 3 some are undecided; 4 failed; 130 interrupted.

        A run of which not one trial could be carried out has failed.
        """
        if self.status is RunStatus.INTERRUPTED:
            return 130
        if self.status is RunStatus.FAILED or _none_carried_out(self.trials):
            return 4
        if self.supported:
            return 0
        return 3 if any(j.verdict is Verdict.INCONCLUSIVE for j in self.judgements) else 1

    def judgement(self, hypothesis: str) -> Judgement:
        """The judgement of the hypothesis with this id.

        Raises:
            KeyError: The plan has none.
        """
        for judgement in self.judgements:
            if judgement.hypothesis == hypothesis:
                return judgement
        raise KeyError(hypothesis)


@frozen(kw_only=True)
class CommitResult:
    """What the command said of one commit (`each`)."""

    oid: Oid
    tree: Oid
    subject: str
    outcome: Outcome
    exit_code: int | None
    duration: float = 0.0
    cached: bool = False
    trial: Trial | None = None


@frozen(kw_only=True)
class EachResult:
    """What the command said of every commit of a range, oldest first."""

    run: str
    commits: tuple[CommitResult, ...] = field(repr=_count)
    status: RunStatus = RunStatus.DONE
    duration: float = 0.0

    @property
    def exit_code(self) -> int:
        """0 every commit passed; 1 one failed; 3 none failed but not all passed; 4 failed; 130 interrupted."""
        if self.status is not RunStatus.DONE:
            return 130 if self.status is RunStatus.INTERRUPTED else 4
        outcomes = {c.outcome for c in self.commits}
        if outcomes == {Outcome.ERROR}:
            return 4
        if Outcome.FAILED in outcomes:
            return 1
        return 0 if outcomes <= {Outcome.PASSED} else 3


@frozen(kw_only=True)
class BisectResult:
    """Where a range turned bad.

    Args:
        run: The id of the run.
        first_bad: The first bad commit; None when it could not be told.
        candidates: The commits that the first bad one is among (one when it is known, more when skips hide it).
        confidence: Probability that it is the first candidate, for a search that reckons with flaky tests; else 1.
        trials: What was run, in the order in which the results came.
        log: The search as ``git bisect log`` writes it; ``git bisect replay`` reads it.
        status: How the run ended.
        duration: Monotonic seconds.
        rounds: How many times the search had to wait for results.
    """

    run: str
    first_bad: Oid | None
    candidates: tuple[Oid, ...] = field(repr=_count)
    confidence: float = 1.0
    trials: tuple[Trial, ...] = field(default=(), repr=_count)
    log: str = field(default="", repr=False)
    status: RunStatus = RunStatus.DONE
    duration: float = 0.0
    rounds: int = 0

    @property
    def exit_code(self) -> int:
        """0 found; 3 only skipped commits are left; 4 failed; 130 interrupted."""
        if self.status is not RunStatus.DONE:
            return 130 if self.status is RunStatus.INTERRUPTED else 4
        return 0 if self.first_bad is not None else 3


#: What any kind of run comes to.
Result = RunResult | EachResult | BisectResult
