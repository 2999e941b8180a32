"""The templates of the reports for people, and the one environment that renders them."""

from __future__ import annotations

import functools
import re

import jinja2

_FENCE = re.compile(r"`+")


def _seconds(value: float | None) -> str:
    """Seconds for people: ``0.42 s``, ``3 min 5 s``."""
    if value is None:
        return "–"
    if value < 100:
        return f"{value:.2f} s"
    return f"{int(value // 60)} min {int(value % 60)} s"


def _cell(text: str) -> str:
    """Text that stays inside one cell of a Markdown table and is not taken for mark-up or HTML."""
    escaped = re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", text)
    return " ".join(escaped.split())


def _fence(text: str) -> str:
    """A code fence that is longer than any run of backticks in `text`."""
    return "`" * max(3, 1 + max((len(run) for run in _FENCE.findall(text)), default=0))


def _diff_class(line: str) -> str:
    """The class of one line of a unified patch."""
    if line.startswith(("diff ", "index ", "--- ", "+++ ", "new file", "deleted file", "rename ", "similarity ")):
        return "meta"
    return {"+": "add", "-": "del", "@": "hunk"}.get(line[:1], "")


@functools.cache
def environment() -> jinja2.Environment:
    """The environment of all templates: HTML is escaped, an unknown name is an error."""
    env = jinja2.Environment(
        loader=jinja2.PackageLoader("arboretum.report", "templates"),
        autoescape=jinja2.select_autoescape(enabled_extensions=("html", "html.j2")),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    env.filters |= {"seconds": _seconds, "cell": _cell, "fence": _fence, "diff_class": _diff_class}
    return env
