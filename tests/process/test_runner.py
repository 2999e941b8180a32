"""What a command does, prints and returns."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from pathlib import Path

import pytest

from arboretum.process import CommandRequest, FailureKind, SubprocessRunner


def test_result_of_a_simple_command(runner: SubprocessRunner, tmp_path: Path) -> None:
    """Output, error output, exit code and folder come back as they were."""
    result = runner.run(CommandRequest(argv=["echo out; echo err >&2; pwd; exit 7"], shell=True, cwd=tmp_path))
    assert (result.stdout, result.stderr, result.exit_code) == (f"out\n{tmp_path}\n", "err\n", 7)
    assert result.cwd == str(tmp_path)
    assert result.failed
    assert result.error_message is None


def test_two_hundred_at_once(runner: SubprocessRunner) -> None:
    """Two hundred commands at once from one loop all end well, and leave no descriptor behind."""

    async def main() -> list[int]:
        commands = [runner.run_async(CommandRequest(argv=["sleep", "0.1"])) for _ in range(200)]
        return [r.exit_code for r in await asyncio.gather(*commands)]

    runner.run(CommandRequest(argv="true"))
    gc.collect()  # what earlier tests have left to be closed
    before = len(os.listdir("/proc/self/fd"))
    assert asyncio.run(main()) == [0] * 200
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before


def test_lines_arrive_as_they_come(runner: SubprocessRunner) -> None:
    """Each line reaches the listener without its end, an unfinished last one too, and split characters stay whole."""
    seen: list[tuple[str, str]] = []
    script = "printf 'a\\r\\nb\\n'; printf '\\303'; sleep 0.05; printf '\\251'; echo e >&2"
    runner.run(CommandRequest(argv=[script], shell=True), on_line=lambda *line: seen.append(line))
    assert [text for stream, text in seen if stream == "stdout"] == ["a", "b", "é"]
    assert ("stderr", "e") in seen


def test_large_output_is_bounded_and_whole_on_disk(runner: SubprocessRunner, tmp_path: Path) -> None:
    """Of more output than the limit, the first and the last part are kept; the file has all of it."""
    program = "import sys; [sys.stdout.write(f'{i:07}\\n') for i in range(200_000)]"
    result = runner.run(
        CommandRequest(argv=[sys.executable, "-c", program], max_output=1000, output_dir=tmp_path / "o")
    )
    assert result.stdout.startswith("0000000\n0000001\n")
    assert result.stdout.endswith("0199999\n")
    assert result.truncated_bytes == 1_600_000 - 1000
    with open(result.output_paths["stdout"]) as file:
        assert [int(line) for line in file] == list(range(200_000))


def test_large_input(runner: SubprocessRunner) -> None:
    """Input larger than any pipe is fed while output is read."""
    data = os.urandom(500_000).hex().encode()
    assert runner.run(CommandRequest(argv="cat", stdin=data, max_output=None)).stdout.encode() == data


def test_input_that_nobody_reads(runner: SubprocessRunner) -> None:
    """A command that does not read its input neither hangs nor fails for it, and can time out."""
    assert runner.run(CommandRequest(argv="true", stdin=bytes(4_000_000))).success
    assert runner.run(CommandRequest(argv="sleep 60", stdin=bytes(4_000_000), timeout=0.1)).timed_out


def test_git_local_variables_do_not_leak(runner: SubprocessRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    """What binds a process to one repository is not inherited, what is the user's setting is."""
    names = runner.run(CommandRequest(argv="git rev-parse --local-env-vars")).check().stdout.split()
    for name in names:
        monkeypatch.setenv(name, "leak")
    monkeypatch.setenv("GIT_SSL_CAINFO", "stays")
    lines = runner.run(CommandRequest(argv="env", env={"GIT_INDEX_FILE": "given"})).stdout.splitlines()
    assert [line for line in lines if line.endswith("=leak")] == []
    assert {"GIT_SSL_CAINFO=stays", "GIT_INDEX_FILE=given"} <= set(lines)


@pytest.mark.parametrize(
    ("argv", "code", "kind"),
    [
        (["no-such-program"], 127, FailureKind.NOT_FOUND),
        (["./no-such-program"], 127, FailureKind.NOT_FOUND),
        (["/etc/passwd"], 126, FailureKind.NOT_EXECUTABLE),
        (["/etc"], 126, FailureKind.NOT_EXECUTABLE),
        (["true", "x" * 200_000], 125, FailureKind.LIMITS),
        (["true", "a\0b"], 125, FailureKind.INVALID),
        (["sh", "-c", "kill -9 $$"], 137, FailureKind.SIGNALLED),
    ],
)
def test_failures_have_codes_and_kinds(runner: SubprocessRunner, argv: list[str], code: int, kind: FailureKind) -> None:
    """What keeps a command from running to its end is told by code, word and sentence; nothing raises."""
    result = runner.run(CommandRequest(argv=argv))
    assert (result.exit_code, result.failure_kind) == (code, kind)
    assert result.error_message
    assert result.failed
