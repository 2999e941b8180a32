"""What happens, as values: the one source of terminal output, reports, journal and metrics.

Events go outward. An observer that raises is logged and dropped, and the work goes on.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from typing import ClassVar, Protocol

from attrs import define, field, frozen

_log = logging.getLogger(__name__)


@frozen(kw_only=True)
class Event:
    """Something that happened.

    `time` is seconds since the epoch (for people and for merging logs); durations inside events are
    monotonic seconds. `type` is the stable name of the event in JSON.
    """

    type: ClassVar[str] = "event"
    time: float = field(factory=time.time)


@frozen(kw_only=True)
class GitOperationFinished(Event):
    """A backend carried out one operation (or failed: then `error` is the kind of the error)."""

    type = "git-operation"
    operation: str
    backend: str
    duration: float
    error: str | None = None


@frozen(kw_only=True)
class CommandFinished(Event):
    """A command ended; its text is redacted."""

    type = "command"
    command: str
    cwd: str
    exit_code: int
    duration: float
    timed_out: bool = False


class Observer(Protocol):
    """Is told of every event. It may be called from any thread and must not block for long."""

    def __call__(self, event: Event, /) -> None:
        """Take note of `event`."""


@define(eq=False)
class Observers:
    """Hands each event to every observer; one that raises is logged, dropped and never called again.

    Args:
        observers: Who is told, in this order.
    """

    _observers: list[Observer] = field(factory=list)

    def __call__(self, event: Event) -> None:
        """Tell all observers of `event`."""
        for observer in tuple(self._observers):
            try:
                observer(event)
            except Exception:
                _log.exception("observer %r failed on %s and is dropped", observer, event.type)
                self.remove(observer)

    def __bool__(self) -> bool:
        return bool(self._observers)

    def add(self, *observers: Observer) -> None:
        """Tell these, too, from now on."""
        self._observers.extend(observers)

    def remove(self, observer: Observer) -> None:
        """Stop telling `observer`; it need not be known."""
        if observer in self._observers:
            self._observers.remove(observer)

    @classmethod
    def of(cls, observers: Iterable[Observer]) -> Observers:
        """A fan-out to `observers`."""
        return cls(list(observers))
