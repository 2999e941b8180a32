"""The values and the port of the process layer."""

from __future__ import annotations

import enum
import math
import os
import shlex
from collections.abc import Callable, Mapping
from typing import Final, Literal, Protocol

from attrs import field, frozen

from arboretum.errors import CommandError, InvalidValueError

StreamName = Literal["stdout", "stderr"]
#: Called with each line of output as it comes: the stream, and the text without its line end.
OutputLine = Callable[[StreamName, str], None]

EXIT_TIMED_OUT: Final = 124
EXIT_RUNNER_FAILED: Final = 125
EXIT_NOT_EXECUTABLE: Final = 126
EXIT_NOT_FOUND: Final = 127
EXIT_SIGNAL_BASE: Final = 128


class FailureKind(enum.StrEnum):
    """Why a command did not run to its own end."""

    NOT_FOUND = "not-found"
    NOT_EXECUTABLE = "not-executable"
    BAD_INTERPRETER = "bad-interpreter"
    CWD_MISSING = "cwd-missing"
    LIMITS = "limits"  # out of descriptors, processes or argument space
    INVALID = "invalid"  # NUL in an argument, a bad environment name, ...
    TIMED_OUT = "timed-out"
    CANCELLED = "cancelled"
    SIGNALLED = "signalled"
    LOST = "lost"  # somebody else reaped the child: its exit code cannot be known


def _seconds(_instance: object, attribute: object, value: float | None) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)) or math.isnan(value) or value < 0:
        raise InvalidValueError(f"{getattr(attribute, 'name', 'seconds')} is zero or more seconds, not {value!r}")


def _variables(_instance: object, _attribute: object, value: Mapping[str, str | None]) -> None:
    if not isinstance(value, Mapping):
        raise InvalidValueError(f"env is a mapping of names to values, not {type(value).__name__}")
    for name, text in value.items():
        if not isinstance(name, str) or not (text is None or isinstance(text, str)):
            raise InvalidValueError(
                f"the environment variable {name!r} has the value {text!r}",
                hint="names and values are texts; None removes a variable",
            )


