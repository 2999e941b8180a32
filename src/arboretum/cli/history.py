"""``arboretum history``, ``show`` and ``why``: what earlier runs found."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import click

from arboretum.cli.app import Context, pass_context
from arboretum.cli.exit_codes import ExitCode
from arboretum.cli.options import format_option
from arboretum.cli.run import parse_reports, show_result, write_reports
from arboretum.durations import format_duration
from arboretum.engine.archive import kept_result
from arboretum.engine.journal import iter_runs, read_journal
from arboretum.engine.store import ResultStore
from arboretum.errors import UsageError
from arboretum.repository import Repository

if TYPE_CHECKING:
    from arboretum.engine.result import RunResult


def _runs_dir(repository: Repository) -> str:
    return os.path.join(repository.state_dir, "runs")


def _store(repository: Repository) -> ResultStore:
    return ResultStore.open(os.path.join(repository.state_dir, "results.sqlite3"))


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
    """List the runs of this repository, the newest first."""
    with context.repository() as repository, _store(repository) as store:
        live = {run: read_journal(_runs_dir(repository), run).status for run in _newest(repository, limit)}
        records = store.runs(limit=limit)
    rows: list[dict[str, Any]] = [
        {
            "run": record.id,
            "title": record.title,
            "command": record.command,
            "started": record.started,
            "duration_s": None if record.finished is None else round(record.finished - record.started, 3),
            "status": live.get(record.id, record.status),
        }
        for record in records
    ]
    if output == "json":
        context.renderer.json({"schema": "arboretum/history/1", "runs": rows})
        return ExitCode.HOLDS
    context.renderer.table(
        "",
        ("run", "started", "took", "status", "what"),
        [
            (
                row["run"],
                time.strftime("%Y-%m-%d %H:%M", time.localtime(row["started"])),
                "–" if row["duration_s"] is None else format_duration(row["duration_s"]),
                row["status"],
                row["title"] or row["command"],
            )
            for row in rows
        ],
    )
    return ExitCode.HOLDS


def _newest(repository: Repository, limit: int) -> list[str]:
    return list(iter_runs(_runs_dir(repository)))[:limit]


@click.command(
    epilog="""\b
Examples:
  arboretum show                                         the last run
  arboretum show --trial off-by-one                      what it printed
  arboretum show 20261124-101500-a1b2c3 --report html:report.html
""",
)
@click.argument("run", required=False)
@click.option("--report", "reports", multiple=True, metavar="FORMAT:FILE", help="Write json, junit, markdown or html.")
@click.option("--trial", metavar="ID", help="Show what this trial printed, e.g. off-by-one or off-by-one#2.")
@format_option
@pass_context
def show(context: Context, run: str | None, reports: tuple[str, ...], trial: str | None, output: str) -> int:
    """Show a run again (the last one if RUN is left out); the exit code is the run's."""
    targets = parse_reports(reports)
    with context.repository() as repository:
        result = kept_result(_runs_dir(repository), run_id(repository, run))
        if trial is not None:
            context.renderer.text(_printed(result, trial))
            return ExitCode.HOLDS
        write_reports(context.renderer, repository, result, targets)
        show_result(context.renderer, result, output)
    return result.exit_code


def _printed(result: RunResult, text: str) -> str:
    """What the trial that `text` names printed; without a number its first one."""
    from arboretum.report.exhibits import output_of

    trials = [*result.control, *(trial for judgement in result.judgements for trial in judgement.trials)]
    wanted = text if "#" in text else f"{text}#1"
    for trial in trials:
        if trial.id == wanted:
            return output_of(trial)
    known = sorted({trial.hypothesis for trial in trials})
    raise UsageError(f"run {result.run} has no trial {text!r}", hint=f"it tried: {', '.join(known)}")


def run_id(repository: Repository, text: str | None) -> str:
    """The run whose id starts with `text`; the last one for None.

    Raises:
        UsageError: None or several do.
    """
    runs = list(iter_runs(_runs_dir(repository)))
    found = runs[:1] if text is None else [run for run in runs if run.startswith(text)]
    if len(found) != 1:
        what = "there is no run yet" if text is None else f"{len(found)} runs start with {text!r}"
        raise UsageError(what, hint="list the runs with: arboretum history")
    return found[0]


@click.command(
    epilog="""\b
Examples:
  arboretum why 20261124-101500-a1b2c3 off-by-one
  arboretum why 20261124 control --attempt 2      the beginning of an id is enough where it names one run
"""
)
@click.argument("run")
@click.argument("hypothesis")
@click.option("--attempt", type=click.IntRange(1), default=1, show_default=True, help="Which repeat.")
@format_option
@pass_context
def why(context: Context, run: str, hypothesis: str, attempt: int, output: str) -> int:
    """Say why the result of HYPOTHESIS in RUN was, or was not, taken from the cache, field by field."""
    with context.repository() as repository, _store(repository) as store:
        name = run_id(repository, run)
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
