"""What the exit code of the command says."""

from __future__ import annotations

import enum

from arboretum.errors import (
    ArboretumError,
    EngineError,
    GitPermissionError,
    InterruptedRunError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
    UnsafeRepositoryError,
    UnsupportedOperationError,
    UsageError,
)


class ExitCode(enum.IntEnum):
    """The exit codes of every command."""

    HOLDS = 0  # done, and what was asked for holds
    DOES_NOT_HOLD = 1  # done, and it does not; or git refused what was asked for
    USAGE = 2  # bad arguments or a bad input file
    INCONCLUSIVE = 3
    ENVIRONMENT = 4  # no git, no space, repository unreadable
    INTERRUPTED = 130


_BY_ERROR: tuple[tuple[type[ArboretumError], ExitCode], ...] = (
    (InterruptedRunError, ExitCode.INTERRUPTED),
    (UsageError, ExitCode.USAGE),
    (RevisionNotFoundError, ExitCode.USAGE),
    (RepositoryNotFoundError, ExitCode.ENVIRONMENT),
    (UnsafeRepositoryError, ExitCode.ENVIRONMENT),
    (UnsupportedOperationError, ExitCode.ENVIRONMENT),
    (GitPermissionError, ExitCode.ENVIRONMENT),
    (EngineError, ExitCode.ENVIRONMENT),
)


def exit_code_for(error: ArboretumError) -> ExitCode:
    """The exit code that tells of `error`."""
    return next((code for kind, code in _BY_ERROR if isinstance(error, kind)), ExitCode.DOES_NOT_HOLD)
