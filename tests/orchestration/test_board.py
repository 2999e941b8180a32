"""The board: runs of random plans with random ends, played without git, with crashes in between."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from arboretum.engine.events import RunEvent
from arboretum.engine.journal import Journal
from arboretum.engine.records import event_line
from arboretum.orchestration import events
from arboretum.orchestration.board import Board, plan_of_record, plan_record
from arboretum.orchestration.events import decode_event
from arboretum.orchestration.scheduling import Limits, choose
from arboretum.orchestration.splitter import ancestors, find_conflicts, workload_of
from arboretum.orchestration.states import TaskState
from arboretum.orchestration.tasks import MergeOrder, Task, TaskPlan
from arboretum.values import Oid
from tests.orchestration.plans import limits, task_lists

BASE = Oid("b" * 40)
ENDS = [TaskState.FINISHED, TaskState.FINISHED, TaskState.UNCHANGED, TaskState.FAILED, TaskState.OUT_OF_SCOPE]
plans = st.builds(
    lambda tasks, order: TaskPlan(tasks=tuple(tasks), merge=order), task_lists(max_size=9), st.sampled_from(MergeOrder)
)


def started(plan: TaskPlan) -> events.OrchestrationStarted:
    return events.OrchestrationStarted(
        run="r", title="", base=BASE, integration="refs/heads/i", into=None, tasks=tuple(plan.by_id), slots=4,
        plan=plan_record(plan),
    )  # fmt: skip


class Player:
    """Plays a run: what each task comes to is fixed, when it comes to it is chance."""

    def __init__(self, plan: TaskPlan, bounds: Limits, ends: dict[str, TaskState], refused: set[str]) -> None:
        self.plan, self.bounds, self.ends, self.refused = plan, bounds, ends, refused
        self.conflicts = find_conflicts(plan.tasks)
        self.work = workload_of(plan, self.conflicts)
        self.history: list[RunEvent] = [started(plan)]
        self.board = Board.begun(self.history[0])  # type: ignore[arg-type]
        self.merges = 0

    def tell(self, event: RunEvent) -> None:
        self.history.append(event)
        self.board.apply(event)

    def crash(self) -> None:
        """Forget everything but what the journal's lines say, and go on."""
        read = [decode_event(event_line(event)) for event in self.history]
        self.board = Board.of(read)
        self.tell(
            events.OrchestrationStarted(
                run="r", title="", base=BASE, integration="refs/heads/i", into=None, tasks=(), slots=4, plan={}
            )
        )

    def play(self, chance: random.Random, crashes: int) -> Iterator[None]:
        while True:
            while blocked := self.board.newly_blocked():
                for name, others in blocked:
                    self.tell(events.TaskBlocked(run="r", task=name, others=others))
            running = self.board.in_state(TaskState.RUNNING)
            held = self.board.in_state(TaskState.FINISHED)
            ready = self.work.ranked(self.board.ready(self.work.conflicts))
            for name in choose(self.work, self.bounds, ready=ready, running=running, held=held):
                start = self.board.start_of(name, self.work.conflicts)
                self.tell(events.TaskStarted(run="r", task=name, attempt=1, slot="0", path="", start=start))
            yield
            running = self.board.in_state(TaskState.RUNNING)
            batch = self.board.next_batch()
            if not running and not batch:
                return
            if crashes and chance.random() < 0.1:
                crashes -= 1
                self.crash()
            elif batch and (not running or chance.random() < 0.5):
                self.merge(batch)
            else:
                self.end(chance.choice(running))

    def end(self, name: str) -> None:
        record = self.board.records[name]
        self.tell(
            events.TaskEnded(
                run="r", task=name, state=self.ends[name], attempt=1, duration=0.0, start=record.start, commit=BASE,
                changed=(name,), files=(name,),
            )
        )  # fmt: skip

    def merge(self, batch: tuple[str, ...]) -> None:
        for name in batch:
            if name in self.refused:
                self.tell(events.TaskSetAside(run="r", task=name, state=TaskState.CONFLICT, message="no"))
        good = tuple(name for name in batch if name not in self.refused)
        commits = []
        for _ in good:
            self.merges += 1
            commits.append(Oid(f"{self.merges:040x}"))
        if good:
            self.tell(events.TasksMerged(run="r", tasks=good, commits=tuple(commits)))


