"""Splits, runs and conflict checks as plain JSON values, and a split as a Mermaid diagram (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from arboretum.engine.model import CommandSpec
from arboretum.orchestration.board import Board, TaskRecord, branch_of
from arboretum.orchestration.merge import BranchPair
from arboretum.orchestration.splitter import Split
from arboretum.orchestration.states import TaskState
from arboretum.orchestration.tasks import Task, TaskPlan
from arboretum.values import RefName


def split_document(split: Split) -> dict[str, Any]:
    """What ``arboretum split --format json`` prints."""
    estimate, placed = split.estimate, {p.task: p for p in split.schedule}
    return {
        "schema": "arboretum/split/1",
        "title": split.plan.title,
        "tasks": [
            {
                **_task(task),
                "priority_s": split.workload.priority[task.id],
                "start_s": placed[task.id].start,
                "end_s": placed[task.id].end,
                "slot": placed[task.id].slot,
            }
            for task in split.plan.tasks
        ],
        "order": list(split.order),
        "critical_path": list(split.critical_path),
        "conflicts": [{"tasks": [c.one, c.two], "example": c.example, "files": list(c.files)} for c in split.conflicts],
        "warnings": [{"kind": w.kind, "tasks": list(w.tasks), "message": w.message} for w in split.warnings],
        "limits": {
            "slots": split.limits.slots,
            "cpus": split.limits.cpus,
            "memory": split.limits.memory,
            "reasons": list(split.limits.reasons),
        },
        "worktrees": list(split.worktrees),
        "estimate": {
            "sequential_s": estimate.sequential,
            "parallel_s": estimate.parallel,
            "speedup": estimate.speedup,
            "overhead_per_task_s": estimate.overhead,
            "overhead_measured": estimate.measured,
            "lower_bound_s": estimate.lower_bound,
            "break_even_factor": estimate.break_even,
            "pays": estimate.pays,
        },
    }


def _task(task: Task) -> dict[str, Any]:
    return {
        "id": task.id,
        "description": task.description,
        "scope": list(task.scope.texts),
        "shared": list(task.shared.texts),
        "reads": list(task.reads.texts),
        "depends_on": list(task.depends_on),
        "estimate_s": task.estimate,
        "cpus": task.cpus,
        "memory": task.memory,
        "labels": list(task.labels),
        "exclusive": list(task.exclusive),
    }


def task_file_document(plan: TaskPlan) -> dict[str, Any]:
    """The plan as a task file in JSON, which `task_file.load_tasks` reads again."""
    tasks = []
    for task in plan.tasks:
        entry: dict[str, Any] = {"id": task.id, "command": _command(task.command), "scope": list(task.scope.texts)}
        optional: dict[str, Any] = {
            "description": task.description,
            "prompt": task.prompt,
            "shared": list(task.shared.texts),
            "reads": list(task.reads.texts),
            "depends_on": list(task.depends_on),
            "estimate": task.estimate,
            "timeout": task.timeout,
            "memory": task.memory,
            "labels": list(task.labels),
            "exclusive": list(task.exclusive),
            "verify": _command(task.verify) if task.verify else None,
            "retries": task.retries,
            "env": dict(task.env),
        }
        tasks.append(entry | {key: value for key, value in optional.items() if value} | {"cpus": task.cpus})
    top: dict[str, Any] = {"version": 1, "title": plan.title, "base": plan.base}
    if plan.verify is not None:
        top["verify"] = _command(plan.verify)
    return top | {"task": tasks}


def _command(command: CommandSpec) -> Any:
    return {"shell": command.argv[0]} if command.shell else list(command.argv)


def split_mermaid(split: Split) -> str:
    """The tasks as a Mermaid flowchart: solid arrows are dependencies, dotted lines are scopes that meet."""
    critical = set(split.critical_path)
    names = {task.id: f"t{index}" for index, task in enumerate(split.plan.tasks)}
    lines = ["flowchart LR"]
    for task in split.plan.tasks:
        label = f"{task.id}<br/>{task.seconds:g} s".replace('"', "#quot;")
        lines.append(f'    {names[task.id]}["{label}"]' + (":::critical" if task.id in critical else ""))
    lines += [f"    {names[other]} --> {names[task.id]}" for task in split.plan.tasks for other in task.depends_on]
    lines += [f"    {names[c.one]} -. scopes meet .- {names[c.two]}" for c in split.conflicts]
    return "\n".join([*lines, "    classDef critical stroke-width:3px"]) + "\n"


def board_document(board: Board) -> dict[str, Any]:
    """What ``arboretum orchestrate --format json`` prints, and the report is made of."""
    return {
        "schema": "arboretum/orchestration/1",
        "run": board.run,
        "title": board.plan.title,
        "status": board.status,
        "base": board.base,
        "integration": {
            "branch": RefName(board.integration).short,
            "tip": board.tip,
            "tasks": list(board.merged),
        },
        "into": {"branch": board.into, "moved": board.moved is not None} if board.into else None,
        "message": board.message,
        "started": board.started,
        "duration_s": (board.ended or board.started) - board.started,
        "slots": board.slots,
        "tasks": [_record(board, record) for record in board.records.values()],
        "attempts": [
            {
                "task": i.task,
                "attempt": i.attempt,
                "slot": i.slot,
                "start_s": i.start - board.started,
                "end_s": i.end - board.started if i.end is not None else None,
            }
            for i in board.intervals
        ],
        "verifications": [
            {
                "commit": v.commit,
                "tasks": list(v.tasks),
                "command": v.command,
                "passed": v.passed,
                "duration_s": v.duration,
            }
            for v in board.verifications
        ],
    }


def _record(board: Board, record: TaskRecord) -> dict[str, Any]:
    has_branch = record.state.is_kept or record.state is TaskState.FINISHED
    return {
        "id": record.id,
        "description": board.plan.by_id[record.id].description,
        "status": record.state.value,
        "reason": record.reason,
        "branch": branch_of(board.run, record.id) if has_branch else None,
        "worktree": record.path or None,
        "commit": record.commit,
        "attempts": record.attempts,
        "duration_s": record.duration,
        "changed": list(record.changed),
        "files": list(record.files),
        "with": list(record.others),
        "output_tail": record.output_tail,
        "next": next_step(board, record),
    }


def next_step(board: Board, record: TaskRecord) -> str:
    """What a person can do about a task that did not make it; empty when nothing is to be done."""
    branch = RefName(board.integration).short
    resume = f"arboretum orchestrate --resume {board.run}"
    again = f"{resume} --retry {record.id}"
    match record.state:
        case TaskState.OUT_OF_SCOPE:
            return f"look at {record.path}; to accept: arboretum amend-scope {board.run} {record.id}, then {resume}"
        case TaskState.CONFLICT:
            return f"merge {branch} in {record.path}, resolve {', '.join(record.files)}, commit, then {again}"
        case TaskState.BREAKS_VERIFY:
            return f"merge {branch} in {record.path}, mend what breaks, commit, then {again}"
        case TaskState.FAILED | TaskState.TIMED_OUT:
            return f"look at {record.path}; to run it anew: {again}"
        case TaskState.BLOCKED:
            return f"first {' and '.join(record.others)}"
        case _:
            return ""


def conflicts_document(pairs: Sequence[BranchPair]) -> dict[str, Any]:
    """What ``arboretum check-conflicts --format json`` prints."""
    return {
        "schema": "arboretum/conflicts/1",
        "clean": all(pair.is_clean for pair in pairs),
        "pairs": [
            {
                "branches": [pair.one, pair.two],
                "clean": pair.is_clean,
                "conflicts": list(pair.conflicts),
                "both_touch": list(pair.both),
                "related": pair.related,
            }
            for pair in pairs
        ],
    }
