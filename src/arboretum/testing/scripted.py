"""A command runner that runs nothing: it answers from a script, or records what a real one says and replays it."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Callable, Sequence
from typing import Final

import cattrs
from attrs import define, evolve, field, frozen

from arboretum.process.model import CommandRequest, CommandResult, CommandRunner, OutputLine

#: Makes an answer of a request.
Answer = Callable[[CommandRequest], CommandResult]
_CONVERTER: Final = cattrs.Converter()


def answer(stdout: str = "", stderr: str = "", *, exit_code: int = 0, duration: float = 0.0) -> CommandResult:
    """What a scripted command says; the command and its folder are filled in when it is asked for.

    Args:
        stdout: Its output.
        stderr: Its error output.
        exit_code: Its exit code.
        duration: Seconds that it says it took.
    """
    return CommandResult(
        stdout=stdout, stderr=stderr, exit_code=exit_code, duration=duration, command="", cwd="",
        timed_out=exit_code == 124,
    )  # fmt: skip


@frozen
class Rule:
    """Answers requests whose arguments start with `argv`.

    Args:
        argv: The first arguments; empty for every command.
        answers: One answer per call, the last one for all further calls; or a function.
    """

    argv: tuple[str, ...]
    answers: tuple[CommandResult, ...] | Answer


class UnscriptedCommandError(AssertionError):
    """A command was run that no rule answers, or that the recording does not have."""


@define(eq=False)
class ScriptedRunner:
    """A `CommandRunner` that answers from rules; the first one that fits decides.

    ::

        runner = ScriptedRunner()
        runner.on("pytest", answer("1 passed"))
        runner.on("make", answer(exit_code=2), answer())    # fails first, then succeeds

    Safe to use from many threads.
    """

    _rules: list[Rule] = field(factory=list, init=False)
    _counts: dict[int, int] = field(factory=dict, init=False)
    _requests: list[CommandRequest] = field(factory=list, init=False)
    _lock: threading.Lock = field(factory=threading.Lock, init=False, repr=False)

    def on(self, argv: str | Sequence[str], *answers: CommandResult | Answer) -> ScriptedRunner:
        """Answer commands that start with `argv` (a text is split); returns the runner.

        Args:
            argv: The first arguments.
            answers: One result per call, the last one for all further calls; or one function.
        """
        start = tuple(argv.split()) if isinstance(argv, str) else tuple(argv)
        results = tuple(a for a in answers if isinstance(a, CommandResult))
        functions = [a for a in answers if not isinstance(a, CommandResult)]
        if len(functions) > 1 or (functions and results) or not answers:
            raise ValueError("answers are results, or one function")
        self._rules.append(Rule(start, functions[0] if functions else results))
        return self

    @property
    def requests(self) -> tuple[CommandRequest, ...]:
        """What was asked for, in order."""
        return tuple(self._requests)

    def run(self, request: CommandRequest, *, on_line: OutputLine | None = None) -> CommandResult:
        """See `CommandRunner`. Raises UnscriptedCommandError for a command that no rule answers."""
        with self._lock:
            self._requests.append(request)
            result = self._find(request)
        result = evolve(result, command=request.display(), cwd=request.cwd or os.getcwd())
        _tell(result, on_line)
        return result

    async def run_async(self, request: CommandRequest, *, on_line: OutputLine | None = None) -> CommandResult:
        """See `CommandRunner`."""
        await asyncio.sleep(0)
        return self.run(request, on_line=on_line)

    def _find(self, request: CommandRequest) -> CommandResult:
        for number, rule in enumerate(self._rules):
            if request.argv[: len(rule.argv)] == rule.argv:
                if not isinstance(rule.answers, tuple):
                    return rule.answers(request)
                count = self._counts[number] = self._counts.get(number, 0) + 1
                return rule.answers[min(count, len(rule.answers)) - 1]
        raise UnscriptedCommandError(f"no rule answers `{request.display()}`")


@frozen
class Recorded:
    """One command of a recording."""

    argv: tuple[str, ...]
    shell: bool
    result: CommandResult


@define(eq=False)
class RecordingRunner:
    """A `CommandRunner` that has another one run the commands, and keeps what it said.

    Args:
        runner: Who runs them.
    """

    runner: CommandRunner
    _recorded: list[Recorded] = field(factory=list, init=False)
    _lock: threading.Lock = field(factory=threading.Lock, init=False, repr=False)

    def run(self, request: CommandRequest, *, on_line: OutputLine | None = None) -> CommandResult:
        """See `CommandRunner`."""
        return self._keep(request, self.runner.run(request, on_line=on_line))

    async def run_async(self, request: CommandRequest, *, on_line: OutputLine | None = None) -> CommandResult:
        """See `CommandRunner`."""
        return self._keep(request, await self.runner.run_async(request, on_line=on_line))

    def _keep(self, request: CommandRequest, result: CommandResult) -> CommandResult:
        with self._lock:
            self._recorded.append(Recorded(request.argv, request.shell, result))
        return result

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the recording as JSON."""
        with open(path, "w", encoding="utf-8") as file:
            json.dump(_CONVERTER.unstructure(self._recorded), file, indent=1, default=str)


def replayed(path: str | os.PathLike[str]) -> ScriptedRunner:
    """A runner that says again what a recording has: each command its results in the order recorded.

    Args:
        path: What `RecordingRunner.save` wrote.
    """
    with open(path, encoding="utf-8") as file:
        recorded = _CONVERTER.structure(json.load(file), list[Recorded])
    runner = ScriptedRunner()
    commands = dict.fromkeys(entry.argv for entry in recorded)
    for argv in sorted(commands, key=len, reverse=True):  # a longer command is not answered by a shorter one's rule
        runner.on(argv, *(entry.result for entry in recorded if entry.argv == argv))
    return runner


def _tell(result: CommandResult, on_line: OutputLine | None) -> None:
    if on_line is not None:
        for line in result.stdout.splitlines():
            on_line("stdout", line)
        for line in result.stderr.splitlines():
            on_line("stderr", line)
