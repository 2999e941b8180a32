"""The dispatcher: it makes what runs what the strategy wants, whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable

import pytest
from attrs import define, evolve, field
from hypothesis import given, settings
from hypothesis import strategies as st

from arboretum.engine.cache_key import CacheKey
from arboretum.engine.dispatcher import Dispatcher
from arboretum.engine.events import TrialFinished, VerdictReached
from arboretum.engine.model import CONTROL, Hypothesis, Outcome, Reason, Trial, Verdict
from arboretum.engine.result import RunStatus
from arboretum.engine.search import HypothesisSearch
from arboretum.errors import EngineError, PoolError
from arboretum.events import Event, Observers
from tests.engine.trials import F, P, ScriptedExecutor, plan, trial, variants


@define
class MemoryStore:
    """A store in dictionaries."""

    cache: dict[str, Trial] = field(factory=dict)
    recorded: list[tuple[str, Trial]] = field(factory=list)

    def get_many(self, keys: Iterable[CacheKey]) -> dict[str, Trial]:
        return {key.digest: self.cache[key.digest] for key in keys if key.digest in self.cache}

    def put(self, key: CacheKey, trial: Trial, *, run: str = "") -> None:
        if trial.outcome.is_evidence:  # as the real one
            self.cache[key.digest] = trial

    def batch(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def record_trial(self, run: str, trial: Trial, *, key: CacheKey | None = None) -> Trial:
        self.recorded.append((run, trial))
        return trial


def dispatcher(a_plan, executor, events: list[Event] | None = None, **more) -> Dispatcher:
    observers = Observers.of([] if events is None else [events.append])
    return Dispatcher(
        run="r", plan=a_plan, strategy=HypothesisSearch(a_plan), variants=variants(a_plan), executor=executor,
        observers=observers, **more,
    )  # fmt: skip


def run(made: Dispatcher) -> RunStatus:
    async def main() -> RunStatus:
        async with asyncio.timeout(20):
            return await made.dispatch()

    return asyncio.run(main())


def verdicts(made: Dispatcher) -> dict[str, tuple[str, str]]:
    return {j.hypothesis: (j.verdict.value, j.reason.value) for j in made.strategy.ranking()}


def test_a_run_ends_with_a_verdict_for_each() -> None:
    """Every hypothesis is tried and judged against the control; an event tells of each trial and each verdict."""
    events: list[Event] = []
    executor = ScriptedExecutor({CONTROL: F, "good": P, "bad": F, "slow": Outcome.TIMEOUT})
    made = dispatcher(plan("good", "bad", "slow"), executor, events)
    assert run(made) is RunStatus.DONE
    assert verdicts(made) == {
        "good": ("supported", "as-predicted"),
        "slow": ("inconclusive", "timeout"),
        "bad": ("falsified", "contradicted"),
    }
    assert sum(isinstance(e, TrialFinished) for e in events) == 4
    assert {e.judgement.hypothesis for e in events if isinstance(e, VerdictReached)} == {"good", "bad", "slow"}


@given(st.integers(1, 5), st.integers(1, 6), st.integers(1, 3), st.data())
@settings(max_examples=40, deadline=None)
def test_never_more_than_the_capacity_and_all_is_tried(capacity, count, repeats, data) -> None:
    """Whatever the trials end with, no more than the capacity run at once, and no trial runs twice."""
    names = [f"h{i}" for i in range(count)]
    ends = {n: data.draw(st.sampled_from([P, F, Outcome.SKIPPED])) for n in (CONTROL, *names)}
    executor = ScriptedExecutor(ends, capacity=capacity)
    made = dispatcher(plan(*names, repeats=repeats), executor)
    assert run(made) is RunStatus.DONE
    assert executor.most <= capacity
    assert len(executor.started) == len(set(executor.started))
    for name, end in ends.items():
        tried = [t for t in made.trials if t.hypothesis == name and t.outcome is end]
        assert len(tried) == repeats if end.is_evidence else 1 <= len(tried) <= repeats


def test_control_first_then_by_priority() -> None:
    """In each round of repeats the control comes first, then the hypotheses by priority."""
    names = [Hypothesis(id="low", probability=0.1), Hypothesis(id="high", probability=0.9)]
    executor = ScriptedExecutor(lambda _request: P, capacity=1)
    run(dispatcher(plan(*names, repeats=2), executor))
    assert executor.started == ["control#1", "high#1", "low#1", "control#2", "high#2", "low#2"]


def test_the_first_supported_stops_the_rest() -> None:
    """With stop-on supported the others are cancelled at once, those not begun never start."""
    executor = ScriptedExecutor(
        lambda r: F if r.hypothesis in {CONTROL, "bad"} else P,
        capacity=3,
        delay=lambda r: 60 if r.hypothesis == "slow" else 0.0,
    )
    made = dispatcher(plan("bad", "slow", "good", "never", stop_on_supported=True), executor)
    assert run(made) is RunStatus.DONE
    assert verdicts(made)["good"] == ("supported", "as-predicted")
    assert verdicts(made)["slow"] == ("inconclusive", "cancelled")
    assert executor.cancelled == ["slow#1"]
    assert executor.running == 0


def test_hopeless_hypotheses_are_not_repeated() -> None:
    """After a trial that is no evidence no further repeat starts."""
    executor = ScriptedExecutor(lambda r: F if r.hypothesis == CONTROL else Outcome.SETUP_FAILED, capacity=1)
    run(dispatcher(plan("a", repeats=5), executor))
    assert executor.started.count("a#1") == 1
    assert "a#2" not in executor.started


def test_a_patch_that_does_not_apply_takes_no_slot() -> None:
    """A variant that cannot be made is judged at once, with the reason, and the executor is not asked."""
    a_plan = plan("broken", "good")
    executor = ScriptedExecutor(lambda r: F if r.hypothesis == CONTROL else P)
    made = dispatcher(a_plan, executor)
    made.variants["broken"] = evolve(made.variants["broken"], problem="hunk 2 of x.py does not apply")
    run(made)
    assert verdicts(made)["broken"] == ("inconclusive", "patch-failed")
    assert "broken#1" not in executor.started
    assert "why: hunk 2 of x.py does not apply" in made.strategy.judgements["broken"].notes


@pytest.mark.parametrize("after", [0.0, 0.02])
def test_a_stopped_run_cleans_up(after: float) -> None:
    """Stopping cancels what runs, waits for it, and says that the run was interrupted."""
    executor = ScriptedExecutor(lambda _r: P, capacity=4, delay=lambda _r: 60)
    made = dispatcher(plan(*"abcdef"), executor)

    async def main() -> RunStatus:
        asyncio.get_running_loop().call_later(after, made.stop)
        async with asyncio.timeout(20):
            return await made.dispatch()

    assert asyncio.run(main()) is RunStatus.INTERRUPTED
    assert executor.running == 0
    assert sorted(executor.cancelled) == sorted(executor.started)
    assert all(t.outcome is Outcome.CANCELLED for t in made.trials)


def test_a_run_that_is_cancelled_while_it_cleans_up() -> None:
    """The trials are waited for, and the cancellation comes through all the same."""
    executor = ScriptedExecutor(lambda _r: P, capacity=4, delay=lambda _r: 60, cleanup=0.2)
    made = dispatcher(plan(*"abcdef"), executor)

    async def main() -> None:
        task = asyncio.create_task(made.dispatch())
        await asyncio.sleep(0.02)
        made.stop()
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            async with asyncio.timeout(20):
                await task

    asyncio.run(main())
    assert executor.running == 0
    assert sorted(executor.cancelled) == sorted(executor.started) != []


def test_a_cancelled_dispatch_waits_for_its_trials() -> None:
    """Cancelling the awaiting task stops every trial before the cancel comes through."""
    executor = ScriptedExecutor(lambda _r: P, capacity=4, delay=lambda _r: 60)
    made = dispatcher(plan(*"abc"), executor)

    async def main() -> None:
        task = asyncio.create_task(made.dispatch())
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert executor.running == 0
    assert len(executor.cancelled) == 4


def fails_first(times: int, then: Outcome) -> Callable[[object], Outcome | Exception]:
    seen: dict[str, int] = {}

    def script(request) -> Outcome | Exception:
        seen[request.id] = seen.get(request.id, 0) + 1
        return PoolError("no slot") if request.hypothesis != CONTROL and seen[request.id] <= times else then

    return script


def test_a_failure_of_the_machinery_is_tried_again() -> None:
    """A trial that could not be carried out once is repeated and leaves no trace."""
    made = dispatcher(plan("a"), ScriptedExecutor(fails_first(1, P)))
    assert run(made) is RunStatus.DONE
    assert [t.outcome for t in made.trials] == [P, P]


def test_a_trial_that_cannot_be_carried_out_is_an_error() -> None:
    """After the second failure the trial is an error with its message, and the run goes on."""
    made = dispatcher(plan("a", "b"), ScriptedExecutor(fails_first(2, P), capacity=1))
    run(made)
    assert verdicts(made)["a"] == ("inconclusive", "error")
    assert "why: no slot" in made.strategy.judgements["a"].notes


def test_a_broken_environment_ends_the_run() -> None:
    """Three trials in a row that cannot be carried out are the environment's fault: the run fails, nothing is left."""
    executor = ScriptedExecutor(lambda _r: PoolError("disk full"), capacity=2)
    with pytest.raises(EngineError, match="disk full"):
        run(dispatcher(plan(*"abcdefgh"), executor))
    assert executor.running == 0
    assert len(executor.started) < 12


