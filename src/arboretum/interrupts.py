"""Putting off Ctrl-C for the moments in which it would leave something half-done."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from arboretum.errors import GitOperationError


@contextlib.contextmanager
def uninterrupted() -> Iterator[Callable[[], bool]]:
    """Put off Ctrl-C until the block is through; then it comes.

    Only the main thread is ever interrupted, so elsewhere there is nothing to do.

    Yields:
        Tells whether a Ctrl-C is waiting.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    waiting: list[FrameType | None] = []
    previous = signal.signal(signal.SIGINT, lambda _number, frame: waiting.append(frame))
    try:
        yield lambda: bool(waiting)
    finally:
        signal.signal(signal.SIGINT, previous)
        if waiting and callable(previous):
            previous(signal.SIGINT, waiting[0])


def to_the_end(cleanup: Callable[[], None]) -> None:
    """Clean up although Ctrl-C is pressed meanwhile.

    Args:
        cleanup: What is done; it must be able to carry on from any point at which it was stopped.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed meanwhile; all is cleaned up.
    """
    try:
        _attempt(cleanup)
    except KeyboardInterrupt:  # before the block was entered, or after it was through: then there is nothing left
        _attempt(cleanup)
        raise


def _attempt(cleanup: Callable[[], None]) -> None:
    with uninterrupted() as waiting:
        try:
            cleanup()
        except GitOperationError:
            if not waiting():
                raise
            cleanup()  # a terminal sends Ctrl-C to our git child, too, and ended it
