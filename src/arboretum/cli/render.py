"""The only printer of the command: results on stdout, everything else on stderr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self, TextIO

import click
from attrs import define

from arboretum.values import jsonable

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from arboretum.engine.model import Judgement
    from arboretum.engine.result import RunResult
    from arboretum.errors import ArboretumError

_STYLES = {"supported": "green", "falsified": "red", "inconclusive": "yellow"}
_MARKS = {"supported": "✓", "falsified": "✗", "inconclusive": "?"}
#: Terminals that are narrower get fewer columns, or paragraphs instead of tables.
_NARROW = 72
#: The width where nobody watches: a line in a pipe is never folded, so that it can be searched and cut.
_UNFOLDED = 10_000
#: Columns that are not wider are never folded: ids, dates and states, which are copied.
_KEPT_WHOLE = 28


@define(eq=False)
class Renderer:
    """Prints.

    Args:
        out: Where results go.
        err: Where everything else goes.
        verbosity: Below 0 says less, above 0 more.
    """

    out: TextIO
    err: TextIO
    verbosity: int = 0

    @classmethod
    def for_terminal(cls, *, verbosity: int = 0) -> Self:
        """A printer on this process's streams, which no path can break."""
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")
        return cls(sys.stdout, sys.stderr, verbosity)

    @property
    def is_interactive(self) -> bool:
        """Whether a person watches: then the run is shown live."""
        return self.err.isatty() and os.environ.get("TERM") != "dumb" and not os.environ.get("CI")

    def console(self, stream: TextIO) -> Console:
        """A rich console on `stream`; rich is imported when something is to be shown to a person."""
        from rich.console import Console

        from arboretum.logs.colors import wants_colors

        colour = wants_colors(stream)
        width = None if stream.isatty() else _UNFOLDED
        return Console(
            file=stream,
            force_terminal=colour or stream.isatty(),
            no_color=not colour,
            width=width,
            highlight=False,
            force_interactive=False if not stream.isatty() else None,
        )

    @cached_property
    def err_console(self) -> Console:
        """The one console on stderr: what is printed through it goes above a live display."""
        return self.console(self.err)

    # Results ---------------------------------------------------------------------------------

    def json(self, document: Any) -> None:
        """One JSON object on stdout."""
        self.out.write(json.dumps(_clean(document), indent=2, ensure_ascii=False) + "\n")

    def text(self, text: str) -> None:
        """A finished text on stdout."""
        self.out.write(text if text.endswith("\n") else text + "\n")

    def part(self, text: str) -> None:
        """A part of a long text on stdout, as it is."""
        self.out.write(text)

    def show(self, renderable: RenderableType) -> None:
        """Something rich on stdout."""
        console = self.console(self.out)
        if console.is_terminal:
            console.print(renderable)
            return
        with console.capture() as printed:  # a table fills its last column with spaces: nobody sees them but a diff
            console.print(renderable)
        self.out.write("".join(f"{line.rstrip()}\n" for line in printed.get().removesuffix("\n").split("\n")))

    def table(self, title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """A table on stdout, or a paragraph for each row where it does not fit; text is never taken for mark-up."""
        from rich.table import Table
        from rich.text import Text

        rows = [tuple(map(jsonable, row)) for row in rows]
        widths = [max(map(len, cells)) + 2 for cells in zip(columns, *rows, strict=False)]
        width = self.console(self.out).width
        if width < _NARROW and sum(widths) - 2 > width:
            paragraphs = [f"{title}\n" if title else "", *(_paragraph(columns, row) for row in rows)]
            self.show(Text("\n".join(filter(None, paragraphs))))
            return
        if title:
            self.show(Text(title, style="italic"))
        table = Table(box=None, pad_edge=False)
        for column in columns:
            table.add_column(column, overflow="fold")
        for place, wide in zip(table.columns, widths, strict=False):
            place.no_wrap = wide - 2 <= _KEPT_WHOLE
        for row in rows:
            table.add_row(*map(Text, row))
        self.show(table)

    def run_result(self, result: RunResult) -> None:
        """The verdicts of a run as a table, with what to do next."""
        from rich.table import Table
        from rich.text import Text

        from arboretum.report.exhibits import Exhibits
        from arboretum.report.view import view_of

        view = view_of(result, Exhibits())
        console = self.console(self.out)
        table = Table(box=None, pad_edge=False, header_style="bold")
        cut = slice(None) if console.width >= _NARROW else slice(0, 3)  # the JSON and the reports tell the rest
        for column in ("hypothesis", "verdict", "why", "confidence", "trials", "time", "× control")[cut]:
            numeric = column in {"confidence", "time", "× control"}
            table.add_column(column, justify="right" if numeric else "left", overflow="fold")
        for row in view.rows:
            verdict = Text(f"{_MARKS[row.verdict]} {row.verdict}", style=_STYLES[row.verdict])
            cells: tuple[Text | str, ...] = (
                Text(row.id), verdict, row.reason, f"{row.confidence:.2f}", Text(_trials(row.trials)),
                "–" if row.median is None else f"{row.median:.2f} s", "–" if row.pace is None else f"{row.pace:.1f}×",
            )  # fmt: skip
            table.add_row(*cells[cut])
        time = "–" if view.control_median is None else f"{view.control_median:.2f} s"
        if console.width >= _NARROW:
            table.add_row(Text("control", style="dim"), "", "", "", Text(_trials(view.control)), time, "")
        self.show(table)
        self.out.write("\n")
        notes = [Text.assemble((row.id, "bold"), f"  {note}") for row in view.rows for note in row.notes]
        for note in (*notes, *(Text(note, style="yellow") for note in view.notes)):
            self.show(note)
        if notes or view.notes:
            self.out.write("\n")
        self.show(Text(view.recommendation, style="bold"))

    def verdict(self, found: Judgement) -> None:
        """A verdict of a run that goes on, on stderr."""
        from rich.text import Text

        why = "" if found.reason.value in {"as-predicted", "contradicted"} else f" ({found.reason.value})"
        text = Text.assemble(
            (f"{_MARKS[found.verdict.value]} {found.verdict.value}", _STYLES[found.verdict.value]),
            f"{why}  {found.hypothesis}",
        )
        self.err_console.print(text)

    # Everything else -------------------------------------------------------------------------

    def note(self, text: str) -> None:
        """A remark on stderr, unless less was asked for."""
        if self.verbosity >= 0:
            self.err.write(f"{jsonable(text)}\n")
            self.err.flush()

    def warning(self, text: str) -> None:
        """A warning on stderr."""
        self.err.write(f"warning: {jsonable(text)}\n")

    def error(self, error: ArboretumError, *, causes: bool = False) -> None:
        """An error with what to do next; with `causes` what lay behind it, too."""
        from arboretum.logs.colors import wants_colors

        red = ("\x1b[1;31m", "\x1b[0m") if wants_colors(self.err) else ("", "")
        self.err.write(f"{red[0]}error:{red[1]} {jsonable(error.message)}\n")
        if error.hint:
            self.err.write(f"  hint: {jsonable(error.hint)}\n")
        cause = error.__cause__ if causes else None
        while cause is not None:
            self.err.write(f"  cause: {type(cause).__name__}: {jsonable(str(cause))}\n")
            cause = cause.__cause__

    def usage_error(self, error: click.ClickException) -> None:
        """A command line that cannot be meant."""
        context = getattr(error, "ctx", None)
        self.err.write(f"error: {jsonable(error.format_message())}\n")
        if context is None:
            return
        root = context.find_root()
        unknown = error.option_name if isinstance(error, click.NoSuchOption) else None
        if context is not root and any(unknown in option.opts for option in root.command.params):
            words = context.command_path.removeprefix(f"{root.command_path} ")
            self.err.write(f"  hint: it stands before the command: {root.command_path} {unknown} {words}\n")
        else:
            self.err.write(f"  hint: see {context.command_path} --help\n")


def _trials(trials: Sequence[Any]) -> str:
    """Outcomes with their numbers, and how many were taken from the cache: ``3 passed (2 cached)``."""
    counts: dict[str, int] = {}
    for trial in trials:
        counts[trial.outcome.value] = counts.get(trial.outcome.value, 0) + 1
    cached = sum(trial.cached for trial in trials)
    text = ", ".join(f"{count} {name}" for name, count in counts.items()) or "none"
    return f"{text} ({cached} cached)" if cached else text


def _clean(value: Any) -> Any:
    if isinstance(value, dict):
        return {jsonable(str(key)): _clean(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_clean(item) for item in value]
    return jsonable(str(value)) if isinstance(value, str) else value


def _paragraph(columns: Sequence[str], row: Sequence[str]) -> str:
    """A row in words: what it is about in one piece, which can be copied, and the rest under it."""
    named = next((number for number, column in enumerate(columns) if column), 0) + 1
    rest = [f"{column} {cell}".strip() for column, cell in zip(columns[named:], row[named:], strict=False) if cell]
    return " ".join(row[:named]) + (f"\n  {' · '.join(rest)}" if rest else "")
