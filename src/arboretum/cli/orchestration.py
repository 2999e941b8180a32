"""``arboretum split``, ``orchestrate``, ``check-conflicts`` and ``amend-scope``."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Sequence
from typing import IO, TYPE_CHECKING, Any

import click
from attrs import evolve

from arboretum.cli.app import Context, pass_context
from arboretum.cli.executors import open_site
from arboretum.cli.exit_codes import ExitCode
from arboretum.cli.options import OutputFile, executor_option, format_option, jobs_option
from arboretum.cli.orchestration_live import display_for, show_board, show_split
from arboretum.cli.run import EventLines, parse_reports
from arboretum.cli.run_names import orchestration_named
from arboretum.engine.journal import iter_runs
from arboretum.engine.model import CommandSpec
from arboretum.engine.plan_file import parse_command
from arboretum.errors import StoreError, UsageError

if TYPE_CHECKING:
    from arboretum.distributed.site import DaskSite
    from arboretum.events import Observer
    from arboretum.orchestration.board import Board
    from arboretum.orchestration.scheduling import Limits
    from arboretum.orchestration.tasks import TaskPlan
    from arboretum.repository import Repository


@click.command(
    epilog="""\b
Examples:
  arboretum split tasks.toml
  arboretum split tasks.toml --format mermaid
  arboretum split --describe "add type hints" --task-command "agent {prompt}" --max-tasks 6 --output tasks.json
  arboretum split --describe "add type hints" --task-command "agent {prompt}" --with ./planner.py
""",
)
@click.argument("tasks", required=False)
@click.option("--describe", metavar="TEXT", help="Decompose this one big task instead of reading a file.")
@click.option("--with", "program", metavar="CMD", help="The program that decomposes: JSON on stdin, JSON on stdout.")
@click.option("--task-command", metavar="CMD", help="What runs each task, e.g. 'agent {prompt}'.")
@click.option("--max-tasks", type=click.IntRange(1, 1000), default=8, show_default=True, help="How many parts at most.")
@click.option("--output-file", "--output", "target", metavar="FILE", help="Keep the plan as a JSON task file.")
@click.option("--base", metavar="REV", help="Start from this revision.")
@click.option("--no-measure", is_flag=True, help="Take a usual overhead instead of making one worktree to measure it.")
@click.option(
    "--format", "output", type=click.Choice(["text", "json", "mermaid"]), default="text", help="In which form."
)
@jobs_option
@pass_context
def split(
    context: Context,
    tasks: str | None,
    describe: str | None,
    program: str | None,
    task_command: str | None,
    max_tasks: int,
    target: str | None,
    base: str | None,
    no_measure: bool,
    output: str,
    jobs: int | None,
) -> int:
    """Plan which of the tasks in TASKS can run together without conflict, and what that would take."""
    from arboretum.orchestration.documents import split_document, split_mermaid, task_file_document
    from arboretum.orchestration.planning import plan_split

    with context.repository() as repository:
        if describe is not None:
            if tasks is not None:
                raise UsageError("say either a task file or --describe")
            plan = _decomposed(repository, describe, program, task_command, max_tasks=max_tasks, base=base, jobs=jobs)
        else:
            plan = _loaded(tasks, base)
        found = plan_split(repository, plan, jobs=jobs, measure=not no_measure)
    if target is not None:
        _write(target, json.dumps(task_file_document(plan), indent=2) + "\n")
    if output == "json":
        context.renderer.json(split_document(found))
    elif output == "mermaid":
        context.renderer.text(split_mermaid(found))
    else:
        show_split(context.renderer, found)
    return ExitCode.HOLDS


def _loaded(tasks: str | None, base: str | None) -> TaskPlan:
    from arboretum.orchestration.task_file import load_tasks

    if tasks is None:
        raise UsageError(
            "there is no task file", hint="name one: tasks.toml; `arboretum split --describe TEXT` makes one"
        )
    plan = load_tasks(tasks)
    return evolve(plan, base=base) if base is not None else plan


def _decomposed(
    repository: Repository,
    description: str,
    program: str | None,
    task_command: str | None,
    *,
    max_tasks: int,
    base: str | None,
    jobs: int | None,
) -> TaskPlan:
    from arboretum.orchestration.decomposition import ask_program, decompose, request_for
    from arboretum.orchestration.planning import co_changes, limits_here, tracked_files

    if not description.strip():
        raise UsageError("the description is empty")
    start = repository.resolve(base or "HEAD")
    files = tracked_files(repository, start)
    together = co_changes(repository, start, files)
    command = parse_command(task_command) if task_command is not None else None
    if program is None:
        if command is None:
            raise UsageError("nothing says what runs each part", hint="add --task-command 'agent {prompt}'")
        plan = decompose(description, files=files, together=together, command=command, max_tasks=max_tasks)
    else:
        limits, _ = limits_here(repository, start, jobs=jobs)
        request = request_for(
            repository, description, files=files, together=together, limits=limits, max_tasks=max_tasks, base=start
        )
        asked: CommandSpec = parse_command(program)
        plan = ask_program(repository, asked, request, command=command)
    return evolve(plan, base=base) if base is not None else plan


@click.command(
    epilog="""\b
