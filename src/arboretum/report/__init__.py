"""What a run found, for people and for machines: JSON, JUnit, Markdown, HTML.

Every format is a function of a `arboretum.engine.result.RunResult`; `exhibits` are the longer texts beside it
(whole outputs, the difference that each hypothesis makes). The module of a format is imported when it is used.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from arboretum.report.exhibits import Exhibits, collect_exhibits

if TYPE_CHECKING:
    from arboretum.engine.result import RunResult


class ReportFormat(enum.StrEnum):
    """The formats of a report, by the word that names them on the command line."""

    JSON = "json"
    JUNIT = "junit"
    MARKDOWN = "markdown"
    HTML = "html"


def render_report(result: RunResult, report_format: ReportFormat, *, exhibits: Exhibits | None = None) -> str:
    """The report of `result` as one text.

    Args:
        result: The run.
        report_format: Which format.
        exhibits: Outputs and differences to show beside the verdicts; None for none.

    Returns:
        The whole file's content.
    """
    shown = exhibits or Exhibits()
    match report_format:
        case ReportFormat.JSON:
            from arboretum.report.document import render_json

            return render_json(result)
        case ReportFormat.JUNIT:
            from arboretum.report.junit import render_junit

            return render_junit(result, shown)
        case ReportFormat.MARKDOWN:
            from arboretum.report.markdown import render_markdown

            return render_markdown(result, shown)
        case ReportFormat.HTML:
            from arboretum.report.html import render_html

            return render_html(result, shown)


__all__ = ["Exhibits", "ReportFormat", "collect_exhibits", "render_report"]