def test_known_results_are_taken_from_the_cache() -> None:
    """A second run of the same plan runs nothing; what is no evidence is run again; without reuse everything is."""
    store = MemoryStore()
    ends = {CONTROL: F, "good": P, "slow": Outcome.TIMEOUT}
    a_plan = plan("good", "slow", repeats=2)
    run(dispatcher(a_plan, ScriptedExecutor(ends), store=store))
    again = ScriptedExecutor(ends)
    made = dispatcher(a_plan, again, store=store)
    run(made)
    assert {s.split("#")[0] for s in again.started} == {"slow"}
    assert all(t.cached == (t.hypothesis != "slow") for t in made.trials)
    assert verdicts(made)["good"] == ("supported", "as-predicted")
    fresh = ScriptedExecutor(ends)
    run(dispatcher(a_plan, fresh, store=store, reuse=False))
    assert {"control#1", "control#2", "good#1", "good#2"} <= set(fresh.started)


def test_an_interrupted_run_goes_on_where_it_was() -> None:
    """Restored trials are not repeated; cancelled and broken ones are."""
    executor = ScriptedExecutor({CONTROL: F, "a": P, "b": P})
    made = dispatcher(plan("a", "b"), executor)
    ends = {CONTROL: F, "a": P, "b": Outcome.CANCELLED, "gone": P}
    made.restore(trial(end, hypothesis=name) for name, end in ends.items())
    assert run(made) is RunStatus.DONE
    assert executor.started == ["b#1"]
    assert {v[0] for v in verdicts(made).values()} == {"supported"}


