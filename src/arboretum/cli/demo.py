"""``arboretum demo``: the main job, on a repository that is made for it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from importlib import resources

import click
from attrs import evolve

from arboretum.cli.app import Context, pass_context
from arboretum.cli.options import DurationType, format_option, jobs_option
from arboretum.cli.run import carry_out, parse_reports, show_result, write_reports
from arboretum.errors import EngineError
from arboretum.repository import Repository

#: More slots than this would leave the flaky candidate no chance to meet its own traces.
MOST_JOBS = 3


@click.command(
    epilog="""\b
Examples:
  arboretum demo
  arboretum demo --report html:demo.html
  arboretum demo --keep /tmp/demo                 keep the repository, to look around in it
"""
)
@click.option("--keep", metavar="DIR", help="Make the repository here and keep it.")
@click.option("--repeats", type=click.IntRange(1, 100), help="How many trials each hypothesis gets.")
@click.option("--timeout", type=DurationType(), help="For each trial.")
@click.option(
    "--report", "reports", multiple=True, metavar="FORMAT:FILE", help="Also write a report, e.g. html:demo.html."
)
@jobs_option
@format_option
@pass_context
def demo(
    context: Context,
    keep: str | None,
    repeats: int | None,
    timeout: float | None,
    reports: tuple[str, ...],
    jobs: int | None,
    output: str,
) -> int:
    """Make a small repository with a real bug, and find its cause.

    Six suspicions are tested at once, each four times, in worktrees of their own. It takes some 15 seconds and
    leaves nothing behind.
    """
    targets = parse_reports(reports)
    folder = os.path.abspath(keep) if keep else tempfile.mkdtemp(prefix="arboretum-demo-")
    cache = os.environ.get("ARBORETUM_CACHE_DIR")
    try:
        if not keep:  # the pool goes with the repository
            os.environ["ARBORETUM_CACHE_DIR"] = os.path.join(folder, "cache")
        path = os.path.join(folder, "tailreader")
        plan_path = make_repository(path)
        say = context.renderer.note
        say("A log reader loses the last line of a file. Six suspicions, one control:")
        from arboretum.engine.model import CommandSpec
        from arboretum.engine.plan_file import load_plan

        plan = load_plan(plan_path)
        plan = evolve(
            plan,
            command=CommandSpec((sys.executable, *plan.command.argv[1:])),
            repeats=repeats or plan.repeats,
            timeout=timeout or plan.timeout,
            # pytest's own folder in /tmp would stay behind, and cleaning up there can take longer than a trial
            env=plan.env if keep else {**plan.env, "PYTEST_DEBUG_TEMPROOT": folder},
        )
        with Repository.open(path, backend=context.backend) as repository:
            result = carry_out(
                context.renderer, repository, plan, jobs=min(jobs or os.cpu_count() or 2, MOST_JOBS), cache=bool(keep)
            )
            show_result(context.renderer, result, output)
            write_reports(context.renderer, repository, result, targets)
        if keep:
            say(f"The repository is in {path}. Try:  arboretum -C {path} show {result.run}")
        else:
            say(f"{result.duration:.0f} s. To look around in the repository, keep it: arboretum demo --keep DIR")
        return result.exit_code
    finally:
        if cache is not None:
            os.environ["ARBORETUM_CACHE_DIR"] = cache
        elif not keep:
            os.environ.pop("ARBORETUM_CACHE_DIR", None)
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


def make_repository(path: str) -> str:
    """Make the demo's repository at `path`.

    Returns:
        The path of its hypotheses.

    Raises:
        EngineError: git could not make it.
    """
    data = resources.files("arboretum.cli.demo_data")
    stream = data.joinpath("history.fast-import").read_bytes()
    commands = (
        (["git", "init", "--quiet", "--initial-branch=main", path], b""),
        (["git", "-C", path, "fast-import", "--quiet"], stream),
        (["git", "-C", path, "checkout", "--quiet", "main"], b""),
    )
    os.makedirs(os.path.dirname(path), exist_ok=True)
    for argv, stdin in commands:
        try:
            subprocess.run(argv, input=stdin, capture_output=True, check=True)
        except FileNotFoundError as error:
            raise EngineError("there is no git on PATH", hint="install git") from error
        except subprocess.CalledProcessError as error:
            said = error.stderr.decode("utf-8", "replace").strip()
            raise EngineError(f"the demo's repository could not be made: {said}") from error
    plan = os.path.join(os.path.dirname(path), "hypotheses.toml")
    with open(plan, "wb") as file:
        file.write(data.joinpath("hypotheses.toml").read_bytes())
    return plan
