"""The reference page of the command, made from the commands themselves.

``python -m arboretum.cli.reference > docs/reference/command-line.md`` writes it anew; a test says when that is due.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator

import click

from arboretum.cli.app import app
from arboretum.cli.exit_codes import ExitCode

_MEANINGS = {
    ExitCode.HOLDS: "done, and what was asked for holds",
    ExitCode.DOES_NOT_HOLD: "done, and it does not: nothing is supported, a commit or task failed, git refused",
    ExitCode.USAGE: "bad usage or a bad input file; nothing was made",
    ExitCode.INCONCLUSIVE: "the run was inconclusive",
    ExitCode.ENVIRONMENT: "the environment failed: no git, no space, repository unreadable",
    ExitCode.INTERRUPTED: "interrupted; cleaned up, and runs can be resumed",
}
_HEAD = """# The command

This page is made from the code (`python -m arboretum.cli.reference`). Each command says the same with `--help`.

Results go to stdout, everything else to stderr. With `--format json` stdout is one JSON object with a `schema` key.
`NO_COLOR` (not empty) takes the colours away; on a terminal a run is shown live, elsewhere as plain lines.
"""


def command_reference() -> str:
    """The whole page, as Markdown."""
    parts = [_HEAD, "\n".join(_exit_codes())]
    context = click.Context(app, info_name="arboretum")
    parts += _sections(app, context, level=2)
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _exit_codes() -> Iterator[str]:
    yield from ("| Exit code | Means |", "|---|---|")
    for code in ExitCode:
        yield f"| {int(code)} | {_MEANINGS[code]} |"


def _sections(command: click.Command, context: click.Context, *, level: int) -> Iterator[str]:
    yield "\n\n".join(_section(command, context, level))
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            member = command.get_command(context, name)
            if member is not None:
                inner = click.Context(member, info_name=name, parent=context)
                yield from _sections(member, inner, level=min(level + 1, 3) if command is not app else level)


def _section(command: click.Command, context: click.Context, level: int) -> Iterator[str]:
    yield f"{'#' * level} {context.command_path}"
    yield f"```\n{' '.join([context.command_path, *command.collect_usage_pieces(context)])}\n```"
    yield inspect.cleandoc(command.help or "")
    rows = [_row(param) for param in command.params if isinstance(param, click.Option) and not param.hidden]
    if rows:
        yield "\n".join(["| Option | |", "|---|---|", *rows])
    if command.epilog:
        yield f"```\n{inspect.cleandoc(command.epilog).replace(chr(8), '').strip()}\n```"


def _row(option: click.Option) -> str:
    """One option in a form that does not depend on the version of click."""
    names = ", ".join([*option.opts, *option.secondary_opts])
    value = "" if option.is_flag or option.count else f" {_placeholder(option)}"
    default = f" [default: {option.default}]" if option.show_default and option.default is not None else ""
    text = f"{option.help or ''}{default}"
    return " | ".join(["|", f"`{names}{value}`", text, "|"]).replace("| | ", "| ").replace(" | |", " |")


def _placeholder(option: click.Option) -> str:
    if option.metavar:
        return option.metavar
    if isinstance(option.type, click.Choice):
        return "\\|".join(map(str, option.type.choices))
    if isinstance(option.type, click.IntRange):
        return "N"
    return option.type.name.upper()


if __name__ == "__main__":
    sys.stdout.write(command_reference())
