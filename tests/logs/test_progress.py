"""Progress in a log and on a terminal, and sections."""

from __future__ import annotations

import asyncio
import logging
import os
import pty
import re
import subprocess
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arboretum.errors import InvalidValueError
from arboretum.logs import LogSection, ProgressLogger
from arboretum.logs.progress import Pace, format_seconds, one_line


class Clock:
    """Monotonic seconds that go on when told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> logging.Logger:
    """A logger whose records are captured."""
    caplog.set_level(logging.INFO)
    return logging.getLogger("arboretum.test.progress")


def test_line_of_the_original(caplog: pytest.LogCaptureFixture, log: logging.Logger) -> None:
    """A line tells the task, how many of how many, the percentage, the time left and the message."""
    clock = Clock()
    progress = ProgressLogger("Processing files", 100, log, clock=clock)
    clock.now += 15
    progress.update(50, "Processing file_50.txt")
    assert caplog.messages == ["Processing files: 50/100 (50%, ETA: 15s) - Processing file_50.txt"]


def test_lines_are_throttled(caplog: pytest.LogCaptureFixture, log: logging.Logger) -> None:
    """However fast the steps come, lines come at least the set seconds and percents apart, then one at the end."""
    clock = Clock()
    progress = ProgressLogger("t", 1000, log, log_interval=10, min_seconds=2, clock=clock)
    for _ in range(1000):
        clock.now += 0.01
        progress.increment()
    progress.complete("done")
    progress.complete()
    counts = [int(re.search(r"(\d+)/", message)[1]) for message in caplog.messages]
    assert counts == [1, 201, 401, 601, 801, 1000]
    assert caplog.messages[-1] == "t: finished 1000/1000 in 10s - done"


def test_slow_steps_wait_for_their_percentage(caplog: pytest.LogCaptureFixture, log: logging.Logger) -> None:
    """With time between the steps, a line comes for each share of progress."""
    clock = Clock()
    progress = ProgressLogger("t", 100, log, log_interval=25, clock=clock)
    for step in range(1, 101):
        clock.now += 60
        progress.update(step)
    assert [message.split(":")[1].split("/")[0].strip() for message in caplog.messages] == ["1", "26", "51", "76"]


def test_unknown_total(caplog: pytest.LogCaptureFixture, log: logging.Logger) -> None:
    """Without a total, the count and the time so far are told, every few seconds."""
    clock = Clock()
    progress = ProgressLogger("scan", None, log, clock=clock)
    for _ in range(4):
        clock.now += 1.5
        progress.increment(10)
    progress.complete()
    assert caplog.messages == ["scan: 10 (2s so far)", "scan: 30 (4s so far)", "scan: finished 40 in 6s"]


def test_no_steps_at_all(caplog: pytest.LogCaptureFixture, log: logging.Logger) -> None:
    """A task of zero steps is complete, not a division by zero."""
    progress = ProgressLogger("t", 0, log)
    progress.update(0)
    progress.complete()
    assert caplog.messages == ["t: 0/0 (100%)", "t: finished 0/0 in 0s"]


def test_threads_and_tasks(caplog: pytest.LogCaptureFixture, log: logging.Logger) -> None:
    """Steps counted from many threads and tasks at once add up."""
    with ProgressLogger("t", 4000, log) as progress:
        threads = [threading.Thread(target=lambda: [progress.increment() for _ in range(500)]) for _ in range(4)]
        for thread in threads:
            thread.start()

        async def main() -> None:
            await asyncio.gather(
                *(asyncio.to_thread(lambda: [progress.increment() for _ in range(500)]) for _ in range(4))
            )

        asyncio.run(main())
        for thread in threads:
            thread.join()
        assert progress._pace.current == 4000
    assert caplog.messages[-1].startswith("t: finished 4000/4000")


def test_failure_ends_it(caplog: pytest.LogCaptureFixture, log: logging.Logger) -> None:
    """When the work fails, the last line says how far it had come and why it ended."""
    progress = ProgressLogger("t", 10, log)
    progress.update(3)
    with pytest.raises(ZeroDivisionError), progress:
        raise ZeroDivisionError
    assert caplog.messages[-1] == "t: finished 3/10 in 0s - stopped by ZeroDivisionError"


def test_messages_from_outside_stay_on_one_line(caplog: pytest.LogCaptureFixture, log: logging.Logger) -> None:
    """Control characters and line breaks of a message cannot forge another record."""
    ProgressLogger("t\nx", 2, log).update(1, "a\r\nERROR b\x1b[31m")
    assert caplog.messages == ["t x: 1/2 (50%, ETA: 0s) - a ERROR b [31m"]
    assert one_line("\x9b1mx") == "1mx"


@pytest.mark.parametrize(
    ("arguments", "step"),
    [(("", 1), 0), (("t", -1), 0), (("t", 1, None, -5), 0), (("t", 1), -1)],
)
def test_bad_input(arguments: tuple[object, ...], step: int) -> None:
    """An empty name, a negative total, interval or count is refused."""
    with pytest.raises(InvalidValueError):
        ProgressLogger(*arguments).update(step)  # type: ignore[arg-type]  # that is the test


@given(total=st.integers(0, 10**6), current=st.integers(0, 10**6), elapsed=st.floats(0, 10**6))
def test_pace_is_sane(total: int, current: int, elapsed: float) -> None:
    """Percentages stay between 0 and 100, and the time left is never negative."""
    clock = Clock()
    pace = Pace(total, clock)
    clock.now += elapsed
    pace.current = current
    assert 0 <= pace.percent <= 100
    assert pace.eta is None or pace.eta >= 0
    assert pace.describe("t").startswith(f"t: {current}/{total} (")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (59.4, "59s"), (59.6, "1m 0s"), (125, "2m 5s"), (3600, "1h 0m")]
)
def test_durations_for_people(seconds: float, text: str) -> None:
    """Durations are told in the units one thinks in."""
    assert format_seconds(seconds) == text


TERMINAL_PROGRAM = """
import logging, time
from arboretum.logs import ProgressLogger, setup_logging
setup_logging(include_timestamp=False)
with ProgressLogger("outer [x]", 3) as outer:
    for step in range(3):
        with ProgressLogger("inner", None) as inner:
            inner.increment(5, "part [bold]")
            time.sleep(0.12)
        logging.getLogger("a").warning("record %d", step)
        outer.increment()
