"""Commands as values: a `CommandRequest` goes in, a `CommandResult` comes out, and nothing is left running."""

from arboretum.process.model import (
    CommandRequest,
    CommandResult,
    CommandRunner,
    FailureKind,
    OutputLine,
    StreamName,
)
from arboretum.process.runner import RunningCommand, SubprocessRunner
from arboretum.process.suspension import stopping_with_the_terminal

__all__ = [
    "CommandRequest",
    "CommandResult",
    "CommandRunner",
    "FailureKind",
    "OutputLine",
    "RunningCommand",
    "StreamName",
    "SubprocessRunner",
    "stopping_with_the_terminal",
]