def test_a_run_with_nothing_left_to_do_ends() -> None:
    """A run whose trials are all restored starts nothing and ends done."""
    executor = ScriptedExecutor({})
    made = dispatcher(plan("a"), executor)
    made.restore([trial(F, hypothesis=CONTROL), trial(P, hypothesis="a")])
    assert run(made) is RunStatus.DONE
    assert executor.started == []
    assert made.strategy.ranking()[0].verdict is Verdict.SUPPORTED


def test_auto_timeout_waits_for_the_control() -> None:
    """With an automatic timeout no hypothesis starts before the control's time is known, and gets a multiple of it."""
    seen: dict[str, float | None] = {}

    def script(request) -> Outcome:
        seen[request.id] = request.timeout
        return F if request.hypothesis == CONTROL else P

    executor = ScriptedExecutor(script, capacity=4)
    made = dispatcher(plan("a", "b", auto_timeout=True), executor)
    run(made)
    assert executor.started[0] == "control#1"
    assert executor.most == 2
    assert seen == {"control#1": 1800.0, "a#1": 10.0, "b#1": 10.0}


def test_auto_timeout_without_evidence_uses_the_floor() -> None:
    """When the control gives no evidence the hypotheses still run, under the least timeout."""
    made = dispatcher(plan("a", auto_timeout=True), ScriptedExecutor({CONTROL: Outcome.COMMAND_NOT_FOUND, "a": P}))
    run(made)
    assert verdicts(made)["a"][1] == Reason.CONTROL_UNSTABLE.value