Examples:
  arboretum orchestrate tasks.toml                 the result is on a branch of its own
  arboretum orchestrate tasks.toml --into main     and main is moved to it at the end
  arboretum orchestrate tasks.toml --dry-run       only the plan
  arboretum orchestrate --resume last              after Ctrl-C, a crash, or amend-scope
  arboretum orchestrate --resume RUN --retry docs  take a task up again, with what was committed on its branch since
  arboretum orchestrate tasks.toml --executor dask://host:8786    the commands run on a cluster
""",
)
@click.argument("tasks", required=False)
@click.option("--into", metavar="BRANCH", help="Move this branch to the result at the end.")
@click.option("--base", metavar="REV", help="Start from this revision.")
@click.option("--resume", metavar="RUN", help="Go on with this run: its id, the beginning of it, or last.")
@click.option("--retry", multiple=True, metavar="TASK", help="With --resume: take up a task that did not make it.")
@click.option("--dry-run", is_flag=True, help="Show the plan and do nothing.")
@click.option("--report", "reports", multiple=True, metavar="FORMAT:FILE", help="Write json, markdown or html.")
@click.option("--events", type=OutputFile(), metavar="FILE", help="Write every event as a line of JSON.")
@executor_option
@format_option
@jobs_option
@pass_context
def orchestrate(
    context: Context,
    tasks: str | None,
    into: str | None,
    base: str | None,
    resume: str | None,
    retry: tuple[str, ...],
    dry_run: bool,
    reports: tuple[str, ...],
    events: IO[str] | None,
    executor: str,
    output: str,
    jobs: int | None,
) -> int:
    """Run the tasks in TASKS in worktrees of their own, as room comes free, and merge what is good."""
    from arboretum.orchestration.documents import split_document
    from arboretum.orchestration.planning import plan_split

    targets = board_reports(reports)
    with context.repository() as repository:
        if dry_run:
            found = plan_split(repository, _loaded(tasks, base), jobs=jobs)
            if output == "json":
                context.renderer.json(split_document(found))
            else:
                show_split(context.renderer, found)
            return ExitCode.HOLDS
        with open_site(executor, repository) as site:
            board = _carried_out(
                context, repository, tasks, into=into, base=base, resume=resume, retry=retry, jobs=jobs, events=events,
                site=site,
            )  # fmt: skip
    return tell_board(context, board, targets, output)


def board_reports(texts: Sequence[str]) -> list[tuple[str, str]]:
    """The formats and files of ``--report``, for an orchestration."""
    from arboretum.orchestration.report import RENDERERS

    return parse_reports(texts, known=tuple(RENDERERS))


def tell_board(context: Context, board: Board, targets: Sequence[tuple[str, str]], output: str) -> int:
    """Write the reports that were asked for, show the run, and give its exit code."""
    from arboretum.orchestration.documents import board_document
    from arboretum.orchestration.report import summary, write_report

    if output == "json":
        context.renderer.json(board_document(board))
    else:
        show_board(context.renderer, board)
        context.renderer.text(summary(board))
    for form, path in targets:
        write_report(board, form, path)
        context.renderer.note(f"{form} report: {path}")
    if board.status == "interrupted":
        return ExitCode.INTERRUPTED
    delivered = board.into is None or board.moved is not None or board.tip == board.base
    return ExitCode.HOLDS if board.all_good and delivered else ExitCode.DOES_NOT_HOLD


def orchestrations(repository: Repository, limit: int) -> list[dict[str, Any]]:
    """The newest orchestrations, as rows of ``arboretum history``."""
    from arboretum.orchestration.orchestrator import orchestrations_folder, read_board

    rows: list[dict[str, Any]] = []
    for run in list(iter_runs(orchestrations_folder(repository)))[:limit]:
        with contextlib.suppress(StoreError):  # it was killed before it had begun
            board = read_board(repository, run)
            rows.append(
                {
                    "run": run,
                    "kind": "orchestration",
                    "title": board.plan.title or f"{len(board.records)} tasks",
                    "command": "",
                    "started": board.started,
                    "duration_s": None if board.ended is None else round(board.ended - board.started, 3),
                    "status": board.status,
                    "good": sum(record.state.is_good for record in board.records.values()),
                    "tasks": len(board.records),
                }
            )
    return rows


def show_orchestration(
    context: Context, repository: Repository, run: str, reports: Sequence[str], task: str | None, output: str
) -> int:
    """What ``arboretum show`` does for an orchestration: show it again, or what a task of it printed."""
    from arboretum.orchestration.orchestrator import orchestrations_folder, read_board
    from arboretum.report.exhibits import output_in

    targets, board = board_reports(reports), read_board(repository, run)
    if task is None:
        return tell_board(context, board, targets, output)
    name, _, number = task.partition("#")
    if name not in board.records:
        raise UsageError(f"the run {run} has no task {name!r}", hint=f"its tasks: {', '.join(board.records)}")
    attempt = number or str(max(1, board.records[name].attempts))
    folder = os.path.join(orchestrations_folder(repository), run, "outputs", f"{name}.{attempt}")
    if printed := output_in(folder):
        context.renderer.text(printed)
    else:
        context.renderer.note(f"{name} printed nothing" + (f": {why}" if (why := board.records[name].reason) else ""))
    return ExitCode.HOLDS


def _carried_out(
    context: Context,
    repository: Repository,
    tasks: str | None,
    *,
    into: str | None,
    base: str | None,
    resume: str | None,
    retry: tuple[str, ...],
    jobs: int | None,
    events: IO[str] | None,
    site: DaskSite | None,
) -> Board:
    from arboretum.orchestration.orchestrator import Orchestrator, read_board

    observers: list[Observer] = [EventLines(events)] if events is not None else []
    if resume is not None:
        given = {"TASKS": tasks, "--into": into, "--base": base}
        if extra := [name for name, value in given.items() if value is not None]:
            raise UsageError(
                f"--resume goes on with the run as it was begun: it takes no {' and no '.join(extra)}",
                hint=f"leave out {' and '.join(extra)}; the result can be merged by hand afterwards"
                if into is not None
                else f"leave out {' and '.join(extra)}, or begin a new run without --resume",
            )
        resume = orchestration_named(repository, resume)
        known = read_board(repository, resume)
        limits = _limits(repository, known.plan, jobs, site)
        display = display_for(context.renderer, known)
        orchestrator = Orchestrator.resume(
            repository, resume, limits, retry=retry, observers=[display, *observers], site=site
        )
    elif retry:
        raise UsageError("--retry needs --resume RUN")
    else:
        plan = _loaded(tasks, base)
        limits = _limits(repository, plan, jobs, site)
        display = display_for(context.renderer)
        orchestrator = Orchestrator.start(
            repository, plan, limits, into=into, observers=[display, *observers], site=site
        )
    with display:
        return asyncio.run(orchestrator.run())


def _limits(repository: Repository, plan: TaskPlan, jobs: int | None, site: DaskSite | None) -> Limits:
    """What may be used at once, here or at `site`; there each worker sees to its own memory."""
    from arboretum.orchestration.planning import limits_here
    from arboretum.orchestration.scheduling import Limits

    jobs = jobs or plan.jobs
    if site is None:
        return limits_here(repository, repository.resolve(plan.base), jobs=jobs)[0]
    site.check(plan.tasks)
    slots = jobs or site.capacity
    reason = f"{site.capacity} tasks at once on the workers of the cluster"
    return Limits(slots=slots, cpus=float(max(slots, site.capacity)), reasons=(reason,))


@click.command(
    "check-conflicts",
    epilog="""\b