"""


def on_a_terminal(program: str, **env: str) -> str:
    """What a Python program writes to a terminal."""
    ours, theirs = pty.openpty()
    environ = {name: value for name, value in os.environ.items() if name not in {"CI", "NO_COLOR"}}
    environ |= {"TERM": "xterm", "COLUMNS": "100"} | env
    process = subprocess.Popen([sys.executable, "-c", program], stderr=theirs, stdout=theirs, env=environ)
    os.close(theirs)
    seen = b""
    while True:
        try:
            data = os.read(ours, 65536)
        except OSError:
            break
        if not data:
            break
        seen += data
    os.close(ours)
    assert process.wait() == 0
    return seen.decode()


def test_bar_on_a_terminal() -> None:
    """On a terminal nested bars are drawn, and log records stand on lines of their own above them."""
    text = on_a_terminal(TERMINAL_PROGRAM)
    assert "━" in text
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    assert "outer [x]" in plain
    assert "part [bold]" in plain
    lines = [line.strip() for line in re.split(r"[\r\n]+", plain)]
    assert [line for line in lines if line.startswith("WARNING")] == [f"WARNING a: record {i}" for i in range(3)]
    assert "3/3" in plain


@pytest.mark.parametrize("env", [{"CI": "true"}, {"TERM": "dumb"}])
def test_lines_where_a_bar_makes_no_sense(env: dict[str, str]) -> None:
    """In CI and on a dumb terminal, progress is lines without a single cursor movement."""
    text = on_a_terminal(TERMINAL_PROGRAM, **env, NO_COLOR="1")
    assert "\x1b" not in text
    assert "arboretum.progress: outer [x]: finished 3/3" in text


def test_section(caplog: pytest.LogCaptureFixture, log: logging.Logger) -> None:
    """A section is a framed heading, and a line that says how it ended."""
    with LogSection("Set up", log, separator="-"):
        log.info("inside")
    frame = "-" * 60
    assert caplog.messages[:4] == [frame, "Set up", frame, "inside"]
    assert re.fullmatch(r"Set up: done in \d+\.\ds", caplog.messages[4])


def test_section_that_fails(caplog: pytest.LogCaptureFixture, log: logging.Logger) -> None:
    """A section that fails says so as an error, and the exception goes on."""
    with pytest.raises(ValueError, match="no"), LogSection("Set up", log, separator=""):
        raise ValueError("no")
    assert re.fullmatch(r"Set up: failed after \d+\.\ds: ValueError: no", caplog.messages[-1])
    assert caplog.records[-1].levelno == logging.ERROR
