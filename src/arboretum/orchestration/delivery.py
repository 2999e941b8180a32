"""Bring the result into the branch that the user named (``--into``): the only branch of theirs that is ever moved."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from attrs import frozen

from arboretum.backends.identity import identity
from arboretum.errors import DirtyWorktreeError, GitOperationError, RefChangedError, RefNotFoundError
from arboretum.orchestration.board import Board
from arboretum.values import Oid, RefName

if TYPE_CHECKING:
    from arboretum.repository import Repository


@frozen
class Target:
    """A branch that is to be moved.

    Args:
        ref: Its full name.
        tip: Where it stands.
        worktree: The worktree that is on it; None when none is.
    """

    ref: RefName
    tip: Oid
    worktree: str | None


def find_target(repository: Repository, branch: str) -> Target:
    """The branch `branch`, fit to be moved.

    Raises:
        RefNotFoundError: There is no such branch.
        DirtyWorktreeError: The worktree that is on it has changes that a move could lose.
    """
    name = RefName.branch(branch)
    ref = repository.ref(name)
    if ref is None:
        raise RefNotFoundError(f"there is no branch {branch!r} to merge into", operation="read_ref")
    infos = repository.worktrees.infos()
    worktree = next((info.path for info in infos if info.branch == name and not info.bare), None)
    if worktree is not None and repository.backend.status(worktree, untracked=False):
        raise DirtyWorktreeError(
            f"{worktree} is on {branch} and has changes that are not committed",
            hint="commit or stash them first; the branch would be moved under them",
        )
    return Target(name, ref.oid, worktree)


def deliver(repository: Repository, board: Board) -> tuple[str | None, str]:
    """Move the branch ``board.into`` to the result; when it has moved since, to a merge of both.

    Nothing is forced: when the two conflict, or the worktree that is on the branch is in the way, the branch stays.

    Returns:
        The branch if it was moved, and why not in a sentence otherwise.
    """
    assert board.into is not None
    if board.tip == board.base:
        return None, "there is nothing to bring over"
    try:
        target = find_target(repository, board.into)
        new = _combined(repository, target, board)
        if not isinstance(new, Oid):
            return None, new
        _move(repository, target, new, board.run)
    except (GitOperationError, RefChangedError) as error:
        return None, f"{board.into} was not moved: {error.message}"
    return board.into, ""


def _combined(repository: Repository, target: Target, board: Board) -> Oid | str:
    backend = repository.backend
    fork = backend.merge_base(target.tip, board.tip)
    if fork == target.tip:
        return board.tip
    if fork == board.tip:
        return target.tip
    outcome = backend.merge_trees(target.tip, board.tip)
    integration = RefName(board.integration).short
    if outcome.tree is None:
        files = ", ".join(outcome.conflicts)
        return f"{board.into} has moved on and conflicts with the result in {files}; the result is on {integration}"
    return backend.write_commit(
        tree=outcome.tree,
        parents=(target.tip, board.tip),
        message=f"Merge branch '{integration}' into {board.into}\n\nArboretum-Run: {board.run}\n",
        author=identity("author", os.environ, backend.get_config),
        committer=identity("committer", os.environ, backend.get_config),
    )


def _move(repository: Repository, target: Target, new: Oid, run: str) -> None:
    """Files first, ref second: killed in between, the worktree stands clean at the new commit, on no branch."""
    backend = repository.backend
    if target.worktree is not None:
        backend.checkout(target.worktree, new)
    try:
        backend.update_ref(target.ref, new, target.tip, message=f"orchestrate: merge run {run}")
    finally:
        if target.worktree is not None:
            backend.checkout(target.worktree, target.ref)
