"""``arboretum history``, ``show`` and ``why``: what earlier runs found."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from arboretum.cli.app import Context, pass_context
from arboretum.cli.exit_codes import ExitCode
from arboretum.cli.options import format_option
from arboretum.cli.orchestration import orchestrations, show_orchestration
from arboretum.cli.ranges import show_bisect, show_each
from arboretum.cli.run import parse_reports, show_result, write_reports
from arboretum.cli.run_names import NO_RUN, find_run, how_to_go_on, interruption
from arboretum.durations import format_duration
from arboretum.engine.archive import kept_result
from arboretum.engine.journal import iter_runs, last_status, runs_folder
from arboretum.engine.result import BisectResult, EachResult, RunResult
from arboretum.engine.store import ResultStore, store_path
from arboretum.errors import InterruptedRunError, StoreError, UsageError
from arboretum.orchestration.orchestrator import orchestrations_folder
from arboretum.repository import Repository

if TYPE_CHECKING:
    from arboretum.engine.model import Trial
    from arboretum.engine.result import Result


def _store(repository: Repository) -> ResultStore:
    return ResultStore.open_to_read(store_path(repository.state_dir))


@click.command(
    epilog="""\b
Examples:
  arboretum history
  arboretum history -n 1 --format json | jq -r '.runs[0].run'
"""
)
@click.option("-n", "--limit", type=click.IntRange(1), default=20, show_default=True, help="How many runs.")
@format_option
@pass_context
def history(context: Context, limit: int, output: str) -> int:
    """List the runs and the orchestrations of this repository, the newest first."""
    with context.repository() as repository:
        rows = [*_tested(repository, limit), *orchestrations(repository, limit)]
        unfinished = interruption(repository)
    rows = sorted(rows, key=lambda row: float(row["started"]), reverse=True)[:limit]
    if output == "json":
        context.renderer.json({"schema": "arboretum/history/1", "runs": rows})
        return ExitCode.HOLDS
    if not rows:
        context.renderer.note(NO_RUN)
        return ExitCode.HOLDS
    context.renderer.table(
        "",
        ("run", "kind", "started", "took", "status", "what"),
        [
            (
                row["run"],
                row["kind"],
                time.strftime("%Y-%m-%d %H:%M", time.localtime(row["started"])),
                "–" if row["duration_s"] is None else format_duration(row["duration_s"]),
                row["status"],
                (row["title"] or row["command"]) + (f" ({row['good']}/{row['tasks']} good)" if "tasks" in row else ""),
            )
            for row in rows
        ],
    )
    if unfinished is not None:
        context.renderer.note(unfinished)
    return ExitCode.HOLDS


def _tested(repository: Repository, limit: int) -> list[dict[str, Any]]:
    folder = runs_folder(repository.state_dir)
    live = {run: last_status(folder, run) for run in list(iter_runs(folder))[:limit]}
    with _store(repository) as store:
        records = store.runs(limit=limit)
    return [
        {
            "run": record.id,
            "kind": "run",
            "title": record.title,
            "command": record.command,
            "started": record.started,
            "duration_s": None if record.finished is None else round(record.finished - record.started, 3),
            "status": live.get(record.id, record.status),
        }
        for record in records
    ]


@click.command(
    epilog="""\b
Examples:
  arboretum show                                         the last run
  arboretum show --trial off-by-one                      what it printed
  arboretum show --trial 568c2b83                        the same for a commit, after each or bisect
  arboretum show 20261124-101500-a1b2c3 --report html:report.html
