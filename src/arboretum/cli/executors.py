"""Executors by the word that names them on the command line."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from arboretum.errors import UsageError

if TYPE_CHECKING:
    from arboretum.engine.executor import Executor
    from arboretum.repository import Repository


@contextlib.contextmanager
def open_executor(name: str, repository: Repository, *, jobs: int | None = None) -> Iterator[Executor | None]:
    """The executor that `name` stands for, closed on exit; None for this machine, where the run makes its own.

    Args:
        name: ``local``.
        repository: What the trials stand on.
        jobs: How many trials at once; None for the executor's own number.

    Raises:
        UsageError: No executor has the name.
    """
    del repository, jobs
    if name == "local":
        yield None
        return
    raise UsageError(f"there is no executor {name!r}", hint="the executor of this machine is: local")
