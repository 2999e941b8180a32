"""A cancellation that comes at any moment of an order's way is kept, and stops what was sent."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import arboretum
from arboretum import Repository
from arboretum.distributed import worker as remote
from arboretum.distributed.cluster import Cluster
from arboretum.distributed.listeners import Listener
from arboretum.distributed.orders import Answer, Needs, Order
from arboretum.engine.model import CommandSpec, TrialRequest
from arboretum.testing.builders import RepositoryBuilder

HOST = "tcp://127.0.0.1:1"


class Promise:
    """A future of `StandIn`: what was called is answered when the test says so."""

    def __init__(self) -> None:
        self.answer: Answer | None = None
        self.released = self.cancelled = False
        self._told: list[Callable[[object], None]] = []

    def add_done_callback(self, told: Callable[[object], None]) -> None:
        self._told.append(told)

    def give(self, answer: Answer) -> None:
        self.answer = answer
        for told in self._told:
            told(self)

    def result(self) -> Answer | None:
        return self.answer

    def cancel(self, *, force: bool) -> None:
        self.cancelled = force

    def release(self) -> None:
        self.released = True


class StandIn:
    """A client of a cluster with one worker, which answers what the test gives it, when it says so."""

    id = "stand-in"
    status = "running"

    def __init__(self) -> None:
        self.promises: list[Promise] = []
        self.stopped: list[str] = []
        self.submit_seconds = 0.0

    def scheduler_info(self, n_workers: int = 5) -> dict[str, Any]:
        return {"workers": {HOST: {"nthreads": 1, "resources": {}}}}

    def subscribe_topic(self, topic: str, told: Callable[..., None]) -> None:
        """Nobody tells anything."""

    def submit(self, function: Callable[..., Answer], order: Order, **options: Any) -> Promise:
        time.sleep(self.submit_seconds)
        self.promises.append(Promise())
        return self.promises[-1]

    def run(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> dict[str, Any]:
        if function is remote.describe:
            return {HOST: {"version": arboretum.__version__}}
        if function is remote.stop:
            self.stopped.append(arguments[0])
            return {HOST: False}
        assert function is remote.look
        return {HOST: said(lacks=arguments[0].pack is None)}


def said(**rest: Any) -> Answer:
    return Answer(host=HOST, version=arboretum.__version__, place="here", **rest)


@pytest.fixture
def repo(tmp_path: Path) -> Iterator[Repository]:
    RepositoryBuilder.init(str(tmp_path / "repo")).commit({"a.txt": "a\n"})
    with Repository.open(tmp_path / "repo") as repository:
        yield repository


async def deliver(client: StandIn, repo: Repository) -> Answer:
    cluster = Cluster(client, repo)
    request = TrialRequest(
        run="r", hypothesis="h", attempt=1, commit=repo.resolve("HEAD"), command=CommandSpec(("true",))
    )
    try:
        return await cluster.deliver(remote.run_trial, cluster.order(request, {}), Needs(), Listener())
    finally:
        cluster.close()


async def until(said: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not said():
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("steps", range(12))
def test_a_cancellation_beside_an_answer_that_asks_for_more(steps: int, repo: Repository) -> None:
    """It was forgotten when it came with the news that the worker lacks the commit: the trial ran to its end."""

    async def main() -> None:
        client = StandIn()
        task = asyncio.create_task(deliver(client, repo))
        await until(lambda: client.promises and client.promises[0]._told)
        client.promises[0].give(said(lacks=True))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            async with asyncio.timeout(20):
                await task
        assert all(promise.released for promise in client.promises)

    asyncio.run(main())


def test_a_cancellation_while_the_order_is_sent(repo: Repository) -> None:
    """What arrives at the cluster after it is stopped there before the cancellation goes on."""

    async def main() -> None:
        client = StandIn()
        client.submit_seconds = 0.2
        task = asyncio.create_task(deliver(client, repo))
        await asyncio.sleep(0.1)
        assert not client.promises
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert [(promise.cancelled, promise.released) for promise in client.promises] == [(True, True)]
        assert len(client.stopped) == 1

    asyncio.run(main())
