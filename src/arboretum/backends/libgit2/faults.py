"""The seam where libgit2's errors become arboretum's: one table, the cause kept.

pygit2 tells errors apart by class only in part, so the table looks at the text of the message too. The
texts are libgit2's own, are not translated, and have been stable for years; what no row knows becomes a
plain `GitOperationError` with libgit2's words.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, ParamSpec, TypeVar

import pygit2
from attrs import frozen

from arboretum import errors
from arboretum.errors import ArboretumError, GitOperationError

_P = ParamSpec("_P")
_T = TypeVar("_T")
_CLI_HINT: Final = 'open the repository with backend="cli", which leaves this to git itself'
_BUSY_HINT: Final = "another program is at work there; try again, and if no git runs, remove the .lock file"


@frozen
class _Row:
    pattern: re.Pattern[str]
    error: type[GitOperationError]
    hint: str = ""


def _row(pattern: str, error: type[GitOperationError], hint: str = "") -> _Row:
    return _Row(re.compile(pattern, re.IGNORECASE), error, hint)


_TABLE: Final = (
    _row("permission denied|read-only file system|operation not permitted", errors.GitPermissionError),
    _row(
        "not owned by current user",
        errors.UnsafeRepositoryError,
        "it belongs to another user; if you trust it: git config --global --add safe.directory <path>",
    ),
    _row("repository not found|could not find repository", errors.RepositoryNotFoundError),
    _row("unsupported (extension|mandatory extension|repository version)", errors.UnsupportedOperationError, _CLI_HINT),
    _row("unknown object format|unimplemented", errors.UnsupportedOperationError, _CLI_HINT),
    _row(r"lock(ed)? file '.*(/refs/|/packed-refs|HEAD)", errors.RefLockedError, _BUSY_HINT),
    _row("failed to lock file|index is locked|is locked", errors.RepositoryBusyError, _BUSY_HINT),
    _row("old reference value does not match", errors.RefChangedError),
    _row("with that name already exists|collides with existing|refs beneath that folder", errors.RefExistsError),
    _row("could not remove directory .*/refs/|failed to create directory .*/refs/", errors.RefExistsError),
    _row("already checked out", errors.BranchCheckedOutError),
    _row("object not found|target oid for the reference|odb: cannot read", errors.ObjectMissingError),
    _row("exists and is not an empty directory", errors.PathOccupiedError),
    _row("conflicts? prevents? checkout|uncommitted change", errors.DirtyWorktreeError),
    _row("invalid config item name|multivar|config value", errors.ConfigKeyError),
    _row("reference '.*' not found", errors.RefNotFoundError),
    _row(
        "url protocol|resolve address|connect to|remote|authentication|credentials|certificate|unexpected http"
        "|no reference|network|ssl|ssh",
        errors.RemoteError,
    ),
)  # fmt: skip

#: What pygit2 raises: its own classes, and the built-in ones that its C part maps codes to.
NATIVE_ERRORS: Final = (pygit2.GitError, OSError, KeyError, ValueError)


def translate(
    error: BaseException,
    operation: str,
    *,
    subject: str = "",
    otherwise: type[GitOperationError] = GitOperationError,
) -> GitOperationError:
    """The error that says in arboretum's words what libgit2 said.

    Args:
        error: What pygit2 raised.
        operation: The operation of the port.
        subject: What it was about, for the message.
        otherwise: The class where no row of the table knows the message.
    """
    text = str(error.args[0]) if error.args else str(error)
    about = f"{operation}{f' {subject}' if subject else ''}: {text.strip() or type(error).__name__}"
    for row in _TABLE:
        if row.pattern.search(text):
            return row.error(about, operation=operation, hint=row.hint)
    if isinstance(error, PermissionError):
        return errors.GitPermissionError(about, operation=operation)
    return otherwise(about, operation=operation)


@contextmanager
def translated(
    operation: str, *, subject: str = "", otherwise: type[GitOperationError] = GitOperationError
) -> Iterator[None]:
    """Let no error of pygit2 or of the operating system out of the block untranslated."""
    try:
        yield
    except ArboretumError as error:
        _place(error, operation)
        raise
    except NATIVE_ERRORS as error:
        raise translate(error, operation, subject=subject, otherwise=otherwise) from error


def _place(error: ArboretumError, operation: str) -> None:
    """Let an error of ours say in which operation it came up."""
    if isinstance(error, GitOperationError) and not error.operation:
        error.operation = operation


def operation(function: Callable[_P, _T]) -> Callable[_P, _T]:
    """Make a method of the port an operation: named after the method, its errors translated."""
    name = function.__name__

    @functools.wraps(function)
    def guarded(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:  # `translated` does the same, but a generator takes longer than many a read
            return function(*args, **kwargs)
        except ArboretumError as error:
            _place(error, name)
            raise
        except NATIVE_ERRORS as error:
            raise translate(error, name) from error

    return guarded


def wanted(found: _T | None, error: type[GitOperationError], message: str, **details: Any) -> _T:
    """`found`, or `error` where there is none."""
    if found is None:
        raise error(message, **details)
    return found
