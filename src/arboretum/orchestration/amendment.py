"""Take up a task again that did not make it, after a person has looked at it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from arboretum.errors import DirtyWorktreeError, UsageError
from arboretum.orchestration.board import Board, branch_of
from arboretum.orchestration.events import TaskRetried
from arboretum.values import RefName
from arboretum.worktree import Worktree

if TYPE_CHECKING:
    from arboretum.repository import Repository


def check_may_be_taken_up(repository: Repository, board: Board, task: str) -> None:
    """Refuse a task that cannot be taken up again.

    Raises:
        UsageError: The run has no such task, or it did not fail.
        DirtyWorktreeError: Its kept worktree has changes that are not committed.
    """
    record = board.records.get(task)
    if record is None:
        raise UsageError(f"the run {board.run} has no task {task!r}", hint=f"its tasks: {', '.join(board.records)}")
    if not record.state.is_kept:
        raise UsageError(f"the task {task} is {record.state}; only one that did not make it can be taken up again")
    if _has_new_work(repository, board, task) and os.path.isdir(record.path):
        changes = repository.backend.status(record.path)
        if changes:
            raise DirtyWorktreeError(
                f"{record.path} has changes that are not committed, the first in {changes[0].path!r}",
                hint="commit them, so that they are merged",
            )


def take_up(repository: Repository, board: Board, task: str) -> TaskRetried:
    """The event that takes the task up again: with the work that a person has put on its branch, else to run anew.

    The kept worktree goes away; changes in it that are not committed are kept under ``refs/arboretum/salvage/``.
    """
    record = board.records[task]
    is_new = _has_new_work(repository, board, task)
    ref = repository.backend.read_ref(RefName.branch(branch_of(board.run, task)))
    if record.path and os.path.isdir(record.path) and record.path in repository.worktrees:
        Worktree(repository, record.path).remove(force=True)
    if not is_new or ref is None:
        return TaskRetried(run=board.run, task=task)
    start = repository.backend.merge_base(board.tip, ref.oid) or board.base
    changed = repository.backend.diff_trees(start, ref.oid, renames=False)
    return TaskRetried(
        run=board.run, task=task, commit=ref.oid, start=start, changed=tuple(entry.path for entry in changed)
    )


def _has_new_work(repository: Repository, board: Board, task: str) -> bool:
    ref = repository.backend.read_ref(RefName.branch(branch_of(board.run, task)))
    return ref is not None and ref.oid not in {board.records[task].commit, board.records[task].start}
