"""Wrappers of the backend port: what every adapter would otherwise have to do, once.

`observed` tells what a backend does, how long it took and how it failed. The adapter itself stays about git.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, Final, cast

from arboretum.backends.base import GitBackend, ObjectReader, RefStore, WorkingTree, WorktreeAdmin
from arboretum.errors import ArboretumError, GitOperationError
from arboretum.events import GitOperationFinished, Observer

#: The names of all operations of the port.
OPERATIONS: Final = frozenset(
    name
    for port in (ObjectReader, RefStore, WorktreeAdmin, WorkingTree)
    for name, member in vars(port).items()
    if callable(member) and not name.startswith("_")
)


def observed(backend: GitBackend, observer: Observer) -> GitBackend:
    """The same backend, but `observer` is told of every operation (`GitOperationFinished`).

    Args:
        backend: What carries the operations out.
        observer: Who is told; it must not raise (`arboretum.events.Observers` never does).
    """
    return cast("GitBackend", _Observed(backend, observer))


class _Observed:
    """Passes everything on; operations of the port are timed and told."""

    def __init__(self, backend: GitBackend, observer: Observer) -> None:
        self._backend = backend
        self._observer = observer

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._backend, name)
        if name not in OPERATIONS:
            return attribute
        wrapped = self._told(name, attribute)
        self.__dict__[name] = wrapped  # asked for once: later calls find it without coming here
        return wrapped

    def __repr__(self) -> str:
        return f"<observed {self._backend!r}>"

    def _told(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            start = time.monotonic()
            try:
                result = method(*arguments, **options)
            except BaseException as error:
                self._tell(name, start, error)
                raise
            if isinstance(result, Iterator):
                return self._told_at_the_end(name, start, result)
            self._tell(name, start, None)
            return result

        return call

    def _told_at_the_end(self, name: str, start: float, items: Iterator[Any]) -> Iterator[Any]:
        error: BaseException | None = None
        try:
            yield from items
        except GeneratorExit:  # the caller has seen enough: no failure
            raise
        except BaseException as caught:
            error = caught
            raise
        finally:
            self._tell(name, start, error)

    def _tell(self, name: str, start: float, error: BaseException | None) -> None:
        if isinstance(error, GitOperationError) and not error.operation:
            error.operation = name
        kind = None if error is None else error.kind if isinstance(error, ArboretumError) else type(error).__name__
        self._observer(
            GitOperationFinished(
                operation=name, backend=self._backend.name, duration=time.monotonic() - start, error=kind
            )
        )
