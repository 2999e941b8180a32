"""Progress: a bar on a terminal, a line every few seconds elsewhere.

A bar in a pipe prints nothing until it ends, and cursor movements in a CI log are noise; so where standard
error is no terminal the same facts go to the log: ``Processing files: 50/100 (50%, ETA: 15s) - file_50.txt``.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Final, Protocol, Self

from attrs import define, field

from arboretum.errors import InvalidValueError
from arboretum.logs.colors import is_terminal

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
MIN_SECONDS: Final = 2.0  # between two lines of one task in a log


def one_line(text: str) -> str:
    """A text from outside as part of a message: line breaks and control characters become spaces."""
    return _CONTROL.sub(" ", text).strip()


def format_seconds(seconds: float) -> str:
    """A duration for people: ``15s``, ``2m 5s``, ``1h 0m``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60}s"
    return f"{whole // 3600}h {whole % 3600 // 60}m"


@define(eq=False)
class Pace:
    """How far a task is, and how long the rest will take at the average speed so far. No I/O.

    Args:
        total: How many steps there are; None when nobody knows.
        clock: Monotonic seconds.
    """

    total: int | None
    clock: Callable[[], float] = time.monotonic
    current: int = field(default=0, init=False)
    started: float = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.started = self.clock()

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return self.clock() - self.started

    @property
    def percent(self) -> int | None:
        """The share that is done, rounded down; None without a total. A task of no steps is done."""
        if self.total is None:
            return None
        return 100 if self.total == 0 else min(100, self.current * 100 // self.total)

    @property
    def eta(self) -> float | None:
        """Seconds still to go; None when that cannot be said."""
        if self.total is None or self.current <= 0:
            return None
        return max(0.0, self.elapsed * (self.total - self.current) / self.current)

    def describe(self, task_name: str, message: str = "") -> str:
        """The line for a log."""
        if self.total is None:
            text = f"{task_name}: {self.current} ({format_seconds(self.elapsed)} so far)"
        else:
            eta = "" if self.eta is None else f", ETA: {format_seconds(self.eta)}"
            text = f"{task_name}: {self.current}/{self.total} ({self.percent}%{eta})"
        return f"{text} - {one_line(message)}" if message else text


class _Face(Protocol):
    """Where progress is shown."""

    def show(self, pace: Pace, message: str) -> None: ...

    def end(self, pace: Pace, message: str) -> None: ...


@define(eq=False)
class _Lines:
    """Progress as log records: the first, then one for each `interval` percent but none too soon, and the last."""

    task_name: str
    logger: logging.Logger
    interval: float
    min_seconds: float
    _shown_at: float | None = field(default=None, init=False)
    _shown_percent: int = field(default=0, init=False)

    def show(self, pace: Pace, message: str) -> None:
        now, percent = pace.clock(), pace.percent
        if self._shown_at is not None:
            too_soon = now - self._shown_at < self.min_seconds
            too_little = percent is not None and percent - self._shown_percent < self.interval
            if too_soon or too_little:
                return
        self._shown_at, self._shown_percent = now, percent or 0
        self.logger.info("%s", pace.describe(self.task_name, message))

    def end(self, pace: Pace, message: str) -> None:
        took = format_seconds(pace.elapsed)
        count = f"{pace.current}" if pace.total is None else f"{pace.current}/{pace.total}"
        tail = f" - {one_line(message)}" if message else ""
        self.logger.info("%s: finished %s in %s%s", self.task_name, count, took, tail)


@define(eq=False)
class _Screen:
    """The one live display of this process: bars come and go, and the display with the first and the last.

    A terminal has one cursor, so nested and parallel tasks have to share one display.
    """

    _lock: threading.Lock = field(factory=threading.Lock, init=False)
    _progress: Progress | None = field(default=None, init=False)
    _bars: int = field(default=0, init=False)

    def open_bar(self, task_name: str, total: int | None) -> tuple[Progress, TaskID]:
        with self._lock:
            if self._progress is None:
                self._progress = _new_progress()
                self._progress.start()
            self._bars += 1
            return self._progress, self._progress.add_task(task_name, total=total, message="")

    def close_bar(self) -> None:
        with self._lock:
            self._bars -= 1
            if self._bars == 0 and self._progress is not None:
                self._progress.stop()
                self._progress = None


def _new_progress() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[message]}", markup=False),
        console=Console(stderr=True),
    )


