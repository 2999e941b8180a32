"""What became of a command, in words: pure functions from what the kernel said to what a result says."""

from __future__ import annotations

import os
import resource
import signal
import sys

from attrs import frozen

from arboretum.process.model import EXIT_RUNNER_FAILED, EXIT_SIGNAL_BASE, EXIT_TIMED_OUT, FailureKind


@frozen
class Outcome:
    """The part of a result that says how the command ended."""

    exit_code: int
    kind: FailureKind | None = None
    message: str | None = None
    signal: int | None = None


def outcome(status: int | None, *, timed_out_after: float | None, cancelled: bool) -> Outcome:
    """How a command ended.

    Args:
        status: Its status as of ``wait(2)``; None when somebody else has taken it.
        timed_out_after: The timeout in seconds, if it was stopped for that; else None.
        cancelled: Whether it was stopped by its caller.
    """
    code = None if status is None else os.waitstatus_to_exitcode(status)
    number = -code if code is not None and code < 0 else None
    if timed_out_after is not None:
        return Outcome(EXIT_TIMED_OUT, FailureKind.TIMED_OUT, f"timed out after {timed_out_after:g} s", number)
    if code is None:
        message = "its exit code was taken by something else in this process (SIGCHLD ignored, or waitpid(-1) called)"
        return Outcome(EXIT_RUNNER_FAILED, FailureKind.LOST, message)
    shown = code if number is None else EXIT_SIGNAL_BASE + number
    if cancelled:
        return Outcome(shown, FailureKind.CANCELLED, "was stopped", number)
    if number is not None:
        return Outcome(shown, FailureKind.SIGNALLED, f"ended by {_name(number)}", number)
    return Outcome(code)


def peak_memory(reported: int) -> int | None:
    """The peak memory of a child in bytes, when it can be known.

    A child that starts by vfork is charged with the memory that it shares with its parent until
    it executes its program, so only a larger figure than the parent's own is its own.
    """
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    unit = 1 if sys.platform == "darwin" else 1024
    return reported * unit if reported > own else None


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # one of the real-time signals between the first and the last
        return f"signal {number}"
