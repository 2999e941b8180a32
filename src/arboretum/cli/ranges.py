"""``arboretum each`` and ``arboretum bisect``: one command, many commits."""

from __future__ import annotations

from collections import Counter
from typing import IO, TYPE_CHECKING, Any

import click

from arboretum.cli.app import Context, pass_context
from arboretum.cli.executors import open_executor
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
from arboretum.engine.model import CommandSpec, Plan
from arboretum.engine.result import BisectResult, EachResult

if TYPE_CHECKING:
    from arboretum.cli.render import Renderer
    from arboretum.repository import Repository

_MARKS = {"passed": "✓", "failed": "✗"}


def _plan(words: tuple[str, ...], setup: str | None, memory: int | None, **rest: Any) -> Plan:
    prepare = CommandSpec(command_words((setup,))) if setup else None
    return Plan(command=CommandSpec(command_words(words)), setup=prepare, memory=memory or 0, **rest)


@click.command(
    epilog="""\b
Examples:
  arboretum each v1.0..main -- pytest -q
  arboretum each "main ^release" --first-parent --path src -- make check
Exit codes: 0 every commit passed, 1 one failed, 3 none failed but not all passed.
""",
)
@click.argument("revisions", metavar="RANGE", shell_complete=complete_revision)
@click.argument("words", nargs=-1, metavar="-- COMMAND...")
@click.option("--first-parent", is_flag=True, help="Follow only the first parent of a merge.")
@click.option("--path", "paths", multiple=True, metavar="PATH", help="Only commits that touch this path.")
@click.option("--timeout", type=DurationType(), help="For each commit: seconds, 90s, 5m.")
@click.option("--setup", metavar="COMMAND", help="Run this once in each slot before its first commit.")
@executor_option
@needs_options
@jobs_option
@cache_options
@format_option
@pass_context
def each(
    context: Context,
    revisions: str,
    words: tuple[str, ...],
    first_parent: bool,
    paths: tuple[str, ...],
    timeout: float | None,
    setup: str | None,
    executor: str,
    memory: int | None,
    labels: tuple[str, ...],
    jobs: int | None,
    no_cache: bool,
    refresh: bool,
    output: str,
) -> int:
    """Run a command on every commit of RANGE, in parallel, without touching anything.

    Commits with the same tree are run once, and what is known already is not run again.
    """
    from arboretum.engine.each import run_each

    plan = _plan(words, setup, memory, timeout=timeout, labels=labels)
    with (
        context.repository() as repository,
        open_executor(executor, repository, jobs=jobs) as chosen,
        display_for(context.renderer) as display,
    ):
        result = run_each(
            repository, revisions, plan, first_parent=first_parent, paths=paths, executor=chosen, jobs=jobs,
            observers=[display], cache=not no_cache, refresh=refresh,
        )  # fmt: skip
    show_each(context.renderer, result, output)
    return result.exit_code


def show_each(renderer: Renderer, result: EachResult, output: str) -> None:
    """What the command said of each commit, as text or JSON."""
    if output == "json":
        renderer.json(each_document(result))
        return
    renderer.table(
        "",
        ("", "commit", "outcome", "time", "subject"),
        [
            (
                _MARKS.get(c.outcome.value, "?"),
                c.oid[:10],
                c.outcome.value + (" (cached)" if c.cached else ""),
                f"{c.duration:.2f} s",
                c.subject,
            )
            for c in result.commits
        ],
    )
    counts = Counter(commit.outcome.value for commit in result.commits)
    said = ", ".join(f"{count} {outcome}" for outcome, count in counts.most_common())
    renderer.note(f"run {result.run}: {said} in {result.duration:.1f} s; one's output: arboretum show --trial COMMIT")


def each_document(result: EachResult) -> dict[str, Any]:
    """The JSON of ``each``."""
    return {
        "schema": "arboretum/each/1",
        "run": result.run,
        "status": result.status.value,
        "duration_s": round(result.duration, 6),
        "commits": [
            {
                "oid": c.oid,
                "tree": c.tree,
                "subject": c.subject,
                "outcome": c.outcome.value,
                "exit_code": c.exit_code,
                "duration_s": round(c.duration, 6),
                "cached": c.cached,
            }
            for c in result.commits
        ],
    }