""",
)
@click.argument("run", required=False)
@click.option("--report", "reports", multiple=True, metavar="FORMAT:FILE", help="Write json, junit, markdown or html.")
@click.option("--trial", metavar="ID", help="Show what this trial or task printed: off-by-one, off-by-one#2, a commit.")
@format_option
@pass_context
def show(context: Context, run: str | None, reports: tuple[str, ...], trial: str | None, output: str) -> int:
    """Show a run or an orchestration again; the exit code is the run's.

    RUN is an id, the beginning of one, or last, which it is if left out.
    """
    with context.repository() as repository:
        tested, orchestrated = runs_folder(repository.state_dir), orchestrations_folder(repository)
        folder, name = find_run(run, tested, orchestrated)
        if folder == orchestrated:
            return show_orchestration(context, repository, name, reports, trial, output)
        targets = parse_reports(reports)
        result = _kept_result(repository, name)
        if trial is not None:
            if reports:
                raise UsageError(
                    "--trial shows what was printed, and --report writes a report", hint="give one of them"
                )
            _show_output(context, repository, result, _trial_named(result, trial))
            return ExitCode.HOLDS
        match result:
            case RunResult():
                show_result(context.renderer, result, output)
                write_reports(context.renderer, repository, result, targets)
            case _ if targets:
                raise UsageError(
                    f"{result.run} was a run over commits: there are no reports of those", hint="use --format json"
                )
            case EachResult():
                show_each(context.renderer, result, output)
            case BisectResult():
                show_bisect(context.renderer, repository, result, output)
    return result.exit_code


def _kept_result(repository: Repository, run: str) -> Result:
    """The result of the run; where there is none because it is not over, that is said.

    Raises:
        InterruptedRunError: It was killed before it had one.
        UsageError: It is going on right now.
        StoreError: The result cannot be read.
    """
    folder = runs_folder(repository.state_dir)
    try:
        return kept_result(folder, run)
    except StoreError as error:
        status = last_status(folder, run)
        if status == "running":
            raise UsageError(f"run {run} is going on right now", hint="wait until it has ended") from error
        if status == "interrupted":
            hint = how_to_go_on(repository, folder, run)
            raise InterruptedRunError(f"run {run} was interrupted before it had a result", hint=hint) from error
        raise


def _show_output(context: Context, repository: Repository, result: Result, trial: Trial) -> None:
    """Print what the trial printed; where the whole of it is not kept, its last lines, and say so."""
    from arboretum.report.exhibits import open_outputs, printable

    told = False
    with open_outputs(repository, result.run) as outputs:
        for text in outputs.whole(trial):
            context.renderer.part(text)
            told = True
    if told:
        return
    if trial.output_tail:
        context.renderer.note("its whole output is not kept; these are the last lines")
        context.renderer.text(printable(trial.output_tail))
    else:
        context.renderer.note(trial.message or "it printed nothing")


def _trial_named(result: Result, text: str) -> Trial:
    """The trial that `text` names; without a number the first one of its hypothesis or commit."""
    name, _, attempt = text.partition("#")
    tried = _trials(result)
    of_commits = not isinstance(result, RunResult)
    for subject, trial in tried:
        named = subject.startswith(name) if of_commits and len(name) >= 4 else subject == name
        if named and str(trial.attempt) == (attempt or "1"):
            return trial
    known = sorted({subject[:10] if of_commits else subject for subject, _ in tried})
    raise UsageError(f"run {result.run} has no trial {text!r}", hint=f"it tried: {', '.join(known)}")


def _trials(result: Result) -> list[tuple[str, Trial]]:
    """Every trial with what it was of; commits of equal trees share one."""
    match result:
        case RunResult():
            return [(trial.hypothesis, trial) for trial in result.trials]
        case EachResult():
            return [(commit.oid, commit.trial) for commit in result.commits if commit.trial is not None]
        case BisectResult():
            return [(trial.hypothesis, trial) for trial in result.trials]


@click.command(
    epilog="""\b
Examples:
  arboretum why 20261124-101500-a1b2c3 off-by-one
  arboretum why last control --attempt 2
"""
)
@click.argument("run")
@click.argument("hypothesis")
@click.option("--attempt", type=click.IntRange(1), default=1, show_default=True, help="Which repeat.")
@format_option
@pass_context
def why(context: Context, run: str, hypothesis: str, attempt: int, output: str) -> int:
    """Say why the result of HYPOTHESIS in RUN was, or was not, taken from the cache, field by field.

    RUN is an id, the beginning of one, or last.
    """
    with context.repository() as repository, _store(repository) as store:
        _, name = find_run(run, runs_folder(repository.state_dir))
        found = store.why(name, hypothesis, attempt)
    if found is None:
        raise UsageError(
            f"run {name} has no trial {attempt} of {hypothesis!r} with a key",
            hint="only trials that could be cached have one; see: arboretum show " + name,
        )
    if output == "json":
        differences = {field: {"now": now, "then": then} for field, (now, then) in found.differences.items()}
        context.renderer.json(
            {
                "schema": "arboretum/why/1",
                "hit": found.hit,
                "source": found.source,
                "fields": dict(found.fields),
                "differences": differences,
            }
        )
        return ExitCode.HOLDS
    if found.hit:
        context.renderer.text(f"It was taken from the cache: run {found.source} had found it for the same key.")
    elif found.differences:
        context.renderer.text("It was run: the nearest known result differs in")
        context.renderer.table(
            "", ("field", "now", "then"), [(f, now or "–", then or "–") for f, (now, then) in found.differences.items()]
        )
    else:
        context.renderer.text("It was run: nothing was known of this command.")
    context.renderer.table("", ("field of the key", "value"), list(found.fields.items()))
    return ExitCode.HOLDS