Example:
  arboretum check-conflicts feature/a feature/b main
Exit code: 0 all pairs merge cleanly, 1 some do not.
""",
)
@click.argument("branches", nargs=-1, required=True)
@format_option
@pass_context
def check_conflicts(context: Context, branches: Sequence[str], output: str) -> int:
    """Merge every pair of BRANCHES in memory; name real conflicts, and files that both touch."""
    from arboretum.orchestration.documents import conflicts_document
    from arboretum.orchestration.merge import check_conflicts as check

    if len(set(branches)) < 2:
        raise UsageError("name two branches or more")
    with context.repository() as repository:
        pairs = check(repository, dict.fromkeys(branches))
    if output == "json":
        context.renderer.json(conflicts_document(pairs))
    else:
        rows = [
            (
                f"{pair.one} × {pair.two}",
                "clean" if pair.is_clean else "conflict",
                ", ".join(pair.conflicts),
                ", ".join(path for path in pair.both if path not in pair.conflicts),
            )
            for pair in pairs
        ]
        context.renderer.table("", ("branches", "merge", "conflicts", "both touch, merges"), rows)
    return ExitCode.HOLDS if all(pair.is_clean for pair in pairs) else ExitCode.DOES_NOT_HOLD


@click.command(
    "amend-scope",
    epilog="""\b
