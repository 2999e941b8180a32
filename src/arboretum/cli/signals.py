"""Signals that end the command while no run has taken charge of them (see `arboretum.engine.signals`)."""

from __future__ import annotations

import signal
from types import FrameType


def take_signals_as_interrupts() -> None:
    """Let SIGTERM and SIGHUP end the command the way Ctrl-C does, so that every ``finally`` is carried out.

    What is ignored (``nohup``) stays ignored.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)


def suspend_commands_too() -> None:
    """Let Ctrl-Z stop the commands that run, whose sessions the terminal does not reach, and fg let them go on."""
    if signal.getsignal(signal.SIGTSTP) is signal.SIG_DFL:
        signal.signal(signal.SIGTSTP, _suspend)


def _suspend(_number: int, _frame: FrameType | None) -> None:
    from arboretum.process.suspension import suspend  # late: the command starts faster without it

    suspend()


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
