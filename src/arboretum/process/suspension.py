"""Ctrl-Z: the commands stop with the program, and go on with it.

A command has a session of its own, so the terminal's stop signal does not reach it. Its clock needs no help:
time in which this process was stopped, by whatever signal, does not count against a timeout.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType

from arboretum.process.descendants import DESCENDANTS, signal_process


@contextlib.contextmanager
def stopping_with_the_terminal() -> Iterator[None]:
    """Inside, a SIGTSTP stops all descendants of all commands, then this process; SIGCONT lets all go on.

    For programs that own their process, in the main thread. The handler that was set before comes back at the end.
    """
    before = signal.signal(signal.SIGTSTP, suspend)
    try:
        yield
    finally:
        signal.signal(signal.SIGTSTP, before)


def suspend(_number: int = signal.SIGTSTP, _frame: FrameType | None = None) -> None:
    """Stop all commands and this process now; returns when it was let go on, as they are then. A signal handler."""
    stopped: set[int] = set()
    while found := set(DESCENDANTS.all()) - stopped:  # again, because one may have forked before it was stopped
        for pid in found:
            signal_process(pid, signal.SIGSTOP)
        stopped |= found
    os.kill(os.getpid(), signal.SIGSTOP)  # returns when somebody sends SIGCONT
    for pid in stopped:
        signal_process(pid, signal.SIGCONT)
