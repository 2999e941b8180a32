"""One HTML file that needs no network: style, script and data are inside."""

from __future__ import annotations

from typing import TYPE_CHECKING

from arboretum.report.templates import environment
from arboretum.report.view import view_of

if TYPE_CHECKING:
    from arboretum.engine.result import RunResult
    from arboretum.report.exhibits import Exhibits


def render_html(result: RunResult, exhibits: Exhibits) -> str:
    """The run as one self-contained HTML page.

    Args:
        result: The run.
        exhibits: Outputs and changes to show.

    Returns:
        The content of the file.
    """
    return environment().get_template("report.html.j2").render(view=view_of(result, exhibits), exhibits=exhibits)
