"""The one place where orchestration crosses from its event loop into threads."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from attrs import define, field

_T = TypeVar("_T")


@define(eq=False)
class Threads:
    """Runs blocking functions in threads, each to its end.

    Args:
        count: How many at once.
    """

    count: int
    _pool: ThreadPoolExecutor = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._pool = ThreadPoolExecutor(max_workers=self.count, thread_name_prefix="orchestration")

    async def __call__(self, function: Callable[[], _T], *, undo: Callable[[_T], object] | None = None) -> _T:
        """The result of `function`. A cancellation waits for its end, undoes it with `undo` and then goes on."""
        future: Future[_T] = self._pool.submit(contextvars.copy_context().run, function)
        waiter = asyncio.wrap_future(future)
        try:
            return await asyncio.shield(waiter)
        except asyncio.CancelledError:
            while not waiter.done():
                try:
                    await asyncio.wait([waiter])
                except asyncio.CancelledError:
                    continue
            if waiter.exception() is None and undo is not None:
                undo(waiter.result())
            raise

    def close(self) -> None:
        """Wait for what runs, and end."""
        self._pool.shutdown(wait=True)
