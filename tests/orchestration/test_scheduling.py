"""The laws of the schedule, over random plans."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from arboretum.errors import UsageError
from arboretum.orchestration.graph import critical_path, path_lengths
from arboretum.orchestration.scheduling import (
    Limits,
    Placement,
    Workload,
    choose,
    lower_bound,
    makespan,
    simulate,
)
from arboretum.orchestration.splitter import find_conflicts, workload_of
from arboretum.orchestration.tasks import Task, TaskPlan
from tests.orchestration.plans import limits, task, task_lists


def workload(tasks: list[Task], overhead: float = 0.0) -> Workload:
    plan = TaskPlan(tasks=tuple(tasks))
    return workload_of(plan, find_conflicts(plan.tasks), overhead=overhead)


def check_moment(running: set[str], work: Workload, bounds: Limits) -> None:
    """The rules that hold at every moment for the tasks that run."""
    tasks = [work.tasks[name] for name in running]
    assert len(tasks) <= bounds.slots
    assert bounds.cpus is None or sum(t.cpus for t in tasks) <= bounds.cpus
    assert bounds.memory is None or sum(t.memory for t in tasks) <= bounds.memory
    for one, two in itertools.combinations(tasks, 2):
        assert not one.scope.meets(two.scope)
        assert not set(one.exclusive) & set(two.exclusive)


def check_schedule(placed: tuple[Placement, ...], work: Workload, bounds: Limits) -> None:
    by_task = {p.task: p for p in placed}
    assert sorted(p.task for p in placed) == sorted(work.tasks), "every task runs exactly once"
    for name, needs in work.dependencies.items():
        assert all(by_task[other].end <= by_task[name].start for other in needs)
    for moment in {p.start for p in placed}:
        check_moment({p.task for p in placed if p.start <= moment < p.end}, work, bounds)
    for one, two in itertools.combinations(placed, 2):
        assert one.slot != two.slot or one.end <= two.start or two.end <= one.start, "a slot holds one task at a time"


@given(task_lists(), limits)
@settings(max_examples=200, deadline=None)
def test_the_schedule_keeps_every_rule(tasks: list[Task], bounds: Limits) -> None:
    """No two running tasks meet, dependencies come first, no limit is passed, every task runs once."""
    work = workload(tasks)
    placed = simulate(work, bounds)
    check_schedule(placed, work, bounds)
    assert makespan(placed) >= max(lower_bound(work, bounds) - 1e-9, 0)


@given(task_lists(), limits, st.randoms(use_true_random=False))
@settings(max_examples=200, deadline=None)
def test_the_rolling_choice_keeps_every_rule_whatever_tasks_take(
    tasks: list[Task], bounds: Limits, chance: random.Random
) -> None:
    """The same rules hold when tasks end in any order, whatever was estimated, and are merged any time later."""
    work = workload(tasks)
    waiting, running, held, done = set(work.tasks), set[str](), set[str](), set[str]()
    started: list[str] = []
    while waiting or running or held:
        ready = work.ranked(n for n in waiting if done.issuperset(work.tasks[n].depends_on))
        for name in choose(work, bounds, ready=ready, running=running, held=held):
            assert all(not work.tasks[name].scope.meets(work.tasks[other].scope) for other in held)
            waiting.remove(name)
            running.add(name)
            started.append(name)
            check_moment(running, work, bounds)
        assert running or held, "nothing runs although something is left: the plan is stuck"
        if running and (not held or chance.random() < 0.6):
            ended = chance.choice(sorted(running))
            running.remove(ended)
            held.add(ended)
        else:
            merged = chance.choice(sorted(held))
            held.remove(merged)
            done.add(merged)
    assert sorted(started) == sorted(work.tasks)


@given(task_lists(conflicts=False, resources=False, max_size=20), st.integers(1, 5))
@settings(max_examples=300, deadline=None)
def test_grahams_bound_on_plans_without_conflicts(tasks: list[Task], slots: int) -> None:
    """A list schedule ends within W/m + (1 - 1/m) C, hence within 2 - 1/m of the lower bound (Graham 1966)."""
    work, bounds = workload(tasks), Limits(slots=slots)
    total, critical = sum(work.seconds.values()), max(work.priority.values())
    took = makespan(simulate(work, bounds))
    assert took <= total / slots + (1 - 1 / slots) * critical + 1e-6
    assert took <= (2 - 1 / slots) * lower_bound(work, bounds) + 1e-6


@st.composite
def fine_grained(draw: st.DrawFn) -> tuple[list[Task], int]:
    """Random plans whose critical path is at most a third of the work per slot."""
    slots = draw(st.integers(1, 4))
    chains = draw(st.integers(6 * slots, 12 * slots))
    tasks: list[Task] = []
    for chain in range(chains):
        before: tuple[str, ...] = ()
        for step in range(draw(st.integers(1, 2))):
            name = f"c{chain}-{step}"
            tasks.append(task(name, depends_on=before, estimate=draw(st.integers(2, 4)) * 1.0))
            before = (name,)
    return tasks, slots


@given(fine_grained())
@settings(max_examples=100, deadline=None)
def test_four_thirds_of_the_lower_bound(case: tuple[list[Task], int]) -> None:
    """On plans without conflicts whose critical path is a third of W/m or less, the schedule is within 4/3."""
    tasks, slots = case
    work, bounds = workload(tasks), Limits(slots=slots)
    assume(max(work.priority.values()) <= sum(work.seconds.values()) / slots / 3)
    assert makespan(simulate(work, bounds)) <= 4 / 3 * lower_bound(work, bounds) + 1e-6


@pytest.mark.parametrize("slots", [2, 4, 8])
@pytest.mark.parametrize("most", [0, 2])
def test_random_plans_of_some_size_are_within_four_thirds(slots: int, most: int) -> None:
    """200 random plans of 20 to 40 tasks, with and without dependencies: each within 4/3 of the lower bound."""
    chance = random.Random(slots + 100 * most)
    for _ in range(200):
        tasks: list[Task] = []
        for index in range(chance.randint(20, 40)):
            needs = {f"t{chance.randrange(index)}" for _ in range(chance.randint(0, most))} if index else set()
            tasks.append(task(f"t{index}", depends_on=tuple(sorted(needs)), estimate=chance.uniform(1, 20)))
        work, bounds = Workload({t.id: t for t in tasks}), Limits(slots=slots)
        assert makespan(simulate(work, bounds)) <= 4 / 3 * lower_bound(work, bounds) + 1e-6


def _best(seconds: list[float], slots: int) -> float:
    """The shortest schedule of independent tasks, by trying every assignment."""
    best, loads = sum(seconds), [0.0] * slots

    def place(index: int) -> None:
        nonlocal best
        if max(loads) >= best:
            return
        if index == len(seconds):
            best = max(loads)
            return
        for slot in range(slots):
            if loads[slot] not in loads[:slot]:
                loads[slot] += seconds[index]
                place(index + 1)
                loads[slot] -= seconds[index]

    place(0)
    return best


@given(st.lists(st.integers(1, 15), min_size=1, max_size=9), st.integers(1, 4))
@settings(max_examples=200, deadline=None)
def test_longest_first_is_within_four_thirds_of_the_best(times: list[int], slots: int) -> None:
    """Independent tasks, longest first, take at most 4/3 - 1/(3m) of the shortest schedule there is (Graham 1969)."""
    work = workload([task(f"t{i}", estimate=float(t)) for i, t in enumerate(times)])
    took = makespan(simulate(work, Limits(slots=slots)))
    assert took <= (4 / 3 - 1 / (3 * slots)) * _best(sorted(map(float, times), reverse=True), slots) + 1e-6


def test_the_lower_bound_cannot_always_be_reached() -> None:
    """Three equal tasks on two slots: the best schedule there is takes 4/3 of the lower bound; five on four, 8/5."""
    for count, slots, ratio in ((3, 2, 4 / 3), (5, 4, 8 / 5)):
        work = workload([task(f"t{i}", estimate=1.0) for i in range(count)])
        best = _best([1.0] * count, slots)
        assert makespan(simulate(work, Limits(slots=slots))) == best
        assert best / lower_bound(work, Limits(slots=slots)) == pytest.approx(ratio)


def test_the_longest_chain_goes_first() -> None:
    """A short task that begins the critical path starts before a longer one that nothing waits for."""
    tasks = [
        task("long", estimate=5.0),
        task("head", estimate=1.0),
        task("tail", estimate=9.0, depends_on=("head",)),
    ]
    placed = simulate(workload(tasks), Limits(slots=1))
    assert [p.task for p in placed] == ["head", "tail", "long"]


def test_a_small_task_slips_past_a_big_one_that_does_not_fit() -> None:
    """Room that the first in line cannot use is used by the next that can."""
    tasks = [task("a", cpus=1.0, estimate=9.0), task("big", cpus=2.0, estimate=8.0), task("c", cpus=1.0, estimate=1.0)]
    placed = simulate(workload(tasks), Limits(slots=3, cpus=2.0))
    assert [(p.task, p.start) for p in placed] == [("a", 0.0), ("c", 0.0), ("big", 9.0)]


def test_a_task_that_can_never_run_is_refused() -> None:
    """What needs more than there is is said at once instead of waiting for ever."""
    with pytest.raises(UsageError, match="needs 8 cores and 4 are allowed"):
        simulate(workload([task("big", cpus=8.0)]), Limits(slots=2, cpus=4.0))


@given(task_lists(conflicts=False, resources=False))
@settings(max_examples=100, deadline=None)
def test_the_critical_path_is_a_longest_chain(tasks: list[Task]) -> None:
    """The critical path is a chain of dependencies, and as long as the longest path length."""
    work = workload(tasks)
    path = critical_path(work.dependencies, work.seconds)
    assert all(one in work.dependencies[two] for one, two in itertools.pairwise(path))
    assert sum(work.seconds[name] for name in path) == max(path_lengths(work.dependencies, work.seconds).values())
