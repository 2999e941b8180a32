"""A run while it runs: live lines on a terminal, plain throttled lines elsewhere. Both are observers of its events."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol, Self

from attrs import define, field

from arboretum.durations import format_duration
from arboretum.engine.events import RunStarted, RunStopping, TrialFinished, TrialOutput, TrialStarted, VerdictReached
from arboretum.events import Event, Observer
from arboretum.report.exhibits import printable

if TYPE_CHECKING:
    from rich.console import RenderableType

    from arboretum.cli.render import Renderer

#: Seconds between two plain lines that could as well be left out.
QUIET_SECONDS = 2.0
#: Said when a signal ends a run, for that may take a while.
STOPPING = "stopping what runs, which gets its grace period; once more ends it at once"


class Display(Observer, Protocol):
    """An observer that shows a run while its context is open."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


def short_name(subject: str, attempt: int) -> str:
    """A trial by a name that people can read: the ids of commits are cut."""
    is_oid = len(subject) in {40, 64} and all(c in "0123456789abcdef" for c in subject)
    name = subject[:10] if is_oid else subject
    return name if is_oid and attempt == 1 else f"{name}#{attempt}"


@define(eq=False)
class _Running:
    subject: str
    slot: str
    since: float
    line: str = ""


@define(eq=False)
class Progress:
    """What is known of a run so far: pure bookkeeping over its events."""

    title: str = ""
    planned: int = 0
    finished: int = 0
    jobs: int = 1
    started: float = field(factory=time.monotonic)
    running: dict[tuple[str, int], _Running] = field(factory=dict)
    durations: list[float] = field(factory=list)

    def take(self, event: Event) -> None:
        """Take note of one event."""
        match event:
            case RunStarted():
                self.title, self.planned, self.jobs = event.title, event.trials, max(1, event.jobs)
                self.started = time.monotonic()
            case TrialStarted():
                key = (event.hypothesis, event.attempt)
                self.running[key] = _Running(short_name(event.hypothesis, event.attempt), event.slot, time.monotonic())
            case TrialOutput():
                entry = self.running.get((event.hypothesis, event.attempt))
                if entry is not None and event.line.strip():
                    entry.line = printable(event.line).strip()
            case TrialFinished():
                self.running.pop((event.trial.hypothesis, event.trial.attempt), None)
                self.finished += 1
                self.planned = max(self.planned, self.finished)
                if not event.trial.cached:
                    self.durations.append(event.trial.duration)

    @property
    def eta(self) -> float | None:
        """Seconds until all planned trials are over, by the mean of those that are; None before the first."""
        if not self.durations:
            return None
        left = max(0, self.planned - self.finished)
        return left * (sum(self.durations) / len(self.durations)) / self.jobs


@define(eq=False)
class LiveDisplay:
    """One line for each running trial with its last output line, and an overall bar; for terminals."""

    renderer: Renderer
    progress: Progress = field(factory=Progress)
    _guard: threading.Lock = field(factory=threading.Lock)
    _live: contextlib.ExitStack = field(factory=contextlib.ExitStack)
    _said: bool = False

    def __enter__(self) -> Self:
        from rich.live import Live

        console = self.renderer.err_console
        live = Live(console=console, refresh_per_second=8, transient=True, get_renderable=self._renderable)
        self._live.enter_context(live)
        return self

    def __exit__(self, *_: object) -> None:
        self._live.close()
        if self._said:
            self.renderer.err_console.print()

    def __call__(self, event: Event) -> None:
        """Take note of an event; the screen follows by itself. Verdicts stay on it, above the lines that change."""
        with self._guard:
            self.progress.take(event)
        if isinstance(event, VerdictReached):
            self._said = True
            self.renderer.verdict(event.judgement)
        elif isinstance(event, RunStopping):
            self._said = True
            self.renderer.err_console.print(STOPPING)

    def _renderable(self) -> RenderableType:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        with self._guard:
            progress = self.progress
            running = sorted(progress.running.values(), key=lambda entry: entry.since)
            finished, planned, eta = progress.finished, progress.planned, progress.eta
        now = time.monotonic()
        width, height = self.renderer.err_console.size
        shown = running[: max(0, height - 3)]
        table = Table.grid(padding=(0, 1), expand=True)
        table.add_column(no_wrap=True, style="bold", max_width=max(8, min(32, width // 3)), overflow="ellipsis")
        table.add_column(no_wrap=True, justify="right", style="dim", min_width=6)
        table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        for entry in shown:
            table.add_row(Text(entry.subject), format_duration(now - entry.since), Text(entry.line, style="dim"))
        more = (
            [Text(f"… and {len(running) - len(shown)} more", style="dim", no_wrap=True, overflow="ellipsis")]
            if len(running) > len(shown)
            else []
        )
        bar = Table.grid(padding=(0, 1))
        for _ in range(4):
            bar.add_column(no_wrap=True)
        left = "" if eta is None else f"ETA {format_duration(eta)}"
        bar.add_row(
            ProgressBar(total=max(planned, 1), completed=finished, width=max(5, min(30, width - 40))),
            f"{finished}/{planned} trials", format_duration(now - progress.started), left,
        )  # fmt: skip
        return Group(table, *more, bar)


@define(eq=False)
class PlainDisplay:
    """Plain lines: the first trial, verdicts, and of other trials at most one line every two seconds."""

    renderer: Renderer
    progress: Progress = field(factory=Progress)
    _guard: threading.Lock = field(factory=threading.Lock)
    _last: float = field(default=float("-inf"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def __call__(self, event: Event) -> None:
        """Take note of an event, and say so if it is worth a line."""
        with self._guard:
            self.progress.take(event)
            for line in self._lines(event):
                self.renderer.note(line)

    def _lines(self, event: Event) -> Iterator[str]:
        if isinstance(event, RunStarted):
            yield f"run {event.run}: {event.trials} trials at most, {event.jobs} at once"
        elif isinstance(event, VerdictReached):
            found = event.judgement
            yield f"{found.hypothesis}: {found.verdict} ({found.reason}, confidence {found.confidence:.2f})"
        elif isinstance(event, RunStopping):
            yield STOPPING
        elif isinstance(event, TrialFinished):
            now, progress = time.monotonic(), self.progress
            if now - self._last >= QUIET_SECONDS or progress.finished == progress.planned:
                self._last = now
                trial, eta = event.trial, progress.eta
                tail = "" if eta is None else f", ETA {format_duration(eta)}"
                name = short_name(trial.hypothesis, trial.attempt)
                yield (
                    f"[{progress.finished}/{progress.planned}{tail}] {name} {trial.outcome}"
                    f" in {format_duration(trial.duration)}{' (cached)' if trial.cached else ''}"
                )


def display_for(renderer: Renderer) -> Display:
    """The display that fits where the command was started."""
    return LiveDisplay(renderer) if renderer.is_interactive and renderer.verbosity >= 0 else PlainDisplay(renderer)
