"""Worktrees, branches and stashes by path: one call each, over the object model.

Every failure is a `GitOperationError` that says what was tried and what to do next.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import ParamSpec, TypeVar

from attrs import define, field

from arboretum.errors import (
    ArboretumError,
    GitOperationError,
    PathOccupiedError,
    RepositoryNotFoundError,
    WorktreeNotFoundError,
)
from arboretum.repository import Repository
from arboretum.worktree import Worktree

_log = logging.getLogger(__name__)

StrPath = str | os.PathLike[str]
_P = ParamSpec("_P")
_R = TypeVar("_R")


def _failing_as_git(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Have every failure be a GitOperationError, with the cause kept."""

    @functools.wraps(function)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return function(*args, **kwargs)
        except GitOperationError:
            raise
        except ArboretumError as error:
            raise GitOperationError(error.message, operation=function.__name__, hint=error.hint) from error
        except (OSError, ValueError, TypeError) as error:
            raise GitOperationError(f"{function.__name__} failed: {error}", operation=function.__name__) from error

    return call


@_failing_as_git
def get_current_branch(repo_path: StrPath) -> str:
    """The branch that the worktree at (or around) `repo_path` is on.

    Returns:
        Its name, also when it has no commit yet; ``HEAD`` when HEAD is detached, as git prints it.

    Raises:
        GitOperationError: There is no repository.
    """
    with _repository(repo_path) as repository:
        branch = repository.head.branch
        return branch.short if branch is not None else "HEAD"


@_failing_as_git
def create_worktree(repo_path: StrPath, worktree_path: StrPath, branch: str | None = None) -> Path:
    """Make a worktree, or take the one that is there already.

    Args:
        repo_path: A folder of the repository.
        worktree_path: Where; parents are made.
        branch: The branch to check out, or any revision to stand at on no branch. None stands at HEAD's
            commit on no branch, which always works: a branch can be checked out in one worktree only.

    Returns:
        The absolute path of the worktree.

    Raises:
        GitOperationError: There is no repository or no such branch, the branch is checked out elsewhere, or
            something else is at the path (it is left alone).
    """
    with _repository(repo_path) as repository:
        return Path(_make(repository, worktree_path, branch)[0].path)


@_failing_as_git
def remove_worktree(repo_path: StrPath, worktree_path: StrPath, force: bool = False) -> None:
    """Remove a worktree. That it cannot be removed is not fatal: a warning in the log says why.

    Args:
        repo_path: A folder of the repository.
        worktree_path: The worktree.
        force: Remove it although it holds changes; they are kept under ``refs/arboretum/salvage/``.

    Raises:
        GitOperationError: There is no repository.
    """
    with _repository(repo_path) as repository:
        _remove(repository, worktree_path, force=force)


@_failing_as_git
def reset_worktree(worktree_path: StrPath) -> None:
    """Make a worktree as HEAD has it: tracked files restored, untracked ones removed, ignored ones kept.

    What is discarded is kept as a commit under ``refs/arboretum/salvage/``, and the log says where.

    Raises:
        GitOperationError: It is no worktree.
    """
    with _repository(worktree_path) as repository:
        tree = _worktree(repository)
        kept = tree.salvage()
        if kept is not None:
            _log.info("the changes in %s are kept as %s (git stash apply %s)", tree.path, kept, kept)
        tree.reset(clean=True)


@_failing_as_git
def list_worktrees(repo_path: StrPath) -> list[dict[str, str]]:
    """All worktrees of a repository, the main one first.

    Returns:
        One dictionary each: ``path``, ``branch`` (empty when detached) and ``commit`` (empty when there is none).

    Raises:
        GitOperationError: There is no repository.
    """
    with _repository(repo_path) as repository:
        return [
            {
                "path": info.path,
                "branch": info.branch.short if info.branch is not None else "",
                "commit": info.head or "",
            }
            for info in repository.worktrees.infos()
        ]


def count_worktrees(repo_path: StrPath) -> int:
    """How many worktrees a repository has, the main one included. Errors as `list_worktrees`."""
    return len(list_worktrees(repo_path))


@_failing_as_git
def stash_worktree(worktree_path: StrPath) -> str:
    """Put all changes of a worktree away, untracked files too, and leave it clean.

    Returns:
        The commit id of the stash, which stays its name whatever others push; empty if there was nothing.

    Raises:
        GitOperationError: It is no worktree, or has no commit yet.
    """
    with _repository(worktree_path) as repository:
        entry = _worktree(repository).stash.push("arboretum stash_worktree", include_untracked=True)
        return entry.oid if entry is not None else ""


@_failing_as_git
def stash_pop_worktree(worktree_path: StrPath, stash_id: str) -> None:
    """Take a stash back into a worktree of the same repository.

    Args:
        worktree_path: The worktree.
        stash_id: What `stash_worktree` has returned. Empty (nothing was put away) takes nothing back.

    Raises:
        GitOperationError: There is no such stash, or it does not apply; then it is still there.
    """
    with _repository(worktree_path) as repository:
        if stash_id:
            _worktree(repository).stash.pop(stash_id)


