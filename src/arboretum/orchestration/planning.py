"""From a plan and a real repository to a `Split`: reads what the pure splitter wants to know."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from attrs import evolve

from arboretum.engine.slot_files import pool_folder
from arboretum.orchestration.co_change import pairs_that_change_together, read_history
from arboretum.orchestration.machine import (
    ExistingWorktree,
    get_existing_worktrees,
    machine_limits,
    measure_overhead,
)
from arboretum.orchestration.scheduling import Limits
from arboretum.orchestration.splitter import Caution, Split, split
from arboretum.orchestration.tasks import TaskPlan
from arboretum.values import Oid

if TYPE_CHECKING:
    from arboretum.repository import Repository

#: Seconds for a worktree where nothing was measured: a small repository on a usual machine.
USUAL_OVERHEAD = 0.1


def plan_split(repository: Repository, plan: TaskPlan, *, jobs: int | None = None, measure: bool = True) -> Split:
    """Split `plan` for this repository and this machine. Nothing is changed but caches.

    Args:
        repository: The repository.
        plan: The tasks.
        jobs: How many tasks at once; None for what the plan, else the machine says.
        measure: Whether to make and remove one worktree to see how long that takes.

    Raises:
        RevisionNotFoundError: The plan's base is no commit.
        UsageError: A task needs more than there is.
    """
    base = repository.resolve(plan.base)
    files = tracked_files(repository, base)
    limits, worktrees = limits_here(repository, base, jobs=jobs or plan.jobs)
    found = split(
        plan,
        files=files,
        limits=limits,
        overhead=measure_overhead(repository, base) if measure else USUAL_OVERHEAD,
        measured=measure,
        together=co_changes(repository, base, files),
        worktrees=tuple(map(str, worktrees)),
    )
    return evolve(found, warnings=(*found.warnings, *_busy_scopes(plan, worktrees)))


def co_changes(repository: Repository, base: Oid, files: Collection[str]) -> dict[tuple[str, str], int]:
    """The pairs of `files` that history says change together; of files that are gone nothing is said."""
    there = frozenset(files)
    pairs = pairs_that_change_together(read_history(repository, base))
    return {pair: commits for pair, commits in pairs.items() if there.issuperset(pair)}


def tracked_files(repository: Repository, commit: Oid) -> tuple[str, ...]:
    """The files of a commit."""
    return tuple(entry.path for entry in repository.backend.read_tree(commit))


def limits_here(
    repository: Repository, base: Oid, *, jobs: int | None = None
) -> tuple[Limits, tuple[ExistingWorktree, ...]]:
    """What may be used at once here and now, and the worktrees that somebody else may be working in."""
    folder = pool_folder(repository.common_dir)
    worktrees = get_existing_worktrees(repository, base, but=folder)
    return machine_limits(repository, base, jobs=jobs, worktrees=worktrees, folder=folder), worktrees


def _busy_scopes(plan: TaskPlan, worktrees: tuple[ExistingWorktree, ...]) -> list[Caution]:
    found = []
    for worktree in worktrees:
        for task in plan.tasks:
            inside = task.allowed.of(worktree.changes)
            if inside:
                more = f" and {len(inside) - 1} more" if len(inside) > 1 else ""
                message = f"{worktree} already changes {inside[0]}{more}, which {task.id} may change"
                found.append(Caution("worktree", (task.id,), message))
    return found
