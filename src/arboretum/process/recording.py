"""Recording what commands did, and replaying it in tests without running anything.

A recording is a file of JSON Lines, one call each. Folders that differ from machine to machine are written as
names (``{root}``), and secrets as ``***``, so that it can be committed.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from typing import Any

import cattrs
from attrs import define, field, frozen

from arboretum.errors import InputFileError, UsageError
from arboretum.process.model import CommandRequest, CommandResult, CommandRunner, FailureKind, OutputLine, StreamName
from arboretum.values import jsonable

_converter = cattrs.Converter()
_converter.register_structure_hook(FailureKind, lambda value, _type: FailureKind(value))


@frozen
class Placeholders:
    """Texts that are written as names in a recording.

    Args:
        names: The text (a folder, mostly) for each name.
    """

    names: Mapping[str, str] = field(factory=dict)

    def hide(self, text: str) -> str:
        """The text as it is recorded."""
        for name, value in sorted(self.names.items(), key=lambda item: -len(item[1])):
            text = text.replace(value, f"{{{name}}}")
        return text

    def show(self, text: str) -> str:
        """The text as it is here."""
        for name, value in self.names.items():
            text = text.replace(f"{{{name}}}", value)
        return text


@define(eq=False)
class RecordingRunner:
    """Runs commands through another runner, and appends each to a file.

    Args:
        runner: What runs them.
        path: The recording.
        placeholders: Texts to be written as names, as a mapping of names to texts (``{"root": str(tmp_path)}``).
    """

    runner: CommandRunner
    path: str | os.PathLike[str]
    placeholders: Mapping[str, str] = field(factory=dict)
    _lock: threading.Lock = field(factory=threading.Lock, init=False)

    def run(self, request: CommandRequest, *, on_line: OutputLine | None = None) -> CommandResult:
        """Run and record `request`."""
        lines: list[tuple[StreamName, str]] = []
        result = self.runner.run(request, on_line=_teed(on_line, lines))
        self._append(request, lines, result)
        return result

    async def run_async(self, request: CommandRequest, *, on_line: OutputLine | None = None) -> CommandResult:
        """Run and record `request`; one that is cancelled is not recorded."""
        lines: list[tuple[StreamName, str]] = []
        result = await self.runner.run_async(request, on_line=_teed(on_line, lines))
        self._append(request, lines, result)
        return result

    def _append(self, request: CommandRequest, lines: list[tuple[StreamName, str]], result: CommandResult) -> None:
        hide = Placeholders(self.placeholders)
        call = {
            "request": _key(request),
            "lines": lines,
            "result": _converter.unstructure(result),
        }
        text = json.dumps(_each_text(call, lambda text: hide.hide(_redacted(text, request))))
        with self._lock, open(self.path, "a", encoding="utf-8") as file:
            file.write(text + "\n")


@define(eq=False)
class ReplayRunner:
    """Answers from a recording; runs nothing.

    Calls with the same command, folder, variables and input get the recorded results in their order, and the
    last one again when there are no more.

    Args:
        path: The recording.
        placeholders: What the names in it stand for here.

    Raises:
        InputFileError: The file is no recording, or cannot be read.
    """

    path: str | os.PathLike[str]
    placeholders: Mapping[str, str] = field(factory=dict)
    _calls: dict[str, deque[dict[str, Any]]] = field(init=False)
    _lock: threading.Lock = field(factory=threading.Lock, init=False)

    def __attrs_post_init__(self) -> None:
        self._calls = defaultdict(deque)
        try:
            with open(self.path, encoding="utf-8") as file:
                for number, line in enumerate(file, 1):
                    self._load(number, line)
        except OSError as error:
            raise InputFileError(f"cannot be read: {error.strerror}", path=self.path) from error

    def run(self, request: CommandRequest, *, on_line: OutputLine | None = None) -> CommandResult:
        """The recorded result of `request`.

        Raises:
            UsageError: It was never recorded.
        """
        hide = Placeholders(self.placeholders)
        key = _each_text(_key(request), lambda text: hide.hide(_redacted(text, request)))
        with self._lock:
            calls = self._calls.get(json.dumps(key))
            if not calls:
                raise UsageError(
                    f"`{request.display()}` in {request.cwd or 'the current folder'} is not in {os.fspath(self.path)}",
                    hint="record it again with RecordingRunner",
                )
            call = calls.popleft() if len(calls) > 1 else calls[0]
        call = _each_text(call, hide.show)
        result = _converter.structure(call["result"], CommandResult)
        if on_line is not None:
            lines: list[tuple[StreamName, str]] = call["lines"] or _lines_of(result)
            for stream, text in lines:
                on_line(stream, text)
        return result

    async def run_async(self, request: CommandRequest, *, on_line: OutputLine | None = None) -> CommandResult:
        """The same for async code."""
        return self.run(request, on_line=on_line)

    def _load(self, number: int, line: str) -> None:
        try:
            call = json.loads(line)
            _converter.structure(call["result"], CommandResult)
            self._calls[json.dumps(call["request"])].append(call)
        except (ValueError, KeyError, TypeError, cattrs.BaseValidationError) as error:
            raise InputFileError("is no recorded command", path=self.path, line=number) from error


def _key(request: CommandRequest) -> dict[str, Any]:
    return {
        "argv": list(request.argv),
        "shell": request.shell,
        "cwd": request.cwd or "",
        "env": dict(sorted(request.env.items())),
        "stdin": hashlib.sha256(request.stdin).hexdigest() if request.stdin is not None else None,
    }


def _redacted(text: str, request: CommandRequest) -> str:
    text = jsonable(text)
    for secret in request.secrets:
        text = text.replace(secret, "***") if secret else text
    return text


def _teed(on_line: OutputLine | None, lines: list[tuple[StreamName, str]]) -> OutputLine | None:
    if on_line is None:
        return None

    def tee(stream: StreamName, text: str) -> None:
        lines.append((stream, text))
        on_line(stream, text)

    return tee


def _lines_of(result: CommandResult) -> list[tuple[StreamName, str]]:
    streams: dict[StreamName, str] = {"stdout": result.stdout, "stderr": result.stderr}
    return [(name, line) for name, text in streams.items() for line in text.splitlines()]


def _each_text(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {change(key): _each_text(item, change) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_each_text(item, change) for item in value]
    return value
