"""What workers tell while they carry out orders: the start, and lines of output, through the scheduler's events."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final
from weakref import WeakKeyDictionary

from attrs import define, field

from arboretum.engine.executor import TrialStart
from arboretum.process.model import OutputLine

_log = logging.getLogger(__name__)
#: Seconds for which the last lines of output are waited for: lines and results take different ways.
_LAST_LINE_SECONDS: Final = 2.0


@define(eq=False)
class Listener:
    """Who is told of the start of an order and of its output."""

    on_started: TrialStart | None = None
    on_output: OutputLine | None = None
    _ended: threading.Event = field(factory=threading.Event, init=False)
    _wake: Callable[[], object] | None = field(default=None, init=False)

    def told(self, message: Mapping[str, Any]) -> None:
        """Pass on what a worker has sent; called in the thread of the client."""
        try:
            if "slot" in message and self.on_started is not None:
                self.on_started(message["slot"], message["path"])
            if self.on_output is not None:
                for stream, line in message.get("lines", ()):
                    self.on_output(stream, line)
        except Exception:
            _log.exception("a listener of %s failed", message["key"])
        if "end" in message:
            self._ended.set()
            if self._wake is not None:
                self._wake()

    async def last_line(self) -> None:
        """Wait for the end of the output, but not for ever."""
        loop, woken = asyncio.get_running_loop(), asyncio.Event()
        self._wake = lambda: loop.call_soon_threadsafe(woken.set)
        if not self._ended.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LAST_LINE_SECONDS):
                    await woken.wait()


@define(eq=False)
class Switchboard:
    """Passes what the workers tell one client to the listeners, by the key of the order.

    The topic is one of our own: to the client's the scheduler also tells that the client is gone, and stumbles over it.
    """

    topic: str
    listeners: dict[str, Listener] = field(factory=dict)
    is_connected: bool = False

    def connect(self, client: Any) -> None:
        """Begin to listen; again, when the scheduler is a new one."""
        client.subscribe_topic(self.topic, self.told)
        self.is_connected = True

    def told(self, event: tuple[float, Mapping[str, Any]]) -> None:
        """Take an event of the topic."""
        message = event[1]
        listener = self.listeners.get(message["key"])
        if listener is not None:
            listener.told(message)


_boards: Final[WeakKeyDictionary[Any, Switchboard]] = WeakKeyDictionary()


def switchboard(client: Any) -> Switchboard:
    """The switchboard of a client, made on first use: Dask has one handler for each topic of a client."""
    board = _boards.get(client)
    if board is None:
        board = _boards[client] = Switchboard(f"arboretum-{client.id}")
        board.connect(client)
    return board
