"""Running commands, one call each."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from arboretum.shared import (
    CommandError,
    CommandResult,
    CommandRunner,
    run_command,
    run_command_async,
    run_command_awaitable,
    run_commands_parallel,
    run_script,
    run_shell_script,
)
from arboretum.shared import subprocess_utils as module


def test_command_as_text_or_list(tmp_path: Path) -> None:
    """A text is split as a shell would split it, and no shell interprets it."""
    result = run_command("printf '%s|' 'a b' $HOME ';' x", cwd=tmp_path)
    assert result.success
    assert result.stdout == "a b|$HOME|;|x|"
    assert run_command(["printf", "%s", "$HOME; x"]).stdout == "$HOME; x"
    assert (result.cwd, result.exit_code, result.timed_out, result.error_message) == (str(tmp_path), 0, False, None)
    assert result.duration > 0
    assert "printf" in result.command


def test_timeout() -> None:
    """A timeout is exit code 124 and says so; zero seconds are no time at all; with check it raises."""
    for timeout in (0.05, 0):
        result = run_command("sleep 60", timeout=timeout)
        assert (result.exit_code, result.timed_out, result.failed) == (124, True, True)
        assert "timed out" in result.error_message
    with pytest.raises(CommandError, match="timed out") as caught:
        run_command("sleep 60", timeout=0.05, check=True)
    assert caught.value.result.timed_out


def test_env_and_input() -> None:
    """Variables are added to the inherited ones, None removes one, and input is fed; empty input is empty."""
    result = run_command(["sh", "-c", "echo $A-$LC_ALL-$HOME; cat"], env={"A": "é", "HOME": None}, input_text="ü")
    assert result.stdout == "é-C.UTF-8-\nü"
    assert run_command("cat", input_text="").stdout == ""
    assert run_command("printenv HOME", env={}).stdout == f"{os.environ['HOME']}\n"


def test_undecodable_output() -> None:
    """Bytes that are no UTF-8 are replaced, and neither the exit code nor the rest is lost."""
    result = run_command(["sh", "-c", "printf 'a\\377b'; exit 3"])
    assert (result.stdout, result.exit_code) == ("a\ufffdb", 3)


BAD_COMMANDS: list[tuple[object, dict[str, object], str]] = [
    ("", {}, "empty"),
    ("   ", {}, "empty"),
    ([], {}, "empty"),
    ([""], {}, "empty"),
    ("echo 'a", {}, "quot"),
    ([b"echo"], {}, "text"),
    (["echo", 5], {}, "text"),
    (None, {}, "command"),
    (5, {}, "command"),
    ("true", {"timeout": -1}, "timeout"),
    ("true", {"timeout": float("nan")}, "timeout"),
    ("true", {"timeout": "5"}, "timeout"),
    ("true", {"env": {"A": 5}}, "environment variable"),
    ("true", {"env": {"A=B": "x"}}, "environment variable"),
    ("true", {"env": {"": "x"}}, "environment variable"),
    ("true", {"env": {"A": "x\0y"}}, "null"),
    ("true", {"env": "A=B"}, "mapping"),
    ("true", {"cwd": "/no/such/folder"}, "/no/such/folder"),
    ("true", {"cwd": "/etc/passwd"}, "is not a folder"),
    ("true", {"cwd": ""}, "folder"),
    ("true", {"cwd": "a\0b"}, "folder"),
    ("true", {"cwd": 5}, "int"),
    (["true", "a\0b"], {}, "null"),
    ("true", {"input_text": 5}, "int"),
]


@pytest.mark.parametrize(("cmd", "options", "part"), BAD_COMMANDS)
def test_bad_input_is_a_result(cmd: object, options: dict[str, object], part: str) -> None:
    """What cannot be run does not raise: the result says why; with check it raises the same."""
    result = run_command(cmd, **options)  # type: ignore[arg-type]  # that is the test
    assert result.failed
    assert result.exit_code == 125
    assert part in result.error_message
    awaited = asyncio.run(run_command_awaitable(cmd, **options))  # type: ignore[arg-type]
    assert (awaited.exit_code, awaited.error_message) == (result.exit_code, result.error_message)
    with pytest.raises(CommandError, match="failed"):
        run_command(cmd, check=True, **options)  # type: ignore[arg-type]


def test_missing_and_unusable_programs(tmp_path: Path) -> None:
    """Not found is 127 and not executable 126, each with a sentence."""
    (tmp_path / "script").write_text("#!/bin/sh\n")
    missing, unusable = run_command("no-such-program-here"), run_command(["./script"], cwd=tmp_path)
    assert (missing.exit_code, unusable.exit_code) == (127, 126)
    assert "PATH" in missing.error_message
    assert "chmod" in unusable.error_message


def test_running_process() -> None:
    """A started command can be looked at, waited for, fed nothing, and ended."""
    command = run_command_async(["sh", "-c", "echo $A; exit 5"], env={"A": "x"})
    assert command.pid
    assert command.wait(20).exit_code == command.poll() == command.returncode == 5
    assert command.communicate() == ("x\n", "")
    sleeping = run_command_async("sleep 60", cwd="/")
    assert sleeping.poll() is None
    with pytest.raises(TimeoutError):
        sleeping.wait(0.01)
    sleeping.terminate()
    assert sleeping.wait(20).exit_code == 143
    with pytest.raises(ValueError, match="empty"):
        run_command_async("")
    assert run_command_async("no-such-program-here").wait(20).exit_code == 127


def test_awaitable() -> None:
    """The async form has the timeout, the check and the input of the other."""

    async def main() -> None:
        assert (await run_command_awaitable("cat", input_text="hé")).stdout == "hé"
        assert (await run_command_awaitable("sleep 60", timeout=0.05)).timed_out
        with pytest.raises(CommandError):
            await run_command_awaitable("false", check=True)

    asyncio.run(main())


def test_parallel_keeps_order_and_bound(tmp_path: Path) -> None:
    """Results come in the order of the commands, no more than the bound run at once, one failure stops nobody."""
    script = 'echo + >>log; sleep 0.0$1; echo - >>log; echo $1; test "$1" != 3'
    commands = [["sh", "-c", script, "sh", str(n % 7)] for n in range(14)]
    results = run_commands_parallel([*commands, "", "no-such-program-here"], max_concurrent=3, cwd=tmp_path)
    assert [result.stdout.strip() for result in results] == [str(n % 7) for n in range(14)] + ["", ""]
    assert [result.exit_code for result in results] == [int(n % 7 == 3) for n in range(14)] + [125, 127]
    running = peak = 0
    for line in (tmp_path / "log").read_text().split():
        running += 1 if line == "+" else -1
        peak = max(peak, running)
    assert (running, 1 < peak <= 3) == (0, True)


def test_parallel_timeout_and_nothing() -> None:
    """Each command has the timeout; no commands are no results; a bound below one is refused."""
    assert [r.timed_out for r in run_commands_parallel(["sleep 60", "true"], timeout=2)] == [True, False]
    assert run_commands_parallel([]) == []
    for bound in (0, -1, 1.5):
        with pytest.raises(ValueError, match="max_concurrent"):
            run_commands_parallel(["true"], max_concurrent=bound)  # type: ignore[arg-type]


def test_parallel_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the call is interrupted, the commands that run are ended before the interruption goes on."""
    started: list[int | None] = []
    wait = module.concurrent.futures.wait

    def interrupted(futures: object, **options: object) -> object:
        if options:
            started.extend(command.pid for _, command in futures.values())  # type: ignore[attr-defined]
            raise KeyboardInterrupt
        return wait(futures)  # type: ignore[arg-type]

    monkeypatch.setattr(module.concurrent.futures, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_commands_parallel(["sleep 60"] * 3, max_concurrent=2)
    assert len(started) == 2
    for pid in started:
        with pytest.raises(ProcessLookupError):
            os.kill(pid or 0, 0)


@pytest.mark.parametrize(
    ("name", "text", "executable", "expected"),
    [
        ("a.py", "import sys; print(sys.argv[1], sys.flags.utf8_mode >= 0)", False, "x y True\n"),
        ("b.sh", '#!/bin/sh\necho "$1"', False, "x y\n"),
        ("c", '#!/usr/bin/env -S sh -e\necho "$1"', True, "x y\n"),
        ("d e", 'echo "$1"', False, "x y\n"),
    ],
)
def test_scripts(tmp_path: Path, name: str, text: str, executable: bool, expected: str) -> None:
    """A script runs by the interpreter that its name or first line tells, executable or not."""
    path = tmp_path / name
    path.write_text(text)
    path.chmod(0o755 if executable else 0o644)
    result = run_script(path, ["x y"], cwd="/")
    assert (result.stdout, result.stderr, result.exit_code) == (expected, "", 0)


def test_scripts_that_cannot_run(tmp_path: Path) -> None:
    """A missing script, a folder, a bad interpreter and a timeout are told; with check they raise."""
    bad = tmp_path / "bad"
    bad.write_text("#!/no/such/interpreter\n")
    missing, folder, broken = run_script(tmp_path / "no"), run_script(tmp_path), run_script(bad)
    assert (missing.exit_code, folder.exit_code, broken.exit_code) == (127, 127, 127)
    assert "does not exist" in missing.error_message
    assert "folder" in folder.error_message
    assert "/no/such/interpreter" in broken.error_message
    slow = tmp_path / "slow.sh"
    slow.write_text("sleep 60")
    assert run_script(slow, timeout=0.1).timed_out
    for path in (tmp_path / "no", bad):
        with pytest.raises(CommandError):
            run_script(path, check=True)


def test_shell_scripts(tmp_path: Path) -> None:
    """A text of any length is run by the shell that is named, in the folder that is named."""
    result = run_shell_script("cd .\npwd\nread line || echo none\n" + "# x\n" * 100_000 + "exit 4", cwd=tmp_path)
    assert (result.stdout, result.exit_code) == (f"{tmp_path}\nnone\n", 4)
    assert run_shell_script("echo $BASH_VERSION", shell="bash").stdout.strip()
    assert run_shell_script("sleep 60", timeout=0.1).timed_out
    for text in ("", " \n"):
        assert "empty" in run_shell_script(text).error_message
    assert run_shell_script("true", shell="no-such-shell").exit_code == 127
    assert run_shell_script("echo 'a").exit_code == 2


def test_defaults_of_the_runner(tmp_path: Path) -> None:
    """A runner's defaults hold where a call says nothing; 0, "" and {} are sayings."""
    runner = CommandRunner(default_cwd=tmp_path, default_timeout=30, default_env={"A": "default"})
    assert runner.run(["sh", "-c", "echo $A; pwd"]).stdout == f"default\n{tmp_path}\n"
    assert runner.run(["sh", "-c", "echo $A"], env={}).stdout == "\n"
    assert runner.run(["sh", "-c", "echo $A"], env={"A": "own"}).stdout == "own\n"
    assert runner.run("pwd", cwd="/").stdout == "/\n"
    assert runner.run("pwd", cwd="").exit_code == 125
    assert runner.run("sleep 60", timeout=0).timed_out
    assert CommandRunner(default_timeout=0).run("sleep 60").timed_out
    assert CommandRunner(default_cwd="").run("pwd").exit_code == 125


def test_check_of_the_runner() -> None:
    """Check is a default that a call can turn on and off; what raised is in the history, too."""
    runner = CommandRunner(check=True)
    with pytest.raises(CommandError):
        runner.run("false")
    with pytest.raises(CommandError):
        runner.run("")
    assert runner.run("false", check=False).exit_code == 1
    with pytest.raises(CommandError):
        CommandRunner().run("false", check=True)
    assert [result.exit_code for result in runner.command_history] == [1, 125, 1]


def test_history() -> None:
    """The history has the results in order, the failed ones apart, and can be forgotten."""
    runner = CommandRunner()
    assert runner.get_last_result() is None
    assert runner.command_history == runner.get_failed_commands() == []
    for command in ("true", "false", "sleep 60", "no-such-program-here"):
        runner.run(command, timeout=1)
    assert [r.exit_code for r in runner.command_history] == [0, 1, 124, 127]
    assert [r.exit_code for r in runner.get_failed_commands()] == [1, 124, 127]
    assert runner.get_last_result() == runner.command_history[-1]
    runner.clear_history()
    assert runner.get_last_result() is None


def test_history_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The history holds a bounded number of results and a bounded amount of output."""
    monkeypatch.setattr(module, "_HISTORY_SIZE", 3000)
    monkeypatch.setattr(module, "_HISTORY_LENGTH", 5)
    runner = CommandRunner()
    for _ in range(8):
        runner.run("true")
    assert len(runner.command_history) == 5
    for _ in range(5):
        runner.run(["printf", "%1000s", "x"])
    assert len(runner.command_history) == 3


def test_runner_is_shared_between_threads() -> None:
    """Commands run from several threads are all remembered."""
    runner = CommandRunner()
    threads = [threading.Thread(target=lambda: [runner.run("true") for _ in range(5)]) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(runner.command_history) == 30
    assert runner.get_failed_commands() == []


@pytest.mark.parametrize("function", [run_command, CommandRunner().run])
def test_result_is_a_value(function: Callable[..., CommandResult]) -> None:
    """The result has the fields that scripts rely on."""
    result = function("echo x")
    for name in ("stdout", "stderr", "exit_code", "duration", "command", "cwd", "timed_out", "error_message"):
        assert hasattr(result, name)
    assert (result.success, result.failed) == (True, False)
