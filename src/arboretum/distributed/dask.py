"""`DaskExecutor`: trials on a cluster that one has already (SSH hosts, Slurm, Kubernetes: whatever Dask runs on)."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterator
from typing import Any, Final

from attrs import define, evolve, field

from arboretum.distributed import worker as remote
from arboretum.distributed.cluster import Cluster, read_includes
from arboretum.distributed.listeners import Listener
from arboretum.distributed.orders import Answer, Needs
from arboretum.engine.executor import TrialStart
from arboretum.engine.model import Trial, TrialRequest
from arboretum.engine.needs import MEMORY, total_memory
from arboretum.errors import ExecutorError
from arboretum.process.model import OutputLine
from arboretum.repository import Repository

_TLS: Final = "set distributed.comm.tls, e.g. DASK_DISTRIBUTED__COMM__TLS__CA_FILE=ca.pem"


@define(eq=False)
class DaskExecutor:
    """Carries out trials on the workers of a Dask cluster; see `arboretum.engine.executor.Executor`.

    Args:
        client: A client of the cluster (``asynchronous=False``).
        repository: Whose commits are tried; it is only read.
        jobs: How many trials at once at most; None for one for each thread of the workers.
        close_client: Whether `close` closes the client, too.
        patience: Seconds to wait for a worker when all that can carry out a trial have gone.

    Raises:
        ExecutorError: The cluster has no worker, or one with another arboretum.
    """

    client: Any  # a `distributed.Client`, whose methods are not annotated
    repository: Repository
    jobs: int | None = None
    close_client: bool = False
    patience: float = 60.0
    _cluster: Cluster = field(init=False, repr=False)
    _running: set[asyncio.Task[Any]] = field(factory=set, init=False, repr=False)
    _closed: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self._cluster = Cluster(self.client, self.repository, self.patience)

    @property
    def capacity(self) -> int:
        """How many trials the workers can carry out at once, as many as there are now."""
        threads = self._cluster.threads
        return max(1, min(threads, self.jobs or threads))

    @property
    def sent_bytes(self) -> int:
        """How much of the repository was sent to workers so far."""
        return self._cluster.sent_bytes

    async def execute(
        self, request: TrialRequest, *, on_started: TrialStart | None = None, on_output: OutputLine | None = None
    ) -> Trial:
        """Carry out one trial; see `Executor.execute`."""
        if self._closed:
            raise ExecutorError("the executor is closed")
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        try:
            files = {}
            if request.include:
                files = await self._cluster.in_thread(lambda: read_includes(self.repository, request.include))
            order = self._cluster.order(request, files)
            needs = Needs(request.memory, request.labels)
            answer = await self._cluster.deliver(remote.run_trial, order, needs, Listener(on_started, on_output))
            assert answer.trial is not None
            if not answer.trial.output_paths:
                return answer.trial
            return await self._cluster.in_thread(lambda: self._keep(request, answer))
        finally:
            self._running.discard(task)

    def _keep(self, request: TrialRequest, answer: Answer) -> Trial:
        """Put the outputs that travelled where local ones are; large ones stay on their worker (`fetch_output`)."""
        assert answer.trial is not None
        folder = os.path.join(
            self.repository.state_dir, "runs", request.run, "outputs", f"{request.hypothesis}.{request.attempt}"
        )
        paths: dict[str, str] = {}
        for stream, data in answer.outputs.items():
            os.makedirs(folder, exist_ok=True)
            paths[stream] = os.path.join(folder, stream)
            with open(paths[stream], "wb") as file:
                file.write(data)
        left = {s: f"{answer.host}:{p}" for s, p in answer.trial.output_paths.items() if s not in paths}
        return evolve(answer.trial, output_paths=paths | left)

    def fetch_output(self, trial: Trial, stream: str = "stdout", *, limit: int = 64 << 20) -> bytes:
        """The whole output of a trial, from its worker if it was too large to travel.

        Args:
            trial: A trial that this executor carried out.
            stream: ``stdout`` or ``stderr``.
            limit: Bytes at most.

        Raises:
            ExecutorError: The worker is gone.
        """
        place = trial.output_paths.get(stream, "")
        if os.path.isfile(place):
            with open(place, "rb") as file:
                return file.read(limit)
        address, _, path = place.rpartition(":/")
        try:
            found = self.client.run(remote.read_output, "/" + path, limit, workers=[address])
        except Exception as error:
            raise ExecutorError(f"the output of {trial.id} is on {address}, which does not answer") from error
        return bytes(found[address])

    async def close(self) -> None:
        """Stop what runs; the cluster stays, unless it was started for this executor."""
        if self._closed:
            return
        self._closed = True
        running = self._running - {asyncio.current_task()}
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)
        if self.close_client:
            await self._cluster.in_thread(self.client.close)
        self._cluster.close()


@contextlib.contextmanager
def open_dask(name: str, repository: Repository, *, jobs: int | None = None) -> Iterator[DaskExecutor]:
    """An executor by its name on the command line.

    Args:
        name: ``dask://HOST:PORT`` or ``tls://HOST:PORT`` for a cluster that is there; ``dask-local:N`` for N workers on
            this machine, for trying it out.
        repository: What the trials stand on.
        jobs: How many trials at once at most.

    Raises:
        ExecutorError: The scheduler does not answer, or the workers do not fit.
    """
    with connect(name) as client:
        yield DaskExecutor(client, repository, jobs)


@contextlib.contextmanager
def connect(name: str) -> Iterator[Any]:
    """A client of the cluster that `name` stands for; see `open_dask`.

    Raises:
        ExecutorError: The scheduler does not answer.
    """
    from distributed import Client, LocalCluster

    with contextlib.ExitStack() as stack:
        if name.startswith("dask-local:"):
            count = name.partition(":")[2]
            if not count.isdigit() or not 1 <= int(count) <= 256:
                raise ExecutorError(f"{name!r} is not dask-local:N with N from 1 to 256")
            cluster = LocalCluster(
                n_workers=int(count),
                threads_per_worker=1,
                dashboard_address=":0",
                silence_logs=40,
                resources={MEMORY: total_memory() // int(count)},
            )
            address = stack.enter_context(cluster)
        else:
            address = name.replace("dask://", "tcp://", 1)
            _check_address(address)
        try:
            client = stack.enter_context(Client(address, set_as_default=False))
        except (OSError, TimeoutError) as error:
            raise ExecutorError(f"no scheduler answers at {name}: {error}", hint="check the address") from error
        yield client


def _check_address(address: str) -> None:
    """Check what a client would stumble over in the middle of being made.

    Raises:
        ExecutorError: It is no address, or one for TLS, for which Dask knows no certificate.
    """
    from distributed.comm.addressing import get_address_host_port
    from distributed.security import Security

    try:
        get_address_host_port(address, strict=True)
    except ValueError as error:
        raise ExecutorError(f"{address} is no address of a scheduler: {error}", hint="dask://HOST:PORT") from error
    if address.startswith("tls://"):
        try:
            context = Security().get_connection_args("client").get("ssl_context")
        except OSError as error:  # a file that cannot be read, or is no certificate
            raise ExecutorError(f"Dask's settings for TLS cannot be used: {error}", hint=_TLS) from error
        if context is None:
            raise ExecutorError(f"{address} wants TLS, and Dask is not told of a certificate", hint=_TLS)