@click.command(
    epilog="""\b
Examples:
  arboretum bisect v1.0 main -- pytest -q tests/test_parser.py
  arboretum bisect v1.0 main --confidence 0.99 -- ./flaky-check     for a test that fails now and then
  arboretum bisect v1.0 main --log bisect.log -- make check         git bisect replay reads the log
A command that exits with 125 says that the commit cannot be tested.
Exit codes: 0 found, 3 only commits that cannot be tested are left.
""",
)
@click.argument("good", shell_complete=complete_revision)
@click.argument("bad", shell_complete=complete_revision)
@click.argument("words", nargs=-1, metavar="-- COMMAND...")
@click.option("--first-parent", is_flag=True, help="Follow only the first parent of a merge.")
@click.option("--confidence", type=click.FloatRange(0.5, 1, min_open=True, max_open=True), help="For flaky tests.")
@click.option("--timeout", type=DurationType(), help="For each commit: seconds, 90s, 5m.")
@click.option("--setup", metavar="COMMAND", help="Run this once in each slot before its first commit.")
@click.option("--log", "log_file", type=OutputFile(), metavar="FILE", help="Write the search as git bisect log does.")
@executor_option
@needs_options
@jobs_option
@cache_options
@format_option
@pass_context
def bisect(
    context: Context,
    good: str,
    bad: str,
    words: tuple[str, ...],
    first_parent: bool,
    confidence: float | None,
    timeout: float | None,
    setup: str | None,
    log_file: IO[str] | None,
    executor: str,
    memory: int | None,
    labels: tuple[str, ...],
    jobs: int | None,
    no_cache: bool,
    refresh: bool,
    output: str,
) -> int:
    """Find the first commit after GOOD, up to BAD, on which the command fails: several trials at once."""
    from arboretum.engine.bisect import run_bisect

    plan = _plan(words, setup, memory, timeout=timeout, labels=labels)
    with (
        context.repository() as repository,
        open_executor(executor, repository, jobs=jobs) as chosen,
        display_for(context.renderer) as display,
    ):
        result = run_bisect(
            repository, good, bad, plan, first_parent=first_parent, confidence=confidence, executor=chosen, jobs=jobs,
            observers=[display], cache=not no_cache, refresh=refresh,
        )  # fmt: skip
        if log_file is not None:
            log_file.write(result.log)
        show_bisect(context.renderer, repository, result, output)
    return result.exit_code


def show_bisect(renderer: Renderer, repository: Repository, result: BisectResult, output: str) -> None:
    """Where the range turned bad, as text or JSON."""
    if output == "json":
        renderer.json(bisect_document(result))
    elif result.first_bad is not None:
        subject = repository.backend.read_commit(result.first_bad).subject
        renderer.text(f"{result.first_bad} is the first bad commit: {subject}")
        if result.confidence < 1:
            renderer.text(f"confidence {result.confidence:.3f}")
    else:
        named = [f"{oid[:10]} {repository.backend.read_commit(oid).subject}" for oid in result.candidates]
        renderer.text(
            "\n".join(["The first bad commit is one of these; between them nothing could be tested:", *named])
        )
    renderer.note(f"run {result.run}: {len(result.trials)} trials in {result.duration:.1f} s")


def bisect_document(result: BisectResult) -> dict[str, Any]:
    """The JSON of ``bisect``."""
    from arboretum.report.document import trial_document

    return {
        "schema": "arboretum/bisect/1",
        "run": result.run,
        "status": result.status.value,
        "first_bad": result.first_bad,
        "candidates": list(result.candidates),
        "confidence": round(result.confidence, 6),
        "rounds": result.rounds,
        "duration_s": round(result.duration, 6),
        "trials": [{"oid": trial.commit, **trial_document(trial)} for trial in result.trials],
        "log": result.log,
    }
