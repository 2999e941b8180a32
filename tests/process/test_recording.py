"""Recording and replaying commands."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from arboretum.errors import InputFileError, UsageError
from arboretum.process import CommandRequest, SubprocessRunner
from arboretum.process.recording import RecordingRunner, ReplayRunner


@pytest.fixture
def tape(tmp_path: Path) -> Path:
    """Where the recording is."""
    return tmp_path / "tape.jsonl"


def test_replay_gives_what_was_recorded(tape: Path, tmp_path: Path) -> None:
    """A replayed command has the recorded result and lines, in another folder as well, and runs nothing."""
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    requests = [
        CommandRequest(argv=["pwd; echo $A; echo err >&2; touch made; exit 3"], shell=True, cwd=here, env={"A": "ü"}),
        CommandRequest(argv=["cat"], stdin=b"\xff", decode_errors="surrogateescape"),
        CommandRequest(argv="sleep 60", timeout=0.05),
        CommandRequest(argv="no-such-program-here"),
    ]
    recorder = RecordingRunner(SubprocessRunner(), tape, {"root": str(here)})
    recorded_lines: list[tuple[str, str]] = []
    recorded = [recorder.run(r, on_line=lambda *line: recorded_lines.append(line)) for r in requests]
    assert str(here) not in tape.read_text()
    (here / "made").unlink()

    replay = ReplayRunner(tape, {"root": str(there)})
    lines: list[tuple[str, str]] = []
    first = CommandRequest(argv=requests[0].argv, shell=True, cwd=there, env={"A": "ü"})
    results = [replay.run(r, on_line=lambda *line: lines.append(line)) for r in [first, *requests[1:]]]
    assert results[0].stdout == recorded[0].stdout.replace(str(here), str(there))
    assert [(r.exit_code, r.failure_kind, r.timed_out) for r in results] == [
        (r.exit_code, r.failure_kind, r.timed_out) for r in recorded
    ]
    assert [line for _, line in lines][:1] == [str(there)]
    assert len(lines) == len(recorded_lines)
    assert not (here / "made").exists()


def test_same_command_again(tape: Path, tmp_path: Path) -> None:
    """A command that was recorded several times is replayed in that order, then its last result stays."""
    counter = CommandRequest(argv=["echo x >>n; wc -l <n"], shell=True, cwd=tmp_path)
    recorder = RecordingRunner(SubprocessRunner(), tape)
    for _ in range(2):
        asyncio.run(recorder.run_async(counter))
    replay = ReplayRunner(tape)
    assert [asyncio.run(replay.run_async(counter)).stdout.strip() for _ in range(3)] == ["1", "2", "2"]


def test_lines_without_a_listener_at_recording(tape: Path) -> None:
    """Lines are replayed from the output when nobody listened at the recording."""
    request = CommandRequest(argv=["echo a; echo b"], shell=True)
    RecordingRunner(SubprocessRunner(), tape).run(request)
    lines: list[tuple[str, str]] = []
    ReplayRunner(tape).run(request, on_line=lambda *line: lines.append(line))
    assert lines == [("stdout", "a"), ("stdout", "b")]


def test_secrets_are_not_recorded(tape: Path) -> None:
    """A secret is in the recording neither as argument, variable nor output."""
    request = CommandRequest(argv=["echo $T hunter2"], shell=True, env={"T": "hunter2"}, secrets=("hunter2",))
    RecordingRunner(SubprocessRunner(), tape).run(request)
    assert "hunter2" not in tape.read_text()
    assert ReplayRunner(tape).run(request).stdout == "*** ***\n"


def test_unknown_command(tape: Path) -> None:
    """A command that was not recorded, or with other input, is an error that says what to do."""
    RecordingRunner(SubprocessRunner(), tape).run(CommandRequest(argv="true", stdin=b"a"))
    replay = ReplayRunner(tape)
    for request in (CommandRequest(argv="false"), CommandRequest(argv="true", stdin=b"b"), CommandRequest(argv="true")):
        with pytest.raises(UsageError, match="record it again"):
            replay.run(request)


@pytest.mark.parametrize(
    "line", ["no json", "[]", "{}", json.dumps({"request": {}, "result": {"stdout": 5}, "lines": []})]
)
def test_broken_recording(tape: Path, line: str) -> None:
    """A file that is no recording is refused with its line."""
    tape.write_text(line + "\n")
    with pytest.raises(InputFileError, match=r"tape\.jsonl:1"):
        ReplayRunner(tape)


def test_missing_recording(tape: Path) -> None:
    """A recording that does not exist is an error that names it."""
    with pytest.raises(InputFileError, match=r"tape\.jsonl"):
        ReplayRunner(tape)
