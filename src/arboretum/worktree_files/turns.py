"""Work that few may do at a time: whoever waits for the same is served together with the one whose turn it is."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

from attrs import define, field

Item = TypeVar("Item")
Result = TypeVar("Result")


@define(eq=False)
class _Request(Generic[Item, Result]):
    key: Hashable
    item: Item
    taken: bool = False
    done: bool = False
    result: Result | None = None


@define(eq=False)
class Turns(Generic[Item, Result]):
    """Hands out turns to threads.

    Args:
        places: How many work at a time.
        most: How many are served in one turn.
    """

    places: int
    most: int
    _waiting: list[_Request[Item, Result]] = field(factory=list, init=False)
    _working: int = field(default=0, init=False)
    _changed: threading.Condition = field(factory=threading.Condition, init=False)

    def serve(self, key: Hashable, item: Item, work: Callable[[Sequence[Item]], Sequence[Result]]) -> Result | None:
        """Wait for a turn, and do `work` for `item` and for what others of the same `key` wait for; or be served so.

        Args:
            key: What tells which may be served together.
            item: What is to be done.
            work: Does it, for all items that it is given.

        Returns:
            The result; None if the one who had the turn has failed.
        """
        request: _Request[Item, Result] = _Request(key, item)
        group = self._wait(request)
        if not group:
            return request.result
        try:
            results = work([one.item for one in group])
            for one, result in zip(group, results, strict=True):
                one.result = result
        finally:
            with self._changed:
                self._working -= 1
                for one in group:
                    one.done = True
                self._changed.notify_all()
        return request.result

    def _wait(self, request: _Request[Item, Result]) -> list[_Request[Item, Result]]:
        """Those whom the caller has to serve, itself among them; nobody if it has been served."""
        with self._changed:
            self._waiting.append(request)
            try:
                self._changed.wait_for(lambda: request.taken or self._working < self.places)
            finally:
                if request.taken:  # whatever happens here: somebody is at work for it
                    self._changed.wait_for(lambda: request.done)
                else:
                    self._waiting.remove(request)
            if request.taken:
                return []
            self._working += 1
            others = [other for other in self._waiting if other.key == request.key]
            # What waits is spread over the places, so that the last turn is no longer than it has to be.
            group = [request, *others[: min(self.most, -(-(len(others) + 1) // self.places)) - 1]]
            for other in group[1:]:
                self._waiting.remove(other)
                other.taken = True
            if len(group) > 1:
                self._changed.notify_all()
            return group
