"""Running commands, one call each, over the process layer.

Nothing raises for what a command does or for how it was asked for: the result says it, in `exit_code`,
`timed_out` and `error_message`. With ``check=True`` a failure raises `CommandError`, which holds the result.
"""

from __future__ import annotations

import collections
import concurrent.futures
import itertools
import os
import shlex
import sys
import tempfile
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from arboretum.errors import ArboretumError, InvalidValueError
from arboretum.process import CommandRequest, CommandResult, FailureKind, RunningCommand, SubprocessRunner
from arboretum.process.model import EXIT_NOT_FOUND, EXIT_RUNNER_FAILED

StrPath = str | os.PathLike[str]
Command = str | Sequence[str | os.PathLike[str]]

_HISTORY_LENGTH: Final = 1000  # commands
_HISTORY_SIZE: Final = 32 * 1024 * 1024  # characters of output


def run_command(
    cmd: Command,
    cwd: StrPath | None = None,
    timeout: float | None = None,
    check: bool = False,
    env: Mapping[str, str | None] | None = None,
    input_text: str | None = None,
) -> CommandResult:
    """Run a command and wait for it.

    Args:
        cmd: A list of arguments, or a text that is split as a shell would split it. No shell runs.
        cwd: Where; None for the current folder.
        timeout: Seconds until its whole process tree is ended (0 is no time at all); None for never.
        check: Whether a failure raises.
        env: Variables on top of the inherited ones; a value of None removes one.
        input_text: What to feed it; None for nothing.

    Returns:
        The result. A timeout has ``exit_code=124`` and ``timed_out=True``; not found is 127, not
        executable 126, ended by signal n 128+n, and a request that cannot be run at all 125. Of a stream of
        more than 2 MiB the first and the last MiB are there, and between them a line that says how much is not.

    Raises:
        CommandError: It failed and `check` was given.
    """
    try:
        request = _request(cmd, cwd, timeout, env, input_text)
    except (ArboretumError, TypeError, ValueError) as error:
        return _finish(_refused(cmd, cwd, error), check)
    return _finish(SubprocessRunner().run(request), check)


def run_command_async(
    cmd: Command, cwd: StrPath | None = None, env: Mapping[str, str | None] | None = None
) -> RunningCommand:
    """Start a command and return at once; see `run_command` for the arguments.

    Returns:
        The running command: ``pid``, ``poll()``, ``wait(timeout)``, ``terminate()``, ``kill()``. Its whole
        process tree ends with it, and with this program at the latest.

    Raises:
        InvalidValueError: The command is empty, or its quotes are not balanced.
    """
    return SubprocessRunner().start(_request(cmd, cwd, None, env, None))


async def run_command_awaitable(
    cmd: Command,
    cwd: StrPath | None = None,
    timeout: float | None = None,
    check: bool = False,
    env: Mapping[str, str | None] | None = None,
    input_text: str | None = None,
) -> CommandResult:
    """`run_command` for async code: a cancelled command's process tree is gone when this has returned."""
    try:
        request = _request(cmd, cwd, timeout, env, input_text)
    except (ArboretumError, TypeError, ValueError) as error:
        return _finish(_refused(cmd, cwd, error), check)
    return _finish(await SubprocessRunner().run_async(request), check)


def run_commands_parallel(
    commands: Iterable[Command],
    max_concurrent: int = 5,
    cwd: StrPath | None = None,
    timeout: float | None = None,
    env: Mapping[str, str | None] | None = None,
) -> list[CommandResult]:
    """Run commands, several at once; see `run_command` for their arguments.

    Args:
        commands: The commands.
        max_concurrent: How many may run at once.
        cwd: Where each runs.
        timeout: Seconds for each.
        env: Variables for each.

    Returns:
        The results, in the order of the commands. One that fails does not stop the others. When this
        call is interrupted, all that run are ended.

    Raises:
        InvalidValueError: `max_concurrent` is less than one.
    """
    if not isinstance(max_concurrent, int) or max_concurrent < 1:
        raise InvalidValueError(f"max_concurrent is one or more, not {max_concurrent!r}")
    runner = SubprocessRunner()
    results: dict[int, CommandResult] = {}
    waiting = iter(enumerate(commands))
    running: dict[concurrent.futures.Future[CommandResult], tuple[int, RunningCommand]] = {}
    try:
        while True:
            for number, cmd in itertools.islice(waiting, max_concurrent - len(running)):
                try:
                    command = runner.start(_request(cmd, cwd, timeout, env, None))
                except (ArboretumError, TypeError, ValueError) as error:
                    results[number] = _refused(cmd, cwd, error)
                else:
                    running[command.future] = number, command
            if not running:
                break
            done, _ = concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED)
            for future in done:
                number, _ = running.pop(future)
                results[number] = future.result()
    except BaseException:
        for _, command in running.values():
            command.kill()
        concurrent.futures.wait(running)
        raise
    return [results[number] for number in sorted(results)]


def run_script(
    script_path: StrPath,
    args: Sequence[str] = (),
    cwd: StrPath | None = None,
    timeout: float | None = None,
    check: bool = False,
) -> CommandResult:
    """Run a script file: a ``.py`` by this Python, else by the interpreter that its ``#!`` line names.

    The file need not be executable; with neither a ``#!`` line nor that, ``/bin/sh`` runs it, as a shell would.

    Args:
        script_path: The file; a relative path is one from the current folder, whatever `cwd` is.
        args: Its arguments.
        cwd: As for `run_command`.
        timeout: As for `run_command`.
        check: As for `run_command`.

    Raises:
        CommandError: It failed and `check` was given.
    """
    path = os.path.abspath(os.fspath(script_path))
    if not os.path.isfile(path):
        what = "is a folder" if os.path.isdir(path) else "does not exist"
        return _finish(_failed(path, cwd, EXIT_NOT_FOUND, FailureKind.NOT_FOUND, f"the script {path} {what}"), check)
    try:
        interpreter = _interpreter(path)
    except OSError as error:
        message = f"the script {path} cannot be read: {error.strerror}"
        return _finish(_failed(path, cwd, EXIT_RUNNER_FAILED, FailureKind.NOT_EXECUTABLE, message), check)
    return run_command([*interpreter, path, *args], cwd=cwd, timeout=timeout, check=check)


