"""From evidence to verdicts. Pure: no clock, no file, no process.

The rules, in the order in which they are asked (docs/explanation/verdicts.md gives the reasons):

1. a trial that is no evidence (a timeout, a patch that does not apply, ...) makes the hypothesis inconclusive;
2. trials that disagree with each other make it inconclusive: flaky;
3. trials that contradict the prediction falsify it, whatever the control does;
4. trials that agree support it only if every trial of the control contradicts the prediction.

Cancelled trials and failures of the machinery say nothing and count only when there is nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Final

from attrs import frozen

from arboretum.engine.comparison import compare
from arboretum.engine.model import Expectation, Hypothesis, Judgement, Outcome, Reason, Trial, Verdict
from arboretum.engine.statistics import credible_interval, probability_mostly

#: Outcomes that are no evidence, the one that explains most first.
_PROBLEMS: Final = (
    Outcome.PATCH_FAILED,
    Outcome.SETUP_FAILED,
    Outcome.COMMAND_NOT_FOUND,
    Outcome.NOTHING_RAN,
    Outcome.TIMEOUT,
    Outcome.KILLED,
    Outcome.SKIPPED,
    Outcome.ERROR,
    Outcome.CANCELLED,
)
_SILENT: Final = frozenset({Outcome.ERROR, Outcome.CANCELLED})
#: How many hypotheses a recommendation names.
_NAMED: Final = 5
#: With ``timeout = "auto"`` a trial may take so many times as long as the control's slowest ...
AUTO_TIMEOUT_FACTOR: Final = 5.0
#: ... and never less than so many seconds.
AUTO_TIMEOUT_FLOOR: Final = 10.0
#: The control itself gets so many seconds then.
AUTO_TIMEOUT_CONTROL: Final = 1800.0


@frozen(kw_only=True)
class Weight:
    """What the trials of one side say of a prediction.

    Args:
        agree: How many came out as predicted.
        contradict: How many came out the other way.
        problem: The outcome that keeps them from being evidence, if any.
    """

    agree: int = 0
    contradict: int = 0
    problem: Outcome | None = None

    @property
    def mixed(self) -> bool:
        """Whether the trials disagree with each other."""
        return self.agree > 0 and self.contradict > 0

    @property
    def probability_agrees(self) -> float:
        """The posterior probability that the prediction comes true more often than not."""
        return probability_mostly(self.agree, self.contradict)


def weigh(trials: Iterable[Trial], expect: Expectation) -> Weight:
    """Count the trials for and against the prediction `expect`."""
    outcomes = [t.outcome for t in trials]
    telling = [o for o in outcomes if o not in _SILENT] or outcomes or [Outcome.CANCELLED]
    wanted = Outcome.PASSED if expect is Expectation.PASS else Outcome.FAILED
    return Weight(
        agree=sum(o is wanted for o in telling),
        contradict=sum(o.is_evidence and o is not wanted for o in telling),
        problem=next((problem for problem in _PROBLEMS if problem in telling), None),
    )


def judge(hypothesis: Hypothesis, trials: Sequence[Trial], control: Sequence[Trial]) -> Judgement:
    """Judge `hypothesis` by its trials and the control's. The order of the trials does not matter."""
    trials = tuple(sorted(trials, key=lambda t: t.attempt))
    own, other = weigh(trials, hypothesis.expect), weigh(control, hypothesis.expect)
    verdict, reason, confidence = _conclude(own, other)
    notes = (*_own_notes(own, trials), *_control_notes(verdict, reason, other))
    if verdict is Verdict.SUPPORTED or reason is Reason.CONTROL_AGREES:
        notes += tuple(c.note for c in compare(trials, control) if c.notable)
    return Judgement(
        hypothesis=hypothesis.id, verdict=verdict, reason=reason, confidence=confidence, trials=trials, notes=notes
    )


def _conclude(own: Weight, control: Weight) -> tuple[Verdict, Reason, float]:
    if own.problem is not None:
        return Verdict.INCONCLUSIVE, Reason(own.problem.value), 0.0
    if own.mixed:
        return Verdict.INCONCLUSIVE, Reason.FLAKY, 0.0
    if own.contradict:
        return Verdict.FALSIFIED, Reason.CONTRADICTED, 1 - own.probability_agrees
    return _against_control(own, control)


def _against_control(own: Weight, control: Weight) -> tuple[Verdict, Reason, float]:
    if control.problem is Outcome.CANCELLED:
        return Verdict.INCONCLUSIVE, Reason.CANCELLED, 0.0
    if control.problem is not None or control.mixed:
        return Verdict.INCONCLUSIVE, Reason.CONTROL_UNSTABLE, 0.0
    if control.agree:
        return Verdict.INCONCLUSIVE, Reason.CONTROL_AGREES, own.probability_agrees * control.probability_agrees
    return Verdict.SUPPORTED, Reason.AS_PREDICTED, own.probability_agrees * (1 - control.probability_agrees)


