"""What a person sees: live on a terminal of any size, plain lines elsewhere, colours only where they are wanted."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from rich.console import Console

from arboretum.cli.live import LiveDisplay, PlainDisplay, Progress, display_for
from arboretum.cli.render import Renderer
from arboretum.engine.events import RunStarted, TrialFinished, TrialOutput, TrialStarted, VerdictReached
from arboretum.engine.model import Judgement, Outcome, Reason, Trial, Verdict
from arboretum.events import Event
from arboretum.testing.builders import RepositoryBuilder
from arboretum.values import Oid
from tests.cli.conftest import Arboretum, environment

OID = Oid("1" * 40)


def run_started(trials: int = 4, jobs: int = 2) -> RunStarted:
    return RunStarted(run="r", title="t", base=OID, command="c", hypotheses=("a", "b"), trials=trials, jobs=jobs)


def trial_started(name: str, attempt: int = 1) -> TrialStarted:
    return TrialStarted(run="r", hypothesis=name, attempt=attempt, slot="0", path="/slot")


def output(name: str, line: str) -> TrialOutput:
    return TrialOutput(run="r", hypothesis=name, attempt=1, stream="stdout", line=line)


def finished(name: str, seconds: float, attempt: int = 1, *, cached: bool = False) -> TrialFinished:
    trial = Trial(hypothesis=name, attempt=attempt, outcome=Outcome.PASSED, duration=seconds, cached=cached)
    return TrialFinished(run="r", trial=trial)


def verdict(name: str) -> VerdictReached:
    found = Judgement(hypothesis=name, verdict=Verdict.SUPPORTED, reason=Reason.AS_PREDICTED, confidence=0.9)
    return VerdictReached(run="r", judgement=found)


def drawn(events: list[Event], width: int, height: int) -> str:
    """What the live display shows after these events on a terminal of this size."""
    renderer = Renderer(io.StringIO(), io.StringIO())
    renderer.err_console = Console(file=io.StringIO(), width=width, height=height)
    display = LiveDisplay(renderer)
    for event in events:
        display.progress.take(event)
    console = Console(file=io.StringIO(), width=width, height=height)
    console.print(display._renderable())
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_no_line_ends_with_spaces_in_a_pipe(builder: RepositoryBuilder, arboretum: Arboretum) -> None:
    """What is piped or kept in a file has no spaces at its line ends, and titles are in one piece."""
    run = arboretum("-C", builder.path, "run", "--ref", "right", "--", "true")
    doctor = arboretum("-C", builder.path, "doctor")
    assert not [line for done in (run, doctor) for line in done.out.splitlines() if line.endswith(" ")]
    assert "What each backend can do in this repository:\n" in doctor.out


def test_progress_is_counted_and_foretold() -> None:
    """Finished trials count; the time left is reckoned from the trials that really ran and the number of jobs."""
    progress = Progress()
    for event in (run_started(6, 2), trial_started("a"), finished("a", 4.0), finished("b", 0.0, cached=True)):
        progress.take(event)
    assert (progress.finished, progress.planned, progress.running) == (2, 6, {})
    assert progress.eta == 4 * 4.0 / 2


def test_more_trials_than_planned_never_overflow_the_bar() -> None:
    """The plan is an upper bound of what is known; a trial more raises it."""
    progress = Progress()
    for event in (run_started(1), finished("a", 1.0), finished("a", 1.0, 2)):
        progress.take(event)
    assert (progress.finished, progress.planned) == (2, 2)


def test_a_line_for_each_running_trial() -> None:
    """Each running trial is shown with its last line of output that has something in it, without escape sequences."""
    events = [run_started(), trial_started("a"), output("a", "\x1b[31mcollecting\x1b[0m ..."), output("a", "  ")]
    text = drawn(events, 80, 24)
    assert "a#1" in text
    assert "collecting ..." in text
    assert "0/4 trials" in text


@pytest.mark.parametrize("width", [10, 20, 40, 80, 200])
@pytest.mark.parametrize("height", [2, 3, 5, 24])
def test_terminals_of_any_size(width: int, height: int) -> None:
    """However small the terminal, no line is wider and there are not more lines than it has."""
    names = [f"a-hypothesis-with-a-long-name-{number}" for number in range(30)]
    events: list[Event] = [run_started(), *map(trial_started, names), *(output(n, "x" * 500) for n in names)]
    lines = drawn(events, width, height).rstrip("\n").split("\n")
    assert len(lines) <= height
    assert max(map(len, lines)) <= width


def test_plain_lines_are_throttled() -> None:
    """In a pipe there is a line for the start, the first trial, each verdict and the last trial; not for each trial."""
    err = io.StringIO()
    with PlainDisplay(Renderer(io.StringIO(), err)) as display:
        display(run_started(100))
        for number in range(1, 101):
            display(trial_started("a", number))
            display(finished("a", 0.001, number))
        display(verdict("a"))
    lines = err.getvalue().splitlines()
    assert lines[0].startswith("run r:")
    assert "[1/100" in lines[1]
    assert "[100/100" in lines[-2]
    assert lines[-1].startswith("a: supported")
    assert len(lines) < 10


def test_the_display_fits_the_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Live only where a person watches: not in a pipe, not in CI, not on a dumb terminal, not with -q."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for name in ("CI", "TERM"):
        monkeypatch.delenv(name, raising=False)
    assert isinstance(display_for(Renderer(io.StringIO(), Terminal())), LiveDisplay)
    assert isinstance(display_for(Renderer(io.StringIO(), io.StringIO())), PlainDisplay)
    assert isinstance(display_for(Renderer(io.StringIO(), Terminal(), -1)), PlainDisplay)
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(display_for(Renderer(io.StringIO(), Terminal())), PlainDisplay)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("CI", "true")
    assert isinstance(display_for(Renderer(io.StringIO(), Terminal())), PlainDisplay)


def on_terminal(arguments: list[str], cwd: str, env: dict[str, str], size: tuple[int, int] = (24, 80)) -> str:
    """What the command writes to a terminal of this size (rows, columns)."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "arboretum", *arguments], cwd=cwd, env=env, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    parts = []
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        parts.append(part)
    os.close(ours)
    assert process.wait(60) == 0, b"".join(parts)
    return b"".join(parts).decode()