def run_shell_script(
    script_content: str,
    cwd: StrPath | None = None,
    timeout: float | None = None,
    shell: str = "/bin/sh",
) -> CommandResult:
    """Run a text as a shell script.

    It goes to the shell in a file, so that it may be of any length and read its standard input.

    Args:
        script_content: The script.
        cwd: As for `run_command`.
        timeout: As for `run_command`.
        shell: The shell, by path or name.
    """
    if not isinstance(script_content, str) or not script_content.strip():
        return _refused("", cwd, InvalidValueError("the script is empty", hint="give it at least one command"))
    with tempfile.NamedTemporaryFile("w", prefix="arboretum-", suffix=".sh", errors="surrogateescape") as file:
        file.write(script_content)
        file.flush()
        return run_command([shell, file.name], cwd=cwd, timeout=timeout)


class CommandRunner:
    """Runs commands with defaults of its own and remembers what came of them. Safe to share between threads.

    Args:
        default_cwd: Where commands run that do not say it; None for the current folder.
        default_timeout: Seconds for commands that do not say it; None for no limit.
        default_env: Variables for commands that do not bring their own.
        check: Whether a failure raises, for commands that do not say it.
    """

    def __init__(
        self,
        default_cwd: StrPath | None = None,
        default_timeout: float | None = None,
        default_env: Mapping[str, str | None] | None = None,
        check: bool = False,
    ) -> None:
        self.default_cwd, self.default_timeout, self.default_env, self.check = (
            default_cwd,
            default_timeout,
            default_env,
            check,
        )
        self._history: collections.deque[CommandResult] = collections.deque(maxlen=_HISTORY_LENGTH)
        self._lock = threading.Lock()

    def run(
        self,
        cmd: Command,
        cwd: StrPath | None = None,
        timeout: float | None = None,
        check: bool | None = None,
        env: Mapping[str, str | None] | None = None,
        input_text: str | None = None,
    ) -> CommandResult:
        """Run a command, as `run_command` does; None takes this runner's default (0, "" and {} do not).

        Raises:
            CommandError: It failed and `check` is on.
        """
        result = run_command(
            cmd,
            cwd=self.default_cwd if cwd is None else cwd,
            timeout=self.default_timeout if timeout is None else timeout,
            env=self.default_env if env is None else env,
            input_text=input_text,
        )
        self._remember(result)
        return _finish(result, self.check if check is None else check)

    @property
    def command_history(self) -> list[CommandResult]:
        """The results, oldest first: the last 1000, and no more than 32 MiB of output together."""
        with self._lock:
            return list(self._history)

    def get_last_result(self) -> CommandResult | None:
        """The result of the last command; None when there was none."""
        with self._lock:
            return self._history[-1] if self._history else None

    def get_failed_commands(self) -> list[CommandResult]:
        """The results of the commands that failed, oldest first."""
        return [result for result in self.command_history if result.failed]

    def clear_history(self) -> None:
        """Forget all results."""
        with self._lock:
            self._history.clear()

    def _remember(self, result: CommandResult) -> None:
        with self._lock:
            self._history.append(result)
            size = sum(len(r.stdout) + len(r.stderr) for r in self._history)
            while size > _HISTORY_SIZE and len(self._history) > 1:
                oldest = self._history.popleft()
                size -= len(oldest.stdout) + len(oldest.stderr)


def _request(
    cmd: Command,
    cwd: StrPath | None,
    timeout: float | None,
    env: Mapping[str, str | None] | None,
    input_text: str | None,
) -> CommandRequest:
    if not (input_text is None or isinstance(input_text, str)):
        raise InvalidValueError(f"the input of a command is a text, not {type(input_text).__name__}")
    return CommandRequest(
        argv=cmd,
        cwd=cwd,
        timeout=timeout,
        env={} if env is None else env,
        stdin=None if input_text is None else input_text.encode("utf-8", "surrogateescape"),
    )


def _finish(result: CommandResult, check: bool) -> CommandResult:
    return result.check() if check else result


def _refused(cmd: object, cwd: StrPath | None, error: Exception) -> CommandResult:
    return _failed(_shown(cmd), cwd, EXIT_RUNNER_FAILED, FailureKind.INVALID, str(error))


def _failed(command: str, cwd: StrPath | None, code: int, kind: FailureKind, message: str) -> CommandResult:
    """The result of a command that was never started."""
    where = os.fspath(cwd) if isinstance(cwd, (str, os.PathLike)) else ""
    return CommandResult(
        stdout="",
        stderr="",
        exit_code=code,
        duration=0.0,
        command=command,
        cwd=where,
        error_message=message,
        failure_kind=kind,
    )


def _shown(cmd: object) -> str:
    if isinstance(cmd, (list, tuple)):
        return shlex.join(str(part) for part in cmd)
    return str(cmd)


def _interpreter(path: str) -> list[str]:
    if path.endswith(".py"):
        return [sys.executable]
    with open(path, "rb") as file:
        first = file.readline(4096)
    if first.startswith(b"#!") and (words := first[2:].decode("utf-8", "surrogateescape").split(maxsplit=1)):
        return [word.strip() for word in words]
    return [] if os.access(path, os.X_OK) else ["/bin/sh"]
