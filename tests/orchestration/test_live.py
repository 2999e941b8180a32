"""What a person sees of a run while it runs."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from arboretum.cli.orchestration_live import LiveGraph, PlainLines, display_for
from arboretum.cli.render import Renderer
from arboretum.events import Event
from arboretum.orchestration import events
from arboretum.orchestration.board import plan_record
from arboretum.orchestration.states import TaskState
from arboretum.orchestration.tasks import TaskPlan
from arboretum.values import Oid
from tests.orchestration.plans import task

BASE = Oid("a" * 40)


def story() -> list[Event]:
    plan = TaskPlan(tasks=(task("api"), task("left", depends_on=("api",)), task("right", depends_on=("api",))))
    return [
        events.OrchestrationStarted(
            run="r", title="t", base=BASE, integration="refs/heads/i", into=None, tasks=tuple(plan.by_id), slots=2,
            plan=plan_record(plan),
        ),
        events.TaskStarted(run="r", task="api", attempt=1, slot="0", path="/w", start=BASE),
        events.TaskOutput(run="r", task="api", attempt=1, stream="stdout", line="\x1b[31mworking hard\x1b[0m"),
        events.TaskEnded(
            run="r", task="api", state=TaskState.FINISHED, attempt=1, duration=1.0, commit=BASE, start=BASE
        ),
        events.TasksMerged(run="r", tasks=("api",), commits=(BASE,)),
        events.TaskStarted(run="r", task="left", attempt=1, slot="0", path="/w", start=BASE),
        events.TaskEnded(
            run="r", task="left", state=TaskState.FAILED, attempt=1, duration=1.0, message="exit code 1", start=BASE
        ),
    ]  # fmt: skip


def shown(display: LiveGraph) -> str:
    out = io.StringIO()
    display.renderer.console(out).print(display._renderable())
    return out.getvalue()


def test_the_graph_shows_states_depth_and_last_lines() -> None:
    """Each task stands below what it waits for, with its state, its last line without escapes, and the tally."""
    display = LiveGraph(Renderer(io.StringIO(), io.StringIO()))
    told = story()
    assert "…" in shown(display)
    for event in told[:3]:
        display(event)
    text = shown(display)
    assert "▶ api" in text
    assert "working hard" in text
    assert "\x1b" not in text
    assert "  · left" in text
    assert "after api" in text
    for event in told[3:]:
        display(event)
    text = shown(display)
    assert "✓ api" in text
    assert "✗ left" in text
    assert "exit code 1" in text
    assert "2/3 tasks, 1 merged" in text


def test_plain_lines_where_nobody_watches(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Without a terminal one line tells of each thing that happens, on the error stream."""
    err = io.StringIO()
    display = display_for(Renderer(io.StringIO(), err))
    assert isinstance(display, PlainLines)
    with display:
        for event in story():
            display(event)
    assert err.getvalue().splitlines() == [
        "run r: 3 tasks, 2 at once",
        "api: started",
        "api: finished",
        "merged api",
        "left: started",
        "left: failed: exit code 1",
    ]
