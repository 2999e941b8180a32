"""The scripted runner answers, records and replays."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from arboretum.process import CommandRequest, SubprocessRunner
from arboretum.testing import RecordingRunner, ScriptedRunner, answer, replayed
from arboretum.testing.scripted import UnscriptedCommandError


def test_rules_answer_by_the_first_arguments() -> None:
    """The first rule that fits answers; several answers come one by one, and the last one stays."""
    runner = (
        ScriptedRunner().on("pytest -x", answer("failed\n", exit_code=1), answer("passed\n")).on("pytest", answer())
    )
    codes = [runner.run(CommandRequest(argv="pytest -x tests")).exit_code for _ in range(3)]
    assert codes == [1, 0, 0]
    result = runner.run(CommandRequest(argv=["pytest", "-q"], cwd="/somewhere"))
    assert (result.command, result.cwd, result.success) == ("pytest -q", "/somewhere", True)
    assert [request.argv[1] for request in runner.requests] == ["-x", "-x", "-x", "-q"]
    with pytest.raises(UnscriptedCommandError, match="make all"):
        runner.run(CommandRequest(argv="make all"))


def test_functions_answer_by_the_request() -> None:
    """A function sees the request, and lines are told as a real runner tells them."""
    runner = ScriptedRunner().on("echo", lambda request: answer(" ".join(request.argv[1:]) + "\n"))
    lines: list[tuple[str, str]] = []
    result = asyncio.run(
        runner.run_async(CommandRequest(argv="echo a b"), on_line=lambda stream, line: lines.append((stream, line)))
    )
    assert result.stdout == "a b\n"
    assert lines == [("stdout", "a b")]


def test_a_recording_is_replayed(tmp_path: Path) -> None:
    """What real commands said is said again from the recording, and nothing else is answered."""
    recorder = RecordingRunner(SubprocessRunner())
    requests = [
        CommandRequest(argv=["sh", "-c", "echo out; echo err >&2; exit 3"]),
        CommandRequest(argv=["echo", "one"]),
        CommandRequest(argv=["echo", "one", "two"]),
    ]
    said = [recorder.run(request) for request in requests]
    recorder.save(tmp_path / "recording.json")
    runner = replayed(tmp_path / "recording.json")
    for request, result in zip(requests, said, strict=True):
        again = runner.run(request)
        assert (again.stdout, again.stderr, again.exit_code) == (result.stdout, result.stderr, result.exit_code)
    with pytest.raises(UnscriptedCommandError):
        runner.run(CommandRequest(argv="date"))
