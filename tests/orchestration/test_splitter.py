"""What the splitter says about a plan."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arboretum.orchestration.scheduling import Limits
from arboretum.orchestration.scopes import Scope
from arboretum.orchestration.splitter import Split, find_conflicts, split
from arboretum.orchestration.tasks import MergeOrder, Task, TaskPlan
from tests.orchestration.plans import task

FILES = ("src/a.py", "src/b.py", "docs/a.md", "CHANGELOG.md")


def _split(*tasks: Task, slots: int = 4, **values: object) -> Split:
    return split(TaskPlan(tasks=tasks), files=FILES, limits=Limits(slots=slots), **values)  # type: ignore[arg-type]


def _kinds(found: Split) -> dict[str, tuple[str, ...]]:
    return {caution.kind: caution.tasks for caution in found.warnings if caution.kind != "estimate"}


def test_a_conflict_is_named_with_its_tracked_files() -> None:
    """Two scopes that meet are told with a path that both hold and the tracked files in both."""
    found = _split(task("one", scope=["/src/"]), task("two", scope=["*.py"]), task("three", scope=["/docs/"]))
    conflict = found.conflicts[0]
    assert (conflict.one, conflict.two, conflict.files) == ("one", "two", ("src/a.py", "src/b.py"))
    assert conflict.example in Scope(("/src/",))
    # "*.py" could also hold a file in docs/: exact, and no tracked file is in both.
    assert [(c.one, c.two, c.files) for c in found.conflicts[1:]] == [("two", "three", ())]


def test_what_both_share_is_no_conflict() -> None:
    """A path that both tasks declare as shared keeps them together; a scope that holds it does not."""
    sharing = [task(n, scope=[f"/src/{n}.py"], shared=Scope(("/CHANGELOG.md",))) for n in "ab"]
    assert _split(*sharing).conflicts == ()
    owner = task("c", scope=["/CHANGELOG.md"])
    assert {(c.one, c.two) for c in _split(*sharing, owner).conflicts} == {("a", "c"), ("b", "c")}


def test_files_that_changed_together_are_warned_about() -> None:
    """Co-changing files in two scopes give a warning that names both files and the number of commits."""
    tasks = task("code", scope=["/src/"]), task("docs", scope=["/docs/"])
    found = _split(*tasks, together={("docs/a.md", "src/a.py"): 7, ("docs/a.md", "src/b.py"): 2})
    (caution,) = (c for c in found.warnings if c.kind == "co-change")
    assert caution.tasks == ("code", "docs")
    assert "src/a.py" in caution.message
    assert "7 commits" in caution.message


def test_reading_what_another_changes_is_warned_about_unless_ordered() -> None:
    """A reader beside a writer is warned about; a reader that waits for the writer is not."""
    writer = task("writer", scope=["/src/"])
    reader = task("reader", scope=["/docs/"], reads=Scope(("/src/",)))
    late = task("late", scope=["/docs/"], reads=Scope(("/src/",)), depends_on=("writer",))
    assert _kinds(_split(writer, reader))["reads"] == ("reader", "writer")
    assert "reads" not in _kinds(_split(writer, late))


def test_a_scope_without_a_tracked_file_is_warned_about() -> None:
    """A scope that holds nothing yet may be new work or a slip of the pen, and is told."""
    assert _kinds(_split(task("new", scope=["/srk/"])))["no-file"] == ("new",)


def test_the_estimate_counts_the_overhead_and_finds_the_break_even() -> None:
    """Two equal tasks on two slots pay as soon as a task takes longer than the overhead of its worktree."""
    tasks = [task(n, scope=[f"/{n}/"], estimate=10.0) for n in "ab"]
    estimate = _split(*tasks, overhead=2.0).estimate
    assert (estimate.sequential, estimate.parallel) == (20.0, 12.0)
    assert estimate.pays
    # f * 20 = f * 10 + 2  =>  f = 0.2
    assert estimate.break_even == pytest.approx(0.2, rel=0.02)


def test_a_chain_never_pays() -> None:
    """Tasks that wait for each other gain nothing from slots, however long they take."""
    tasks = task("a", estimate=10.0), task("b", estimate=10.0, depends_on=("a",))
    estimate = _split(*tasks, overhead=0.5).estimate
    assert not estimate.pays
    assert estimate.break_even is None


def test_the_order_follows_the_dependencies_and_the_plan() -> None:
    """Merges go in the order of the plan, dependencies first; the critical path is the longest chain."""
    tasks = (
        task("c", estimate=1.0, depends_on=("a",)),
        task("b", estimate=9.0),
        task("a", estimate=2.0),
        task("d", estimate=1.0, depends_on=("c",)),
    )
    found = _split(*tasks)
    assert found.order == ("b", "a", "c", "d")
    assert found.critical_path == ("b",)


def test_in_plan_order_an_earlier_conflicting_task_goes_first() -> None:
    """With merge = "plan" the schedule has a task after the earlier ones that it conflicts with, as the run does."""
    tasks = task("short", scope=["/x/"], estimate=1.0), task("long", scope=["/x/y"], estimate=9.0)
    for order, first in ((MergeOrder.FINISH, "long"), (MergeOrder.PLAN, "short")):
        found = split(TaskPlan(tasks=tasks, merge=order), limits=Limits(slots=2))
        assert found.schedule[0].task == first
        assert found.workload.dependencies == {"short": (), "long": ()}


_PATTERNS = st.sampled_from(
    ["/a/", "/a/b", "/a/b/", "/ab", "/a*", "*.py", "/c/**", "/c/d/*.py", "!/a/b/", "!*.py", "/"]
)


@given(st.lists(st.tuples(st.lists(_PATTERNS, min_size=1, max_size=3), st.sets(_PATTERNS, max_size=1)), max_size=8))
def test_the_conflicts_are_those_of_comparing_every_pair(scopes: list[tuple[list[str], set[str]]]) -> None:
    """That most pairs are never looked at changes neither which conflicts are found nor their order."""
    tasks = [
        task(f"t{n}", scope=scope, shared=Scope(tuple(shared)))
        for n, (scope, shared) in enumerate(scopes)
        if not any(texts[0].startswith("!") for texts in (scope, [*shared]) if texts)
    ]
    pairs = itertools.combinations(tasks, 2)
    meeting = [
        (a.id, b.id) for a, b in pairs if a.scope.meets(b.scope) or a.scope.meets(b.shared) or a.shared.meets(b.scope)
    ]
    assert [(conflict.one, conflict.two) for conflict in find_conflicts(tasks)] == meeting