COLOUR = re.compile(r"\x1b\[[\d;]*(?:3[0-7]|9[0-7])[\d;]*m")


@pytest.mark.parametrize("no_colour", ["", "1"])
def test_a_run_on_a_terminal(builder: RepositoryBuilder, tmp_path: Path, no_colour: str) -> None:
    """The bar and the last line of output are seen, the cursor comes back, and NO_COLOR takes the colours only."""
    env = environment(tmp_path) | {"TERM": "xterm-256color", "NO_COLOR": no_colour}
    env.pop("CI", None)
    script = "echo working hard; sleep 1; grep -qx 42 answer.txt"
    words = ["run", "--ref", "right", "--ref", "wrong", "-j", "2", "--", "sh", "-c", script]
    text = on_terminal(words, builder.path, env)
    assert "working hard" in text
    assert "/3 trials" in text
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h")
    assert bool(COLOUR.search(text)) is (no_colour == "")
    assert re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", text).count("✓ supported") == 2  # as it went, and in the table


def test_a_tiny_terminal(builder: RepositoryBuilder, tmp_path: Path) -> None:
    """A run on a terminal of three lines and twenty columns works like any other."""
    env = environment(tmp_path) | {"TERM": "xterm", "NO_COLOR": ""}
    env.pop("CI", None)
    text = on_terminal(["run", "--ref", "right", "--", "grep", "-qx", "42", "answer.txt"], builder.path, env, (3, 20))
    assert "supported" in text


@pytest.mark.parametrize("width", [30, 45, 60, 71, 72, 100, 200])
def test_no_name_is_broken_on_a_narrow_terminal(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table that does not fit becomes paragraphs: every name stays in one piece, and nothing is left out."""
    renderer = Renderer(io.StringIO(), io.StringIO())
    monkeypatch.setattr(Renderer, "console", lambda self, stream: Console(file=stream, width=width))
    rows = [
        ("", "20261125-172008-6a1897676", "2026-11-25 17:20", "a title of some length" + " and more" * 12),
        ("✓", "short", "", "x"),
    ]
    renderer.table("Runs", ("", "run", "started", "what"), rows)
    shown = renderer.out.getvalue()  # type: ignore[attr-defined]  # it is a StringIO
    assert "20261125-172008-6a1897676" in shown
    for word in ("Runs", "2026-11-25", "17:20", "title", "length", "✓", "short"):
        assert word in shown
    assert max(map(len, shown.splitlines())) <= width