def _own_notes(own: Weight, trials: Sequence[Trial]) -> Iterable[str]:
    if own.mixed:
        low, high = credible_interval(own.agree, own.contradict)
        yield (
            f"mixed: {own.agree} of {own.agree + own.contradict} trials came out as predicted "
            f"(95% interval of the rate {low:.2f} to {high:.2f})"
        )
    for message in dict.fromkeys(t.message for t in trials if t.message and t.outcome is own.problem):
        yield f"why: {message}"
    if any(t.leaked for t in trials):
        yield "leaked: processes were still running when the command had ended, and were stopped"


def _control_notes(verdict: Verdict, reason: Reason, control: Weight) -> Iterable[str]:
    if control.problem is not None and control.problem is not Outcome.CANCELLED:
        yield f"control: it is no evidence itself ({control.problem.value})"
    elif control.mixed:
        yield f"control: {control.agree} of its {control.agree + control.contradict} trials came out as predicted too"
    elif verdict is Verdict.FALSIFIED and control.agree:
        yield "control: it comes out as predicted, so the change breaks what the base does"
    elif reason is Reason.CONTROL_AGREES:
        yield "control: it comes out the same way, so the change explains nothing"


def is_decided(trials: Iterable[Trial], *, confidence: float) -> bool:
    """Whether more repeats of the same trial cannot, or need not, change what is concluded.

    That is so once they disagree (flaky for good), once one is no evidence (inconclusive for good), or once
    they alone are decided to the square root of `confidence`: hypothesis and control together then reach it.
    """
    weight = weigh([t for t in trials if t.outcome not in _SILENT], Expectation.PASS)
    if weight.problem is Outcome.CANCELLED:  # nothing has been heard yet
        return False
    mostly = weight.probability_agrees
    return weight.problem is not None or weight.mixed or max(mostly, 1 - mostly) >= math.sqrt(confidence)


def auto_timeout(control: Iterable[Trial]) -> float | None:
    """The timeout that the control's time suggests: 5 times its slowest trial, at least 10 s.

    Returns:
        Seconds; None as long as no trial of the control is evidence.
    """
    durations = [t.duration for t in control if t.outcome.is_evidence]
    return max(AUTO_TIMEOUT_FLOOR, AUTO_TIMEOUT_FACTOR * max(durations)) if durations else None


def rank(judgements: Iterable[Judgement], hypotheses: Sequence[Hypothesis]) -> tuple[Judgement, ...]:
    """Best first: supported, inconclusive, falsified; not slower first; surer first; then by priority and order."""
    order = {h.id: (-h.priority, index) for index, h in enumerate(hypotheses)}
    verdicts = (Verdict.SUPPORTED, Verdict.INCONCLUSIVE, Verdict.FALSIFIED)
    return tuple(
        sorted(
            judgements,
            key=lambda j: (verdicts.index(j.verdict), "slower" in j.flags, -j.confidence, order[j.hypothesis]),
        )
    )


def recommend(ranked: Sequence[Judgement]) -> str:
    """What to do next, in a sentence or two."""
    supported = [j for j in ranked if j.verdict is Verdict.SUPPORTED]
    open_questions = [j for j in ranked if j.verdict is Verdict.INCONCLUSIVE]
    if len(supported) == 1:
        caveat = " Mind that it is slower than the control." if "slower" in supported[0].flags else ""
        return f"Work on {supported[0].hypothesis}: it alone is supported.{caveat}"
    if supported:
        slow = [j.hypothesis for j in supported if "slower" in j.flags]
        caveat = f" {_names(slow)} passed more slowly than the control." if slow else ""
        names = _names([j.hypothesis for j in supported])
        return f"Tell {names} apart: they are all supported. Find a test on which they differ.{caveat}"
    if not open_questions:
        return "Think of new hypotheses: all of these are falsified."
    reasons = _names([f"{j.hypothesis} ({j.reason.value})" for j in open_questions])
    return f"Nothing is supported. Look at the inconclusive ones: {reasons}."


def _names(names: Sequence[str]) -> str:
    """The names in a sentence, the first five of many."""
    named = [*names[:_NAMED], f"{len(names) - _NAMED} more"] if len(names) > _NAMED + 1 else names
    return named[0] if len(named) == 1 else f"{', '.join(named[:-1])} and {named[-1]}"
