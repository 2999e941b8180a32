"""Makers of trials and plans, and an executor that plays a script: what the engine's tests have in common."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from attrs import define, field
from hypothesis import strategies as st

from arboretum.engine.model import CONTROL, CommandSpec, Hypothesis, Outcome, Plan, Trial, TrialRequest
from arboretum.engine.variants import Variant
from arboretum.values import Oid

P, F = Outcome.PASSED, Outcome.FAILED
NO_EVIDENCE = tuple(o for o in Outcome if not o.is_evidence and o not in {Outcome.CANCELLED, Outcome.ERROR})


def trial(outcome: Outcome, attempt: int = 1, *, hypothesis: str = "h", duration: float = 1.0, **more: object) -> Trial:
    return Trial(hypothesis=hypothesis, attempt=attempt, outcome=outcome, duration=duration, **more)  # type: ignore[arg-type]


def trials(*outcomes: Outcome, hypothesis: str = "h") -> tuple[Trial, ...]:
    return tuple(trial(o, i, hypothesis=hypothesis) for i, o in enumerate(outcomes, 1))


def outcomes(
    allowed: st.SearchStrategy[Outcome] | None = None, *, min_size: int = 0
) -> st.SearchStrategy[tuple[Trial, ...]]:
    each = st.sampled_from(Outcome) if allowed is None else allowed
    return st.lists(each, min_size=min_size, max_size=8).map(lambda found: trials(*found))


def plan(*hypotheses: str | Hypothesis, **settings: object) -> Plan:
    made = tuple(h if isinstance(h, Hypothesis) else Hypothesis(id=h) for h in hypotheses)
    settings.setdefault("command", CommandSpec(("true",)))
    return Plan(hypotheses=made, **settings)  # type: ignore[arg-type]


def oid(number: int) -> Oid:
    return Oid(f"{number:040x}")


def variants(a_plan: Plan) -> dict[str, Variant]:
    names = (CONTROL, *(h.id for h in a_plan.hypotheses))
    return {n: Variant(id=n, commit=oid(i), tree=oid(1000 + i), command=a_plan.command) for i, n in enumerate(names, 1)}


@define(eq=False)
class ScriptedExecutor:
    """Plays a script: what each trial ends with, and after how many seconds; tells what it was asked and saw."""

    script: Callable[[TrialRequest], Outcome | Exception] | Mapping[str, Outcome | Exception]
    capacity: int = 2
    delay: Callable[[TrialRequest], float] = lambda _request: 0.0
    cleanup: float = 0.0
    started: list[str] = field(factory=list)
    cancelled: list[str] = field(factory=list)
    running: int = 0
    most: int = 0

    async def execute(self, request: TrialRequest, *, on_started=None, on_output=None) -> Trial:
        self.started.append(request.id)
        if on_started:
            on_started(f"slot-{self.running}", "/nowhere")
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(self.delay(request))
        except asyncio.CancelledError:
            await asyncio.sleep(self.cleanup)
            self.cancelled.append(request.id)
            raise
        finally:
            self.running -= 1
        ending = self.script(request) if callable(self.script) else self.script[request.hypothesis]
        if isinstance(ending, Exception):
            raise ending
        return trial(ending, request.attempt, hypothesis=request.hypothesis)

    async def close(self) -> None:
        assert self.running == 0
