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


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
