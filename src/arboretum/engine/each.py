"""`arboretum each`: a command on every commit of a range, in parallel, without touching anything."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Unpack

from arboretum.engine.archive import keep_if_possible, keep_result
from arboretum.engine.journal import runs_folder
from arboretum.engine.model import Outcome, Plan, Trial
from arboretum.engine.result import CommitResult, EachResult
from arboretum.engine.revisions import commits_of
from arboretum.engine.search import OncePerSubject
from arboretum.engine.session import RunOptions, Session
from arboretum.engine.variants import CommitVariants
from arboretum.values import Commit

if TYPE_CHECKING:
    from arboretum.repository import Repository


def run_each(
    repository: Repository,
    revisions: str,
    plan: Plan,
    *,
    first_parent: bool = False,
    paths: Iterable[str] = (),
    **options: Unpack[RunOptions],
) -> EachResult:
    """Run the plan's command on every commit that `revisions` names; commits of equal trees share one trial.

    Args:
        repository: Where the commits are; it is never changed.
        revisions: Which commits (see `arboretum.engine.revisions.commits_of`).
        plan: The command and how to run it; its hypotheses, its base and its repeats are not looked at.
        first_parent: Follow only the first parent of a merge.
        paths: Only commits that touch these paths.
        options: How to carry it out (`RunOptions`).

    Raises:
        UsageError: The range is empty or cannot be meant; nothing was made.
        EngineError: The run could not be carried out.
    """
    commits = commits_of(repository, revisions, first_parent=first_parent, paths=paths)
    return asyncio.run(_run_each(repository, commits, plan, f"each {revisions}", options))


async def _run_each(
    repository: Repository, commits: tuple[Commit, ...], plan: Plan, title: str, options: RunOptions
) -> EachResult:
    clock = time.monotonic()
    search = OncePerSubject({str(commit.oid): str(commit.tree) for commit in commits})
    by_oid = {commit.oid: commit for commit in commits}
    async with Session.open(repository, options) as session:
        status = await session.carry_out(
            session.dispatcher(plan, search, CommitVariants(plan, by_oid, by_oid.__getitem__)),
            title=title,
            base=commits[-1].oid,
            command=plan.command,
            subjects=[str(commit.oid) for commit in commits],
            trials=len(set(search.subjects.values())),
        )
    result = EachResult(
        run=session.run,
        commits=tuple(_result(commit, search.results.get(str(commit.tree))) for commit in commits),
        status=status,
        duration=time.monotonic() - clock,
    )
    keep_if_possible(lambda: keep_result(runs_folder(repository.state_dir), result))
    return result


def _result(commit: Commit, trial: Trial | None) -> CommitResult:
    return CommitResult(
        oid=commit.oid,
        tree=commit.tree,
        subject=commit.subject,
        outcome=trial.outcome if trial else Outcome.CANCELLED,
        exit_code=trial.exit_code if trial else None,
        duration=trial.duration if trial else 0.0,
        cached=trial.cached if trial else False,
        trial=trial,
    )
