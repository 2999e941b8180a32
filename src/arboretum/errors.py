"""Every error that arboretum raises, in one tree.

::

    ArboretumError
    ├── UsageError                    bad argument or bad input (exit code 2)
    │   ├── InvalidValueError         a value type refused its text (also a ValueError)
    │   └── InputFileError            a plan or task file: file, line and key
    ├── GitOperationError             git, or the library that stands for it, refused
    │   ├── RepositoryNotFoundError
    │   ├── UnsafeRepositoryError     owned by somebody else, or a hostile configuration
    │   ├── UnsupportedOperationError the backend cannot do it here; nothing was touched
    │   ├── RevisionNotFoundError
    │   │   └── UnbornHeadError
    │   ├── ObjectMissingError
    │   ├── RefExistsError
    │   ├── RefNotFoundError
    │   ├── RefChangedError           compare-and-set saw another value
    │   ├── RefLockedError            retryable
    │   ├── BranchCheckedOutError
    │   ├── BranchNotMergedError
    │   ├── WorktreeNotFoundError
    │   ├── WorktreeLockedError
    │   ├── DirtyWorktreeError
    │   ├── PathOccupiedError         the target exists and is not an empty folder
    │   ├── ConflictError             merge, cherry-pick, stash or patch; names the paths
    │   │   └── PatchFailedError
    │   ├── StashNotFoundError
    │   ├── ConfigKeyError
    │   ├── IdentityMissingError
    │   ├── NothingToCommitError
    │   ├── RemoteError               fetch and clone
    │   ├── GitPermissionError
    │   └── RepositoryBusyError       another program holds a lock; retryable
    ├── CommandError                  a command failed and the caller had asked to be told (``check=True``)
    ├── EngineError                   the run could not be carried out (exit code 4)
    │   ├── PoolError
    │   ├── LeaseLostError
    │   ├── StoreError
    │   └── ExecutorError
    └── InterruptedRunError           stopped by a signal; cleaned up, resumable (exit code 130)

An error says what was tried, what went wrong and, in `hint`, what to do next. The exception that
caused it is kept as ``__cause__``.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import ClassVar


class ArboretumError(Exception):
    """Root of all errors of this package.

    Args:
        message: What was tried and what went wrong, in one or two sentences.
        hint: What the reader can do next; empty when there is nothing useful to say.
    """

    #: A short, stable, machine-readable name of the class of error.
    kind: ClassVar[str] = "error"
    #: Whether the same call may succeed when it is simply tried again.
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  hint: {self.hint}" if self.hint else self.message


def words_of(error: BaseException) -> str:
    """What went wrong, for a message that has a hint of its own."""
    return error.message if isinstance(error, ArboretumError) else str(error)


class UsageError(ArboretumError):
    """The caller asked for something that cannot be meant."""

    kind = "usage"


class InvalidValueError(UsageError, ValueError):
    """A text is not a valid value of its type (an object id, a ref name, a duration, ...)."""

    kind = "invalid-value"


class InputFileError(UsageError):
    """A plan or task file is wrong.

    Args:
        message: What is wrong.
        path: The file.
        line: The line, counted from 1, or None where no line can be named.
        key: The key inside the file (``hypothesis[2].timeout``), or None.
        hint: What to do next.
    """

    kind = "input-file"

    def __init__(
        self,
        message: str,
        *,
        path: str | os.PathLike[str],
        line: int | None = None,
        key: str | None = None,
        hint: str = "",
    ) -> None:
        place = os.fspath(path) + (f":{line}" if line is not None else "")
        super().__init__(f"{place}: {f'{key}: ' if key else ''}{message}", hint=hint)
        self.path, self.line, self.key, self.reason = os.fspath(path), line, key, message


class GitOperationError(ArboretumError):
    """A git operation failed.

    Args:
        message: What went wrong.
        operation: The name of the operation of the backend port, e.g. ``"add_worktree"``.
        hint: What to do next.
    """

    kind = "git"

    def __init__(self, message: str, *, operation: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.operation = operation


class RepositoryNotFoundError(GitOperationError):
    """There is no git repository at (or, for discovery, above) the path."""

    kind = "repository-not-found"


class UnsafeRepositoryError(GitOperationError):
    """The repository belongs to another user, or its configuration would run programs."""

    kind = "unsafe-repository"


class UnsupportedOperationError(GitOperationError):
    """The backend cannot do this on this repository; it was refused before any side effect."""

    kind = "unsupported"


class RevisionNotFoundError(GitOperationError):
    """A revision names no commit."""

    kind = "revision-not-found"


class UnbornHeadError(RevisionNotFoundError):
    """HEAD names a branch that has no commit yet."""

    kind = "unborn-head"


class ObjectMissingError(GitOperationError):
    """An object that is referred to is not in the object store."""

    kind = "object-missing"


class RefExistsError(GitOperationError):
    """A ref that was to be created exists already (or one that it would be a folder of)."""

    kind = "ref-exists"


class RefNotFoundError(GitOperationError):
    """A ref, branch or tag that was named does not exist."""

    kind = "ref-not-found"


class RefChangedError(GitOperationError):
    """A ref does not have the value that the caller saw; nothing was changed."""

    kind = "ref-changed"


class RefLockedError(GitOperationError):
    """Another program is changing the ref right now."""

    kind = "ref-locked"
    retryable = True


class BranchCheckedOutError(GitOperationError):
    """The branch is checked out in a worktree."""

    kind = "branch-checked-out"


class BranchNotMergedError(GitOperationError):
    """The branch holds commits that nothing else does, and `force` was not given."""

    kind = "branch-not-merged"


class WorktreeNotFoundError(GitOperationError):
    """The path is not a worktree of this repository."""

    kind = "worktree-not-found"


class WorktreeLockedError(GitOperationError):
    """The worktree is locked by `git worktree lock`."""

    kind = "worktree-locked"


class DirtyWorktreeError(GitOperationError):
    """The worktree holds changes that the operation would lose."""

    kind = "dirty-worktree"


class PathOccupiedError(GitOperationError):
    """The target path exists and is not an empty folder."""

    kind = "path-occupied"


class ConflictError(GitOperationError):
    """A merge, cherry-pick or stash does not apply cleanly.

    Args:
        message: What went wrong.
        paths: The conflicting paths (surrogate-escaped).
        operation: The operation of the backend port.
        hint: What to do next.
    """

    kind = "conflict"

    def __init__(self, message: str, *, paths: Sequence[str] = (), operation: str = "", hint: str = "") -> None:
        super().__init__(message, operation=operation, hint=hint)
        self.paths = tuple(paths)


class PatchFailedError(ConflictError):
    """A patch does not apply; the message names the first hunk that failed."""

    kind = "patch-failed"


class StashNotFoundError(GitOperationError):
    """No stash has this commit id."""

    kind = "stash-not-found"


class ConfigKeyError(GitOperationError):
    """A configuration key is malformed or cannot be written."""

    kind = "config-key"


class IdentityMissingError(GitOperationError):
    """A commit needs an author and git has no name or e-mail for one."""

    kind = "identity-missing"


class NothingToCommitError(GitOperationError):
    """The index equals HEAD and an empty commit was not asked for."""

    kind = "nothing-to-commit"


class RemoteError(GitOperationError):
    """A remote could not be reached or refused."""

    kind = "remote"


class GitPermissionError(GitOperationError):
    """The operating system refused access to a file of the repository or worktree."""

    kind = "permission"


class RepositoryBusyError(GitOperationError):
    """Another program holds a lock of the repository, or was seen half-way through a change."""

    kind = "repository-busy"
    retryable = True


class CommandError(ArboretumError):
    """A command failed and the caller had asked for an exception (``check=True``).

    The result is in `result` (a `arboretum.process.CommandResult`).
    """

    kind = "command"

    def __init__(self, message: str, *, result: object = None, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.result = result


class EngineError(ArboretumError):
    """A run could not be carried out, for a reason outside the hypotheses."""

    kind = "engine"


class PoolError(EngineError):
    """The pool of worktrees could not give, reset or take back a slot."""

    kind = "pool"


class LeaseLostError(PoolError):
    """The lease is not (or no longer) the one that holds the slot."""

    kind = "lease-lost"


class StoreError(EngineError):
    """The result store could not be read or written."""

    kind = "store"


class ExecutorError(EngineError):
    """The executor (or its cluster) failed."""

    kind = "executor"


class InterruptedRunError(ArboretumError):
    """The run was stopped by a signal; everything was cleaned up and it can be resumed."""

    kind = "interrupted"
