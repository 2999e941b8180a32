"""``arboretum run``: hypotheses side by side."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import IO, TYPE_CHECKING, Any

import click
from attrs import evolve

from arboretum.cli.app import Context, pass_context
from arboretum.cli.exit_codes import ExitCode
from arboretum.cli.live import display_for
from arboretum.cli.options import (
    DurationType,
    OutputFile,
    cache_options,
    command_words,
    complete_revision,
    executor_option,
    format_option,
    jobs_option,
    needs_options,
)
from arboretum.errors import UsageError

if TYPE_CHECKING:
    from arboretum.cli.render import Renderer
    from arboretum.engine.model import Plan
    from arboretum.engine.result import RunResult
    from arboretum.events import Event, Observer
    from arboretum.repository import Repository


@click.command(
    epilog="""\b
Examples:
  arboretum run hypotheses.toml
  arboretum run --ref fix/a --ref fix/b -- pytest -q tests/test_parser.py
  arboretum run --ref fix/a --repeats 5 --timeout 2m --report html:report.html -- make check
  arboretum run --resume                           go on with the last interrupted run
Exit codes: 0 a hypothesis is supported, 1 all are falsified, 2 bad input, 3 inconclusive,
4 the environment failed, 130 interrupted (resumable).
""",
)
@click.argument("words", nargs=-1, metavar="[FILE] [-- COMMAND...]")
@click.option(
    "--ref",
    "refs",
    multiple=True,
    metavar="REV",
    shell_complete=complete_revision,
    help="A revision to test; may be given again and again.",
)
@click.option(
    "--base",
    metavar="REV",
    shell_complete=complete_revision,
    help="What the control runs on.  [default: HEAD, or the file's]",
)
@click.option("--repeats", type=click.IntRange(1, 10_000), help="How many trials each hypothesis gets.")
@click.option("--timeout", type=DurationType(), help="For each trial: seconds, 90s, 5m.")
@click.option("--stop-on", type=click.Choice(["supported"]), help="End the run as soon as one is supported.")
@click.option("--resume", is_flag=True, help="Go on with an interrupted run: the newest one, or the one named.")
@click.option("--dry-run", is_flag=True, help="Check the plan and say what would be run; make nothing.")
@click.option(
    "--report",
    "reports",
    multiple=True,
    metavar="FORMAT:FILE",
    help="Also write a report: json, junit, markdown, html.",
)
@click.option("--events", type=OutputFile(), metavar="FILE", help="Write every event as a line of JSON.")
@executor_option
@needs_options
@jobs_option
@cache_options
@format_option
@pass_context
def run(
    context: Context,
    words: tuple[str, ...],
    refs: tuple[str, ...],
    base: str | None,
    repeats: int | None,
    timeout: float | None,
    stop_on: str | None,
    resume: bool,
    dry_run: bool,
    reports: tuple[str, ...],
    events: IO[str] | None,
    executor: str,
    memory: int | None,
    labels: tuple[str, ...],
    jobs: int | None,
    no_cache: bool,
    refresh: bool,
    output: str,
) -> int:
    """Test hypotheses side by side, each in an isolated worktree, against a control.

    FILE is a hypotheses.toml. Without one, name revisions with --ref and the command after --.
    """
    from arboretum.cli.run_names import interruption, run_to_resume

    targets = parse_reports(reports)
    with context.repository() as repository:
        run_id = run_to_resume(repository, words[0] if words else None) if resume else None
        plan = _resumed_plan(repository, run_id) if run_id else _plan(words, refs, base)
        plan = _overridden(plan, base=base, repeats=repeats, timeout=timeout, memory=memory, labels=labels or None)
        if dry_run:
            return _dry_run(context, repository, plan, output)
        if not resume and (unfinished := interruption(repository)) is not None:
            context.renderer.note(unfinished)
        result = carry_out(
            context.renderer, repository, plan, jobs=jobs, executor=executor, stop_on_supported=stop_on is not None,
            cache=not no_cache, refresh=refresh, resume=run_id, events=events,
        )  # fmt: skip
        show_result(context.renderer, result, output)
        write_reports(context.renderer, repository, result, targets)
        context.renderer.note(_farewell(result))
    return result.exit_code


def _farewell(result: RunResult) -> str:
    from arboretum.engine.result import NOT_KEPT

    took = f"run {result.run}, {result.duration:.1f} s"
    kept = not any(note.startswith(NOT_KEPT) for note in result.notes)
    return f"{took}. See it again: arboretum show {result.run}" if kept else took


def carry_out(
    renderer: Renderer,
    repository: Repository,
    plan: Plan,
    *,
    executor: str = "local",
    events: IO[str] | None = None,
    **options: Any,
) -> RunResult:
    """Run `plan` and show how it goes; `options` are those of `arboretum.engine.run.run_plan`."""
    from arboretum.cli.executors import open_executor
    from arboretum.engine.run import run_plan

    with open_executor(executor, repository, jobs=options.get("jobs")) as chosen, display_for(renderer) as display:
        observers: list[Observer] = [display]
        if events is not None:
            observers.append(EventLines(events))
        return run_plan(repository, plan, executor=chosen, observers=observers, **options)


def show_result(renderer: Renderer, result: RunResult, output: str) -> None:
    """The result as text or JSON."""
    if output == "json":
        from arboretum.report.document import run_document

        renderer.json(run_document(result))
    else:
        renderer.run_result(result)


class EventLines:
    """An observer that writes each event of the run as a line of JSON."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def __call__(self, event: Event) -> None:
        """Write `event`."""
        from arboretum.engine.events import RunEvent
        from arboretum.engine.records import event_line

        if isinstance(event, RunEvent):
            self._file.write(event_line(event).decode("ascii"))
            self._file.flush()


