"""The one place where event loops (of the engine, the orchestration, a cluster's client) cross into threads."""

from __future__ import annotations

import asyncio
import contextvars
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, TypeVar

from attrs import define, field

if TYPE_CHECKING:
    from arboretum.engine.pool import Lease

_T = TypeVar("_T")

#: Seconds between two looks for a slot while other processes have them all: at first, and at most.
_FIRST_LOOK: Final = 0.005
_MAX_LOOK: Final = 0.1


@define(eq=False)
class Threads:
    """Runs blocking functions in threads, each to its end.

    Args:
        count: How many at once.
        name: What the names of the threads begin with.
    """

    count: int
    name: str
    _pool: ThreadPoolExecutor = field(init=False, repr=False)
    _preparing: asyncio.Semaphore = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._pool = ThreadPoolExecutor(max_workers=self.count, thread_name_prefix=self.name)
        # To prepare a slot is work for a processor, unlike a test that waits. As many at once as there are processors
        # are ready one after another, and so are the next ones; all at once would all be ready as late as the last.
        self._preparing = asyncio.Semaphore(os.cpu_count() or 1)

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

    def begin(self, function: Callable[[], object]) -> None:
        """Run `function` as soon as a thread is free, for nobody's answer."""
        self._pool.submit(function)

    async def acquire(self, take: Callable[[], Lease | None], give_back: Callable[[Lease], object]) -> Lease:
        """A slot of a pool, waited for while other processes have them all.

        Args:
            take: Takes a slot; None when there is none to be had.
            give_back: Gives back the slot that a cancelled caller does not want any more.

        Raises:
            PoolError: From `take`.
        """
        pause = _FIRST_LOOK
        while True:
            async with self._preparing:
                lease = await self(take, undo=lambda lease: lease is not None and give_back(lease))
            if lease is not None:
                return lease
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, _MAX_LOOK)

    def close(self) -> None:
        """Wait for what runs, and end."""
        self._pool.shutdown(wait=True)
