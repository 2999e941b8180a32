"""Splits and orchestrations for people: tables, and the graph of a run while it runs."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Self

from attrs import define, field

from arboretum.cli.live import Display
from arboretum.cli.render import Renderer
from arboretum.durations import format_duration
from arboretum.engine.events import RunEvent
from arboretum.events import Event
from arboretum.orchestration import events
from arboretum.orchestration.board import Board
from arboretum.orchestration.documents import next_step
from arboretum.orchestration.report import tone_of
from arboretum.orchestration.splitter import Split
from arboretum.orchestration.states import TaskState
from arboretum.report.exhibits import printable

if TYPE_CHECKING:
    from rich.console import RenderableType

_STYLES = {"supported": "green", "falsified": "red", "inconclusive": "yellow"}
_MARKS = {
    TaskState.WAITING: "·",
    TaskState.RUNNING: "▶",
    TaskState.FINISHED: "◆",
    TaskState.MERGED: "✓",
    TaskState.UNCHANGED: "=",
    TaskState.BLOCKED: "⊘",
}


def show_split(renderer: Renderer, split: Split) -> None:
    """A split as tables: the schedule, what keeps tasks apart, what to look at, and whether it pays."""
    placed = {p.task: p for p in split.schedule}
    critical = set(split.critical_path)
    tasks = split.plan.by_id
    rows = [
        (
            name + (" *" if name in critical else ""),
            format_duration(placed[name].start),
            format_duration(tasks[name].seconds) + ("" if tasks[name].estimate is not None else "?"),
            str(placed[name].slot + 1),
            ", ".join(tasks[name].depends_on),
            str(tasks[name].scope),
        )
        for name in sorted(split.order, key=lambda n: (placed[n].start, split.order.index(n)))
    ]
    columns = ("task (* critical path)", "starts", "takes", "slot", "after", "may change")
    renderer.table(split.plan.title, columns, rows)
    if split.conflicts:
        renderer.text("")
        apart = [(f"{c.one} × {c.two}", c.example, ", ".join(c.files)) for c in split.conflicts]
        renderer.table("Never at the same time", ("tasks", "both may change", "tracked files in both"), apart)
        if any(not c.files and "/" in c.example for c in split.conflicts):
            renderer.note(
                "a pattern without a slash holds at any depth: write /CHANGELOG.md for the one at the top;\n"
                "one like *.py also holds a folder of such a name: add !*.py/ where none is meant"
            )
    for caution in split.warnings:
        if caution.kind not in {"estimate", "no-file"}:
            renderer.warning(caution.message)
    if new := [name for caution in split.warnings if caution.kind == "no-file" for name in caution.tasks]:
        renderer.note(f"no tracked file is in the scope of {', '.join(new)}: right where only new files are made")
    renderer.text("")
    for line in _estimate_lines(split):
        renderer.text(line)


def _estimate_lines(split: Split) -> Iterator[str]:
    estimate, limits = split.estimate, split.limits
    yield f"{limits.slots} at once ({'; '.join(limits.reasons)})"
    if split.worktrees:
        yield f"worktrees that exist: {', '.join(split.worktrees)}"
    how = "measured here" if estimate.measured else "a usual value"
    yield (
        f"one after the other {format_duration(estimate.sequential)}, in parallel "
        f"{format_duration(estimate.parallel)} ({estimate.speedup:.1f}×; no schedule beats "
        f"{format_duration(estimate.lower_bound)}); each task costs {estimate.overhead * 1000:.0f} ms more ({how})"
    )
    if estimate.break_even is None:
        yield "parallel never pays here: the tasks wait for each other"
    elif estimate.pays:
        yield f"parallel pays as long as tasks take more than {estimate.break_even:.1%} of what is estimated"
    else:
        yield f"parallel would pay if tasks took {estimate.break_even:.1f} times as long"


def show_board(renderer: Renderer, board: Board) -> None:
    """A run as a table, with what to do next about each task that did not make it."""
    stopped = {TaskState.RUNNING} if board.status != "running" else frozenset()
    rows = [
        (
            f"{'■' if record.state in stopped else _mark(record.state)} {record.id}",
            "stopped" if record.state in stopped else record.state.value,
            str(record.attempts),
            format_duration(record.duration),
            "\n".join(filter(None, (record.reason, next_step(board, record)))),
        )
        for record in board.records.values()
    ]
    renderer.table(board.plan.title, ("task", "status", "attempts", "time", "why, and what next"), rows)


def _mark(state: TaskState) -> str:
    return _MARKS.get(state, "✗")


@define(eq=False)
class _Progress:
    """The board of the run as its events tell it, and the last line of each running task."""

    board: Board | None = None
    lines: dict[str, str] = field(factory=dict)
    since: dict[str, float] = field(factory=dict)

    def take(self, event: Event) -> None:
        match event:
            case events.OrchestrationStarted() if event.plan:
                self.board = Board.begun(event)
            case events.TaskOutput():
                if event.line.strip():
                    self.lines[event.task] = printable(event.line).strip()
            case _:
                if self.board is not None and isinstance(event, RunEvent):
                    self.board.apply(event)
        if isinstance(event, events.TaskStarted):
            self.since[event.task] = time.monotonic()


@define(eq=False)
class LiveGraph:
    """The graph of the tasks while they run: each below what it waits for, with its state and its last line."""

    renderer: Renderer
    progress: _Progress = field(factory=_Progress)
    _guard: threading.Lock = field(factory=threading.Lock)
    _live: contextlib.ExitStack = field(factory=contextlib.ExitStack)

    def __enter__(self) -> Self:
        from rich.live import Live

        console = self.renderer.console(self.renderer.err)
        self._live.enter_context(
            Live(console=console, refresh_per_second=8, transient=True, get_renderable=self._renderable)
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._live.close()

    def __call__(self, event: Event) -> None:
        """Take note of an event; the screen follows by itself."""
        with self._guard:
            self.progress.take(event)

    def _renderable(self) -> RenderableType:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        with self._guard:
            board = self.progress.board
            if board is None:
                return Text("…")
            table = Table.grid(padding=(0, 1), expand=True)
            table.add_column(no_wrap=True, max_width=40, overflow="ellipsis")
            table.add_column(no_wrap=True, style="dim", min_width=10)
            table.add_column(no_wrap=True, overflow="ellipsis", ratio=1, style="dim")
            depth = _depths(board)
            for name in _visible(board, self.renderer.console(self.renderer.err).size.height - 3):
                state = board.records[name].state
                style = _STYLES[tone_of(state)] if state is not TaskState.WAITING else "dim"
                label = Text(f"{'  ' * depth[name]}{_mark(state)} {name}", style=style)
                table.add_row(label, self._when(name, state), Text(self._said(board, name)))
            done = sum(not record.state.is_open for record in board.records.values())
            total = Text(f"{done}/{len(board.records)} tasks, {len(board.merged)} merged", style="bold")
        return Group(table, total)

    def _when(self, name: str, state: TaskState) -> str:
        if state is TaskState.RUNNING:
            return format_duration(time.monotonic() - self.progress.since.get(name, time.monotonic()))
        return state.value

    def _said(self, board: Board, name: str) -> str:
        record = board.records[name]
        if record.state is TaskState.RUNNING:
            return self.progress.lines.get(name, "")
        waits = ", ".join(n for n in board.plan.by_id[name].depends_on if not board.records[n].state.is_good)
        return f"after {waits}" if record.state is TaskState.WAITING and waits else record.reason


def _depths(board: Board) -> dict[str, int]:
    depth: dict[str, int] = {}
    tasks = board.plan.by_id
    for name in board.plan.order:
        depth[name] = max((depth[other] + 1 for other in tasks[name].depends_on), default=0)
    return depth


def _visible(board: Board, height: int) -> list[str]:
    """The tasks that fit on the screen: what runs first, then what waits to be merged or run, then the rest."""
    rank = {TaskState.RUNNING: 0, TaskState.FINISHED: 1, TaskState.WAITING: 2}
    chosen = sorted(board.plan.order, key=lambda name: rank.get(board.records[name].state, 3))[: max(1, height)]
    return [name for name in board.plan.order if name in set(chosen)]


@define(eq=False)
class PlainLines:
    """One line for each thing that happens to a task."""

    renderer: Renderer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def __call__(self, event: Event) -> None:
        """Say what happened, if it is worth a line."""
        line = _line(event)
        if line:
            self.renderer.note(line)


def _line(event: Event) -> str:
    text = ""
    match event:
        case events.OrchestrationStarted():
            text = f"run {event.run}: {len(event.tasks)} tasks, {event.slots} at once"
        case events.TaskStarted():
            text = f"{event.task}: started" + (f" (attempt {event.attempt})" if event.attempt > 1 else "")
        case events.AttemptFailed():
            text = f"{event.task}: attempt {event.attempt} failed: {event.message}"
        case events.TaskEnded() | events.TaskSetAside():
            text = f"{event.task}: {event.state}" + (f": {event.message}" if event.message else "")
        case events.TaskBlocked():
            text = f"{event.task}: blocked by {', '.join(event.others)}"
        case events.TasksMerged():
            text = f"merged {', '.join(event.tasks)}"
        case events.Verified():
            text = f"verify {event.command}: {'passed' if event.passed else 'failed'}"
    return text


def display_for(renderer: Renderer, board: Board | None = None) -> Display:
    """The display that fits where the command was started; `board` is where a resumed run stands."""
    if renderer.is_interactive and renderer.verbosity >= 0:
        return LiveGraph(renderer, _Progress(board))
    return PlainLines(renderer)