def _plan(words: Sequence[str], refs: tuple[str, ...], base: str | None) -> Plan:
    from arboretum.engine.model import CommandSpec
    from arboretum.engine.plan_file import load_plan, plan_for_refs

    if refs:
        return plan_for_refs(refs, CommandSpec(command_words(tuple(words))), base=base or "HEAD")
    if not words:
        raise UsageError(
            "nothing to test", hint="name a hypotheses.toml, or revisions: --ref A --ref B -- COMMAND; see run --help"
        )
    path, *command = words
    plan = load_plan(path)
    return evolve(plan, command=CommandSpec(command_words(tuple(command)))) if command else plan


def _overridden(plan: Plan, **changes: Any) -> Plan:
    """The plan with what the command line says (is not None) instead of the file."""
    if changes["timeout"] is not None:
        changes["auto_timeout"] = False
    return evolve(plan, **{name: value for name, value in changes.items() if value is not None})


def _resumed_plan(repository: Repository, run_id: str) -> Plan:
    from arboretum.engine.archive import kept_plan
    from arboretum.engine.journal import runs_folder

    return kept_plan(runs_folder(repository.state_dir), run_id)


def _dry_run(context: Context, repository: Repository, plan: Plan, output: str) -> int:
    from arboretum.engine.plan_file import validate
    from arboretum.report.view import command_text

    validate(plan, repository)
    order = sorted(plan.hypotheses, key=lambda hypothesis: -hypothesis.priority)
    if output == "json":
        context.renderer.json(
            {
                "schema": "arboretum/dry-run/1",
                "base": repository.resolve(plan.base),
                "command": list(plan.command.argv),
                "trials": plan.repeats * (len(order) + 1),
                "hypotheses": [h.id for h in order],
            }
        )
        return ExitCode.HOLDS
    context.renderer.table(
        f"Would run: {command_text(plan.command)}",
        ("hypothesis", "priority", "trials", "description"),
        [("control", "", str(plan.repeats), f"the base, {plan.base}"),
         *((h.id, f"{h.priority:.2f}", str(plan.repeats), h.description) for h in order)],
    )  # fmt: skip
    return ExitCode.HOLDS


def parse_reports(
    texts: Sequence[str], *, known: Sequence[str] = ("json", "junit", "markdown", "html")
) -> list[tuple[str, str]]:
    """The formats (of the `known` ones) and files of ``--report``.

    Raises:
        UsageError: A text has no format that is known, or no file.
    """
    targets = []
    for text in texts:
        name, colon, path = text.partition(":")
        if name not in known or not colon or not path:
            raise UsageError(f"--report {text!r} is not FORMAT:FILE", hint=f"formats: {', '.join(known)}")
        if not os.path.isdir(os.path.dirname(os.path.abspath(path))):
            raise UsageError(f"--report {text!r}: the folder does not exist", hint="make it first")
        targets.append((name, path))
    return targets


def write_reports(
    renderer: Renderer, repository: Repository, result: RunResult, targets: Sequence[tuple[str, str]]
) -> None:
    """Write the reports that were asked for."""
    if not targets:
        return
    from arboretum.report import ReportFormat, collect_exhibits, render_report
    from arboretum.report.files import write_report_file

    exhibits = collect_exhibits(repository, result)
    for name, path in targets:
        text = render_report(result, ReportFormat(name), exhibits=exhibits)
        write_report_file(path, text)
        renderer.note(f"{name} report: {path}")
