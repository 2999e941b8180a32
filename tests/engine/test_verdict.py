"""The laws of verdicts."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from arboretum.engine.model import Expectation, Hypothesis, Judgement, Outcome, Reason, Verdict
from arboretum.engine.verdict import auto_timeout, is_decided, judge, rank, recommend
from tests.engine.trials import NO_EVIDENCE, F, P, outcomes, trial, trials

EXPECTATIONS = st.sampled_from(Expectation)
EVIDENCE = outcomes(st.sampled_from([P, F]), min_size=1)


def hypothesis(expect: Expectation = Expectation.PASS, **more: object) -> Hypothesis:
    return Hypothesis(id="h", expect=expect, **more)  # type: ignore[arg-type]


def agreeing(expect: Expectation) -> Outcome:
    return P if expect is Expectation.PASS else F


# --- laws ---


@given(EXPECTATIONS, outcomes(), outcomes(), st.sampled_from(NO_EVIDENCE))
def test_what_is_no_evidence_never_supports(expect, own, control, problem) -> None:
    """A timeout, a missing command, a run that tested nothing and their kin never support anything."""
    spoiled = (*own, trial(problem, len(own) + 1))
    assert judge(hypothesis(expect), spoiled, control).verdict is Verdict.INCONCLUSIVE
    assert judge(hypothesis(expect), own, (*control, trial(problem, len(control) + 1))).verdict is not Verdict.SUPPORTED


@given(EXPECTATIONS, outcomes(), outcomes())
def test_what_the_control_explains_is_never_supported(expect, own, control) -> None:
    """When any trial of the control comes out as predicted, the hypothesis is not supported."""
    control = (*control, trial(agreeing(expect), len(control) + 1))
    assert judge(hypothesis(expect), own, control).verdict is not Verdict.SUPPORTED


@given(EXPECTATIONS, outcomes(), outcomes(), st.randoms(use_true_random=False))
def test_the_order_of_trials_does_not_matter(expect, own, control, shuffle: random.Random) -> None:
    """Judging shuffled trials gives the same judgement."""
    mixed, mixed_control = list(own), list(control)
    shuffle.shuffle(mixed)
    shuffle.shuffle(mixed_control)
    assert judge(hypothesis(expect), mixed, mixed_control) == judge(hypothesis(expect), own, control)


@given(EXPECTATIONS, EVIDENCE, EVIDENCE)
def test_an_agreeing_trial_never_lowers_confidence(expect, own, control) -> None:
    """One more trial like those that led to the verdict leaves it standing and at least as sure."""
    before = judge(hypothesis(expect), own, control)
    assume(before.verdict is not Verdict.INCONCLUSIVE or before.reason is Reason.CONTROL_AGREES)
    after = judge(hypothesis(expect), (*own, trial(own[0].outcome, len(own) + 1)), control)
    assert (after.verdict, after.reason) == (before.verdict, before.reason)
    assert after.confidence >= before.confidence
    if before.verdict is not Verdict.FALSIFIED:
        again = judge(hypothesis(expect), own, (*control, trial(control[0].outcome, len(control) + 1)))
        assert again.verdict is before.verdict
        assert again.confidence >= before.confidence


@given(EXPECTATIONS, outcomes(), outcomes())
def test_a_judgement_is_well_formed(expect, own, control) -> None:
    """Confidence is a probability, the reason fits the verdict, and no trial is lost."""
    found = judge(hypothesis(expect), own, control)
    assert 0 <= found.confidence <= 1
    assert sorted(found.trials, key=lambda t: t.attempt) == list(own)
    assert (found.verdict is Verdict.SUPPORTED) == (found.reason is Reason.AS_PREDICTED)
    assert (found.verdict is Verdict.FALSIFIED) == (found.reason is Reason.CONTRADICTED)
    if found.verdict is Verdict.SUPPORTED:
        telling = {t.outcome for t in own} - {Outcome.CANCELLED, Outcome.ERROR}
        assert telling == {agreeing(expect)}


@given(outcomes(), outcomes())
def test_predictions_mirror_each_other(own, control) -> None:
    """Swapping pass and fail everywhere, in the prediction too, changes nothing."""
    swap = {P: F, F: P}
    mirrored = tuple(trial(swap.get(t.outcome, t.outcome), t.attempt) for t in own)
    mirrored_control = tuple(trial(swap.get(t.outcome, t.outcome), t.attempt) for t in control)
    one = judge(hypothesis(Expectation.PASS), own, control)
    two = judge(hypothesis(Expectation.FAIL), mirrored, mirrored_control)
    assert (one.verdict, one.reason) == (two.verdict, two.reason)
    assert math.isclose(one.confidence, two.confidence)


@given(EXPECTATIONS, outcomes(), outcomes(), st.sampled_from([Outcome.CANCELLED, Outcome.ERROR]))
def test_failures_of_the_machinery_say_nothing(expect, own, control, silent) -> None:
    """A cancelled or broken trial beside others changes neither verdict nor confidence."""
    assume(any(t.outcome not in {Outcome.CANCELLED, Outcome.ERROR} for t in own))
    one = judge(hypothesis(expect), own, control)
    two = judge(hypothesis(expect), (*own, trial(silent, len(own) + 1)), control)
    assert (one.verdict, one.reason, one.confidence) == (two.verdict, two.reason, two.confidence)


@given(st.lists(st.sampled_from([*Outcome]), max_size=12), st.floats(0.51, 0.999), EXPECTATIONS)
def test_once_decided_always_decided(found, confidence, expect) -> None:
    """A side that is decided as it stands stays so when its majority goes on."""
    so_far = trials(*found)
    assume(is_decided(so_far, confidence=confidence))
    last = next((t.outcome for t in so_far if t.outcome.is_evidence), P)
    assert is_decided((*so_far, trial(last, len(so_far) + 1)), confidence=confidence)


# --- the table of the design ---


@pytest.mark.parametrize(
    ("own", "control", "verdict", "reason"),
    [
        ([P], [F], "supported", "as-predicted"),
        ([P, P, P], [F, F, F], "supported", "as-predicted"),
        ([F], [F], "falsified", "contradicted"),
        ([F], [P], "falsified", "contradicted"),
        ([F], [], "falsified", "contradicted"),
        ([P], [P], "inconclusive", "control-agrees"),
        ([P], [P, F], "inconclusive", "control-unstable"),
        ([P], [Outcome.TIMEOUT], "inconclusive", "control-unstable"),
        ([P], [], "inconclusive", "cancelled"),
        ([P, F], [F, F], "inconclusive", "flaky"),
        ([P, P, Outcome.TIMEOUT], [F], "inconclusive", "timeout"),
        ([Outcome.SETUP_FAILED], [F], "inconclusive", "setup-failed"),
        ([Outcome.PATCH_FAILED], [F], "inconclusive", "patch-failed"),
        ([Outcome.COMMAND_NOT_FOUND], [F], "inconclusive", "command-not-found"),
        ([Outcome.KILLED], [F], "inconclusive", "killed"),
        ([Outcome.NOTHING_RAN], [F], "inconclusive", "nothing-ran"),
        ([Outcome.SKIPPED], [F], "inconclusive", "skipped"),
        ([Outcome.CANCELLED], [F], "inconclusive", "cancelled"),
        ([Outcome.ERROR], [F], "inconclusive", "error"),
        ([], [F], "inconclusive", "cancelled"),
    ],
)
def test_the_table(own, control, verdict, reason) -> None:
    """Each combination of trials and control has the verdict and the reason that the design names."""
    found = judge(hypothesis(), trials(*own), trials(*control))
    assert (found.verdict.value, found.reason.value) == (verdict, reason)


def test_confidence_is_the_posterior() -> None:
    """N agreeing trials and m contradicting ones of the control give (1 - 2^-(n+1)) (1 - 2^-(m+1))."""
    found = judge(hypothesis(), trials(P, P, P), trials(F, F))
    assert found.confidence == pytest.approx((1 - 1 / 16) * (1 - 1 / 8))
    assert judge(hypothesis(), trials(F, F), trials(F)).confidence == pytest.approx(1 - 1 / 8)


def test_repeats_stop_when_more_would_change_nothing() -> None:
    """Flaky and hopeless trials stop at once, agreeing ones when hypothesis and control together are sure enough."""
    assert is_decided(trials(P, F), confidence=0.99)
    assert is_decided(trials(Outcome.TIMEOUT), confidence=0.99)
    assert not is_decided((), confidence=0.99)
    assert not is_decided(trials(Outcome.ERROR, Outcome.CANCELLED), confidence=0.99)
    decided_after = next(n for n in range(1, 50) if is_decided(trials(*[P] * n), confidence=0.99))
    assert decided_after == 7
    joint = judge(hypothesis(), trials(*[P] * 7), trials(*[F] * 7)).confidence
    assert joint >= 0.99


def test_flaky_shows_its_outcomes() -> None:
    """A flaky hypothesis tells how many trials came out which way, and how wide the rate is open."""
    found = judge(hypothesis(), trials(P, P, F), trials(F))
    assert found.reason is Reason.FLAKY
    assert found.notes[0].startswith(
        "mixed: 2 of 3 trials came out as predicted (95% interval of the rate 0.19 to 0.93)"
    )


def test_the_reason_has_its_message() -> None:
    """What kept a trial from being evidence is noted; what says nothing beside evidence is not."""
    own = (trial(P), trial(Outcome.TIMEOUT, 2, message="stopped after 5 s"))
    assert judge(hypothesis(), own, trials(F)).notes == ("why: stopped after 5 s",)
    own = (trial(P), trial(Outcome.CANCELLED, 2, message="interrupted"))
    assert judge(hypothesis(), own, trials(F)).notes == ()


def test_passes_but_slower_is_seen() -> None:
    """A supported hypothesis that takes three times as long as the control is flagged, with the numbers."""
    own = tuple(trial(P, i, duration=3.0 + i / 100) for i in range(1, 5))
    control = tuple(trial(F, i, duration=1.0 + i / 100) for i in range(1, 5))
    found = judge(hypothesis(), own, control)
    assert found.verdict is Verdict.SUPPORTED
    assert found.flags == {"slower"}
    assert found.notes[0].startswith("slower: 3 times the control (3.02 s against 1.02 s; p = 0.029")


def test_auto_timeout_follows_the_control() -> None:
    """Five times the control's slowest trial, at least ten seconds, unknown without evidence."""
    assert auto_timeout([trial(F, duration=4.0), trial(P, 2, duration=3.0)]) == 20.0
    assert auto_timeout([trial(P, duration=0.1)]) == 10.0
    assert auto_timeout([trial(Outcome.TIMEOUT, duration=99.0)]) is None


