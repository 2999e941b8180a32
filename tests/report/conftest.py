"""A run with one hypothesis of every kind, and hostile text wherever a person or a program may put text."""

from __future__ import annotations

import pytest

from arboretum.engine.model import CommandSpec, Hypothesis, Judgement, Outcome, Plan, Reason, Trial, Verdict
from arboretum.engine.result import RunResult
from arboretum.report import Exhibits
from arboretum.values import Oid

HOSTILE = "</script><script>alert(1)</script> | `x` ]]> \x1b[31mred\x1b[0m \x00 \udcff **b**"
BASE = Oid("1" * 40)


def trial(name: str, attempt: int, outcome: Outcome, *, seconds: float = 1.0, **more: object) -> Trial:
    return Trial(
        hypothesis=name, attempt=attempt, outcome=outcome, duration=seconds, commit=BASE, tree=Oid("2" * 40), **more
    )


@pytest.fixture
def result() -> RunResult:
    passed, failed = Outcome.PASSED, Outcome.FAILED
    control = tuple(
        trial("control", n, failed, exit_code=1, slot="slot-1", started=1000.0 + n, metrics={"rows_per_s": 90.0 + n})
        for n in (1, 2, 3)
    )
    return RunResult(
        run="20261124-abc",
        plan=Plan(
            title=f"Why is the last line lost? {HOSTILE}",
            command=CommandSpec(("pytest", "-q", "tests/test a.py")),
            hypotheses=(
                Hypothesis(id="right", description="the slice end is exclusive", ref="fix/right"),
                Hypothesis(id="slow", description=HOSTILE, patch=b"--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+</pre>b\n"),
                Hypothesis(id="wrong", env={"MODE": "x"}),
                Hypothesis(id="hangs", edit=CommandSpec(("sed", "-i", "s/a/b/", "x"))),
                Hypothesis(id="never"),
            ),
        ),
        base=BASE,
        control=control,
        judgements=(
            Judgement(
                hypothesis="right",
                verdict=Verdict.SUPPORTED,
                reason=Reason.AS_PREDICTED,
                confidence=0.94,
                trials=tuple(
                    trial(
                        "right", n, passed, exit_code=0, slot="slot-2", started=1000.0 + n, metrics={"rows_per_s": 91.0}
                    )
                    for n in (1, 2, 3)
                ),
            ),
            Judgement(
                hypothesis="slow",
                verdict=Verdict.SUPPORTED,
                reason=Reason.AS_PREDICTED,
                confidence=0.94,
                notes=("slower: 3.1 times the control",),
                trials=tuple(
                    trial(
                        "slow",
                        n,
                        passed,
                        exit_code=0,
                        seconds=3.1,
                        slot="slot-3",
                        started=1001.0 + n,
                        output_tail=HOSTILE,
                    )
                    for n in (1, 2, 3)
                ),
            ),
            Judgement(
                hypothesis="wrong",
                verdict=Verdict.FALSIFIED,
                reason=Reason.CONTRADICTED,
                confidence=0.8,
                trials=(trial("wrong", 1, failed, exit_code=1, cached=True),),
            ),
            Judgement(
                hypothesis="hangs",
                verdict=Verdict.INCONCLUSIVE,
                reason=Reason.TIMEOUT,
                confidence=0.5,
                trials=(trial("hangs", 1, Outcome.TIMEOUT, exit_code=124, message="stopped after 30 s", leaked=True),),
            ),
            Judgement(hypothesis="never", verdict=Verdict.INCONCLUSIVE, reason=Reason.CANCELLED, confidence=0.5),
        ),
        recommendation="Two hypotheses are supported (right, slow): tell them apart.",
        started=1_790_000_000.0,
        duration=7.5,
        notes=("two trials shared a slot",),
    )


@pytest.fixture
def exhibits(result: RunResult) -> Exhibits:
    from arboretum.report.exhibits import Outputs, printable

    trials = [*result.control, *(t for j in result.judgements for t in j.trials)]
    outputs = {t.id: Outputs().shown(t) for t in trials} | {"control#1": "E   AssertionError: needle\n```\n1 failed"}
    return Exhibits(
        outputs=outputs,
        changes={"right": printable("--- a/x\n+++ b/x\n@@ -1 +1 @@\n-lines[:-1]\n+lines\n````\n")},
    )