@given(plans, limits, st.randoms(use_true_random=False), st.integers(0, 3), st.data())
@settings(max_examples=100, deadline=None)
def test_every_run_comes_to_an_end_and_to_the_right_one(
    plan: TaskPlan, bounds: Limits, chance: random.Random, crashes: int, data: st.DataObject
) -> None:
    """No plan gets stuck, in either order of merging, with crashes; each task ends as it has to."""
    ends = {name: data.draw(st.sampled_from(ENDS), label=name) for name in plan.by_id}
    refused = set(data.draw(st.sets(st.sampled_from(sorted(plan.by_id)), max_size=2)))
    player = Player(plan, bounds, ends, refused)
    for _ in player.play(chance, crashes):
        check_moment(player)
    board = player.board
    assert board.is_over
    good = {n for n, s in ends.items() if s is TaskState.UNCHANGED or (s is TaskState.FINISHED and n not in refused)}
    reach = ancestors(plan)
    for name, record in board.records.items():
        if not good.issuperset(reach[name]):
            assert record.state is TaskState.BLOCKED
        elif ends[name] is TaskState.FINISHED:
            assert record.state is (TaskState.CONFLICT if name in refused else TaskState.MERGED)
        else:
            assert record.state is ends[name]
    if plan.merge is MergeOrder.PLAN:
        assert list(board.merged) == [name for name in board.plan.order if name in board.merged]


def check_lookups(player: Player) -> None:
    """What is kept up to date event by event is what a look at all tasks tells."""
    board, plan = player.board, player.board.plan
    states = {name: record.state for name, record in board.records.items()}
    waiting = [name for name in states if states[name] is TaskState.WAITING]
    needs = {name: [states[other] for other in plan.by_id[name].depends_on] for name in waiting}
    assert [name for name, _ in board.newly_blocked()] == [n for n in waiting if any(s.is_lost for s in needs[n])]
    free = [name for name in waiting if all(state.is_good for state in needs[name])]
    order = plan.order if plan.merge is MergeOrder.PLAN else ()

    def has_to_wait(name: str) -> bool:
        earlier = order[: order.index(name)] if order else ()
        return any(states[o].is_open and o in player.work.conflicts.get(name, ()) for o in earlier)

    assert list(board.ready(player.work.conflicts)) == [name for name in free if not has_to_wait(name)]
    open_ones = [name for name in order if states[name] in {TaskState.WAITING, TaskState.RUNNING}]
    before = order.index(open_ones[0]) if open_ones else len(states)
    mergeable = [n for n in plan.order if states[n] is TaskState.FINISHED]
    assert list(board.next_batch()) == [n for n in mergeable if not order or order.index(n) < before]
    assert board.is_over == (not any(state.is_open for state in states.values()))
    assert board.in_state(*TaskState) == tuple(plan.by_id)


def check_moment(player: Player) -> None:
    """What holds at every moment of a run."""
    check_lookups(player)
    board, work, bounds = player.board, player.work, player.bounds
    running = board.in_state(TaskState.RUNNING)
    held = board.in_state(TaskState.FINISHED)
    tasks: list[Task] = [board.plan.by_id[name] for name in running]
    assert len(running) <= bounds.slots
    assert bounds.cpus is None or sum(t.cpus for t in tasks) <= bounds.cpus
    for name in running:
        assert work.conflict(name, {*running, *held} - {name}) is None
        assert all(board.records[other].state.is_good for other in board.plan.by_id[name].depends_on)


@given(plans, limits, st.randoms(use_true_random=False), st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_in_plan_order_timing_does_not_decide_what_a_task_starts_from(
    plan: TaskPlan, bounds: Limits, one: random.Random, two: random.Random
) -> None:
    """Merged in the order of the plan, a task starts from the same merges however long the others took."""
    plan = TaskPlan(tasks=plan.tasks, merge=MergeOrder.PLAN)
    ends = dict.fromkeys(plan.by_id, TaskState.FINISHED)
    starts = []
    for chance, crashes in ((one, 0), (two, 2)):
        player = Player(plan, bounds, ends, set())
        for _ in player.play(chance, crashes):
            pass
        place = {commit: name for name, commit in player.board.merged.items()}
        starts.append({name: place.get(r.start or BASE) for name, r in player.board.records.items()})
    assert starts[0] == starts[1]


@given(plans)
@settings(max_examples=40, deadline=None)
def test_a_plan_survives_the_journal(plan: TaskPlan) -> None:
    """What the journal keeps of a plan is the plan."""
    assert plan_of_record(plan_record(plan)) == plan


def test_the_start_and_the_end_of_a_run_are_forced_to_the_disk(tmp_path: Path) -> None:
    """Of an orchestration's events the first and the last are synced at once, those between about once a second."""
    steps: list[str] = []
    begun = started(TaskPlan(tasks=()))
    between = events.IntegrationMoved(run="r", tip=BASE)
    ended = events.OrchestrationFinished(run="r", status="done", tip=BASE, duration=0.0)
    with Journal.open(str(tmp_path), "r", step=steps.append) as journal:
        for event in (begun, between, ended):
            journal.write(event)
    at = [steps.index(f"journal.write.{event.type}") for event in (begun, ended)]
    assert [steps[position + 1 : position + 2] for position in at] == [["journal.sync"]] * 2
