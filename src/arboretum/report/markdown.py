"""Markdown for a pull request: the verdicts as a table, the reasons below, long texts folded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from arboretum.report.templates import environment
from arboretum.report.view import view_of

if TYPE_CHECKING:
    from arboretum.engine.result import RunResult
    from arboretum.report.exhibits import Exhibits


def render_markdown(result: RunResult, exhibits: Exhibits) -> str:
    """The run as Markdown (GitHub's flavour).

    Args:
        result: The run.
        exhibits: Outputs and changes to fold in.

    Returns:
        The content of the file.
    """
    return environment().get_template("report.md.j2").render(view=view_of(result, exhibits), exhibits=exhibits)
