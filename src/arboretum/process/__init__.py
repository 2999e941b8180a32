"""Commands as values: a `CommandRequest` goes in, a `CommandResult` comes out, and nothing is left running."""

from arboretum.process.model import CommandRequest, CommandResult, CommandRunner, OutputLine, StreamName

__all__ = ["CommandRequest", "CommandResult", "CommandRunner", "OutputLine", "StreamName"]
