"""Signals that end a run: Ctrl-C, SIGTERM and a terminal that goes away."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Callable, Iterator

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def on_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` in the running event loop for each signal that asks to end; the old handlers come back at the end.

    Only the main thread can be told of signals: elsewhere this does nothing. A signal that is ignored (``nohup``)
    stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    previous = {number: signal.getsignal(number) for number in _ENDING}
    taken = [number for number, handler in previous.items() if handler is not signal.SIG_IGN]
    for number in taken:
        loop.add_signal_handler(number, stop)
    try:
        yield
    finally:
        for number in taken:
            loop.remove_signal_handler(number)
            if previous[number] is not None:  # None: set by something that is not Python
                signal.signal(number, previous[number])