@_failing_as_git
def create_branch(repo_path: StrPath, branch_name: str, from_ref: str = "HEAD") -> None:
    """Make a branch, without checking it out.

    Raises:
        GitOperationError: The branch exists, its name is not valid, or `from_ref` names no commit.
    """
    with _repository(repo_path) as repository:
        repository.branches.create(branch_name, start=from_ref)


@_failing_as_git
def delete_branch(repo_path: StrPath, branch_name: str, force: bool = False) -> None:
    """Delete a branch.

    Args:
        repo_path: A folder of the repository.
        branch_name: The branch.
        force: Delete it although nothing else holds its commits.

    Raises:
        GitOperationError: There is no such branch, it is checked out, or it is not merged and `force` was not given.
    """
    with _repository(repo_path) as repository:
        repository.branches.delete(branch_name, force=force)


@define(eq=False, init=False)
class WorktreeContext:
    """A worktree for the time of a ``with`` block, whose value is its path.

    It is removed at the end, also when the block fails or is interrupted, unless it was there before.
    Uncommitted changes in it are kept under ``refs/arboretum/salvage/``.

    Args:
        repo: The repository: a path or a `Repository`.
        target_path: Where the worktree is to be.
        branch: As for `create_worktree`.
        cleanup: Whether to remove it at the end.
    """

    target_path: Path
    branch: str | None
    cleanup: bool
    _repo: StrPath | Repository
    _opened: Repository | None = field(default=None)
    _made: Worktree | None = field(default=None)

    def __init__(
        self, repo: StrPath | Repository, target_path: StrPath, branch: str | None = None, cleanup: bool = True
    ) -> None:
        self._repo, self.target_path, self.branch, self.cleanup = repo, Path(target_path), branch, cleanup
        self._opened = self._made = None

    def __enter__(self) -> Path:
        return self._enter()

    @_failing_as_git
    def _enter(self) -> Path:
        repository = self._repo if isinstance(self._repo, Repository) else _repository(self._repo)
        try:
            tree, is_new = _make(repository, self.target_path, self.branch)
        except BaseException:
            self._close(repository)
            raise
        self._opened, self._made = repository, tree if is_new else None
        return Path(tree.path)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        repository, self._opened = self._opened, None
        if repository is not None:
            try:
                if self.cleanup and self._made is not None:
                    _remove(repository, self._made.path, force=True)
            finally:
                self._close(repository)

    def _close(self, repository: Repository) -> None:
        if repository is not self._repo:  # one that was handed in is its owner's
            repository.close()


def _repository(path: StrPath) -> Repository:
    if not os.path.isdir(path):
        raise RepositoryNotFoundError(
            f"there is no folder {os.fspath(path)!r}", operation="open", hint="name a folder of a git repository"
        )
    try:
        return Repository.discover(path)
    except RepositoryNotFoundError as error:
        raise RepositoryNotFoundError(
            f"there is no git repository at or above {os.fspath(path)!r}",
            operation=error.operation,
            hint="name a folder of a git repository, or make one with `git init`",
        ) from error


def _worktree(repository: Repository) -> Worktree:
    if repository.backend.worktree_path is None:
        raise WorktreeNotFoundError(
            f"{repository.path} has no files: it is a bare repository", hint="name one of its worktrees"
        )
    return Worktree(repository, repository.path)


def _make(repository: Repository, path: StrPath, branch: str | None) -> tuple[Worktree, bool]:
    """The worktree at `path`, and whether it is new."""
    if not os.fspath(path):
        raise PathOccupiedError("the path of the worktree is empty", hint="name a folder that does not exist yet")
    if path in repository.worktrees and os.path.isdir(path):
        tree = repository.worktrees.get(path)
        _check_reuse(tree, branch)
        _log.info("the worktree %s is there already and is taken as it is", tree.path)
        return tree, False
    if branch is not None and branch in repository.branches:
        return repository.worktrees.add(path, branch=branch), True
    return repository.worktrees.add(path, detach="HEAD" if branch is None else branch), True


def _check_reuse(tree: Worktree, branch: str | None) -> None:
    if tree.info.is_main:
        raise PathOccupiedError(
            f"{tree.path} is the main worktree of the repository", hint="choose a path outside of it"
        )
    if branch is not None and tree.branch != branch and tree.head.oid != tree.repository.resolve(branch):
        standing = tree.branch or f"commit {tree.head.oid}"
        raise PathOccupiedError(
            f"the worktree {tree.path} is there already, on {standing} and not on {branch}",
            hint="remove it first, or choose another path",
        )


def _remove(repository: Repository, path: StrPath, *, force: bool) -> None:
    try:
        kept = repository.worktrees.get(path).remove(force=force).kept
    except (ArboretumError, OSError) as error:
        _log.warning("the worktree %s was not removed: %s", os.fspath(path), error)
    else:
        if kept is not None:
            _log.info("the changes in %s are kept as %s (git stash apply %s)", os.fspath(path), kept, kept)