Examples:
  arboretum amend-scope 20260101-120000-abc123 docs        accept exactly the files it changed outside its scope
  arboretum amend-scope last docs --add 'src/**'
  arboretum orchestrate --resume last                      and then its work is merged
""",
)
@click.argument("run")
@click.argument("task")
@click.option("--add", "patterns", multiple=True, metavar="GLOB", help="Add this pattern to its scope.")
@format_option
@pass_context
def amend_scope(context: Context, run: str, task: str, patterns: tuple[str, ...], output: str) -> int:
    """Accept what TASK of RUN changed outside its scope: widen the scope and let --resume merge the work.

    RUN is an id, the beginning of one, or last.
    """
    from arboretum.orchestration.orchestrator import amend_scope as amend

    with context.repository() as repository:
        run = orchestration_named(repository, run)
        added, board = amend(repository, run, task, patterns)
    record = board.records[task]
    if output == "json":
        scope = list(board.plan.by_id[task].scope.texts)
        context.renderer.json(
            {"schema": "arboretum/amended/1", "run": run, "task": task, "added": list(added), "scope": scope,
             "status": record.state.value}
        )  # fmt: skip
    else:
        context.renderer.text(f"the scope of {task} now has {', '.join(added)}")
        context.renderer.text(f"merge its work with: arboretum orchestrate --resume {run}")
    left = board.plan.by_id[task].allowed.outside(record.changed)
    if left:
        context.renderer.warning(f"still outside its scope: {', '.join(left)}")
    return ExitCode.DOES_NOT_HOLD if left else ExitCode.HOLDS


def _write(path: str, text: str) -> None:
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error
