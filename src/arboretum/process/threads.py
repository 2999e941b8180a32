"""Threads that are kept for a moment, because starting one costs a tenth of a short command.

An executor would do, but its threads are joined when the interpreter ends, before anybody can stop the
commands that they wait for; and it has an upper bound, which many commands at once would wait at.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable
from typing import Final

from attrs import define, field

_IDLE: Final = 1.0  # seconds that a thread waits for more work

Work = Callable[[], object]


@define(eq=False)
class ThreadCache:
    """Runs each piece of work in a daemon thread at once: in an idle one, or else in a new one."""

    _idle: int = field(default=0, init=False)
    _lock: threading.Lock = field(factory=threading.Lock, init=False)
    _handed_over: queue.SimpleQueue[Work] = field(factory=queue.SimpleQueue, init=False)

    def submit(self, work: Work) -> None:
        """Run `work`, which must not raise, in another thread."""
        with self._lock:
            if self._idle > 0:
                self._idle -= 1
                self._handed_over.put(work)
                return
        threading.Thread(target=self._serve, args=(work,), name="arboretum command", daemon=True).start()

    def forget(self) -> None:
        """Start afresh: in the child of a fork, which has none of the threads."""
        self._idle, self._lock, self._handed_over = 0, threading.Lock(), queue.SimpleQueue()

    def _serve(self, work: Work | None) -> None:
        while work is not None:
            work()
            del work  # a thread that waits keeps nothing alive
            work = self._next()

    def _next(self) -> Work | None:
        with self._lock:
            self._idle += 1
        try:
            return self._handed_over.get(timeout=_IDLE)
        except queue.Empty:
            with self._lock:
                if self._idle > 0:
                    self._idle -= 1
                    return None
            return self._handed_over.get()  # work was handed over in this very moment


THREADS: Final = ThreadCache()
os.register_at_fork(after_in_child=THREADS.forget)