_SCREEN: Final = _Screen()


@define(eq=False)
class _Bar:
    """Progress as a bar of the screen's display."""

    task_name: str
    total: int | None
    _handle: tuple[Progress, TaskID] | None = field(default=None, init=False)

    def show(self, pace: Pace, message: str) -> None:
        if self._handle is None:
            self._handle = _SCREEN.open_bar(one_line(self.task_name), self.total)
        progress, task = self._handle
        progress.update(task, completed=pace.current, message=one_line(message))

    def end(self, pace: Pace, message: str) -> None:
        self.show(pace, message)
        self._handle = None
        _SCREEN.close_bar()


@define(eq=False, init=False)
class ProgressLogger:
    """Tells people how far a task is. Safe to use from several threads and tasks at once; may be nested.

    Used as a context manager it completes itself, also when the work fails.

    Args:
        task_name: What is being done.
        total: How many steps there are; None when nobody knows.
        logger: Who says it. Giving one means "into the log", also on a terminal.
        log_interval: Percent of progress between two lines in the log. Lines come at least `min_seconds` apart.
        min_seconds: Seconds between two lines in the log.
        clock: Monotonic seconds.

    Raises:
        InvalidValueError: A negative total or interval, or an empty name.
    """

    task_name: str
    _pace: Pace
    _face: _Face
    _lock: threading.Lock
    _ended: bool

    def __init__(
        self,
        task_name: str,
        total: int | None,
        logger: logging.Logger | None = None,
        log_interval: float = 10,
        *,
        min_seconds: float = MIN_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not task_name.strip():
            raise InvalidValueError("progress needs the name of a task")
        if total is not None and total < 0:
            raise InvalidValueError(f"a task has zero or more steps, not {total}", hint="None means: nobody knows")
        if log_interval < 0 or min_seconds < 0:
            raise InvalidValueError(f"the interval between two lines cannot be negative, as {log_interval} is")
        self.task_name = task_name
        self._pace = Pace(total, clock)
        self._lock = threading.Lock()
        self._ended = False
        if logger is None and _is_interactive():
            self._face = _Bar(task_name, total)
        else:
            target = logger if logger is not None else logging.getLogger("arboretum.progress")
            self._face = _Lines(one_line(task_name), target, log_interval, min_seconds)

    def update(self, current: int, message: str = "") -> None:
        """Say that `current` steps are done.

        Raises:
            InvalidValueError: The number is negative.
        """
        if current < 0:
            raise InvalidValueError(f"{current} steps cannot be done")
        with self._lock:
            self._move(current, message)

    def increment(self, amount: int = 1, message: str = "") -> None:
        """Say that `amount` more steps are done."""
        with self._lock:
            self._move(max(0, self._pace.current + amount), message)

    def complete(self, message: str = "") -> None:
        """Say that all is done. Doing it twice does nothing."""
        with self._lock:
            if self._pace.total is not None:
                self._pace.current = self._pace.total
            self._end(message)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.complete()
        else:
            with self._lock:
                self._end(f"stopped by {type(error).__name__}")

    def _move(self, current: int, message: str) -> None:
        self._pace.current = current
        if not self._ended:
            self._face.show(self._pace, message)

    def _end(self, message: str) -> None:
        if not self._ended:
            self._ended = True
            self._face.end(self._pace, message)


def _is_interactive() -> bool:
    return is_terminal(sys.stderr) and os.environ.get("TERM") != "dumb" and not os.environ.get("CI")
