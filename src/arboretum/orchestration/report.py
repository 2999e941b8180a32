"""The report of a run: one HTML page with a Gantt of the attempts, or Markdown; JSON is the document itself."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any, Final

from attrs import frozen

from arboretum.orchestration.board import Board
from arboretum.orchestration.documents import board_document
from arboretum.orchestration.states import TaskState
from arboretum.report.exhibits import printable
from arboretum.report.files import write_report_file
from arboretum.report.templates import environment
from arboretum.values import jsonable


@frozen
class Bar:
    """One attempt in the Gantt; `left` and `width` are percent of the run."""

    task: str
    attempt: int
    slot: str
    tone: str
    seconds: float
    left: float
    width: float


def tone_of(state: TaskState) -> str:
    """The class of the shared style that fits a state."""
    if state.is_good:
        return "supported"
    return "inconclusive" if state.is_open or state is TaskState.BLOCKED else "falsified"


def gantt(board: Board) -> list[tuple[str, list[Bar]]]:
    """The attempts by slot, with where they lie in the run. The last attempt of a task has the task's own tone."""
    end = max([i.end or i.start for i in board.intervals], default=board.started)
    span = max((board.ended or end) - board.started, 1e-9)
    last = {interval.task: interval.attempt for interval in board.intervals}
    lanes: dict[str, list[Bar]] = {}
    for interval in board.intervals:
        seconds = (interval.end if interval.end is not None else end) - interval.start
        tone = tone_of(board.records[interval.task].state) if interval.attempt == last[interval.task] else "falsified"
        lanes.setdefault(interval.slot, []).append(
            Bar(
                task=interval.task,
                attempt=interval.attempt,
                slot=interval.slot,
                tone=tone,
                seconds=seconds,
                left=100 * (interval.start - board.started) / span,
                width=100 * seconds / span,
            )
        )
    return sorted(lanes.items(), key=lambda lane: (len(lane[0]), lane[0]))


def _clean(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _clean(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_clean(inner) for inner in value]
    return printable(jsonable(value)) if isinstance(value, str) else value


def _view(board: Board) -> dict[str, Any]:
    document = _clean(board_document(board))
    tally: dict[str, int] = {}
    for task in document["tasks"]:
        tally[task["status"]] = tally.get(task["status"], 0) + 1
    return {
        "run": document,
        "summary": summary(board),
        "started": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(board.started)),
        "tally": tally,
        "tones": {state.value: tone_of(state) for state in TaskState},
        "lanes": gantt(board),
    }


def summary(board: Board) -> str:
    """What came of the run, in one or two sentences."""
    records = board.records.values()
    good = sum(record.state.is_good for record in records)
    branch = board.integration.removeprefix("refs/heads/")
    text = f"{good} of {len(board.records)} tasks are on {branch}."
    if board.moved:
        text += f" {board.moved} was moved to it."
    elif board.message:
        text += f" {board.message}."
    if board.status == "interrupted":
        text += f" The run was interrupted; go on with: arboretum orchestrate --resume {board.run}"
    return text


def render_html(board: Board) -> str:
    """The run as one self-contained HTML page."""
    return environment().get_template("orchestration.html.j2").render(**_view(board))


def render_markdown(board: Board) -> str:
    """The run as Markdown (GitHub's flavour)."""
    return environment().get_template("orchestration.md.j2").render(**_view(board))


def render_json(board: Board) -> str:
    """The run as one JSON object."""
    return json.dumps(_clean(board_document(board)), indent=2, ensure_ascii=False) + "\n"


#: The forms of a report, by name.
RENDERERS: Final[dict[str, Callable[[Board], str]]] = {
    "html": render_html,
    "markdown": render_markdown,
    "json": render_json,
}


def write_report(board: Board, form: str, path: str) -> None:
    """Write the report to `path`.

    Args:
        board: The run.
        form: One of `RENDERERS`.
        path: The file.

    Raises:
        EngineError: The file cannot be written.
    """
    write_report_file(path, RENDERERS[form](board))
