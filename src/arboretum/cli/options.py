"""Options that several commands share."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import IO, Any, TypeVar

import click

from arboretum.durations import parse_duration
from arboretum.engine.needs import parse_label, parse_size
from arboretum.errors import InvalidValueError, UsageError

_F = TypeVar("_F", bound=Callable[..., Any])


class DurationType(click.ParamType):  # type: ignore[type-arg]  # older clicks have no argument here
    """Seconds, written ``90``, ``90s`` or ``5m``; 0 is refused: it would stop everything at once."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            seconds = parse_duration(value)
        except InvalidValueError as error:
            self.fail(error.message, param, ctx)
        if seconds <= 0:
            self.fail(f"{value!r} is not a positive duration", param, ctx)
        return seconds


class OutputFile(click.File):
    """A file to write to, ``-`` for stdout: checked before anything is begun, opened when it is written."""

    name = "file"

    def __init__(self) -> None:
        super().__init__("w", encoding="utf-8", lazy=True)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> IO[Any]:
        if isinstance(value, str) and value != "-":
            folder = os.path.dirname(os.path.abspath(value))
            if not os.path.isdir(folder):
                self.fail(f"{value!r}: the folder does not exist", param, ctx)
            if os.path.isdir(value) or not os.access(value if os.path.exists(value) else folder, os.W_OK):
                self.fail(f"{value!r} cannot be written", param, ctx)
        return super().convert(value, param, ctx)


def complete_revision(_context: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """The branches and tags that begin with `incomplete`, for the shell; none where there is no repository."""
    from arboretum.errors import ArboretumError
    from arboretum.repository import Repository

    try:
        with Repository.discover(".") as repository:
            names = [ref.name.short for prefix in ("refs/heads/", "refs/tags/") for ref in repository.refs(prefix)]
    except ArboretumError:
        return []
    return [name for name in names if name.startswith(incomplete)]


def format_option(command: _F) -> _F:
    """``--format text|json``."""
    option = click.option(
        "--format",
        "output",
        type=click.Choice(["text", "json"]),
        default="text",
        help="Text for people, or one JSON object.",
    )
    return option(command)


def jobs_option(command: _F) -> _F:
    """``--jobs N``."""
    option = click.option(
        "-j", "--jobs", type=click.IntRange(1, 1024), help="How many run at once.  [default: one for each core]"
    )
    return option(command)


class SizeType(click.ParamType):  # type: ignore[type-arg]  # older clicks have no argument here
    """Bytes, written ``512M`` or ``2G``."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return parse_size(value)
        except InvalidValueError as error:
            self.fail(error.message, param, ctx)


class LabelType(click.ParamType):  # type: ignore[type-arg]  # the same
    """What some machines have and others have not, such as ``gpu``."""

    name = "label"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return parse_label(value)
        except InvalidValueError as error:
            self.fail(error.message, param, ctx)


def needs_options(command: _F) -> _F:
    """``--memory SIZE`` and ``--label NAME``."""
    command = click.option(
        "--label", "labels", type=LabelType(), multiple=True, help="Only on workers that have this label."
    )(command)
    return click.option("--memory", type=SizeType(), help="Only on workers with so much memory left, e.g. 2G.")(command)


def executor_option(command: _F) -> _F:
    """``--executor WHERE``."""
    option = click.option(
        "--executor",
        default="local",
        show_default=True,
        metavar="WHERE",
        help="Where it runs: local, dask-local:N or dask://HOST:PORT.",
    )
    return option(command)


def cache_options(command: _F) -> _F:
    """``--no-cache`` and ``--refresh``."""
    command = click.option("--no-cache", is_flag=True, help="Neither take known results nor keep new ones.")(command)
    return click.option("--refresh", is_flag=True, help="Run everything again and keep the new results.")(command)


def command_words(words: tuple[str, ...]) -> tuple[str, ...]:
    """The command after ``--``: one word is split as a shell would, several are taken as they are.

    Raises:
        UsageError: There is none, or its quotes are unbalanced.
    """
    if not words:
        raise UsageError("no command to run", hint="put it after --, e.g.:  -- pytest -q")
    from arboretum.process.model import CommandRequest

    return CommandRequest(argv=words[0] if len(words) == 1 else words).argv