def _argv(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        try:
            return tuple(shlex.split(value))
        except ValueError as error:
            raise InvalidValueError(
                f"cannot split the command {value!r}: {error}",
                hint="check its quotes, or pass a list of arguments",
            ) from error
    if not isinstance(value, (list, tuple)):
        raise InvalidValueError(f"a command is a text or a list of arguments, not {type(value).__name__}")
    return tuple(os.fspath(a) if isinstance(a, os.PathLike) else a for a in value)


def _cwd(value: str | os.PathLike[str] | None) -> str | None:
    return None if value is None else os.fspath(value)


@frozen(kw_only=True)
class CommandRequest:
    """A command to run.

    Args:
        argv: The program and its arguments; a text is split as a shell would split it, and no shell runs.
        shell: Run ``argv[0]`` (then the only argument) by ``/bin/sh -c``.
        cwd: Where to run it; None for the current directory.
        env: Variables to set on top of the inherited ones; a value of None removes one.
        inherit_env: Whether to start from this process's environment (less git's local variables).
        timeout: Seconds until it is stopped; None for never.
        grace: Seconds between SIGTERM and SIGKILL.
        leak_timeout: Seconds to go on reading a pipe that a grandchild holds after the command has ended.
        stdin: What to feed it; None gives it an empty input.
        max_output: Bytes of each stream kept in memory (the first and the last part); None for all.
        output_dir: Folder in which the whole of each stream is kept, as ``stdout`` and ``stderr``; None for nowhere.
        merge_stderr: Send the error stream where the output goes, in true order.
        decode_errors: What becomes of bytes that are no UTF-8: ``replace`` for people, ``surrogateescape`` where
            the bytes have to come back (paths that git prints).
        secrets: Texts to be shown as ``***`` wherever the command is shown.

    Raises:
        InvalidValueError: An empty command, unbalanced quotes, a negative or undefined number of seconds.
    """

    argv: tuple[str, ...] = field(converter=_argv)
    shell: bool = False
    cwd: str | None = field(default=None, converter=_cwd)
    env: Mapping[str, str | None] = field(factory=dict, validator=_variables)
    inherit_env: bool = True
    timeout: float | None = field(default=None, validator=_seconds)
    grace: float = field(default=2.0, validator=_seconds)
    leak_timeout: float = field(default=0.1, validator=_seconds)
    stdin: bytes | None = None
    max_output: int | None = 2 * 1024 * 1024
    output_dir: str | None = field(default=None, converter=_cwd)
    merge_stderr: bool = False
    decode_errors: Literal["replace", "surrogateescape"] = "replace"
    secrets: tuple[str, ...] = field(default=(), repr=False)

    @argv.validator
    def _check_argv(self, _attribute: object, value: tuple[str, ...]) -> None:
        if not value or value[0] == "":
            raise InvalidValueError("the command is empty", hint="name a program to run")
        for argument in value:
            if not isinstance(argument, str):
                raise InvalidValueError(f"every argument of a command is a text, not {type(argument).__name__}")

    def display(self) -> str:
        """The command as one would type it, its secrets redacted."""
        text = self.argv[0] if self.shell else shlex.join(self.argv)
        for secret in self.secrets:
            if secret:
                text = text.replace(secret, "***")
        return text


@frozen(kw_only=True)
class CommandResult:
    """What became of a command. It is a value: it neither prints nor raises.

    Args:
        stdout: The output, decoded as UTF-8; its middle may be left out (`truncated_bytes`), which a line in it says.
        stderr: The same for the error stream.
        exit_code: 0 to 125 by the command itself; 124 timed out (then `timed_out` is set), 125 could not be
            run, 126 not executable, 127 not found, 128+n ended by signal n.
        duration: Monotonic seconds.
        command: The command, redacted.
        cwd: Where it ran.
        timed_out: Whether it was stopped for its timeout.
        error_message: Why it did not run to its own end; None when it did.
        failure_kind: The same as a word.
        signal: The signal that ended it.
        leaked: Whether a descendant was still running when the command had ended (it was stopped).
        survivors: What could not be stopped, as ``pid command`` (empty unless the platform forbids it).
        truncated_bytes: Bytes of both streams that are not in `stdout` and `stderr`.
        output_paths: Files with the whole streams, by name, when asked for.
        max_rss: Peak memory of the command in bytes, when the platform tells.
    """

    stdout: str
    stderr: str
    exit_code: int
    duration: float
    command: str
    cwd: str
    timed_out: bool = False
    error_message: str | None = None
    failure_kind: FailureKind | None = None
    signal: int | None = None
    leaked: bool = False
    survivors: tuple[str, ...] = ()
    truncated_bytes: int = 0
    output_paths: Mapping[str, str] = field(factory=dict)
    max_rss: int | None = None

    @property
    def success(self) -> bool:
        """Whether it ran to its end and said 0."""
        return self.exit_code == 0 and not self.timed_out and self.error_message is None

    @property
    def failed(self) -> bool:
        """The opposite of `success`."""
        return not self.success

    def check(self) -> CommandResult:
        """Return the result itself if the command succeeded.

        Raises:
            CommandError: It did not; the result is in the error.
        """
        if self.success:
            return self
        why = self.error_message or f"exit code {self.exit_code}"
        tail = (self.stderr or self.stdout).strip().splitlines()[-3:]
        raise CommandError(
            f"`{self.command}` failed in {self.cwd}: {why}" + "".join(f"\n  | {t}" for t in tail), result=self
        )


class CommandRunner(Protocol):
    """Runs commands. Implementations: `arboretum.process.SubprocessRunner`, `arboretum.testing.ScriptedRunner`.

    - Nothing raises for what a command does; only a request that cannot be meant raises (at its construction).
    - When `run` or `run_async` has returned, no descendant of the command runs any more, whatever
      happened: its end, a timeout, a cancel, a KeyboardInterrupt.
    """

    def run(self, request: CommandRequest, *, on_line: OutputLine | None = None) -> CommandResult:
        """Run `request` and wait for it."""

    async def run_async(self, request: CommandRequest, *, on_line: OutputLine | None = None) -> CommandResult:
        """Run `request`; when the awaiting task is cancelled the command's tree is stopped before this returns."""