# --- ranking and advice ---


def judgement(name: str, verdict: Verdict, confidence: float = 0.5, *notes: str) -> Judgement:
    reason = {
        Verdict.SUPPORTED: Reason.AS_PREDICTED,
        Verdict.FALSIFIED: Reason.CONTRADICTED,
        Verdict.INCONCLUSIVE: Reason.TIMEOUT,
    }[verdict]
    return Judgement(hypothesis=name, verdict=verdict, reason=reason, confidence=confidence, notes=notes)


def test_the_best_come_first() -> None:
    """Supported before inconclusive before falsified; quick before slow; sure before unsure; then by priority."""
    hypotheses = [
        Hypothesis(id=n, probability=p) for n, p in zip("abcdef", [0.1, 0.9, 0.5, 0.5, 0.2, 0.8], strict=True)
    ]
    given_order = [
        judgement("a", Verdict.FALSIFIED),
        judgement("b", Verdict.SUPPORTED, 0.99, "slower: 3 times the control"),
        judgement("c", Verdict.SUPPORTED, 0.8),
        judgement("d", Verdict.SUPPORTED, 0.9),
        judgement("e", Verdict.INCONCLUSIVE),
        judgement("f", Verdict.INCONCLUSIVE),
    ]
    assert [j.hypothesis for j in rank(given_order, hypotheses)] == ["d", "c", "b", "f", "e", "a"]


@pytest.mark.parametrize(
    ("judgements", "says"),
    [
        ([judgement("a", Verdict.SUPPORTED), judgement("b", Verdict.FALSIFIED)], "Work on a"),
        ([judgement("a", Verdict.SUPPORTED), judgement("b", Verdict.SUPPORTED)], "Tell a and b apart"),
        ([judgement("a", Verdict.FALSIFIED)], "Think of new hypotheses"),
        ([judgement("a", Verdict.FALSIFIED), judgement("b", Verdict.INCONCLUSIVE)], "b (timeout)"),
        ([judgement("a", Verdict.SUPPORTED, 0.9, "slower: 3 times")], "slower than the control"),
        ([judgement(f"s{n}", Verdict.SUPPORTED) for n in range(12)], "Tell s0, s1, s2, s3, s4 and 7 more apart"),
        ([judgement(f"o{n}", Verdict.INCONCLUSIVE) for n in range(6)], "o4 (timeout) and o5 (timeout)."),
    ],
)
def test_the_advice_fits_the_result(judgements, says) -> None:
    """One supported: work on it; several: tell them apart; all falsified: new ones; else look at the open ones."""
    assert says in recommend(judgements)
