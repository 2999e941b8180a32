"""Executors, and sites for tasks, by the word that names them on the command line."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from arboretum.errors import UsageError

if TYPE_CHECKING:
    from arboretum.distributed.site import DaskSite
    from arboretum.engine.executor import Executor
    from arboretum.repository import Repository


@contextlib.contextmanager
def open_executor(name: str, repository: Repository, *, jobs: int | None = None) -> Iterator[Executor | None]:
    """The executor that `name` stands for, closed on exit; None for this machine, where the run makes its own.

    Args:
        name: ``local``, ``dask-local:N`` (N workers on this machine, for trying it out), ``dask://HOST:PORT``.
        repository: What the trials stand on.
        jobs: How many trials at once; None for the executor's own number.

    Raises:
        UsageError: No executor has the name, or the extra ``distributed`` is not installed.
        ExecutorError: The cluster cannot be used.
    """
    if _is_local(name):
        yield None
        return
    from arboretum.distributed.dask import open_dask

    with open_dask(name, repository, jobs=jobs) as executor:
        yield executor


@contextlib.contextmanager
def open_site(name: str, repository: Repository) -> Iterator[DaskSite | None]:
    """Where the commands of tasks run, by the same names; None for this machine.

    Raises:
        UsageError: Nothing has the name, or the extra ``distributed`` is not installed.
        ExecutorError: The cluster cannot be used.
    """
    if _is_local(name):
        yield None
        return
    from arboretum.distributed.site import open_site as open_cluster

    with open_cluster(name, repository) as site:
        yield site


def _is_local(name: str) -> bool:
    """Whether `name` is this machine; else it is checked, and that Dask is installed."""
    if name == "local":
        return True
    if not name.startswith(("dask-local:", "dask://", "tcp://", "tls://")):
        raise UsageError(f"there is no executor {name!r}", hint="local, dask-local:N or dask://HOST:PORT")
    try:
        import distributed  # noqa: F401  (only whether it is there)
    except ImportError as error:
        raise UsageError(
            "runs past one machine need dask.distributed", hint="pip install 'arboretum[distributed]'"
        ) from error
    return False
