"""`DaskSite`: the commands of an orchestration's tasks on a cluster; all else of a task stays at the client."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from typing import Any

from attrs import define, evolve, field

from arboretum.distributed import worker as remote
from arboretum.distributed.changes import restore
from arboretum.distributed.cluster import Cluster
from arboretum.distributed.dask import connect
from arboretum.distributed.listeners import Listener
from arboretum.distributed.orders import Needs
from arboretum.engine.pool import Lease
from arboretum.orchestration.sites import Work
from arboretum.orchestration.tasks import Task
from arboretum.process.model import CommandResult, OutputLine
from arboretum.repository import Repository


@define(eq=False)
class DaskSite:
    """Runs the commands of tasks on the workers of a Dask cluster; see `arboretum.orchestration.sites.Site`.

    Args:
        client: A client of the cluster (``asynchronous=False``).
        repository: The repository.

    Raises:
        ExecutorError: The cluster has no worker, or one with another arboretum.
    """

    client: Any  # a `distributed.Client`, whose methods are not annotated
    repository: Repository
    _cluster: Cluster = field(init=False, repr=False)
    _identity: dict[str, str] = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._cluster = Cluster(self.client, self.repository)
        self._identity = _identity(self.repository)

    @property
    def capacity(self) -> int:
        """How many commands the workers can run at once, as many as there are now."""
        return max(1, self._cluster.threads)

    def check(self, tasks: Iterable[Task]) -> None:
        """Check that each task can run somewhere.

        Raises:
            ExecutorError: No worker has what a task needs.
        """
        for needs in dict.fromkeys(Needs(task.memory, task.labels) for task in tasks):
            self._cluster.check(needs)

    async def run(
        self, work: Work, lease: Lease, *, output_dir: str | None = None, on_line: OutputLine | None = None
    ) -> CommandResult:
        """Run the command of `work` on a worker, and bring what it has changed into the worktree of `lease`."""
        sent = evolve(work, env=self._identity | dict(work.env))
        answer = await self._cluster.deliver(
            remote.run_work, self._cluster.order(sent, {}), Needs(work.memory, work.labels), Listener(None, on_line)
        )
        done = answer.work
        assert done is not None
        changes = done.changes
        if changes is not None:
            await self._cluster.in_thread(lambda: restore(self.repository, lease.path, changes))
        if output_dir is not None:
            await self._cluster.in_thread(lambda: _write_outputs(done.result, output_dir))
        return done.result

    def close(self) -> None:
        """Give back what is held here; nothing may run any more."""
        self._cluster.close()


def _identity(repository: Repository) -> dict[str, str]:
    """Variables by which git on a worker knows the user, so that a program can commit there as it could here."""
    known = {key: value for key in ("user.name", "user.email") if (value := repository.get_config(key)) is not None}
    pairs = [(f"GIT_CONFIG_KEY_{n}", key) for n, key in enumerate(known)]
    pairs += [(f"GIT_CONFIG_VALUE_{n}", value) for n, value in enumerate(known.values())]
    return dict([("GIT_CONFIG_COUNT", str(len(known))), *pairs]) if known else {}


def _write_outputs(result: CommandResult, folder: str) -> None:
    """Keep what came back of the output: all but the middle of what is very long."""
    for stream, text in (("stdout", result.stdout), ("stderr", result.stderr)):
        if text:
            os.makedirs(folder, exist_ok=True)
            with open(os.path.join(folder, stream), "w", encoding="utf-8") as file:
                file.write(text)


@contextlib.contextmanager
def open_site(name: str, repository: Repository) -> Iterator[DaskSite]:
    """A site by its name on the command line; see `arboretum.distributed.dask.open_dask`.

    Raises:
        ExecutorError: The scheduler does not answer, or the workers do not fit.
    """
    with connect(name) as client:
        site = DaskSite(client, repository)
        try:
            yield site
        finally:
            site.close()
